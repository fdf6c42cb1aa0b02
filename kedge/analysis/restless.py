"""Features that exceed the tolerance in normal times: shown, but no evidence that anything changed.

Temperature is another one each month; held against one fixed reference it drifts on any day. The reference's
own windows tell: each is compared with all the others put together.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge.analysis import noncentral
from kedge.analysis.divergence import effect_terms

Floats = NDArray[np.float64]

NORMALLY = 0.75
"""The quantile of a feature's effects that lies above the tolerance where it is restless: it exceeds it in
more than one window in four. Two days of the seven are, so that a feature with weekends of its own is
restless in windows of a day; a holiday or an incident in the reference makes none."""


_ALPHA = 0.05
"""An effect counts as far as it is credible: its one-sided lower limit at this level."""


def left_out_effects(windows: ArrayLike, only: ArrayLike | None = None) -> Floats:
    """How far each window credibly is from all others together, features x windows; nan for one without rows,
    and where no other has any. `only`: indices of the windows that are asked for; all unless said.

    `windows` are counts, features x windows x cells, zero beyond a feature's own cells. What is returned are
    lower limits of the shift, 95 %: in windows of few rows the effect D itself is mostly noise, and would
    make every feature restless.
    """
    counts = np.asarray(windows, np.float64)
    total = counts.sum(1, keepdims=True)
    if only is not None:
        counts = counts[:, np.asarray(only, np.intp)]
    features, number, cells = counts.shape
    others = total - counts
    a, b = others.reshape(-1, cells), counts.reshape(-1, cells)
    m, n = a.sum(1), b.sum(1)
    both = (m > 0) & (n > 0)
    rows = m * n / np.maximum(m + n, 1)
    df = ((a + b) > 0).sum(1) - 1.0
    effects = np.where(both, 0.0, np.nan)
    can = both & (df > 0)
    statistic = effect_terms(a[can], b[can]).sum(1) * rows[can]
    effects[can] = noncentral.noncentrality(statistic, df[can], _ALPHA) / rows[can]
    return effects.reshape(features, number)


def restless(effects: ArrayLike, tolerance: float) -> NDArray[np.bool_]:
    """Which features normally exceed the tolerance, from their `left_out_effects`; none without windows."""
    often: NDArray[np.bool_] = normal_effect(effects) > tolerance
    return often


def normal_effect(effects: ArrayLike) -> Floats:
    """Of each feature: the least tolerance that it does not normally exceed; 0 without windows."""
    held = np.asarray(effects, np.float64)
    known = (~np.isnan(held)).sum(1)
    ranked = -np.sort(-np.where(np.isnan(held), -np.inf, held), axis=1)
    if not ranked.shape[1]:
        return np.zeros(ranked.shape[0])
    # More than a quarter of `known` exceeds all that lies below the value at this rank, counted from 0.
    rank = np.minimum(np.floor((1 - NORMALLY) * known).astype(np.intp), ranked.shape[1] - 1)
    found = np.take_along_axis(ranked, rank[:, None], axis=1)[:, 0]
    return np.where(known > 0, found, 0.0)
