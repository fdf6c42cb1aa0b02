"""AUC of more than two classes, one against the rest, against scikit-learn on the same rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from kedge.analysis.measure import Context, measure, metric
from kedge.sketch import MOST_RANKED, Labels, Summary, ranked, score_cell
from tests.analysis.rows import classified, scored, summarised

NONE = Context()
CLASSES = ("a", "b", "c", "d")


def drawn(n, seed=0, classes=CLASSES, apart=1.0):
    """Rows whose probabilities know something of the truth, the first class the most common."""
    generator = np.random.default_rng(seed)
    truth = generator.choice(len(classes), n, p=np.arange(len(classes), 0, -1) / sum(range(len(classes) + 1)))
    logits = generator.normal(0, 1, (n, len(classes)))
    logits[np.arange(n), truth] += apart
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rows = [dict(zip(classes, each, strict=True)) for each in shares.tolist()]
    return scored(rows, [classes[i] for i in truth])


def auc(rows, context=NONE, cls=None):
    return metric("performance.auc", summarised(rows), context, cls=cls)


def middles(rows, cls):
    return np.round([(score_cell(row.probabilities[cls]) + 0.5) / 100 for row in rows], 6)


def against_rest(rows, cls, scores):
    return roc_auc_score([row.label.cls == cls for row in rows], scores)


SHARES = st.lists(st.integers(0, 8), min_size=3, max_size=3).filter(any)
ROWS = st.lists(st.tuples(SHARES, st.sampled_from("abc")), min_size=3, max_size=40)


def rows_of(parts):
    shares = [dict(zip("abc", (np.array(each) / sum(each)).tolist(), strict=True)) for each, _ in parts]
    return scored(shares, [truth for _, truth in parts])


@pytest.mark.parametrize("n", [60, 3_000])
def test_auc_equals_scikit_learn_on_the_middles_of_the_cells(n):
    rows = drawn(n)
    by_class = [against_rest(rows, cls, middles(rows, cls)) for cls in CLASSES]
    assert [auc(rows, cls=cls).value for cls in CLASSES] == pytest.approx(by_class, abs=1e-12)
    assert auc(rows).value == pytest.approx(np.mean(by_class), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_macro_differs_from_that_of_the_raw_scores_by_at_most_half_the_pairs_that_share_a_cell(seed):
    rows = drawn(2_000, seed)
    scores = np.array([[row.probabilities[cls] for cls in CLASSES] for row in rows])
    truth = np.array([CLASSES.index(row.label.cls) for row in rows])
    bounds = []
    for c in range(len(CLASSES)):
        own, cells = truth == c, [score_cell(p) for p in scores[:, c]]
        sides = [np.bincount(np.array(cells)[side], minlength=100) for side in (own, ~own)]
        bounds.append(sides[0] @ sides[1] / 2 / (own.sum() * (~own).sum()))
    assert max(bounds) < 0.02
    expected = roc_auc_score(truth, scores, multi_class="ovr", average="macro")
    assert auc(rows).value == pytest.approx(expected, abs=np.mean(bounds))


@given(ROWS)
def test_any_rows_have_the_areas_that_scikit_learn_gives_their_middles(parts):
    rows = rows_of(parts)
    held = sorted({row.label.cls for row in rows})
    assume(len(held) > 1)
    by_class = [against_rest(rows, cls, middles(rows, cls)) for cls in held]
    found = auc(rows)
    assert [auc(rows, cls=cls).value for cls in held] == pytest.approx(by_class, abs=1e-12)
    assert found.value == pytest.approx(np.mean(by_class), abs=1e-12)
    assert found.interval[0] - 1e-12 <= found.value <= found.interval[1] + 1e-12


@given(ROWS, st.integers(0, 40), st.randoms())
def test_auc_of_merged_summaries_is_that_of_the_whole_in_any_order(parts, cut, random):
    rows = rows_of(parts)
    merged = summarised(rows[:cut]) + summarised(rows[cut:])
    shuffled = summarised(random.sample(rows, len(rows)))
    for cls in (None, "a"):
        found = [metric("performance.auc", s, NONE, cls=cls) for s in (summarised(rows), merged, shuffled)]
        assert found[0] == found[1] == found[2]


@given(ROWS, st.permutations("abc"))
def test_macro_does_not_depend_on_what_the_classes_are_called(parts, names):
    called = dict(zip("abc", names, strict=True))
    rows = rows_of(parts)
    renamed = scored(
        [{called[cls]: p for cls, p in row.probabilities.items()} for row in rows],
        [called[row.label.cls] for row in rows],
    )
    before, after = auc(rows), auc(renamed)
    assert (before.value is None) == (after.value is None)
    if before.value is not None:
        assert after.value == pytest.approx(before.value, abs=1e-12)
        assert after.interval == pytest.approx(before.interval, abs=1e-9)


@pytest.mark.parametrize("n", [60, 600])
def test_the_interval_of_the_mean_holds_the_true_area_at_least_as_often_as_it_claims(n):
    truth = auc(drawn(30_000, seed=99)).value
    missed = [0, 0]
    for seed in range(200):
        low, high = auc(drawn(n, seed)).interval
        missed[0] += truth < low
        missed[1] += truth > high
    assert max(missed) <= 11  # 2.5 % is 5; 11 is beyond 99 % of what chance makes of 5


def test_a_declared_positive_class_is_set_against_the_rest():
    rows = drawn(300)
    assert auc(rows, Context(positive_class="b")).value == auc(rows, cls="b").value != auc(rows).value


def test_all_metrics_have_the_mean_and_each_class_of_many_and_one_area_of_two():
    found = [m for m in measure(summarised(drawn(300)), NONE) if m.name == "performance.auc"]
    assert [m.labels.get("class") for m in found] == [None, *CLASSES]
    two = measure(summarised(drawn(300, classes=("a", "b"))), NONE)
    assert [m.labels for m in two if m.name == "performance.auc"] == [{}]


def test_of_two_classes_each_has_the_same_area():
    rows = drawn(300, classes=("a", "b"))
    assert auc(rows, cls="a").value == pytest.approx(auc(rows, cls="b").value, abs=1e-12)
    assert auc(rows, cls="a").labels == {"class": "a"}


def test_n_of_the_mean_is_that_of_its_rarest_class():
    rows = drawn(300)
    held = [sum(row.label.cls == cls for row in rows) for cls in CLASSES]
    assert auc(rows).n == min(held)
    assert auc(rows, cls="a").n == min(held[0], 300 - held[0])


# --- what cannot be told ----------------------------------------------------------------------------------


def test_rows_that_were_counted_before_leave_a_window_without_an_area_rather_than_with_another():
    rows = summarised(drawn(300))
    assert rows.labels is not None
    old = Summary(rows.core, None, replace(rows.labels, ranks={}))
    for cls in (None, "a"):
        mixed = metric("performance.auc", rows + old, NONE, cls=cls)
        assert mixed.value is None
        assert mixed.reason.startswith("300 of 600 labelled rows with a probability are ranked by that of")
        alone = metric("performance.auc", old, NONE, cls=cls)
        assert alone.value is None
        assert alone.reason.startswith("4 classes (a, b, c, d): the labelled rows are not ranked")


def test_a_class_that_some_rows_have_no_probability_of_has_no_area_and_there_is_no_mean():
    short = scored([{"a": 0.7, "b": 0.3}], ["c"])
    rows = [*drawn(300), *short]
    assert auc(rows, cls="a").value is not None
    assert auc(rows, cls="c").reason.startswith("300 of 301 labelled rows with a probability are ranked by")
    assert "300 of 301" in auc(rows).reason


def test_a_label_that_is_no_class_of_the_models_is_among_the_rest():
    rows = drawn(300)
    stray = scored([rows[0].probabilities], ["something else"])
    assert auc([*rows, *stray]).value == pytest.approx(auc(rows).value, abs=0.01)
    assert auc([*rows, *stray], cls="something else").value is None


def test_of_very_many_classes_rows_are_not_ranked():
    names = [f"c{i:02d}" for i in range(MOST_RANKED + 1)]
    assert ranked(names[:-1]) == tuple(names[:-1])
    assert ranked(names) == ranked(names[:2]) == ()
    found = auc(drawn(400, classes=names))
    assert found.value is None
    assert "21 classes" in found.reason


def test_one_class_alone_has_no_area():
    sure = scored([{"a": 0.8, "b": 0.1, "c": 0.1}] * 3, ["a"] * 3)
    assert auc(sure).reason == "all labelled rows with a probability are of one class: AUC needs two"
    assert auc(sure, cls="a").reason.endswith('of class "a": AUC needs two')
    assert auc(sure, cls="b").reason == 'no labelled row with a probability is of class "b"'
    assert auc([], cls="a").labels == {"class": "a"}


def test_a_model_with_two_classes_has_no_ranks():
    for rows in (drawn(50, classes=("a", "b")), classified(["a"], ["b"], [0.5])):
        assert (summarised(rows).labels or Labels()).ranks == {}
