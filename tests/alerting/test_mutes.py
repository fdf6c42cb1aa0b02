"""Named spans of local time, across the changes of clocks and the ends of months."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from kedge.alerting.mutes import Interval, muted
from kedge.windows import HOUR, MINUTE, parse_time

BERLIN = "Europe/Berlin"
NIGHT = Interval(times=((0, 360),), timezone=BERLIN)
"""From midnight to six."""


def at(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@pytest.mark.parametrize(
    ("interval", "moment", "holds"),
    [
        (Interval(), "2026-01-01T12:00", True),
        # Times hold their start and not their end.
        (Interval(times=((540, 1020),)), "2026-01-01T08:59:59", False),
        (Interval(times=((540, 1020),)), "2026-01-01T09:00", True),
        (Interval(times=((540, 1020),)), "2026-01-01T16:59:59", True),
        (Interval(times=((540, 1020),)), "2026-01-01T17:00", False),
        (Interval(times=((1320, 1440),)), "2026-01-01T23:59:59", True),
        (Interval(times=((1320, 1440), (0, 60))), "2026-01-02T00:30", True),
        # All that is named must hold: Monday to Friday, 2026-01-03 is a Saturday.
        (Interval(weekdays=((0, 4),)), "2026-01-02T23:59", True),
        (Interval(weekdays=((0, 4),)), "2026-01-03T00:00", False),
        (Interval(weekdays=((5, 6),), times=((0, 60),)), "2026-01-03T02:00", False),
        # Days count from either end; what lies beyond a month is cut to it.
        (Interval(days_of_month=((1, 5),)), "2026-02-05T23:00", True),
        (Interval(days_of_month=((1, 5),)), "2026-02-06T00:00", False),
        (Interval(days_of_month=((-3, -1),)), "2026-02-26T00:00", True),
        (Interval(days_of_month=((-3, -1),)), "2028-02-26T00:00", False),
        (Interval(days_of_month=((-1, -1),)), "2028-02-29T12:00", True),
        (Interval(days_of_month=((29, 31),)), "2026-02-28T12:00", False),
        (Interval(days_of_month=((28, 31),)), "2026-02-28T12:00", True),
        (Interval(days_of_month=((-31, -30),)), "2026-02-01T12:00", False),
        (Interval(days_of_month=((10, -5),)), "2026-02-24T12:00", True),
        (Interval(days_of_month=((10, -5),)), "2026-02-25T12:00", False),
        # Months and years hold both ends.
        (Interval(months=((1, 3),)), "2026-03-31T23:59", True),
        (Interval(months=((1, 3),)), "2026-04-01T00:00", False),
        (Interval(years=((2025, 2026),)), "2026-12-31T23:59", True),
        (Interval(years=((2025, 2026),)), "2027-01-01T00:00", False),
    ],
)
def test_an_interval_holds_where_all_that_it_names_does(interval, moment, holds):
    assert interval.holds(at(moment)) is holds


def test_the_zone_decides_which_day_it_is():
    monday = Interval(weekdays=((0, 0),), timezone="Australia/Sydney")
    assert monday.holds(at("2026-01-04T13:30"))  # Sunday in UTC, 00:30 on Monday in Sydney
    assert not monday.holds(at("2026-01-05T13:30"))


def spans(interval: Interval, start: str, hours: int) -> list[tuple[str, str]]:
    """When it holds, in UTC, to the minute."""
    first = parse_time(start)
    held = [t for t in range(first, first + hours * HOUR, MINUTE) if interval.holds(t)]
    begins = [t for t in held if t - MINUTE not in held]
    ends = [t + MINUTE for t in held if t + MINUTE not in held]
    clock = [
        [datetime.fromtimestamp(t / 1000, ZoneInfo("UTC")).strftime("%H:%M") for t in side]
        for side in (begins, ends)
    ]
    return list(zip(*clock, strict=True))


def test_a_night_is_an_hour_shorter_when_clocks_go_forward():
    # 2026-03-29: 02:00 in Berlin is 03:00; midnight is 23:00 UTC and six o'clock 04:00 UTC.
    assert spans(NIGHT, "2026-03-28T20:00:00Z", 12) == [("23:00", "04:00")]
    assert spans(NIGHT, "2026-03-27T20:00:00Z", 12) == [("23:00", "05:00")]


def test_a_night_is_an_hour_longer_when_clocks_go_back():
    # 2026-10-25: 03:00 in Berlin is 02:00 again; midnight is 22:00 UTC and six o'clock 05:00 UTC.
    assert spans(NIGHT, "2026-10-24T20:00:00Z", 12) == [("22:00", "05:00")]


def test_an_hour_that_comes_twice_is_muted_twice_and_one_that_never_comes_not_at_all():
    two = Interval(times=((120, 180),), timezone=BERLIN)
    assert spans(two, "2026-10-24T20:00:00Z", 12) == [("00:00", "02:00")]
    assert spans(two, "2026-03-28T20:00:00Z", 12) == []


def test_half_hours_between_zones_are_kept():
    office = Interval(times=((540, 600),), timezone="Asia/Kolkata")
    assert spans(office, "2026-01-01T00:00:00Z", 24) == [("03:30", "04:30")]


INTERVALS = {
    "nights": (NIGHT,),
    "weekends": (Interval(weekdays=((5, 6),)),),
    "office": (Interval(weekdays=((0, 4),), times=((540, 1020),)), Interval(days_of_month=((1, 1),))),
}


@pytest.mark.parametrize(
    ("mute", "active", "moment", "why"),
    [
        ((), (), "2026-01-02T12:00", ""),
        (("nights",), (), "2026-01-02T02:00", "muted by nights"),
        (("nights", "weekends"), (), "2026-01-03T12:00", "muted by weekends"),
        (("nights", "weekends"), (), "2026-01-02T12:00", ""),
        ((), ("office",), "2026-01-02T12:00", ""),
        ((), ("office",), "2026-01-02T18:00", "outside of office"),
        ((), ("office",), "2026-02-01T03:00", ""),  # the first of a month, its second interval
        (("weekends",), ("office",), "2026-02-01T03:00", "muted by weekends"),
        ((), ("office", "weekends"), "2026-01-03T18:00", ""),
        ((), ("office", "weekends"), "2026-01-02T18:00", "outside of office and weekends"),
    ],
)
def test_a_route_says_why_it_is_silent(mute, active, moment, why):
    assert muted(at(moment), mute, active, INTERVALS) == why
