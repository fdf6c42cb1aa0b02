"""The law of DESIGN §6: whatever happened on the way, what is stored is what the rows say.

Arrival in any order, twice, late, labels before their predictions and corrected after; ticks missed, doubled,
at odd times; workers that die between any two steps. Then: summaries and metrics equal a recomputation over
the rows, at every tier; and where the schedule leaves the same things to be judged, alerts, events and
messages are the same too.
"""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from kedge.alerting.loading import parse_rules
from kedge.pipeline import faults
from kedge.records import Label, Prediction
from kedge.windows import DAY, HOUR, MINUTE, SECOND, Millis, Window
from tests.pipeline.world import (
    BY_PLAN,
    T0,
    Crash,
    World,
    assert_same,
    crash_at,
    prediction,
    truth,
    world,
)

SPAN = 3 * HOUR
ROWS = 200
HAPPENINGS = ("send", "again", "label", "tick", "crash", "restart", "change")


@pytest.mark.parametrize("seed", range(5))
def test_any_history_ends_in_the_numbers_that_the_rows_say(seed: int) -> None:
    dice = random.Random(seed)
    rows = [prediction(i, T0 + dice.randrange(SPAN)) for i in range(ROWS)]
    if seed % 2:  # some minutes are full, most are empty: the base bucket becomes an hour
        rows = [prediction(i, T0 + dice.choice((7, 8, 95, 170)) * MINUTE + i) for i in range(ROWS)]
    truths = [truth(r.id, r.timestamp + dice.randrange(DAY), right=dice.random() < 0.7) for r in rows]
    truths += [truth(r.id, r.timestamp + dice.randrange(DAY)) for r in dice.sample(rows, ROWS // 5)]
    dice.shuffle(rows)
    dice.shuffle(truths)
    with world() as one:
        _live_through(one, dice, rows, truths)
        one.settle(T0 + 3 * DAY, T0 + 3 * DAY + HOUR, T0 + 3 * DAY + 3 * HOUR)
        one.assert_exact()
        assert sum(key.part == "core" for key in one.stored_parts(DAY)) >= 1


def _live_through(one: World, dice: random.Random, rows: list[Prediction], truths: list[Label]) -> None:
    """Send everything in an arbitrary history of sendings, ticks, deaths and changes of the configuration."""
    now = T0 + MINUTE
    changes: list[Callable[[], None]] = [lambda: _new_rules(one), lambda: _new_baseline(one, dice)]
    while rows or truths:
        match dice.choices(
            ("send", "again", "label", "tick", "crash", "restart", "change"), (5, 1, 4, 4, 3, 1, 1)
        )[0]:
            case "send":
                chunk, rows[:] = rows[:40], rows[40:]
                one.send(chunk)
            case "again" if one.rows:
                one.send(dice.sample(list(one.rows.values()), min(10, len(one.rows))))
            case "label":
                known, truths[:] = truths[:40], truths[40:]
                one.label(known)
            case "tick":
                now += dice.choice((0, 20 * SECOND, MINUTE, 7 * MINUTE, HOUR))
                one.tick(now)
            case "crash":
                now += dice.choice((0, MINUTE, 40 * MINUTE))
                try:
                    with crash_at(after=dice.randrange(25)):
                        one.tick(now)
                except Crash:
                    one.restart()
            case "restart":
                one.restart()
            case "change" if changes and one.rows:
                changes.pop()()


def _new_rules(one: World) -> None:
    one.book = parse_rules(BY_PLAN)


def _new_baseline(one: World, dice: random.Random) -> None:
    one.use_baseline(Window(T0, T0 + DAY), "what there was")


# --- alerts: what is judged is the same, so what is decided must be -----------------------------------------

MINUTES = range(6)
START = T0 + DAY - 3 * MINUTE
"""So that an hour and a day end on the way."""


def _minutes(one: World, *, tick: Callable[[int, Millis], object]) -> None:
    """A service that breaks in minutes 2 and 3 and recovers. Rows and labels come within their minute."""
    for m in MINUTES:
        at = START + m * MINUTE
        broken = m in (2, 3)
        rows = [prediction(m * 20 + i, at + i * SECOND, failed=broken) for i in range(15 if broken else 4)]
        one.send(rows)
        one.label([truth(r.id, r.timestamp + SECOND, right=not broken) for r in rows])
        tick(m, at + 2 * MINUTE)


Outcome = tuple[list[dict[str, Any]], dict[str, Any], dict[str, list[str]]]


def _outcome(one: World) -> Outcome:
    """Events, alerts, and what people were told of each incident, in order."""
    alerts = {name: msgspec.to_builtins(state) for name, state in one.alerts().items()}
    told: dict[str, list[str]] = {}
    for message in one.notebook.messages:
        told.setdefault(message.incident, []).append(message.transition)
    return one.events(), alerts, told


def _assert_outcome(one: World, expected: Outcome) -> None:
    one.settle(START + 9 * MINUTE, START + 12 * MINUTE)
    one.assert_exact()
    for found, wanted, what in zip(_outcome(one), expected, ("events", "alerts", "messages"), strict=True):
        assert_same(found, wanted, what)


@pytest.fixture(scope="module")
def undisturbed() -> Outcome:
    """What a worker that nothing happened to ends with."""
    with world() as one:
        _minutes(one, tick=lambda _, now: one.tick(now))
        one.settle(START + 9 * MINUTE, START + 12 * MINUTE)
        outcome = _outcome(one)
    events, _, told = outcome
    assert {e["rule"] for e in events if e["after"] == "firing"} == {"busy", "failing", "wrong"}
    assert {e["rule"] for e in events if e["after"] == "resolved"} == {"busy", "failing", "wrong"}
    said = [transition for transitions in told.values() for transition in transitions]
    assert len(said) == len(set(said)) == sum(e["after"] in ("firing", "resolved") for e in events)
    return outcome


@pytest.mark.parametrize("point", faults.POINTS)
def test_a_worker_that_dies_between_any_two_steps_changes_nothing(point: str, undisturbed: Outcome) -> None:
    died: list[int] = []

    def tick(one: World, m: int, now: Millis) -> None:
        if m < 2 or died:
            one.tick(now)
            return
        try:
            with crash_at(point):
                one.tick(now)
        except Crash:
            died.append(m)
            one.restart()

    with world() as one:
        _minutes(one, tick=lambda m, now: tick(one, m, now))
        assert died, f"{point} was never reached"
        _assert_outcome(one, undisturbed)


@pytest.mark.parametrize("seed", range(4))
def test_ticks_missed_doubled_and_killed_change_no_alert(seed: int, undisturbed: Outcome) -> None:
    dice = random.Random(seed)

    def tick(one: World, m: int, now: Millis) -> None:
        for _ in range(dice.choice((1, 1, 2)) if m == 0 else dice.choice((0, 0, 1, 2))):
            try:
                with crash_at(after=-1 if m == 0 else dice.choice((-1, dice.randrange(60)))):
                    one.tick(now)
            except Crash:
                one.restart()

    with world() as one:
        _minutes(one, tick=lambda m, now: tick(one, m, now))
        _assert_outcome(one, undisturbed)
