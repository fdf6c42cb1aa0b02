"""What a metric's value rests on, kept so that its interval can be had at any level.

`interval(alpha)` leaves at most alpha beyond each end (see `intervals`), with finite ends, or is None where
the rows are too few to show any spread. `stderr` is the standard error, or None.
"""

import heapq
import math
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kedge.analysis import noncentral
from kedge.analysis.intervals import Interval, mean_interval, quantile_ranks, wilson_of, z_of
from kedge.sketch import Counts, Moments

_MOST_LOG = 300.0
"""Wider intervals of a logarithm would not have finite ends."""


@dataclass(frozen=True, slots=True)
class Exact:
    """A count: nothing was sampled."""

    value: float

    @property
    def stderr(self) -> float | None:
        return 0.0

    def interval(self, alpha: float) -> Interval | None:
        return (self.value, self.value)


@dataclass(frozen=True, slots=True)
class Between:
    """A share of things of which some could not be judged: surely `low`, at most `high`."""

    low: float
    high: float

    @property
    def stderr(self) -> float | None:
        return None

    def interval(self, alpha: float) -> Interval | None:
        return (self.low, self.high)


@dataclass(frozen=True, slots=True)
class Chances:
    """How many things are so, each of which would have come about by chance with one of `chances`."""

    value: float
    chances: tuple[float, ...] = ()

    @property
    def stderr(self) -> float | None:
        return None

    def interval(self, alpha: float) -> Interval | None:
        sure = sum(chance < alpha for chance in self.chances)
        return (min(self.value, float(sure)), float(max(self.value, len(self.chances))))


@dataclass(frozen=True, slots=True)
class Lasting:
    """For how long something has been so, which would have come about by chance with `chance`."""

    value: float
    chance: float

    @property
    def stderr(self) -> float | None:
        return None

    def interval(self, alpha: float) -> Interval | None:
        return (self.value if self.chance < alpha else 0.0, self.value)


@dataclass(frozen=True, slots=True)
class Rate:
    """Successes among trials, or a ratio like F1 with its effective number of trials: Wilson's interval."""

    successes: float
    trials: float

    @property
    def value(self) -> float:
        return self.successes / self.trials

    @property
    def stderr(self) -> float | None:
        return math.sqrt(max(self.value * (1 - self.value), 0.0) / self.trials)

    def interval(self, alpha: float) -> Interval | None:
        return wilson_of(self.successes, self.trials, alpha)


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a column: Student's t interval."""

    moments: Moments

    @property
    def stderr(self) -> float | None:
        return self.moments.stderr if self.moments.n > 1 else None

    def interval(self, alpha: float) -> Interval | None:
        m = self.moments
        return mean_interval(m.mean, m.std, m.n, alpha)


@dataclass(frozen=True, slots=True)
class RootMean:
    """The root of the mean of squares: the root of that mean's interval."""

    squares: Moments

    @property
    def stderr(self) -> float | None:
        """By the delta method."""
        if self.squares.n < 2 or self.squares.mean <= 0:
            return None
        return self.squares.stderr / (2 * math.sqrt(self.squares.mean))

    def interval(self, alpha: float) -> Interval | None:
        within = mean_interval(self.squares.mean, self.squares.std, self.squares.n, alpha)
        return None if within is None else (math.sqrt(max(within[0], 0.0)), math.sqrt(max(within[1], 0.0)))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with a standard error from the delta method: the normal interval, within `low` and `high`."""

    value: float
    error: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def stderr(self) -> float | None:
        return self.error

    def interval(self, alpha: float) -> Interval | None:
        half = z_of(alpha) * self.error
        return (max(self.value - half, self.low), min(self.value + half, self.high))


@dataclass(frozen=True, slots=True)
class Ratio:
    """The mean of a column that is never negative, over another's, less one; each of two values or more.

    The interval is that of the logarithm by the delta method, Student's with Welch's degrees of freedom. Of a
    column of zeros it reaches as far as if the share of rows that Wilson's interval allows were as in the
    other.
    """

    column: Moments
    base: Moments

    @property
    def value(self) -> float:
        return self.column.mean / self.base.mean - 1

    @property
    def stderr(self) -> float | None:
        return (1 + self.value) * math.hypot(*self._errors) if self.column.mean > 0 else None

    @property
    def _errors(self) -> tuple[float, float]:
        """Of both logarithms."""
        return (self.column.stderr / self.column.mean, self.base.stderr / self.base.mean)

    def interval(self, alpha: float) -> Interval | None:
        if self.column.mean <= 0:
            return (-1.0, wilson_of(0.0, float(self.column.n), alpha)[1] - 1)
        ours, theirs = self._errors
        error = math.hypot(ours, theirs)
        if not error:
            return (self.value, self.value)
        shares = ((ours / error) ** 4 / (self.column.n - 1), (theirs / error) ** 4 / (self.base.n - 1))
        half = min(float(-special.stdtrit(1 / sum(shares), alpha)) * error, _MOST_LOG)
        return (math.exp(-half) * (1 + self.value) - 1, math.exp(half) * (1 + self.value) - 1)


@dataclass(frozen=True, slots=True)
class Ranking:
    """1 - NDCG of the order of some columns by their means, the gains being the means of others.

    Which of two columns stands first is certain where the intervals of their means (with the noise of both
    sides, each at its part of alpha) do not meet; so each column has a first and a last place that it may
    stand at. The interval reaches from the order nearest to the base's that these places allow to the
    farthest one: no order that the certain pairs allow is beyond them.
    """

    base: tuple[Moments, ...]
    columns: tuple[Moments, ...]

    @property
    def gains(self) -> NDArray[np.float64]:
        return np.array([m.mean for m in self.base])

    @property
    def order(self) -> NDArray[np.intp]:
        """Of the base, the greatest first."""
        return np.argsort(-self.gains, kind="stable")

    @property
    def value(self) -> float:
        # Equal means stand as in the base: that they do not differ is no change of places.
        order = self.order
        means = np.array([m.mean for m in self.columns])[order]
        return self._lost(order[np.argsort(-means, kind="stable")])

    @property
    def stderr(self) -> float | None:
        return None

    def interval(self, alpha: float) -> Interval | None:
        lower, upper = self._ends(alpha)
        after = np.searchsorted(np.sort(upper), lower)  # columns that surely stand after each
        farthest = self._filled(after)[::-1]
        ends = self._lost(self.nearest(alpha)), self._lost(farthest)
        return (min(ends[0], self.value), max(ends[1], self.value))

    def nearest(self, alpha: float) -> NDArray[np.intp]:
        """The order that is as much the base's as the noise allows, the greatest first."""
        lower, upper = self._ends(alpha)
        return self._filled(len(lower) - np.searchsorted(np.sort(lower), upper, side="right"))

    def _filled(self, soonest: NDArray[np.intp]) -> NDArray[np.intp]:
        """Place by place the greatest gain that may stand there, each having a soonest place, from 0."""
        gains, waiting = self.gains, np.argsort(soonest, kind="stable").tolist()[::-1]
        free: list[tuple[float, int]] = []
        order = []
        for place in range(len(waiting)):
            while waiting and soonest[waiting[-1]] <= place:
                heapq.heappush(free, (-gains[waiting[-1]], waiting.pop()))
            order.append(heapq.heappop(free)[1])
        return np.array(order, np.intp)

    def _ends(self, alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        means = np.array([m.mean for m in self.columns])
        scale = means.sum() / self.gains.sum()
        each = alpha / len(self.columns)
        halves = [
            math.hypot(_half(m, each), _half(b, each) * scale)
            for m, b in zip(self.columns, self.base, strict=True)
        ]
        return means - halves, means + halves

    def _lost(self, order: NDArray[np.intp]) -> float:
        discounts = np.log2(np.arange(2, len(order) + 2))
        gains = self.gains
        ideal = float((np.sort(gains)[::-1] / discounts).sum())
        return max(1 - float((gains[order] / discounts).sum()) / ideal, 0.0)


def _half(moments: Moments, alpha: float) -> float:
    return float(-special.stdtrit(moments.n - 1, alpha)) * moments.stderr


@dataclass(frozen=True, slots=True)
class Gaps:
    """A weighted sum of absolute gaps, such as calibration error, each gap known with normal noise.

    Noise adds to absolute values, so the interval is lopsided. Downwards it reaches as far as noise alone can
    go: a sum of half-normal parts, taken as the gamma distribution of the same mean and variance, which is
    close in the middle and too wide in the tail. Upwards the sum only errs by its spread.
    """

    value: float
    noise: float
    """Sum of the standard errors of the weighted gaps."""
    error: float
    """Root of the sum of their squares."""
    slack: float = 0.0
    """What the gaps themselves may be off by, besides noise."""

    @property
    def stderr(self) -> float | None:
        """At most, where the gaps are small beside their noise."""
        return self.error

    def interval(self, alpha: float) -> Interval | None:
        mean, variance = math.sqrt(2 / math.pi) * self.noise, (1 - 2 / math.pi) * self.error**2
        reach = 0.0
        if variance > 0:
            reach = float(special.gammaincinv(mean * mean / variance, 1 - alpha)) * variance / mean
        upper = self.value + z_of(alpha) * self.error + self.slack
        return (max(self.value - reach - self.slack, 0.0), min(upper, 1.0))


@dataclass(frozen=True, slots=True)
class Quantile:
    """The q-quantile of a column of which the counts by cell are known: the order-statistic interval.

    `edges` bound the cells, one more than `counts`, the outermost being the least and the greatest value
    possible. The ends are those of the cells that the two order statistics lie in, so the interval covers the
    rows' own; where too few rows lie beyond the quantile, it reaches to the outermost edge.
    """

    counts: Counts
    edges: NDArray[np.float64]
    q: float

    @property
    def stderr(self) -> float | None:
        return None

    def interval(self, alpha: float) -> Interval | None:
        cumulative = np.cumsum(self.counts)
        n = int(cumulative[-1])
        if not n:
            return None
        lower, upper = quantile_ranks(n, self.q, alpha)
        first = int(np.searchsorted(cumulative, lower)) if lower >= 1 else 0
        last = int(np.searchsorted(cumulative, upper)) if upper <= n else self.counts.size - 1
        return (float(self.edges[first]), float(self.edges[last + 1]))


@dataclass(frozen=True, slots=True)
class Shift:
    """The effect D of two histograms: `effective` rows (n m / (n + m)) over `cells` occupied cells.

    D times the effective rows is about non-central chi-square; the limits of its noncentrality are those of
    the shift. The lower one is the largest tolerance that the test still rejects.
    """

    effect: float
    cells: int
    effective: float

    @property
    def stderr(self) -> float | None:
        return None

    def interval(self, alpha: float) -> Interval | None:
        if self.cells < 2 or self.effective <= 0:
            return (self.effect, self.effect)
        ends = noncentral.noncentrality(self.effect * self.effective, self.cells - 1, [alpha, 1 - alpha])
        return (float(ends[0]) / self.effective, float(ends[1]) / self.effective)


@dataclass(frozen=True, slots=True)
class Median:
    """The median of several values, each with evidence of its own: the medians of their ends.

    The median grows with each value, so it lies between these wherever all the values lie in their intervals.
    It is wider than the median's own noise, about twice where all are alike.
    """

    of: "tuple[Evidence, ...]"

    @property
    def stderr(self) -> float | None:
        return None

    def interval(self, alpha: float) -> Interval | None:
        ends = [found for evidence in self.of if (found := evidence.interval(alpha)) is not None]
        if len(ends) < len(self.of):
            return None
        return (median(low for low, _ in ends), median(high for _, high in ends))


Evidence = (
    Exact
    | Between
    | Chances
    | Lasting
    | Rate
    | Mean
    | RootMean
    | Estimate
    | Ratio
    | Ranking
    | Gaps
    | Quantile
    | Shift
    | Median
)
