"""Sequences of findings as text, a character a step: what tests of the lifecycle are written in."""

from kedge.alerting.finding import AlertState, Finding, Severity, State, Status
from kedge.alerting.lifecycle import Identity, NoData, Timing, fold, new_state
from kedge.windows import MINUTE, Millis

FINDINGS = {
    "m": (State.BREACH, Severity.MEDIUM, None),
    "h": (State.BREACH, Severity.HIGH, None),
    "M": (State.BREACH, Severity.MEDIUM, Severity.HIGH),  # medium breached, high not left yet
    "~": (State.HOLD, None, None),
    "l": (State.HOLD, None, Severity.MEDIUM),  # between `clear` and the lowest bound
    ".": (State.OK, None, None),
    "?": (State.NO_DATA, None, None),
    "<": (State.INSUFFICIENT, None, None),
    "!": (State.INCOMPLETE, None, None),
}
STANDS = {
    "-": (Status.INACTIVE, None),
    "p": (Status.PENDING, None),
    "M": (Status.FIRING, Severity.MEDIUM),
    "H": (Status.FIRING, Severity.HIGH),
    "A": (Status.ACKNOWLEDGED, Severity.MEDIUM),
    "R": (Status.RESOLVED, None),
    "N": (Status.NO_DATA, None),
    "n": (Status.NO_DATA, Severity.MEDIUM),
}
IDENTITY = Identity(signature="one", place="rules/a.yml:3")


def finding(character: str, step: Millis) -> Finding:
    state, severity, holding = FINDINGS[character]
    return Finding(step=step, state=state, severity=severity, holding=holding)


def begin() -> AlertState:
    return new_state("slow", "fraud", "", {"segment.region": "eu"})


def run(
    characters: str,
    timing: Timing,
    state: AlertState | None = None,
    identity: Identity = IDENTITY,
) -> list[AlertState]:
    """The state after each step, a minute apart; it goes on where `state` was."""
    after = state if state is not None else begin()
    start, states = after.evaluated_through, []
    for i, character in enumerate(characters, 1):
        after = fold(after, finding(character, start + i * MINUTE), timing, identity, decided=7)
        states.append(after)
    return states


def stands(states: list[AlertState]) -> str:
    letters = {standing: letter for letter, standing in STANDS.items()}
    return "".join(letters[state.status, state.severity] for state in states)


def minutes(
    n: float, keep: float = 0, no_data: NoData = NoData.KEEP, *, corrects: float = 0, flaps: float = 0
) -> Timing:
    return Timing(
        for_=round(n * MINUTE),
        keep_firing=round(keep * MINUTE),
        no_data=no_data,
        corrects=round(corrects * MINUTE),
        flap_within=round(flaps * MINUTE),
    )


def told(states: list[AlertState]) -> list[tuple[str, str, str]]:
    return [(t.before.value, t.after.value, t.reason) for t in states[-1].outgoing]
