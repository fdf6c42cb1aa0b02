"""`window: today`: from local midnight to the step, on days of 23, 24 and 25 hours and in odd zones."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.alerting.rule import Rule
from kedge.alerting.today import TODAY, day_step, start_of_day
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, floor, iso, parse_time
from tests.alerting.make import rule

BERLIN = "Europe/Berlin"
ODD = (
    BERLIN,
    "UTC",
    "America/New_York",
    "America/Santiago",  # moved at midnight: in spring the day begins at 01:00
    "America/Havana",  # moved back at 01:00: midnight comes twice
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Chatham",
    "Pacific/Kiritimati",
)


@cache
def today(zone: str, metric: str = "business.cost, stat: sum", more: str = "above: 5") -> Rule:
    return rule(f"metric: {metric}, window: today, timezone: {zone}, {more}")


def window(one: Rule, step: Millis, base: Millis = MINUTE) -> Window:
    return one.bounds(step, one.step(base), base)


def steps_of(day: date, zone: str, base: Millis) -> range:
    """The steps of a local day, by the calendar of the standard library alone."""
    tz = ZoneInfo(zone)
    noon, after = (datetime.combine(day + timedelta(days=i), datetime.min.time(), tz) for i in (0, 1))
    width = max(base, day_step(zone))
    first = floor(round(noon.timestamp() * 1000), width) + width
    return range(first, round(after.timestamp() * 1000) + 1, width)


@pytest.mark.parametrize(
    ("zone", "step", "start"),
    [
        (BERLIN, "2026-03-28T12:00:00Z", "2026-03-27T23:00:00Z"),
        # Spring: the day of 23 hours, from its first step to midnight, and the first step of the next.
        (BERLIN, "2026-03-28T23:00:00Z", "2026-03-27T23:00:00Z"),
        (BERLIN, "2026-03-29T00:00:00Z", "2026-03-28T23:00:00Z"),
        (BERLIN, "2026-03-29T01:00:00Z", "2026-03-28T23:00:00Z"),
        (BERLIN, "2026-03-29T22:00:00Z", "2026-03-28T23:00:00Z"),
        (BERLIN, "2026-03-29T23:00:00Z", "2026-03-29T22:00:00Z"),
        # Autumn: the day of 25 hours.
        (BERLIN, "2026-10-24T22:00:00Z", "2026-10-23T22:00:00Z"),
        (BERLIN, "2026-10-24T23:00:00Z", "2026-10-24T22:00:00Z"),
        (BERLIN, "2026-10-25T01:00:00Z", "2026-10-24T22:00:00Z"),
        (BERLIN, "2026-10-25T23:00:00Z", "2026-10-24T22:00:00Z"),
        (BERLIN, "2026-10-26T00:00:00Z", "2026-10-25T23:00:00Z"),
        ("UTC", "2026-03-29T00:00:00Z", "2026-03-28T00:00:00Z"),
        ("UTC", "2026-03-29T01:00:00Z", "2026-03-29T00:00:00Z"),
        # Midnight is left out: the day begins when the clock is moved.
        ("America/Santiago", "2026-09-06T05:00:00Z", "2026-09-06T04:00:00Z"),
        # Midnight comes twice: the day begins at the first, and is 25 hours long.
        ("America/Havana", "2026-11-01T06:00:00Z", "2026-11-01T04:00:00Z"),
        ("America/Havana", "2026-11-02T05:00:00Z", "2026-11-01T04:00:00Z"),
        ("Asia/Kolkata", "2026-03-29T18:30:00Z", "2026-03-28T18:30:00Z"),
        ("Asia/Kolkata", "2026-03-29T21:30:00Z", "2026-03-29T18:30:00Z"),
    ],
)
def test_the_day_begins_at_local_midnight_and_ends_with_the_step_at_the_next(
    zone: str, step: str, start: str
) -> None:
    at = parse_time(step)
    assert iso(start_of_day(at, zone)) == start
    assert window(today(zone), at) == Window(parse_time(start), at)


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 28), 24), (date(2026, 3, 29), 23), (date(2026, 10, 25), 25)]
)
def test_a_day_has_a_step_for_each_of_its_hours_and_the_last_sees_it_whole(day: date, hours: int) -> None:
    one, steps = today(BERLIN), steps_of(day, BERLIN, MINUTE)
    assert [window(one, step).length for step in steps] == [(i + 1) * HOUR for i in range(hours)]


@settings(deadline=None)
@given(
    st.sampled_from(ODD),
    st.dates(date(2024, 1, 1), date(2030, 12, 31)),
    st.sampled_from([MINUTE, HOUR, DAY]),
)
def test_days_follow_each_other_without_gap_and_overlap(zone: str, day: date, base: Millis) -> None:
    """Each bucket is of one day: the last window of a day ends where the next day's windows begin."""
    one = today(zone)
    width = one.step(base)
    assert width == max(base, day_step(zone))
    begin = floor(parse_time(day.isoformat()), width)
    windows = [window(one, step, base) for step in range(begin, begin + 3 * DAY + 1, width)]
    assert all(w.start < w.end and w.start % base == 0 and w.length <= TODAY for w in windows)
    for earlier, later in pairwise(windows):
        assert later.start in (earlier.start, earlier.end)


@settings(deadline=None)
@given(st.sampled_from(ODD), st.dates(date(2024, 1, 1), date(2030, 12, 31)))
def test_the_last_step_of_a_day_is_at_its_midnight_in_every_zone(zone: str, day: date) -> None:
    steps = steps_of(day, zone, MINUTE)
    windows = [window(today(zone), step) for step in steps]
    after = datetime.combine(day + timedelta(days=1), datetime.min.time(), ZoneInfo(zone))
    assert {w.start for w in windows} == {start_of_day(steps[-1], zone)}
    if after.astimezone(UTC).astimezone(ZoneInfo(zone)) == after:  # not left out by the clock
        assert steps[-1] == round(after.timestamp() * 1000)


def test_in_every_zone_there_is_midnights_are_steps() -> None:
    midsummer, midwinter = date(2026, 7, 1), date(2026, 1, 1)
    for zone in sorted(available_timezones()):
        for day in (midsummer, midwinter):
            midnight = datetime.combine(day, datetime.min.time(), ZoneInfo(zone))
            assert round(midnight.timestamp() * 1000) % day_step(zone) == 0, zone


def test_buckets_of_a_day_make_days_of_utc() -> None:
    one = today(BERLIN)
    step = parse_time("2026-03-29T00:00:00Z")
    assert window(one, step, DAY) == Window(step - DAY, step)


def test_it_is_judged_in_active_hours_on_the_whole_day_until_then() -> None:
    """Active hours are when it is judged. They do not cut the day, nor keep a day's first hours from it."""
    one = today(BERLIN, more='above: 5, active: {days: mon-fri, hours: "08:00-24:00"}')
    monday = parse_time("2026-03-30T10:00:00Z")
    assert one.span(monday) is not None
    assert window(one, monday) == Window(parse_time("2026-03-29T22:00:00Z"), monday)
    assert one.span(parse_time("2026-03-30T03:00:00Z")) is None
    assert one.span(parse_time("2026-03-29T10:00:00Z")) is None
    weekdays = today(BERLIN, more="above: 5, active: {days: mon-fri}")
    assert weekdays.span(parse_time("2026-03-29T23:00:00Z")) is not None
    assert weekdays.warnings == ()


def test_today_and_a_window_of_the_same_length_are_two_rules() -> None:
    """As a number it is the longest of days."""
    assert today("UTC").signature != rule("metric: business.cost.sum, window: 25h, above: 5").signature
    assert today("UTC").signature != today(BERLIN).signature
    assert today("UTC").model_dump(mode="json")["window"] == "today"


def test_what_grows_from_0_is_below_a_bound_each_night() -> None:
    below = "volume.count", "below: 100"
    assert "begins at 0 after midnight" in today(BERLIN, *below).warnings[0]
    assert today(BERLIN, below[0], 'below: 100, active: {hours: "20:00-24:00"}').warnings == ()
    assert today(BERLIN, "errors.rate", "below: 10%").warnings == ()


def test_a_budget_that_is_passed_each_day_does_not_flap() -> None:
    """It is told each evening and ends each night: within three of its windows that were a flap."""
    assert today(BERLIN).timing.flap_within == DAY
    assert rule("metric: business.cost.sum, window: 24h, above: 5").timing.flap_within == 3 * DAY
