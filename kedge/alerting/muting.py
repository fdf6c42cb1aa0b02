"""Which transitions are not told, for a composite that says more fires. Pure.

A muted alert goes on: only what is told of it changes. What nobody heard of begins is not heard of ending,
and what still fires when its composite is over is told then.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from kedge.alerting.composite import meet
from kedge.alerting.finding import AlertState, Severity, Status, Transition
from kedge.alerting.moves import QUIET, Identity, digest, transition_of
from kedge.windows import Millis


@dataclass(frozen=True)
class Muter:
    """A composite with `mute_parts`, and its alerts on one model."""

    rule: str
    alerts: tuple[AlertState, ...]

    def fires(self, labels: dict[str, str], step: Millis | None) -> bool:
        """Whether it fires at a step (None: as it stands) for what has these labels."""
        held = (alert for alert in self.alerts if meet(labels_of(alert), labels))
        return any(firing_at(alert, step) is not None for alert in held)


def labels_of(state: AlertState) -> dict[str, str]:
    """What tells an alert from others of its rule: its version and its group."""
    return {**state.group, **({"version": state.version} if state.version else {})}


def firing_at(state: AlertState, step: Millis | None = None) -> Severity | None:
    """At what severity it fired at a step not long ago (None: now); None where it did not."""
    if step is None:
        return state.severity
    later = [transition for transition in state.outgoing if transition.step > step]
    if later:
        return later[0].severity_before
    # Of a rule that is ahead of the composite, what it decided since may be told and gone by now.
    return None if state.fired is not None and state.fired > step else state.severity


def muted(
    before: AlertState,
    after: AlertState,
    muters: Sequence[Muter],
    identity: Identity,
    decided: Millis,
    *,
    late: bool,
) -> AlertState:
    """`after`, its new transitions marked as muted where a composite fires.

    `late`: the rule judges steps of long ago, so that its alerts meet the composite's as they stand now.
    """
    labels, hushed = labels_of(after), before.muted_by
    known = len(before.outgoing)
    outgoing = list(after.outgoing[:known])
    for transition in after.outgoing[known:]:
        by = _muter(muters, labels, None if late else transition.step)
        if transition.after in QUIET or transition.after is Status.PENDING:
            mark, hushed = hushed, ""
        elif transition.severity_before is None and transition.before is not Status.NO_DATA:
            mark = hushed = by
        else:
            mark, hushed = by, hushed if by else ""
        outgoing.append(replace(transition, muted_by=mark) if mark else transition)
    if hushed and after.severity is not None and not _muter(muters, labels, None):
        if after.status is Status.FIRING:
            outgoing.append(_still_fires(after, hushed, identity, decided))
        hushed = ""
    return replace(after, muted_by=hushed, outgoing=tuple(outgoing))


def _muter(muters: Sequence[Muter], labels: dict[str, str], step: Millis | None) -> str:
    return next((muter.rule for muter in muters if muter.fires(labels, step)), "")


def _still_fires(state: AlertState, by: str, identity: Identity, decided: Millis) -> Transition:
    assert state.finding is not None  # noqa: S101 -- it fires
    severity = state.severity or identity.severity
    told = transition_of(
        state,
        state.status,
        severity,
        state.finding,
        identity,
        decided,
        f"{by}, in which it was told, is over; it still fires",
    )
    return replace(told, id=digest(told.id, "told"), severity_before=severity)
