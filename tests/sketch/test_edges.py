"""Frozen cells: the same column gives the same edges and the same hash, and every value has its cell."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.sketch import VALUE, CategoricalEdges, EdgeSet, NumericEdges, categorical_edges, numeric_edges
from kedge.sketch.edges import KNOWN_VALUES, NUMERIC_CELLS, TOP_VALUES

GRID = np.linspace(0, 1, NUMERIC_CELLS + 1)


def edges_of(column: list[float]) -> NumericEdges:
    edges = numeric_edges(np.quantile(np.float32(column), GRID))
    assert edges is not None
    return edges


def cells_of(edges: NumericEdges, column: list[float]) -> list[int]:
    cells = np.searchsorted(np.float32(edges.edges), np.float32(column), side="right")
    return np.bincount(cells, minlength=edges.size).tolist()


def test_a_continuous_column_gets_twenty_cells_of_about_five_percent():
    column = np.random.default_rng(1).normal(size=10_000).tolist()
    edges = edges_of(column)
    counts = cells_of(edges, column)
    assert edges.size == NUMERIC_CELLS + 3
    assert counts[0] == counts[-1] == counts[-2] == 0
    assert all(495 <= n <= 505 for n in counts[1:-2])


def test_a_constant_column_gets_one_cell_that_holds_just_its_value():
    edges = edges_of([7.0] * 50)
    assert cells_of(edges, [6.9, 7.0, 7.1]) == [1, 1, 1, 0]
    assert edges.edges == (7.0, float(np.nextafter(np.float32(7), np.float32(8))))


def test_duplicate_quantiles_are_dropped():
    edges = edges_of([0.0] * 90 + list(range(1, 11)))
    assert list(edges.edges) == sorted(set(edges.edges))
    assert sum(cells_of(edges, [0.0] * 90 + list(range(1, 11)))) == 100


@pytest.mark.parametrize("ones", [3, 50, 97])
def test_flags_of_zero_and_one_have_a_cell_each_however_rare_one_is(ones):
    column = [0.0] * (100 - ones) + [1.0] * ones
    assert sorted(n for n in cells_of(edges_of(column), column) if n) == sorted([100 - ones, ones])


def test_the_two_highest_ratings_have_a_cell_each():
    column = [float(i % 5 + 1) for i in range(100)]
    assert [n for n in cells_of(edges_of(column), column) if n] == [20] * 5


def test_a_column_that_is_all_missing_has_no_edges():
    assert numeric_edges([np.nan] * 21) is None
    assert numeric_edges([]) is None
    assert categorical_edges([]) is None
    assert categorical_edges([("gone", 0)]) is None


def test_non_finite_quantiles_are_left_out():
    assert numeric_edges([np.nan, 1.0, 2.0, np.inf]) == numeric_edges([1.0, 2.0])


def test_edges_are_float32_so_that_every_store_compares_the_same_numbers():
    edges = numeric_edges([0.1, 0.2, 0.3])
    assert edges is not None
    assert all(float(np.float32(e)) == e for e in edges.edges)


def test_the_last_edge_is_the_next_float_above_the_maximum():
    edges = numeric_edges([1.0, 2.0, 5.0])
    assert edges is not None
    assert edges.edges[-1] == float(np.nextafter(np.float32(5.0), np.float32(np.inf)))


@given(st.lists(st.floats(width=32), max_size=60))
def test_edges_of_any_column_rise_are_finite_and_hold_every_value_but_the_largest_float(column):
    edges = numeric_edges(np.quantile(column, GRID) if column and np.isfinite(column).all() else column)
    if edges is None:
        assert not np.isfinite(column).any()
        return
    assert len(edges.edges) >= 2
    assert all(a < b for a, b in zip(edges.edges, edges.edges[1:], strict=False))
    assert np.isfinite(edges.edges).all()
    finite = [v for v in column if np.isfinite(v)]
    if max(finite) < 3.4028233e38:
        outside = cells_of(edges, finite)
        assert outside[0] == outside[-2] == 0


def test_categories_are_ranked_by_count_then_name_and_the_tail_is_other():
    counts = [(f"v{i:03d}", 10) for i in range(60)] + [("common", 99), ("never", 0)]
    edges = categorical_edges(reversed(counts))
    assert edges is not None
    assert edges.values[:3] == ("common", "v000", "v001")
    assert len(edges.values) == TOP_VALUES
    assert edges.others == tuple(f"v{i:03d}" for i in range(49, 60))
    assert edges.names[-3:] == ("other", "unseen", "missing")
    assert edges.size == len(edges.names) == TOP_VALUES + 3


def test_categories_beyond_the_known_ones_count_as_unseen():
    edges = categorical_edges((f"id{i}", 1) for i in range(KNOWN_VALUES + 500))
    assert edges is not None
    assert len(edges.values) + len(edges.others) == KNOWN_VALUES


def test_an_edge_set_survives_json_and_keeps_its_hash():
    held = EdgeSet({"b": NumericEdges((0.0, 1.0)), "ü": CategoricalEdges(("x", "1"), ("y",))})
    found = EdgeSet.from_json(json.loads(json.dumps(held.to_json())))
    assert found == held
    assert found.hash == held.hash


def test_the_hash_is_of_the_content_alone():
    a, b = NumericEdges((0.0, 1.0)), CategoricalEdges(("x",))
    assert EdgeSet({"f": a, "g": b}).hash == EdgeSet({"g": b, "f": a}).hash
    assert EdgeSet({"f": a}).hash != EdgeSet({"g": a}).hash
    assert NumericEdges((0.0, 1.0)).hash != NumericEdges((0.0, 2.0)).hash
    assert CategoricalEdges(("x", "y")).hash != CategoricalEdges(("x",), ("y",)).hash


def test_whole_numbers_and_negative_zero_hash_as_the_floats_they_equal():
    held = EdgeSet({"f": NumericEdges((0.0, 1.0))})
    assert EdgeSet.from_json({"f": {"edges": [0, 1]}}).hash == held.hash
    assert NumericEdges((-0.0, 1.0)).hash == NumericEdges((0.0, 1.0)).hash


def test_edges_of_the_predicted_value_are_counted_and_hashed_but_are_no_feature():
    features = {"age": NumericEdges((0.0, 1.0)), "country": CategoricalEdges(("de",))}
    plain, both = EdgeSet(features), EdgeSet(features, NumericEdges((2.0, 3.0)))
    assert list(both.counted) == ["age", "country", VALUE]
    assert list(both.counted_numeric) == ["age", VALUE]
    assert (both.features, both.numeric.keys()) == (features, {"age"})
    assert both.hash != plain.hash != EdgeSet({**features, "x": NumericEdges((2.0, 3.0))}).hash
    assert EdgeSet.from_json(json.loads(json.dumps(both.to_json())), {"edges": [2, 3]}) == both
    assert EdgeSet.from_json(plain.to_json()).hash == plain.hash
