"""What a rule compares with where that is not the baseline: which windows, and what they hold.

Like the rule's own window, these are read from summaries. Their edges are snapped so that what lies weeks
back is read by the hour or the day; only counts, which grow with the window, need one just as long.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from kedge.alerting.compare import USABLE, WEEKS, Compare
from kedge.alerting.finding import AlertState
from kedge.alerting.inputs import Against, Inputs
from kedge.alerting.lifecycle import firing_of
from kedge.alerting.rule import Judgement, Rule
from kedge.sketch import EdgeSet, Summary, total
from kedge.store.base import Group
from kedge.windows import HOUR, Millis, Window, ceil, floor, format_duration, snap

Read = Callable[[Window], Mapping[Group, Summary]]
"""The groups of a window."""
Spans = tuple[Window, ...]


@dataclass(frozen=True)
class References:
    """What one rule compares with, on one model."""

    rule: Rule
    compare: Compare
    base: Millis
    first: Millis
    """Start of the first base bucket that ever had rows."""
    counted_from: Millis = 0
    """Since when rows can be counted by the minute, from summaries or logs."""

    # --- which windows ------------------------------------------------------------------------------------

    def windows(self, window: Window) -> tuple[Window, ...]:
        """Those that are compared with the rule's, newest first; none for another version, whose rows are in
        the same window."""
        match self.compare.to:
            case "history":
                return (self._history(window.start),)
            case "previous" if self.rule.grows:
                return (Window(window.start - window.length, window.start),)
            case "previous":
                return (snap(Window(window.start - self.rule.reach(window.end), window.start), self.base),)
            case "same_time":
                zone = ZoneInfo(self.rule.timezone)
                weeks = range(1, WEEKS + 1)
                return tuple(weeks_before(window, n, zone, self.base, exact=self.rule.grows) for n in weeks)
            case _:
                return ()

    def read_for(self, window: Window, states: Iterable[AlertState]) -> set[Window]:
        """All that is read of them, as the rule's alerts stand."""
        if not self.compare.history:
            return set(self.windows(window))
        found = {self._without(window, fired) for fired in {(), *map(self._fired, states)}}
        return {piece for pieces in found for piece in pieces}

    def _history(self, end: Millis) -> Window:
        return snap(Window(max(end - self.compare.history, 0), end), self.base)

    def _without(self, window: Window, fired: Spans) -> Spans:
        """The history of a window in pieces, the times that an alert fired cut out; of the episode that still
        fires, what was before it."""
        end = window.start
        if fired and fired[-1].end > window.start:
            end = min(end, fired[-1].start)
        whole = self._history(end)
        pieces, at = [], whole.start
        for span in fired:
            if span.start > at:
                pieces.append(Window(at, min(span.start, whole.end)))
            at = max(at, span.end)
            if at >= whole.end:
                break
        pieces.append(Window(at, whole.end))
        return tuple(piece for piece in pieces if piece.start < piece.end)

    def _fired(self, state: AlertState | None) -> Spans:
        """When an alert fired, oldest first, by whole buckets that are cheap to read: from the step before it
        first breached to the step that ended it. The last one may go on: it then ends after all windows."""
        if state is None:
            return ()
        held = list(state.fired_before)
        if (since := firing_of(state)) is not None:
            held.append((since, _GOES_ON))
        width = max(self.base, HOUR if self.compare.history > 2 * HOUR else self.base)
        step = self.rule.step(self.base)
        return tuple(Window(floor(max(start - step, 0), width), ceil(end, width)) for start, end in held)

    # --- what they hold -----------------------------------------------------------------------------------

    def judge(
        self,
        inputs: Inputs,
        step: Millis,
        group: Group,
        read: Read,
        state_of: Callable[[Mapping[str, str]], AlertState | None],
        states: Iterable[AlertState],
    ) -> Iterator[Judgement]:
        """What the rule finds of a group. `state_of` gives the alert with labels that the rule adds, `states`
        all of the group's: each is compared with a history of its own, without the times in which it fired.
        """
        if not self.compare.history:
            against = self._against(inputs, group, read)
            yield from self.rule.judge_all(replaced(inputs, against=against), step)
            return
        every = {(), *map(self._fired, states)} if self.rule.fans_out else {self._fired(state_of({}))}
        for fired in sorted(every):
            against = self._against_history(inputs, group, read, fired)
            for labels, finding in self.rule.judge_all(replaced(inputs, against=against), step):
                if self._fired(state_of(labels)) == fired:
                    yield labels, finding

    def read_of(self, window: Window, state: AlertState) -> Spans:
        """What one alert is compared with, for all that is read of it besides the metric: of several weeks
        those that can be used; the rule's own window where it is another version."""
        if self.compare.version is not None:
            return (window,)
        if self.compare.history:
            return self._without(window, self._fired(state))
        return tuple(w for w in self.windows(window) if self._usable(w))

    def groups_of(self, spans: Spans, own: Group, read: Read) -> dict[Group, Summary]:
        """The groups of a grouping over all of these windows together, another version's under the name of
        the group's own. Beside each version's are those of all versions, for a version that had no rows."""
        other, version = self.compare.version, dict(own).get("version", "")
        parts: dict[Group, list[Summary]] = {}
        for span in spans:
            for group, summary in read(span).items():
                held = dict(group).get("version")
                if other is not None:
                    if held == other:
                        named = tuple((n, version if n == "version" else v) for n, v in group)
                        parts.setdefault(named, []).append(summary)
                    continue
                parts.setdefault(group, []).append(summary)
                if held is not None:
                    parts.setdefault(_but_version(group), []).append(summary)
        return {group: total(held) for group, held in parts.items()}

    def _against(self, inputs: Inputs, group: Group, read: Read) -> Against:
        if self.compare.to == "version":
            other = tuple((n, self.compare.version or "" if n == "version" else v) for n, v in group)
            held = read(inputs.window).get(other, Summary.zero(inputs.edges))
            return Against(f"version {self.compare.version} in the same window (n={held.rows:,})", (held,))
        windows = self.windows(inputs.window)
        if self.compare.to == "previous":
            held, whose = self._held([read(windows[0])], group, inputs.edges)
            return Against(f"the window before ({self._span(windows)}, n={held.rows:,}{whose})", (held,))
        weeks = [self._held([read(w)], group, inputs.edges) for w in windows if self._usable(w)]
        times = _local_times(windows[0], ZoneInfo(self.rule.timezone))
        n = sum(summary.rows for summary, _ in weeks)
        whose = next((whose for _, whose in weeks if whose), "")
        name = f"the same time of the last {WEEKS} weeks ({times} {self.rule.timezone}, n={n:,}{whose})"
        return Against(name, tuple(summary for summary, _ in weeks), USABLE)

    def _against_history(self, inputs: Inputs, group: Group, read: Read, fired: Spans) -> Against:
        pieces = self._without(inputs.window, fired)
        held, whose = self._held([read(piece) for piece in pieces], group, inputs.edges)
        whole = format_duration(self.compare.history)
        if not pieces:
            return Against(f"the {whole} before, in all of which it fired", (held,))
        out = pieces[-1].end - pieces[0].start - sum(piece.length for piece in pieces)
        left_out = f" without {format_duration(out)} in which it fired" if out else ""
        return Against(
            f"the {whole} before{left_out} ({self._span(pieces)}, n={held.rows:,}{whose})", (held,)
        )

    def _held(
        self, reads: Iterable[Mapping[Group, Summary]], group: Group, edges: EdgeSet | None
    ) -> tuple[Summary, str]:
        """The rows of a group in several windows together, and whose they are where that is not the group: a
        version that had none yet is compared to all versions' rows, as with a baseline. Not so for counts, of
        which a new version takes over but a part.
        """
        parts = list(reads)
        found = [groups[group] for groups in parts if group in groups]
        # One piece is as it is: rules that compare with the same share it, and what was measured of it.
        held = found[0] if len(found) == 1 else total(found, edges)
        if held.rows or self.rule.grows or "version" not in dict(group):
            return held, ""
        rest = _but_version(group)
        every = [s for groups in parts for other, s in groups.items() if _but_version(other) == rest]
        return total(every, edges), ", of all versions" if every else ""

    def _usable(self, window: Window) -> bool:
        """Whether it lies in a time from which there are rows: before that, none would be no traffic."""
        ragged = window.start % HOUR or window.end % HOUR
        return window.start >= self.first and not (ragged and window.start < self.counted_from)

    def _span(self, windows: tuple[Window, ...]) -> str:
        """The true bounds of what was read."""
        end = windows[-1].end
        start = max(windows[0].start, min(self.first, end))
        first, last = (datetime.fromtimestamp(t / 1000, UTC).strftime("%Y-%m-%d %H:%M") for t in (start, end))
        return f"{first} to {last} UTC"


_GOES_ON: Millis = 1 << 62


def weeks_before(window: Window, weeks: int, zone: tzinfo, base: Millis, *, exact: bool) -> Window:
    """The window at the same local time so many weeks before, just as long: its end is that of the clock on
    the wall, so that summer time moves it. An hour that the clock left out is the one after it.

    Its edges are moved outwards to the hour, unless it must be `exact`: then, and where base buckets are
    longer, it is moved to the nearest bucket.
    """
    local = datetime.fromtimestamp(window.end / 1000, zone)
    earlier = local.replace(tzinfo=None) - timedelta(weeks=weeks)
    end = round(earlier.replace(tzinfo=zone, fold=local.fold).timestamp() * 1000)
    if exact or base > HOUR:
        end = floor(end + base // 2, base)
        return Window(end - window.length, end)
    return Window(floor(end - window.length, HOUR), ceil(end, HOUR))


def _but_version(group: Group) -> Group:
    return tuple((name, value) for name, value in group if name != "version")


def _local_times(window: Window, zone: tzinfo) -> str:
    """`Mon 14:00 to Mon 15:00`."""
    return " to ".join(datetime.fromtimestamp(t / 1000, zone).strftime("%a %H:%M") for t in window)
