"""The error of a regression without labels, from the reference's errors by cell of the predicted value."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error

from kedge.analysis.estimation import NO_LABELLED
from kedge.analysis.expected_error import mean_error
from kedge.analysis.measure import Context, measure, metric
from kedge.sketch import VALUE, Core, EdgeSet, Moments, NumericEdges, Summary, numeric_edges
from tests.analysis.rows import GRID, regressed, summarised
from tests.support.oracle import errors_by_value

NOT_COUNTED = "the predicted values are not counted on the baseline's cells"


class Reference:
    """A regression's reference: edges of what it predicted, and its errors."""

    def __init__(self, predicted, actual):
        self.edges = numeric_edges(np.quantile(np.float32(predicted), GRID))
        errors = np.abs(np.asarray(predicted) - np.asarray(actual))
        cells = self.cells(predicted)
        self.errors = tuple(Moments.of(errors[cells == c].tolist()) for c in range(self.edges.size))

    def cells(self, predicted):
        return np.searchsorted(np.float32(self.edges.edges), np.float32(predicted), side="right")

    def expected(self, predicted):
        counts = np.bincount(self.cells(predicted), minlength=self.edges.size)
        return mean_error(counts, self.errors)


def drawn(generator, n, middle=0.0):
    """Errors that grow with what is predicted."""
    predicted = generator.normal(middle, 2, n)
    return predicted, predicted + generator.normal(0, np.exp(predicted / 4), n)


def test_of_the_reference_itself_it_is_what_was_realised():
    predicted, actual = drawn(np.random.default_rng(0), 1_000)
    found = Reference(predicted, actual).expected(predicted)
    assert found.value == pytest.approx(mean_absolute_error(actual, predicted))
    assert found.n == 1_000
    own = Moments.of(np.abs(actual - predicted).tolist()).stderr
    assert own < found.stderr < 1.6 * own


def test_predictions_that_move_to_where_errors_are_large_are_followed():
    generator = np.random.default_rng(1)
    before, after = drawn(generator, 5_000), drawn(generator, 5_000, middle=1.0)
    found, truth = Reference(*before).expected(after[0]), mean_absolute_error(*after)
    assert found.interval[0] <= truth <= found.interval[1]
    assert truth > 1.2 * mean_absolute_error(*before)


@pytest.mark.parametrize(
    ("reference", "window", "middle"), [(400, 400, 0.0), (400, 5_000, 0.5), (3_000, 300, -0.5)]
)
def test_intervals_hold_the_realised_error_of_19_windows_in_20(reference, window, middle):
    generator = np.random.default_rng(2)
    held = []
    for _ in range(300):
        before, after = drawn(generator, reference), drawn(generator, window, middle)
        low, high = Reference(*before).expected(after[0]).interval
        held.append(low <= mean_absolute_error(*after) <= high)
    assert 0.90 <= np.mean(held) <= 0.98


def test_on_real_data_the_interval_holds_the_realised_error():
    data = load_diabetes()
    order = np.random.default_rng(3).permutation(len(data.target))
    train, before, after = np.split(order, [142, 292])
    model = LinearRegression().fit(data.data[train], data.target[train])
    said = [model.predict(data.data[rows]) for rows in (before, after)]
    found = Reference(said[0], data.target[before]).expected(said[1])
    truth = mean_absolute_error(data.target[after], said[1])
    assert found.interval[0] <= truth <= found.interval[1]
    assert found.stderr < 0.12 * truth


def test_the_metric_is_read_from_the_cells_of_the_predicted_value():
    predicted, actual = drawn(np.random.default_rng(4), 400)
    rows = regressed(predicted, actual)
    edges = EdgeSet({}, numeric_edges(np.quantile(np.float32(predicted), GRID)))
    summary, errors = summarised(rows, edges), tuple(errors_by_value(rows, edges.value))
    context = Context(reference=summary, edges=edges, value_errors=errors)
    found = metric("estimated.mae", summary, context)
    assert found.value == pytest.approx(metric("performance.mae", summary, context).value)
    shown = [m.name for m in measure(summary, context)]
    assert "estimated.mae" in shown
    assert "estimated.accuracy" not in shown
    assert not any(VALUE in m.key for m in measure(summary, context)), "it is no feature"

    old = Context(reference=summary, edges=EdgeSet({}))
    reason = "the baseline has no errors by prediction cell: create it anew"
    assert metric("estimated.mae", summary, old).reason == reason
    other = EdgeSet({}, NumericEdges((0.0, 1.0)))
    moved = Context(reference=summary, edges=other, value_errors=errors)
    assert metric("estimated.mae", summary, moved).reason == NOT_COUNTED
    assert (
        metric("estimated.mae", Summary(Core(), None, None), context).reason
        == "the cells part is not computed"
    )


def counts(*cells):
    return np.array(cells, np.int64)


@pytest.mark.parametrize(
    ("window", "errors", "told"),
    [
        (counts(0, 95, 5, 0), (0, 50, 0, 0), 2.0),
        (counts(0, 94, 6, 0), (0, 50, 2, 0), "6% of the rows have a predicted value for which the reference"),
        (counts(0, 94, 6, 0), (0, 50, 3, 0), 2.0),
        (counts(6, 94, 0, 900), (0, 50, 50, 0), "6% of the rows"),
        (counts(0, 0, 0, 9), (0, 50, 50, 0), "no row has a predicted value"),
        (counts(0, 9, 9, 9), (0, 0, 0, 0), NO_LABELLED),
    ],
)
def test_predictions_that_the_reference_has_not_seen_withhold_it(window, errors, told):
    held = [Moments.of([1.0, 3.0] * (n // 2) + [2.0] * (n % 2)) for n in errors]
    found = mean_error(window, held)
    if isinstance(told, str):
        assert found.value is None
        assert found.reason.startswith(told)
    else:
        assert found.value == pytest.approx(told)
