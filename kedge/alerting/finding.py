"""What a rule found at one step, and why. Findings go into the lifecycle's fold, transitions come out."""

from enum import IntEnum, StrEnum
from typing import Any

import msgspec

from kedge.windows import Millis


class Severity(IntEnum):
    INFO = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5

    def __init__(self, _: int) -> None:
        self.word: str = self._name_.lower()


class State(StrEnum):
    """What one judgement says."""

    BREACH = "breach"
    HOLD = "hold"
    """Between the clearing bound and the alerting one: neither fires nor clears."""
    OK = "ok"
    NO_DATA = "no_data"
    """There was nothing to judge (no rows, or the metric does not exist for them)."""
    INSUFFICIENT = "insufficient"
    """Fewer than `min_count`: neither fires nor clears."""
    INCOMPLETE = "incomplete"
    """Part of the window has not been summarised yet: judging stops until it has."""


class Status(StrEnum):
    """Where an alert stands."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    NO_DATA = "no_data"


class Ends(StrEnum):
    """Why an episode ended, where no step ended it."""

    DISPROVED = "disproved"
    """Late rows or labels show that it never should have fired."""
    GONE = "gone"
    """Its rule is gone, or no longer looks at what it is about."""


class Flaps(StrEnum):
    """A change of an alert that flaps (kedge.alerting.flapping)."""

    BEGINS = "begins"
    """Told, with the notice that it flaps."""
    FOLDED = "folded"
    """Kept in the history, told to nobody."""
    STEADY = "steady"
    """It changes no more: where it stands is told."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One judgement of one rule for one group at one step. JSON-able."""

    step: Millis
    state: State
    severity: Severity | None = None
    """The highest rung breached, of a breach."""
    holding: Severity | None = None
    """The highest rung not left yet, by its bound less the hysteresis gap. One above `severity` that is held
    neither starts nor ends. None: in a breach, `severity`; in a hold, nothing is known to have ended."""
    value: float | None = None
    bound: float | None = None
    """The bound of that rung (of the lowest one where nothing is breached), in the metric's unit."""
    reference: float | None = None
    """The value compared to, where the rule compares."""
    reference_n: int | None = None
    n: int = 0
    interval: tuple[float, float] | None = None
    part: str = ""
    """What part of the rows the value is of, in words, where it is not all: `of the 30 % of predictions that
    ever get a label`."""
    usual: tuple[float, float] | None = None
    """Between which values the metric usually is at such a time, where the rule knows."""
    window: tuple[Millis, Millis] = (0, 0)
    """The true bounds of what was read."""
    unit: str = ""
    """`ratio`, `ms`, `count` or empty: how to print the values."""
    change: str = ""
    """How the value compares, in words: `−15 % (limit −10 %)`."""
    reason: str = ""
    """One sentence for a person."""
    clears: str = ""
    """What it takes to clear, in words: `fall under 3 %` (messages put "Clears: " before it)."""
    causes: tuple[dict[str, Any], ...] = ()
    """What moved with it, most telling first: {"kind", "name" or "feature", "text", …}."""
    rows: dict[str, str] = {}
    """Rows of the window to look at: {"feature", "problem", perhaps "cell"} (`kedge.analysis.faulty`); empty:
    none in particular."""
    normal: tuple[str, ...] = ()
    """What did not: `traffic`, `latency`, …"""
    resumes: bool = False
    """The first after hours in which the rule was not judged: what was pending begins anew."""


BORROWED = "how windows of this length vary is not known from 20 of the reference's own"
"""Why a verdict reaches `medium` at most."""


def capped(finding: Finding, most: Severity, why: str = "") -> Finding:
    """The finding with no severity above `most`, and why, where that takes anything away."""
    if max(finding.severity or 0, finding.holding or 0) <= most:
        return finding
    severity, holding = (None if s is None else min(s, most) for s in (finding.severity, finding.holding))
    remark = f"; {most.word} at most: {why}" if why and finding.severity else ""
    return msgspec.structs.replace(
        finding, severity=severity, holding=holding, reason=f"{finding.reason}{remark}"
    )


class Transition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of an alert. JSON-able; its `id` follows from what it says, so that no replay doubles it."""

    id: str
    alert: str
    rule: str
    model: str
    version: str
    group: dict[str, str]
    before: Status
    after: Status
    step: Millis
    """When, in the data's time."""
    decided: Millis
    """When, by the clock of the worker that decided."""
    severity: Severity
    """After it; of a resolution, the episode's last."""
    severity_before: Severity | None = None
    """The episode's severity until now, where it was firing: tells a rise from a fall."""
    finding: Finding
    reason: str
    started: Millis | None = None
    """Step of the first breach of this episode."""
    notify: str = ""
    """The rule's receiver; empty is the default one."""
    place: str = ""
    """`rules/fraud.yml:12`."""
    runbook: str = ""
    description: str = ""
    labels: dict[str, str] = {}
    """The rule's own, `team` among them: what routes and silences match besides what the alert is."""
    ends: Ends | None = None
    """Set where no step ended the episode."""
    late: bool = False
    """Late rows or labels made it, not a new step."""
    flaps: Flaps | None = None
    """Set while the alert flaps."""
    incident: Millis | None = None
    """Which incident it belongs to, where that is not `started`: what flaps is one incident."""
    muted_by: str = ""
    """The composite that tells of it instead, by name: nobody is told of this by itself."""


class Run(msgspec.Struct, frozen=True, array_like=True):
    """Neighbouring steps that found the same."""

    start: Millis
    count: int
    gap: Millis
    """From one to the next; 0: there is but one."""
    found: Finding
    """What the fold needs of it; its step and texts are left out."""


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where an alert stood at a step, as far as the fold goes by it."""

    evaluated_through: Millis
    status: Status = Status.INACTIVE
    severity: Severity | None = None
    rung_since: dict[str, Millis] = {}
    started: Millis | None = None
    fired: Millis | None = None
    clear_since: Millis | None = None
    no_data_since: Millis | None = None
    fired_before: tuple[tuple[Millis, Millis], ...] = ()
    signature: str = ""


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What late rows and labels may still correct (kedge.alerting.past): the steps judged last, and where the
    alert stood before them."""

    base: Standing
    runs: tuple[Run, ...] = ()
    """The steps since, oldest first."""
    under: str = ""
    """The rule's meaning and timing in those steps: what was decided under others stands."""


class Flapping(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that changes too often to be told each time."""

    since: Millis
    """The step of the notice."""
    severity: Severity
    """The worst that was told: worse is told, flapping or not."""


class AlertState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stored state of one rule and group: all that the fold needs. JSON-able."""

    alert: str
    rule: str
    model: str
    version: str
    group: dict[str, str]
    status: Status = Status.INACTIVE
    severity: Severity | None = None
    """Of the episode that fires; else None."""
    evaluated_through: Millis = 0
    """Steps at or before this are no-ops."""
    rung_since: dict[str, Millis] = {}
    """By severity word: the first step of the unbroken run in which that rung or a higher one breached."""
    started: Millis | None = None
    """First breaching step of this episode."""
    fired: Millis | None = None
    """Step at which it fired."""
    clear_since: Millis | None = None
    """First step of the run of ok findings while firing, for keep_firing."""
    no_data_since: Millis | None = None
    fired_before: tuple[tuple[Millis, Millis], ...] = ()
    """Episodes that fired and are over: (first breaching step, step of its end), oldest first, as far back as
    the rule's history reaches."""
    finding: Finding | None = None
    """The newest."""
    acknowledged_by: str = ""
    signature: str = ""
    """Of the rule's meaning: where it changes, the next step judges anew."""
    place: str = ""
    """Where its rule was written when it was judged last: `rules/fraud.yml:12`."""
    notify: str = ""
    """The receiver that its rule named then."""
    past: Past | None = None
    """Kept while its rule's timing says how far back corrections reach."""
    corrected: int = 0
    """How often late rows or labels changed what it found."""
    turns: tuple[Millis, ...] = ()
    """The last steps at which it began or ceased to be told of, for flapping."""
    flapping: Flapping | None = None
    incident: Millis | None = None
    """Under which incident its changes are told, where that is not `started`."""
    muted_by: str = ""
    """The composite that fired when this episode began: nobody was told of it."""
    outgoing: tuple[Transition, ...] = ()
    """Decided, not yet projected into events and outbox."""
