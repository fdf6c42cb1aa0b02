"""The tolerance test: is a shift credibly more than what is harmless?

Population resemblance (arXiv 2307.11878): the effect D times N_eff = n m / (n + m) is held against the
non-central chi-square with k' - 1 degrees of freedom and noncentrality delta N_eff, k' being the cells that
hold rows of either side. A shift within the tolerance delta alarms at most alpha of the time, at any n. Where
rows depend on each other, phi times as many tell as much: N_eff / phi takes the place of N_eff on both sides
(see `dispersion`).

The non-central chi-square is the limit of many rows. With a hundred, and a shift just at the tolerance, the
simulated rates are up to 1.6 times alpha, the more cells the more (bench, part `false_alarms`): the test is
held at alpha / (1 + (30 + k') / N_eff), which makes up for it, and is nothing at a thousand rows.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kedge.analysis import noncentral
from kedge.analysis.intervals import SHOWN_ALPHA

Floats = NDArray[np.float64]

POWER = 0.83
"""At twice the tolerance: a window with less is too small to call *ok*. 80 % is promised; a hundredth more
covers what the approximations are off, and two those shifts in which the common cells gain what many rare
ones lose: the test counts more cells there (see `effective_cells`) than are known before they come."""

_FEW_ROWS = 30.0
"""In the correction for few rows: fitted to the simulated rates, rounded up."""


@dataclass(frozen=True)
class Tested:
    """Of each feature."""

    p_value: Floats
    """Of the hypothesis that the shift is at most the tolerance; 1 where there is nothing to test."""
    low: Floats
    """The largest tolerance still rejected: the lower confidence limit of the shift at 1 - alpha."""
    shown: tuple[Floats, Floats]
    """The 95 % interval of the shift."""
    alarm_from: Floats
    """The effect at which alarms start at these n and m; infinite where there is nothing to test."""


def tolerance_test(
    effect: Floats,
    cells: NDArray[np.int64],
    effective: Floats,
    tolerance: float,
    alpha: float,
    phi: Floats | float = 1.0,
) -> Tested:
    """Test each feature's `effect` D over its k' = `cells` occupied cells, with N_eff = `effective` rows, of
    which each `phi` are worth one.
    """
    effective = effective / phi
    p_value, start = np.ones_like(effect), np.full_like(effect, math.inf)
    limits = np.stack([np.zeros_like(effect), effect, effect])
    can = (cells > 1) & (effective > 0)
    if can.any():
        df, rows = cells[can] - 1.0, effective[can]
        statistic = effect[can] * rows
        few = 1 + (_FEW_ROWS + cells[can]) / rows
        p_value[can] = np.minimum(noncentral.sf(statistic, df, tolerance * rows) * few, 1.0)
        shown = np.full_like(few, SHOWN_ALPHA)
        levels = np.stack([alpha / few, shown, 1 - shown])
        limits[:, can] = noncentral.noncentrality(statistic, df, levels) / rows
        # All features of a look have the same rows, so that few distinct quantiles are asked for. Pairs as
        # complex numbers: numpy finds the distinct ones of a matrix ten times slower.
        pairs, which = np.unique(df + 1j * rows, return_inverse=True)
        level = alpha / (1 + (_FEW_ROWS + 1 + pairs.real) / pairs.imag)
        bound = noncentral.isf(level, pairs.real, tolerance * pairs.imag) / pairs.imag
        start[can] = bound[which]
    return Tested(p_value, limits[0], (limits[1], limits[2]), start)


def rows_needed(
    tolerance: float, alpha: float, cells: NDArray[np.int64], m: Floats, phi: Floats | float = 1.0
) -> list[int | None]:
    """Window rows that find twice the tolerance 80 % of the time, against m reference rows.

    None where the reference itself is too small for any n.
    """
    least = np.asarray(_effective_rows_needed(tolerance, alpha, max(int(cells.max()), 64)))
    effective = least[np.maximum(cells - 2, 0)] * phi
    return [
        math.ceil(needed * rows / (rows - needed)) if rows > needed else None
        for needed, rows in zip(effective.tolist(), m.tolist(), strict=True)
    ]


@lru_cache(maxsize=256)
def _effective_rows_needed(tolerance: float, alpha: float, cells: int) -> tuple[float, ...]:
    """The N_eff at which the power at twice the tolerance is 80 %, for 2, 3, … `cells` occupied cells.

    By bisection on its logarithm: 5 ms, once. Sankaran's approximation, used throughout, is within 0.1 %
    there.
    """
    df = np.arange(1.0, cells)
    low, high = np.full_like(df, math.log(0.1 / tolerance)), np.full_like(df, math.log(1e5 / tolerance))
    for _ in range(40):
        middle = (low + high) / 2
        rows = np.exp(middle)
        level = alpha / (1 + (_FEW_ROWS + 1 + df) / rows)
        bound = noncentral.isf(level, df, tolerance * rows, exact=False)
        enough = noncentral.sf(bound, df, 2 * tolerance * rows, exact=False) >= POWER
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return tuple(np.exp(high).tolist())
