"""Every metric that kedge computes from summaries, with what a rule, a page or a reader must know about it.

The one list: rules are checked against it, `measure` computes what stands in it, and the documentation shows
it.
"""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal

from kedge.errors import BadInput
from kedge.sketch import PartName


class Bad(StrEnum):
    """Which way is worse."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"


EvidenceKind = Literal["rate", "mean", "quantile", "exact", "other"]
Label = Literal["class", "feature"]

CORE = frozenset({PartName.CORE})
CELLS = frozenset({PartName.CELLS})
LABELS = frozenset({PartName.LABELS})
CUSTOM = frozenset({PartName.CUSTOM})


@dataclass(frozen=True)
class MetricInfo:
    """One metric of the catalogue."""

    name: str
    unit: str
    """`ratio`, `ms`, `count`, `nats`, `label` (the unit of the labels) or empty."""
    bad: Bad
    counts: str
    """What its n counts, in words; `min_count` is compared with it."""
    parts: frozenset[PartName]
    """The parts of a Summary that it needs."""
    description: str
    """One line."""
    evidence: EvidenceKind = "other"
    """How its interval comes about: Wilson, normal, order statistics; exact has no noise, other none
    known.
    """
    needs_reference: bool = False
    takes: Label | None = None
    """The label that it may carry."""
    also: frozenset[PartName] = frozenset()
    """Parts that it reads where they are computed, and can do without."""
    must: bool = False
    """Without that label it has no meaning; else it is of all rows, or of the positive class."""
    grows: bool = False
    """It grows with the window, as a sum does; counts, by their unit, do so too."""

    @cached_property
    def reads(self) -> frozenset[PartName]:
        """The parts to read for it."""
        return self.parts | self.also

    @property
    def label_based(self) -> bool:
        """It rests on labels that come late: its windows end at the newest mature bucket."""
        return self.name.startswith(("performance.", "calibration."))

    @property
    def estimated(self) -> bool:
        """It says without labels what they would say, as long as they follow from the inputs as before."""
        return self.name.startswith("estimated.")

    @property
    def comparison(self) -> bool:
        """It tells how far a window is from its reference, so there is nothing to compare it with."""
        return self.needs_reference and not self.estimated


def _features(
    name: str, unit: str, parts: frozenset[PartName], description: str, *, rate: bool = False
) -> MetricInfo:
    return MetricInfo(
        name,
        unit,
        Bad.UP,
        "rows",
        parts,
        description,
        evidence="rate" if rate else "other",
        needs_reference=not rate,
        takes="feature",
        must=True,
    )


def _latency(name: str, description: str) -> MetricInfo:
    kind: EvidenceKind = "mean" if name == "mean" else "quantile"
    return MetricInfo(f"latency.{name}", "ms", Bad.UP, "rows with a latency", CORE, description, kind)


def _performance(
    name: str,
    counts: str,
    description: str,
    *,
    unit: str = "ratio",
    bad: Bad = Bad.DOWN,
    evidence: EvidenceKind = "rate",
    takes: Label | None = None,
) -> MetricInfo:
    return MetricInfo(
        f"performance.{name}", unit, bad, counts, LABELS, description, evidence=evidence, takes=takes
    )


def _estimated(
    name: str, counts: str, description: str, *, takes: Label | None = None, evidence: EvidenceKind = "rate"
) -> MetricInfo:
    return MetricInfo(
        f"estimated.{name}",
        "ratio",
        Bad.DOWN,
        counts,
        CORE,
        description,
        evidence,
        needs_reference=True,
        takes=takes,
    )


_METRICS = (
    MetricInfo("volume.count", "count", Bad.BOTH, "rows", CORE, "Predictions logged.", "exact"),
    MetricInfo("errors.rate", "ratio", Bad.UP, "rows", CORE, "Share of rows with an error.", "rate"),
    _latency("mean", "Mean latency."),
    _latency("p50", "Median latency, within 2.5 %."),
    _latency("p95", "95th percentile of latency, within 2.5 %."),
    _latency("p99", "99th percentile of latency, within 2.5 %."),
    MetricInfo(
        "confidence.mean",
        "ratio",
        Bad.DOWN,
        "rows with a probability",
        CORE,
        "Mean probability of the predicted class.",
        "mean",
    ),
    MetricInfo(
        "confidence.std",
        "ratio",
        Bad.BOTH,
        "rows with a probability",
        CORE,
        "Standard deviation (n - 1) of the probability of the predicted class.",
    ),
    MetricInfo(
        "confidence.p10",
        "ratio",
        Bad.DOWN,
        "rows with a class and a probability",
        CORE,
        "10th percentile of the probability of the predicted class, within 0.01.",
        "quantile",
    ),
    MetricInfo(
        "entropy.mean",
        "nats",
        Bad.UP,
        "rows with probabilities",
        CORE,
        "Mean entropy of the predicted probabilities.",
        "mean",
    ),
    MetricInfo(
        "class.share",
        "ratio",
        Bad.BOTH,
        "rows with a predicted class",
        CORE,
        "Share of the predictions that are of this class.",
        "rate",
        takes="class",
        must=True,
    ),
    MetricInfo(
        "class.drift",
        "",
        Bad.UP,
        "rows with a predicted class",
        CORE,
        "Effect size of the shift of the predicted classes against the reference.",
        needs_reference=True,
    ),
    MetricInfo(
        "prediction.drift",
        "",
        Bad.UP,
        "rows with a prediction",
        CORE,
        "Effect size of the shift of the predictions against the reference: of classes by five bands of "
        "confidence, or of a regression's values.",
        needs_reference=True,
        also=CELLS,
    ),
    _performance(
        "accuracy", "labelled rows with a predicted class", "Share of labelled predictions that are right."
    ),
    _performance(
        "precision",
        "predicted positives; labelled rows when macro",
        "Right among the predictions of the positive class, or of one class; else the macro average.",
        takes="class",
    ),
    _performance(
        "recall",
        "positives; labelled rows when macro",
        "Found among the rows of the positive class, or of one class; else the macro average.",
        takes="class",
    ),
    _performance(
        "f1",
        "positives and predicted positives; labelled rows when macro",
        "Harmonic mean of precision and recall of the positive class, or of one; else the macro average.",
        takes="class",
    ),
    _performance("precision_weighted", "labelled rows", "Precision averaged over classes by their support."),
    _performance(
        "recall_weighted",
        "labelled rows",
        "Recall averaged over classes by their support: it is accuracy, and hides a collapsed rare class.",
    ),
    _performance("f1_weighted", "labelled rows", "F1 averaged over classes by their support."),
    _performance(
        "log_loss",
        "labelled rows with probabilities",
        "Mean negative log of the probability given to the true class.",
        unit="nats",
        bad=Bad.UP,
        evidence="mean",
    ),
    _performance(
        "brier",
        "labelled rows with probabilities",
        "Mean squared distance of the probabilities from the truth; halved when binary.",
        unit="",
        bad=Bad.UP,
        evidence="mean",
    ),
    _performance(
        "auc",
        "the smaller class, of labelled rows with a probability; the smallest when macro",
        "Chance that a row of the positive class, or of one class, scores higher than another one; else, of "
        "more than two classes, the macro average.",
        takes="class",
    ),
    _performance(
        "ece",
        "labelled rows with a probability",
        "Expected calibration error over ten bins: of the positive class's probability, else of the "
        "predicted class's.",
        bad=Bad.UP,
        evidence="other",
    ),
    _performance(
        "mae",
        "labelled rows with a predicted value",
        "Mean absolute error.",
        unit="label",
        bad=Bad.UP,
        evidence="mean",
    ),
    _performance(
        "rmse",
        "labelled rows with a predicted value",
        "Root of the mean squared error.",
        unit="label",
        bad=Bad.UP,
        evidence="mean",
    ),
    _performance(
        "r2",
        "labelled rows with a predicted value",
        "Share of the labels' variance explained: 1 - squared error / variance.",
        unit="",
        evidence="other",
    ),
    _performance(
        "bias",
        "labelled rows with a predicted value",
        "Mean error, prediction minus label.",
        unit="label",
        bad=Bad.BOTH,
        evidence="mean",
    ),
    _estimated(
        "accuracy",
        "rows with a predicted class",
        "Accuracy that the confidence leads one to expect, calibrated on the reference's labels.",
    ),
    _estimated(
        "precision",
        "predicted positives; rows with a predicted class when macro",
        "Expected precision of the positive class, or of one class; else the macro average.",
        takes="class",
    ),
    _estimated(
        "recall",
        "positives expected; rows with a predicted class when macro",
        "Expected recall of the positive class, or of one class; else the macro average.",
        takes="class",
    ),
    _estimated(
        "f1",
        "positives expected and predicted positives; rows with a predicted class when macro",
        "Expected F1 of the positive class, or of one class; else the macro average.",
        takes="class",
    ),
    _estimated(
        "auc",
        "rows expected of the smaller class",
        "Expected area under the ROC curve of a binary model's positive class.",
    ),
    MetricInfo(
        "estimated.mae",
        "label",
        Bad.UP,
        "rows with a predicted value",
        CELLS | CORE,
        "Mean absolute error that the predicted values lead one to expect, from the reference's errors.",
        "mean",
        needs_reference=True,
    ),
    MetricInfo(
        "calibration.drift",
        "",
        Bad.UP,
        "labelled rows with a probability",
        LABELS,
        "Effect size of the shift of the reliability curve against the reference, judged by tolerance.",
        needs_reference=True,
    ),
    MetricInfo(
        "label.coverage",
        "ratio",
        Bad.DOWN,
        "rows",
        CORE | LABELS,
        "Share of rows that have a label so far.",
        "rate",
    ),
    MetricInfo(
        "label.delay_seen_p50",
        "ms",
        Bad.UP,
        "labelled rows",
        LABELS,
        "Median time from prediction to label of the labels that came so far, within 10 %.",
        "quantile",
    ),
    _features("drift.effect", "", CELLS, "Effect size D of the shift of one feature, judged by tolerance."),
    _features("drift.psi", "", CELLS, "Population stability index of one feature, smoothed by half a count."),
    _features("drift.js", "", CELLS, "Jensen-Shannon distance, base 2, of one feature."),
    _features("drift.ks", "", CELLS, "Largest gap of the two distribution functions at a cell's edge."),
    _features(
        "drift.wasserstein",
        "",
        CELLS | CORE,
        "Distance that the values of one feature moved, in interquartile ranges of the reference.",
    ),
    _features("drift.chi2", "", CELLS, "Homogeneity chi-square of one feature."),
    MetricInfo(
        "drift.share",
        "ratio",
        Bad.UP,
        "testable features",
        CELLS,
        "Share of the testable features that drifted, after Benjamini-Hochberg.",
        "exact",
        needs_reference=True,
    ),
    _features("quality.missing", "ratio", CORE, "Share of rows without a value of the feature.", rate=True),
    _features(
        "quality.unseen", "ratio", CELLS, "Share of rows with a category unknown to the reference.", rate=True
    ),
    _features(
        "quality.out_of_range", "ratio", CELLS, "Share of rows outside the reference's range.", rate=True
    ),
    _features("quality.invalid", "ratio", CORE, "Share of rows whose value has the wrong type.", rate=True),
    _features(
        "quality.constant",
        "",
        CELLS | CORE,
        "1 where every value is the same and the reference's were not, beyond chance; else 0.",
    ),
    _features(
        "quality.stuck",
        "ms",
        CELLS | CORE,
        "Time that a numeric feature has held one value up to the window's end, beyond chance; else 0.",
    ),
    MetricInfo(
        "quality.duplicates",
        "ratio",
        Bad.UP,
        "rows that arrived",
        CORE,
        "Share of the rows that arrived whose id was stored already; of a model as a whole.",
        "rate",
    ),
    MetricInfo(
        "quality.time_skew",
        "ratio",
        Bad.UP,
        "rows",
        CORE,
        "Share of rows whose time was over a minute ahead of the gateway's clock; of a model as a whole.",
        "rate",
    ),
    MetricInfo(
        "quality.appeared",
        "count",
        Bad.UP,
        "features of the window",
        CORE,
        "Features that the reference did not have at all.",
        needs_reference=True,
    ),
    MetricInfo(
        "quality.disappeared",
        "count",
        Bad.UP,
        "features of the reference",
        CORE,
        "Features of the reference that no row has any more.",
        needs_reference=True,
    ),
)

_ATTRIBUTIONS = (
    MetricInfo(
        "attribution.mean",
        "",
        Bad.BOTH,
        "rows with an attribution of the feature",
        CORE,
        "Mean absolute attribution of one feature, where logs carry explanations.",
        "mean",
        takes="feature",
        must=True,
    ),
    MetricInfo(
        "attribution.shift",
        "",
        Bad.BOTH,
        "rows with an attribution of the feature",
        CORE,
        "How much more a feature contributes than in the reference: 0.5 is half more, -1 nothing any more.",
        needs_reference=True,
        takes="feature",
        must=True,
    ),
    MetricInfo(
        "attribution.rank_shift",
        "",
        Bad.UP,
        "rows with attributions",
        CORE,
        "How far the order of the features by what they contribute moved: 1 - NDCG, 0 for the reference's.",
        needs_reference=True,
    ),
)

METRICS: dict[str, MetricInfo] = {info.name: info for info in (*_METRICS, *_ATTRIBUTIONS)}
"""By name, in the order in which they are shown."""

AGED: dict[str, MetricInfo] = {
    info.name: info
    for info in (
        MetricInfo(
            "label.delay_p50",
            "ms",
            Bad.UP,
            "labelled rows",
            CORE | LABELS,
            "Median time from prediction to label, the labels still to come taken into account, within 20 %.",
        ),
        MetricInfo(
            "label.maturity",
            "ratio",
            Bad.DOWN,
            "rows",
            CORE | LABELS,
            "Share of rows whose bucket is mature, so that metrics on labels may be judged.",
        ),
    )
}
"""Those that depend on what time it is: computed when asked for, never stored, and not for rules
(`label.coverage` by `age` is another)."""


MEASURED_STATS = ("mean", "sum")
"""Of `business.NAME` and `resource.NAME`."""
MEASURED = tuple(f"{family}.NAME.{stat}" for family in ("business", "resource") for stat in MEASURED_STATS)
"""For people."""

OWN_NAME = r"^[a-z][a-z0-9_]*$"
"""What users may call their own metrics: without a dot, which kedge's have."""

_own: dict[str, MetricInfo] = {}


def declare(infos: Iterable[MetricInfo]) -> None:
    """Make known the metrics that users define (`metrics` in kedge.yml), in place of those that were.

    Their names are one process's, as its settings are: rules say a metric by name, wherever they are read.
    """
    global _own
    _own = {info.name: info for info in infos}


def own_names() -> tuple[str, ...]:
    return tuple(_own)


def is_measured(name: str) -> bool:
    """Whether it is the name of a measurement's metric: `business.cost.sum`."""
    family, _, rest = name.partition(".")
    field, _, stat = rest.rpartition(".")
    return family in ("business", "resource") and bool(field) and stat in MEASURED_STATS


def measured_of(name: str) -> tuple[str, str]:
    """The field of such a metric, and its stat."""
    field, _, stat = name.rpartition(".")
    return field, stat


def _measured(name: str) -> MetricInfo:
    field, stat = measured_of(name)
    sums = stat == "sum"
    return MetricInfo(
        name,
        "",
        Bad.BOTH,
        f"rows with a {field}",
        CORE,
        f"{'Sum' if sums else 'Mean'} of {field} over the rows that have it.",
        "exact" if sums else "mean",
        grows=sums,
    )


def is_known(name: str) -> bool:
    """Whether `lookup` finds it."""
    try:
        lookup(name)
    except BadInput:
        return False
    return True


def lookup(name: str) -> MetricInfo:
    """The metric of that name; raises BadInput with the nearest names."""
    if name in METRICS:
        return METRICS[name]
    if name in _own:
        return _own[name]
    if is_measured(name):
        return _measured(name)
    if name.startswith(("business.", "resource.")):
        choices = " or ".join(f"{name}.{stat}" for stat in MEASURED_STATS)
        raise BadInput(f'"{name}" is a field: say which of its metrics is meant, {choices}')
    if name in AGED:
        raise BadInput(
            f'"{name}" changes while nothing happens, so no rule can watch it (kedge metrics shows it)'
        )
    near = _nearest(name)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(METRICS)}"
    raise BadInput(f'unknown metric "{name}" ({hint})')


def check_name(name: str) -> None:
    """Raise as `lookup` does for what is no metric that can be asked for."""
    if name not in AGED:
        lookup(name)


def _nearest(name: str) -> list[str]:
    """By spelling; else by the last word, for those who leave the family out (`recall`)."""
    last = name.rpartition(".")[2].lower()
    same = [known for known in METRICS if known.rpartition(".")[2] == last]
    return same[:3] or difflib.get_close_matches(name.lower(), [*METRICS, *_own], n=2, cutoff=0.6)


def of_family(family: str) -> Iterator[MetricInfo]:
    """The metrics of a family (`latency`, `drift`), in order."""
    return (info for info in METRICS.values() if info.name.partition(".")[0] == family)
