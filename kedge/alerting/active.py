"""When a rule is judged: days of the week and hours of the day on the clock of its zone. Pure.

A span holds every local time that people wrote: in autumn both passes of an hour that comes twice; in spring
an edge that the clock left out is the moment at which it was moved.
"""

import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from kedge.alerting.fields import checked, did_you_mean
from kedge.errors import BadInput
from kedge.windows import MINUTE, Millis, Window

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
_FULL_DAY = 24 * 60
_AROUND = 8
"""Days to either side of a moment within which its span ends: one that is not for ever leaves out some time
of each week."""
_TEXTS = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})


def parse_days(raw: Any) -> tuple[str, ...]:
    """`mon-fri`, `sat, sun`, `[fri-mon]` as days in the order of the week; raises BadInput."""
    found: set[str] = set()
    for item in _items(raw):
        first, dash, last = (word.strip().lower()[:3] for word in item.partition("-"))
        ends = [first, last] if dash else [first]
        for word in ends:
            if word not in DAYS:
                raise BadInput(f'"{item}" is no day of the week: write mon-fri{did_you_mean(word, DAYS)}')
        start, end = DAYS.index(ends[0]), DAYS.index(ends[-1])
        found |= {DAYS[(start + i) % 7] for i in range((end - start) % 7 + 1)}
    return tuple(day for day in DAYS if day in found)


def parse_hours(raw: Any) -> tuple[str, ...]:
    """`08:00-18:00`, `22:00-06:00` (past midnight), several in a list, as they are written; raises
    BadInput."""
    found = []
    for item in _items(raw):
        match = _HOURS.fullmatch(item)
        if match is None:
            raise BadInput(f'"{item}" is no time of the day: write "08:00-18:00", in quotes')
        start, end = (int(match[i]) * 60 + int(match[i + 1]) for i in (1, 3))
        if max(int(match[2]), int(match[4])) > 59 or start >= _FULL_DAY or end > _FULL_DAY:
            raise BadInput(f'"{item}" is no time of the day: it goes from 00:00 to 24:00')
        if start == end:
            raise BadInput(f'"{item}" is no time at all: write 00:00-24:00 for the whole day')
        found.append(f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}")
    return tuple(found)


def _items(raw: Any) -> list[str]:
    items = raw.split(",") if isinstance(raw, str) else list(raw) if isinstance(raw, list | tuple) else [raw]
    if not items:
        raise BadInput("an empty list: leave it out")
    return [str(item).strip() for item in items]


class Active(BaseModel):
    """The days and hours in which a rule is judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: Annotated[tuple[str, ...], _TEXTS] = Field(
        DAYS, description="Days of the week, on which the hours begin: `mon-fri`, `[sat, sun]`."
    )
    hours: Annotated[tuple[str, ...], _TEXTS] = Field(
        ("00:00-24:00",),
        description='Hours of those days: `"08:00-18:00"`, `"22:00-06:00"` (past midnight), or several.',
    )

    @model_validator(mode="before")
    @classmethod
    def _is_map(cls, raw: Any) -> Any:
        if not isinstance(raw, dict | Active) or not raw:
            raise ValueError('write a map: `active: {days: mon-fri, hours: "08:00-18:00"}`')
        return raw

    @field_validator("days", mode="before")
    @classmethod
    def _days(cls, raw: Any) -> tuple[str, ...]:
        return checked(parse_days, raw)

    @field_validator("hours", mode="before")
    @classmethod
    def _hours(cls, raw: Any) -> tuple[str, ...]:
        return checked(parse_hours, raw)

    @model_validator(mode="after")
    def _restricts(self) -> Self:
        if self.always:
            raise ValueError("these are all hours of the week: leave `active` out")
        return self

    @cached_property
    def _minutes(self) -> tuple[tuple[int, int], ...]:
        """(start, end) of each of the hours, in minutes since the midnight that its day begins with."""
        found = []
        for text in self.hours:
            start, end = (int(t[:2]) * 60 + int(t[3:]) for t in text.split("-"))
            found.append((start, end if end > start else end + _FULL_DAY))
        return tuple(sorted(found))

    @property
    def always(self) -> bool:
        """Whether no time of the week is left out."""
        marks = [
            (DAYS.index(day) * _FULL_DAY + start + week, DAYS.index(day) * _FULL_DAY + end + week)
            for week in (-7 * _FULL_DAY, 0)
            for day in self.days
            for start, end in self._minutes
        ]
        reached = 0
        for start, end in sorted(marks):
            if start <= reached < end:
                reached = end
        return reached >= 7 * _FULL_DAY

    def span(self, t: Millis, zone: str) -> Window | None:
        """The span that ends or goes on at `t` (start < t <= end); None where it is not active.

        A step looks back from its end: what is judged at 08:00 is the time before.
        """
        day = datetime.fromtimestamp(t / 1000, ZoneInfo(zone)).date()
        return next((held for held in _spans(self, zone, day) if held.start < t <= held.end), None)

    def _on(self, day: date, zone: ZoneInfo) -> Iterator[Window]:
        """The spans that begin on a local day."""
        if DAYS[day.weekday()] not in self.days:
            return
        for start, end in self._minutes:
            span = Window(moment_of(day, start, zone, 0), moment_of(day, end, zone, 1))
            if span.start < span.end:
                yield span


@lru_cache(maxsize=4096)
def _spans(active: Active, zone: str, day: date) -> tuple[Window, ...]:
    """The spans around a local day, those that touch put together."""
    where = ZoneInfo(zone)
    days = (day + timedelta(days=i) for i in range(-_AROUND, _AROUND + 1))
    joined: list[Window] = []
    for span in sorted(span for each in days for span in active._on(each, where)):
        if joined and span.start <= joined[-1].end:
            joined[-1] = Window(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return tuple(joined)


def moment_of(day: date, minutes: int, zone: ZoneInfo, fold: int) -> Millis:
    """So many minutes on the clock of a day; of an hour that comes twice the first pass for `fold` 0, the
    second for 1."""
    on, left = day + timedelta(days=minutes // _FULL_DAY), minutes % _FULL_DAY
    local = datetime.combine(on, time(left // 60, left % 60), zone)
    found = round(local.replace(fold=fold).timestamp() * 1000)
    if datetime.fromtimestamp(found / 1000, zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return found
    # The clock left it out: the two readings lie on either side of the moment at which it was moved.
    low, high = sorted(round(local.replace(fold=f).timestamp() * 1000) for f in (0, 1))
    offsets = [(t, datetime.fromtimestamp(t / 1000, zone).utcoffset()) for t in range(low, high + 1, MINUTE)]
    return next(t for (_, before), (t, after) in pairwise(offsets) if before != after)
