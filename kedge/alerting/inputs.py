"""What a rule is judged on: summaries that were read for it, and what is known around them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kedge.alerting.finding import Finding, Severity, State
from kedge.analysis.arrived import Arrived
from kedge.analysis.custom import OwnMetrics
from kedge.analysis.drift import DriftSettings
from kedge.analysis.importance import UNKNOWN, Importance
from kedge.analysis.reading import Context
from kedge.analysis.series import Series
from kedge.analysis.stuck import Run
from kedge.analysis.variation import AtLength
from kedge.sketch import EdgeSet, Moments, Summary
from kedge.windows import Millis, Window

_INDEPENDENT = DriftSettings()
"""Of rows that are taken as independent."""


@dataclass(frozen=True)
class Against:
    """What a rule compares with where that is not the baseline: other windows, or another version."""

    name: str
    """For people: `the 30d before (2026-03-01 00:00 to 2026-03-31 00:00 UTC, n=50,510)`."""
    summaries: tuple[Summary, ...]
    """One; of `same_time` one a week, of which the metric's median counts."""
    least: int = 1
    """How many of them must have something to compare with."""


@dataclass(frozen=True)
class NewValue:
    """A value that was not there before."""

    value: str
    rows: int
    """In the window."""
    examples: tuple[str, ...] = ()
    """Ids of its newest rows."""


@dataclass(frozen=True)
class Appeared:
    """What is new in a field, commonest first."""

    values: tuple[NewValue, ...]
    known_by: str
    """What it was not in: `baseline b1`, `the 30d before`."""
    more: bool = False
    """There may be more than are listed."""
    reason: str = ""
    """Why it cannot be told, where it cannot."""


@dataclass(frozen=True)
class Standing:
    """A firing alert of another rule."""

    rule: str
    labels: Mapping[str, str]
    """Its version, where it has one, and its group."""
    severity: Severity
    reason: str = ""
    """Of its newest finding."""


@dataclass(frozen=True)
class Inputs:
    """Everything that judging one rule for one group at one step may look at."""

    window: Window
    """The true bounds of what `summary` holds."""
    summary: Summary | None
    """None: part of the window has not been summarised."""
    reference: Summary | None = None
    """Of the baseline; None where there is nothing."""
    edges: EdgeSet | None = None
    """The edges that the cells of both are counted on."""
    value_errors: tuple[Moments, ...] | None = None
    """Of a regression's reference: its absolute errors by cell of the predicted value."""
    reference_name: str = ""
    """For people: `baseline 3f2a1c (1 Jan – 28 Feb)`."""
    against: Against | None = None
    """What a rule that compares with something else than the baseline compares with."""
    arrived: Arrived | None = None
    """What is known of the rows' arrival, where the rule `reads_arrivals`."""
    runs: Mapping[str, Run] | None = None
    """By feature: the equal values at the window's end, where the rule `reads_runs`."""
    positive_class: str | None = None
    """Declared, never guessed; without it averages are macro."""
    negative_after: Millis | None = None
    """Rows without a label count as negative from this age on; they are among the summaries' scores."""
    own_metrics: OwnMetrics = field(default_factory=OwnMetrics)
    """Those that users define for the model."""
    groups: int = 1
    """How many groups the rule is judged for: its budget is split over them."""
    complete: bool = True
    """False where a bucket of the window is dirty, not read past its lag, or in a gateway's spool."""
    every: Millis = 0
    """How often the rule is judged here: its budget is split over the looks. 0: as its window allows."""
    before: Summary | None = None
    """Of the time before the window, for a rule that `looks_back` there."""
    last_rows: Millis = 0
    """End of the newest bucket that ever had rows of the model; 0: not known."""
    own: tuple[Mapping[str, str], ...] = ()
    """Labels of the rule's alerts that are there already, for a rule that finds its alerts by itself."""
    appeared: Appeared | None = None
    """The new values of a rule's field."""
    standing: Mapping[str, tuple[Standing, ...]] = field(default_factory=dict)
    """By name of other rules: their firing alerts at the step."""
    live: bool = True
    """Of a version under comparison: whether it had rows lately."""
    varies: AtLength | None = None
    """How the reference's own windows of this length vary; None: rows are taken as independent."""
    series: Series | None = None
    """The rule's metrics in the windows before this one, for the kinds that are judged on their own past."""

    importance: Importance = UNKNOWN
    """The model's features by importance, where the rule `reads_importance`."""

    @cached_property
    def context(self) -> Context:
        """What metrics are read against."""
        return Context(
            self.positive_class,
            self.reference,
            self.edges,
            value_errors=self.value_errors,
            drift=self.varies.usual if self.varies else _INDEPENDENT,
            runs=self.runs,
            arrived=self.arrived,
            negative_after=self.negative_after,
            own=self.own_metrics,
        )

    @cached_property
    def of_baseline(self) -> Against:
        """The baseline, to be compared with."""
        return Against(self.reference_name, () if self.reference is None else (self.reference,))


def incomplete(inputs: Inputs, step: Millis) -> Finding:
    """The finding that stops judging until the window has been summarised."""
    return Finding(
        step=step,
        state=State.INCOMPLETE,
        window=inputs.window,
        reason="part of the window has not been summarised yet",
    )
