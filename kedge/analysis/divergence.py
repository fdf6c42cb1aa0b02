"""How far apart two histograms are, for many features at once. Pure arithmetic on counts.

Counts are matrices, features x cells, zero beyond a feature's own `sizes[i]` cells: `a` of the reference, `b`
of the window. Formulas and what they are worth: docs of the statistics, "Read-outs".
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]


def effect_terms(a: Floats, b: Floats) -> Floats:
    """What each cell adds to D = 2 sum (p - q)^2 / (p + q), on raw shares; nothing where neither has rows."""
    p, q = a / np.maximum(a.sum(1, keepdims=True), 1), b / np.maximum(b.sum(1, keepdims=True), 1)
    both = p + q
    terms: Floats = np.divide(2 * (p - q) ** 2, both, out=np.zeros_like(both), where=both > 0)
    return terms


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


def stability_index(p: Floats, q: Floats) -> Floats:
    """PSI = sum (q - p) ln(q / p) of rows of smoothed shares; cells beyond a feature's own are zero in
    both.
    """
    ratio = np.divide(q, p, out=np.ones_like(q), where=p > 0)
    total: Floats = ((q - p) * np.log(ratio)).sum(1)
    return total


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """The distance, base 2, of rows of shares."""
    middle = (p + q) / 2
    divergence = (special.rel_entr(p, middle) + special.rel_entr(q, middle)).sum(1) / 2
    distance: Floats = np.sqrt(np.maximum(divergence, 0.0) / math.log(2))
    return distance


def matrix_of(columns: Sequence[NDArray[np.int64]], sizes: NDArray[np.int64]) -> Floats:
    """Counts side by side, ragged ends filled with zeros."""
    matrix = np.zeros((len(columns), int(sizes.max())))
    for row, counts in zip(matrix, columns, strict=True):
        row[: counts.size] = counts
    return matrix


def smoothed(counts: Floats, rows: Floats, sizes: NDArray[np.int64]) -> Floats:
    """Shares with half a count added to each of the feature's own cells; zero beyond them."""
    inside = np.arange(counts.shape[1]) < sizes[:, None]
    shares: Floats = np.where(inside, (counts + 0.5) / (rows + sizes / 2)[:, None], 0.0)
    return shares


LEAST_REFERENCE_ROWS = 5
"""A category with fewer in the reference is one of its rare ones."""


def rare_together(a: NDArray[np.int64], b: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of a categorical feature (values, *other*, *unseen*, *missing* on the last axis) with all that
    the reference has hardly or never seen counted as *other*.

    The cells were chosen by the very rows that `a` counts. Of a long tail of values, some are missing from
    the reference by chance alone, so its *unseen* is 0 by construction while any window has some: with 300
    values by Zipf's law and 1,000 reference rows every window of the same world would have drifted. What a
    reference has few rows of cannot be told from what it has none of.
    """
    rare = a < LEAST_REFERENCE_ROWS
    rare[..., -3:-1], rare[..., -1] = True, False
    both = []
    for counts in (a, b):
        merged = np.where(rare, 0, counts)
        merged[..., -3] = np.where(rare, counts, 0).sum(-1)
        both.append(merged)
    return both[0], both[1]


def present_only(counts: Floats, sizes: NDArray[np.int64]) -> Floats:
    """The counts without those of *missing*, each feature's last cell."""
    kept: Floats = np.where(np.arange(counts.shape[1]) < (sizes - 1)[:, None], counts, 0.0)
    return kept


def distribution(counts: Floats) -> Floats:
    """The distribution function at the upper edge of each cell."""
    cumulative: Floats = np.cumsum(counts, 1) / np.maximum(counts.sum(1, keepdims=True), 1)
    return cumulative


def kolmogorov_smirnov(a: Floats, b: Floats, sizes: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The largest gap at an edge, and the most that it can be between edges; of the values present."""
    a, b = present_only(a, sizes), present_only(b, sizes)
    gap = np.abs(distribution(a) - distribution(b)).max(1)
    mass = [c / np.maximum(c.sum(1, keepdims=True), 1) for c in (a, b)]
    return gap, np.minimum(gap + np.maximum(*mass).max(1), 1.0)


def moved_up_and_down(a: Floats, b: Floats, bounds: Floats) -> tuple[Floats, Floats]:
    """How far values moved up and how far down from a to b, in the unit of `bounds` (one more than cells).

    The areas between the distribution functions, where that of b is the lower and where it is the higher:
    their sum is Wasserstein-1, their difference that of the means. Exact for values spread evenly over their
    cells: within one, the gap is a straight line that may cross zero.
    """
    gap = np.pad(distribution(b) - distribution(a), ((0, 0), (1, 0)))
    left, right, widths = gap[:, :-1], gap[:, 1:], np.diff(bounds, axis=1)
    height = np.abs(left) + np.abs(right)
    crossing = np.divide(left**2 + right**2, height, out=np.zeros_like(height), where=height > 0)
    between = (np.where(left * right < 0, crossing, height) / 2 * widths).sum(1)
    risen = ((left + right) / -2 * widths).sum(1)
    return (between + risen) / 2, (between - risen) / 2


def interquartile_range(counts: Floats, bounds: Floats) -> Floats:
    """Of each row, interpolated within cells."""
    heights = np.pad(distribution(counts), ((0, 0), (1, 0)))
    quartiles = [np.interp([0.25, 0.75], at, edges) for at, edges in zip(heights, bounds, strict=True)]
    spread: Floats = np.diff(quartiles, axis=1)[:, 0]
    return spread
