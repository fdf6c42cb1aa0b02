"""Summaries of rows that have given metrics: what a test says in numbers, as the pipeline reads it. Pure.

A test names metrics, their values and their n; a rule reads summaries. So counts are made that the value
follows from, and then measured as any rows are: what comes out must be what was asked for, or the test is
refused. Windows add such counts up as they do those of real rows.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import numpy as np

from kedge.alerting.quantity import RATIO, format_value
from kedge.analysis.catalogue import lookup
from kedge.analysis.latency import QUANTILES
from kedge.analysis.measure import Context, metric
from kedge.errors import BadInput
from kedge.sketch import (
    DELAY,
    LATENCY,
    SCORE_CELLS,
    AnyPart,
    Cells,
    Core,
    Counts,
    EdgeSet,
    Labels,
    Moments,
    NumericEdges,
    PartName,
    Summary,
)
from kedge.sketch.scale import score_cell

ROWS = 10_000
"""Rows of an interval where a series does not say its n."""
REFERENCE_ROWS = 100_000
"""Rows of a reference for drift where no `baseline` is given."""
CELLS = 20
NEAR = 0.03
"""How far a measured value may be from the one that was asked for, relative: quantiles are within 2.5 %, and
rows are whole."""
POSITIVE, NEGATIVE = "positive", "negative"
"""Classes of rows whose class is not named."""
_SCORES = ("accuracy", "precision", "recall", "f1")
_SUMS = {
    "log_loss": "log_loss",
    "brier": "brier",
    "mae": "abs_error",
    "rmse": "squared_error",
    "bias": "error",
}
_LABELS = (*_SCORES, *_SUMS)
MADE = (
    "volume.count",
    "errors.rate",
    "latency.mean",
    *QUANTILES,
    "confidence.mean",
    "confidence.p10",
    "entropy.mean",
    "class.share",
    "quality.missing",
    "quality.invalid",
    "attribution.mean",
    "label.coverage",
    *(f"performance.{name}" for name in _LABELS),
    *(f"drift.{name}" for name in ("effect", "psi", "js", "ks")),
)
"""The metrics that rows can be made of; what is compared with a reference follows from these."""

Split = Callable[[int], int]
"""How many of so many rows belong to a part of the interval."""


@dataclass(frozen=True)
class Fact:
    """One metric of some rows."""

    metric: str
    value: float
    n: int | None = None
    """None: as other metrics of the same rows say, else ROWS."""
    label: str | None = None
    """The class or the feature that it is of."""
    sd: float = 0.0
    """Of the rows of a mean; without it, the mean is known without noise."""

    @property
    def name(self) -> str:
        return self.metric if self.label is None else f"{self.metric} of {self.label}"


def check_made(name: str) -> None:
    """Raises BadInput for a metric that no rows can be made of."""
    info = lookup(name)
    if info.name not in MADE:
        raise BadInput(f"no rows can be made with a given {name}; there are {', '.join(MADE)}")


def whole(n: int) -> int:
    """All of them."""
    return n


def share_of(part: int, parts: int) -> Split:
    """The rows of one of equal parts: their sum over all parts is all rows."""
    return lambda n: n * (part + 1) // parts - n * part // parts


@dataclass(frozen=True)
class Rows:
    """The rows of one group in one interval."""

    facts: tuple[Fact, ...]
    features: tuple[str, ...] = ()
    """Features that are counted on edges, here or elsewhere in the model."""
    positive: str | None = None
    _found: dict[str, Fact] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found: dict[str, Fact] = {}
        for fact in self.facts:
            if fact.name in found:
                raise BadInput(f"{fact.name} is given twice for the same rows")
            found[fact.name] = fact
        object.__setattr__(self, "_found", found)

    def _of(self, family: str) -> list[Fact]:
        return [f for f in self.facts if f.metric.startswith(family)]

    @property
    def rows(self) -> int:
        """How many there are: as volume.count says, else the most that a metric rests on."""
        if "volume.count" in self._found:
            return round(self._found["volume.count"].value)
        given = [f.n for f in self.facts if f.n is not None and not f.metric.startswith("performance.")]
        return max([*given, self._labelled], default=0) or ROWS

    @property
    def _labelled(self) -> int:
        """Rows with a label."""
        pairs = sum(self._confusion.values())
        return max([pairs, *(f.n or 0 for f in self.facts if self._sum_of(f))], default=0)

    def _n(self, fact: Fact) -> int:
        return self.rows if fact.n is None else fact.n

    @staticmethod
    def _sum_of(fact: Fact) -> str | None:
        return _SUMS.get(fact.metric.removeprefix("performance."))

    # --- the parts ------------------------------------------------------------------------------------------

    def parts(self, split: Split = whole) -> dict[PartName, AnyPart]:
        """Of a part of the interval; no part at all without rows."""
        if not split(self.rows):
            return {}
        made: dict[PartName, AnyPart] = {PartName.CORE: self._core(split)}
        if self.features:
            made[PartName.CELLS] = self._cells(split)
        labels = self._labels(split)
        if labels.rows:
            made[PartName.LABELS] = labels
        return made

    def _core(self, split: Split) -> Core:
        errors = self._found.get("errors.rate")
        latency, latency_ms = self._latency(split)
        confidence = self._found.get("confidence.mean") or self._found.get("confidence.p10")
        numeric = {
            f.label: _moments(split, self.rows - self._count(f) - self._invalid(f.label), 0.0, 1.0)
            for f in self._of("quality.missing")
            if f.label is not None
        }
        for name in {f.label for f in self._of("quality.invalid") if f.label} - numeric.keys():
            numeric[name] = _moments(split, self.rows - self._invalid(name), 0.0, 1.0)
        return Core(
            rows=split(self.rows),
            errors=split(self._count(errors)) if errors else 0,
            latency=latency,
            latency_ms=latency_ms,
            scores=self._scores(split, confidence),
            confidence=self._mean(split, confidence) if confidence else Moments.ZERO,
            entropy=self._mean(split, self._found["entropy.mean"])
            if "entropy.mean" in self._found
            else Moments.ZERO,
            numeric={name: m for name, m in numeric.items() if m.n},
            invalid={
                f.label: n for f in self._of("quality.invalid") if f.label and (n := split(self._count(f)))
            },
            attributions={f.label: self._mean(split, f) for f in self._of("attribution.mean") if f.label},
        )

    def _count(self, fact: Fact) -> int:
        """The rows that a share is of."""
        return round(fact.value * self._n(fact))

    def _invalid(self, feature: str | None) -> int:
        fact = self._found.get(f"quality.invalid of {feature}")
        return self._count(fact) if fact else 0

    def _mean(self, split: Split, fact: Fact) -> Moments:
        return _moments(split, self._n(fact), fact.value, fact.sd)

    def _latency(self, split: Split) -> tuple[Counts, Moments]:
        """All rows at the mean; or so many at each quantile that it is one."""
        quantiles = sorted((QUANTILES[f.metric], f.value, self._n(f)) for f in self._of("latency.p"))
        mean = self._found.get("latency.mean")
        if not quantiles:
            if mean is None:
                return LATENCY.zero(), Moments.ZERO
            found = self._mean(split, mean)
            return _at(LATENCY.count([mean.value]), found.n), found
        n = quantiles[0][2]
        bounds = [0.0, *((a[0] + b[0]) / 2 for a, b in pairwise(quantiles)), 1.0]
        counts, moments = LATENCY.zero(), Moments.ZERO
        for (_, value, _), start, end in zip(quantiles, bounds[:-1], bounds[1:], strict=True):
            at = split(round(n * end) - round(n * start))
            counts = counts + _at(LATENCY.count([value]), at)
            moments = moments + _moments(whole, at, value, 0.0)
        return counts, moments

    def _scores(self, split: Split, confidence: Fact | None) -> dict[str, Counts]:
        """Rows by predicted class: as the shares say, else as those with labels were predicted."""
        shares = self._of("class.share")
        if shares:
            n = self._n(shares[0])
            sizes = {f.label or "": round(f.value * n) for f in shares}
            rest = n - sum(sizes.values())
            if rest < 0:
                raise BadInput("the shares of classes add up to more than 100 %")
            if rest:
                sizes[next(name for name in ("other", "(rest)") if name not in sizes)] = rest
        else:
            sizes = {}
            for (predicted, _), n in self._confusion.items():
                sizes[predicted] = sizes.get(predicted, 0) + n
            if not sizes and confidence is not None:
                sizes = {self.positive or POSITIVE: self._n(confidence)}
        cell = SCORE_CELLS if confidence is None else score_cell(min(max(confidence.value, 0.0), 1.0))
        return {name: _in_cell(cell, split(n)) for name, n in sizes.items() if split(n)}

    # --- labels ---------------------------------------------------------------------------------------------

    @property
    def _confusion(self) -> dict[tuple[str, str], int]:
        """Rows by (predicted, true) class. One score alone is met by the same share of right answers on both
        sides, which makes it the accuracy, the precision, the recall and the F1 at once."""
        given = [f for f in self.facts if f.metric.removeprefix("performance.") in _SCORES]
        if not given:
            return {}
        by_name = {f.metric.removeprefix("performance."): f for f in given}
        classes = {f.label for f in given if f.label is not None}
        if len(classes) > 1 or len(by_name) < len(given):
            raise BadInput("performance of one class at a time: give the others labels of their own")
        ours = next(iter(classes), None) or self.positive or POSITIVE
        theirs = NEGATIVE if ours != NEGATIVE else POSITIVE
        if set(by_name) == {"precision", "recall"}:
            recall, precision = by_name["recall"], by_name["precision"]
            positives = self._positives(recall)
            found = round(recall.value * positives)
            predicted = round(found / precision.value) if precision.value else 0
            wrong = max(predicted - found, 0)
            cells = (found, positives - found, wrong, positives)
        elif len(by_name) == 1:
            ((name, fact),) = by_name.items()
            positives = self._positives(fact)
            if name == "accuracy":
                n = fact.n if fact.n is not None else 2 * positives
                right = round(fact.value * n)
                cells = (right // 2, (n - right) // 2, (n - right) - (n - right) // 2, right - right // 2)
            elif name == "f1":  # its n are the rows that are either: n = positives + falsely predicted
                n = fact.n if fact.n is not None else positives
                # found, missed and wrong; with as many missed as wrong, f1 is found / (found + missed)
                missed = round(n * (1 - fact.value) / (2 - fact.value))
                cells = (n - 2 * missed, missed, missed, n - missed)
            else:
                right = round(fact.value * positives)
                cells = (right, positives - right, positives - right, right)
        else:
            raise BadInput(
                f"{' and '.join(sorted(by_name))} of the same rows: give one, or precision and recall"
            )
        pairs = ((ours, ours), (theirs, ours), (ours, theirs), (theirs, theirs))
        return {pair: n for pair, n in zip(pairs, cells, strict=True) if n}

    def _positives(self, fact: Fact) -> int:
        if fact.n is not None:
            return fact.n
        volume = self._found.get("volume.count")
        return ROWS if volume is None else round(volume.value) // 2

    def _labels(self, split: Split) -> Labels:
        pairs = {pair: split(n) for pair, n in self._confusion.items()}
        sums = {}
        for fact in self.facts:
            if (name := self._sum_of(fact)) is not None:
                n = self._n(fact)
                sums[name] = _moments(
                    split, n, fact.value**2 if name == "squared_error" else fact.value, fact.sd
                )
        rows = max([sum(pairs.values()), *(m.n for m in sums.values())], default=0)
        coverage = self._found.get("label.coverage")
        if coverage is not None:
            rows = split(self._count(coverage))
        return Labels(
            rows=rows,
            scores={pair: _in_cell(SCORE_CELLS, n) for pair, n in pairs.items() if n},
            delay=_at(DELAY.count([float(DELAY.low)]), rows),
            ranks={},
            **sums,
        )

    # --- cells ----------------------------------------------------------------------------------------------

    def _cells(self, split: Split) -> Cells:
        edges = edges_of(self.features)
        given = {f.label: f for f in self._of("drift.")}
        found = {}
        for name in self.features:
            fact = given.get(name)
            shift = shift_for(fact.metric, fact.value) if fact else 0.0
            counts = [split(n) for n in _shifted(shift, self._n(fact) if fact else self.rows)]
            found[name] = (edges.features[name].hash, np.array([0, *counts, 0, 0], np.int64))
        return Cells(found)


def summary_of(parts: Mapping[PartName, AnyPart]) -> Summary:
    """Parts as one Summary: of rows that have none, there are no labels."""
    core, cells, labels = (parts.get(name) for name in (PartName.CORE, PartName.CELLS, PartName.LABELS))
    return Summary(
        core if isinstance(core, Core) else Core(),
        cells if isinstance(cells, Cells) else None,
        labels if isinstance(labels, Labels) else Labels(),
    )


def verify(rows: Rows) -> None:
    """Measure the rows that were made: each value and n must be what was asked for. Raises BadInput."""
    for fact in rows.facts:
        if lookup(fact.metric).unit == RATIO and not 0 <= fact.value <= 1:
            raise BadInput(f"{fact.name} lies between 0 and 1: {fact.value:g} does not (write 5% or 0.05)")
    summary = summary_of(rows.parts())
    edges = edges_of(rows.features)
    reference = reference_of(rows.features)
    for fact in rows.facts:
        info = lookup(fact.metric)
        label = {} if info.takes is None or fact.label is None else {_KEYWORD[info.takes]: fact.label}
        context = Context(rows.positive or POSITIVE, reference, edges)
        found = metric(fact.metric, summary, context, **label)
        if found.value is None:
            if not rows.rows or (fact.n == 0):
                continue
            raise BadInput(f"{fact.name} cannot be made: {found.reason}")
        if not math.isclose(found.value, fact.value, rel_tol=NEAR, abs_tol=1e-9):
            got, want = (format_value(v, info.unit) for v in (found.value, fact.value))
            alone = len(rows.facts) == 1
            more = "give more rows (n)" if alone else "what else is given for the same rows contradicts it"
            raise BadInput(f"{fact.name} of n={found.n:,} rows comes out as {got}, not {want}: {more}")
        if fact.n is not None and found.n != fact.n and info.name != "volume.count":
            raise BadInput(
                f"{fact.name}: n comes out as {found.n:,}, not {fact.n:,} (of {info.counts}): what else is "
                f"given for the same rows contradicts it"
            )


_KEYWORD = {"class": "cls", "feature": "feature"}


# --- features: a reference with as many rows in each cell, and windows that lean to one side ----------------


@cache
def edges_of(features: tuple[str, ...]) -> EdgeSet:
    """Twenty cells between 0 and 1 for each feature."""
    edges = NumericEdges(tuple(float(np.float32(i / CELLS)) for i in range(CELLS + 1)))
    return EdgeSet(dict.fromkeys(features, edges))


@cache
def reference_of(features: tuple[str, ...], n: int = REFERENCE_ROWS) -> Summary | None:
    """What the features are compared with: rows spread evenly."""
    if not features:
        return None
    edges = edges_of(features)
    counts = np.array([0, *_shifted(0.0, n), 0, 0], np.int64)
    cells = Cells({name: (e.hash, counts) for name, e in edges.features.items()})
    return Summary(Core(rows=n), cells, Labels())


def _shifted(shift: float, n: int) -> list[int]:
    """Rows by cell: the lower half has 1 - shift times as many as without, the upper half 1 + shift."""
    shares = [(1 + (shift if i >= CELLS // 2 else -shift)) / CELLS for i in range(CELLS)]
    ends = [round(n * math.fsum(shares[: i + 1])) for i in range(CELLS)]
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]


@cache
def shift_for(name: str, value: float) -> float:
    """The shift at which a drift metric of many rows is `value`; raises BadInput where none is so large."""
    if value <= 0:
        return 0.0
    features, n = ("f",), 10**7
    reference, edges = reference_of(features, n), edges_of(features)

    def at(shift: float) -> float:
        counts = np.array([0, *_shifted(shift, n), 0, 0], np.int64)
        summary = Summary(Core(rows=n), Cells({"f": (edges.features["f"].hash, counts)}), Labels())
        return metric(name, summary, Context(None, reference, edges), feature="f").value or 0.0

    most = at(1.0)
    if value > most:
        raise BadInput(f"{name} of {value:g} cannot be made: at most {most:.3g}")
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) < value else (low, middle)
    return (low + high) / 2


# --- small things -------------------------------------------------------------------------------------------


def _moments(split: Split, n: int, mean: float, sd: float) -> Moments:
    held = split(n)
    if held <= 0:
        return Moments.ZERO
    m2 = sd * sd * max(n - 1, 0) * held / n
    return Moments(held, float(mean), m2, float(mean - sd), float(mean + sd))


def _at(one: Counts, n: int) -> Counts:
    return one * n


def _in_cell(cell: int, n: int) -> Counts:
    counts = np.zeros(SCORE_CELLS + 1, np.int64)
    counts[cell] = n
    return counts


def merged(parts: Iterable[Mapping[PartName, AnyPart]]) -> dict[PartName, AnyPart]:
    """The parts of several groups' rows together."""
    found: dict[PartName, AnyPart] = {}
    held: Sequence[Mapping[PartName, AnyPart]] = list(parts)
    for one in held:
        for name, part in one.items():
            found[name] = found[name] + part if name in found else part  # type: ignore[operator]
    return found
