"""What the fold goes by, and how an alert moves: with a transition that says why. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache

import msgspec

from kedge.alerting import flapping
from kedge.alerting.finding import AlertState, Ends, Finding, Flaps, Severity, Status, Transition
from kedge.alerting.past import SEPARATOR
from kedge.windows import Millis

QUIET = frozenset({Status.INACTIVE, Status.RESOLVED})
ACTIVE = frozenset({Status.FIRING, Status.ACKNOWLEDGED})


class NoData(StrEnum):
    """What a step without data means."""

    KEEP = "keep"
    OK = "ok"
    ALERT = "alert"


@dataclass(frozen=True)
class Timing:
    """How long is long enough, in `Millis` of step time. A `for_` shorter than one step waits one."""

    for_: Millis = 0
    """A rung counts at the first breaching step at least this long after it first breached."""
    keep_firing: Millis = 0
    """An alert resolves at the first ok step at least this long after the first one."""
    no_data: NoData = NoData.KEEP
    remember: Millis = 0
    """For how long it is known when the alert fired; 0: not at all."""
    corrects: Millis = 0
    """How far back of the newest step late rows and labels may correct it; 0: not at all."""
    flap_within: Millis = 0
    """Within which more than five changes are too many to be told; 0: all are told."""
    level: str = ""
    """How sure a step must be, where that may change while the rule does not: its share of a budget."""

    @cached_property
    def plain(self) -> "Timing":
        """Of a fold that nobody is told of."""
        return Timing(self.for_, self.keep_firing, self.no_data, self.remember)

    def under(self, signature: str) -> str:
        """What else steps were judged by, where they may not be folded again under another."""
        parts = (signature, str(self.for_), str(self.keep_firing), self.no_data.value)
        return SEPARATOR.join((*parts, self.level) if self.level else parts)


@dataclass(frozen=True)
class Identity:
    """What transitions carry of their rule."""

    signature: str = ""
    """Of the rule's meaning: where it changed, what was not told yet begins anew."""
    severity: Severity = Severity.MEDIUM
    """The lowest rung: what a no-data notice is told at."""
    notify: str = ""
    place: str = ""
    runbook: str = ""
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def digest(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(str(p) for p in parts).encode()).hexdigest()[:32]


def alert_id(rule: str, model: str, version: str, group: Mapping[str, str]) -> str:
    """An alert is known by its rule, model, version and group. Deterministic."""
    return _alert_id(rule, model, version, tuple(sorted(group.items())))


@lru_cache(maxsize=100_000)
def _alert_id(rule: str, model: str, version: str, group: tuple[tuple[str, str], ...]) -> str:
    return digest(rule, model, version, *(f"{k}\x1e{v}" for k, v in group))


def new_state(
    rule: str, model: str, version: str, group: Mapping[str, str], through: Millis = 0
) -> AlertState:
    """An alert of which nothing is known yet; steps at or before `through` will not be judged."""
    return AlertState(
        alert=alert_id(rule, model, version, group),
        rule=rule,
        model=model,
        version=version,
        group=dict(sorted(group.items())),
        evaluated_through=through,
    )


def moved(
    state: AlertState,
    after: Status,
    severity: Severity,
    finding: Finding,
    identity: Identity,
    decided: Millis,
    reason: str,
    *,
    within: Millis = 0,
    ends: Ends | None = None,
    late: bool = False,
) -> AlertState:
    """The state moved to `after`, with its transition; unchanged where nothing would be told. `within`: how
    often it may change is counted over that long."""
    if after is state.status and (after not in ACTIVE or severity is state.severity):
        return state
    change = transition_of(state, after, severity, finding, identity, decided, reason)
    if ends is not None or late:
        change = msgspec.structs.replace(change, ends=ends, late=late)
    if within:
        state, change = flapping.counted(state, change, within)
    kept = severity if after in ACTIVE else state.severity if after is Status.NO_DATA else None
    over = after in QUIET and state.flapping is None
    return msgspec.structs.replace(
        state,
        status=after,
        severity=kept,
        incident=None if over else state.incident,
        outgoing=(*state.outgoing, change),
    )


def transition_of(
    state: AlertState,
    after: Status,
    severity: Severity,
    finding: Finding,
    identity: Identity,
    decided: Millis,
    reason: str,
    flaps: Flaps | None = None,
) -> Transition:
    step = state.evaluated_through
    # A step that is corrected may make the same change twice.
    told_by = (*([state.corrected] if state.corrected else []), *([flaps.value] if flaps else []))
    return Transition(
        id=digest(state.alert, step, after.value, severity.value, *told_by),
        alert=state.alert,
        rule=state.rule,
        model=state.model,
        version=state.version,
        group=state.group,
        before=state.status,
        after=after,
        step=step,
        decided=decided,
        severity=severity,
        severity_before=state.severity,
        finding=finding,
        reason=reason,
        started=state.started,
        notify=identity.notify,
        place=identity.place,
        runbook=identity.runbook,
        description=identity.description,
        labels=dict(identity.labels),
        flaps=flaps,
        incident=state.incident,
    )


def steadied(state: AlertState, *, finding: Finding, identity: Identity, decided: Millis) -> AlertState:
    after, reason, severity = flapping.steadied(state)
    change = transition_of(
        state, state.status, severity, finding, identity, decided, reason, flaps=Flaps.STEADY
    )
    return msgspec.structs.replace(after, outgoing=(*after.outgoing, change))
