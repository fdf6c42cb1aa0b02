"""From a Summary to metrics: all of them, or just one."""

from collections.abc import Callable, Iterator

from kedge.analysis import (
    arrived,
    attribution,
    build,
    calibration,
    classes,
    confidence,
    custom,
    latency,
    performance,
    quality,
    quality_change,
    ranking,
    stuck,
)
from kedge.analysis.catalogue import METRICS, MetricInfo, is_measured, lookup
from kedge.analysis.drift_metrics import drift_share
from kedge.analysis.metric import Metric
from kedge.analysis.reading import Context, Reading
from kedge.errors import BadInput
from kedge.sketch import PartName, Summary

__all__ = ["Context", "measure", "metric"]


def measure(
    summary: Summary, context: Context, *, reads_labels: bool | None = None, features: bool = True
) -> list[Metric]:
    """Every metric that the parts allow, in the order of the catalogue; only those that read labels, or only
    those that do not, where `reads_labels` says so; without `features`, none that looks at features or
    compares with the reference.

    One that the rows do not have at all (latency of a model that logs none) is left out; one that they have
    too little of (performance before the first label) has the value None and a reason.
    """
    reading = Reading(summary, context)
    found = [
        m
        for info in METRICS.values()
        if reads_labels is None or (PartName.LABELS in info.parts) is reads_labels
        if features or not (info.takes == "feature" or info.needs_reference)
        for m in _all(info, reading)
    ]
    return found if reads_labels else [*found, *custom.measurements(reading.core), *_own(reading)]


def metric(
    name: str, summary: Summary, context: Context, *, cls: str | None = None, feature: str | None = None
) -> Metric:
    """One metric, computing no more than it needs. `cls` or `feature`: the label that it is of.

    Raises BadInput for a name that is not in the catalogue, and for a label that is missing or does not fit.
    """
    info = lookup(name)
    if cls is not None and info.takes != "class":
        raise BadInput(f"{name} takes no class")
    if feature is not None and info.takes != "feature":
        raise BadInput(f"{name} takes no feature")
    label_value = cls if feature is None else feature
    if info.must and label_value is None:
        raise BadInput(f"{name} is of one {info.takes}: name it")
    # Rules that look at one window ask for the same over and over. A summary never changes, so what was read
    # of it is kept with it, beside what it was read against.
    kept: dict[object, tuple[Context, Metric]] = summary.__dict__.setdefault("_measured", {})
    key = (name, label_value, context.positive_class, context.negative_after)
    known = kept.get(key)
    if known is not None and _alike(known[0], context, info):
        return known[1]
    found = _one(info, Reading(summary, context, None if feature is None else (feature,)), label_value)
    kept[key] = (context, found)
    return found


def _alike(one: Context, other: Context, info: MetricInfo) -> bool:
    """Whether a metric reads the same in two contexts, of one positive class."""
    if one.reference is not other.reference or one.edges is not other.edges:
        return False
    alone = not (info.needs_reference or info.takes == "feature")
    return alone or (
        one.value_errors is other.value_errors and one.drift == other.drift and one.features == other.features
    )


def _own(reading: Reading) -> Iterator[Metric]:
    """Users' own, where they are counted."""
    if reading.summary.core is not None and reading.summary.custom is not None:
        for one in reading.context.own.metrics.values():
            yield one.read(reading.core, reading.custom)


def _all(info: MetricInfo, reading: Reading) -> Iterator[Metric]:
    if reading.lacking(info) is not None or not reading.applies(info):
        return
    if (barred := reading.barred(info)) is not None:
        yield build.absent(info.name, barred)
        return
    if not info.must:
        yield _READERS[info.name](reading, "")
    match info.takes:
        case "class":
            for cls in reading.classes_of(info):
                yield _READERS[info.name](reading, cls)
        case "feature":
            for feature in reading.features_of(info):
                yield _READERS[info.name](reading, feature)


def _one(info: MetricInfo, reading: Reading, label: str | None) -> Metric:
    lacking = reading.lacking(info) or reading.barred(info)
    if lacking is None and info.name not in METRICS:
        return _other(info.name, reading)
    if lacking is None:
        return _READERS[info.name](reading, label or "")
    labels: dict[str, str] = {} if label is None or info.takes is None else {info.takes: label}
    return build.absent(info.name, lacking, labels=labels)


def _other(name: str, reading: Reading) -> Metric:
    """One that is not of kedge's own list: a measurement, or one that users define."""
    if is_measured(name):
        return custom.measurement(name, reading.core)
    one = reading.context.own.metrics.get(name)
    return (
        build.absent(name, "not defined for this model")
        if one is None
        else one.read(reading.core, reading.custom)
    )


_Reader = Callable[[Reading, str], Metric]
"""Takes the class or the feature, empty for none."""


def _quantile(name: str) -> _Reader:
    return lambda r, _: latency.latency_quantile(r.core, name)


def _score(score: performance.Score) -> _Reader:
    return lambda r, cls: r.score(score, cls or None)


def _expected(score: performance.Score) -> _Reader:
    return lambda r, cls: r.estimation.score(score, cls or None)


def _weighted(score: performance.Score) -> _Reader:
    return lambda r, _: performance.weighted(score, r.confusion)


def _drift(name: str) -> _Reader:
    return lambda r, feature: r.drift_of(name, feature)


_READERS: dict[str, _Reader] = {
    "volume.count": lambda r, _: latency.count(r.core),
    "errors.rate": lambda r, _: latency.error_rate(r.core),
    "latency.mean": lambda r, _: latency.latency_mean(r.core),
    **{name: _quantile(name) for name in latency.QUANTILES},
    "confidence.mean": lambda r, _: confidence.confidence_mean(r.core),
    "confidence.std": lambda r, _: confidence.confidence_std(r.core),
    "confidence.p10": lambda r, _: confidence.confidence_p10(r.core),
    "entropy.mean": lambda r, _: confidence.entropy_mean(r.core),
    "class.share": lambda r, cls: classes.class_share(r.core, cls),
    "class.drift": lambda r, _: r.class_drift(),
    "prediction.drift": lambda r, _: r.prediction_drift(),
    "performance.accuracy": lambda r, _: performance.accuracy(r.confusion),
    **{f"performance.{score}": _score(score) for score in performance.SCORES},
    **{f"performance.{score}_weighted": _weighted(score) for score in performance.SCORES},
    "performance.log_loss": lambda r, _: performance.loss("log_loss", r.labels),
    "performance.brier": lambda r, _: performance.loss("brier", r.labels),
    ranking.AUC: lambda r, cls: r.auc(cls or None),
    "performance.ece": lambda r, _: calibration.ece(r.labels, r.context.positive_class, r.known_classes),
    "performance.mae": lambda r, _: performance.mae(r.labels),
    "performance.rmse": lambda r, _: performance.rmse(r.labels),
    "performance.r2": lambda r, _: performance.r2(r.labels),
    "performance.bias": lambda r, _: performance.bias(r.labels),
    "estimated.accuracy": lambda r, _: r.estimation.accuracy(),
    **{f"estimated.{score}": _expected(score) for score in performance.SCORES},
    "estimated.auc": lambda r, _: r.estimation.auc(),
    "estimated.mae": lambda r, _: r.expected_error(),
    "calibration.drift": lambda r, _: r.calibration_drift(),
    "label.coverage": lambda r, _: latency.label_coverage(r.core, r.labels),
    "label.delay_seen_p50": lambda r, _: latency.label_delay(r.labels),
    **{f"drift.{name}": _drift(f"drift.{name}") for name in ("effect", "psi", "js", "ks", "chi2")},
    "drift.wasserstein": lambda r, feature: r.distance_of(feature),
    "drift.share": lambda r, _: drift_share(list(r.drifts.values()), r.context.drift.alpha),
    "quality.missing": lambda r, f: quality.missing(f, r.feature_counts(f)),
    "quality.invalid": lambda r, f: quality.invalid(f, r.feature_counts(f)),
    "quality.unseen": lambda r, f: r.in_cells("quality.unseen", f, quality.unseen),
    "quality.out_of_range": lambda r, f: r.in_cells("quality.out_of_range", f, quality.out_of_range),
    attribution.MEAN: lambda r, f: attribution.mean(f, r.core.attributions),
    attribution.SHIFT: lambda r, f: attribution.shift(f, r.attributed, r.core.attributions),
    attribution.RANK_SHIFT: lambda r, _: attribution.rank_shift(r.attributed, r.core.attributions),
    quality_change.CONSTANT: lambda r, f: r.constant_of(f),
    stuck.STUCK: lambda r, f: r.stuck_of(f),
    arrived.DUPLICATES: lambda r, _: arrived.duplicates(r.core.rows, r.context.arrived),
    arrived.TIME_SKEW: lambda r, _: arrived.time_skew(r.core.rows, r.context.arrived),
    quality_change.APPEARED: lambda r, _: r.changed(quality_change.appeared),
    quality_change.DISAPPEARED: lambda r, _: r.changed(quality_change.disappeared),
}
"""How each metric of the catalogue is read; `tests/analysis` holds the two to the same names."""
