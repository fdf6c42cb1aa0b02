"""What the kinds share that are judged on how a metric went: `anomaly` and `trend`.

Their windows do not slide: each is one point of a series of windows, one after the other, and is judged once.
So a look is held against looks of its own kind, and the points are hours or days, which are kept long and
cheap to read.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from msgspec.structs import replace
from pydantic import Field, field_validator

from kedge.alerting.fields import Text, WindowLength, checked
from kedge.alerting.finding import Finding, Severity, State, capped
from kedge.alerting.inputs import Inputs
from kedge.alerting.rule import Rule
from kedge.alerting.threshold import ASSUMED
from kedge.analysis.catalogue import MetricInfo, lookup
from kedge.analysis.drift import DriftSettings
from kedge.analysis.measure import Context, metric
from kedge.analysis.metric import Metric, Verdict
from kedge.sketch import PartName, Summary
from kedge.windows import DAY, HOUR, Millis

CLASS = "The class whose share, precision, recall or F1 is meant."
FEATURE = "The feature that is meant, for `quality.*`, `drift.*` and `attribution.*`."


class SeriesRule(Rule, ABC):
    """A rule that reads its metrics in the windows before, too."""

    LOCAL: ClassVar[bool] = False
    """Whether its points are told apart by the rule's local time."""

    cls: Text | None = Field(None, alias="class", description=CLASS)
    feature: Text | None = Field(None, description=FEATURE)
    window: WindowLength = Field(HOUR)

    @field_validator("window")
    @classmethod
    def _whole_hours(cls, window: Millis) -> Millis:
        if window % HOUR or (DAY % window and window % DAY):
            raise ValueError("must be 1h, 2h, 3h, 4h, 6h, 8h, 12h or whole days: a point of the series")
        return window

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Of the metrics that it reads."""

    @property
    @abstractmethod
    def spans_back(self) -> Millis:
        """From a window's end to the begin of the oldest point."""

    @property
    def infos(self) -> list[MetricInfo]:
        return [lookup(name) for name in self.names]

    @property
    def parts(self) -> frozenset[PartName]:
        return frozenset().union(*(info.reads for info in self.infos))

    @property
    def compares(self) -> bool:
        return any(info.needs_reference for info in self.infos)

    @property
    def lowest(self) -> Severity:
        return self.severity

    @property
    def label_based(self) -> bool:
        return any(info.label_based for info in self.infos)

    @property
    def grows(self) -> bool:
        return any(info.unit == "count" for info in self.infos)

    def step(self, base: Millis) -> Millis:
        super().step(base)  # says what is wrong with a window that is too short
        return self.window

    def read(self, summary: Summary, context: Context) -> tuple[Metric, ...]:
        """Its metrics in one window."""
        return tuple(
            metric(
                info.name,
                summary,
                context,
                cls=self.cls if info.takes == "class" else None,
                feature=self.feature if info.takes == "feature" else None,
            )
            for info in self.infos
        )

    def problems(self) -> list[str]:
        """What does not fit together; for the validator of a kind."""
        found = []
        takes = {info.takes for info in self.infos}
        if "feature" in self.by:
            found.append("`by: [feature]` does not fit: name one with `feature`")
        for label, value in (("class", self.cls), ("feature", self.feature)):
            named = " and ".join(self.names)
            if value is not None and label not in takes:
                found.append(f"{named} is not of one {label}: leave it out")
            must = [info.name for info in self.infos if info.takes == label and info.must]
            if value is None and must:
                found.append(f"{' and '.join(must)} is of one {label}: write `{label}: NAME`")
        return found

    def lacking(self, draft: Finding, found: tuple[Metric, ...], inputs: Inputs) -> Finding | None:
        """The finding where the newest window has too little to be judged; None where it can be."""
        for one, info in zip(found, self.infos, strict=True):
            name = title(one)
            if info.needs_reference and inputs.reference is None:
                reason = f"{name} needs a baseline: create one (`kedge baseline create`)"
                return replace(draft, state=State.INSUFFICIENT, reason=reason)
            if one.value is None:
                withheld = one.n > 0 and (info.estimated or one.verdict is Verdict.INSUFFICIENT)
                state = State.INSUFFICIENT if withheld else State.NO_DATA
                reason = f"{name}: {one.reason or 'no data in the window'}"
                return replace(draft, state=state, reason=reason)
            if one.n < self.min_count:
                few = f"{name} rests on n={one.n:,}, under min_count {self.min_count:,} (of {info.counts})"
                return replace(draft, state=State.INSUFFICIENT, reason=few)
        return None

    def as_sure(self, finding: Finding) -> Finding:
        """The finding, `medium` at most where it rests on an estimate."""
        if not any(info.estimated for info in self.infos):
            return finding
        return capped(finding, Severity.MEDIUM, f"an estimate {ASSUMED}")


def context_of(inputs: Inputs) -> Context:
    """What the metrics of every point are read against."""
    return Context(
        inputs.positive_class,
        inputs.reference,
        inputs.edges,
        value_errors=inputs.value_errors,
        drift=inputs.varies.usual if inputs.varies else DriftSettings(),
        negative_after=inputs.negative_after,
        own=inputs.own_metrics,
    )


def known_metric(name: str) -> str:
    """The metric's name; for validators."""
    return checked(lookup, name).name


def title(found: Metric) -> str:
    """`performance.recall of fraud`."""
    return " of ".join([found.name, *found.labels.values()])
