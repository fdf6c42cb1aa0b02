"""Sums of parts over runs of buckets, put together from blocks that were summed once. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from kedge.sketch import AnyPart
from kedge.store.base import Group, Grouping, PartRow
from kedge.windows import Millis, Window

Buckets = dict[Millis, dict[Group, AnyPart]]

LEAST = 4
"""Buckets of the smallest blocks: smaller ones would save little, and hold as much as the buckets do."""
MOST = 64
"""Of the largest; the others are twice as long as the next smaller ones."""


class Sum(NamedTuple):
    total: AnyPart
    buckets: int
    """How many parts it is the sum of."""

    def merged(self, other: "Sum") -> "Sum":
        return Sum(self.total + other.total, self.buckets + other.buckets)  # type: ignore[operator]


Sums = dict[Group, Sum]


def add(found: Sums, more: Sums) -> None:
    """Add `more` to `found`, in place."""
    for group, one in more.items():
        found[group] = found[group].merged(one) if group in found else one


@dataclass(eq=False)
class Shelf:
    """The parts of one (model, tier, part, edges) that were read, for all groupings, over one unbroken range.

    A window slides by a bucket at a time, and shares all but its ends with the last one: so the sums of its
    blocks (aligned to their own length, so that the same window is always the same sum) are kept beside the
    buckets until one of these changes.
    """

    start: Millis
    end: Millis
    tier: Millis
    _rows: dict[Millis, dict[Grouping, dict[Group, PartRow]]] = field(default_factory=dict)
    """By bucket. As they were read: what is in no sum is never unpacked."""
    _blocks: dict[tuple[Millis, Millis], dict[Grouping, Sums]] = field(default_factory=dict)
    """By length and start."""
    wanted: Millis | None = None
    """From where on it was asked for in advance: what the steps of this tick will read is not trimmed."""

    def touches(self, window: Window) -> bool:
        return window.start <= self.end and window.end >= self.start

    @property
    def lengths(self) -> tuple[Millis, ...]:
        """Of blocks, longest first."""
        return _lengths(self.tier)

    def put(self, row: PartRow) -> None:
        bucket = row.key.bucket
        self._rows.setdefault(bucket, {}).setdefault(row.key.grouping, {})[row.key.group] = row
        for length in self.lengths:
            self._blocks.pop((length, bucket - bucket % length), None)

    def cut(self, end: Millis) -> None:
        """Forget what begins at `end` or later."""
        self.end = end
        self._keep_within()

    def trim(self, start: Millis) -> None:
        """Forget what begins before `start`."""
        self.start = start
        self._keep_within()

    def within(self, start: Millis, end: Millis, grouping: Grouping) -> Buckets:
        """The parts of every bucket in [start, end), which is in reach, by group of a grouping."""
        held = ((b, self._rows[b].get(grouping, {})) for b in range(start, end, self.tier) if b in self._rows)
        return {b: {group: row.part for group, row in rows.items()} for b, rows in held}

    def sums(self, start: Millis, end: Millis, grouping: Grouping) -> Sums:
        """The sum of each group of a grouping over [start, end), which is in reach."""
        found: Sums = {}
        while start < end:
            length = next((n for n in self.lengths if not start % n and start + n <= end), self.tier)
            add(found, self._block(length, start, grouping))
            start += length
        return found

    def _block(self, length: Millis, start: Millis, grouping: Grouping) -> Sums:
        if length == self.tier:
            rows = self._rows.get(start, {}).get(grouping, {})
            return {group: Sum(row.part, 1) for group, row in rows.items()}
        by_grouping = self._blocks.setdefault((length, start), {})
        if grouping not in by_grouping:
            finer = length // 2 if length > LEAST * self.tier else self.tier
            total: Sums = {}
            for at in range(start, start + length, finer):
                add(total, self._block(finer, at, grouping))
            by_grouping[grouping] = total
        return by_grouping[grouping]

    def _keep_within(self) -> None:
        for bucket in [b for b in self._rows if not self.start <= b < self.end]:
            del self._rows[bucket]
        for length, start in [k for k in self._blocks if k[1] < self.start or k[0] + k[1] > self.end]:
            del self._blocks[length, start]


@cache
def _lengths(tier: Millis) -> tuple[Millis, ...]:
    return tuple(tier * 2**n for n in range(MOST.bit_length() - 1, LEAST.bit_length() - 2, -1))


def shelf_among(shelves: list[Shelf], window: Window, tier: Millis, most: int) -> Shelf:
    """The shelf that holds a window, else one that it touches, else a new one; of more than `most` the one
    that was not used for longest goes. The one that was used last comes last.
    """
    found = next((s for s in reversed(shelves) if s.start <= window.start and window.end <= s.end), None)
    if found is None:
        found = next((s for s in reversed(shelves) if s.touches(window)), None)
    if found is not None:
        shelves.remove(found)
        shelves.append(found)
        return found
    if len(shelves) >= most:
        del shelves[0]
    shelves.append(Shelf(window.start, window.start, tier))
    return shelves[-1]


def together(windows: Iterable[Window], near: Millis) -> list[Window]:
    """Windows no further apart than `near` as one that covers them and what is between."""
    joined: list[Window] = []
    for window in sorted(windows):
        if joined and window.start - joined[-1].end <= near:
            joined[-1] = Window(joined[-1].start, max(joined[-1].end, window.end))
        else:
            joined.append(window)
    return joined
