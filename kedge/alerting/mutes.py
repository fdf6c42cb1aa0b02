"""Named spans of local time, for routes that are silent in them or outside of them. Pure: time is an
argument.

As in Alertmanager, an interval is the AND of what it names, each of that is the OR of its ranges, and a
name may stand for several intervals, any of which counts. Ranges of times hold their start and not their
end; ranges of everything else hold both. What is compared is the wall clock of the zone: a range over the
night in which clocks are set forward is an hour shorter, and one over the night in which they are set back
an hour longer.
"""

from calendar import monthrange
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from kedge.windows import Millis

Range = tuple[int, int]
Ranges = tuple[Range, ...]

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)


@dataclass(frozen=True)
class Interval:
    """What is not named (an empty tuple) holds always."""

    times: Ranges = ()
    """Minutes of the day, the end excluded; 1440 is the day's end."""
    weekdays: Ranges = ()
    """Monday is 0."""
    days_of_month: Ranges = ()
    """From 1; negative ones count from the end, -1 is the last day."""
    months: Ranges = ()
    years: Ranges = ()
    timezone: str = "UTC"

    def holds(self, now: Millis) -> bool:
        at = datetime.fromtimestamp(now / 1000, UTC).astimezone(ZoneInfo(self.timezone))
        minute = at.hour * 60 + at.minute
        return (
            (not self.times or any(start <= minute < end for start, end in self.times))
            and _within(at.weekday(), self.weekdays)
            and _within(at.month, self.months)
            and _within(at.year, self.years)
            and (not self.days_of_month or self._on_day(at))
        )

    def _on_day(self, at: datetime) -> bool:
        last = monthrange(at.year, at.month)[1]
        for start, end in self.days_of_month:
            first, final = (day if day > 0 else last + 1 + day for day in (start, end))
            # A range that begins before the month does, or ends after it, is cut to it; 31 in June is no
            # day.
            if max(first, 1) <= at.day <= min(final, last):
                return True
        return False


def _within(value: int, ranges: Ranges) -> bool:
    return not ranges or any(start <= value <= end for start, end in ranges)


TimeIntervals = Mapping[str, Sequence[Interval]]


def muted(now: Millis, mute: Iterable[str], active: Sequence[str], intervals: TimeIntervals) -> str:
    """Why a route with these `mute_times` and `active_times` says nothing now; empty where it speaks."""
    if active and not any(one.holds(now) for name in active for one in intervals[name]):
        return f"outside of {' and '.join(active)}"
    for name in mute:
        if any(one.holds(now) for one in intervals[name]):
            return f"muted by {name}"
    return ""
