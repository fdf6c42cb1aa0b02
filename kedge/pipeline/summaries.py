"""Reading summaries: parts of buckets from the store, put together into windows."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kedge.sketch import AnyPart, Cells, Core, EdgeSet, Labels, PartName, Summary
from kedge.store.base import Group, Grouping, PartRow, SummaryStore, sum_versions
from kedge.windows import DAY, Millis, Window, tile

SUMS_KEPT = 1000
Buckets = dict[Millis, dict[Group, AnyPart]]


@dataclass
class _Shelf:
    """The parts of one (model, tier, part, edges) that were read, for all groupings, over one unbroken
    range.
    """

    start: Millis
    end: Millis
    buckets: Buckets = field(default_factory=lambda: defaultdict(dict))


class _Sum(NamedTuple):
    total: AnyPart
    buckets: int
    """How many parts it is the sum of."""

    def plus(self, part: AnyPart) -> "_Sum":
        return _Sum(self.total + part, self.buckets + 1)  # type: ignore[operator]

    def merged(self, other: "_Sum") -> "_Sum":
        return _Sum(self.total + other.total, self.buckets + other.buckets)  # type: ignore[operator]


_SumName = tuple[str, Window, PartName, str, Grouping]


@dataclass
class SummaryReader:
    """Sums stored summaries over windows; each stored part is read and unpacked once while it is kept.

    Safe for threads: a row that is written while its range is being read must not be lost between the two,
    so one lock covers reading a range and remembering what was written.
    """

    store: SummaryStore
    keep: bool = False
    """Keep what was read from one tick to the next: right only while all writes pass through `remember`."""
    longest: Millis = 400 * DAY
    _shelves: dict[tuple[str, Millis, PartName, str], _Shelf] = field(default_factory=dict)
    _summed: dict[_SumName, dict[Group, _Sum]] = field(default_factory=dict)
    _changes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begin(self) -> None:
        """A new tick: forget what another worker may have changed."""
        with self._lock:
            self._forget_sums()
            if not self.keep:
                self._shelves.clear()

    def remember(self, rows: Iterable[PartRow]) -> None:
        """Rows that were just written."""
        with self._lock:
            self._forget_sums()
            for row in rows:
                key = row.key
                shelf = self._shelves.get((key.model, key.tier, key.part, key.edges))
                if shelf and shelf.start <= key.bucket < shelf.end:
                    shelf.buckets[key.bucket][key.group] = row.part

    def parts(self, model: str, tier: Millis, window: Window, part: PartName, edges: str = "") -> Buckets:
        """The parts of every bucket in a window (aligned to `tier`), by bucket and group."""
        with self._lock:
            shelf = self._reach(model, tier, window, part, edges)
            found = {b: shelf.buckets[b] for b in range(window.start, window.end, tier) if b in shelf.buckets}
            self._trim(shelf)
        return found

    def _reach(self, model: str, tier: Millis, window: Window, part: PartName, edges: str) -> _Shelf:
        """The shelf, extended to hold the window."""
        name = (model, tier, part, edges)
        shelf = self._shelves.get(name)
        if shelf is None or window.start > shelf.end or window.end < shelf.start:
            shelf = self._shelves[name] = _Shelf(window.start, window.start)
        for gap in (Window(window.start, shelf.start), Window(shelf.end, window.end)):
            if gap.start < gap.end:
                for row in self.store.read(model, tier, gap, (part,), edges=edges):
                    shelf.buckets[row.key.bucket][row.key.group] = row.part
        shelf.start, shelf.end = min(shelf.start, window.start), max(shelf.end, window.end)
        return shelf

    def _trim(self, shelf: _Shelf) -> None:
        if shelf.end - shelf.start > self.longest:
            shelf.start = shelf.end - self.longest
            for bucket in [b for b in shelf.buckets if b < shelf.start]:
                del shelf.buckets[bucket]

    def window(
        self,
        model: str,
        base: Millis,
        window: Window,
        parts: frozenset[PartName],
        grouping: Grouping = (),
        edges: EdgeSet | None = None,
    ) -> dict[Group, Summary]:
        """The summary of every group with rows in a window aligned to `base`; the total is always there.

        Cells are None (*not computed*) where some bucket with rows has none on these edges.
        """
        wanted = parts | {PartName.CORE}
        if edges is None:
            wanted -= {PartName.CELLS}
        sums = {
            part: self._sums(
                model, base, window, part, edges.hash if edges and part is PartName.CELLS else "", grouping
            )
            for part in wanted
        }
        found: dict[Group, Summary] = {}
        for group, core in sums[PartName.CORE].items():
            # Every bucket has a core; one that lacks another part has no labels, or no cells yet.
            held = {
                part: by_group[group].total
                for part, by_group in sums.items()
                if group in by_group
                and (part is not PartName.CELLS or by_group[group].buckets == core.buckets)
            }
            found[group] = bucket_summary(held, wanted)
        if not grouping:
            found.setdefault((), empty(wanted, edges))
        return found

    def _sums(
        self, model: str, base: Millis, window: Window, part: PartName, edges: str, grouping: Grouping
    ) -> "dict[Group, _Sum]":
        """One part summed over a window, by group. Rules that look at the same window at a step share it."""
        name = (model, window, part, edges, grouping)
        if (known := self._summed.get(name)) is not None:
            return known
        changes = self._changes
        found: dict[Group, _Sum] = {}
        spans = tile(window, base)
        for span in spans:
            bounds = Window(span.start, span.end)
            if len(spans) > 1 and span.tier == DAY:
                # The days of a long window stay the same while its end moves by the hour.
                for group, days in self._sums(model, DAY, bounds, part, edges, grouping).items():
                    found[group] = found[group].merged(days) if group in found else days
                continue
            for groups in self.parts(model, span.tier, bounds, part, edges).values():
                for group, held in groups.items():
                    if tuple(dimension for dimension, _ in group) == grouping:
                        found[group] = found[group].plus(held) if group in found else _Sum(held, 1)
        with self._lock:
            if len(self._summed) >= SUMS_KEPT:
                self._summed.clear()
            if changes == self._changes:  # else it may lack a row that was just written
                self._summed[name] = found
        return found

    def _forget_sums(self) -> None:
        self._summed.clear()
        self._changes += 1


def bucket_summary(parts: Mapping[PartName, AnyPart], wanted: frozenset[PartName]) -> Summary:
    """One bucket's parts as a Summary of the wanted ones.

    Rows without a labels part have no labels; without cells, no cells *yet*.
    """
    core, cells, labels = (parts.get(name) for name in (PartName.CORE, PartName.CELLS, PartName.LABELS))
    return Summary(
        core if isinstance(core, Core) else None,
        cells if isinstance(cells, Cells) and PartName.CELLS in wanted else None,
        (labels if isinstance(labels, Labels) else Labels()) if PartName.LABELS in wanted else None,
    )


def empty(wanted: frozenset[PartName], edges: EdgeSet | None) -> Summary:
    """Of no rows: every wanted part is computed, and zero."""
    return Summary(
        Core(),
        Cells.zero(edges) if edges is not None and PartName.CELLS in wanted else None,
        Labels() if PartName.LABELS in wanted else None,
    )


def roll_up(children: Sequence[PartRow], tier: Millis) -> list[PartRow]:
    """Sum the parts of one tier into buckets of a coarser one.

    A sum's version is the sum of its children's fingerprints within their newest epoch. Cells are summed only
    where every child with rows has them: a part that is missing in one child is not computed in the sum.
    """
    sums: dict[tuple[Millis, Group, PartName, str], list[PartRow]] = defaultdict(list)
    for row in children:
        bucket = row.key.bucket - row.key.bucket % tier
        sums[bucket, row.key.group, row.key.part, row.key.edges].append(row)
    rolled = []
    for (bucket, group, part, _), rows in sums.items():
        if part is PartName.CELLS and len(rows) < len(sums.get((bucket, group, PartName.CORE, ""), ())):
            continue
        total: AnyPart = rows[0].part
        for row in rows[1:]:
            total = total + row.part  # type: ignore[operator]
        key = rows[0].key._replace(tier=tier, bucket=bucket)
        rolled.append(PartRow(key, sum_versions(r.version for r in rows), total))
    return rolled
