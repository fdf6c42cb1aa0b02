"""An alert's life as a state machine, in a real store and outbox: whatever is found, corrected, edited, done
by people, silenced, judged twice or killed on the way, no firing alert is lost, no change is posted twice,
and nothing resolves for want of data.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kedge.alerting.corrections import correct
from kedge.alerting.finding import AlertState, Ends, Finding, Flaps, State, Status, Transition
from kedge.alerting.lifecycle import ACTIVE, Identity, NoData, Timing, acknowledge, end, fold, resolve
from kedge.errors import BadInput
from kedge.notify.receivers import Receivers
from kedge.pipeline.deliver import deliver, project
from kedge.store.base import Stored
from kedge.store.duckdb import open_duckdb
from kedge.windows import MINUTE, Millis
from tests.alerting.steps import begin, finding, minutes
from tests.pipeline.world import Crash, Notebook, crash_at

MISSING = (State.NO_DATA, State.INSUFFICIENT, State.INCOMPLETE)
LIVE = (*ACTIVE, Status.NO_DATA)
characters = st.text(alphabet="mmhM~l...?<!", min_size=1, max_size=6)
timings = st.builds(
    lambda wait, keep, no_data, reach, flaps: minutes(wait, keep, no_data, corrects=reach, flaps=flaps),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([0, 2]),
    st.sampled_from(NoData),
    st.sampled_from([4, 30]),
    st.sampled_from([0, 20]),
)


@dataclass(frozen=True)
class Silenceable(Receivers):
    """One receiver, told nothing while there is a silence."""

    silences: set[str] = field(default_factory=set)

    def route(self, transition: Transition) -> tuple[str, ...]:
        return () if self.silences else super().route(transition)


class Life(RuleBasedStateMachine):
    """One alert's life."""

    @initialize(timing=timings)
    def begin(self, timing: Timing) -> None:
        self.store = open_duckdb(":memory:", clock=lambda: self.now)
        self.store.setup()
        self.notebook = Notebook()
        self.receivers = Silenceable({"notebook": self.notebook}, "notebook")
        self.timing, self.identity = timing, Identity(signature="0")
        self.found: dict[Millis, Finding] = {}
        self.now: Millis = 0
        self.changes: list[Transition] = []
        self.silenced_ids: set[str] = set()
        self.edited_at: Millis = -1
        state = begin()
        self.name = state.alert
        assert self.store.alerts.swap(self.name, msgspec.to_builtins(state), None)

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        try:
            self._settle()
            self._all_told_once()
        finally:
            self.store.close()

    # --- what happens ---------------------------------------------------------------------------------------

    @rule(found=characters, twice=st.booleans())
    def steps_are_judged(self, found: str, twice: bool) -> None:
        findings = self._next(found)
        self._apply(lambda state: self._folded(state, (), findings))
        if twice:
            self._apply(lambda state: self._folded(state, (), findings))

    @rule(found=characters, overtaken=characters)
    def steps_are_judged_by_a_worker_that_is_overtaken(self, found: str, overtaken: str) -> None:
        """Both judge from the same step on; the second finds that its state is not the one it read."""
        stale = self._stored()
        steps = self._next(found)
        other = [finding(c, f.step) for c, f in zip(overtaken, steps, strict=False)]
        self._apply(lambda state: self._folded(state, (), steps))
        self._apply(lambda state: self._folded(state, (), other), stale)

    @rule(
        back=st.integers(1, 12),
        found=characters,
        more=st.one_of(st.just(""), characters),
        twice=st.booleans(),
    )
    def steps_are_judged_again(self, back: int, found: str, more: str, twice: bool) -> None:
        newest = self._state().evaluated_through
        again = [
            finding(c, step)
            for i, c in enumerate(found)
            if 0 < (step := newest - (back - 1 - i) * MINUTE) <= newest
        ]
        findings = self._next(more)
        for _ in range(1 + twice):
            self._apply(lambda state: self._folded(state, again, findings))

    @rule(timing=timings)
    def the_timing_is_edited(self, timing: Timing) -> None:
        self.timing, self.edited_at = timing, self._state().evaluated_through

    @rule()
    def the_bound_is_edited(self) -> None:
        self.identity = Identity(signature=str(int(self.identity.signature) + 1))
        self.edited_at = self._state().evaluated_through

    @rule()
    def somebody_acknowledges_it(self) -> None:
        with suppress(BadInput):
            self._apply(lambda state: acknowledge(state, "ada", self.identity, self._tick()))

    @rule()
    def somebody_resolves_it(self) -> None:
        with suppress(BadInput):
            self._apply(lambda state: resolve(state, "ada", self.identity, self._tick()))

    @rule()
    def its_rule_goes_and_comes_back(self) -> None:
        self._apply(lambda state: end(state, "the rule is gone", self.identity, self._tick()))

    @rule()
    def it_is_silenced_or_no_longer(self) -> None:
        self._settle()  # what is decided before counts as before
        self.receivers.silences.symmetric_difference_update({"a deploy"})

    @rule(after=st.integers(0, 12))
    def what_changed_is_sent_by_a_worker_that_dies(self, after: int) -> None:
        with suppress(Crash), crash_at(after=after):
            project(self.store, self.receivers, self.now)
            deliver(self.store, self.receivers, self.now, "one", alone=True)

    @rule()
    def what_changed_is_sent(self) -> None:
        self._settle()

    # --- what holds -----------------------------------------------------------------------------------------

    @invariant()
    def where_it_stands_follows_from_its_changes(self) -> None:
        if not hasattr(self, "store"):
            return
        state, status = self._state(), Status.INACTIVE
        for change in self.changes:
            assert change.before is status, "no change is left out"
            assert change.reason
            status = change.after
        assert status is state.status
        assert (state.fired is not None) == (state.severity is not None)
        assert (state.status in ACTIVE) <= (state.fired is not None)
        assert len({change.id for change in self.changes}) == len(self.changes)

    @invariant()
    def nobody_is_left_untold_that_it_fires(self) -> None:
        """It fires: that was told when it began, or that it flaps."""
        if not hasattr(self, "store"):
            return
        if (state := self._state()).status not in ACTIVE:
            return
        episode = []
        for change in reversed(self.changes):
            episode.append(change)
            if change.before not in LIVE:
                break
        folded = all(change.flaps is Flaps.FOLDED for change in episode)
        assert not folded or state.flapping is not None

    def _check(self, change: Transition) -> None:
        """Each change has a cause that may bring it about."""
        found = change.finding.state
        no_data_is_ok = self.timing.no_data is NoData.OK
        by_hand = "by ada" in change.reason
        if change.after is Status.FIRING and change.before not in LIVE:
            assert found is State.BREACH or change.late, "it fires on a breach"
        leaves = change.before in LIVE and change.after not in LIVE
        if leaves and self._fired(change) and not by_hand and change.ends is not Ends.GONE:
            if change.after is Status.PENDING:
                assert self.edited_at >= 0, "only an edit sends it back"
            else:
                assert found not in MISSING or (found is State.NO_DATA and no_data_is_ok), (
                    "missing data ends nothing"
                )
        if change.flaps is Flaps.STEADY:
            assert found not in MISSING

    def _fired(self, change: Transition) -> bool:
        """Whether it fired, by what was told so far: a notice of missing data alone is none."""
        return change.before in ACTIVE or (
            change.before is Status.NO_DATA and change.severity_before is not None
        )

    def _all_told_once(self) -> None:
        events = {s.value["id"] for s in self.store.events.find().values()}
        assert events == {change.id for change in self.changes}, "its history is whole"
        posted = [message.transition for message in self.notebook.messages]
        assert len(posted) == len(set(posted)), "and no change is posted twice"
        base = Receivers({"notebook": self.notebook}, "notebook")
        due = {change.id for change in self.changes if base.route(change)} - self.silenced_ids
        assert due == set(posted)

    # --- the workers ----------------------------------------------------------------------------------------

    def _tick(self) -> Millis:
        self.now += 1
        return self.now

    def _next(self, found: str) -> list[Finding]:
        first = self._state().evaluated_through + MINUTE
        return [finding(c, first + i * MINUTE) for i, c in enumerate(found)]

    def _folded(self, state: AlertState, again: list[Finding], findings: list[Finding]) -> AlertState:
        now = self._tick()
        if again:
            goes_on = any(f.step > state.evaluated_through for f in findings)
            state = correct(state, again, self.timing, self.identity, now, goes_on=goes_on)
        for f in findings:
            if f.state is State.INCOMPLETE:
                break
            state = fold(state, f, self.timing, self.identity, now)
        return state

    def _stored(self) -> Stored:
        stored = self.store.alerts.get(self.name)
        assert stored is not None
        return stored

    def _state(self) -> AlertState:
        return msgspec.convert(self._stored().value, AlertState)

    def _apply(self, change: Callable[[AlertState], AlertState], stored: Stored | None = None) -> None:
        """As the pipeline does: swap it in, or do it again with what another has stored."""
        while True:
            stored = stored or self._stored()
            before = msgspec.convert(stored.value, AlertState)
            after = change(before)
            if self.store.alerts.swap(self.name, msgspec.to_builtins(after), stored.token):
                break
            stored = None
        new = after.outgoing[len(before.outgoing) :]
        for one in new:
            self._check(one)
            if one.late and one.after is Status.FIRING and one.before not in LIVE:
                assert after.finding is not None
                assert after.finding.state is State.BREACH, "late rows page if the newest step breaches too"
        self.changes += new
        if self.receivers.silences:
            self.silenced_ids |= {one.id for one in new}

    def _settle(self) -> None:
        for _ in range(50):
            project(self.store, self.receivers, self.now)
            counts = deliver(self.store, self.receivers, self.now, "two", alone=True)
            if not counts.waiting and not counts.postponed and not self._state().outgoing:
                return
            self.now += MINUTE
        pytest.fail("it is never all sent")


def test_no_life_of_an_alert_loses_it_or_tells_twice() -> None:
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
