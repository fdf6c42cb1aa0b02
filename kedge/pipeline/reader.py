"""Reading summaries: parts of buckets from the store, or the logs, put together into windows."""

import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from kedge.alerting.inputs import Inputs
from kedge.analysis.maturity import BucketLabels
from kedge.pipeline.dirty import Feed, label_tier, runs_of
from kedge.pipeline.points import PointMemory
from kedge.pipeline.summaries import WHOLE, bucket_summary, empty
from kedge.pipeline.sums import Buckets, Shelf, Sums, add, shelf_among, together
from kedge.sketch import Core, EdgeSet, Labels, PartName, Summary
from kedge.store.base import Group, Grouping, PartRow, SummaryQuery, SummaryStore
from kedge.windows import DAY, HOUR, MINUTE, Millis, Span, Window, floor, tile

SUMS_KEPT = 1000


_SumName = tuple[str, Window, PartName, str, Grouping]
_WindowName = tuple[str, Window, frozenset[PartName], Grouping, str, str]
_ShelfName = tuple[str, Millis, PartName, str]
"""Model, tier, part and the hash of the edges."""


class Ask(NamedTuple):
    """One part of the buckets of a window."""

    model: str
    tier: Millis
    window: Window
    part: PartName
    edges: str
    grouping: Grouping


Count = Callable[[Sequence[Ask]], list[list[PartRow]]]
"""Parts of buckets from the logs."""
_AHEAD = 120
"""Buckets that are read ahead at most."""
_LONGEST: Mapping[Millis, Millis] = {MINUTE: 4 * HOUR, HOUR: 4 * DAY, DAY: 400 * DAY}
_SHELVES = 8
"""Ranges of one tier and part that are kept at most: what rules compare with may lie weeks back."""


@dataclass
class SummaryReader:
    """Sums stored summaries over windows; each stored part is read and unpacked once while it is kept.

    What is not stored (labels by the minute, buckets that are older than what their tier keeps) is counted in
    the logs by `count`, as far as it is asked for.

    Safe for threads: a row that is written while its range is being read must not be lost between the two,
    so one lock covers reading a range and remembering what was written.
    """

    store: SummaryStore
    count: Count | None = None
    keep: bool = False
    """Nobody else writes: what was read stays right while all writes pass through `remember`."""
    longest: Millis | None = None
    """How much of one tier is kept; by default what the windows of rules reach over (_LONGEST)."""
    ahead: Millis = 0
    """Up to when windows will be asked for next: a little more than one window is read at once."""
    points: PointMemory = field(default_factory=PointMemory)
    """Of series; they stand as long as what was read of summaries does."""
    _shelves: dict[_ShelfName, list[Shelf]] = field(default_factory=dict)
    """The one that was used last comes last."""
    _counted: dict[tuple[_ShelfName, Grouping], list[Shelf]] = field(default_factory=dict)
    _summed: dict[_SumName, Sums] = field(default_factory=dict)
    _windowed: dict[_WindowName, dict[Group, Summary]] = field(default_factory=dict)
    """Rules that look at one window at a step share its summaries, and so what was measured of them."""
    _inputs: dict[Hashable, Inputs] = field(default_factory=dict)
    _feed: Feed = field(default_factory=Feed)
    _floors: Mapping[Millis, Millis] = field(default_factory=dict)
    _turns: dict[str, int] = field(default_factory=dict)
    """By model: the turn (ModelFeed) up to which what is kept is known to be right."""
    _missing: dict[tuple[str, PartName], Callable[[Millis, Millis], bool]] = field(default_factory=dict)
    _cohorts: dict[str, dict[tuple[Millis, Millis], BucketLabels | None]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """By model, tier and bucket: what label maturity asks, of two months of every model; None: no rows."""
    _changes: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def begin(self, feed: Feed, floors: Mapping[Millis, Millis]) -> None:
        """Read as of this feed from now on: forget what another worker may have changed since the last."""
        with self._lock:
            self._forget_sums()
            self._missing.clear()
            for name, known in feed.models.items():
                if not self.keep and self._turns.get(name) != known.turn:
                    self._drop(name)
                self._turns[name] = known.turn
            for key, counted in list(self._counted.items()):
                (model, _, part, _), _ = key
                of_model = feed.models.get(model)
                if of_model is None or part is not PartName.LABELS:
                    del self._counted[key]
                    continue
                stand = of_model.labels_stand_until(self._feed.mark)
                if stand is None:
                    continue
                counted[:] = [shelf for shelf in counted if shelf.start < stand]
                for shelf in counted:
                    if stand < shelf.end:
                        shelf.cut(stand)
            for shelves in self._shelves.values():
                for shelf in shelves:
                    shelf.wanted = None
            self._feed, self._floors = feed, floors

    def took_turn(self, feed: Feed, models: Iterable[str]) -> None:
        """This worker processed buckets of the models, and nobody else did so since `begin`: or else its
        number in the feed tells."""
        with self._lock:
            for name in models:
                if self._turns.get(name) == feed.models[name].turn - 1:
                    self._turns[name] += 1

    def remember(self, rows: Iterable[PartRow]) -> None:
        """Rows that are stored as they are here."""
        with self._lock:
            self._forget_sums()
            rows = list(rows)
            self.points.changed((row.key.model, row.key.tier, row.key.bucket) for row in rows)
            for row in rows:
                key = row.key
                self._cohorts[key.model].pop((key.tier, key.bucket), None)
                for shelf in self._shelves.get((key.model, key.tier, key.part, key.edges), ()):
                    if shelf.start <= key.bucket < shelf.end:
                        shelf.put(row)

    def forget(self, models: Iterable[str]) -> None:
        """Of these models something else is stored than this worker thinks."""
        with self._lock:
            self._forget_sums()
            for name in models:
                self._drop(name)

    def cohorts(self, model: str, span: Span) -> list[BucketLabels]:
        """The rows and labels of every bucket with rows in a run of them."""
        with self._lock:
            known = self._cohorts[model]
            for run in self.unread_cohorts(model, span):
                cores = self.parts(model, span.tier, run, PartName.CORE)
                labels = self.parts(model, span.tier, run, PartName.LABELS)
                for bucket in range(run.start, run.end, span.tier):
                    core, held = cores.get(bucket, {}).get(()), labels.get(bucket, {}).get((), Labels())
                    known[span.tier, bucket] = (
                        BucketLabels(bucket, bucket + span.tier, core.rows, held.rows, held.delay)
                        if isinstance(core, Core) and isinstance(held, Labels)
                        else None
                    )
            found = [known[span.tier, bucket] for bucket in range(span.start, span.end, span.tier)]
            if not self._keeps_cohorts(model, span.tier):
                for bucket in range(span.start, span.end, span.tier):
                    del known[span.tier, bucket]
        return [cohort for cohort in found if cohort is not None]

    def unread_cohorts(self, model: str, span: Span) -> list[Window]:
        """The buckets of a run that `cohorts` would have to read."""
        known = self._cohorts[model]
        unread = [b for b in range(span.start, span.end, span.tier) if (span.tier, b) not in known]
        return runs_of(unread, span.tier, len(unread))

    def _keeps_cohorts(self, model: str, tier: Millis) -> bool:
        feed = self._feed.models.get(model)
        return feed is not None and tier >= label_tier(feed.base)

    def _drop(self, model: str) -> None:
        self._cohorts.pop(model, None)
        self.points.drop(model)
        for key in [key for key in self._shelves if key[0] == model]:
            del self._shelves[key]

    def parts(
        self,
        model: str,
        tier: Millis,
        window: Window,
        part: PartName,
        edges: str = "",
        grouping: Grouping = (),
    ) -> Buckets:
        """The parts of every bucket in a window (aligned to `tier`), by bucket and group of a grouping."""
        name = (model, tier, part, edges)
        with self._lock:
            stored_from = self._stored_from(model, tier, part, window)
            found: Buckets = {}
            if stored_from > window.start and self.count is not None:
                counted = self._recounted(name, Window(window.start, stored_from), grouping)
                found |= counted.within(window.start, stored_from, grouping)
            if stored_from < window.end:
                shelf = self._reach(name, Window(stored_from, window.end))
                found |= shelf.within(stored_from, window.end, grouping)
                self._trim(shelf, tier)
        return found

    def load(self, asks: Iterable[Ask]) -> None:
        """Read what will be asked for, all at once."""
        with self._lock:
            wanted: dict[tuple[bool, _ShelfName, Grouping], set[Window]] = defaultdict(set)
            for ask in asks:
                name = (ask.model, ask.tier, ask.part, ask.edges)
                from_here = self._stored_from(ask.model, ask.tier, ask.part, ask.window)
                for stored, window in (
                    (False, Window(ask.window.start, from_here)),
                    (True, Window(from_here, ask.window.end)),
                ):
                    if window.start < window.end:
                        wanted[stored, name, () if stored else ask.grouping].add(window)
            gaps: dict[bool, list[tuple[Shelf, Ask]]] = {True: [], False: []}
            reached: list[tuple[Shelf, Window]] = []
            for (stored, name, grouping), windows in wanted.items():
                model, tier, part, edges = name
                for window in together(windows, self._longest(tier)):
                    if stored:
                        shelf = self._shelf(name, window)
                    else:
                        shelf = self._counted_shelf(name, grouping, window)
                    for gap in self._gaps(shelf, window):
                        gaps[stored].append((shelf, Ask(model, tier, gap, part, edges, grouping)))
                    reached.append((shelf, window))
            answers: list[tuple[tuple[Shelf, Ask], list[PartRow]]] = []
            if gaps[True]:
                queries = [
                    SummaryQuery(a.model, a.tier, a.window, frozenset({a.part}), None, a.edges, a.edges)
                    for _, a in gaps[True]
                ]
                answers += zip(gaps[True], self.store.read_many(queries), strict=True)
            if gaps[False] and self.count is not None:
                answers += zip(gaps[False], self.count([a for _, a in gaps[False]]), strict=True)
            for shelf, window in reached:  # not before it was read: a store that fails leaves no gaps
                shelf.start, shelf.end = min(shelf.start, window.start), max(shelf.end, window.end)
                shelf.wanted = window.start if shelf.wanted is None else min(shelf.wanted, window.start)
            for (shelf, _), rows in answers:
                for row in rows:
                    shelf.put(row)

    def _stored_from(self, model: str, tier: Millis, part: PartName, window: Window) -> Millis:
        """Where in a window the stored buckets begin."""
        known = self._feed.models.get(model)
        if known is None or self.count is None:
            return window.start
        if part is PartName.LABELS and tier < label_tier(known.base):
            return window.end
        return min(max(self._floors.get(tier, window.start), window.start), window.end)

    def _recounted(self, name: _ShelfName, window: Window, grouping: Grouping) -> Shelf:
        """The shelf of what is counted, extended to hold the window."""
        model, tier, part, edges = name
        shelf = self._counted_shelf(name, grouping, window)
        count = self.count
        assert count is not None  # noqa: S101 -- `parts` has seen to it
        self._extend(
            shelf, window, tier, lambda gap: count([Ask(model, tier, gap, part, edges, grouping)])[0]
        )
        return shelf

    def _reach(self, name: _ShelfName, window: Window) -> Shelf:
        """The shelf, extended to hold the window."""
        model, tier, part, edges = name
        shelf = self._shelf(name, window)
        parts = frozenset({part})

        def stored(gap: Window) -> list[PartRow]:
            return self.store.read_many([SummaryQuery(model, tier, gap, parts, None, edges, edges)])[0]

        self._extend(shelf, window, tier, stored)
        return shelf

    def _shelf(self, name: _ShelfName, window: Window) -> Shelf:
        return shelf_among(self._shelves.setdefault(name, []), window, name[1], _SHELVES)

    def _counted_shelf(self, name: _ShelfName, grouping: Grouping, window: Window) -> Shelf:
        return shelf_among(self._counted.setdefault((name, grouping), []), window, name[1], _SHELVES)

    @staticmethod
    def _gaps(shelf: Shelf, window: Window) -> list[Window]:
        around = (Window(window.start, shelf.start), Window(shelf.end, window.end))
        return [gap for gap in around if gap.start < gap.end]

    def _extend(
        self, shelf: Shelf, window: Window, tier: Millis, read: Callable[[Window], Iterable[PartRow]]
    ) -> None:
        end = window.end
        if end > shelf.end:
            end = max(end, min(floor(self.ahead, tier), end + _AHEAD * tier))
        for gap in self._gaps(shelf, Window(window.start, end)):
            for row in read(gap):
                shelf.put(row)
        shelf.start, shelf.end = min(shelf.start, window.start), max(shelf.end, end)

    def _trim(self, shelf: Shelf, tier: Millis) -> None:
        start = shelf.end - self._longest(tier)
        if shelf.wanted is not None:
            start = min(start, shelf.wanted)
        if shelf.start < start:
            shelf.trim(start)

    def _longest(self, tier: Millis) -> Millis:
        return self.longest or _LONGEST.get(tier, DAY)

    def _lacks(self, model: str, part: PartName) -> Callable[[Millis, Millis], bool] | None:
        known = self._feed.models.get(model)
        if known is None:
            return None
        if (model, part) not in self._missing:
            self._missing[model, part] = known.missing(part)
        return self._missing[model, part]

    def window(
        self,
        model: str,
        base: Millis,
        window: Window,
        parts: frozenset[PartName],
        grouping: Grouping = (),
        edges: EdgeSet | None = None,
        custom: str = "",
    ) -> dict[Group, Summary]:
        """The summary of every group with rows in a window aligned to `base`; the total is always there.

        Cells are None (*not computed*) where some bucket with rows has none on these edges; so is custom,
        where one has none of these definitions.
        """
        digest = edges.hash if edges else ""
        wanted = _wanted(parts, bool(digest), bool(custom))
        name = (model, window, wanted, grouping, digest, custom)
        if (known := self._windowed.get(name)) is not None:
            return dict(known)
        on = {PartName.CELLS: digest, PartName.CUSTOM: custom}
        changes = self._changes
        sums = {part: self._sums(model, base, window, part, on.get(part, ""), grouping) for part in wanted}
        found: dict[Group, Summary] = {}
        for group, core in sums[PartName.CORE].items():
            # Every bucket has a core; one that lacks another part has no labels, or no cells yet.
            held = {
                part: by_group[group].total
                for part, by_group in sums.items()
                if group in by_group and (part not in WHOLE or by_group[group].buckets == core.buckets)
            }
            found[group] = bucket_summary(held, wanted)
        if not grouping and () not in found:
            found[()] = empty(wanted, edges)
        with self._lock:
            if len(self._windowed) >= SUMS_KEPT:
                self._windowed.clear()
            if changes == self._changes:
                self._windowed[name] = dict(found)
        return found

    def _sums(
        self, model: str, base: Millis, window: Window, part: PartName, edges: str, grouping: Grouping
    ) -> Sums:
        """One part summed over a window, by group. Rules that look at the same window at a step share it."""
        name = (model, window, part, edges, grouping)
        if (known := self._summed.get(name)) is not None:
            return known
        changes = self._changes
        found: Sums = {}
        for span in tile(window, base, self._lacks(model, part)):
            bounds = Window(span.start, span.end)
            add(found, self._sum((model, span.tier, part, edges), bounds, grouping))
        with self._lock:
            if len(self._summed) >= SUMS_KEPT:
                self._summed.clear()
            if changes == self._changes:  # else it may lack a row that was just written
                self._summed[name] = found
        return found

    def _sum(self, name: _ShelfName, window: Window, grouping: Grouping) -> Sums:
        """One part summed over buckets of one tier: those that are counted in the logs, then the stored."""
        model, tier, part, _ = name
        with self._lock:
            stored_from = self._stored_from(model, tier, part, window)
            found: Sums = {}
            if stored_from > window.start and self.count is not None:
                counted = self._recounted(name, Window(window.start, stored_from), grouping)
                add(found, counted.sums(window.start, stored_from, grouping))
            if stored_from < window.end:
                shelf = self._reach(name, Window(stored_from, window.end))
                add(found, shelf.sums(stored_from, window.end, grouping))
                self._trim(shelf, tier)
        return found

    def inputs(self, name: Hashable, summary: Summary, make: Callable[[], Inputs]) -> Inputs:
        """What the rules are judged on that look at one window of a group alike: made once, as long as the
        summary is the same."""
        known = self._inputs.get(name)
        if known is None or known.summary is not summary:
            if len(self._inputs) >= SUMS_KEPT:
                self._inputs.clear()
            known = self._inputs[name] = make()
        return known

    def _forget_sums(self) -> None:
        self._summed.clear()
        self._inputs.clear()
        self._windowed.clear()
        self._changes += 1


@cache
def _wanted(parts: frozenset[PartName], cells: bool, custom: bool) -> frozenset[PartName]:
    """What is read for parts: every bucket has a core; of the others what there are definitions for."""
    barred = {PartName.CELLS: not cells, PartName.CUSTOM: not custom}
    return frozenset(part for part in parts | {PartName.CORE} if not barred.get(part, False))
