"""A feature that froze, and those that came or went: told where chance is no explanation, and only there."""

import numpy as np
import pytest

from kedge.analysis.drift import DriftSettings
from kedge.analysis.intervals import interval_at
from kedge.analysis.measure import Context, metric
from kedge.analysis.metric import Metric, Verdict
from kedge.records import Prediction
from tests.analysis.rows import edges_of, featured, summarised


def found(
    name: str, before: list[Prediction], after: list[Prediction], feature: str | None = None, **more
) -> Metric:
    edges = edges_of(before)
    context = Context(reference=summarised(before, edges), edges=edges, **more)
    return metric(name, summarised(after, edges), context, feature=feature)


SPREAD = featured({"age": np.arange(1_000.0)}, {"shop": ["a", "b"] * 500})


# --- frozen -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "after", "told"),
    [
        ("age", featured({"age": [7.5] * 30}), "every value is 7.5"),
        ("shop", featured(cat={"shop": ["a", None] * 30}), 'every value is "a"'),
    ],
)
def test_a_feature_whose_values_are_all_one_is_constant(feature, after, told):
    constant = found("quality.constant", SPREAD, after, feature)
    assert (constant.value, constant.n, constant.told) == (1.0, 30, told)


def test_so_few_rows_that_they_may_be_equal_by_chance_are_insufficient_and_tell_how_many_are_needed():
    few = found("quality.constant", SPREAD, featured(cat={"shop": ["a"] * 8}), "shop")
    assert (few.value, few.verdict, few.n) == (None, Verdict.INSUFFICIENT, 8)
    needed = int(few.reason.partition("needs n >= ")[2].rstrip(")"))
    for n, value in ((needed - 1, None), (needed, 1.0)):
        assert found("quality.constant", SPREAD, featured(cat={"shop": ["a"] * n}), "shop").value == value


@pytest.mark.parametrize("n", [13, 20, 40])
def test_the_chance_that_the_evidence_rests_on_is_never_less_than_the_true_one(n):
    frozen = found("quality.constant", SPREAD, featured(cat={"shop": ["a"] * n}), "shop")
    true = 2 * 0.5**n
    assert interval_at(frozen, 0.001) == (1.0, 1.0)
    assert interval_at(frozen, true) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (featured({"x": [3.0] * 100}), featured({"x": [3.0] * 100})),
        (featured({"x": [3.0] * 100}), featured({"x": [4.0] * 100})),
        (featured({"x": [1.0, 2.0] * 50}), featured({"x": [1.0] * 99 + [2.0]})),
    ],
    ids=["as in the reference", "another value, which out_of_range tells", "one row differs"],
)
def test_a_feature_that_never_varied_or_still_does_is_not(before, after):
    assert found("quality.constant", before, after, "x").value == 0.0


def test_values_that_share_a_cell_are_not_one_value():
    close = found("quality.constant", SPREAD, featured({"age": [7.0, 7.5] * 30}), "age")
    assert close.value == 0.0
    unknown = found("quality.constant", SPREAD, featured(cat={"shop": ["x"] * 60}), "shop")
    assert (unknown.value, "not told apart" in unknown.reason) == (None, True)


def test_of_dependent_rows_fewer_count():
    after = featured(cat={"shop": ["a"] * 30})
    assert found("quality.constant", SPREAD, after, "shop").value == 1.0
    clusters = DriftSettings(phi={"shop": 10.0})
    assert found("quality.constant", SPREAD, after, "shop", drift=clusters).value is None


def test_a_side_without_values_says_which():
    empty = found("quality.constant", SPREAD, featured({"age": [None] * 5}), "age")
    assert (empty.value, empty.reason) == (None, "no values in the window")


# --- came and went ----------------------------------------------------------------------------------------


def test_features_that_came_and_went_are_counted_and_named():
    after = featured({"age": np.arange(50.0), "height": [1.8] * 50}, {"weight": ["heavy"] * 50})
    came, gone = (found(f"quality.{name}", SPREAD, after) for name in ("appeared", "disappeared"))
    assert (came.value, came.n, came.told, came.interval) == (2.0, 3, "height, weight", (2.0, 2.0))
    assert (gone.value, gone.n, gone.told, gone.interval) == (1.0, 2, "shop", (1.0, 1.0))


def test_a_rare_feature_that_these_rows_need_not_have_is_possible_and_not_certain():
    before = featured({"age": np.arange(1_000.0), "rare": [1.0] * 20 + [None] * 980})
    gone = found("quality.disappeared", before, featured({"age": np.arange(100.0)}))
    assert (gone.value, gone.interval, gone.told) == (0.0, (0.0, 1.0), None)
    assert gone.detail["unsure"] == ["rare"]
    assert found("quality.disappeared", before, featured({"age": np.arange(5_000.0)})).value == 1.0


def test_a_feature_of_a_single_row_is_not_new_to_a_reference_of_as_many():
    after = featured({"age": np.arange(1_000.0), "typo": [1.0] + [None] * 999})
    assert found("quality.appeared", SPREAD, after).value == 0.0


def test_too_few_rows_to_miss_any_feature_are_insufficient():
    bare = found("quality.disappeared", SPREAD[:20], featured({"other": [1.0]}))
    assert (bare.value, bare.verdict) == (None, Verdict.INSUFFICIENT)


def test_a_feature_whose_type_changed_neither_came_nor_went():
    after = featured(cat={"age": ["forty"] * 50, "shop": ["a"] * 50})
    assert found("quality.appeared", SPREAD, after).value == 0.0
    assert found("quality.disappeared", SPREAD, after).value == 0.0


def test_a_sentence_names_no_more_than_ten():
    after = featured({f"f{i:02}": [1.0] * 50 for i in range(13)})
    assert found("quality.appeared", SPREAD, after).told.endswith("f09 and 3 more")
