"""Nothing arrives: who notices, when, and when it is only that the rows are still on the way."""

from collections.abc import Iterator

import pytest

from kedge.alerting.finding import Finding, State, Status
from kedge.alerting.loading import RuleBook, parse_rules
from kedge.pipeline.spooled import Gateway, tell
from kedge.windows import HOUR, MINUTE, SECOND
from tests.pipeline.world import T0, World, prediction, settings, world

HOURS = 'timezone: Europe/Berlin, active: {hours: "06:00-23:00"}'


def absence(more: str = "", *others: str) -> RuleBook:
    first = f"name: no-traffic, kind: absence, window: 30m{more}"
    lines = "\n".join(f"- {{{rule}}}" for rule in (first, *others))
    book = parse_rules(f'version: 1\ndefaults: {{model: "*", version: serving}}\nrules:\n{lines}\n')
    assert not book.problems, book.problems
    return book


@pytest.fixture
def one() -> Iterator[World]:
    with world(book=absence(), settings=settings(fraud={"bucket": "1m"})) as made:
        yield made


def send(one: World, start: int, end: int, *, region: str = "") -> None:
    """A row every five minutes of [start, end) and region, or of one region alone."""
    for i, name in enumerate(("us", "eu")):
        if region in ("", name):
            one.send([prediction(m * 4 + i, T0 + m * MINUTE) for m in range(start, end, 5)])


def until(one: World, minute: int, by: int = 5) -> None:
    """Ticks up to a minute, and one at it: judged is what ended more than a minute ago."""
    at = (one.now - T0) // MINUTE
    for m in [*range(at + by, minute, by), minute]:
        one.tick(T0 + m * MINUTE + 30 * SECOND)


def finding(one: World, **group: str) -> Finding:
    found = one.alert("no-traffic", **group).finding
    assert found is not None
    return found


def test_silence_fires_though_nothing_at_all_arrives_and_the_first_rows_end_it(one: World) -> None:
    send(one, 0, 20)
    until(one, 46)
    assert one.alert("no-traffic").status is Status.INACTIVE
    until(one, 48)
    found = one.alert("no-traffic")
    assert (found.status, found.started) == (Status.FIRING, T0 + 46 * MINUTE)
    assert finding(one).reason.startswith("no rows in the 30m to ")
    assert "the last ones came before" in finding(one).reason
    until(one, 6 * 60, by=60)
    assert one.alert("no-traffic").status is Status.FIRING
    send(one, 6 * 60, 6 * 60 + 1)
    until(one, 6 * 60 + 10)
    assert one.alert("no-traffic").status is Status.RESOLVED
    assert [m.status for m in one.notebook.messages] == [Status.FIRING, Status.RESOLVED]


def test_rows_in_a_gateways_spool_are_waited_for(one: World) -> None:
    send(one, 0, 20)
    until(one, 30)
    tell(one.store.state, Gateway("a", T0 + 20 * MINUTE, 9, 999, one.now))
    until(one, 40)
    tell(one.store.state, Gateway("a", T0 + 20 * MINUTE, 9, 999, one.now))
    until(one, 50)
    tell(one.store.state, Gateway("a", T0 + 20 * MINUTE, 9, 999, one.now))
    until(one, 60)
    assert one.alert("no-traffic").status is Status.INACTIVE
    send(one, 20, 60)
    tell(one.store.state, Gateway("a", None, 0, 0, one.now))
    until(one, 70)
    assert (one.alert("no-traffic").status, finding(one).state) == (Status.INACTIVE, State.OK)
    assert one.notebook.messages == []


def test_a_gateway_that_is_gone_for_good_does_not_hide_an_absence(one: World) -> None:
    send(one, 0, 20)
    until(one, 30)
    tell(one.store.state, Gateway("a", T0 + 20 * MINUTE, 9, 999, one.now))
    until(one, 90)
    assert one.alert("no-traffic").status is Status.FIRING


def test_a_model_that_was_silent_for_long_before_the_rule_pages_no_one(one: World) -> None:
    one.book = RuleBook()
    send(one, 0, 20)
    until(one, 30)
    one.book = absence()
    until(one, 3 * 24 * 60, by=24 * 60 + 60)
    assert one.alerts() == {}


def test_a_value_that_had_rows_is_missed_by_itself(one: World) -> None:
    one.book = absence(", by: [segment.region], history: 2h")
    send(one, 0, 60)
    until(one, 62)
    send(one, 60, 180, region="eu")
    until(one, 182)
    eu, us = {"segment.region": "eu"}, {"segment.region": "us"}
    assert one.alert("no-traffic", **eu).status is Status.INACTIVE
    assert one.alert("no-traffic", **us).status is Status.FIRING
    assert "in the 2h before" in finding(one, **us).reason
    # Nobody says that it came back when it is only gone for longer than is remembered.
    send(one, 180, 300, region="eu")
    until(one, 301, by=60)
    assert finding(one, **us).state is State.HOLD
    assert one.alert("no-traffic", **us).status is Status.FIRING
    send(one, 300, 320)
    until(one, 320)
    assert one.alert("no-traffic", **us).status is Status.RESOLVED


def test_a_value_that_never_had_rows_lately_is_not_missed(one: World) -> None:
    one.book = RuleBook()
    send(one, 0, 60)
    until(one, 62)
    send(one, 60, 240, region="eu")
    until(one, 242, by=60)
    one.book = absence(", by: [segment.region], history: 2h")
    until(one, 250)
    assert {s.group["segment.region"] for s in one.alerts().values()} == {"eu"}


def test_nights_are_left_out_and_the_morning_does_not_look_into_them(one: World) -> None:
    """T0 is a midnight in UTC: 02:00 in Berlin, where it is summer."""
    one.book = absence(f", {HOURS}")
    last = 18 * 60 + 40  # 20:40 in Berlin
    send(one, last - 60, last)
    until(one, last, by=240)
    until(one, 20 * 60 + 58, by=40)  # 22:58
    assert one.alert("no-traffic").status is Status.FIRING
    send(one, 21 * 60 + 30, 27 * 60 + 50)  # 23:30 to 05:50: the night has traffic, and the morning has none
    until(one, 27 * 60 + 58, by=100)
    assert one.alert("no-traffic").status is Status.FIRING, "nobody looks at night"
    until(one, 28 * 60 + 30)  # 06:30, of which 06:28 is judged
    assert one.alert("no-traffic").evaluated_through == T0 + 21 * HOUR
    until(one, 28 * 60 + 31)
    assert finding(one).window == (T0 + 28 * HOUR, T0 + 28 * HOUR + 30 * MINUTE)
    assert finding(one).resumes
    assert one.alert("no-traffic").status is Status.FIRING
    send(one, 28 * 60 + 36, 28 * 60 + 40)
    until(one, 28 * 60 + 45, by=20)
    assert one.alert("no-traffic").status is Status.RESOLVED


def test_what_was_pending_in_the_evening_begins_anew_in_the_morning(one: World) -> None:
    one.book = absence(f", for: 20m, {HOURS}")
    send(one, 19 * 60, 20 * 60 + 21)
    until(one, 20 * 60, by=240)
    until(one, 27 * 60 + 58, by=100)
    assert one.alert("no-traffic").status is Status.PENDING
    until(one, 28 * 60 + 50, by=30)  # silent for 20 minutes at 06:50, as far as anybody is to know
    assert one.alert("no-traffic").status is Status.PENDING
    until(one, 28 * 60 + 52)
    assert one.alert("no-traffic").status is Status.FIRING
    assert one.alert("no-traffic").started == T0 + 28 * HOUR + 30 * MINUTE
