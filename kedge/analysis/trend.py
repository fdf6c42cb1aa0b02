"""Whether a metric climbs, how fast, and when it will have reached a bound. Pure.

The slope is the median of all slopes between two points (Theil 1950; Sen, "Estimates of the regression
coefficient based on Kendall's tau", JASA 1968): a quarter of the points may be anything. That there is one
is the verdict of the Mann-Kendall test, whose variance is corrected for ties and, as neighbours resemble each
other, for autocorrelation (Hamed and Rao, "A modified Mann-Kendall trend test for autocorrelated data",
Journal of Hydrology 1998): else a wandering metric would have a trend in every window.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kedge.analysis.intervals import SHOWN_ALPHA, z_of
from kedge.analysis.series import autocorrelation, centres_at, usual
from kedge.windows import DAY, Millis

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_POINTS = 10
"""Of fewer, an autocorrelation cannot be told, and so neither can a trend."""
LEAST_DAYS = 4
"""That must have been seen before times of the day are told apart."""
ALPHA_LAGS = 0.05
"""Autocorrelations that may be chance at this level do not count (Hamed and Rao)."""


@dataclass(frozen=True)
class Trend:
    """The trend of a series."""

    slope: float
    """Of the metric's unit per `Millis`; so are its ends."""
    interval: tuple[float, float]
    """95 %, two-sided, with the corrected variance."""
    p_up: float
    """One-sided: the chance of as much of a climb without a trend."""
    p_down: float
    inflation: float
    """How many times larger the variance of the test is than for independent values."""
    level: float
    """Where the line stands at the end of the newest window."""
    levels: tuple[float, float]
    """Where lines with the two ends of the slope stand."""

    def reaches(self, bound: float, *, up: bool) -> tuple[float, float, float]:
        """Time until the line is at `bound`, in `Millis`, with the 95 % interval: (time, soonest, latest).

        0 where it is there; infinite where it does not lead there.
        """
        lines = ((self.level, self.slope), *zip(self.levels, self.interval, strict=True))
        time, one, other = (_time(level, slope, bound, up=up) for level, slope in lines)
        return time, min(one, other, time), max(one, other, time)


def _time(level: float, slope: float, bound: float, *, up: bool) -> float:
    left = bound - level if up else level - bound
    speed = slope if up else -slope
    if left <= 0:
        return 0.0
    return left / speed if speed > 0 else math.inf


def trend_of(starts: Ints, values: Floats, window: Millis) -> Trend:
    """The trend of values in windows that begin at `starts`, sorted; both of shape (n,), n >= 3, no nan.

    Where windows divide a day and the series has LEAST_DAYS, what is usual at each time of the day is taken
    out first, so that a cycle that is cut off in the middle is no climb.
    """
    middles = (starts + window / 2).astype(np.float64)
    end = float(starts[-1] + window)
    cycle, cost = _cycle(starts, values, window)
    level = values - cycle
    first, second = np.triu_indices(len(values), 1)
    rises, times = level[second] - level[first], middles[second] - middles[first]
    slopes = np.sort(rises / times)
    slope = float(np.median(slopes))
    score = float(np.sign(rises).sum())
    residuals = level - slope * (middles - middles[0])
    inflation = _inflation(residuals) * cost
    variance = kendall_variance(level) * inflation
    free = max(len(values) / inflation - 2, 1.0)
    half = float(-special.stdtrit(free, SHOWN_ALPHA)) * math.sqrt(variance)
    interval = (_ranked(slopes, (len(slopes) - half) / 2), _ranked(slopes, (len(slopes) + half) / 2 + 1))
    intercepts = [float(np.median(level - one * (middles - end))) for one in (slope, *interval)]
    return Trend(
        slope,
        interval,
        _tail(score, variance, free),
        _tail(-score, variance, free),
        inflation,
        intercepts[0],
        (intercepts[1], intercepts[2]),
    )


def kendall_variance(values: Floats) -> float:
    """Of the Mann-Kendall score of independent values without a trend, ties counted off (Kendall 1975)."""
    n = len(values)
    _, ties = np.unique(values, return_counts=True)
    return float(n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18


def _tail(score: float, variance: float, free: float) -> float:
    """The chance of such a score or a greater one, with the continuity correction; by Student's t with the
    degrees of freedom of the independent values that there are, for the variance was estimated from them."""
    if variance <= 0 or score <= 0:
        return 1.0
    return float(special.stdtr(free, -(score - 1) / math.sqrt(variance)))


def _inflation(residuals: Floats) -> float:
    """n / n* of Hamed and Rao, from the autocorrelations of the ranks of what the slope leaves; never under
    1, so that no series becomes more certain by swinging.

    Estimates from few points around a line that was fitted to them are too low, by about (2 + 4 r) / n
    (Orcutt and Winokur, "First order autoregression", Econometrica 1969): the first one, which matters most,
    is corrected for that, significant or not, and the others count as its powers at least.
    """
    n = len(residuals)
    if np.ptp(residuals) <= 0:
        return 1.0
    lags = max(min(n // 2, n - 3), 1)
    found = autocorrelation(_ranks(residuals), lags)
    counts = np.abs(found) > z_of(ALPHA_LAGS / 2) / math.sqrt(n)
    first = min(max((n * float(found[0]) + 2) / (n - 4), 0.0), 0.95) if n > 4 else 0.0
    i = np.arange(1, lags + 1)
    used = np.maximum(np.where(counts, found, 0.0), first**i)
    weights = (n - i) * (n - i - 1) * (n - i - 2)
    return max(1.0 + 2.0 / (n * (n - 1) * (n - 2)) * float(weights @ used), 1.0)


def _ranks(values: Floats) -> Floats:
    """Ranks, ties sharing theirs: the points that the slope is of lie on the line but for rounding."""
    rounded = np.round(values / np.ptp(values), 9)
    _, index, ties = np.unique(rounded, return_inverse=True, return_counts=True)
    return (np.cumsum(ties) - (ties - 1) / 2)[index]


def _cycle(starts: Ints, values: Floats, window: Millis) -> tuple[Floats, float]:
    """What the time of the day adds, of each point; zeros where there is no cycle. Shape (n,). And how much
    larger that makes the variance of what is left than it looks: d days lose one of d."""
    none = np.zeros(len(values)), 1.0
    days = int((starts[-1] + window - starts[0]) // DAY)
    if window >= DAY or DAY % window or days < LEAST_DAYS:
        return none
    # Pairs a whole number of days apart: a climb that no time of the day can fake.
    first, second = np.triu_indices(len(values), 1)
    apart = starts[second] - starts[first]
    same = apart % DAY == 0
    slope = float(np.median((values[second] - values[first])[same] / apart[same])) if same.any() else 0.0
    level = values - slope * (starts - starts[0])
    if usual(starts, level, int(starts[-1] + window), window, seasons=("none", "day")).season == "none":
        return none
    then = centres_at(starts, level, starts, window, "day")
    return then - float(np.median(then)), days / (days - 1)


def _ranked(slopes: Floats, rank: float) -> float:
    """The slope of that rank, from 1, between two where it is no whole number."""
    at = min(max(rank - 1, 0.0), len(slopes) - 1.0)
    low = math.floor(at)
    high = min(low + 1, len(slopes) - 1)
    return float(slopes[low] + (slopes[high] - slopes[low]) * (at - low))
