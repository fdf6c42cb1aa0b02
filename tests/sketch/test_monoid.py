"""A part of two sets of rows is the sum of their parts: the law that every rollup and window rests on."""

import math
import pickle
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kedge.records import Prediction
from kedge.sketch import (
    LATENCY,
    Cells,
    Core,
    Custom,
    Distinct,
    EdgeSet,
    Labels,
    Moments,
    NumericEdges,
    Summary,
    Tally,
    total,
)
from kedge.sketch.custom import hash_of
from kedge.sketch.parts import add_maps, sum_of_maps
from tests.sketch.strategies import EDGES, rows
from tests.support.oracle import differences, same_moments, summary_of

quick = settings(max_examples=20, deadline=None)
columns = st.lists(st.floats(-1e9, 1e9, width=32), max_size=30)


def same(a: Summary, b: Summary) -> bool:
    pairs = [(a.core, b.core), (a.cells, b.cells), (a.labels, b.labels), (a.custom, b.custom)]
    found = [line for x, y in pairs if x is not None and y is not None for line in differences(x, y)]
    assert not found, found
    return [x is None for x, _ in pairs] == [y is None for _, y in pairs]


def read(held: list[Prediction]) -> Summary:
    return replace(summary_of(held, EDGES), custom=custom_of(held))


def custom_of(held: list[Prediction]) -> Custom:
    """What is counted of the failed rows, in plain Python: their rows, latencies and classes."""
    failed = [row for row in held if row.failed]
    if not failed:
        return Custom()
    latencies = [float(np.float32(row.latency_ms)) for row in failed if row.latency_ms is not None]
    moments, cells = Moments.of(latencies), LATENCY.count(latencies)
    classes = frozenset(hash_of(row.cls) for row in failed if row.cls is not None)
    return Custom(
        {
            "rows": Tally(len(failed)),
            "cells": Tally(len(failed), moments, cells),
            "distinct": Tally(len(failed), distinct=Distinct.of(classes)),
        }
    )


def test_different_values_beyond_the_most_are_told_as_more_in_whatever_order_they_are_added():
    a, b, c = (Distinct.of(frozenset(range(start, start + 500))) for start in (0, 400, 800))
    assert (a + b).hashes == frozenset(range(900))
    assert (a + b) + c == a + (b + c) == Distinct(more=True)
    assert Distinct(more=True) + a == Distinct(more=True)


@quick
@given(rows, rows)
def test_the_sum_of_two_summaries_is_the_summary_of_the_rows_put_together(a, b):
    assert same(read(a) + read(b), read(a + b))


@quick
@given(rows, rows)
def test_addition_commutes(a, b):
    assert same(read(a) + read(b), read(b) + read(a))


@quick
@given(rows, rows, rows)
def test_addition_is_associative(a, b, c):
    a, b, c = read(a), read(b), read(c)
    assert same((a + b) + c, a + (b + c))


@quick
@given(rows)
def test_the_summary_of_no_rows_is_the_zero(a):
    summary, zero = read(a), Summary.zero(EDGES)
    assert summary + zero == summary == zero + summary
    assert read([]) == zero


@quick
@given(st.lists(rows, max_size=3))
def test_total_equals_the_summary_of_all_rows(several):
    together = [row for held in several for row in held]
    assert same(total((read(held) for held in several), EDGES), read(together))


def test_the_total_of_summaries_keeps_their_cells_without_being_told_the_edges():
    row = Prediction(id="1", timestamp=0, ingested=0, model="m", num={"age": 2.0})
    assert total([read([row]), read([row])]).cells == read([row, row]).cells
    assert total([]).cells is None


def test_a_part_that_one_side_has_not_computed_is_not_computed_of_the_sum():
    summed = Summary(Core(rows=3), None, Labels()) + Summary(Core(rows=4), Cells.zero(EDGES), None)
    assert summed == Summary(Core(rows=7), None, None)


def test_cells_on_different_edges_never_add():
    other = EdgeSet({"age": NumericEdges((0.0, 1.0)), "": EDGES.features[""]})
    assert list((Cells.zero(EDGES) + Cells.zero(other)).features) == [""]


# --- moments --------------------------------------------------------------------------------------------


@given(columns, columns)
@example([1e9], [1e9, 1e9])
@example([16777216.0] * 5, [16777215.0] * 7)
def test_merged_moments_are_those_of_the_columns_put_together(a, b):
    assert same_moments(Moments.of(a + b), Moments.of(a) + Moments.of(b))


@given(columns)
def test_moments_agree_with_numpy(a):
    moments = Moments.of(a)
    assert moments.n == len(a)
    if len(a) > 1:
        scale = max(map(abs, a)) or 1.0
        assert moments.mean == pytest.approx(np.mean(a), rel=1e-12, abs=1e-12 * scale)
        assert moments.std == pytest.approx(np.std(a, ddof=1), rel=1e-9, abs=1e-9 * scale)
        assert (moments.low, moments.high) == (min(a), max(a))
        assert moments.stderr == pytest.approx(moments.std / math.sqrt(len(a)))


def test_a_thousand_merges_lose_no_digits_where_a_sum_of_squares_would():
    values = [1e6 + i % 7 * 1e-3 for i in range(1_000)]
    merged = Moments.ZERO
    for value in values:
        merged = merged + Moments.of([value])
    assert merged.variance == pytest.approx(np.var(values, ddof=1), rel=1e-6)


def test_one_value_has_no_spread_and_none_has_no_mean_worth_telling():
    assert math.isnan(Moments.of([3.0]).std)
    assert Moments.of([]) == Moments.ZERO
    assert Moments.ZERO.total == 0.0


def test_equal_content_is_equal_whatever_the_order_of_addition():
    held = [Prediction(id=str(i), timestamp=0, ingested=0, model="m", cls="ab"[i % 2]) for i in range(6)]
    orders = [held, held[::-1], held[3:] + held[:3]]
    sums = [total([read([row]) for row in order], EDGES) for order in orders]
    assert all(a == b for a, b in pairwise(sums))


counted = st.dictionaries(st.sampled_from("abc"), st.text("xyz", min_size=1, max_size=3), max_size=4)
"""Texts: what their sum is tells the order of the additions, which the last digits of floats depend on."""


@given(st.lists(counted, min_size=1, max_size=8), st.data())
def test_a_sum_of_maps_put_off_is_the_sum_made_at_once_in_whatever_order_it_is_looked_at(
    maps: list[dict[str, str]], data: st.DataObject
) -> None:
    sums: list[Mapping[str, str]] = [maps[0]]
    plain = [maps[0]]
    for more in maps[1:]:
        at, before = data.draw(st.integers(0, len(sums) - 1)), data.draw(st.booleans())
        sums.append(sum_of_maps(more, sums[at]) if before else sum_of_maps(sums[at], more))
        plain.append(add_maps(more, plain[at]) if before else add_maps(plain[at], more))
    for at in data.draw(st.permutations(range(len(sums)))):
        assert dict(sums[at]) == plain[at]
        assert len(sums[at]) == len(plain[at])
        assert [key in sums[at] for key in "abc"] == [key in plain[at] for key in "abc"]
        assert pickle.loads(pickle.dumps(sums[at])) == plain[at]
    assert maps[0] == plain[0], "what was added stays as it is"


def test_the_maps_of_years_of_buckets_add_up_too() -> None:
    bucket = Core(rows=1, numeric={"age": Moments(1, 2.0, 0.0, 2.0, 2.0)}, present={"city": 1})
    whole = total(Summary(core=bucket) for _ in range(20_000)).core
    assert whole is not None
    assert whole.numeric == {"age": Moments(20_000, 2.0, 0.0, 2.0, 2.0)}
    assert whole.present == {"city": 20_000}
