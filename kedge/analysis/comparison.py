"""Two summaries side by side, as a person would go through them: data quality first, then performance, then
predictions, then features. What stayed as it was is told too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from kedge.analysis.calibration import Bin
from kedge.analysis.catalogue import METRICS, Bad
from kedge.analysis.drift import FeatureDrift
from kedge.analysis.intervals import Interval, change_interval, interval_at
from kedge.analysis.measure import Context, measure
from kedge.analysis.metric import Metric, Verdict
from kedge.analysis.multivariate import Separation
from kedge.analysis.reading import Reading
from kedge.sketch import Counts, Edges, Moments, Summary

CREDIBLE_ALPHA = 0.001
"""One-sided. A change is credible where its interval at this level excludes none: of 50 metrics that did not
change one is told in ten comparisons.
"""
MOST_CLASSES = 3
LEAST_SHARE, LEAST_RELATIVE = 0.01, 0.05
"""A credible change is worth telling from one point of a share, or 5 % of anything else: with a million rows
every difference is credible.
"""


class Family(StrEnum):
    """In the order in which they are looked at."""

    QUALITY = "Data quality"
    PERFORMANCE = "Performance"
    PREDICTIONS = "Predictions"
    SERVICE = "Service"


class Tone(StrEnum):
    WORSE = "worse"
    BETTER = "better"
    MOVED = "moved"
    """Which way is worse is not known of this metric."""
    SAME = "same"
    UNKNOWN = "unknown"
    """One side has too little to say, or nothing is known of the noise."""


_FAMILIES = {
    "performance": Family.PERFORMANCE,
    "estimated": Family.PERFORMANCE,
    "calibration": Family.PERFORMANCE,
    "label": Family.PERFORMANCE,
    "quality": Family.QUALITY,
    "class": Family.PREDICTIONS,
    "confidence": Family.PREDICTIONS,
    "entropy": Family.PREDICTIONS,
    "prediction": Family.PREDICTIONS,
    "attribution": Family.PREDICTIONS,
}


@dataclass(frozen=True)
class Change:
    """One metric on both sides."""

    reference: Metric | None
    """None where it is a comparison by itself, or the reference has no such thing."""
    current: Metric

    @property
    def name(self) -> str:
        return self.current.name

    @property
    def family(self) -> Family:
        return _FAMILIES.get(self.name.partition(".")[0], Family.SERVICE)

    @property
    def unit(self) -> str:
        return METRICS[self.name].unit

    @cached_property
    def by(self) -> float | None:
        """Current less reference."""
        if self.reference is None or self.reference.value is None or self.current.value is None:
            return None
        return self.current.value - self.reference.value

    @cached_property
    def interval(self) -> Interval | None:
        """Of the change, 95 %, with the noise of both sides."""
        return None if self.reference is None else change_interval(self.current, self.reference, 0.025)

    @cached_property
    def tone(self) -> Tone:
        if self.current.verdict is not None:
            drifted = self.current.verdict is Verdict.DRIFTED
            unsure = self.current.verdict is Verdict.INSUFFICIENT
            return Tone.WORSE if drifted else Tone.UNKNOWN if unsure else Tone.SAME
        if METRICS[self.name].comparison and self.name.startswith(("quality.", "attribution.")):
            within = interval_at(self.current, CREDIBLE_ALPHA)
            return Tone.UNKNOWN if within is None else Tone.WORSE if within[0] > 0 else Tone.SAME
        if self.by is None or self.reference is None or METRICS[self.name].evidence == "exact":
            return Tone.UNKNOWN
        within = change_interval(self.current, self.reference, CREDIBLE_ALPHA)
        if within is None:
            return Tone.UNKNOWN
        if within[0] <= 0.0 <= within[1] or not self._matters:
            return Tone.SAME
        match METRICS[self.name].bad:
            case Bad.BOTH:
                return Tone.MOVED
            case Bad.UP:
                return Tone.WORSE if self.by > 0 else Tone.BETTER
            case Bad.DOWN:
                return Tone.WORSE if self.by < 0 else Tone.BETTER

    @property
    def _matters(self) -> bool:
        by = abs(self.by or 0.0)
        if self.unit == "ratio":
            return by >= LEAST_SHARE
        before = self.reference.value if self.reference is not None else None
        return by >= LEAST_RELATIVE * abs(before or 0.0)


@dataclass(frozen=True)
class FeatureComparison:
    """One feature on both sides."""

    name: str
    edges: Edges
    reference: Counts
    """Rows by cell, of the shape of `edges.names`."""
    current: Counts
    reference_moments: Moments
    """Of a numeric feature; the zero otherwise."""
    current_moments: Moments
    drift: FeatureDrift
    restless: bool = False
    """It normally moves more than the tolerance."""

    @property
    def credible(self) -> bool:
        return self.drift.verdict is Verdict.DRIFTED and not self.restless


@dataclass(frozen=True)
class Calibration:
    """The reliability curves of both sides; a side without labels or scores has no bins."""

    of: str
    """Whose score it is: the positive class, or `predicted class`."""
    reference: Sequence[Bin]
    current: Sequence[Bin]

    def pairs(self) -> list[tuple[Bin | None, Bin | None]]:
        """By bin, both sides."""
        a, b = ({held.low: held for held in side} for side in (self.reference, self.current))
        return [(a.get(low), b.get(low)) for low in sorted(a.keys() | b.keys())]


@dataclass(frozen=True)
class Comparison:
    """What there is to tell of two sets of rows."""

    reference_rows: int
    current_rows: int
    metrics: Sequence[Metric]
    """Of the current side, features' own among them: what `--json` prints."""
    changes: Sequence[Change]
    """Metrics that are not of one feature, in the order of the catalogue."""
    quality: Sequence[Change]
    """Of features, those that changed; the largest first."""
    features: Sequence[FeatureComparison]
    """By effect, the largest first."""
    positive_class: str | None = None
    calibration: Calibration | None = None
    """None where neither side has labelled scores."""
    separation: Separation | str | None = None
    """Whether a classifier tells the two apart, or why that is not known; None where nobody asked."""

    @property
    def unsure(self) -> list[FeatureComparison]:
        """Those with too few rows to be judged."""
        return [f for f in self.features if f.drift.verdict is Verdict.INSUFFICIENT]

    @property
    def drifted(self) -> list[FeatureComparison]:
        return [f for f in self.features if f.credible]

    @property
    def found(self) -> bool:
        """Whether a verdict says *drifted*."""
        if isinstance(self.separation, Separation) and self.separation.drifted:
            return True
        return any(m.verdict is Verdict.DRIFTED and not m.detail.get("restless") for m in self.metrics)

    @property
    def notable(self) -> list[Change]:
        """Credible changes that matter, in the order in which they are looked at: of a score the whole before
        its classes, of these the three that changed most.
        """
        told = [c for c in (*self.quality, *self.changes) if c.tone not in (Tone.SAME, Tone.UNKNOWN)]
        of_classes = sorted(
            (c for c in told if c.family is Family.PERFORMANCE and "class" in c.current.labels),
            key=lambda c: -abs(c.by or 0.0),
        )
        left_out = {c.current.key for c in of_classes[0 if self.positive_class else MOST_CLASSES :]}
        kept = [c for c in told if c.current.key not in left_out and not c.name.endswith("_weighted")]
        order = list(Family)
        return sorted(kept, key=lambda c: order.index(c.family))

    def by_family(self) -> list[tuple[Family, list[Change]]]:
        """What has a value, in the order in which it is looked at; the drift of features stands by itself."""
        shown = [c for c in (*self.quality, *self.changes) if c.current.value is not None]
        shown = [c for c in shown if not c.name.startswith(("drift.", "label.delay"))]
        if self._unlabelled:
            shown = [c for c in shown if c.name != "label.coverage"]
        groups = [(family, [c for c in shown if c.family is family]) for family in Family]
        return [(family, changes) for family, changes in groups if changes]

    @property
    def _unlabelled(self) -> bool:
        """Neither side has a label, which is not worth a line."""
        coverage = next((c for c in self.changes if c.name == "label.coverage"), None)
        return coverage is not None and not coverage.current.value and coverage.by == 0.0

    @property
    def steady(self) -> list[Change]:
        """What has been measured on both sides and did not change credibly."""
        same = [c for c in self.changes if c.tone is Tone.SAME and "class" not in c.current.labels]
        if self._unlabelled:
            same = [c for c in same if c.name != "label.coverage"]
        return [c for c in same if not c.name.startswith("label.delay") and not c.name.endswith("_weighted")]


def compare_summaries(reference: Summary, current: Summary, context: Context) -> Comparison:
    """Everything that two summaries on the same edges tell. `context.reference` is `reference`."""
    reading = Reading(current, context)
    found = measure(current, context)
    # A reference against itself has no drift to tell, so it is measured against none.
    alone = Context(context.positive_class, None, context.edges)
    before = {m.key: m for m in measure(reference, alone)}
    changes = [Change(before.get(m.key), m) for m in found if "feature" not in m.labels]
    quality = [Change(before.get(m.key), m) for m in found if m.name.startswith("quality.") if m.labels]
    moved = [c for c in quality if c.tone not in (Tone.SAME, Tone.UNKNOWN)]
    return Comparison(
        reference_rows=reference.rows,
        current_rows=current.rows,
        metrics=found,
        changes=changes,
        quality=sorted(moved, key=lambda c: (-abs(c.by or c.current.value or 0.0), c.current.key)),
        features=sorted(
            _features(reference, current, context, reading.drifts.values()),
            key=lambda f: (-f.drift.effect, f.name),
        ),
        positive_class=context.positive_class,
        calibration=_calibration(Reading(reference, alone), reading),
    )


def _calibration(reference: Reading, current: Reading) -> Calibration | None:
    curves = [side.reliability() for side in (reference, current)]
    a, b = ([] if isinstance(curve, str) else curve for curve in curves)
    return Calibration(current.context.positive_class or "predicted class", a, b) if a or b else None


def _features(
    reference: Summary, current: Summary, context: Context, drifts: Iterable[FeatureDrift]
) -> list[FeatureComparison]:
    if context.edges is None or reference.cells is None or current.cells is None:
        return []

    def moments(summary: Summary, feature: str) -> Moments:
        return summary.core.numeric.get(feature, Moments.ZERO) if summary.core else Moments.ZERO

    return [
        FeatureComparison(
            d.feature,
            context.edges.features[d.feature],
            reference.cells.features[d.feature][1],
            current.cells.features[d.feature][1],
            moments(reference, d.feature),
            moments(current, d.feature),
            d,
            d.restless,
        )
        for d in drifts
    ]


def shown_interval(metric: Metric | None) -> Interval | None:
    """95 %."""
    return None if metric is None else interval_at(metric, 0.025)
