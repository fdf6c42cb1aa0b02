"""Sums over runs of buckets are what adding bucket by bucket gives, whatever changed in between."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kedge.pipeline.sums import LEAST, Shelf
from kedge.sketch import Core, PartName
from kedge.store.base import Group, PartRow, SummaryKey

M = 60_000
TOTAL: Group = ()
EU: Group = (("region", "eu"),)
END = 200
runs = st.tuples(st.integers(0, END), st.integers(0, END)).map(lambda pair: (min(pair), max(pair)))
puts = st.tuples(st.integers(0, END - 1), st.sampled_from([TOTAL, EU]), st.integers(1, 9))


def row(bucket: int, group: Group, core: Core) -> PartRow:
    return PartRow(SummaryKey("fraud", group, M, bucket * M, PartName.CORE), 1, core)


def shelf_of(rows: list[tuple[int, Group, int]]) -> Shelf:
    shelf = Shelf(0, END * M, M)
    for bucket, group, count in rows:
        shelf.put(row(bucket, group, Core(rows=count)))
    return shelf


def plainly(shelf: Shelf, start: int, end: int, group: Group) -> tuple[int, int]:
    buckets = shelf.within(start * M, end * M, tuple(name for name, _ in group))
    held: list[Any] = [groups[group] for groups in buckets.values() if group in groups]
    return sum(core.rows for core in held), len(held)


def summed(shelf: Shelf, start: int, end: int, group: Group) -> tuple[int, int]:
    found = shelf.sums(start * M, end * M, tuple(name for name, _ in group))
    if group not in found:
        return 0, 0
    total, buckets = found[group]
    assert isinstance(total, Core)
    return total.rows, buckets


@given(st.lists(puts, max_size=80), st.lists(st.tuples(runs, puts), min_size=1, max_size=8))
def test_a_sum_is_that_of_its_buckets_as_they_are_now(
    rows: list[tuple[int, Group, int]], asked: list[tuple[tuple[int, int], tuple[int, Group, int]]]
) -> None:
    shelf = shelf_of(rows)
    for (start, end), (bucket, group, count) in asked:
        for each in (TOTAL, EU):
            assert summed(shelf, start, end, each) == plainly(shelf, start, end, each)
        shelf.put(row(bucket, group, Core(rows=count)))
        for each in (TOTAL, EU):
            assert summed(shelf, start, end, each) == plainly(shelf, start, end, each)


@given(runs)
def test_what_is_cut_off_is_in_no_sum_when_it_is_read_anew(kept: tuple[int, int]) -> None:
    shelf = shelf_of([(bucket, TOTAL, 1) for bucket in range(END)])
    assert summed(shelf, 0, END, TOTAL) == (END, END)
    start, end = kept
    shelf.trim(start * M)
    shelf.cut(end * M)
    for bucket in [*range(start), *range(end, END)]:
        shelf.put(row(bucket, TOTAL, Core(rows=2)))
    shelf.start, shelf.end = 0, END * M
    assert summed(shelf, 0, END, TOTAL) == (2 * END - (end - start), END)


def test_a_window_that_moves_by_a_bucket_adds_only_what_is_new() -> None:
    shelf = shelf_of([(bucket, TOTAL, 1) for bucket in range(END)])
    added: list[int] = []

    class Counted(Core):
        def __add__(self, other: Any) -> Any:
            added.append(1)
            return Counted(rows=self.rows + other.rows)

    for bucket in range(END):
        shelf.put(row(bucket, TOTAL, Counted(rows=1)))
    assert summed(shelf, 40, 100, TOTAL) == (60, 60)
    for start in range(41, 101):
        added.clear()
        assert summed(shelf, start, start + 60, TOTAL) == (60, 60)
        assert len(added) < 60 / LEAST + 4 * LEAST
    del added[:]
    assert summed(shelf, 100, 160, TOTAL) == (60, 60)
    assert len(added) < LEAST * 3
