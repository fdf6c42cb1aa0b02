"""An alert that changes too often is told once, as flapping, until it is steady. Pure: part of the fold.

More than `FLAPS` changes between quiet and told within the rule's span (an hour, or three windows where those
are longer) are a nuisance that hides what matters. The one that is too many is told with that notice; further
ones are in the history alone, but for a severity worse than any told. Once nothing changed for the same span,
where the alert stands is told. All of it is one incident, so that a thread holds it together.
"""

from msgspec.structs import replace

from kedge.alerting.finding import AlertState, Flapping, Flaps, Severity, Status, Transition
from kedge.windows import Millis, format_duration, iso

FLAPS = 5
"""Changes within the span that are told one by one."""
_QUIET = frozenset({Status.INACTIVE, Status.PENDING, Status.RESOLVED})


def counted(state: AlertState, change: Transition, within: Millis) -> tuple[AlertState, Transition]:
    """The alert that is about to change so, and the change as it is to be told; `within` 0: none flaps."""
    if not within or (change.before in _QUIET) == (change.after in _QUIET):
        return _worse(state, change)
    turns = (*(t for t in state.turns if t > change.step - within), change.step)[-FLAPS - 1 :]
    state = replace(state, turns=turns)
    if state.flapping is not None or len(turns) <= FLAPS:
        return _worse(state, change)
    incident = change.incident or change.started or change.step
    reason = (
        f"{change.reason}; it flaps: {len(turns)} changes since {iso(turns[0])}; further ones are not told "
        f"until there is none for {format_duration(within)}"
    )
    return (
        replace(state, flapping=Flapping(since=change.step, severity=change.severity), incident=incident),
        replace(change, flaps=Flaps.BEGINS, incident=incident, reason=reason),
    )


def _worse(state: AlertState, change: Transition) -> tuple[AlertState, Transition]:
    """While it flaps, a change is folded unless it is worse than all that was told."""
    if state.flapping is None:
        return state, change
    if change.after not in _QUIET and change.severity > state.flapping.severity:
        return replace(state, flapping=replace(state.flapping, severity=change.severity)), change
    return state, replace(change, flaps=Flaps.FOLDED)


def is_steady(state: AlertState, within: Millis) -> bool:
    """It flapped, and has not changed for long enough."""
    last = state.turns[-1] if state.turns else 0
    return state.flapping is not None and state.evaluated_through - last >= within


def steadied(state: AlertState) -> tuple[AlertState, str, Severity]:
    """The alert that flaps no more, what to tell of it, and how severe it is, or was."""
    held = state.flapping
    severity = state.severity or (held.severity if held else Severity.MEDIUM)
    since = state.turns[-1] if state.turns else state.evaluated_through
    stands = state.status.value.replace("_", " ")
    for_ = format_duration(state.evaluated_through - since)
    incident = None if state.status in _QUIET else state.incident
    after = replace(state, flapping=None, turns=(), incident=incident)
    return after, f"steady again: {stands} for {for_}, since {iso(since)}", severity
