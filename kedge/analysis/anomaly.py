"""Whether the newest value of a metric is one that its own history does not explain. Pure.

A score says how far a value is from what is usual at its time (`kedge.analysis.series`), or how such
distances add up. Its bound comes from the history itself, as a conformal p value:
p = (1 + #{s_ref >= s}) / (1 + N), where the N reference scores are the *maxima of blocks* (Vovk, Gammerman
and Shafer, "Algorithmic Learning in a Random World", 2005). Neighbouring values resemble each other, blocks
of days hardly do, and the chance that one of the next block's values exceeds the k-th largest of N maxima is
k / (N + 1), however the values within a block depend on each other (cf. Chernozhukov, Wüthrich and Zhu,
"Exact and robust conformal inference methods for predictive machine learning with dependent data", 2018).

Besides, a value must lie beyond a t prediction interval, which allows for how few independent values there
were. A history that is too short for the chance that is allowed cannot tell by ranks: then what was seen and
that interval are all there is, which is marked as `short`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kedge.analysis.series import (
    Floats,
    Ints,
    Season,
    Series,
    Usual,
    autocorrelation,
    centres_at,
    spread,
    usual,
)
from kedge.windows import DAY, Millis

Direction = Literal["up", "down", "both"]
Method = Literal["auto", "robust_z", "ewma", "cusum", "isolation_forest"]

SHOWN = (0.025, 0.975)
"""Of the past residuals: what is called usual."""
EWMA_WEIGHT = 0.2
"""Of the newest value (Roberts, "Control chart tests based on geometric moving averages", 1959): the sum of
the others weighs four times as much."""
CUSUM_SLACK = 0.5
"""In standard deviations: half of the shift that is found soonest (Page, "Continuous inspection schemes",
1954)."""
CUSUM_MOST = 2.0
"""A sum stops at so many times its bound: it must come down again when all is well."""
TREES, FOLDS = 100, 4
WINSOR = 1.5
"""How far above its bound an episode that is over may raise the bound of the next."""


@dataclass(frozen=True)
class Chance:
    """How often a false alarm is allowed."""

    per_block: float
    """The chance that some value of a block may have."""
    per_look: float
    """The chance of one value: `per_block` over the values of a block."""

    @property
    def run_length(self) -> float:
        """Looks between two false alarms, on average."""
        return 1 / self.per_look


@dataclass(frozen=True, eq=False)
class Anomaly:
    """How the newest values stand to their history."""

    score: float
    bound: float
    """Unusual where the score is greater."""
    short: bool
    """The history is too short for ranks at the level asked for."""
    blocks: int
    """Blocks of history that were compared with."""
    metrics: tuple[Usual, ...]
    """What is usual, of each metric."""
    residuals: Floats
    """Shape (metrics,), of the newest values."""
    bands: Floats
    """Shape (metrics, 2): between these, 95 % of past values would lie at this time."""
    limits: tuple[float, float] | None
    """Below the first or above the second the newest value is unusual; infinite on a side that is not judged.
    None where a score rests on more than the newest value."""

    @property
    def unusual(self) -> bool:
        return self.score > self.bound

    @property
    def season(self) -> Season:
        return self.metrics[0].season


def block_of(window: Millis) -> Millis:
    """How long a block is: values of two days, or four windows, hardly tell those of the next."""
    return max(2 * DAY, 4 * window)


def judge(series: Series, newest: Floats, method: Method, direction: Direction, chance: Chance) -> Anomaly:
    """The newest values against a series of past ones, of which those that fired are no reference.

    Args:
        series: at least two quiet points that have a value of every metric.
        newest: shape (metrics,), no nan. One metric, but for `isolation_forest`, which looks both ways.
    """
    past = _Past.of(series, ("none",) if method == "robust_z" else None)
    centres = np.array([one.centre for one in past.metrics])
    now = newest - centres
    quiet = past.residuals[~past.firing]
    nothing = np.zeros((len(now), 2))
    bands = centres[:, None] + (np.quantile(quiet, SHOWN, axis=0).T if len(quiet) else nothing)
    limits = None
    match method:
        case "isolation_forest":
            scores, score = _isolation(past, now)
            bound = past.bound(scores, chance, 0.0)
        case "ewma" | "cusum":
            chart = _Chart.of(past, float(now[0]))
            if method == "ewma":
                charted = chart.ewma()
                floor = _t_bound(charted[:-1][~past.firing], quiet[:, 0], chance, direction)
                scores = _directed(charted, direction)
                bound = past.bound(scores[:-1], chance, floor)
            else:
                floor = run_length_bound(chance.run_length, both=direction == "both")
                bound = past.bound(chart.cusum(direction, math.inf)[:-1], chance, floor)
                scores = chart.cusum(direction, CUSUM_MOST * bound.value)
            score = float(scores[-1])
        case _:
            score = float(_directed(now, direction)[0])
            floor = _t_bound(quiet[:, 0], quiet[:, 0], chance, direction)
            bound = past.bound(_directed(past.residuals[:, 0], direction), chance, floor)
            low, high = float(centres[0] - bound.value), float(centres[0] + bound.value)
            limits = (low if direction != "up" else -math.inf, high if direction != "down" else math.inf)
    return Anomaly(score, bound.value, bound.short, bound.blocks, past.metrics, now, bands, limits)


def _directed(residuals: Floats, direction: Direction) -> Floats:
    return np.abs(residuals) if direction == "both" else residuals if direction == "up" else -residuals


# --- the bound ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bound:
    value: float
    short: bool
    blocks: int


@dataclass(frozen=True, eq=False)
class _Past:
    """The past points that have a value of every metric, as distances from what is usual."""

    metrics: tuple[Usual, ...]
    residuals: Floats
    """Shape (n, metrics), no nan."""
    firing: NDArray[np.bool_]
    blocks: Ints
    """Shape (n,): of each point, 0 the newest."""
    ongoing: bool
    whole: float
    """Points that a block needs to count as one: half of its windows."""

    @classmethod
    def of(cls, series: Series, seasons: tuple[Season, ...] | None) -> "_Past":
        there = np.isfinite(series.values).all(axis=1)
        quiet = series.quiet & there
        starts = series.starts[quiet]
        columns, metrics = [], []
        for values in series.values.T:
            one = usual(starts, values[quiet], series.now, series.window, seasons=seasons)
            column = np.full(len(values), np.nan)
            column[quiet] = one.residuals
            fired = there & ~quiet
            if fired.any():
                at = series.starts[fired]
                column[fired] = values[fired] - centres_at(
                    starts, values[quiet], at, series.window, one.season
                )
            columns.append(column)
            metrics.append(one)
        residuals = np.column_stack(columns)
        held = np.isfinite(residuals).all(axis=1)
        block = block_of(series.window)
        blocks = (series.now - series.starts[held] - series.window) // block
        whole = block / series.window / 2
        return cls(tuple(metrics), residuals[held], ~series.quiet[held], blocks, series.ongoing, whole)

    def bound(self, scores: Floats, chance: Chance, floor: float) -> _Bound:
        """What the newest score must exceed, from those of the past points.

        An episode that is over is no reference for what is usual. But were it forgotten, the largest values
        of a history would be missing just because they fired, and the bound would only ever sink: so its
        highest score stays among the maxima, as WINSOR times what is the bound without it at most, so that
        an incident hides no other for long.
        """
        quiet = ~self.firing
        if not quiet.any():
            return _Bound(math.inf, True, 0)
        names, index, sizes = np.unique(self.blocks[quiet], return_inverse=True, return_counts=True)
        maxima = np.full(len(names), -np.inf)
        np.maximum.at(maxima, index, scores[quiet])
        whole = maxima[sizes >= self.whole]
        k = math.floor(chance.per_block * (len(whole) + 1) + 1e-9)
        short = k < 1 or not len(whole)
        reference, k = (maxima, 1) if short else (whole, min(k, len(whole)))
        held = max(float(np.sort(reference)[-k]), floor)
        every = np.concatenate([reference, self._episodes(scores, held)])
        return _Bound(max(float(np.sort(every)[-k]), floor), short, len(whole))

    def _episodes(self, scores: Floats, bound: float) -> list[float]:
        """The highest score of each episode that is over, as far as it counts."""
        found = []
        edges = np.flatnonzero(np.diff(np.concatenate([[False], self.firing, [False]]).astype(np.int8)))
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            if not (self.ongoing and end == len(scores)):
                found.append(min(float(scores[start:end].max()), WINSOR * bound))
        return found


def _t_bound(values: Floats, residuals: Floats, chance: Chance, direction: Direction) -> float:
    """The t prediction bound of one more value around 0, as if there were only as many past values as the
    residuals are worth independent ones: n (1 - r) / (1 + r), r their first autocorrelation."""
    n = len(residuals)
    if n < 3:
        return math.inf
    r = min(max(float(autocorrelation(residuals, 1)[0]), 0.0), 0.99)
    effective = max(n * (1 - r) / (1 + r), 2.0)
    alpha = chance.per_look / 2 if direction == "both" else chance.per_look
    sd = math.sqrt(float(np.mean(values**2)) * effective / (effective - 1))
    return float(-special.stdtrit(effective - 1, alpha)) * sd * math.sqrt(1 + 1 / effective)


# --- charts -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Chart:
    """Residuals in standard deviations, in the order of time, the newest one last, for charts that add up."""

    values: Floats
    restarts: NDArray[np.bool_]
    """An episode ended before this one: charts begin at 0."""

    @classmethod
    def of(cls, past: _Past, newest: float) -> "_Chart":
        residuals = past.residuals[:, 0]
        scale = spread(residuals[~past.firing]) or 1.0
        ended = np.append(past.firing[:-1] & ~past.firing[1:], past.firing[-1] and not past.ongoing)
        return cls(np.append(residuals, newest) / scale, np.concatenate([[True], ended]))

    def ewma(self) -> Floats:
        """Exponentially weighted means, around 0."""
        found, at = np.empty(len(self.values)), 0.0
        for i, (value, restart) in enumerate(zip(self.values.tolist(), self.restarts.tolist(), strict=True)):
            at = EWMA_WEIGHT * value + (1 - EWMA_WEIGHT) * (0.0 if restart else at)
            found[i] = at
        return found

    def cusum(self, direction: Direction, most: float) -> Floats:
        """Cumulative sums beyond the slack, from 0 to `most`."""
        up = self._sums(1.0, most) if direction != "down" else np.zeros(len(self.values))
        down = self._sums(-1.0, most) if direction != "up" else up
        return up if direction == "up" else down if direction == "down" else np.maximum(up, down)

    def _sums(self, sign: float, most: float) -> Floats:
        found, at = np.empty(len(self.values)), 0.0
        for i, (value, restart) in enumerate(zip(self.values.tolist(), self.restarts.tolist(), strict=True)):
            at = min(max((0.0 if restart else at) + sign * value - CUSUM_SLACK, 0.0), most)
            found[i] = at
        return found


def run_length_bound(run_length: float, *, both: bool = False) -> float:
    """The bound of a sum at which independent normal values exceed it once in `run_length` on average.

    Siegmund's approximation ("Sequential Analysis", 1985): with b = h + 1.166 and the slack k, the run length
    is (exp(2 k b) - 2 k b - 1) / (2 k^2). Two sums, one each way, last half as long.
    """
    wanted = run_length * (2 if both else 1)

    def lasts(h: float) -> float:
        x = 2 * CUSUM_SLACK * (h + 1.166)
        return (math.expm1(x) - x) / (2 * CUSUM_SLACK**2)

    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if lasts(middle) < wanted else (low, middle)
    return high


# --- several metrics together -------------------------------------------------------------------------------


def _isolation(past: _Past, newest: Floats) -> tuple[Floats, float]:
    """Scores of isolation forests (Liu, Ting and Zhou, "Isolation forest", ICDM 2008), the greater the odder:
    those of the past points, and that of the newest.

    A forest knows the rows that it grew on, so quiet rows are scored by one that grew on three folds of
    blocks in four without theirs, and all others by all four forests.
    """
    from sklearn.ensemble import IsolationForest  # a second to load, and few ask

    quiet = ~past.firing
    scales = np.array([spread(column) or 1.0 for column in past.residuals[quiet].T])
    rows = np.vstack([past.residuals, newest]) / scales
    known = np.append(quiet, False)
    folds = np.append(past.blocks % FOLDS, -1)
    scores, grown = np.zeros(len(rows)), []
    for fold in range(FOLDS):
        own, others = known & (folds == fold), known & (folds != fold)
        if not others.any():
            continue
        forest = IsolationForest(n_estimators=TREES, random_state=fold).fit(rows[others])
        if own.any():
            scores[own] = -forest.score_samples(rows[own])
        grown.append(-forest.score_samples(rows[~known]))
    scores[~known] = np.mean(grown, axis=0)
    return scores[:-1], float(scores[-1])
