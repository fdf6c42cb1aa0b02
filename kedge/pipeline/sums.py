"""Sums of parts over runs of buckets, put together from blocks that were summed once. Pure."""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from kedge.sketch import AnyPart
from kedge.store.base import Group, Grouping
from kedge.windows import Millis

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


@dataclass
class Shelf:
    """The parts of one (model, tier, part, edges) that were read, for all groupings, over one unbroken range.

    A window slides by a bucket at a time, and shares all but its ends with the last one: so the sums of its
    blocks (aligned to their own length, so that the same window is always the same sum) are kept beside the
    buckets until one of these changes.
    """

    start: Millis
    end: Millis
    tier: Millis
    buckets: Buckets = field(default_factory=lambda: defaultdict(dict))
    _blocks: dict[tuple[Millis, Millis], dict[Grouping, Sums]] = field(default_factory=dict)
    """By length and start."""

    @property
    def lengths(self) -> tuple[Millis, ...]:
        """Of blocks, longest first."""
        return _lengths(self.tier)

    def put(self, bucket: Millis, group: Group, part: AnyPart) -> None:
        self.buckets[bucket][group] = part
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

    def within(self, start: Millis, end: Millis) -> Buckets:
        """The parts of every bucket in [start, end), which is in reach."""
        return {b: self.buckets[b] for b in range(start, end, self.tier) if b in self.buckets}

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
            held = self.buckets.get(start, {})
            return {g: Sum(p, 1) for g, p in held.items() if tuple(name for name, _ in g) == grouping}
        by_grouping = self._blocks.setdefault((length, start), {})
        if grouping not in by_grouping:
            finer = length // 2 if length > LEAST * self.tier else self.tier
            total: Sums = {}
            for at in range(start, start + length, finer):
                add(total, self._block(finer, at, grouping))
            by_grouping[grouping] = total
        return by_grouping[grouping]

    def _keep_within(self) -> None:
        for bucket in [b for b in self.buckets if not self.start <= b < self.end]:
            del self.buckets[bucket]
        for length, start in [k for k in self._blocks if k[1] < self.start or k[0] + k[1] > self.end]:
            del self._blocks[length, start]


@cache
def _lengths(tier: Millis) -> tuple[Millis, ...]:
    return tuple(tier * 2**n for n in range(MOST.bit_length() - 1, LEAST.bit_length() - 2, -1))
