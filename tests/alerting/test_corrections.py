"""What late rows and labels do to an alert: sequences as they were judged, and as they are judged again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.alerting.corrections import as_of, correct
from kedge.alerting.finding import AlertState, Ends, Finding, State, Status
from kedge.alerting.lifecycle import Identity, NoData, Timing, acknowledge, resolve
from kedge.windows import MINUTE
from tests.alerting.steps import IDENTITY, finding, minutes, run, stands

WHOLE = 60.0
"""Minutes: longer than any sequence here."""


def again(characters: str, first: int = 1) -> list[Finding]:
    """Findings of the steps from minute `first` on; a blank is a step that was not judged again."""
    return [finding(c, (first + i) * MINUTE) for i, c in enumerate(characters) if c != " "]


def corrected(
    state: AlertState, characters: str, timing: Timing, first: int = 1, identity: Identity = IDENTITY
) -> AlertState:
    return correct(state, again(characters, first), timing, identity, decided=9)


@pytest.mark.parametrize(
    ("judged", "found", "expected", "timing", "because"),
    [
        # It fires.
        ("mmm", "...", "R", minutes(0), "an alert whose breaches were none is disproved"),
        ("mmm", "..m", "M", minutes(0), "one that still breaches goes on, though it began later"),
        ("mmm", "m..", "R", minutes(0), "one that had ended is resolved"),
        ("mmmm", "  . ", "p", minutes(2), "one that had to wait anew is pending"),
        ("mmm", "...", "R", minutes(0, keep=5), "what never breached is not kept firing either"),
        ("mmm", " ..", "M", minutes(0, keep=5), "what is kept firing is kept so"),
        ("mm?", "...", "R", minutes(0), "late rows end what was kept for want of data"),
        ("mmm", "???", "M", minutes(0), "data that went missing disproves nothing"),
        ("mmm", "<<<", "M", minutes(0), "nor do too few rows"),
        ("hhh", "mmm", "M", minutes(0), "it eases"),
        ("mmm", "mmh", "H", minutes(0), "it worsens"),
        ("mml", "mhl", "M", minutes(0), "but not by steps that are over"),
        # It does not fire.
        ("...", "..m", "M", minutes(0), "the newest step breaches after all: it fires"),
        ("...", ".m.", "-", minutes(0), "an older one did, and that is over: nobody is told"),
        ("...", "mmm", "M", minutes(2), "it breached long enough"),
        ("...", ".mm", "p", minutes(2), "not yet long enough"),
        (".mm", "mmm", "M", minutes(2), "a pending one began earlier"),
        (".mm", "...", "-", minutes(2), "a pending one that never breached is inactive"),
        ("..l", "mml", "p", minutes(0), "what would hold fires at the next breach"),
        ("m..", "mm.", "R", minutes(0), "an episode that is over stays over"),
        ("m..", "...", "R", minutes(0), "even one that never was: it has been told"),
        ("???", "..m", "M", minutes(0), "rows that come late may breach"),
        ("???", "...", "R", minutes(0, no_data=NoData.ALERT), "a notice of missing data ends as they come"),
        ("m??", "mm.", "R", minutes(0, no_data=NoData.ALERT), "and so does what it covered, if it is ok"),
        ("m??", "mmm", "M", minutes(0, no_data=NoData.ALERT), "or goes on, if it is not"),
    ],
)
def test_a_sequence_that_is_judged_again(
    judged: str, found: str, expected: str, timing: Timing, because: str
) -> None:
    timing = _correcting(timing)
    before = run(judged, timing)[-1]
    after = corrected(before, found, timing)
    assert stands([after]) == expected, because
    assert corrected(after, found, timing) == after, "to correct it again changes nothing"


def _correcting(timing: Timing, reach: float = WHOLE) -> Timing:
    return minutes(timing.for_ / MINUTE, timing.keep_firing / MINUTE, timing.no_data, corrects=reach, flaps=0)


def test_a_disproved_alert_says_so_and_points_at_what_was_found() -> None:
    state = corrected(run("mmm", minutes(0, corrects=WHOLE))[-1], "...", minutes(0, corrects=WHOLE))
    told = state.outgoing[-1]
    assert (told.before, told.after, told.ends, told.late) == (
        Status.FIRING,
        Status.RESOLVED,
        Ends.DISPROVED,
        True,
    )
    assert told.reason == "disproved by late rows or labels: ok at 1970-01-01T00:03:00Z after all"
    assert told.started == MINUTE, "it is told where it was told that it fired"
    assert (state.started, state.fired, state.severity) == (None, None, None)


def test_what_is_disproved_by_half_and_breaches_again_is_told_each_time() -> None:
    timing = minutes(0, corrects=WHOLE)
    state = run("mmm", timing)[-1]
    for characters in ("...", "..m", "...", "..m"):
        state = corrected(state, characters, timing)
    assert [t.after for t in state.outgoing[1:]] == [Status.RESOLVED, Status.FIRING] * 2
    assert len({t.id for t in state.outgoing}) == 5, "no two are one, though the step is the same"


def test_an_acknowledged_alert_that_goes_on_stays_acknowledged() -> None:
    timing = minutes(0, corrects=WHOLE)
    seen = acknowledge(run("mmm", timing)[-1], "ada", IDENTITY, decided=8)
    after = corrected(seen, ".mm", timing)
    assert (after.status, after.acknowledged_by, after.started) == (Status.ACKNOWLEDGED, "ada", MINUTE)
    assert corrected(after, "...", timing).acknowledged_by == ""


def test_what_somebody_resolved_stays_so_whatever_comes_late() -> None:
    timing = minutes(0, corrects=WHOLE)
    done = resolve(run("m.m", timing)[-1], "ada", IDENTITY, decided=8)
    assert corrected(done, "mmm", timing) is done


def test_steps_that_are_older_than_corrections_reach_stand() -> None:
    timing = minutes(0, corrects=3)
    state = run("mm.....", timing)[-1]
    assert corrected(state, "..", timing) is state
    assert corrected(state, "m", timing, first=7).status is Status.FIRING


def test_what_was_decided_under_another_rule_stands() -> None:
    timing = minutes(0, corrects=WHOLE)
    state = run("mmm", timing)[-1]
    edited = Identity(signature="two")
    assert corrected(state, "...", timing, identity=edited) is state
    assert corrected(state, "...", minutes(5, corrects=WHOLE)) is state
    later = run("m", timing, state, edited)[-1]
    assert corrected(later, "...", timing, identity=edited) is later, "nor are its steps kept"
    assert corrected(later, ".", timing, first=4, identity=edited).status is Status.RESOLVED


def test_what_should_fire_is_left_to_the_steps_that_are_about_to_be_judged() -> None:
    timing = minutes(1, corrects=WHOLE)
    state = correct(run("...", timing)[-1], again(".mm"), timing, IDENTITY, 9, goes_on=True)
    assert stands([state]) == "-"
    assert stands(run(".", timing, state)) == "-"
    assert stands(run("m", timing, state)) == "M"


def test_where_it_stood_before_a_step_is_known() -> None:
    timing = minutes(0, corrects=WHOLE)
    state = run("mm.m", timing)[-1]
    assert as_of(state, (), 3 * MINUTE, timing, IDENTITY).status is Status.FIRING
    assert as_of(state, again(".."), 3 * MINUTE, timing, IDENTITY).status is Status.INACTIVE


# --- what holds for every sequence --------------------------------------------------------------------------

sequences = st.text(alphabet="mhM~l.?<", min_size=1, max_size=25)
timings = st.builds(
    lambda wait, keep, no_data, reach: minutes(wait, keep, no_data, corrects=reach),
    st.sampled_from([0, 0.5, 1, 2, 5]),
    st.sampled_from([0, 1, 3]),
    st.sampled_from(NoData),
    st.sampled_from([1, 4, WHOLE]),
)


@given(sequences, timings)
@settings(max_examples=200, deadline=None)
def test_the_past_folds_to_where_the_alert_stands(found: str, timing: Timing) -> None:
    state = run(found, timing)[-1]
    last = finding(found[-1], len(found) * MINUTE)
    after = as_of(state, (), last.step + 1, timing, IDENTITY)
    assert state.past is not None
    for name in state.past.base.__struct_fields__:
        assert getattr(after, name) == getattr(state, name), name


@given(sequences, sequences, timings)
@settings(max_examples=200, deadline=None)
def test_judged_again_and_again_it_stands_as_if_it_had_been_so_at_once(
    found: str, other: str, timing: Timing
) -> None:
    """The same state, whether corrections come together or step by step; and no data corrects nothing."""
    state = run(found, timing)[-1]
    other = other[: len(found)]
    once = corrected(state, other, timing)
    assert corrected(once, other, timing) == once
    missing = "".join("?" for _ in found)
    assert corrected(state, missing, timing) is state
    if once is not state and once.finding is not None:
        fires = once.status in (Status.FIRING, Status.ACKNOWLEDGED)
        fired = state.status in (Status.FIRING, Status.ACKNOWLEDGED) or state.fired is not None
        assert not fires or fired or once.finding.state is State.BREACH, (
            "only a newest step that breaches pages"
        )
