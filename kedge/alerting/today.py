"""`window: today`: the day so far, from local midnight to the step. Pure.

It is judged at each step with what the day has held until then, so that a budget of a day is told of in the
hour in which it is passed. A step at midnight ends its day: it is the one that sees the day whole.
"""

from abc import ABC
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from difflib import get_close_matches
from functools import cached_property, lru_cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from kedge.alerting.active import moment_of
from kedge.alerting.fields import DURATION, TODAY_WORD, checked, parse_window
from kedge.alerting.lifecycle import Timing
from kedge.alerting.rule import Rule
from kedge.errors import BadInput
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, floor, format_duration

_YEARS = range(2000, 2041)


class LocalDay(int):
    """The length of a window that begins at local midnight: as a number, the longest that a day can be."""


TODAY = LocalDay(DAY + HOUR)
"""In autumn an hour comes twice."""


def start_of_day(t: Millis, zone: str) -> Millis:
    """When the local day began that `t` is in, or is the end of."""
    day = datetime.fromtimestamp((t - 1) / 1000, ZoneInfo(zone)).date()
    return _midnight(day, zone)


@lru_cache(maxsize=4096)
def _midnight(day: date, zone: str) -> Millis:
    """The first of two midnights, and where the clock left it out, the moment at which it was moved."""
    return moment_of(day, 0, ZoneInfo(zone), 0)


@lru_cache(maxsize=1024)
def day_step(zone: str) -> Millis:
    """How often the day so far is judged: so that steps meet the zone's midnights. An hour, or 15 minutes in
    zones whose clock is not whole hours from UTC, whatever the time of the year."""
    return HOUR if all(offset % HOUR == 0 for offset in _offsets(zone)) else 15 * MINUTE


def _offsets(zone: str) -> Iterator[Millis]:
    for year in _YEARS:
        for month in (1, 7):
            offset = datetime(year, month, 1, tzinfo=UTC).astimezone(ZoneInfo(zone)).utcoffset()
            yield round(offset.total_seconds() * 1000) if offset is not None else 0


def text_of(window: Millis) -> str:
    """As people write it: `24h`, `today`."""
    return TODAY_WORD if isinstance(window, LocalDay) else format_duration(window)


def parse_window_or_today(raw: Any) -> Millis:
    """A length, or `TODAY`; raises BadInput."""
    if isinstance(raw, LocalDay) or raw == TODAY_WORD:
        return TODAY
    if isinstance(raw, str) and get_close_matches(raw.strip().lower(), [TODAY_WORD], cutoff=0.7):
        raise BadInput(f'"{raw}" is not a duration (did you mean "{TODAY_WORD}"?)')
    return parse_window(raw)


WindowOrToday = Annotated[
    Millis,
    PlainValidator(lambda raw: checked(parse_window_or_today, raw)),
    PlainSerializer(text_of, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^({TODAY_WORD}|{DURATION})$"}),
]


class DayRule(Rule, ABC):
    """A rule whose window may be the local day so far."""

    window: WindowOrToday = Field(
        description="How much time is looked at, ending at the step: `10m`, `24h`, `7d`. Slides. Of kind "
        "threshold also `today`: the day so far, from midnight in `timezone` to the step, which is judged "
        "every hour (every 15 minutes in zones that are not whole hours from UTC). With buckets that hold "
        "midnight, the day begins where its bucket does."
    )

    @property
    def is_of_today(self) -> bool:
        """Its window is the local day so far."""
        return isinstance(self.window, LocalDay)

    @property
    def slides(self) -> bool:
        return not self.is_of_today

    def reach(self, step: Millis) -> Millis:
        return step - start_of_day(step, self.timezone) if self.is_of_today else super().reach(step)

    def bounds(self, step: Millis, width: Millis, base: Millis) -> Window:
        if not self.is_of_today:
            return super().bounds(step, width, base)
        # Not snapped to the hour: each row is of one day, and in many zones no hour begins at midnight.
        return Window(floor(step - self.reach(step), base), step)

    def step(self, base: Millis) -> Millis:
        return max(day_step(self.timezone), base) if self.is_of_today else super().step(base)

    @cached_property
    def timing(self) -> Timing:
        timing = super().timing
        # One that is told each day anew, and ends each night, does not flap.
        return replace(timing, flap_within=DAY) if self.is_of_today else timing
