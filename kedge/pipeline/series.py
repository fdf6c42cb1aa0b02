"""The series that a rule is judged on: its metrics in the windows before, read from summaries.

The windows are those that the rule was judged on itself, one after the other. Each is read once a tick,
however many steps look back at it, and what a tick reads of them is asked for together with all else: more
history is more buckets of the same requests. A window of which a part is not summarised is left out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
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
from kedge.sketch import PartName, Summary
from kedge.store.base import Group
from kedge.windows import DAY, HOUR, Millis, Span, Window, floor, tile

Read = Callable[[Window], Mapping[Group, Summary]]
"""The groups of a window."""
_Point = tuple[tuple[float, int], ...]
"""(value, n) of each metric; nan where there is none."""
_GOES_ON: Millis = 1 << 62


@dataclass
class PastWindows:
    """The windows before those that one rule is judged on, on one model, while nothing else is stored."""

    rule: SeriesRule
    feed: ModelFeed
    _points: dict[Window, dict[Group, _Point] | None] = field(default_factory=dict)
    """None: not summarised whole."""

    @cached_property
    def _lacking(self) -> frozenset[Millis]:
        """Where windows begin of which a part is not summarised."""
        buckets = set(self.feed.dirty)
        if PartName.CELLS in self.rule.parts:
            buckets |= set(self.feed.history)
        return frozenset(floor(bucket, self.rule.window) for bucket in buckets)

    def span(self, window: Window) -> Window:
        """All that is looked back at from a window, which is its last part."""
        start = max(window.end - self.rule.looks_back, floor(self.feed.first, self.rule.window))
        return Window(min(start, window.start), window.end)

    def spans(
        self, window: Window, base: Millis, missing: Callable[[Millis, Millis], bool]
    ) -> Iterator[Span]:
        """The buckets that reading it takes: none coarser than a point."""
        yield from tile(self.span(window), base, missing, DAY if self.rule.window >= DAY else HOUR)

    def of(
        self,
        window: Window,
        group: Group,
        read: Read,
        context_of: Callable[[Group], Context],
        state: AlertState | None,
    ) -> Series:
        """The series of one group before a window. `state`: the alert of the group, which knows when it
        fired."""
        length = self.rule.window
        past = range(self.span(window).start, window.start, length)
        every = [self._point(Window(at, at + length), read, context_of) for at in past]
        held = [(at, one.get(group)) for at, one in zip(past, every, strict=True) if one is not None]
        # Before its first rows a group has no zeros: it is not there.
        begun = next((i for i, (_, point) in enumerate(held) if point is not None), len(held))
        lacking = ((np.nan, 0),) * len(self.rule.names)
        points = [(at, self._zero(context_of(group)) if p is None else p) for at, p in held[begun:]]
        starts = np.array([at for at, _ in points], np.int64)
        values = np.array([[v for v, _ in p] for _, p in points] or [[v for v, _ in lacking]], np.float64)
        counts = np.array([[n for _, n in p] for _, p in points] or [[n for _, n in lacking]], np.int64)
        values, counts = values[: len(points)], counts[: len(points)]
        values = np.where(counts < self.rule.min_count, np.nan, values)
        fired = list(self._fired(state))
        firing = [any(start < at + length and at < end for start, end in fired) for at, _ in points]
        return Series(
            starts=self._local(starts),
            values=values,
            counts=counts,
            window=length,
            now=int(self._local(np.array([window.start]))[0]),
            firing=np.array(firing, np.bool_),
            ongoing=state is not None and state.started is not None,
            left_out=sum(one is None for one in every),
        )

    def _point(
        self, window: Window, read: Read, context_of: Callable[[Group], Context]
    ) -> dict[Group, _Point] | None:
        if window not in self._points:
            found = None
            if window.start not in self._lacking:
                groups = read(window)
                found = {g: self._read(s, context_of(g)) for g, s in groups.items() if s.rows}
            self._points[window] = found
        return self._points[window]

    def _read(self, summary: Summary, context: Context) -> _Point:
        metrics = self.rule.read(summary, context)
        return tuple((np.nan if m.value is None else float(m.value), m.n) for m in metrics)

    def _zero(self, context: Context) -> _Point:
        """Of a window without rows: counts are 0, all else is nothing."""
        return self._read(Summary.zero(context.edges), context)

    def _fired(self, state: AlertState | None) -> Iterable[tuple[Millis, Millis]]:
        """When the group's alert fired: from the window that first breached to the step that ended it.

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
