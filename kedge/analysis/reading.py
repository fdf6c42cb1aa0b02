"""A Summary being read: what several metrics share is computed once, and only if asked for."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kedge.analysis import (
    absence,
    build,
    calibration,
    classes,
    performance,
    quality,
    quality_change,
    ranking,
    stuck,
)
from kedge.analysis.arrived import NAMES as ARRIVALS
from kedge.analysis.arrived import Arrived
from kedge.analysis.calibration_drift import calibration_drift
from kedge.analysis.catalogue import METRICS, MetricInfo
from kedge.analysis.custom import OwnMetrics
from kedge.analysis.drift import DriftSettings, FeatureDrift, drift
from kedge.analysis.drift_metrics import drift_metric, wasserstein
from kedge.analysis.estimation import Estimation
from kedge.analysis.expected_error import mean_error
from kedge.analysis.metric import Metric
from kedge.analysis.performance import Confusion
from kedge.analysis.predictions import prediction_drift
from kedge.analysis.scores import Scored, known_classes
from kedge.sketch import VALUE, Cells, Core, Counts, Custom, EdgeSet, Labels, Moments, PartName, Summary
from kedge.windows import Millis

MAX_CLASSES = 50
"""`measure` gives the metrics of this many classes, the commonest; `metric` those of any."""
VALUE_METRICS = ("mae", "rmse", "r2", "bias")
"""Performance of a regression: of predicted values, not of classes."""


_SUMS = ("performance.log_loss", "performance.brier")


def counts_negatives(info: MetricInfo) -> bool:
    """Whether rows without a label matter to it where they count as negative: it is of labels that are
    classes."""
    return info.label_based and info.name.partition(".")[2] not in VALUE_METRICS


@dataclass(frozen=True)
class Context:
    """What a Summary is read against."""

    positive_class: str | None = None
    """Declared, never guessed: without it precision, recall and F1 are macro averages."""
    reference: Summary | None = None
    edges: EdgeSet | None = None
    """Those that the cells of both are counted on."""
    value_errors: tuple[Moments, ...] | None = None
    """Of a regression's reference: its absolute errors by cell of `edges.value`."""
    drift: DriftSettings = field(default_factory=DriftSettings)
    features: Mapping[str, str] = field(default_factory=dict)
    """Declared kinds, `numeric` or `categorical`, of features that are not on the edges."""
    arrived: Arrived | None = None
    """What is known of the rows' arrival; None: of groups, files, single buckets."""
    runs: Mapping[str, stuck.Run] | None = None
    """By feature: the equal values in the window's newest buckets; None where these were not read apart."""
    own: OwnMetrics = field(default_factory=OwnMetrics)
    """Those that users define for the model."""
    negative_after: Millis | None = None
    """Rows without a label count as negative from this age on: the summaries come with them (`absence`)."""


@dataclass(frozen=True)
class Reading:
    """A summary in its context. Ask `lacking` first: a part that is not computed reads as empty here."""

    summary: Summary
    context: Context
    only: tuple[str, ...] | None = None
    """The features that are asked for; None is all."""

    def lacking(self, info: MetricInfo) -> str | None:
        """The reason why the metric cannot be computed from what there is, if so."""
        sides = [("", self.summary)]
        if info.needs_reference:
            if self.context.reference is None:
                return "no reference"
            sides.append((" of the reference", self.context.reference))
        for side, summary in sides:
            for part in info.parts:
                if getattr(summary, part.value) is None:
                    return f"the {part.value} part{side} is not computed"
        if info.estimated and PartName.CELLS not in info.parts and self.reference.labels is None:
            return "the labels part of the reference is not computed"
        if PartName.CELLS in info.parts and self.context.edges is None:
            return "no edges"
        return None

    def barred(self, info: MetricInfo) -> str | None:
        """The reason why a metric on labels would not be right here, where absence counts as negative."""
        if self.context.negative_after is None or not counts_negatives(info):
            return None
        if problem := absence.unknown_negative(self.context.positive_class, self.known_classes):
            return problem
        counted = self.confusion.n > self.labels.rows
        return absence.SUMS_ONLY if counted and info.name in _SUMS else None

    @cached_property
    def core(self) -> Core:
        return self.summary.core or Core()

    @cached_property
    def cells(self) -> Cells:
        return self.summary.cells or Cells()

    @cached_property
    def labels(self) -> Labels:
        return self.summary.labels or Labels()

    @cached_property
    def custom(self) -> Custom:
        return self.summary.custom or Custom()

    @cached_property
    def edges(self) -> EdgeSet:
        return self.context.edges or EdgeSet({})

    @cached_property
    def reference(self) -> Summary:
        return self.context.reference or Summary()

    @property
    def attributed(self) -> Mapping[str, Moments]:
        """The attributions of the reference."""
        return (self.reference.core or Core()).attributions

    # --- what there is to tell of -----------------------------------------------------------------------

    def applies(self, info: MetricInfo) -> bool:
        """Whether these rows have such a thing at all."""
        family, _, name = info.name.partition(".")
        if family == "calibration":
            return bool(self.core.confidence.n or self.labels.scores)
        if family == "performance":
            if name in VALUE_METRICS:
                return bool(self.core.value.n or self.labels.error.n)
            if name in ("log_loss", "brier"):
                return bool(getattr(self.labels, name).n)
            return bool(self.core.scores or self.labels.scores)
        if info.name == "estimated.mae":
            return bool(self.core.value.n)
        if family == "estimated":
            return bool(self.core.scores) and (name != "auc" or self.context.positive_class is not None)
        if info.name in ARRIVALS:
            return self.context.arrived is not None
        match family:
            case "latency":
                return bool(self.core.latency_ms.n)
            case "confidence":
                return bool(self.core.confidence.n)
            case "entropy":
                return bool(self.core.entropy.n)
            case "class":
                return bool(self.core.scores)
            case "prediction":
                return bool(self.core.scores or self.core.value.n)
            case "attribution":
                return bool(self.core.attributions) and (not info.needs_reference or bool(self.attributed))
            case "label" if name == "delay_seen_p50":
                return bool(self.labels.rows)
        return True

    def classes_of(self, info: MetricInfo) -> list[str]:
        """Those that were predicted or true, here or in the reference; by name, the commonest if many."""
        sizes: Mapping[str, float]
        if info.name == ranking.AUC:
            return ranking.ranked_by(self.labels)
        if info.estimated:
            sizes = self.estimation.sizes
        elif info.label_based:
            confusion = self.confusion
            sizes = dict(
                zip(confusion.classes, (confusion.predicted + confusion.actual).tolist(), strict=True)
            )
        else:
            before = self.reference.core.classes if self.reference.core else {}
            sizes = dict.fromkeys(before, 0) | self.core.classes
        return sorted(sorted(sizes, key=lambda c: (-sizes[c], c))[:MAX_CLASSES])

    def features_of(self, info: MetricInfo) -> Iterable[str]:
        """The features for which the metric has a meaning."""
        match info.name:
            case "drift.ks" | "drift.wasserstein":
                return [f for f, d in self.drifts.items() if d.ks is not None]
            case "quality.unseen":
                return [f for f in self.edges.categorical if f in self.cells.features]
            case "quality.out_of_range":
                return [f for f in self.edges.numeric if f in self.cells.features]
            case "attribution.mean":
                return sorted(self.core.attributions)
            case "attribution.shift":
                return sorted(self.core.attributions.keys() & self.attributed.keys())
            case quality_change.CONSTANT:
                return self._counted_twice
            case stuck.STUCK:
                return self.edges.numeric if self.context.runs is not None else ()
        if info.name.startswith("drift."):
            return self.drifts
        return quality.feature_names(self.core, self.context.edges, self.context.features)

    # --- what several metrics share ---------------------------------------------------------------------

    @cached_property
    def known_classes(self) -> tuple[str, ...]:
        """Those that were predicted or true, here or in the reference: whether a model has two classes must
        not change with the rows of a window."""
        return known_classes((self.summary, self.reference))

    @cached_property
    def confusion(self) -> Confusion:
        return Confusion.of(self.labels)

    @cached_property
    def estimation(self) -> Estimation:
        return Estimation(self.core, self.reference.labels or Labels(), self.context.positive_class)

    @cached_property
    def drifts(self) -> dict[str, FeatureDrift]:
        found = drift(self.reference.cells or Cells(), self.cells, self.edges, self.context.drift, self.only)
        return {d.feature: d for d in found}

    @cached_property
    def distances(self) -> dict[str, Metric]:
        """Wasserstein, by feature."""
        wanted = [f for f in self.edges.numeric if self.only is None or f in self.only]
        return {m.labels["feature"]: m for m in wasserstein(wanted, self.edges, self.reference, self.summary)}

    # --- metrics that need more than one part -----------------------------------------------------------

    def score(self, score: performance.Score, cls: str | None) -> Metric:
        """Of one class, of the positive class, or the macro average."""
        if cls is not None:
            return performance.class_score(score, self.confusion, cls)
        positive = self.context.positive_class
        if positive is not None:
            return performance.class_score(score, self.confusion, positive, labelled=False)
        return performance.macro(score, self.confusion)

    def auc(self, cls: str | None) -> Metric:
        return ranking.auc(self.labels, self.context.positive_class, self.known_classes, cls)

    def expected_error(self) -> Metric:
        counted = self.cells.features.get(VALUE)
        edges = self.edges.value
        same = counted is not None and edges is not None and counted[0] == edges.hash
        return mean_error(counted[1] if same and counted else None, self.context.value_errors)

    def reliability(self, bins: int = calibration.BINS) -> list[calibration.Bin] | str:
        """The curve behind `performance.ece`, or the reason for none."""
        if barred := self.barred(METRICS[calibration.ECE]):
            return barred
        scored = self._scored(self.labels)
        return scored if isinstance(scored, str) else calibration.curve(scored, bins)

    def calibration_drift(self) -> Metric:
        reference = self._scored(self.reference.labels or Labels())
        return calibration_drift(self._scored(self.labels), reference, self.context.drift)

    def _scored(self, labels: Labels) -> Scored | str:
        return calibration.scored_of(labels, self.context.positive_class, self.known_classes)

    def class_drift(self) -> Metric:
        return classes.class_drift(self.core, self.reference.core or Core(), self.context.drift)

    def prediction_drift(self) -> Metric:
        return prediction_drift(self.summary, self.reference, self.edges.value, self.context.drift)

    def drift_of(self, name: str, feature: str) -> Metric:
        if feature in self.drifts:
            return drift_metric(name, self.drifts[feature])
        return self._uncounted(name, feature)

    def distance_of(self, feature: str) -> Metric:
        name = "drift.wasserstein"
        if feature in self.edges.categorical:
            return build.absent(name, "not for a categorical feature", labels={"feature": feature})
        return self.distances.get(feature) or self._uncounted(name, feature)

    def in_cells(self, name: str, feature: str, read: Callable[[str, Cells, EdgeSet], Metric]) -> Metric:
        held = self.cells.features.get(feature)
        if feature in self.edges.features and held and held[0] == self.edges.features[feature].hash:
            return read(feature, self.cells, self.edges)
        return self._uncounted(name, feature)

    @cached_property
    def _counted_twice(self) -> dict[str, tuple[Counts, Counts]]:
        """The cells of the features that both sides have, on these edges: (reference, window)."""
        sides = ((self.reference.cells or Cells()).features, self.cells.features)
        return {
            name: (sides[0][name][1], sides[1][name][1])
            for name, edges in self.edges.features.items()
            if all(name in side and side[name][0] == edges.hash for side in sides)
        }

    def constant_of(self, feature: str) -> Metric:
        if feature not in self._counted_twice:
            return self._uncounted(quality_change.CONSTANT, feature)
        sides = (self.reference.core or Core(), self.core)
        before, now = (core.numeric.get(feature, Moments.ZERO) for core in sides)
        cells, edges = self._counted_twice[feature], self.edges.features[feature]
        return quality_change.constant(feature, edges, cells, (before, now), self.context.drift)

    def stuck_of(self, feature: str) -> Metric:
        runs, labels = self.context.runs, {"feature": feature}
        if runs is None:
            return build.absent(stuck.STUCK, "the newest buckets were not read apart", labels=labels)
        if feature in self.edges.categorical:
            return build.absent(stuck.STUCK, "not for a categorical feature", labels=labels)
        counted = (self.reference.cells or Cells()).features.get(feature)
        if counted is None or feature not in self.edges.numeric:
            return self._uncounted(stuck.STUCK, feature)
        sides = (self.reference.core or Core(), self.core)
        before, now = (core.numeric.get(feature, Moments.ZERO) for core in sides)
        return stuck.stuck(feature, runs.get(feature), counted[1], (before, now), self.context.drift)

    def changed(self, count: Callable[[Core, Core, float], Metric]) -> Metric:
        """Features that came or went."""
        return count(self.reference.core or Core(), self.core, self.context.drift.alpha)

    def feature_counts(self, feature: str) -> quality.FeatureCounts:
        return quality.counts_of(self.core, feature, self.context.edges, self.context.features)

    def _uncounted(self, name: str, feature: str) -> Metric:
        known = feature in self.edges.features
        reason = "its cells are not computed on these edges" if known else "the reference has no such feature"
        return build.absent(name, reason, labels={"feature": feature})
