"""Calibration error and the reliability curve from score cells, against plain sums over the same rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from kedge.analysis.calibration import BINS, reliability
from kedge.analysis.intervals import interval_at, wilson_of
from kedge.analysis.measure import Context, metric
from kedge.errors import BadInput
from tests.analysis.rows import classified, summarised
from tests.analysis.test_ranking import BINARY, NONE, ROWS, counted, middles, rows_of


def ece(rows, context=BINARY):
    return metric("performance.ece", summarised(rows), context)


def by_hand(scores, came_true, bins=BINS):
    """The definition: the weighted mean over bins of |mean score - rate|."""
    scores, came_true = np.asarray(scores), np.asarray(came_true, float)
    place = np.minimum(np.floor(scores * bins + 1e-9), bins - 1)
    return sum(
        (place == b).mean() * abs(scores[place == b].mean() - came_true[place == b].mean())
        for b in np.unique(place)
    )


def drawn(n, seed=0, off=0.0):
    """Scores, and outcomes that are as likely as the score says, or `off` more."""
    generator = np.random.default_rng(seed)
    scores = generator.random(n)
    return scores, generator.random(n) < np.clip(scores + off, 0, 1)


@given(ROWS)
def test_the_error_of_the_positives_probability_is_what_the_definition_says_on_the_middles(rows):
    held = classified(*zip(*rows, strict=True))
    expected = by_hand(middles(held), [actual == "fraud" for _, actual, _ in rows])
    assert ece(held).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_within_half_a_cell_of_that_of_the_raw_scores(seed):
    scores, positive = drawn(3_000, seed, off=0.1)
    rows = rows_of(scores, positive)
    assert ece(rows).value == pytest.approx(by_hand(scores, positive), abs=0.005)
    assert ece(rows).n == 3_000


def test_without_a_positive_class_the_error_is_of_the_predicted_classes_probability():
    generator = np.random.default_rng(4)
    predicted, actual = (
        generator.choice(list("abc"), 900).tolist(),
        generator.choice(list("abc"), 900).tolist(),
    )
    confidence = generator.uniform(0.34, 1, 900)
    right = [p == a for p, a in zip(predicted, actual, strict=True)]
    found = ece(classified(predicted, actual, confidence.tolist()), NONE)
    assert found.value == pytest.approx(by_hand(confidence, right), abs=0.005)
    assert found.detail["of"] == "predicted class"


@given(ROWS, st.integers(0, 60), st.randoms())
def test_the_error_of_merged_summaries_is_that_of_the_whole_in_any_order(rows, cut, random):
    whole = classified(*zip(*rows, strict=True))
    merged = summarised(whole[:cut]) + summarised(whole[cut:])
    found = [
        metric("performance.ece", s, BINARY)
        for s in (summarised(whole), merged, summarised(random.sample(whole, len(whole))))
    ]
    assert found[0] == found[1] == found[2]


# --- evidence ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [50, 500, 5_000])
def test_calibrated_scores_have_a_zero_in_their_interval_and_the_error_that_noise_alone_makes(n):
    """400 windows without any fault: the value is never 0, and hardly ever is the interval above it."""
    found = [metric("performance.ece", counted(*drawn(n, seed)), BINARY) for seed in range(400)]
    values = np.array([m.value for m in found])
    assert (values > 0).all()
    assert values.mean() == pytest.approx(np.mean([m.detail["if_calibrated"] for m in found]), rel=0.08)
    assert sum(m.interval[0] > 0 for m in found) <= 0.05 * len(found)
    assert not any(interval_at(m, 0.0001)[0] > 0 for m in found)


def test_an_interval_holds_the_true_error_and_excludes_zero_once_the_fault_is_plain():
    for seed in range(50):
        found = metric("performance.ece", counted(*drawn(3_000, seed, off=0.1)), BINARY)
        low, high = found.interval
        assert 0 < low < 0.095 < high  # the true error: 0.1, less what is cut off at 1


def test_rare_positives_are_judged_as_carefully():
    generator = np.random.default_rng(6)
    alarms = 0
    for _ in range(300):
        scores = generator.beta(0.5, 20, 300)
        summary = counted(scores, generator.random(300) < scores)
        alarms += metric("performance.ece", summary, BINARY).interval[0] > 0
    assert alarms <= 15


# --- the curve --------------------------------------------------------------------------------------------


def test_the_curve_equals_scikit_learns_on_the_middles():
    scores, positive = drawn(2_000, 7)
    rows = rows_of(scores, positive)
    found = reliability(summarised(rows).labels, "fraud")
    rates, means = calibration_curve(positive, middles(rows), n_bins=10)
    assert [b.rate for b in found] == pytest.approx(rates.tolist())
    assert [b.score for b in found] == pytest.approx(means.tolist())
    assert sum(b.n for b in found) == 2_000
    assert found[3].interval == pytest.approx(wilson_of(found[3].rate * found[3].n, found[3].n))
    assert all(b.low <= b.score < b.high for b in found)


@pytest.mark.parametrize("bins", [1, 5, 10, 20, 100])
def test_the_curve_sums_up_to_the_error(bins):
    scores, positive = drawn(1_500, 8, off=-0.1)
    rows = rows_of(scores, positive)
    found = reliability(summarised(rows).labels, "fraud", bins)
    total = sum(b.n * abs(b.score - b.rate) for b in found) / sum(b.n for b in found)
    assert total == pytest.approx(by_hand(middles(rows), positive, bins))


def test_the_curve_leaves_bins_without_rows_out_and_is_empty_without_scores():
    rows = classified(["fraud"] * 3, ["fraud", "fraud", "ok"], [0.95, 0.99, 1.0])
    (only,) = reliability(summarised(rows).labels, "fraud")
    assert (only.low, only.high, only.n, only.rate) == (0.9, 1.0, 3, pytest.approx(2 / 3))
    assert reliability(summarised([]).labels, "fraud") == []
    assert reliability(summarised(classified(["ok"], ["ok"])).labels) == []


def test_the_curve_refuses_bins_that_split_a_cell_and_a_third_class_beside_a_positive_one():
    labels = summarised(classified(["a", "b", "c"], ["a", "b", "c"], [0.5] * 3)).labels
    with pytest.raises(BadInput, match="must divide 100"):
        reliability(labels, None, 7)
    with pytest.raises(BadInput, match="3 classes"):
        reliability(labels, "a")


# --- degenerate rows --------------------------------------------------------------------------------------


def test_probabilities_of_exactly_zero_and_one_that_hold_have_no_error_beyond_half_a_cell():
    rows = classified(["fraud", "ok"] * 20, ["fraud", "ok"] * 20, [1.0] * 40)
    assert ece(rows).value == pytest.approx(0.005)
    assert ece(rows).interval[0] == 0.0
    wrong = classified(["fraud", "ok"] * 20, ["ok", "fraud"] * 20, [1.0] * 40)
    assert ece(wrong).value == pytest.approx(0.995)
    assert ece(wrong).interval[0] > 0.8


def test_one_row_shows_next_to_nothing():
    found = ece(classified(["fraud"], ["ok"], [0.905]))
    assert (found.value, found.n) == (pytest.approx(0.905), 1)
    assert found.interval == (0.0, 1.0)


def test_constant_scores_have_the_error_of_their_one_bin():
    assert ece(rows_of([0.305] * 100, [1] * 50 + [0] * 50)).value == pytest.approx(0.195)


def test_one_class_alone_has_an_error_too():
    found = ece(classified(["ok"] * 50, ["ok"] * 50, [0.755] * 50))
    assert found.value == pytest.approx(0.245)


@pytest.mark.parametrize(
    ("rows", "context", "says"),
    [
        ([], BINARY, "no labels yet"),
        (classified(["ok"], [None], [0.9]), NONE, "no labels yet"),
        (classified(["ok"], ["ok"]), NONE, "no labelled row has a probability"),
        (classified(["a", "b", "c"], ["a", "b", "c"], [0.5] * 3), Context(positive_class="a"), "3 classes"),
    ],
)
def test_where_there_is_no_error_to_tell_the_reason_says_why(rows, context, says):
    found = ece(rows, context)
    assert found.value is None
    assert found.reason.startswith(says)
