"""Performance without labels: against isotonic calibration, against the labels, and withheld."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn import metrics as sk
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.isotonic import IsotonicRegression

from kedge.analysis.calibrator import calibrate
from kedge.analysis.catalogue import lookup
from kedge.analysis.estimation import NO_LABELLED, NO_SCORES
from kedge.analysis.measure import Context, measure, metric
from kedge.sketch import SCORE_CELLS, Core, EdgeSet, Labels, Summary, total
from tests.analysis.rows import classified, summarised

SCORES = ("accuracy", "precision", "recall", "f1")
BINARY = ("no", "yes")


def counted(predicted, actual, confidence, classes, *, labels=True) -> Summary:
    """What `summarised` gives of these columns, without a loop over the rows."""
    cells = np.minimum((np.float32(confidence).astype(np.float64) / 0.01).astype(np.int64), SCORE_CELLS - 1)

    def count(rows):
        return np.bincount(cells[rows], minlength=SCORE_CELLS + 1).astype(np.int64)

    scores = {c: count(predicted == c) for c in classes if (predicted == c).any()}
    pairs = {
        (p, a): count((predicted == p) & (actual == a))
        for p in scores
        for a in classes
        if ((predicted == p) & (actual == a)).any()
    }
    known = Labels(rows=len(actual), scores=pairs) if labels else Labels()
    return Summary(Core(rows=len(predicted), scores=scores), None, known)


def estimated(name, window, reference, positive=None, cls=None):
    return metric(f"estimated.{name}", window, Context(positive_class=positive, reference=reference), cls=cls)


def realised(name, window, positive=None, cls=None):
    return metric(f"performance.{name}", window, Context(positive_class=positive), cls=cls)


class World:
    """A binary model whose probabilities are not calibrated, on inputs around `middle`."""

    def __init__(self, generator, n, middle=0.0, threshold=0.5):
        inputs = generator.normal(middle, 2, n)
        self.actual = np.where(generator.random(n) < expit(inputs), "yes", "no")
        self.score = expit(1.5 * inputs + 0.3)
        self.predicted = np.where(self.score >= threshold, "yes", "no")
        confidence = np.where(self.predicted == "yes", self.score, 1 - self.score)
        self.summary = counted(self.predicted, self.actual, confidence, BINARY)

    def scores(self):
        found = {name: realised(name, self.summary, "yes").value for name in SCORES}
        return found | {"auc": sk.roc_auc_score(self.actual == "yes", self.score)}


def forest(data, train, *, depth, seed=0):
    """(predicted, actual, confidence) of the rows that a model of the others was not trained on."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(data.target))
    known, rest = order[:train], order[train:]
    model = RandomForestClassifier(30, max_depth=depth, random_state=0, n_jobs=1)
    shares = model.fit(data.data[known], data.target[known]).predict_proba(data.data[rest])
    names = np.array([str(c) for c in model.classes_])
    return names[shares.argmax(1)], data.target[rest].astype(str), shares.max(1), shares


# --- right ----------------------------------------------------------------------------------------------


def test_the_calibration_is_scikit_learns_isotonic_regression_of_the_cells():
    world = World(np.random.default_rng(1), 3_000)
    fitted = calibrate(world.summary.labels)
    for i, cls in enumerate(BINARY):
        rows = world.summary.core.scores[cls][:SCORE_CELLS]
        right = world.summary.labels.scores[cls, cls][:SCORE_CELLS]
        seen = np.flatnonzero(rows)
        oracle = IsotonicRegression().fit(seen, right[seen] / rows[seen], sample_weight=rows[seen])
        assert fitted.right[i, seen] == pytest.approx(oracle.predict(seen), abs=1e-9)
        assert (np.diff(fitted.right[i, :SCORE_CELLS]) >= 0).all()


def test_accuracy_is_the_mean_calibrated_confidence_of_the_rows():
    generator = np.random.default_rng(2)
    before, after = World(generator, 4_000), World(generator, 2_000, middle=0.8)
    expected = 0.0
    for cls in BINARY:
        said = before.predicted == cls
        cell = np.minimum(np.floor(np.where(cls == "yes", before.score, 1 - before.score) * 100), 99)
        curve = IsotonicRegression(out_of_bounds="clip").fit(cell[said], (before.actual == cls)[said])
        now = np.minimum(np.floor(np.where(cls == "yes", after.score, 1 - after.score) * 100), 99)
        expected += curve.predict(now[after.predicted == cls]).sum()
    found = estimated("accuracy", after.summary, before.summary)
    assert found.n == 2_000
    assert found.value == pytest.approx(expected / 2_000, abs=2e-3)


@pytest.mark.parametrize("name", SCORES)
def test_a_shift_of_the_inputs_is_followed_where_the_reference_alone_would_miss_it(name):
    generator = np.random.default_rng(3)
    before, after = World(generator, 20_000, middle=-2.0), World(generator, 20_000)
    found, truth = estimated(name, after.summary, before.summary, "yes"), after.scores()[name]
    assert found.interval[0] <= truth <= found.interval[1]
    assert abs(found.value - truth) < abs(before.scores()[name] - truth) / 4


@pytest.mark.parametrize("positive", [None, "yes"])
@pytest.mark.parametrize("name", SCORES)
def test_of_the_reference_itself_the_estimate_is_what_was_realised(name, positive):
    world = World(np.random.default_rng(4), 1_500, threshold=0.4)
    found = estimated(name, world.summary, world.summary, positive)
    assert found.value == pytest.approx(realised(name, world.summary, positive).value, abs=1e-9)


def test_of_the_reference_itself_auc_is_within_its_standard_error():
    world = World(np.random.default_rng(5), 1_500)
    found = estimated("auc", world.summary, world.summary, "yes")
    assert abs(found.value - world.scores()["auc"]) < found.stderr


@pytest.mark.parametrize("name", SCORES)
def test_of_many_classes_in_the_reference_itself_the_estimate_is_within_its_standard_error(name):
    predicted, actual, confidence, _ = forest(load_digits(), 500, depth=6)
    summary = counted(predicted, actual, confidence, sorted(set(actual)))
    found = estimated(name, summary, summary)
    assert abs(found.value - realised(name, summary).value) < found.stderr


@pytest.mark.parametrize(("data", "train", "depth"), [(load_digits, 500, 6), (load_breast_cancer, 150, 3)])
@pytest.mark.parametrize("name", SCORES)
def test_on_real_data_the_interval_holds_the_realised_value(data, train, depth, name):
    predicted, actual, confidence, _ = forest(data(), train, depth=depth)
    classes, half = sorted(set(actual)), len(actual) // 2
    before = counted(predicted[:half], actual[:half], confidence[:half], classes)
    after = counted(predicted[half:], actual[half:], confidence[half:], classes)
    found, truth = estimated(name, after, before), realised(name, after).value
    assert found.interval[0] <= truth <= found.interval[1]
    assert found.interval[1] - found.interval[0] < 0.15


def test_one_class_of_many_has_scores_of_its_own():
    predicted, actual, confidence, _ = forest(load_digits(), 500, depth=6)
    summary = counted(predicted, actual, confidence, sorted(set(actual)))
    for name in ("precision", "recall", "f1"):
        found = estimated(name, summary, summary, cls="8")
        assert found.labels == {"class": "8"}
        assert abs(found.value - realised(name, summary, cls="8").value) <= max(found.stderr, 1e-12)
    listed = {m.key for m in measure(summary, Context(reference=summary, edges=EdgeSet({})))}
    assert {f"estimated.recall{{class={c}}}" for c in range(10)} <= listed


def test_n_is_the_denominator_that_is_expected():
    predicted = ["yes"] * 40 + ["no"] * 160
    actual = ["yes"] * 30 + ["no"] * 10 + ["yes"] * 20 + ["no"] * 140
    summary = summarised(classified(predicted, actual, [0.8] * 200))
    found = {name: estimated(name, summary, summary, "yes").n for name in (*SCORES, "auc")}
    assert found == {"accuracy": 200, "precision": 40, "recall": 50, "f1": 60, "auc": 50}


# --- sure -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "window", "middle", "threshold"),
    [(500, 500, 0.0, 0.5), (500, 5_000, 0.0, 0.5), (2_000, 2_000, 0.7, 0.5), (1_000, 2_000, -0.7, 0.3)],
)
def test_intervals_hold_the_realised_value_of_19_windows_in_20(reference, window, middle, threshold):
    generator = np.random.default_rng(6)
    held: dict[str, list[bool]] = {}
    for _ in range(150):
        before = World(generator, reference, threshold=threshold)
        after = World(generator, window, middle, threshold)
        for name, truth in after.scores().items():
            low, high = estimated(name, after.summary, before.summary, "yes").interval
            held.setdefault(name, []).append(low <= truth <= high)
    shares = {name: float(np.mean(one)) for name, one in held.items()}
    assert all(0.90 <= share <= 0.99 for share in shares.values()), shares
    assert 0.92 <= np.mean(list(shares.values())) <= 0.98


def test_the_calibrators_own_noise_is_most_of_the_error_of_a_large_window():
    generator = np.random.default_rng(7)
    after = World(generator, 50_000).summary
    few, many = (estimated("accuracy", after, World(generator, m).summary) for m in (500, 50_000))
    spread = [estimated("accuracy", after, World(generator, 500).summary).value for _ in range(100)]
    assert few.stderr == pytest.approx(np.std(spread), rel=0.25)
    assert many.stderr < few.stderr / 5


def test_all_right_on_few_rows_is_not_certain():
    reference = summarised(classified(["a", "b"] * 10, ["a", "b"] * 10, [0.9] * 20))
    window = summarised(classified(["a", "b"] * 500, [None] * 1000, [0.9] * 1000))
    for name in SCORES:
        found = estimated(name, window, reference)
        assert found.value == 1.0
        assert found.interval[0] < 0.9


def test_scores_that_share_one_cell_hide_their_order_and_the_interval_of_auc_says_so():
    """A model that is nearly always sure: what cells cannot order adds up to half of the tied pairs."""
    n = 4_000
    actual = np.where(np.arange(n) % 4 == 0, "yes", "no")
    rows = counted(np.full(n, "yes"), actual, np.full(n, 0.999), BINARY)
    spread = counted(np.full(n, "yes"), actual, np.linspace(0.2, 0.9, n), BINARY)
    assert estimated("auc", rows, rows, "yes").stderr > 10 * estimated("auc", spread, spread, "yes").stderr
    low, high = estimated("auc", rows, rows, "yes").interval
    assert low < 0.25 < 0.75 < high


# --- invariant ------------------------------------------------------------------------------------------

_rows = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.sampled_from("abc"), st.one_of(st.none(), st.floats(0, 1), st.just(1.0))
    ),
    max_size=60,
)


def _estimates(window, reference, positive=None):
    context = Context(positive_class=positive, reference=reference, edges=EdgeSet({}))
    return {m.key: m for m in measure(window, context) if m.name.startswith("estimated.")}


def _alike(a, b):
    assert a.keys() == b.keys()
    for key, one in a.items():
        other = b[key]
        assert (one.n, one.reason) == (other.n, other.reason)
        for x, y in ((one.value, other.value), (one.stderr, other.stderr)):
            assert (x is None) == (y is None)
            assert x is None or x == pytest.approx(y, abs=1e-9)


def _made(rows):
    return summarised(classified(*zip(*rows, strict=True)) if rows else [])


@settings(max_examples=60, deadline=None)
@given(_rows, _rows, st.integers(0, 60), st.sampled_from([None, "a", "z"]))
def test_estimates_are_of_the_sum_however_it_was_cut(window, reference, cut, positive):
    parts = [_made(window[:cut]), _made(window[cut:])]
    whole = _estimates(_made(window), _made(reference), positive)
    summed = _estimates(total(parts), _made(reference[::-1]), positive)
    assert whole.keys() == summed.keys()
    _alike(whole, summed)


@settings(max_examples=60, deadline=None)
@given(_rows, _rows)
def test_names_of_classes_do_not_matter(window, reference):
    new = {"a": "z", "b": "ein Wort", "c": "A"}

    def renamed(rows):
        return _made([(new[p], new[t], s) for p, t, s in rows])

    before = _estimates(_made(window), _made(reference))
    after = _estimates(renamed(window), renamed(reference))
    for old, name in new.items():
        before = {k.replace(f"class={old}}}", f"class:{name}}}"): m for k, m in before.items()}
    before = {k.replace("class:", "class="): m for k, m in before.items()}
    assert before.keys() == after.keys()
    for key, one in before.items():
        assert (one.value is None) == (after[key].value is None)
        assert one.value is None or one.value == pytest.approx(after[key].value, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(_rows, _rows, st.sampled_from([None, "a", "z"]))
def test_every_estimate_lies_between_0_and_1_in_its_interval_or_says_why_not(window, reference, positive):
    for found in _estimates(_made(window), _made(reference), positive).values():
        if found.value is None:
            assert found.reason
            continue
        assert 0 <= found.interval[0] <= found.interval[1] <= 1
        assert -1e-9 <= found.value <= 1 + 1e-9


# --- the ends -------------------------------------------------------------------------------------------


def test_probabilities_of_exactly_0_and_1_have_cells():
    rows = classified(["a", "b"] * 20, ["a", "b"] * 18 + ["b", "a"] * 2, [1.0, 0.0] * 20)
    summary = summarised(rows)
    assert estimated("accuracy", summary, summary).value == pytest.approx(0.9)


def test_one_class_alone_can_be_read():
    always = summarised(classified(["a"] * 30, ["a"] * 30, [0.9] * 30))
    assert estimated("accuracy", always, always, "a").value == 1.0
    assert estimated("recall", always, always, "a").value == 1.0
    assert estimated("recall", always, always).value == 1.0
    reason = 'the reference has not two classes of which one is "a"'
    assert estimated("auc", always, always, "a").reason == reason


def test_a_class_that_the_reference_has_only_as_a_truth_is_expected_too():
    rows = classified(["a"] * 40, ["a"] * 30 + ["b"] * 10, [0.75] * 40)
    summary = summarised(rows)
    assert estimated("recall", summary, summary, "b").value == 0.0
    assert estimated("precision", summary, summary, "b").reason == 'no row was predicted "b"'
    assert estimated("recall", summary, summary).value == realised("recall", summary).value == 0.5


# --- withheld -------------------------------------------------------------------------------------------

GOOD = summarised(classified(["a", "b"] * 50, ["a", "b"] * 45 + ["b", "a"] * 5, [0.8, 0.9] * 50))


def sure(n, cls="a", p=0.8):
    return classified([cls] * n, [None] * n, [p] * n)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            sure(90) + sure(10, p=0.3),
            '10% of .*, more than 5% .most: predicted "a" with a probabil',
        ),
        (sure(90) + sure(10, "new"), '10% of .*most: predicted "new", which is new'),
        (sure(90) + sure(10, p=None), '10% of .*most: predicted "a" without a probability'),
        (sure(10, p=None), NO_SCORES),
        ([], "no row has a predicted class"),
    ],
)
def test_what_the_reference_cannot_tell_is_withheld(name, rows, told):
    found = estimated(name, summarised(rows), GOOD)
    assert found.value is None
    assert found.n == len(rows)
    assert re.match(told, found.reason), found.reason


@pytest.mark.parametrize("outside", [sure(5, p=0.3), sure(5, "new"), sure(5, p=None)])
def test_a_twentieth_of_the_window_may_be_new(outside):
    found = estimated("accuracy", summarised(sure(95) + outside), GOOD)
    assert found.value == pytest.approx(0.9)
    assert estimated("accuracy", summarised(sure(94) + outside), GOOD).value is None


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        (summarised(sure(50)), NO_LABELLED),
        (summarised(classified(["a"] * 9, ["a"] * 9)), "no labelled row of the reference has a probability"),
        (summarised([]), NO_LABELLED),
    ],
)
def test_a_reference_that_teaches_nothing_is_named(reference, told):
    assert estimated("accuracy", summarised(sure(50)), reference).reason == told


def test_a_withheld_estimate_is_told_once_and_not_for_every_class():
    window = summarised(sure(10, "new"))
    assert set(_estimates(window, GOOD)) == {f"estimated.{name}" for name in SCORES}
    assert "estimated.recall{class=a}" in _estimates(GOOD, GOOD)


def test_without_a_reference_there_is_none():
    assert metric("estimated.accuracy", GOOD, Context()).reason == "no reference"
    unread = Summary(GOOD.core, None, None)
    found = metric("estimated.accuracy", GOOD, Context(reference=unread))
    assert found.reason == "the labels part of the reference is not computed"


def test_two_or_three_labelled_rows_near_by_are_what_support_takes():
    for near, there in ((2, False), (3, True)):
        rows = classified(["a"] * 100, ["a"] * 100, [0.8] * (100 - near) + [0.46] * near)
        found = estimated("accuracy", summarised(sure(10, p=0.5)), summarised(rows))
        assert (found.value is not None) is there


def test_estimates_are_no_performance_on_labels_and_need_no_mature_window():
    assert lookup("estimated.accuracy").estimated
    assert not lookup("estimated.accuracy").label_based
    assert not lookup("performance.accuracy").estimated
