"""Packed parts come back as they were, and a format of a later kedge is refused in words."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.errors import KedgeError
from kedge.sketch import (
    LATENCY,
    SCORE_CELLS,
    Cells,
    Core,
    Custom,
    Distinct,
    Labels,
    Moments,
    PartName,
    Tally,
    pack,
    unpack,
)
from tests.sketch.strategies import EDGES, rows
from tests.support.oracle import summary_of


@settings(max_examples=25, deadline=None)
@given(rows)
def test_every_part_comes_back_equal(held):
    summary = summary_of(held, EDGES)
    assert unpack(PartName.CORE, pack(summary.core)) == summary.core
    assert unpack(PartName.CELLS, pack(summary.cells)) == summary.cells
    assert unpack(PartName.LABELS, pack(summary.labels)) == summary.labels


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.lists(st.one_of(st.just(0), st.integers(0, 2**62)), min_size=1, max_size=40),
)
def test_any_name_and_any_count_survive(name, counts):
    cells = Cells({name: ("0123", np.array(counts, np.int64)), "other": ("ff", np.zeros(3, np.int64))})
    assert unpack(PartName.CELLS, pack(cells)) == cells


@pytest.mark.parametrize("count", [255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**40])
def test_counts_at_the_limits_of_each_width_survive(count):
    scores = np.zeros(SCORE_CELLS + 1, np.int64)
    scores[[0, 57, SCORE_CELLS]] = count
    core = Core(rows=count, scores={"fraud": scores}, present={"a.b": count}, invalid={"\x00": 1})
    found = unpack(PartName.CORE, pack(core))
    assert found == core
    assert found.scores["fraud"].dtype == np.int64


def test_what_comes_back_can_be_added_to():
    core = unpack(PartName.CORE, pack(Core(rows=1, latency=LATENCY.count([3.0]))))
    assert (core + core).latency.sum() == 2
    labels = unpack(PartName.LABELS, pack(Labels(rows=1)))
    assert (labels + labels).rows == 2


def test_a_part_of_the_format_before_attributions_reads_as_without_them_and_is_still_written_so():
    old = pack(Core(rows=3, present={"x": 2}, invalid={"y": 1}))
    assert old[0] == 1
    read = unpack(PartName.CORE, old)
    assert (read.rows, read.attributions) == (3, {})
    explained = Core(rows=3, attributions={"x": Moments.of([0.5, 2.0])})
    assert pack(explained)[0] == 2
    assert unpack(PartName.CORE, pack(read + explained)).attributions == explained.attributions


def test_measurements_and_what_users_count_come_back_as_they_were():
    core = Core(rows=3, measured={"business.cost": Moments.of([0.5, 2.0])})
    assert unpack(PartName.CORE, pack(core)) == core
    assert pack(core)[0] == 3
    both = Core(rows=3, attributions={"x": Moments.of([0.5])}, measured={"resource.cpu": Moments.of([2.0])})
    assert unpack(PartName.CORE, pack(both)) == both
    tallies = {
        "rows": Tally(3),
        "cells": Tally(3, Moments.of([1.0, 5.0]), LATENCY.count([1.0, 5.0])),
        "distinct": Tally(3, distinct=Distinct(frozenset({0, 2**64 - 1}))),
        "more": Tally(3, distinct=Distinct(more=True)),
    }
    for held in ({}, tallies):
        assert unpack(PartName.CUSTOM, pack(Custom(held))) == Custom(held)


def test_labels_of_the_format_before_ranks_read_as_without_them_and_are_still_written_so():
    old = pack(Labels(rows=3))
    assert old[0] == 1
    read = unpack(PartName.LABELS, old)
    assert (read.rows, read.ranks) == (3, {})
    cells = np.arange(SCORE_CELLS, dtype=np.int64)
    held = Labels(rows=3, ranks={("a", True): cells, ("a", False): cells[::-1]})
    assert pack(held)[0] == 4
    assert unpack(PartName.LABELS, pack(held)) == held
    assert unpack(PartName.LABELS, pack(read + held)).ranks.keys() == held.ranks.keys()


def test_equal_parts_have_equal_bytes_whatever_order_they_were_built_in():
    a = Core(rows=2, present={"x": 1, "y": 2})
    b = Core(rows=2, present={"y": 2, "x": 1})
    assert pack(a) == pack(b)


@pytest.mark.parametrize("data", [b"", b"\x05" + zlib.compress(b"\x90"), b"{}"])
def test_an_unknown_format_is_refused_with_the_way_out(data):
    with pytest.raises(KedgeError, match="upgrade kedge"):
        unpack(PartName.CORE, data)


def test_a_day_of_twenty_five_features_takes_about_a_kilobyte():
    generator = np.random.default_rng(1)
    counts = generator.poisson(70, (25, 56)).astype(np.int64)
    cells = Cells({f"feature_{i}": (f"{i:016x}", row) for i, row in enumerate(counts)})
    assert len(pack(cells)) < 2_000
