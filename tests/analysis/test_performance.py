"""Performance from summaries, against scikit-learn on the same rows."""

import numpy as np
import pytest
from sklearn import metrics as sk

from kedge.analysis.measure import Context, measure, metric
from tests.analysis.rows import classified, regressed, scored, summarised

NONE = Context()
BINARY = Context(positive_class="fraud")
AVERAGES = {"": "macro", "_weighted": "weighted"}
SKLEARN = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}


def drawn(classes, n=400, seed=0, right=0.7):
    """Predictions that are right with that chance, of classes of very different sizes."""
    generator = np.random.default_rng(seed)
    sizes = np.arange(1, len(classes) + 1) ** 2
    actual = generator.choice(classes, n, p=sizes / sizes.sum())
    predicted = np.where(generator.random(n) < right, actual, generator.choice(classes, n))
    return [str(c) for c in predicted], [str(c) for c in actual]


@pytest.mark.parametrize("score", SKLEARN)
@pytest.mark.parametrize("suffix", AVERAGES)
@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "c", "d"], [str(i) for i in range(30)]])
def test_averages_over_classes_equal_scikit_learn(classes, score, suffix):
    predicted, actual = drawn(classes)
    found = metric(f"performance.{score}{suffix}", summarised(classified(predicted, actual)), NONE)
    expected = SKLEARN[score](actual, predicted, average=AVERAGES[suffix], zero_division=0)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.n == len(actual)


@pytest.mark.parametrize("score", SKLEARN)
def test_a_class_that_is_only_predicted_or_only_true_counts_as_zero_in_the_macro_average(score):
    predicted, actual = ["a", "a", "b", "x"], ["a", "b", "b", "y"]
    found = metric(f"performance.{score}", summarised(classified(predicted, actual)), NONE)
    assert found.value == pytest.approx(SKLEARN[score](actual, predicted, average="macro", zero_division=0))


@pytest.mark.parametrize("score", SKLEARN)
def test_with_a_positive_class_the_score_is_of_that_class(score):
    predicted, actual = drawn(["fraud", "ok"], seed=3)
    summary = summarised(classified(predicted, actual))
    expected = SKLEARN[score](actual, predicted, pos_label="fraud")
    assert metric(f"performance.{score}", summary, BINARY).value == pytest.approx(expected)
    assert metric(f"performance.{score}", summary, BINARY).labels == {}
    assert metric(f"performance.{score}", summary, NONE, cls="fraud").value == pytest.approx(expected)


def test_n_is_the_denominator_of_each_metric():
    predicted = ["fraud"] * 7 + ["ok"] * 93
    actual = ["fraud"] * 4 + ["ok"] * 3 + ["fraud"] * 6 + ["ok"] * 87
    summary = summarised(classified(predicted, actual))
    n = {m: metric(f"performance.{m}", summary, BINARY).n for m in ("accuracy", "precision", "recall", "f1")}
    assert n == {"accuracy": 100, "precision": 7, "recall": 10, "f1": 13}


def test_accuracy_counts_rows_with_both_classes_only():
    rows = classified(["a", None, "b", "b"], ["a", "a", None, "a"])
    found = metric("performance.accuracy", summarised(rows), NONE)
    assert (found.value, found.n) == (0.5, 2)


def test_every_class_has_its_own_scores_in_the_list_of_all():
    predicted, actual = drawn(["a", "b", "c"])
    found = {m.key: m.value for m in measure(summarised(classified(predicted, actual)), NONE)}
    for cls in "abc":
        expected = sk.recall_score(actual, predicted, labels=[cls], average=None)[0]
        assert found[f"performance.recall{{class={cls}}}"] == pytest.approx(expected)


def test_log_loss_and_brier_equal_scikit_learn_to_the_rounding_of_the_stored_outcome():
    generator = np.random.default_rng(5)
    shares = generator.dirichlet([1, 1, 1], 300)
    actual = generator.choice(["a", "b", "c"], 300)
    summary = summarised(scored([dict(zip("abc", row.tolist(), strict=True)) for row in shares], actual))
    expected = sk.log_loss(actual, shares)
    one_hot = np.array([[c == name for name in "abc"] for c in actual])
    assert metric("performance.log_loss", summary, NONE).value == pytest.approx(expected, rel=1e-6)
    brier = float(((shares - one_hot) ** 2).sum(1).mean())
    assert metric("performance.brier", summary, NONE).value == pytest.approx(brier, rel=1e-6)


def test_brier_of_a_binary_model_is_that_of_its_positive_class():
    generator = np.random.default_rng(6)
    p, actual = generator.random(200), generator.random(200) < 0.3
    rows = scored([{"yes": x, "no": 1 - x} for x in p.tolist()], ["yes" if y else "no" for y in actual])
    found = metric("performance.brier", summarised(rows), NONE)
    assert found.value == pytest.approx(sk.brier_score_loss(actual, p), rel=1e-6)


def test_probabilities_of_exactly_zero_and_one_give_a_finite_log_loss():
    rows = scored([{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}], ["a", "a"])
    found = metric("performance.log_loss", summarised(rows), NONE)
    assert found.value == pytest.approx(sk.log_loss(["a", "a"], [0.0, 1.0], labels=["a", "b"]), rel=1e-6)


def test_regression_errors_equal_scikit_learn_to_float32():
    generator = np.random.default_rng(7)
    actual = generator.normal(100, 20, 500)
    predicted = actual + generator.normal(2, 5, 500)
    summary = summarised(regressed(predicted, actual))
    found = {
        name: metric(f"performance.{name}", summary, NONE).value for name in ("mae", "rmse", "r2", "bias")
    }
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(actual, predicted), rel=1e-5)
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(actual, predicted), rel=1e-5)
    assert found["r2"] == pytest.approx(sk.r2_score(actual, predicted), rel=1e-5)
    assert found["bias"] == pytest.approx(float((predicted - actual).mean()), rel=1e-5)


@pytest.mark.parametrize("score", ["f1", "f1_weighted", "precision", "recall", "precision_weighted"])
def test_the_standard_error_of_an_average_is_that_of_resampled_rows(score):
    predicted, actual = drawn(["a", "b", "c"], n=600, seed=9)
    found = metric(f"performance.{score}", summarised(classified(predicted, actual)), NONE)
    name, _, suffix = score.partition("_")
    generator = np.random.default_rng(0)
    pairs = np.array([predicted, actual])
    resampled = [
        SKLEARN[name](
            *pairs[::-1, generator.integers(0, 600, 600)],
            average=AVERAGES[f"_{suffix}" if suffix else ""],
            zero_division=0,
        )
        for _ in range(80)
    ]
    assert found.stderr == pytest.approx(np.std(resampled), rel=0.25)


def test_a_perfect_score_of_few_rows_has_an_interval_that_says_so():
    for name in ("accuracy", "recall", "f1", "f1_weighted"):
        found = metric(f"performance.{name}", summarised(classified(["a", "b"] * 5, ["a", "b"] * 5)), NONE)
        assert found.value == 1.0
        assert found.interval[0] < 0.9
        assert found.interval[1] == 1.0


def test_what_cannot_be_told_says_why():
    unlabelled = summarised(classified(["fraud", "ok"], [None, None]))
    never = summarised(classified(["ok", "ok"], ["ok", "fraud"]))
    assert metric("performance.accuracy", unlabelled, BINARY).reason == "no labels yet"
    assert metric("performance.f1", unlabelled, BINARY).reason == "no labels yet"
    assert metric("performance.precision", never, BINARY).reason == 'no labelled row was predicted "fraud"'
    assert metric("performance.recall", never, BINARY).value == 0.0
    assert metric("performance.recall", never, NONE, cls="x").reason.startswith(
        'no labelled row is of class "x"'
    )
    assert metric("performance.mae", never, NONE).reason == "no labelled row has a predicted value"


def test_r2_of_labels_that_do_not_vary_says_so():
    found = metric("performance.r2", summarised(regressed([1, 2], [3, 3])), NONE)
    assert (found.value, found.reason) == (None, "the labels do not vary")
