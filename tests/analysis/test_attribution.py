"""What predictions rest on: relative changes with the noise of both sides, and an order that noise leaves."""

import itertools

import numpy as np
import pytest

from kedge.analysis.intervals import interval_at
from kedge.analysis.measure import Context, measure, metric
from kedge.analysis.metric import Metric
from kedge.records import Prediction
from kedge.sketch import Summary
from tests.analysis.rows import summarised

GENERATOR = np.random.default_rng(11)


def explained(rows: int, /, **scales: float) -> Summary:
    """Rows whose attributions are normal with these spreads; a spread of 0 contributes nothing."""
    columns = {name: GENERATOR.normal(0, scale, rows) for name, scale in scales.items()}
    return summarised(
        [
            Prediction(
                id=str(i),
                timestamp=0,
                ingested=0,
                model="m",
                attributions={name: float(column[i]) for name, column in columns.items()},
            )
            for i in range(rows)
        ]
    )


def found(name: str, window: Summary, reference: Summary | None = None, feature: str | None = None) -> Metric:
    return metric(name, window, Context(reference=reference), feature=feature)


def test_the_mean_is_of_sizes_whatever_their_sign():
    held = explained(4_000, age=2.0)
    mean = found("attribution.mean", held, feature="age")
    assert mean.value == pytest.approx(2 * np.sqrt(2 / np.pi), rel=0.05)
    assert mean.n == 4_000
    assert mean.interval[0] < mean.value < mean.interval[1]


def test_a_shift_is_relative_and_holds_the_noise_of_both_sides():
    before = explained(2_000, age=1.0, shop=0.5)
    doubled = found("attribution.shift", explained(500, age=2.0, shop=0.5), before, "age")
    ends = interval_at(doubled, 1e-4)
    assert 0.5 < ends[0] < 1.0 < ends[1] < 2.0
    same = found("attribution.shift", explained(500, age=2.0, shop=0.5), before, "shop")
    ends = interval_at(same, 1e-4)
    assert ends[0] < 0.0 < ends[1]
    fewer = found("attribution.shift", explained(500, age=2.0), explained(20, age=1.0), "age")
    assert fewer.interval[1] - fewer.interval[0] > 2 * (doubled.interval[1] - doubled.interval[0])


def test_without_a_change_the_interval_of_a_shift_excludes_none_about_as_often_as_it_says():
    wrong = 0
    for _ in range(400):
        shift = found("attribution.shift", explained(60, age=1.0), explained(100, age=1.0), "age")
        ends = interval_at(shift, 0.05)
        wrong += not ends[0] <= 0 <= ends[1]
    assert 0.05 < wrong / 400 < 0.16  # a nominal 10 %, both ends


def test_a_feature_that_contributes_nothing_any_more_is_down_by_all():
    before = explained(500, age=1.0)
    gone = found("attribution.shift", explained(300, age=0.0), before, "age")
    assert gone.value == -1.0
    assert gone.interval[0] == -1.0
    assert -1.0 < gone.interval[1] < -0.9
    assert found("attribution.shift", explained(2, age=0.0), before, "age").interval[1] > -0.5


@pytest.mark.parametrize(
    ("window", "reference", "reason"),
    [
        (explained(9, age=1.0), explained(9, age=0.0), "it contributed nothing in the reference"),
        (explained(1, age=1.0), explained(9, age=1.0), "under two rows of the window"),
        (explained(9, age=1.0), explained(9, shop=1.0), "under two rows of the reference"),
        (explained(9, shop=1.0), explained(9, age=1.0), "no row has an attribution"),
    ],
)
def test_a_shift_that_cannot_be_told_says_why(window, reference, reason):
    shift = found("attribution.shift", window, reference, "age")
    assert shift.value is None
    assert reason in shift.reason


# --- the order --------------------------------------------------------------------------------------------


def test_features_that_change_places_move_the_order_and_are_named():
    before = explained(3_000, age=4.0, shop=2.0, hour=0.5)
    moved = found("attribution.rank_shift", explained(800, age=0.5, shop=2.0, hour=4.0), before)
    gains, discounts = np.array([4.0, 2.0, 0.5]), np.log2([2, 3, 4])
    assert moved.value == pytest.approx(
        1 - (gains[[2, 1, 0]] / discounts).sum() / (gains / discounts).sum(), abs=0.02
    )
    assert interval_at(moved, 1e-6)[0] > 0.2
    assert moved.told == "age 1 → 3, hour 3 → 1"
    assert moved.n == 800


def test_all_contributions_growing_alike_leave_the_order_as_it_is():
    before = explained(3_000, age=4.0, shop=2.0, hour=0.5)
    grown = found("attribution.rank_shift", explained(800, age=40.0, shop=20.0, hour=5.0), before)
    assert (grown.value, grown.interval, grown.told) == (0.0, (0.0, 0.0), None)


def test_the_noise_of_many_features_that_matter_alike_is_no_change_of_order():
    scales = {f"f{i}": 1.0 + i / 1_000 for i in range(40)}
    before = explained(2_000, **scales)
    wrong = 0
    for _ in range(60):
        shift = found("attribution.rank_shift", explained(50, **scales), before)
        assert 0 < shift.value < 0.05
        wrong += interval_at(shift, 0.01)[0] > 0
        assert shift.interval[0] <= shift.value <= shift.interval[1]
        assert shift.told is None
    assert wrong <= 3


def test_the_interval_of_an_order_holds_every_order_that_the_noise_allows():
    """Against all permutations of five features."""
    before = explained(400, a=5.0, b=4.0, c=3.0, d=2.0, e=1.0)
    window = explained(300, a=2.0, b=2.2, c=5.0, d=2.1, e=4.0)
    shift = found("attribution.rank_shift", window, before)
    ranking, alpha = shift.evidence, 0.02
    lower, upper = ranking._ends(alpha)
    allowed = [
        order
        for order in itertools.permutations(range(5))
        if not any(lower[b] > upper[a] for i, a in enumerate(order) for b in order[i + 1 :])
    ]
    values = [ranking._lost(np.array(order)) for order in allowed]
    assert 1 < len(allowed) < 120
    low, high = shift.evidence.interval(alpha)
    assert low <= min(values) <= shift.value <= max(values) <= high
    assert low > 0


def test_the_order_of_fewer_than_two_features_says_nothing():
    one = found("attribution.rank_shift", explained(50, age=1.0), explained(50, age=1.0))
    assert one.reason == "under two features have attributions on both sides"
    nothing = explained(50, age=0.0, shop=0.0)
    assert found("attribution.rank_shift", nothing, nothing).reason == (
        "no feature contributed anything in the reference"
    )


def test_a_model_without_explanations_has_no_such_metrics():
    bare = summarised([Prediction(id="1", timestamp=0, ingested=0, model="m")])
    context = Context(reference=explained(9, age=1.0, shop=2.0))
    assert not [m for m in measure(bare, context) if m.name.startswith("attribution.")]
    told = {m.key for m in measure(explained(9, age=1.0, shop=2.0), context) if "attribution" in m.name}
    assert told == {
        "attribution.mean{feature=age}",
        "attribution.mean{feature=shop}",
        "attribution.shift{feature=age}",
        "attribution.shift{feature=shop}",
        "attribution.rank_shift",
    }
