"""An alert that changes too often: told once, and again when it is steady; its history has all of it."""

from io import StringIO

import msgspec
import pytest

from kedge.alerting.finding import AlertState, Flaps, Severity, Status, Transition
from kedge.alerting.lifecycle import acknowledge, fold, resolve
from kedge.notify.message import Links, compose
from kedge.notify.receivers import Receivers
from kedge.notify.terminal import Terminal
from kedge.windows import MINUTE
from tests.alerting.steps import IDENTITY, begin, finding, minutes, run, stands

HOURLY = minutes(0, flaps=60)
RESTLESS = "m.m.m."
"""Six changes: one more than is told one by one."""


def told(state: AlertState) -> list[Transition]:
    receivers = Receivers({"console": Terminal(StringIO())}, "console")
    return [t for t in state.outgoing if receivers.route(t)]


def test_five_changes_are_told_one_by_one_and_the_sixth_says_that_it_flaps() -> None:
    state = run(RESTLESS, HOURLY)[-1]
    assert [t.flaps for t in state.outgoing] == [None] * 5 + [Flaps.BEGINS]
    assert state.outgoing[-1].reason == (
        "ok at 1970-01-01T00:06:00Z; it flaps: 6 changes since 1970-01-01T00:01:00Z; further ones are not "
        "told until there is none for 1h"
    )


def test_changes_of_an_alert_that_flaps_are_in_its_history_alone() -> None:
    state = run(RESTLESS + "m.m.m.m", HOURLY)[-1]
    assert len(state.outgoing) == 13
    assert told(state) == list(state.outgoing[:6])
    assert stands([state]) == "M", "it stands as the data say, told or not"


def test_it_is_told_where_it_stands_once_it_is_steady() -> None:
    for characters, status in (("m" * 61, Status.FIRING), ("m" + "." * 61, Status.RESOLVED)):
        state = run(RESTLESS + characters, HOURLY)[-1]
        last = told(state)[-1]
        assert (last.flaps, last.before, last.after) == (Flaps.STEADY, status, status)
        assert last.reason.startswith(f"steady again: {status.value} for 1h, since 1970-01-01T00:0")
        assert state.flapping is None
    assert len(told(state)) == 7


def test_it_is_not_steady_before_the_span_is_over() -> None:
    assert run(RESTLESS + "m" * 60, HOURLY)[-1].flapping is not None
    assert run(RESTLESS + "m" * 61, HOURLY)[-1].flapping is None


def test_missing_data_is_not_steady() -> None:
    state = run(RESTLESS + "m" + "?" * 100, HOURLY)[-1]
    assert state.flapping is not None
    assert run("m", HOURLY, state)[-1].flapping is None


@pytest.mark.parametrize(
    ("found", "flaps", "because"),
    [
        ("m." + "." * 61 + RESTLESS[:4], False, "changes an hour ago no longer count"),
        ("mhmhmhmhmhm", False, "a severity that moves is no change between quiet and told"),
        ("m?m?m?m?m?m", False, "nor is missing data of an alert that goes on"),
        ("mlmlmlmlml", False, "nor is a hold"),
        (RESTLESS, True, "six within an hour are"),
    ],
)
def test_what_counts_as_a_change(found: str, flaps: bool, because: str) -> None:
    assert (run(found, HOURLY)[-1].flapping is not None) is flaps, because


def test_waiting_to_fire_is_no_change() -> None:
    assert run("m." * 20, minutes(5, flaps=60))[-1].flapping is None


def test_a_severity_worse_than_any_told_is_told_while_it_flaps() -> None:
    state = run(RESTLESS + "h.h.", HOURLY)[-1]
    worse = told(state)[-1]
    assert (worse.severity, worse.after, worse.step) == (Severity.HIGH, Status.FIRING, 7 * MINUTE)
    assert len(told(state)) == 7, "once"


def test_what_people_do_to_an_alert_that_flaps_is_told() -> None:
    state = run(RESTLESS + "m", HOURLY)[-1]
    assert told(acknowledge(state, "ada", IDENTITY, 8))[-1].reason == "acknowledged by ada"
    done = resolve(state, "ada", IDENTITY, 8)
    assert told(done)[-1].reason == "resolved by ada"
    assert done.flapping is None, "and it begins anew"


def test_all_of_it_is_one_incident() -> None:
    state = run(RESTLESS + "m" * 61 + ".", HOURLY)[-1]
    begins, steady, over = (compose(t, links=Links()) for t in told(state)[5:])
    assert begins.incident == steady.incident == over.incident
    assert begins.headline.startswith("RESOLVED, FLAPPING")
    assert steady.headline.startswith("MEDIUM, STEADY AGAIN")
    assert any("steady again: firing for 1h" in line for line in steady.lines)
    assert state.incident is None
    after = run("m", HOURLY, state)[-1].outgoing[-1]
    assert compose(after, links=Links()).incident != over.incident


def test_a_rule_of_long_windows_takes_longer_to_flap_and_to_be_steady() -> None:
    """A day's window moves on by the hour: six changes in an hour cannot be."""
    timing = minutes(0, flaps=3 * 24 * 60)
    state = begin()
    for i, character in enumerate(RESTLESS, 1):
        state = fold(state, finding(character, i * 60 * MINUTE), timing, IDENTITY, 0)
    assert state.flapping is not None


def test_steps_folded_twice_flap_once() -> None:
    state = begin()
    for i, character in enumerate(RESTLESS + "m.", 1):
        for _ in range(2):
            state = fold(state, finding(character, i * MINUTE), HOURLY, IDENTITY, 0)
            state = msgspec.json.decode(msgspec.json.encode(state), type=AlertState)
    assert len(state.outgoing) == 8
    assert sum(t.flaps is Flaps.BEGINS for t in state.outgoing) == 1
