"""Confidence intervals from counts and moments alone.

`alpha` is one-sided throughout: an interval at alpha leaves at most alpha beyond *each* end, so its two-sided
level is 1 - 2 alpha, and either end alone is a one-sided bound at the level 1 - alpha that a rule asks for.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

if TYPE_CHECKING:
    from kedge.analysis.metric import Metric

Interval = tuple[float, float]
SHOWN_ALPHA = 0.025
"""Of the intervals shown to people: 95 %, two-sided."""


@lru_cache(maxsize=1024)
def z_of(alpha: float) -> float:
    """The normal quantile that alpha lies above."""
    return float(-special.ndtri(alpha))


class Bounds(NamedTuple):
    """Lower and upper ends, of the shape of what they bound."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def wilson(successes: ArrayLike, trials: ArrayLike, alpha: float = SHOWN_ALPHA) -> Bounds:
    """The score interval of rates, elementwise (Wilson 1927); [0, 1] where there are no trials.

    Counts may be fractions: an effective number of trials. Chosen over the exact (Clopper-Pearson) interval,
    which is needlessly wide, and over the normal one, which collapses at 0 and 1 (Brown, Cai and DasGupta
    2001).
    """
    k, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    z = z_of(alpha)
    safe = np.where(n > 0, n, 1.0)
    centre = (k + z * z / 2) / (safe + z * z)
    half = z / (safe + z * z) * np.sqrt(np.maximum(k * (safe - k) / safe, 0.0) + z * z / 4)
    return Bounds(
        np.where(n > 0, np.maximum(centre - half, 0.0), 0.0),
        np.where(n > 0, np.minimum(centre + half, 1.0), 1.0),
    )


def wilson_of(successes: float, trials: float, alpha: float = SHOWN_ALPHA) -> Interval:
    """`wilson` of one rate, without the cost of arrays (1 µs against 25)."""
    if trials <= 0:
        return (0.0, 1.0)
    z = z_of(alpha)
    centre = (successes + z * z / 2) / (trials + z * z)
    spread = max(successes * (trials - successes) / trials, 0.0)
    half = z / (trials + z * z) * math.sqrt(spread + z * z / 4)
    return (max(centre - half, 0.0), min(centre + half, 1.0))


def mean_interval(mean: float, sd: float, n: int, alpha: float = SHOWN_ALPHA) -> Interval | None:
    """Student's t interval of a mean, `sd` with n - 1; None under two values, which show no spread."""
    if n < 2:
        return None
    half = float(-special.stdtrit(n - 1, alpha)) * sd / math.sqrt(n)
    return (mean - half, mean + half)


def quantile_ranks(n: int, q: float, alpha: float = SHOWN_ALPHA) -> tuple[int, int]:
    """Ranks, from 1, of the order statistics that bound the q-quantile of the population, without any
    assumption.

    The count of values below the quantile is binomial(n, q). Rank 0 means that no value bounds it from below,
    n + 1 that none does from above: ten values say nothing of how high a p99 may be.
    """
    lower = _binomial_quantile(alpha, n, q)
    upper = n + 1 - _binomial_quantile(alpha, n, 1 - q)
    return lower, upper


@lru_cache(maxsize=4096)
def _binomial_quantile(p: float, n: int, q: float) -> int:
    """The smallest k with P(B <= k) >= p, B binomial(n, q)."""
    if special.bdtr(0, n, q) >= p:
        return 0
    k = math.ceil(float(special.bdtrik(p, n, q)))
    return k - 1 if k and special.bdtr(k - 1, n, q) >= p else k


def difference(value: float, interval: Interval, other: float, other_interval: Interval) -> Interval:
    """The interval of value - other, two independent estimates, from the interval of each.

    The method of variance estimates recovery (Zou and Donner 2008). For two rates with Wilson intervals it is
    Newcombe's hybrid score interval (1998, method 10), for two means about Welch's.
    """
    between = value - other
    lower = math.hypot(value - interval[0], other_interval[1] - other)
    upper = math.hypot(interval[1] - value, other - other_interval[0])
    return (between - lower, between + upper)


def interval_at(metric: "Metric", alpha: float) -> Interval | None:
    """The interval of a metric with at most `alpha` beyond each end; None where nothing is known of its
    noise.

    A count or a sum is exact: both ends are its value. Ends are always finite.
    """
    if metric.value is None or metric.evidence is None:
        return None
    # A metric never changes, and rules of one budget ask for one level.
    kept: dict[float, Interval | None] = metric.__dict__.setdefault("_intervals", {})
    if alpha not in kept:
        kept[alpha] = metric.evidence.interval(alpha)
    return kept[alpha]


def change_interval(current: "Metric", reference: "Metric", alpha: float) -> Interval | None:
    """The interval of current - reference, with the noise of both; None where either side has no interval.

    The two must rest on different rows. That it excludes 0 says, at level alpha, that there was a change.
    """
    if current.value is None or reference.value is None:
        return None
    ours, theirs = interval_at(current, alpha), interval_at(reference, alpha)
    if ours is None or theirs is None:
        return None
    return difference(current.value, ours, reference.value, theirs)
