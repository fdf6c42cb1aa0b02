"""How far the features moved from a reference: effect sizes, and the tolerance test that decides.

Everything is computed from counts over the same frozen cells, for all features at once as one features x
cells matrix: a_i of the reference (sum m), b_i of the window (sum n), *below*, *above*, *missing*, *other*
and *unseen* among the cells. Verdicts are those of population resemblance (arXiv 2307.11878): drifted means
that the shift is credibly more than the tolerance, so that a harmless one alarms at most alpha of the time at
any n.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from kedge.analysis import noncentral
from kedge.analysis.metric import Verdict
from kedge.sketch import Cells, EdgeSet, NumericEdges

Floats = NDArray[np.float64]

POWER = 0.8
"""At twice the tolerance: a window with less is too small to call *ok*."""
MOVED_CELLS = 3


@dataclass(frozen=True)
class DriftSettings:
    """What counts as drift."""

    tolerance: float = 0.05
    """The effect D that is still harmless."""
    alpha: float = 0.001
    """The chance that one look at a harmless feature alarms."""


@dataclass(frozen=True)
class MovedCell:
    """A cell and its shares of the rows."""

    name: str
    reference: float
    window: float

    def __str__(self) -> str:
        return f"{self.name} {_percent(self.reference)} → {_percent(self.window)}"


@dataclass(frozen=True)
class FeatureDrift:
    """One feature of a window against its reference."""

    feature: str
    n: int
    """Rows in the window."""
    m: int
    """Rows in the reference."""
    cells: int
    """Cells that hold rows of either: k'."""
    effect: float
    """D = 2 sum (p - q)^2 / (p + q) on raw shares, in [0, 4]."""
    psi: float
    """On shares smoothed by half a count."""
    psi_expected: float
    """Its mean where nothing drifted: (k - 1)(1/n + 1/m)."""
    js: float
    """Distance, base 2, in [0, 1], on the smoothed shares."""
    ks: float | None
    """Largest gap of the distribution functions at an edge, of the values present; None for categories."""
    ks_most: float | None
    """The gap of the values themselves is between `ks` and this."""
    chi2: float
    """Homogeneity form, `cells` - 1 degrees of freedom."""
    cramers_v: float
    p_value: float
    """Of the hypothesis that the shift is at most the tolerance."""
    verdict: Verdict
    tolerance: float
    alpha: float
    low: float
    """The largest tolerance still rejected: the lower confidence limit of the shift at 1 - alpha."""
    alarm_from: float
    """The effect at which alarms start with this many rows."""
    needs: int | None
    """Rows that find twice the tolerance 80 % of the time; None where this reference is too small for any
    n.
    """
    moved: tuple[MovedCell, ...]
    """The cells that make up most of the effect, first the largest."""

    @property
    def effective(self) -> float:
        """n m / (n + m)."""
        return self.n * self.m / (self.n + self.m) if self.n + self.m else 0.0

    def explain(self) -> str:
        """One sentence that a person can check."""
        if not self.n:
            return "no rows in the window"
        if not self.m:
            return "no rows in the reference"
        low, tolerance, start = _short(self.low), _short(self.tolerance), _short(self.alarm_from)
        where = f"; most in {', '.join(map(str, self.moved))}" if self.moved else ""
        match self.verdict:
            case Verdict.DRIFTED:
                return f"low end {low} exceeds the tolerance {tolerance}; at this n alarms start at {start}{where}"
            case Verdict.INSUFFICIENT:
                needed = (
                    f"needs n >= {self.needs:,}"
                    if self.needs is not None
                    else f"the reference of {self.m:,} rows is too small for any n"
                )
                return (
                    f"{self.n:,} rows are too few to tell: {needed} to find twice the tolerance {tolerance}; "
                    f"at this n alarms start at {start}"
                )
            case Verdict.OK:
                return f"low end {low} is within the tolerance {tolerance}; at this n alarms start at {start}"


def drift(
    reference: Cells,
    window: Cells,
    edges: EdgeSet,
    settings: DriftSettings | None = None,
    features: Iterable[str] | None = None,
) -> list[FeatureDrift]:
    """Every feature (or those named) whose cells both sides have on these edges, in the order of the edges.

    Raw verdicts, each at `settings.alpha`; over several features of one look, see `drifted_of`.
    """
    wanted = (
        edges.features
        if features is None
        else {f: edges.features[f] for f in features if f in edges.features}
    )
    held = [
        (name, e)
        for name, e in wanted.items()
        if reference.features.get(name, ("",))[0] == e.hash == window.features.get(name, ("",))[0]
    ]
    return shifts(
        [name for name, _ in held],
        [reference.features[name][1] for name, _ in held],
        [window.features[name][1] for name, _ in held],
        [e.names for _, e in held],
        [isinstance(e, NumericEdges) for _, e in held],
        settings or DriftSettings(),
    )


def shift_of_counts(
    name: str, reference: Mapping[str, int], window: Mapping[str, int], settings: DriftSettings
) -> FeatureDrift:
    """The same for named counts, such as of classes: a name that one side has not seen is a cell like any
    other.
    """
    names = tuple(sorted(reference.keys() | window.keys())) or ("",)
    a = np.array([reference.get(c, 0) for c in names], np.int64)
    b = np.array([window.get(c, 0) for c in names], np.int64)
    return shifts([name], [a], [b], [names], [False], settings)[0]


def shifts(
    features: Sequence[str],
    reference: Sequence[NDArray[np.int64]],
    window: Sequence[NDArray[np.int64]],
    names: Sequence[Sequence[str]],
    ordered: Sequence[bool],
    settings: DriftSettings,
) -> list[FeatureDrift]:
    """The drift of each feature from its counts over its cells; `ordered` ones end with the cell
    *missing*.
    """
    if not features:
        return []
    sizes = np.array([a.size for a in reference])
    a, b = _matrix(reference, sizes), _matrix(window, sizes)
    m, n = a.sum(1), b.sum(1)
    smooth_p, smooth_q = _smoothed(a, m, sizes), _smoothed(b, n, sizes)
    terms = effect_terms(a, b)
    effect = terms.sum(1)
    cells = ((a + b) > 0).sum(1)
    some = (m > 0) & (n > 0)
    effective = np.where(some, n * m / np.maximum(n + m, 1), 0.0)
    test = _tolerance_test(effect, cells, effective, settings)
    chi2 = homogeneity(a, b)
    ks, ks_most = _kolmogorov_smirnov(a, b, sizes)
    psi = np.sum((smooth_q - smooth_p) * _log_ratio(smooth_q, smooth_p), 1)
    js = jensen_shannon(smooth_p, smooth_q)
    needs = _rows_needed(settings.tolerance, settings.alpha, cells, m)
    top = np.argsort(-terms, axis=1)[:, :MOVED_CELLS]
    found = []
    for i, feature in enumerate(features):
        enough = bool(some[i])
        verdict = _verdict(
            enough and bool(test.p_value[i] <= settings.alpha), int(n[i]) if enough else 0, needs[i]
        )
        found.append(
            FeatureDrift(
                feature=feature,
                n=int(n[i]),
                m=int(m[i]),
                cells=int(cells[i]),
                effect=float(effect[i]),
                psi=float(psi[i]),
                psi_expected=(int(sizes[i]) - 1) * (1 / n[i] + 1 / m[i]) if enough else math.nan,
                js=float(js[i]),
                ks=float(ks[i]) if ordered[i] else None,
                ks_most=float(ks_most[i]) if ordered[i] else None,
                chi2=float(chi2[i]),
                cramers_v=math.sqrt(chi2[i] / (n[i] + m[i])) if enough else math.nan,
                p_value=float(test.p_value[i]),
                verdict=verdict,
                tolerance=settings.tolerance,
                alpha=settings.alpha,
                low=float(test.low[i]),
                alarm_from=float(test.alarm_from[i]),
                needs=needs[i],
                moved=tuple(
                    MovedCell(names[i][j], float(a[i, j] / m[i]), float(b[i, j] / n[i]))
                    for j in top[i]
                    if enough and terms[i, j] > 0
                ),
            )
        )
    return found


def drifted_of(drifts: Sequence[FeatureDrift], q: float) -> tuple[list[FeatureDrift], list[FeatureDrift]]:
    """The testable features of one look, and those of them that drifted at false discovery rate `q`."""
    testable = [d for d in drifts if d.verdict is not Verdict.INSUFFICIENT]
    rejected = benjamini_hochberg([d.p_value for d in testable], q)
    return testable, [d for d, r in zip(testable, rejected, strict=True) if r]


def benjamini_hochberg(p_values: ArrayLike, q: float) -> NDArray[np.bool_]:
    """Which hypotheses are rejected at false discovery rate `q`, by the step-up procedure (1995)."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    passing = np.flatnonzero(p[order] <= q * np.arange(1, p.size + 1) / max(p.size, 1))
    rejected = np.zeros(p.size, np.bool_)
    if passing.size:
        rejected[order[: passing[-1] + 1]] = True
    return rejected


# --- read-outs on matrices: features x cells, zero beyond a feature's own cells ---------------------------------------


def effect_terms(a: Floats, b: Floats) -> Floats:
    """What each cell adds to D = 2 sum (p - q)^2 / (p + q), on raw shares; nothing where neither has rows."""
    p, q = a / np.maximum(a.sum(1, keepdims=True), 1), b / np.maximum(b.sum(1, keepdims=True), 1)
    both = p + q
    return np.divide(2 * (p - q) ** 2, both, out=np.zeros_like(both), where=both > 0)


def homogeneity(a: Floats, b: Floats) -> Floats:
    """Chi-square of the two rows of counts being drawn from one population.

    The goodness-of-fit form takes the reference for the truth, and alarms on its noise.
    """
    m, n = a.sum(1, keepdims=True), b.sum(1, keepdims=True)
    pooled = (a + b) / np.maximum(m + n, 1)
    statistic = np.zeros(len(a))
    for counts, rows in ((a, m), (b, n)):
        expected = rows * pooled
        off = np.divide((counts - expected) ** 2, expected, out=np.zeros_like(a), where=expected > 0)
        statistic += off.sum(1)
    return statistic


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """The distance, base 2, of rows of shares."""
    middle = (p + q) / 2
    divergence = (special.rel_entr(p, middle) + special.rel_entr(q, middle)).sum(1) / 2
    return np.sqrt(np.maximum(divergence, 0.0) / math.log(2))


def _matrix(columns: Sequence[NDArray[np.int64]], sizes: NDArray[np.int64]) -> Floats:
    """Counts side by side, ragged ends filled with zeros."""
    matrix = np.zeros((len(columns), int(sizes.max())))
    for row, counts in zip(matrix, columns, strict=True):
        row[: counts.size] = counts
    return matrix


def _smoothed(counts: Floats, rows: Floats, sizes: NDArray[np.int64]) -> Floats:
    """Shares with half a count added to each of the feature's own cells; zero beyond them."""
    inside = np.arange(counts.shape[1]) < sizes[:, None]
    shares: Floats = np.where(inside, (counts + 0.5) / (rows + sizes / 2)[:, None], 0.0)
    return shares


def _log_ratio(q: Floats, p: Floats) -> Floats:
    return np.log(np.divide(q, p, out=np.ones_like(q), where=p > 0))


def _kolmogorov_smirnov(a: Floats, b: Floats, sizes: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Gap at the edges, and the most that it can be between them; *missing*, the last cell, is left out."""
    values = np.arange(a.shape[1]) < (sizes - 1)[:, None]
    a, b = np.where(values, a, 0.0), np.where(values, b, 0.0)
    p, q = a / np.maximum(a.sum(1, keepdims=True), 1), b / np.maximum(b.sum(1, keepdims=True), 1)
    gap = np.abs(np.cumsum(p, 1) - np.cumsum(q, 1)).max(1)
    return gap, np.minimum(gap + np.maximum(p, q).max(1), 1.0)


# --- the tolerance test -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Test:
    p_value: Floats
    low: Floats
    alarm_from: Floats


def _tolerance_test(
    effect: Floats, cells: NDArray[np.int64], effective: Floats, settings: DriftSettings
) -> _Test:
    """D N_eff against the non-central chi-square (k' - 1, delta N_eff): N_eff = n m / (n + m), k' occupied
    cells.
    """
    p_value, low, start = np.ones_like(effect), np.zeros_like(effect), np.full_like(effect, math.inf)
    can = (cells > 1) & (effective > 0)
    if can.any():
        df, rows = cells[can] - 1.0, effective[can]
        statistic = effect[can] * rows
        p_value[can] = noncentral.sf(statistic, df, settings.tolerance * rows)
        low[can] = noncentral.noncentrality(statistic, df, settings.alpha) / rows
        # All features of a look have the same rows: few distinct quantiles are asked for.
        pairs, which = np.unique(np.stack([df, rows]), axis=1, return_inverse=True)
        start[can] = (noncentral.isf(settings.alpha, pairs[0], settings.tolerance * pairs[1]) / pairs[1])[
            which
        ]
    return _Test(p_value, low, start)


def _verdict(significant: bool, n: int, needs: int | None) -> Verdict:
    """Significant is drifted at any n; too few rows to have found twice the tolerance can not be called
    ok.
    """
    if significant:
        return Verdict.DRIFTED
    return Verdict.OK if needs is not None and n >= needs else Verdict.INSUFFICIENT


def _rows_needed(tolerance: float, alpha: float, cells: NDArray[np.int64], m: Floats) -> list[int | None]:
    """Window rows for 80 % power at twice the tolerance, given m reference rows; None where no n is
    enough.
    """
    effective = effective_rows_needed(tolerance, alpha, max(int(cells.max()), 64))
    needed: list[int | None] = []
    for k, rows in zip(cells, m, strict=True):
        least = effective[max(int(k) - 2, 0)]
        needed.append(math.ceil(least * rows / (rows - least)) if rows > least else None)
    return needed


@lru_cache(maxsize=256)
def effective_rows_needed(tolerance: float, alpha: float, cells: int) -> tuple[float, ...]:
    """The n m / (n + m) at which the test finds twice the tolerance 80 % of the time, for 2, 3, … `cells`
    cells.

    By bisection on the logarithm; Sankaran's approximation, used throughout here, is within 0.1 % there.
    """
    df = np.arange(1.0, cells)
    low, high = np.full_like(df, math.log(0.1 / tolerance)), np.full_like(df, math.log(1e5 / tolerance))
    for _ in range(40):
        middle = (low + high) / 2
        rows = np.exp(middle)
        bound = noncentral.isf(alpha, df, tolerance * rows, exact=False)
        enough = noncentral.sf(bound, df, 2 * tolerance * rows, exact=False) >= POWER
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return tuple(float(rows) for rows in np.exp(high))


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def _short(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"
