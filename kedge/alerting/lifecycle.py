"""The life of an alert: a fold of findings in step order. Pure: replays, doubles and restarts cannot hurt it.

inactive → pending (`for`) → firing ⇄ acknowledged → resolved, and no data beside them. What a finding (row)
does to an alert that stands so (column):

    ============  ============  ==============  ==================================  ========================
    finding       quiet         pending         active                              no data
    ============  ============  ==============  ==================================  ========================
    breach        pend or fire  fire once held  severity moves; `for` raised: pend  ends it, then as before
    hold          –             keep the start  severity may fall                   ends it, then as before
    ok            –             inactive        resolve, once `keep_firing` is up   ends it, then as before
    insufficient  –             keep the start  –                                   –
    no data       by the rule: `keep` changes nothing, `ok` counts as ok, `alert` tells once it lasted `for`
    incomplete    nothing at all: judging stops until the window has been summarised
    ============  ============  ==============  ==================================  ========================

Quiet is inactive or resolved, active is firing or acknowledged. Times are steps (the data's), never a clock.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from kedge.alerting import flapping, past
from kedge.alerting.finding import AlertState, Ends, Finding, Severity, State, Status, Transition
from kedge.alerting.moves import (
    ACTIVE,
    QUIET,
    Identity,
    NoData,
    Timing,
    alert_id,
    moved,
    new_state,
    steadied,
    transition_of,
)
from kedge.errors import BadInput
from kedge.windows import Millis, format_duration, iso

__all__ = [
    "ACTIVE",
    "QUIET",
    "Identity",
    "NoData",
    "Timing",
    "acknowledge",
    "alert_id",
    "end",
    "firing_of",
    "fold",
    "new_state",
    "resolve",
]
_LADDER = tuple(Severity)
"""The rungs up to one are the first so many."""
_BY_WORD = {severity.word: severity for severity in Severity}
MOST_EPISODES = 100
"""That are remembered of an alert."""


def fold(
    state: AlertState, finding: Finding, timing: Timing, identity: Identity, decided: Millis
) -> AlertState:
    """The state after one more finding; what changed is appended to `outgoing`.

    A step at or before `evaluated_through` is a no-op, so a doubled or late evaluation cannot move an alert
    back. So is an incomplete finding: its step will be judged once its window has been summarised.
    """
    if finding.step <= state.evaluated_through or finding.state is State.INCOMPLETE:
        return state
    after = _Fold(state, finding, timing, identity, decided).run()
    if not timing.corrects:
        return after if after.past is None else msgspec.structs.replace(after, past=None)

    def once(alert: AlertState, at: Finding) -> AlertState:
        return plainly_folded(alert, at, timing, identity)

    under = timing.under(identity.signature)
    kept = past.kept(state, finding, under, timing.corrects, once)
    return msgspec.structs.replace(after, past=kept)


def plainly_folded(state: AlertState, finding: Finding, timing: Timing, identity: Identity) -> AlertState:
    """The fold alone: of an alert that keeps no past, with nobody told."""
    return _Fold(state, finding, timing.plain, identity, 0).run()


class _Fold:
    """One step of the fold. `now` is the state as it takes shape; each row of the table is a method."""

    def __init__(
        self, state: AlertState, finding: Finding, timing: Timing, identity: Identity, decided: Millis
    ):
        self.finding, self.step, self.decided = finding, finding.step, decided
        self.timing, self.identity = timing, identity
        self.now = msgspec.structs.replace(
            state,
            evaluated_through=finding.step,
            finding=finding,
            place=identity.place,
            notify=identity.notify,
        )

    def run(self) -> AlertState:
        if self.finding.resumes:
            self._begin_anew()
        match self.finding.state:
            case State.NO_DATA:
                self._no_data()
            case State.INSUFFICIENT:
                self._end_silence()
            case judged:
                self._end_silence()
                self._notice_edit()
                self._end_notice("data is back")
                if judged is State.OK:
                    self._ok()
                elif judged is State.BREACH:
                    self._breach()
                else:
                    self._hold()
                if flapping.is_steady(self.now, self.timing.flap_within):
                    self.now = steadied(
                        self.now, finding=self.finding, identity=self.identity, decided=self.decided
                    )
        if self.now.fired_before:
            since = self.step - self.timing.remember
            self._set(fired_before=tuple(held for held in self.now.fired_before if held[1] > since))
        return self.now

    # --- the rows of the table ------------------------------------------------------------------------------

    def _breach(self) -> None:
        reached = self.finding.severity or self.identity.severity
        standing = self._standing()
        before = self.now.rung_since
        rungs = self._rungs_kept()
        for s in _LADDER[:reached]:
            rungs[s.word] = before.get(s.word, self.step)
        since = min(rungs.values())
        if rungs != before or self.now.clear_since is not None:
            self._set(rung_since=rungs, clear_since=None)
        # A rung above what fires, and not reached now, is only kept: to count it must breach at this step.
        top = max(reached, self.now.severity or reached) if standing in ACTIVE else reached
        lasted = (s for s in reversed(_LADDER[:top]) if self._lasted(rungs.get(s.word), self.timing.for_))
        held = next(lasted, None)
        if held and standing in ACTIVE:
            self._go_on(standing, held)
        elif held:
            self._set(started=since, fired=self.step, acknowledged_by="")
            self._move(Status.FIRING, held, self._run("breaching", since))
        elif standing in ACTIVE:
            self._set(fired=None, acknowledged_by="")
            wait = format_duration(self.timing.for_)
            self._move(Status.PENDING, reached, f"`for` is {wait} now: it waits again")
        else:
            self._set(started=since)
            wait = format_duration(self.timing.for_)
            self._move(Status.PENDING, reached, f"{self._run('breaching', since)}; fires after {wait}")

    def _hold(self) -> None:
        self._set(rung_since=self._rungs_kept(), clear_since=None)
        if (standing := self._standing()) in ACTIVE:
            firing = self.now.severity or self.identity.severity
            left = [s for s in Severity if s <= firing and s.word in self.now.rung_since]
            self._go_on(standing, left[-1] if left else firing)

    def _ok(self) -> None:
        standing = self._standing()
        if standing in ACTIVE:
            since = self.step if self.now.clear_since is None else self.now.clear_since
            self._set(clear_since=since)
            severity = self.now.severity or self.identity.severity
            if self._lasted(since, self.timing.keep_firing):
                self._end(Status.RESOLVED, severity, self._run("ok", since))
            else:  # as if it still breached: the rungs keep their start
                self._go_on(standing, severity)
        elif standing is Status.PENDING:
            rungs = self.now.rung_since
            severity = max((_BY_WORD[word] for word in rungs), default=self.identity.severity)
            self._end(Status.INACTIVE, severity, f"{self._run('ok', self.step)}, before it could fire")
        elif self.now.rung_since or self.now.started is not None:
            self._set(rung_since={}, started=None)

    def _no_data(self) -> None:
        since = self.step if self.now.no_data_since is None else self.now.no_data_since
        self._set(no_data_since=since)
        if self.timing.no_data is NoData.OK:
            self._end_notice("no data counts as ok")
            self._ok()
        elif self.timing.no_data is NoData.ALERT and self._lasted(since, self.timing.for_):
            self._set(started=since if self.now.started is None else self.now.started)
            severity = self.now.severity or self.identity.severity
            self._move(Status.NO_DATA, severity, f"no data since {iso(since)}")

    # --- what the rows share --------------------------------------------------------------------------------

    def _begin_anew(self) -> None:
        """Nobody looked for a while: no run goes on through that. What fires is judged on."""
        rungs = _up_to(self.now.severity or 0, self.now.rung_since)
        since = self.now.no_data_since if self.now.status is Status.NO_DATA else None
        self._set(rung_since=rungs, clear_since=None, no_data_since=since)

    def _notice_edit(self) -> None:
        """The rule means something else now: what was not told yet begins anew, what fires is judged on."""
        if self.now.signature == self.identity.signature:
            return
        if self.now.signature:
            self._set(rung_since=_up_to(self.now.severity or 0, self.now.rung_since))
        self._set(signature=self.identity.signature)

    def _end_silence(self) -> None:
        if self.now.no_data_since is not None:
            self._set(no_data_since=None)

    def _end_notice(self, reason: str) -> None:
        """Close a notice of missing data. An alert that fired before it goes on, by its row's own move."""
        if self.now.status is Status.NO_DATA and self.now.fired is None:
            self._move(Status.RESOLVED, self.identity.severity, reason)
            self._set(started=min(self.now.rung_since.values(), default=None))

    def _standing(self) -> Status:
        """The status, looking through a notice of missing data to the alert that fired before it."""
        if self.now.status is not Status.NO_DATA or self.now.fired is None:
            return self.now.status
        return Status.ACKNOWLEDGED if self.now.acknowledged_by else Status.FIRING

    def _lasted(self, since: Millis | None, length: Millis) -> bool:
        return since is not None and self.step - since >= length

    def _rungs_kept(self) -> dict[str, Millis]:
        """The runs that this finding does not end: those of the rungs that still hold."""
        holding = max(self.finding.holding or 0, self.finding.severity or 0) or max(Severity)
        return _up_to(holding, self.now.rung_since)

    def _run(self, what: str, since: Millis) -> str:
        if self.finding.state is State.NO_DATA:
            return "no data, which counts as ok"
        if since == self.step:
            return f"{what} at {iso(since)}"
        return f"{what} for {format_duration(self.step - since)}, since {iso(since)}"

    def _go_on(self, standing: Status, severity: Severity) -> None:
        """An alert that fires goes on, worse or better or as it was."""
        if standing is not self.now.status or severity is not self.now.severity:
            self._move(standing, severity, self._continuing(severity))

    def _continuing(self, severity: Severity) -> str:
        if self.now.status is Status.NO_DATA:
            return "data is back, and it still fires"
        before = self.now.severity or severity
        return f"{'worsened' if severity > before else 'eased'} from {before.word} to {severity.word}"

    def _end(self, after: Status, severity: Severity, reason: str) -> None:
        fired_before = _episodes(self.now)
        self._move(after, severity, reason)
        self.now = msgspec.structs.replace(self.now, **_ENDED, fired_before=fired_before)

    def _move(self, after: Status, severity: Severity, reason: str) -> None:
        within = self.timing.flap_within
        self.now = moved(
            self.now, after, severity, self.finding, self.identity, self.decided, reason, within=within
        )

    def _set(self, **changes: Any) -> None:
        self.now = msgspec.structs.replace(self.now, **changes)


_ENDED: Mapping[str, Any] = {
    "rung_since": {},
    "started": None,
    "fired": None,
    "clear_since": None,
    "acknowledged_by": "",
    "muted_by": "",
}
"""An alert that is quiet again."""


def firing_of(state: AlertState) -> Millis | None:
    """Since which step the episode that fires breached; None while none does."""
    return state.started if state.fired is not None else None


def _episodes(state: AlertState) -> tuple[tuple[Millis, Millis], ...]:
    """When it fired, with the episode that ends now. Of very many, the two oldest count as one, with what was
    between them."""
    since = firing_of(state)
    if since is None:
        return state.fired_before
    held = (*state.fired_before, (since, state.evaluated_through))
    return held if len(held) <= MOST_EPISODES else ((held[0][0], held[1][1]), *held[2:])


def _up_to(severity: int, rung_since: Mapping[str, Millis]) -> dict[str, Millis]:
    return {word: since for word, since in rung_since.items() if _BY_WORD[word] <= severity}


# --- what people do to an alert --------------------------------------------------------------------------


def acknowledge(state: AlertState, who: str, identity: Identity, decided: Millis) -> AlertState:
    """Someone has seen it: acknowledged until it resolves. Twice is once; raises BadInput unless it fires."""
    if state.status is Status.ACKNOWLEDGED:
        return state
    finding = _firing(state, "acknowledged")
    state = msgspec.structs.replace(state, acknowledged_by=who)
    severity = state.severity or identity.severity
    state = moved(state, Status.ACKNOWLEDGED, severity, finding, identity, decided, f"acknowledged by {who}")
    return _as_muted(state)


def resolve(state: AlertState, who: str, identity: Identity, decided: Millis) -> AlertState:
    """End an alert by hand; the next breaching step begins a new one. Raises BadInput unless it fires."""
    finding = _firing(state, "resolved")
    severity = state.severity or identity.severity
    state = moved(state, Status.RESOLVED, severity, finding, identity, decided, f"resolved by {who}")
    return _ended(_as_muted(state))


def end(state: AlertState, reason: str, identity: Identity, decided: Millis) -> AlertState:
    """End what stands because nobody judges it any more; unchanged where nothing does."""
    if state.status in QUIET or state.finding is None:
        return state
    told = state.status is not Status.PENDING
    after = Status.RESOLVED if told else Status.INACTIVE
    severity = state.severity or identity.severity
    return _ended(moved(state, after, severity, state.finding, identity, decided, reason, ends=Ends.GONE))


def _ended(state: AlertState) -> AlertState:
    """By somebody's word: no late row takes that back."""
    return msgspec.structs.replace(
        state, **_ENDED, fired_before=_episodes(state), no_data_since=None, past=None, flapping=None, turns=()
    )


def standing(state: AlertState, identity: Identity, decided: Millis) -> Transition | None:
    """An alert that is told already as if it were told only now; None where there is nothing to tell."""
    if state.status not in {*ACTIVE, Status.NO_DATA} or state.finding is None:
        return None
    quiet = msgspec.structs.replace(state, status=Status.PENDING, severity=None)
    severity = state.severity or identity.severity
    told = transition_of(quiet, state.status, severity, state.finding, identity, decided, "it fires still")
    return msgspec.structs.replace(told, muted_by=state.muted_by)


def _as_muted(state: AlertState) -> AlertState:
    """What is done to an alert that nobody was told of is told to nobody."""
    if not state.muted_by:
        return state
    *earlier, last = state.outgoing
    last = msgspec.structs.replace(last, muted_by=state.muted_by)
    return msgspec.structs.replace(state, outgoing=(*earlier, last))


def _firing(state: AlertState, verb: str) -> Finding:
    if state.status not in ACTIVE or state.finding is None:
        raise BadInput(
            f"only a firing alert can be {verb}; this one is {state.status.value.replace('_', ' ')}"
        )
    return state.finding
