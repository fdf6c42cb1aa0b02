"""The day so far, live and again: budgets over days of 23 to 25 hours, late rows, nights without any."""

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from msgspec.structs import replace

from kedge.alerting.finding import State, Status, Transition
from kedge.alerting.inputs import Inputs
from kedge.alerting.loading import parse_rules
from kedge.pipeline.feed import load_feed
from kedge.pipeline.judge import Judged
from kedge.pipeline.late import steps_again
from kedge.pipeline.models import load_models
from kedge.pipeline.progress import judged_through
from kedge.rehearsal.explain import explain_rule
from kedge.rehearsal.replay import Replay
from kedge.sketch import PartName
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, iso, parse_time
from tests.pipeline.world import MODEL, World, prediction, settings, world, world_on

BERLIN, KOLKATA = "Europe/Berlin", "Asia/Kolkata"
SPRING, AUTUMN, PLAIN = (
    parse_time(t) for t in ("2026-03-28T23:00:00Z", "2026-10-24T22:00:00Z", "2026-10-20T22:00:00Z")
)
"""Midnights in Berlin: before days of 23, 25 and 24 hours."""


def world_of(zone: str, more: str = "above: 70", bucket: str = "1h") -> dict[str, object]:
    book = parse_rules(
        f"""
version: 1
defaults: {{model: fraud, window: today, timezone: {zone}}}
rules:
- {{name: budget, metric: business.cost, stat: sum, {more}}}
"""
    )
    book.raise_for_problems()
    began = parse_time("2026-03-20T00:00:00Z")
    return {"book": book, "settings": settings(fraud={"bucket": bucket, "baseline": "off"}), "now": began}


def spend(one: World, at: Millis, *costs: float, first: int = 0) -> None:
    """A row for each cost, from one time on."""
    one.send(
        [
            replace(prediction(at // MINUTE % 9_000_000 * 10 + first + i, at + i), business={"cost": cost})
            for i, cost in enumerate(costs)
        ]
    )


def since_midnight(one: World, step: Millis, zone: str) -> float:
    """What was spent on the local day that the step ends or is in, row by row."""
    tz = ZoneInfo(zone)
    day = datetime.fromtimestamp((step - 1) / 1000, tz).date()
    return sum(
        row.business["cost"]
        for row in one.rows.values()
        if row.timestamp < step and datetime.fromtimestamp(row.timestamp / 1000, tz).date() == day
    )


def hours(one: World, start: Millis, upto: int, costs: Sequence[float] = (3.0, 0.5), since: int = 0) -> None:
    for hour in range(since, upto):
        spend(one, start + hour * HOUR + 7 * MINUTE, *costs)
        one.tick(start + (hour + 1) * HOUR + 2 * MINUTE)


def changes(one: World) -> list[tuple[str, str]]:
    return [(iso(e["step"]), e["after"]) for e in one.events()]


def judged(one: World) -> tuple[float | None, Window]:
    finding = one.alert("budget").finding
    assert finding is not None
    return finding.value, Window(*finding.window)


@pytest.mark.parametrize(
    ("midnight", "length", "where"),
    [
        (PLAIN, 24, "duckdb"),
        (SPRING, 23, "duckdb"),
        (AUTUMN, 25, "duckdb"),
        (SPRING, 23, "elasticsearch"),
        (AUTUMN, 25, "opensearch"),
    ],
)
def test_each_step_sees_the_day_so_far_and_the_last_one_all_of_it(
    request: pytest.FixtureRequest, midnight: Millis, length: int, where: str
) -> None:
    with world_on(request, where, **world_of(BERLIN)) as one:
        hours(one, midnight - 3 * HOUR, 3)
        for hour in range(length):
            hours(one, midnight, hour + 1, since=hour)
            step = midnight + (hour + 1) * HOUR
            assert judged(one) == (since_midnight(one, step, BERLIN), Window(midnight, step))
            assert judged(one)[0] == 3.5 * (hour + 1)
        fired = iso(midnight + 21 * HOUR)  # the 21st hour is the first over 70
        assert changes(one) == [(fired, "firing")]
        whole = sum(
            doc.values["business.cost.sum"]["value"]
            for doc in one.store.read_metrics(MODEL, HOUR, Window(midnight, midnight + length * HOUR))
            if doc.group == () and not doc.feature
        )
        assert judged(one)[0] == pytest.approx(whole)
        hours(one, midnight + length * HOUR, 1)
        assert judged(one) == (3.5, Window(midnight + length * HOUR, midnight + (length + 1) * HOUR))
        assert changes(one) == [(fired, "firing"), (iso(midnight + (length + 1) * HOUR), "resolved")]


def test_an_outage_caught_up_later_fires_in_the_hours_in_which_the_budgets_were_passed() -> None:
    def lived(one: World, *, at_once: bool) -> list[tuple[str, str]]:
        hours(one, AUTUMN - HOUR, 1)
        for hour in range(80):
            spend(one, AUTUMN + hour * HOUR, 4.0)
            if not at_once:
                one.tick(AUTUMN + (hour + 1) * HOUR + 2 * MINUTE)
        one.drain(AUTUMN + 80 * HOUR + 2 * MINUTE)
        return changes(one)

    with world(**world_of(BERLIN)) as one, world(**world_of(BERLIN)) as other:
        found = lived(one, at_once=False)
        assert lived(other, at_once=True) == found
        # 18 hours of 4 are the first over 70; the first day has 25 of them.
        starts = [AUTUMN, AUTUMN + 25 * HOUR, AUTUMN + 49 * HOUR]
        fired = [(iso(start + 18 * HOUR), "firing") for start in starts]
        resolved = [(iso(start + HOUR), "resolved") for start in (*starts[1:], AUTUMN + 73 * HOUR)]
        assert found == sorted(fired + resolved)


def test_a_night_without_rows_is_no_data_and_ends_nothing() -> None:
    with world(**world_of(BERLIN, "above: 10, min_count: 3")) as one:
        hours(one, AUTUMN, 25)
        assert one.alert("budget").status is Status.FIRING
        next_day = AUTUMN + 25 * HOUR
        one.tick(next_day + HOUR + 2 * MINUTE)
        alert = one.alert("budget")
        assert alert.finding is not None
        assert (alert.finding.state, alert.status) == (State.NO_DATA, Status.FIRING)
        assert alert.finding.window == (next_day, next_day + HOUR)
        spend(one, next_day + HOUR, 1.0, 1.0)
        one.tick(next_day + 2 * HOUR + 2 * MINUTE)
        alert = one.alert("budget")
        assert alert.finding is not None
        assert (alert.finding.state, alert.status) == (State.INSUFFICIENT, Status.FIRING)
        assert "rests on n=2, under min_count 3" in alert.finding.reason
        spend(one, next_day + 2 * HOUR, 1.0)
        one.tick(next_day + 3 * HOUR + 2 * MINUTE)
        assert one.alert("budget").status is Status.RESOLVED


def test_late_rows_of_the_first_hour_are_seen_by_every_later_step_of_that_day() -> None:
    """At the 24th hour of a day of 25, what was spent in the first is put right."""
    with world(**world_of(BERLIN)) as one:
        hours(one, AUTUMN, 24)
        assert one.alert("budget").status is Status.FIRING
        spend(one, AUTUMN + 9 * MINUTE, -50.0, first=5)
        one.drain(AUTUMN + 24 * HOUR + 20 * MINUTE)
        alert = one.alert("budget")
        assert alert.status is Status.RESOLVED
        assert [e.get("ends") for e in one.events()] == [None, "disproved"]
        hours(one, AUTUMN, 25, since=24)
        assert judged(one) == (pytest.approx(25 * 3.5 - 50), Window(AUTUMN, AUTUMN + 25 * HOUR))


def test_late_rows_of_the_day_before_do_not_count_for_today() -> None:
    with world(**world_of(BERLIN)) as one:
        hours(one, PLAIN, 26)
        spend(one, PLAIN + 9 * MINUTE, 500.0, first=5)
        one.drain(PLAIN + 26 * HOUR + 20 * MINUTE)
        assert judged(one) == (7.0, Window(PLAIN + DAY, PLAIN + 26 * HOUR))
        assert one.alert("budget").status is not Status.FIRING


def test_all_steps_of_a_day_that_late_rows_changed_are_judged_again_whenever_that_is() -> None:
    """In the first hour of a day the window is short, and those of the steps that it corrects are long."""
    with world(**world_of(BERLIN, "above: 70, keep_firing: 30h")) as one:
        hours(one, PLAIN, 73)
        reached = judged_through(one.store.state, [MODEL])[MODEL]["budget"]
        assert reached.through == PLAIN + 73 * HOUR
        spend(one, PLAIN + 9 * MINUTE, -50.0, first=5)
        one.drain(one.now + 20 * MINUTE)
        feed, state = load_feed(one.store.state).models[MODEL], load_models(one.pipe, [MODEL])[MODEL]
        judged = Judged(one.book.by_name["budget"], MODEL, feed, state, one.now, one.now)
        since = reached.through - (25 + 30) * HOUR
        assert steps_again(judged, reached) == list(range(since + HOUR, PLAIN + DAY + 1, HOUR))


@pytest.mark.parametrize(
    ("zone", "bucket", "start", "length"),
    [
        (BERLIN, "1h", SPRING - DAY, 72 * HOUR),
        (BERLIN, "1m", AUTUMN, 30 * HOUR),
        (KOLKATA, "1m", parse_time("2026-03-27T18:30:00Z"), 50 * HOUR),
    ],
)
def test_a_backtest_finds_what_the_ticks_found(zone: str, bucket: str, start: Millis, length: Millis) -> None:
    with world(**world_of(zone, "above: 40", bucket)) as one:
        for at in range(start, start + length, 30 * MINUTE):
            spend(one, at + MINUTE, 1.5)
            if (at - start) % (6 * HOUR) == 0:
                one.tick(at + 2 * MINUTE)
        one.drain(start + length + 2 * MINUTE)
        events = one.events()
        assert {e["after"] for e in events} == {"firing", "resolved"}
        came = [msgspec.convert({**event, "decided": 0}, Transition) for event in events]
        run = Replay(one.pipe, one.book, Window(start, start + length))
        list(run.run())
        found = [replace(t, decided=0) for t in run.found().transitions]
        assert sorted(found, key=attrgetter("step", "id")) == sorted(came, key=attrgetter("step", "id"))


def test_in_a_zone_off_the_hour_the_quarter_before_midnight_is_of_its_day() -> None:
    midnight = parse_time("2026-03-28T18:30:00Z")
    with world(**world_of(KOLKATA, "above: 40", "1m")) as one:
        spend(one, midnight - DAY + MINUTE, 30.0)
        one.tick(midnight - DAY + 17 * MINUTE)
        spend(one, midnight - MINUTE, 20.0)
        spend(one, midnight, 1.0)
        one.drain(midnight + 17 * MINUTE)
        assert changes(one)[-2:] == [(iso(midnight), "firing"), (iso(midnight + 15 * MINUTE), "resolved")]


def test_explain_says_what_today_is() -> None:
    with world(**world_of(BERLIN)) as one:
        hours(one, SPRING, 5)
        (row,) = explain_rule(one.pipe, one.book.by_name["budget"], one.now)
        assert (row["reads"]["window"], row["judged_every"]) == ("today", "1h")
        assert row["window"] == [iso(SPRING), iso(SPRING + 6 * HOUR)]


@examples(deadline=None, max_examples=15)
@given(
    st.sampled_from([BERLIN, "UTC", "America/Havana", KOLKATA]),
    st.sampled_from([SPRING - DAY, AUTUMN - DAY, parse_time("2026-10-31T00:00:00Z")]),
    st.lists(st.tuples(st.integers(0, 3 * 24 * 60 - 1), st.integers(-40, 400)), min_size=1, max_size=40),
)
def test_the_last_step_of_a_local_day_is_the_tumbling_sum_of_that_day(
    zone: str, start: Millis, spent: list[tuple[int, int]]
) -> None:
    with world(**world_of(zone, bucket="1m")) as one:
        for minute, cost in spent:
            spend(one, start + minute * MINUTE, cost / 4, first=minute % 7)
        one.drain(start + 4 * DAY)
        rule, reader = one.book.by_name["budget"], one.reading()
        tz, width = ZoneInfo(zone), rule.step(MINUTE)
        seen = 0.0
        for step in range(start - DAY, start + 5 * DAY, width):
            if datetime.fromtimestamp(step / 1000, tz).time() != datetime.min.time():
                continue
            window = rule.bounds(step, width, MINUTE)
            if window.length < HOUR * 2:  # the second of two midnights, an hour into its day
                continue
            sums = reader.window(MODEL, MINUTE, window, frozenset({PartName.CORE}))
            ((_, finding),) = rule.judge_all(Inputs(window, sums[()]), step)
            assert (finding.value or 0.0) == pytest.approx(since_midnight(one, step, zone))
            seen += finding.value or 0.0
        assert seen == pytest.approx(sum(row.business["cost"] for row in one.rows.values()))
