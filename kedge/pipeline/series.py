"""The series that a rule is judged on: its metrics in the windows before, read from summaries.

The windows are those that the rule was judged on itself, one after the other. Each is read once, however many
steps look back at it, and what a tick reads of them is asked for together with all else: more history is more
buckets of the same requests, and only the first time. A window of which a part is not summarised is left out.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np

from kedge.alerting.finding import AlertState
from kedge.alerting.series import SeriesRule
from kedge.analysis.measure import Context
from kedge.analysis.series import Ints, Series
from kedge.pipeline.dirty import ModelFeed
from kedge.pipeline.points import Point, PointMemory, Ring
from kedge.sketch import PartName, Summary
from kedge.store.base import Group
from kedge.windows import DAY, HOUR, Millis, Span, Window, floor, tile

Read = Callable[[Window], Mapping[Group, Summary]]
"""The groups of a window."""
ContextOf = Callable[[Group], Context]
_GOES_ON: Millis = 1 << 62
_SPARE = 64
"""Windows that a ring holds besides those that one step looks at: a tick may judge several."""


@dataclass
class PastWindows:
    """The windows before those that one rule is judged on, on one model, for one tick."""

    rule: SeriesRule
    model: str
    feed: ModelFeed
    keep: Hashable = None
    """What the points follow from, besides summaries; None: they do not stand after this tick."""
    _ring: Ring | None = field(default=None, init=False)

    def span(self, window: Window) -> Window:
        """All that is looked back at from a window, which is its last part."""
        start = max(window.end - self.rule.spans_back, floor(self.feed.first, self.rule.window))
        return Window(min(start, window.start), window.end)

    def starts(self, window: Window) -> Ints:
        """Of the windows before it."""
        return np.arange(self.span(window).start, window.start, self.rule.window, dtype=np.int64)

    def spans(
        self, window: Window, missing: Callable[[Millis, Millis], bool], points: PointMemory | None
    ) -> Iterator[Span]:
        """The buckets that reading what is not known takes: none coarser than a point."""
        length = self.rule.window
        unknown = self.ring(points).unknown(self.starts(window)).tolist()
        if unknown:
            coarsest = DAY if length >= DAY else HOUR
            yield from tile(Window(unknown[0], unknown[-1] + length), self.feed.base, missing, coarsest)

    def ring(self, points: PointMemory | None) -> Ring:
        """Where the points are: among those of former ticks, if they may be kept."""
        if self._ring is None:
            length = self.rule.window
            sizes = (length, self.rule.spans_back // length + _SPARE, len(self.rule.names))
            if points is None or self.keep is None:
                self._ring = Ring(*sizes)
            else:
                self._ring = points.ring(self.model, self.keep, *sizes)
                for tier, bucket in self._unmade:
                    self._ring.forget(bucket, bucket + tier)
        return self._ring

    def of(
        self,
        window: Window,
        group: Group,
        read: Read,
        context_of: ContextOf,
        state: AlertState | None,
        points: PointMemory | None = None,
    ) -> Series:
        """The series of one group before a window. `state`: the alert of the group, which knows when it
        fired."""
        every = self.starts(window)
        starts = every[~np.isin(every, list(self._lacking))] if self._lacking else every
        ring = self.ring(points)
        for start in ring.unknown(starts).tolist():
            groups = read(Window(start, start + self.rule.window))
            ring.put(start, {g: self._read(s, context_of(g)) for g, s in groups.items() if s.rows})
        n = len(self.rule.names)
        rows = ring.rows(group, starts).copy()
        there = rows[:, n] >= 0
        # Before its first rows a group has no zeros: it is not there.
        begun = int(np.argmax(there)) if there.any() else len(starts)
        if not there.all():
            nothing = self._read(Summary.zero(context_of(group).edges), context_of(group))
            rows[~there] = [*(value for value, _ in nothing), *(count for _, count in nothing)]
        starts, rows = starts[begun:], rows[begun:]
        counts = rows[:, n:].astype(np.int64)
        firing = np.zeros(len(starts), np.bool_)
        for start, end in self._fired(state):
            firing |= (start < starts + self.rule.window) & (starts < end)
        return Series(
            starts=self._local(starts),
            values=np.where(counts < self.rule.min_count, np.nan, rows[:, :n]),
            counts=counts,
            window=self.rule.window,
            now=int(self._local(np.array([window.start]))[0]),
            firing=firing,
            ongoing=state is not None and state.started is not None,
            left_out=len(every) - len(starts) - begun,
        )

    @cached_property
    def _lacking(self) -> frozenset[Millis]:
        """Where windows begin of which a part is not summarised."""
        buckets = set(self.feed.dirty)
        if {PartName.CELLS, PartName.CUSTOM} & self.rule.parts:
            buckets |= set(self.feed.history)
        return frozenset(floor(bucket, self.rule.window) for bucket in buckets)

    @property
    def _unmade(self) -> Iterator[tuple[Millis, Millis]]:
        """(tier, bucket) of labels that are counted in the logs as yet: nobody tells when these change."""
        if PartName.LABELS in self.rule.parts:
            for tier, held in self.feed.labels.items():
                yield from ((tier, bucket) for bucket, stale in held.items() if not stale.since)

    def _read(self, summary: Summary, context: Context) -> Point:
        metrics = self.rule.read(summary, context)
        return tuple((np.nan if m.value is None else float(m.value), m.n) for m in metrics)

    def _fired(self, state: AlertState | None) -> Iterable[tuple[Millis, Millis]]:
        """When the group's alert fired: from the first window that breached to the step that ended it.

        Waiting for its `for` is part of that, or each breach would make the next one usual.
        """
        if state is None or not self.rule.remembers:
            return
        for start, end in state.fired_before:
            yield start - self.rule.window, end
        if state.started is not None:
            yield state.started - self.rule.window, _GOES_ON

    def _local(self, times: Ints) -> Ints:
        """On the clock on the wall, where the rule tells times of the day apart."""
        if not self.rule.LOCAL or self.rule.timezone == "UTC":
            return times
        zone = ZoneInfo(self.rule.timezone)
        offsets = {}
        for hour in {int(t) // HOUR for t in times}:
            at = datetime.fromtimestamp(hour * HOUR / 1000, UTC).astimezone(zone)
            offset = at.utcoffset()
            offsets[hour] = round(offset.total_seconds() * 1000) if offset is not None else 0
        return times + np.array([offsets[int(t) // HOUR] for t in times], np.int64)
