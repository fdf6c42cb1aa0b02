"""When rules are judged: days and hours on the clock of a zone, past midnight and through summer time."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from kedge.alerting.active import Active
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window
from tests.alerting.make import rule, rules

BERLIN = "Europe/Berlin"


def at(local: str, zone: str = BERLIN, fold: int = 0) -> Millis:
    """`2026-03-29 08:00` on the clock of a zone."""
    return round(datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000)


def active(days: str = "mon-sun", hours: str = "00:00-24:00") -> Active:
    return Active.model_validate({"days": days, "hours": hours})


# 2026-11-23 is a Monday; Berlin goes forward on 2026-03-29 and back on 2026-10-25, both Sundays.
@pytest.mark.parametrize(
    ("days", "hours", "moment", "inside"),
    [
        ("mon-fri", "08:00-18:00", "2026-11-23 12:00", True),
        ("mon-fri", "08:00-18:00", "2026-11-23 08:00", False),  # what was before is not of the day
        ("mon-fri", "08:00-18:00", "2026-11-23 08:01", True),
        ("mon-fri", "08:00-18:00", "2026-11-23 18:00", True),
        ("mon-fri", "08:00-18:00", "2026-11-23 18:01", False),
        ("mon-fri", "08:00-18:00", "2026-11-22 12:00", False),
        ("mon-fri", "00:00-24:00", "2026-11-24 00:00", True),
        ("mon-fri", "00:00-24:00", "2026-11-28 00:00", True),
        ("mon-fri", "00:00-24:00", "2026-11-28 00:01", False),
        ("fri-mon", "00:00-24:00", "2026-11-22 12:00", True),
        ("fri-mon", "00:00-24:00", "2026-11-25 12:00", False),
        ("sat, sun", "10:00-12:00", "2026-11-22 11:00", True),
        ("mon-sun", "22:00-06:00", "2026-11-24 03:00", True),
        ("mon", "22:00-06:00", "2026-11-24 03:00", True),  # the night that Monday begins
        ("tue", "22:00-06:00", "2026-11-24 03:00", False),
        ("mon-sun", "22:00-06:00", "2026-11-24 06:01", False),
        ("mon-sun", "06:00-09:00, 17:00-20:00", "2026-11-24 12:00", False),
        ("mon-sun", "06:00-09:00, 17:00-20:00", "2026-11-24 18:00", True),
    ],
)
def test_a_moment_is_in_the_hours_or_it_is_not(days: str, hours: str, moment: str, inside: bool) -> None:
    assert (active(days, hours).span(at(moment), BERLIN) is not None) is inside


@pytest.mark.parametrize(
    ("hours", "moment", "length"),
    [
        ("00:00-06:00", "2026-03-29 05:00", 5 * HOUR),  # the clock leaves 02:00 to 03:00 out
        ("00:00-06:00", "2026-10-25 05:00", 7 * HOUR),  # and here the hour comes twice
        ("02:30-06:00", "2026-03-29 05:00", 3 * HOUR),  # 02:30 never was: from 03:00 on
        ("00:00-02:30", "2026-03-29 01:30", 2 * HOUR),  # until the clock moves
        ("02:00-03:00", "2026-10-25 02:30", 2 * HOUR),  # both passes
        ("22:00-06:00", "2026-03-29 01:00", 7 * HOUR),
        ("08:00-18:00", "2026-03-29 12:00", 10 * HOUR),
    ],
)
def test_a_span_is_as_long_as_the_clock_makes_it(hours: str, moment: str, length: Millis) -> None:
    span = active(hours=f"{hours}", days="mon-sun").span(at(moment), BERLIN)
    assert span is not None
    assert span.length == length


def test_hours_that_the_clock_left_out_are_no_hours() -> None:
    left_out = active(hours="02:10-02:50")
    hits = [
        t for t in range(at("2026-03-29 00:00"), at("2026-03-30 00:00"), MINUTE) if left_out.span(t, BERLIN)
    ]
    assert hits == []
    assert left_out.span(at("2026-03-30 02:30"), BERLIN) is not None


def test_days_and_nights_that_touch_are_one_span() -> None:
    week = active(days="mon-fri").span(at("2026-11-25 12:00"), BERLIN)
    assert week == Window(at("2026-11-23 00:00"), at("2026-11-28 00:00"))
    both = active(hours="18:00-24:00, 00:00-06:00").span(at("2026-11-25 23:00"), BERLIN)
    assert both == Window(at("2026-11-25 18:00"), at("2026-11-26 06:00"))


def test_zones_differ() -> None:
    office = active(hours="08:00-18:00")
    assert office.span(at("2026-11-25 09:00", "Asia/Kolkata"), "Asia/Kolkata")
    assert not office.span(at("2026-11-25 09:00", "Asia/Kolkata"), BERLIN)


LATENCY = 'metric: latency.p95, above: 1s, timezone: Europe/Berlin, active: {hours: "08:00-18:00"}'


def test_a_short_window_does_not_reach_into_the_night_before() -> None:
    slow = rule(f"{LATENCY}, window: 10m")
    assert slow.span(at("2026-11-25 08:05")) is None
    assert slow.span(at("2026-11-25 08:10")) is not None
    assert slow.span(at("2026-11-25 18:00")) is not None
    assert slow.span(at("2026-11-25 18:01")) is None


def test_a_window_longer_than_the_hours_is_judged_in_all_of_them() -> None:
    slow = rule(f"{LATENCY}, window: 24h")
    assert slow.span(at("2026-11-25 09:00")) is not None
    assert slow.span(at("2026-11-25 07:00")) is None


def test_a_rule_without_hours_is_always_judged() -> None:
    assert all(rule("metric: latency.p95, above: 1s, window: 10m").span(t) for t in range(0, DAY, HOUR))


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{}", 'active: write a map: `active: {days: mon-fri, hours: "08:00-18:00"}`'),
        ("mon-fri", 'active: write a map: `active: {days: mon-fri, hours: "08:00-18:00"}`'),
        (
            "{days: mon-fry}",
            'active.days: "mon-fry" is no day of the week: write mon-fri (did you mean "fri"?)',
        ),
        ('{hours: "8-18"}', 'active.hours: "8-18" is no time of the day: write "08:00-18:00", in quotes'),
        (
            '{hours: "08:00-25:00"}',
            'active.hours: "08:00-25:00" is no time of the day: it goes from 00:00 to 24:00',
        ),
        (
            '{hours: "08:00-08:00"}',
            'active.hours: "08:00-08:00" is no time at all: write 00:00-24:00 for the whole day',
        ),
        ('{hours: "12:00-06:00,06:00-12:00"}', "active: these are all hours of the week: leave `active` out"),
        ('{hour: "08:00-18:00"}', 'unknown field "active.hour" (did you mean "hours"?)'),
    ],
)
def test_what_people_get_wrong_about_hours_is_told(written: str, told: str) -> None:
    book = rules(f"{{name: it, metric: latency.p95, above: 1s, active: {written}}}")
    assert [p.text for p in book.problems] == [f'rule "it": {told}']


def test_hours_that_no_step_falls_into_are_warned_of() -> None:
    book = rules(f"{{name: it, {LATENCY}, window: 30d}}")  # judged once a day, at midnight UTC
    assert [p.text for p in book.warnings] == [
        'rule "it": is never judged: no step of its window falls into its `active` hours'
    ]
    assert not rules(f"{{name: it, {LATENCY}, window: 10m}}").warnings


def test_a_window_too_short_for_any_model_breaks_no_check_of_its_hours() -> None:
    assert not rules(f"{{name: it, {LATENCY}, window: 30s}}").warnings


def test_moving_the_hours_begins_nothing_anew() -> None:
    other = LATENCY.replace("08:00", "09:00")
    assert rule(LATENCY).signature == rule(other).signature
