"""Late rows and labels change windows that were judged: what that does to an alert. Pure.

The steps whose findings changed are folded again from where the alert stood before them (`past`), and what
comes out is compared with where it stands. What it stands as (row), and what it should (column):

    ============  =======================  ========================  =======================================
    stands as     quiet                    pending                   firing
    ============  =======================  ========================  =======================================
    quiet         –                        pending                   fires, if the newest step breaches
    pending       inactive                 –                         fires, if the newest step breaches
    firing        resolved, or disproved   disproved, then pending   severity moves (up: as above)
    ============  =======================  ========================  =======================================

It is *disproved* where nothing of the episode is left. A firing alert that stays so keeps its start, its
thread and whoever acknowledged it. Folding again what did not change changes nothing, so it may be done any
number of times, by anybody.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from kedge.alerting import past
from kedge.alerting.finding import AlertState, Ends, Finding, Severity, State, Status
from kedge.alerting.lifecycle import plainly_folded
from kedge.alerting.moves import ACTIVE, QUIET, Identity, NoData, Timing, moved
from kedge.windows import Millis, iso

LATE = "late rows or labels"


def correct(
    state: AlertState,
    findings: Sequence[Finding],
    timing: Timing,
    identity: Identity,
    decided: Millis,
    *,
    goes_on: bool = False,
) -> AlertState:
    """The alert after steps of its past were judged again; steps that it does not keep are not looked at.

    `goes_on`: steps after its newest one are about to be folded. Then it is for them to fire it.
    """
    held = state.past
    if held is None or held.under != timing.under(identity.signature):
        return state  # what was decided under another rule stands
    again, changed = past.corrected(held, {finding.step: finding for finding in findings})
    if not changed:
        return state

    def once(alert: AlertState, at: Finding) -> AlertState:
        return plainly_folded(alert, at, timing, identity)

    due = past.refolded(state, again, once)
    newest = changed[-1] if changed[-1].step == state.evaluated_through else state.finding
    stood = replace(state, past=again, finding=newest, corrected=state.corrected + 1)
    return _Correction(stood, due, changed[-1], timing, identity, decided, goes_on=goes_on).run()


def as_of(
    state: AlertState, findings: Sequence[Finding], step: Millis, timing: Timing, identity: Identity
) -> AlertState:
    """Where the alert stood before a step of its past, with what was found again of those before it."""
    if state.past is None:
        return state

    def once(alert: AlertState, at: Finding) -> AlertState:
        return plainly_folded(alert, at, timing, identity)

    again, _ = past.corrected(state.past, {finding.step: finding for finding in findings})
    return past.refolded(state, again, once, step)


class _Correction:
    """One correction. `now` is the state as it takes shape, `due` where it should stand."""

    def __init__(
        self,
        state: AlertState,
        due: AlertState,
        changed: Finding,
        timing: Timing,
        identity: Identity,
        decided: Millis,
        *,
        goes_on: bool,
    ):
        self.now, self.due, self.changed = state, due, changed
        self.timing, self.identity, self.decided = timing, identity, decided
        self.goes_on = goes_on

    @property
    def pages(self) -> bool:
        """The newest step breaches: it may fire, or worsen."""
        newest = self.now.finding
        return not self.goes_on and newest is not None and newest.state is State.BREACH

    def run(self) -> AlertState:
        due = self.due
        self.now = replace(
            self.now,
            rung_since=due.rung_since,
            clear_since=due.clear_since,
            no_data_since=due.no_data_since,
            fired_before=due.fired_before,
            signature=due.signature,
        )
        if self.now.fired is not None and due.fired is not None:
            self._still_fires()
        elif self.now.fired is not None:
            self._ends()
        elif due.fired is not None:
            self._fires()
        else:
            self._waits_or_not()
        return self.now

    def _still_fires(self) -> None:
        now, severity = self.now, self.due.severity or self.identity.severity
        before = now.severity or severity
        if severity > before and not self.pages:
            severity = before
        if now.status is Status.NO_DATA:
            if self.due.status is not Status.NO_DATA:
                back = Status.ACKNOWLEDGED if now.acknowledged_by else Status.FIRING
                self._move(back, severity, f"{LATE} came, and it still fires")
        elif severity is not before:
            word = "worsened" if severity > before else "eased"
            self._move(now.status, severity, f"{word} from {before.word} to {severity.word} by {LATE}")

    def _ends(self) -> None:
        severity = self.now.severity or self.identity.severity
        began = self.now.started or 0
        lived = any(c.after is Status.RESOLVED and c.step >= began for c in self.due.outgoing)
        at = f"{self.changed.state.value.replace('_', ' ')} at {iso(self.changed.step)} after all"
        if lived:
            self._move(Status.RESOLVED, severity, f"resolved by {LATE}: {at}")
        else:
            self._move(Status.RESOLVED, severity, f"disproved by {LATE}: {at}", ends=Ends.DISPROVED)
        self.now = replace(self.now, started=None, fired=None, acknowledged_by="")
        self._waits_or_not()

    def _fires(self) -> None:
        due = self.due
        if not (self.pages and due.status in ACTIVE):
            # It fired before the newest step, or still would: that is over for whoever would be told.
            self._waits_or_not()
            return
        if self.now.status is Status.NO_DATA:
            self._move(Status.RESOLVED, self.identity.severity, f"{LATE} came")
        self.now = replace(
            self.now, started=due.started, fired=self.now.evaluated_through, acknowledged_by=""
        )
        since = "" if due.started is None else f" since {iso(due.started)}"
        self._move(Status.FIRING, due.severity or self.identity.severity, f"breaching{since}, by {LATE}")

    def _waits_or_not(self) -> None:
        """Of an alert that does not fire: whether it is pending."""
        rungs = {} if self._is_ok() else self.now.rung_since
        reached = max((Severity[word.upper()] for word in rungs), default=self.identity.severity)
        self.now = replace(self.now, rung_since=rungs, clear_since=None)
        if self.now.status is Status.NO_DATA:
            if self.due.status is Status.NO_DATA:
                return
            self._move(Status.RESOLVED, self.identity.severity, f"{LATE} came")
        self.now = replace(self.now, started=min(rungs.values(), default=None))
        if rungs and self.now.status in QUIET and not self.goes_on:
            self._move(Status.PENDING, reached, f"breaching by {LATE}")
        elif not rungs and self.now.status is Status.PENDING:
            self._move(Status.INACTIVE, reached, f"not breaching, by {LATE}")

    def _is_ok(self) -> bool:
        newest = self.now.finding.state if self.now.finding else State.OK
        return newest is State.OK or (newest is State.NO_DATA and self.timing.no_data is NoData.OK)

    def _move(self, after: Status, severity: Severity, reason: str, ends: Ends | None = None) -> None:
        self.now = moved(
            self.now,
            after,
            severity,
            self.changed,
            self.identity,
            self.decided,
            reason,
            within=self.timing.flap_within,
            ends=ends,
            late=True,
        )
