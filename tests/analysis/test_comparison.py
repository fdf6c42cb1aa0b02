"""Two sets of rows side by side: what is told first, what is left out, and in which words."""

import numpy as np
import pytest

from kedge.analysis.comparison import Family, Tone, compare_summaries
from kedge.analysis.measure import Context
from tests.analysis.rows import classified, edges_of, featured, summarised

GENERATOR = np.random.default_rng(5)


def labelled(count: int, right: float) -> list:
    actual = GENERATOR.choice(["fraud", "ok"], count, p=[0.3, 0.7]).tolist()
    wrong = {"fraud": "ok", "ok": "fraud"}
    predicted = [a if GENERATOR.random() < right else wrong[a] for a in actual]
    return classified(predicted, actual, GENERATOR.uniform(0.5, 1.0, count).tolist())


def compared(before: list, after: list, positive: str | None = "fraud"):
    edges = edges_of(before)
    reference, current = summarised(before, edges), summarised(after, edges)
    return compare_summaries(reference, current, Context(positive, reference, edges))


def test_a_worse_model_is_told_with_its_change_and_without_the_classes_that_say_it_again():
    found = compared(labelled(4_000, 0.9), labelled(4_000, 0.8))
    told = {c.current.key: c for c in found.notable}
    assert told["performance.accuracy"].tone is Tone.WORSE
    assert told["performance.accuracy"].by == pytest.approx(-0.1, abs=0.03)
    assert not [key for key in told if "{class=" in key and key.startswith("performance.")]
    assert not [key for key in told if "_weighted" in key]


def test_of_a_model_without_a_positive_class_the_three_classes_that_changed_most_are_told():
    names = list("abcde")
    before = [(n, n) for n in names for _ in range(400)]
    after = before + [("a", n) for n in names[1:] for _ in range(300)]
    found = compared(classified(*zip(*before, strict=True)), classified(*zip(*after, strict=True)), None)
    of_classes = [
        c for c in found.notable if c.name.startswith("performance.") and "class" in c.current.labels
    ]
    assert len(of_classes) == 3
    everyone = [c for c in found.changes if c.family is Family.PERFORMANCE and "class" in c.current.labels]
    told = min(abs(c.by) for c in of_classes)
    assert told >= max(abs(c.by) for c in everyone if c not in of_classes and c.by is not None)


def test_a_better_model_is_better_and_a_share_of_a_class_has_merely_moved():
    found = compared(labelled(4_000, 0.8), labelled(4_000, 0.9))
    tones = {c.current.key: c.tone for c in found.changes}
    assert tones["performance.accuracy"] is Tone.BETTER
    moved = compared(
        classified(["a"] * 500 + ["b"] * 500, [None] * 1_000),
        classified(["a"] * 800 + ["b"] * 200, [None] * 1_000),
    )
    assert {c.tone for c in moved.changes if c.name == "class.share"} == {Tone.MOVED}


def test_nothing_is_told_of_two_halves_of_the_same_rows():
    rows = labelled(20_000, 0.9)
    found = compared(rows[::2], rows[1::2])
    assert found.notable == []
    assert "performance.accuracy" in {c.name for c in found.steady}
    assert not found.found


def test_a_difference_too_small_to_matter_is_not_told_however_many_rows_show_it():
    """Of 40,000 rows 0.7 points less are right, and the interval excludes none."""
    actual = ["ok"] * 40_000
    sides = [classified(["ok"] * right + ["fraud"] * (40_000 - right), actual) for right in (39_900, 39_620)]
    found = compared(*sides)
    change = next(c for c in found.changes if c.name == "performance.accuracy")
    assert change.by == pytest.approx(-0.007)
    assert change.interval[1] < 0
    assert change.tone is Tone.SAME


def test_quality_is_looked_at_before_performance_and_features_by_how_much_they_moved():
    count = 2_000
    x, y = GENERATOR.normal(size=count), GENERATOR.normal(size=count)
    before = featured({"x": x, "y": y, "z": x}, {"shop": ["a"] * count})
    holes = np.where(GENERATOR.random(count) < 0.2, np.nan, y)
    after = featured(
        {"x": x + 1, "y": holes, "z": x}, {"shop": ["a"] * (count // 2) + ["new"] * (count // 2)}
    )
    found = compared(before, after)
    assert [f.name for f in found.drifted] == ["shop", "x", "y"]
    assert [f.name for f in found.features][-1] == "z"
    assert [c.current.key for c in found.quality][:2] == [
        "quality.unseen{feature=shop}",
        "quality.missing{feature=y}",
    ]
    assert found.found
    assert found.by_family()[0][0] is Family.QUALITY


def test_a_feature_that_froze_or_went_is_told_and_one_that_did_not_is_as_before():
    count = 500
    before = featured({"x": GENERATOR.normal(size=count), "y": [1.0] * count}, {"shop": ["a", "b"] * 250})
    found = compared(before, featured({"x": [0.5] * 100, "y": [1.0] * 100}))
    told = {c.current.key: c.tone for c in found.notable if c.name.startswith("quality.")}
    assert told["quality.constant{feature=x}"] is Tone.WORSE
    assert told["quality.disappeared"] is Tone.WORSE
    assert "quality.constant{feature=y}" not in told
    assert "quality.appeared" in [c.name for c in found.steady]


def test_rows_that_one_side_has_nothing_of_are_unknown_not_changed():
    found = compared(classified(["a"] * 50, ["a"] * 50), classified(["a"] * 50, [None] * 50), None)
    scores = [c for c in found.changes if c.name.startswith("performance.")]
    assert scores
    assert {c.tone for c in scores} == {Tone.UNKNOWN}
    assert [c.name for c in found.notable] == ["label.coverage"]
