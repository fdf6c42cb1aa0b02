"""The fold, told as sequences: a character a step, what the rule found and where the alert stands after
it."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.alerting.finding import AlertState, Severity, State, Status
from kedge.alerting.lifecycle import Identity, NoData, Timing, acknowledge, alert_id, firing_of, fold, resolve
from kedge.errors import BadInput
from kedge.windows import MINUTE
from tests.alerting.steps import IDENTITY, begin, finding, minutes, run, stands, told


@pytest.mark.parametrize(
    ("found", "expected", "timing", "because"),
    [
        # Prometheus' pending and firing.
        (
            "..m.",
            "--MR",
            minutes(0),
            "without `for` it fires at the first breach and resolves at the first ok",
        ),
        ("mmmm.", "ppMMR", minutes(2), "it fires at the first breach at least `for` after the first one"),
        ("mm.mmm", "pp-ppM", minutes(2), "one ok step begins the wait anew"),
        ("mm", "pM", minutes(0.5), "a `for` shorter than a step waits one step"),
        ("mmm", "ppM", minutes(1.5), "a `for` between steps waits for the next one"),
        ("m.m", "MRM", minutes(0), "a resolved alert fires again"),
        ("m.m", "p-p", minutes(5), "a pending alert that ends has never been resolved"),
        ("mm.m", "pMRp", minutes(1), "a resolved alert waits again"),
        # Prometheus' keep_firing_for.
        ("m..", "MMR", minutes(0, keep=1), "it resolves once ok for `keep_firing`, and holds while under it"),
        ("m.m..", "MMMMR", minutes(0, keep=1), "a breach begins the ok run anew"),
        ("mm.m..", "pMMMMR", minutes(1, keep=1), "and an alert kept firing does not wait for `for` again"),
        ("m.l..", "MMMMR", minutes(0, keep=1), "so does a hold"),
        ("m.?.", "MMMR", minutes(0, keep=2), "what is not known breaks no run"),
        # Holding, and too little to say.
        ("l", "-", minutes(0), "a hold fires nothing"),
        ("mll", "MMM", minutes(0), "nor does it clear anything"),
        ("mlm", "ppM", minutes(2), "it keeps the pending start"),
        ("mll", "ppp", minutes(1), "but the alert fires at a breach only"),
        ("m<m", "ppM", minutes(2), "insufficient data keeps the pending start"),
        ("m<<", "MMM", minutes(0), "and clears nothing"),
        ("<", "-", minutes(0), "and fires nothing"),
        # The ladder.
        ("mhm", "MHM", minutes(0), "severity climbs and falls while it fires"),
        ("hhh", "ppH", minutes(2), "a ladder's top fires when it held for `for`"),
        (
            "mhhh",
            "ppMH",
            minutes(2),
            "each rung counts once it held for `for`; the lower counts the higher's steps",
        ),
        ("hmhhh", "ppMMH", minutes(2), "a rung that was left begins anew"),
        ("hMM", "HHH", minutes(0), "a rung not left by its gap stays"),
        ("MM", "MM", minutes(0), "but is not reached that way"),
        ("hMh", "ppH", minutes(2), "a rung not left keeps its start"),
        ("hl", "HM", minutes(0), "severity falls in a hold that has left the top"),
        ("h~", "HH", minutes(0), "and stays in one that has left nothing"),
        # No data.
        ("m?.", "MMR", minutes(0), "no data is no recovery"),
        ("m?m", "ppM", minutes(2), "no data keeps the pending start"),
        ("m?", "MR", minutes(0, no_data=NoData.OK), "unless the rule says that it is ok"),
        ("m?m", "p-p", minutes(2, no_data=NoData.OK), "which ends the wait too"),
        ("?.", "NR", minutes(0, no_data=NoData.ALERT), "no data may be told, and is over when data is back"),
        ("???", "--N", minutes(2, no_data=NoData.ALERT), "once it lasted `for`"),
        ("m?m.", "MnMR", minutes(0, no_data=NoData.ALERT), "an alert that fires goes on after it"),
        ("m?.", "MnR", minutes(0, no_data=NoData.ALERT), "or resolves after it"),
        ("?<.", "NNR", minutes(0, no_data=NoData.ALERT), "too little data is not data that is back"),
        ("?l", "NR", minutes(0, no_data=NoData.ALERT), "a hold is"),
        ("m?l.", "MnMR", minutes(0, no_data=NoData.ALERT), "and takes a firing alert back to firing"),
        ("?m", "NM", minutes(0, no_data=NoData.ALERT), "data that is back may breach at once"),
    ],
)
def test_a_sequence_of_findings(found: str, expected: str, timing: Timing, because: str) -> None:
    assert stands(run(found, timing)) == expected, because


def test_every_transition_says_why() -> None:
    states = run("mmhm..", minutes(1, keep=1))
    assert told(states) == [
        ("inactive", "pending", "breaching at 1970-01-01T00:01:00Z; fires after 1m"),
        ("pending", "firing", "breaching for 1m, since 1970-01-01T00:01:00Z"),
        ("firing", "resolved", "ok for 1m, since 1970-01-01T00:05:00Z"),
    ]
    assert told(run("mhm?", minutes(0, no_data=NoData.ALERT))) == [
        ("inactive", "firing", "breaching at 1970-01-01T00:01:00Z"),
        ("firing", "firing", "worsened from medium to high"),
        ("firing", "firing", "eased from high to medium"),
        ("firing", "no_data", "no data since 1970-01-01T00:04:00Z"),
    ]
    assert told(run("?lm", minutes(0, no_data=NoData.ALERT))) == [
        ("inactive", "no_data", "no data since 1970-01-01T00:01:00Z"),
        ("no_data", "resolved", "data is back"),
        ("resolved", "firing", "breaching at 1970-01-01T00:03:00Z"),
    ]


def test_a_transition_carries_what_its_message_needs() -> None:
    *_, resolved = run("mhl.", minutes(0))[-1].outgoing
    assert (resolved.alert, resolved.rule, resolved.group) == (
        begin().alert,
        "slow",
        {"segment.region": "eu"},
    )
    assert (resolved.severity, resolved.severity_before) == (Severity.MEDIUM, Severity.MEDIUM)
    assert resolved.started == MINUTE
    assert (resolved.step, resolved.decided, resolved.place) == (4 * MINUTE, 7, "rules/a.yml:3")
    assert resolved.finding.state is State.OK


def test_a_notice_of_missing_data_and_the_breach_after_it_are_two_incidents() -> None:
    notice, over, firing = run("?m", minutes(0, no_data=NoData.ALERT))[-1].outgoing
    assert notice.started == over.started == MINUTE
    assert firing.started == 2 * MINUTE


def test_an_outage_that_is_caught_up_fires_at_the_step_where_it_should_have() -> None:
    fired = run("mmmm", minutes(2))[-1].outgoing[-1]
    assert (fired.step, fired.started) == (3 * MINUTE, MINUTE)


def test_an_incomplete_window_stops_judging_and_is_judged_later() -> None:
    before = run("m", minutes(1))[-1]
    assert run("!", minutes(1), before)[-1] is before
    assert stands(run("m", minutes(1), before)) == "M"


def test_a_step_judged_again_changes_nothing() -> None:
    state = run("mm", minutes(1))[-1]
    assert fold(state, finding(".", 2 * MINUTE), minutes(1), IDENTITY, decided=9) is state
    assert fold(state, finding(".", 1 * MINUTE), minutes(1), IDENTITY, decided=9) is state


# --- edits of the rule --------------------------------------------------------------------------------------

EDITED = Identity(signature="two")


def test_raising_for_sends_a_firing_alert_back_to_pending_as_prometheus_does() -> None:
    firing = run("mmm", minutes(1))[-1]
    states = run("mmm", minutes(5), firing)
    assert stands(states) == "ppM"
    assert told(states)[-2:] == [
        ("firing", "pending", "`for` is 5m now: it waits again"),
        ("pending", "firing", "breaching for 5m, since 1970-01-01T00:01:00Z"),
    ]


def test_lowering_for_fires_at_the_next_step() -> None:
    assert stands(run("m", minutes(1), run("mm", minutes(9))[-1])) == "M"


def test_an_edited_bound_keeps_an_alert_that_still_breaches() -> None:
    assert stands(run("m.", minutes(2), run("mmm", minutes(2))[-1], EDITED)) == "MR"


def test_an_edited_bound_begins_a_wait_anew() -> None:
    assert stands(run("mmm", minutes(2), run("mm", minutes(2))[-1], EDITED)) == "ppM"


def test_a_rung_that_an_edit_brings_waits_its_for() -> None:
    assert stands(run("hhh", minutes(2), run("mmm", minutes(2))[-1], EDITED)) == "MMH"


def test_an_edit_is_noticed_at_the_next_step_that_can_be_judged() -> None:
    waiting = run("?", minutes(2), run("mm", minutes(2))[-1], EDITED)[-1]
    assert stands(run("mmm", minutes(2), waiting, EDITED)) == "ppM"


# --- people -------------------------------------------------------------------------------------------------


def test_an_acknowledged_alert_stays_so_until_it_resolves_and_the_next_one_is_not() -> None:
    seen = acknowledge(run("m", minutes(0))[-1], "ada", IDENTITY, decided=8)
    assert seen.outgoing[-1].reason == "acknowledged by ada"
    assert acknowledge(seen, "bob", IDENTITY, decided=9) is seen
    assert stands(run("mlm.m", minutes(0), seen)) == "AAARM"
    worse = run("h", minutes(0), seen)[-1]
    assert (worse.status, worse.severity) == (Status.ACKNOWLEDGED, Severity.HIGH)
    assert worse.outgoing[-1].reason == "worsened from medium to high"


def test_an_acknowledged_alert_is_still_so_after_a_gap_in_the_data() -> None:
    seen = acknowledge(run("m", minutes(0))[-1], "ada", IDENTITY, decided=8)
    assert stands(run("?m", minutes(0, no_data=NoData.ALERT), seen)) == "nA"


def test_only_an_alert_that_fires_can_be_acknowledged_or_resolved() -> None:
    for act in (acknowledge, resolve):
        with pytest.raises(BadInput, match=r"only a firing alert can be .*; this one is pending"):
            act(run("m", minutes(5))[-1], "ada", IDENTITY, 8)


def test_an_alert_resolved_by_hand_fires_anew_at_the_next_breach() -> None:
    done = resolve(run("m", minutes(0))[-1], "ada", IDENTITY, decided=8)
    assert stands([done, *run("m", minutes(0), done)]) == "RM"
    assert len({t.id for t in run("m", minutes(0), done)[-1].outgoing}) == 3


def test_an_alert_remembers_when_it_fired_for_as_long_as_it_is_asked_to() -> None:
    """Breaches at 1 and 2, at 5, and at 8: ended by an ok step, by hand, and not at all."""
    timing = Timing(remember=6 * MINUTE)
    state = begin()
    for minute, character in enumerate("mm<.m..m", start=1):
        state = fold(state, finding(character, minute * MINUTE), timing, IDENTITY, 0)
        if minute == 5:
            state = resolve(state, "ann", IDENTITY, 0)
    assert state.fired_before == ((MINUTE, 4 * MINUTE), (5 * MINUTE, 5 * MINUTE))
    assert firing_of(state) == 8 * MINUTE
    for minute in (9, 10):
        state = fold(state, finding("m", minute * MINUTE), timing, IDENTITY, 0)
    assert state.fired_before == ((5 * MINUTE, 5 * MINUTE),)
    assert firing_of(state) == 8 * MINUTE


def test_an_alert_that_fires_all_the_time_remembers_no_more_than_a_hundred_times() -> None:
    timing = Timing(remember=10_000 * MINUTE)
    state = begin()
    for minute in range(1, 241):
        state = fold(state, finding("m."[minute % 2], minute * MINUTE), timing, IDENTITY, 0)
    times = state.fired_before
    assert len(times) == 100
    assert times[-1] == (238 * MINUTE, 239 * MINUTE)
    assert times[0] == (2 * MINUTE, 41 * MINUTE)  # the oldest twenty, and what was between them


def test_an_alert_is_known_by_rule_model_version_and_group_in_any_order() -> None:
    one = alert_id("slow", "fraud", "v7", {"a": "1", "b": "2"})
    assert one == alert_id("slow", "fraud", "v7", {"b": "2", "a": "1"})
    others = [("slow", "fraud", "", {"a": "1", "b": "2"}), ("slow", "fraud", "v7", {"a": "1"})]
    assert one not in {alert_id(*other) for other in others}


# --- what holds for every sequence --------------------------------------------------------------------------

sequences = st.text(alphabet="mhM~l.?<!", max_size=30)
timings = st.builds(
    lambda wait, keep, no_data: minutes(wait, keep, no_data),
    st.sampled_from([0, 0.5, 1, 2, 5]),
    st.sampled_from([0, 1, 3]),
    st.sampled_from(NoData),
)


def saved(state: AlertState) -> AlertState:
    return msgspec.json.decode(msgspec.json.encode(state), type=AlertState)


@given(sequences, timings, st.data())
@settings(max_examples=150, deadline=None)
def test_doubled_late_and_interrupted_steps_end_in_the_same_state(
    found: str, timing: Timing, data: st.DataObject
) -> None:
    """Steps in order, among them any earlier ones again, with the state stored and read back in between."""
    steps = [finding(c, i * MINUTE) for i, c in enumerate(found, 1)]
    once = begin()
    for f in steps:
        once = fold(once, f, timing, IDENTITY, decided=7)
    again = begin()
    for i, f in enumerate(steps):
        repeated = data.draw(st.lists(st.sampled_from(steps[:i]), max_size=2)) if i else []
        done = [g for g in repeated if g.step <= again.evaluated_through]
        for g in (*done, f, f):
            again = saved(fold(again, g, timing, IDENTITY, decided=7))
    assert again == once


@given(sequences, timings)
@settings(max_examples=200, deadline=None)
def test_no_sequence_breaks_the_chain_of_transitions(found: str, timing: Timing) -> None:
    state, status = begin(), Status.INACTIVE
    for state in run(found, timing):
        assert (state.fired is not None) == (state.severity is not None)
        assert state.status in (Status.NO_DATA, Status.PENDING) or (state.fired is None) == (
            state.status in (Status.INACTIVE, Status.RESOLVED)
        )
    for t in state.outgoing:
        assert t.before is status
        assert t.reason
        assert t.before is not t.after or t.severity is not t.severity_before
        status = t.after
    assert status is state.status
    assert len({t.id for t in state.outgoing}) == len(state.outgoing)


@given(sequences, timings)
@settings(max_examples=200, deadline=None)
def test_no_sequence_fires_or_recovers_on_missing_data(found: str, timing: Timing) -> None:
    state = run(found, timing)[-1] if found else begin()
    for t in state.outgoing:
        if t.after is Status.FIRING and t.before not in (Status.FIRING, Status.NO_DATA):
            assert t.finding.state is State.BREACH
        if t.before in (Status.FIRING, Status.NO_DATA) and t.after is Status.RESOLVED:
            missing = t.finding.state in (State.NO_DATA, State.INSUFFICIENT)
            assert not missing or timing.no_data is NoData.OK


@given(st.lists(st.sampled_from("m."), max_size=40), st.integers(0, 6))
@settings(max_examples=150, deadline=None)
def test_firing_agrees_with_prometheus_rule_on_plain_sequences(found: list[str], wait: int) -> None:
    """An oracle in its own words: it fires while the unbroken run of breaches is at least `for` old."""
    run_began: int | None = None
    expected = []
    for i, character in enumerate(found):
        run_began = (i if run_began is None else run_began) if character == "m" else None
        expected.append(run_began is not None and i - run_began >= wait)
    states = run("".join(found), minutes(wait))
    assert [state.status is Status.FIRING for state in states] == expected


def after_hours(characters: str, timing: Timing, state: AlertState) -> list[AlertState]:
    """The states of the next morning: its first finding resumes what nobody looked at overnight."""
    step = state.evaluated_through + 14 * 60 * MINUTE
    first = msgspec.structs.replace(finding(characters[0], step), resumes=True)
    state = fold(state, first, timing, IDENTITY, decided=7)
    return [state, *run(characters[1:], timing, state)]


@pytest.mark.parametrize(
    ("evening", "morning", "expected", "timing"),
    [
        ("mm", "mmmm", "pppM", minutes(3)),  # a pending alert waits anew
        ("mm", ".", "-", minutes(3)),
        ("mm", "~mmmm", "ppppM", minutes(3)),
        ("mmmm", "mm", "MM", minutes(3)),  # one that fires goes on
        ("mmmm", "h", "M", minutes(3)),  # and a higher rung waits anew
        ("m.", "..", "MR", minutes(0, keep=1)),  # the night is no time of being ok
        ("??", "????", "---N", minutes(3, no_data=NoData.ALERT)),
    ],
)
def test_hours_in_which_nobody_looked_are_no_part_of_a_run(
    evening: str, morning: str, expected: str, timing: Timing
) -> None:
    last = run(evening, timing)[-1]
    assert stands(after_hours(morning, timing, last)) == expected
