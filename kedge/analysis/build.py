"""Metrics from what they rest on: value, n, standard error and 95 % interval together, or the reason for
none.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from kedge.analysis.evidence import Estimate, Evidence, Exact, Mean, Median, Rate
from kedge.analysis.intervals import SHOWN_ALPHA
from kedge.analysis.metric import Metric
from kedge.sketch import Moments

Labels = Mapping[str, str]
_NONE: Labels = {}


def absent(name: str, reason: str, *, n: int = 0, labels: Labels = _NONE) -> Metric:
    """A metric that has no value, and why."""
    return Metric(name, None, n, dict(labels), reason=reason)


def present(
    name: str,
    value: float,
    n: int,
    evidence: Evidence | None,
    *,
    labels: Labels = _NONE,
    detail: Mapping[str, Any] | None = None,
) -> Metric:
    """A metric with its value; one that came out as no number reads as absent."""
    if not math.isfinite(value):
        return absent(name, "the value is not a finite number", n=n, labels=labels)
    return Metric(
        name,
        float(value),
        n,
        dict(labels),
        stderr=None if evidence is None else evidence.stderr,
        interval=None if evidence is None else evidence.interval(SHOWN_ALPHA),
        detail=dict(detail or {}),
        evidence=evidence,
    )


def exact(name: str, value: int) -> Metric:
    return present(name, value, value, Exact(value))


def rate(name: str, successes: int, trials: int, none: str, *, labels: Labels = _NONE) -> Metric:
    """`successes` of `trials`; `none` says what is lacking where there are no trials."""
    if trials <= 0:
        return absent(name, none, labels=labels)
    return present(name, successes / trials, trials, Rate(successes, trials), labels=labels)


def mean(name: str, moments: Moments, none: str, *, labels: Labels = _NONE) -> Metric:
    if not moments.n:
        return absent(name, none, labels=labels)
    return present(name, moments.mean, moments.n, Mean(moments), labels=labels)


def estimate(name: str, value: float, error: float | None, n: int) -> Metric:
    """A value with a standard error; None where it has none."""
    known = error is not None and math.isfinite(error)
    return present(name, value, n, Estimate(value, error) if known and error is not None else None)


def median_of(metrics: Sequence[Metric]) -> Metric:
    """The median of one metric's values over several windows, all of which have one; n is that of all rows
    together. Without evidence for each there is none for the median."""
    values = [m.value for m in metrics if m.value is not None]
    held = tuple(m.evidence for m in metrics if m.evidence is not None)
    evidence = Median(held) if len(held) == len(values) else None
    first = metrics[0]
    return present(first.name, median(values), sum(m.n for m in metrics), evidence, labels=first.labels)
