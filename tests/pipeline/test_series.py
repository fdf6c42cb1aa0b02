"""Rules that are judged on how a metric went, end to end: what they read, and what they find."""

import math
from collections.abc import Callable, Iterable

import msgspec
import numpy as np
import pytest

from kedge.alerting.finding import Finding, Severity, State, Status
from kedge.alerting.inputs import Inputs
from kedge.alerting.loading import RuleBook, parse_rules
from kedge.alerting.series import SeriesRule, context_of
from kedge.analysis.series import Series
from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.context import groupings_of
from kedge.pipeline.dirty import ModelFeed
from kedge.pipeline.schema import features_of
from kedge.pipeline.series import PastWindows
from kedge.records import Prediction
from kedge.sketch import Summary
from kedge.store.base import Group
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, parse_time
from tests.alerting.make import served
from tests.pipeline.world import MODEL, T0, World, prediction, settings, truth, world

BY_HOUR = settings(fraud={"bucket": "1h"})
Latency = Callable[[int], float]
_REGIONS = ("eu", "us", "new")


def book(*rules: str) -> RuleBook:
    lines = "\n".join(f"- {{{rule}}}" for rule in rules)
    found = parse_rules(f"version: 1\ndefaults: {{model: fraud}}\nrules:\n{lines}\n")
    assert not found.problems, found.problems
    return found


def rows(hours: Iterable[int], latency: Latency, n: int = 3, region: str = "eu") -> list[Prediction]:
    """n rows in each hour since T0, as slow as `latency` says."""
    return [
        msgspec.structs.replace(
            prediction(
                hour * 10 + i + 3 * _REGIONS.index(region), T0 + hour * HOUR + i * 9 * MINUTE, failed=False
            ),
            latency_ms=latency(hour) + (i - 1),
            segment={"region": region},
        )
        for hour in hours
        for i in range(n)
    ]


def by_day(hour: int) -> float:
    """Slow at noon, fast at night, and never twice quite the same."""
    noise = float(np.random.default_rng(hour).normal(1, 0.04))
    return (200 - 120 * math.cos(2 * math.pi * hour / 24)) * noise


def found(one: World, rule: str, **group: str) -> Finding:
    finding = one.alert(rule, **group).finding
    assert finding is not None
    return finding


def drained(one: World, hour: int) -> None:
    one.drain(T0 + hour * HOUR + 2 * MINUTE)


ODD = "name: latency-odd, kind: anomaly, metric: latency.mean, direction: up, severity: high, history: 56d"


def test_an_odd_hour_fires_by_what_is_usual_at_its_time_and_clears_when_it_is_over() -> None:
    with world(book=book(ODD), settings=BY_HOUR) as one:
        one.now = T0 + 40 * DAY
        one.send(rows(range(40 * 24), by_day))
        drained(one, 40 * 24)
        calm = found(one, "latency-odd")
        assert calm.state is State.OK
        assert calm.usual is not None
        assert calm.usual[0] < by_day(39 * 24 + 23) < calm.usual[1]
        # 260 ms: less than at any noon, far too much at midnight.
        one.send(rows(range(40 * 24, 40 * 24 + 3), lambda hour: 260.0))
        drained(one, 40 * 24 + 3)
        odd = found(one, "latency-odd")
        assert (odd.state, odd.severity) == (State.BREACH, Severity.HIGH)
        assert odd.value == pytest.approx(260.0)
        assert odd.bound is not None
        assert odd.bound < 260
        assert "latency.mean is 260 ms (n=3); usual at 02:00:" in odd.reason
        assert "40 days" in odd.reason
        assert one.alert("latency-odd").status is Status.FIRING
        one.send(rows(range(40 * 24 + 3, 40 * 24 + 5), by_day))
        drained(one, 40 * 24 + 5)
        assert one.alert("latency-odd").status is Status.RESOLVED


def test_a_shift_that_stays_is_not_taken_for_usual_while_it_fires() -> None:
    """For ten days on end: a reference that followed would have made it normal."""
    with world(book=book(ODD), settings=BY_HOUR) as one:
        one.now = T0 + 30 * DAY
        one.send(rows(range(30 * 24), by_day))
        drained(one, 30 * 24)
        before = found(one, "latency-odd").usual
        one.send(rows(range(30 * 24, 40 * 24), lambda hour: by_day(hour) * 1.6))
        drained(one, 40 * 24)
        alert = one.alert("latency-odd")
        assert alert.status is Status.FIRING
        assert alert.started == T0 + 30 * DAY + HOUR
        assert found(one, "latency-odd").usual == pytest.approx(before, rel=0.05)


def test_a_shift_that_waits_for_its_time_to_fire_is_not_taken_for_usual() -> None:
    with world(book=book(f"{ODD}, for: 5h"), settings=BY_HOUR) as one:
        one.now = T0 + 30 * DAY
        one.send(rows(range(30 * 24), by_day))
        drained(one, 30 * 24)
        one.send(rows(range(30 * 24, 30 * 24 + 7), lambda hour: by_day(hour) * 1.6))
        drained(one, 30 * 24 + 7)
        alert = one.alert("latency-odd")
        assert (alert.status, alert.fired) == (Status.FIRING, T0 + 30 * DAY + 6 * HOUR)


def test_groups_are_held_against_their_own_past() -> None:
    rules = book(f"{ODD}, by: [segment.region]".replace("severity: high, ", ""))
    with world(book=rules, settings=BY_HOUR) as one:
        one.now = T0 + 20 * DAY
        one.send(rows(range(20 * 24), by_day))
        one.send(rows(range(20 * 24), lambda hour: 3 * by_day(hour), region="us"))
        one.send(rows(range(20 * 24 - 24, 20 * 24), by_day, region="new"))
        drained(one, 20 * 24)
        one.send(rows(range(20 * 24, 20 * 24 + 2), lambda hour: 3 * by_day(hour)))
        one.send(rows(range(20 * 24, 20 * 24 + 2), lambda hour: 3 * by_day(hour), region="us"))
        drained(one, 20 * 24 + 2)
        region = {name: found(one, "latency-odd", **{"segment.region": name}) for name in _REGIONS}
        assert region["eu"].state is State.BREACH
        assert region["us"].state is not State.BREACH
        assert region["new"].state is State.NO_DATA


def test_too_short_a_history_says_how_much_it_needs() -> None:
    with world(book=book(ODD), settings=BY_HOUR) as one:
        one.now = T0 + 5 * DAY
        one.send(rows(range(5 * 24), by_day))
        drained(one, 5 * 24)
        early = found(one, "latency-odd")
        assert early.state is State.INSUFFICIENT
        assert "needs a history of 14d with 168 windows: it begins 119h ago" in early.reason


LOSS = "name: slowing, kind: trend, metric: latency.mean, over: 7d, reaches: 300ms, within: 3d"


def test_a_climb_fires_before_its_bound_is_reached_and_clears_when_it_stops() -> None:
    def climbing(hour: int) -> float:
        return 150 + 0.6 * hour + float(np.random.default_rng(hour).normal(0, 5))

    with world(book=book(LOSS), settings=BY_HOUR) as one:
        one.now = T0 + 7 * DAY
        one.send(rows(range(7 * 24), climbing))  # 14.4 ms a day: at 251 ms, 3.4 days before 300 ms
        drained(one, 7 * 24)
        assert found(one, "slowing").state is State.HOLD
        one.send(rows(range(7 * 24, 8 * 24), climbing))
        drained(one, 8 * 24)
        soon = found(one, "slowing")
        assert soon.state is State.BREACH
        assert soon.value is not None
        assert soon.value < 280
        assert soon.reason.startswith("latency.mean climbs 14")
        assert "a day (95 %: 1" in soon.reason
        assert "reaches 300 ms in 2.3d (2.2d to 2.6d)" in soon.reason
        level = climbing(8 * 24)
        one.send(rows(range(8 * 24, 13 * 24), lambda hour: level + climbing(hour) - 150 - 0.6 * hour))
        drained(one, 13 * 24)
        assert one.alert("slowing").status is Status.RESOLVED


def test_a_wandering_metric_far_from_its_bound_fires_nothing() -> None:
    with world(book=book(LOSS), settings=BY_HOUR) as one:
        one.now = T0 + 9 * DAY
        one.send(rows(range(9 * 24), by_day))
        drained(one, 9 * 24)
        assert found(one, "slowing").state in (State.OK, State.HOLD)
        assert one.alert("slowing").status is Status.INACTIVE


def test_the_message_of_an_odd_hour_names_the_segment_that_did_it() -> None:
    rules = book("name: errors-odd, kind: anomaly, metric: errors.rate, direction: up, history: 7d")
    by_region = settings(fraud={"bucket": "1h", "groups": ["segment.region"]})

    def served(hours: Iterable[int], *, failing: str = "") -> list[Prediction]:
        """Twenty rows an hour, of which one in seven fails; in the region that is `failing`, all."""
        made = [
            prediction(hour * 20 + i, T0 + hour * HOUR + i * 2 * MINUTE) for hour in hours for i in range(20)
        ]
        return [
            msgspec.structs.replace(row, error_type="Timeout") if row.segment["region"] == failing else row
            for row in made
        ]

    with world(book=rules, settings=by_region) as one:
        one.now = T0 + 8 * DAY
        one.send(served(range(8 * 24)))
        drained(one, 8 * 24)
        baseline = build_baseline(
            one.store,
            MODEL,
            Window(T0, T0 + 7 * DAY),
            features_of(one.store.state, MODEL),
            groupings_of(one.pipe, one.book, MODEL),
            source="a week",
            now=one.now,
        )
        import_baseline(one.store.state, baseline, use=True)
        one.send(served([8 * 24], failing="us"))
        drained(one, 8 * 24 + 1)
        assert one.alert("errors-odd").status is Status.FIRING
        (message,) = one.notebook.messages
        (moved,) = [line for line in message.lines if line.startswith("Moves with it: ")]
        assert moved.startswith("Moves with it: region=us 14 % → 100 %")
        assert ", usual " in message.lines[0]


def test_what_a_worker_remembers_of_the_past_is_what_another_would_read() -> None:
    """Rows and labels of days ago come in between; one worker goes on, the other begins anew at each tick."""
    rules = book(
        "name: odd, kind: anomaly, metric: latency.mean, history: 7d, by: [segment.region]",
        "name: wrong, kind: anomaly, metric: performance.accuracy, history: 7d, window: 2h",
        "name: climbing, kind: trend, metric: latency.mean, over: 1d, reaches: 1s, within: 1h",
    )
    told: list[list[object]] = []
    for anew in (False, True):
        with world(
            book=rules, settings=settings(fraud={"bucket": "1h", "labels": {"mature_after": "1h"}})
        ) as one:
            one.now = T0 + 8 * DAY
            sent = rows(range(8 * 24), by_day)
            one.send(sent)
            one.label([truth(row.id, row.timestamp + MINUTE) for row in sent])
            drained(one, 8 * 24)
            findings: list[object] = []
            for hour in range(8 * 24, 8 * 24 + 6):
                new = rows([hour], by_day)
                one.send(new)
                one.label([truth(row.id, row.timestamp + MINUTE) for row in new])
                one.send(rows([hour - 3 - 7 * (hour % 5)], lambda at: 900.0, n=2, region="us"))
                late = sent[(hour * 31) % len(sent)]
                one.label([truth(late.id, late.timestamp + HOUR, right=False)])
                if anew:
                    one.restart()
                drained(one, hour + 1)
                findings += sorted(
                    (s.rule, sorted(s.group.items()), msgspec.to_builtins(s.finding))
                    for s in one.alerts().values()
                )
            told.append(findings)
    assert len(told[0]) == 3 * 6
    assert told[0] == told[1]


# --- what is read -------------------------------------------------------------------------------------------


def series_of(
    rule: str, feed: ModelFeed, held: dict[Millis, Summary], window: Window, group: Group = ()
) -> Series:
    (one,) = book(rule).rules
    assert isinstance(one, SeriesRule)

    def read(at: Window) -> dict[Group, Summary]:
        return {group: held[at.start]} if at.start in held else {}

    context = context_of(Inputs(window, None))
    return PastWindows(one, "fraud", feed).of(window, group, read, lambda _: context, None)


def test_windows_that_are_not_summarised_are_left_out_and_so_is_the_time_before_the_first_rows() -> None:
    held = {T0 + h * HOUR: served([100.0 + h]) for h in range(5, 40) if h != 20}
    feed = ModelFeed(HOUR, T0 + 3 * HOUR, T0 + 40 * HOUR, dirty={T0 + 30 * HOUR: 1})
    rule = "name: odd, kind: anomaly, metric: latency.mean, history: 7d"
    found = series_of(rule, feed, held, Window(T0 + 40 * HOUR, T0 + 41 * HOUR))
    hours = [(start - T0) // HOUR for start in found.starts.tolist()]
    assert hours == [h for h in range(5, 40) if h != 30]
    assert found.left_out == 1
    assert np.isnan(found.values[hours.index(20), 0])
    assert found.values[hours.index(21), 0] == pytest.approx(121.0)


def test_slots_keep_to_the_clock_on_the_wall() -> None:
    """Berlin leaves summer time on 25 October 2026."""
    first = parse_time("2026-10-20T00:00Z")
    held = {first + h * HOUR: served([100.0]) for h in range(24 * 10)}
    feed = ModelFeed(HOUR, first, first + 10 * DAY)
    rule = "name: odd, kind: anomaly, metric: latency.mean, history: 28d, timezone: Europe/Berlin"
    found = series_of(rule, feed, held, Window(first + 10 * DAY, first + 10 * DAY + HOUR))
    shift = found.starts - np.arange(first, first + 10 * DAY, HOUR)
    assert set(shift[: 5 * 24].tolist()) == {2 * HOUR}
    assert set(shift[5 * 24 + 1 :].tolist()) == {HOUR}
    assert found.now == first + 10 * DAY + HOUR


@pytest.mark.parametrize("least", [0, 2])
def test_windows_with_too_few_rows_are_no_reference(least: int) -> None:
    held = {T0 + h * HOUR: served([100.0] * (1 + h % 3)) for h in range(40)}
    rule = f"name: odd, kind: anomaly, metric: latency.mean, history: 7d, min_count: {least}"
    found = series_of(rule, ModelFeed(HOUR, T0, T0), held, Window(T0 + 40 * HOUR, T0 + 41 * HOUR))
    assert np.isnan(found.values[:, 0]).sum() == (14 if least else 0)
