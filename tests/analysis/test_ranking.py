"""AUC from score cells, against scikit-learn on the same rows."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from kedge.analysis.intervals import interval_at
from kedge.analysis.measure import Context, metric
from kedge.sketch import SCORE_CELLS, Labels, Summary, score_cell
from tests.analysis.rows import classified, summarised

BINARY = Context(positive_class="fraud")
NONE = Context()
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def rows_of(scores, positive, threshold=0.5):
    """Rows of a binary model from the positive's score: the predicted class has at least its threshold."""
    predicted = ["fraud" if s >= threshold else "ok" for s in scores]
    confidence = [float(s) if s >= threshold else float(1 - s) for s in scores]
    return classified(predicted, ["fraud" if y else "ok" for y in positive], confidence)


def counted(scores, positive):
    """The summary of `rows_of(scores, positive)` by one pass of numpy, for tests that draw many windows."""
    scores, positive = np.asarray(scores), np.asarray(positive, bool)
    over = scores >= 0.5
    confidence = np.where(over, scores, 1 - scores).astype(np.float32).astype(np.float64)
    cells = np.minimum((confidence / 0.01).astype(int), SCORE_CELLS - 1)
    labels = Labels(
        rows=scores.size,
        scores={
            (predicted, actual): np.bincount(cells[chosen], minlength=SCORE_CELLS + 1).astype(np.int64)
            for predicted, rows in (("fraud", over), ("ok", ~over))
            for actual, truth in (("fraud", positive), ("ok", ~positive))
            if (chosen := rows & truth).any()
        },
    )
    return Summary(None, None, labels)


def auc(rows, context=BINARY):
    return metric("performance.auc", summarised(rows), context)


def middles(rows):
    """The positive's score, from the middle of the cell that the predicted class's probability is in."""
    found = []
    for row in rows:
        middle = (score_cell(row.probability) + 0.5) / 100
        found.append(middle if row.cls == "fraud" else 1 - middle)
    return np.round(found, 6)


def drawn(n, seed=0, share=0.3, apart=1.0):
    generator = np.random.default_rng(seed)
    positive = generator.random(n) < share
    return 1 / (1 + np.exp(-(generator.normal(0, 1.2, n) + apart * positive - 0.5))), positive


ROWS = st.lists(
    st.tuples(st.sampled_from(["fraud", "ok"]), st.sampled_from(["fraud", "ok"]), st.floats(0, 1, width=32)),
    min_size=2,
    max_size=60,
)


def test_what_counts_for_simulations_counts_as_the_rows_do():
    scores, positive = drawn(500)
    assert counted(scores, positive).labels.scores.keys() == {
        (p, a) for p in ("fraud", "ok") for a in ("fraud", "ok")
    }
    for pair, cells in summarised(rows_of(scores, positive)).labels.scores.items():
        assert (counted(scores, positive).labels.scores[pair] == cells).all()


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("n", [30, 3_000])
def test_auc_equals_scikit_learn_on_the_middles_of_the_cells(n, threshold):
    rows = rows_of(*drawn(n), threshold)
    expected = roc_auc_score([row.label.cls == "fraud" for row in rows], middles(rows))
    assert auc(rows).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_auc_differs_from_that_of_the_raw_scores_by_at_most_half_the_pairs_that_share_a_cell(seed):
    scores, positive = drawn(2_000, seed)
    cells = np.minimum(np.floor(scores * 100), 99).astype(int)
    pairs = np.bincount(cells[positive], minlength=100) @ np.bincount(cells[~positive], minlength=100)
    bound = pairs / 2 / (positive.sum() * (~positive).sum())
    assert bound < 0.015
    assert auc(rows_of(scores, positive)).value == pytest.approx(roc_auc_score(positive, scores), abs=bound)


@given(ROWS)
def test_auc_of_any_rows_equals_scikit_learn_on_the_middles(rows):
    assume(len({actual for _, actual, _ in rows}) == 2)
    held = classified(*zip(*rows, strict=True))
    expected = roc_auc_score([actual == "fraud" for _, actual, _ in rows], middles(held))
    assert auc(held).value == pytest.approx(expected, abs=1e-12)


@given(ROWS, st.integers(0, 60), st.randoms())
def test_auc_of_merged_summaries_is_that_of_the_whole_in_any_order(rows, cut, random):
    whole = classified(*zip(*rows, strict=True))
    merged = summarised(whole[:cut]) + summarised(whole[cut:])
    shuffled = random.sample(whole, len(whole))
    found = [metric("performance.auc", s, BINARY) for s in (summarised(whole), merged, summarised(shuffled))]
    assert found[0] == found[1] == found[2]


@given(ROWS)
def test_where_every_score_is_turned_round_auc_is_the_rest_to_one(rows):
    assume(len({actual for _, actual, _ in rows}) == 2)
    other = {"fraud": "ok", "ok": "fraud"}
    turned = auc(classified(*zip(*[(other[p], actual, s) for p, actual, s in rows], strict=True)))
    assert turned.value == pytest.approx(1 - auc(classified(*zip(*rows, strict=True))).value, abs=1e-12)


def test_of_two_classes_auc_is_the_same_whichever_is_positive_and_where_none_is():
    rows = rows_of(*drawn(500))
    values = [auc(rows, context).value for context in (BINARY, Context(positive_class="ok"), NONE)]
    assert values == pytest.approx([values[0]] * 3, abs=1e-12)


@settings(max_examples=25)
@given(st.integers(1, 5_000))
def test_n_is_the_smaller_class(seed):
    scores, positive = drawn(60, seed)
    assume(positive.any() and not positive.all())
    assert auc(rows_of(scores, positive)).n == min(positive.sum(), (~positive).sum())


def test_the_standard_error_is_that_of_resampled_rows():
    scores, positive = drawn(800, apart=1.3)
    generator = np.random.default_rng(1)
    picks = [generator.integers(0, 800, 800) for _ in range(300)]
    resampled = [roc_auc_score(positive[pick], scores[pick]) for pick in picks]
    assert auc(rows_of(scores, positive)).stderr == pytest.approx(np.std(resampled), rel=0.15)


@pytest.mark.parametrize(("positives", "negatives", "apart"), [(15, 400, 1.0), (15, 400, 2.5), (80, 80, 1.5)])
def test_the_interval_holds_the_true_area_as_often_as_it_claims(positives, negatives, apart):
    """95 % intervals of windows with few positives: by how many of 400 draws miss, at either end."""
    generator = np.random.default_rng(2)

    def scores(n, shift):
        return 1 / (1 + np.exp(-generator.normal(shift, 1, n)))

    truth = roc_auc_score([1] * 20_000 + [0] * 20_000, np.r_[scores(20_000, apart), scores(20_000, 0)])
    low = high = 0
    for _ in range(400):
        drawn_scores = np.r_[scores(positives, apart), scores(negatives, 0)]
        summary = counted(drawn_scores, [True] * positives + [False] * negatives)
        found = metric("performance.auc", summary, BINARY)
        low += truth < found.interval[0] - 0.005
        high += truth > found.interval[1] + 0.005
    assert low <= 20  # 2.5 % is 10; 20 is beyond 99.7 % of what chance makes of 10
    assert high <= 20


# --- what cannot be told ----------------------------------------------------------------------------------


def test_perfect_ranking_of_few_rows_has_an_interval_that_says_so():
    found = auc(rows_of([0.9, 0.8, 0.95, 0.1, 0.2], [1, 1, 1, 0, 0]))
    assert found.value == 1.0
    assert found.interval[0] < 0.6
    assert found.interval[1] == 1.0


def test_constant_scores_rank_nothing_and_say_so():
    found = auc(rows_of([0.7] * 40, [1] * 15 + [0] * 25))
    assert found.value == 0.5
    low, high = interval_at(found, 0.001)
    assert low < 0.5 < high


def test_scores_of_exactly_zero_and_one_are_the_ends():
    found = auc(classified(["fraud", "ok", "ok"], ["fraud", "ok", "fraud"], [1.0, 1.0, 0.0]))
    assert found.value == 1.0  # negative with 1.0 is 0 for the positive; negative with 0.0 is 1


@pytest.mark.parametrize(
    ("rows", "context", "says"),
    [
        ([], BINARY, "no labels yet"),
        (classified(["ok"], [None], [0.9]), BINARY, "no labels yet"),
        (classified(["ok", "fraud"], ["ok", "ok"], [0.9, 0.8]), BINARY, 'are of class "ok": AUC needs two'),
        (classified(["ok", "fraud"], ["fraud"] * 2, [0.9, 0.8]), BINARY, 'of class "fraud": AUC needs two'),
        (classified(["ok"], ["ok"], [0.9]), BINARY, 'of class "ok": AUC needs two'),
        (classified(["fraud"], ["fraud"], [0.9]), NONE, 'of class "fraud": AUC needs two'),
        (classified(["ok", "fraud"], ["ok", "fraud"]), BINARY, "no labelled row has a probability"),
        (classified(["a", "b", "c"], ["a", "b", "c"], [0.5] * 3), NONE, r"3 classes \(a, b, c\)"),
        (classified(["a", "b", "c"], ["a", "b", "c"], [0.5] * 3), Context(positive_class="a"), "3 classes"),
        (classified(["a", "b", "c"], ["a", "b", "c"]), NONE, "no labelled row has a probability"),
        (classified(list(ALPHABET), list(ALPHABET), [0.5] * 26), NONE, r"26 classes \(.*counted of up to 20"),
        (classified(["a", "b"], ["a", "b"], [0.5] * 2), BINARY, '"fraud" is neither of a and b'),
    ],
)
def test_where_there_is_no_auc_the_reason_says_why(rows, context, says):
    found = auc(rows, context)
    assert found.value is None
    assert found.interval is None
    assert re.search(says, found.reason)


def test_a_third_class_in_the_reference_is_known_where_the_window_has_but_two():
    three = summarised(classified(["a", "b", "c"], ["a", "b", "c"], [0.5] * 3))
    two = classified(["a", "b"], ["a", "b"], [0.9, 0.9])
    assert auc(two, NONE).value == 1.0
    assert auc(two, Context(reference=three)).reason.startswith("3 classes")


def test_rows_without_a_probability_are_left_out():
    rows = rows_of(*drawn(200))
    bare = classified(["fraud", "ok"], ["ok", "fraud"])
    assert auc([*rows, *bare]) == auc(rows)
