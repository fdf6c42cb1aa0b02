"""What charts draw: shares that add up, one axis for both sides, no outlier that squeezes the rest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.analysis.comparison import FeatureComparison, compare_summaries
from kedge.analysis.measure import Context
from kedge.web.shapes import bars_of, blocks, is_drawn_as_bars, shape_of, whiskers
from tests.analysis.rows import edges_of, featured, summarised

GENERATOR = np.random.default_rng(3)


def one(before, after, kind: str = "x") -> FeatureComparison:
    """The only feature of two columns."""
    rows = [featured({"f": c}, {}) if kind == "x" else featured({}, {"f": c}) for c in (before, after)]
    edges = edges_of(rows[0])
    reference, current = (summarised(r, edges) for r in rows)
    return compare_summaries(reference, current, Context(None, reference, edges)).features[0]


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60))
def test_no_bin_holds_more_than_all_and_all_within_the_axis_is_drawn(values):
    shape = shape_of(one(np.array(values), np.array(values)))
    assert shape.low < shape.high
    assert (shape.reference >= 0).all()
    assert shape.reference.sum() <= 1 + 1e-9
    assert np.array_equal(shape.reference, shape.current)


def test_the_picture_has_the_shape_of_the_rows():
    column = GENERATOR.normal(size=20_000)
    shape = shape_of(one(column, column + 1))
    middles = shape.low + (np.arange(32) + 0.5) * (shape.high - shape.low) / 32
    for side, mean in ((shape.reference, 0.0), (shape.current, 1.0)):
        # The outermost cells are wide, and taken as filled evenly.
        assert (side @ middles) / side.sum() == pytest.approx(mean, abs=0.25)


def test_an_outlier_does_not_squeeze_the_rest():
    column = GENERATOR.normal(size=5_000)
    with_one = np.append(column, 1e9)
    shape = shape_of(one(column, with_one))
    assert shape.high < 10


def test_a_constant_column_is_one_bar_and_its_change_another():
    feature = one([7.0] * 10, [7.0] * 5 + [9.0] * 5)
    assert is_drawn_as_bars(feature)
    bars = bars_of(feature)
    assert [(b.reference, b.current) for b in bars] == [(1.0, 0.5), (0.0, 0.5)]


def test_categories_are_the_largest_of_either_side_and_the_rest_together():
    before = [f"v{i}" for i in range(20) for _ in range(20 - i)]
    after = [*before, *["new"] * 210]
    bars = bars_of(one(before, after, "text"))
    assert [b.name for b in bars][:2] == ["v0", "v1"]
    assert bars[-2].name == "12 others"
    assert bars[-1].name == "unseen"
    assert sum(b.reference for b in bars) == pytest.approx(1)
    assert sum(b.current for b in bars) == pytest.approx(1)
    assert bars[-1].current == pytest.approx(0.5)


def test_blocks_are_as_tall_as_their_share_of_the_top():
    assert blocks([0.0, 0.1, 0.4, 0.8], 0.8) == " ▂▅█"
    assert blocks([0.0, 0.0], 0.0) == "  "


def test_whiskers_share_an_axis_that_just_holds_them():
    a, b = whiskers([(0.5, (0.4, 0.6)), (0.8, None)])
    assert (a.low, a.at) == (0.0, pytest.approx(0.25))
    assert (b.low, b.at, b.high) == (1.0, 1.0, 1.0)
    same = whiskers([(3.0, None), (3.0, None)])
    assert [w.at for w in same] == [0.5, 0.5]
