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


ROWS_TOGETHER = 50.0
"""Rows of the smaller side that a ratio of shares is taken from, in `effective_cells`."""


def effective_cells(a: Floats, b: Floats) -> NDArray[np.int64]:
    """How many cells' noise D holds: the k' occupied ones, or more where the many rare ones have lost rows.

    To second order, a cell of true shares p and q adds 8 p q (m p + n q) / ((m + n) (p + q)^3) to the mean of
    D N_eff: 1 where they are equal, 1.18 where q is the smaller by 40 %. Over all cells that is k' where
    gains and losses are as common in cells of any size; where the common cells gain what many rare ones lose
    it is 10 % more, and the test at k' would alarm at up to twice alpha. Never less than k', so that what is
    harmless alarms at most alpha. A single thin cell's ratio is mostly noise, so cells are taken together, by
    size (that of both sides, for those that one alone makes large are its lucky ones), until the smaller side
    has ROWS_TOGETHER. Rounded up, for what the second order leaves out:
    to the nearest, rates reach 1.11 times alpha.
    """
    m, n = a.sum(1, keepdims=True), b.sum(1, keepdims=True)
    total = np.maximum(m + n, 1)
    order = np.argsort(-(a + b), axis=1, kind="stable")
    a, b = np.take_along_axis(a, order, 1), np.take_along_axis(b, order, 1)
    rows = (a + b) / total * np.minimum(m, n)
    place = (np.cumsum(rows, axis=1) - rows / 2) // ROWS_TOGETHER
    group = np.zeros(a.shape, np.int64)
    np.cumsum(place[:, 1:] > place[:, :-1], axis=1, out=group[:, 1:])
    group += a.shape[1] * np.arange(len(a))[:, None]

    def together(x: Floats) -> Floats:
        summed = np.bincount(group.ravel(), weights=x.ravel(), minlength=a.size)
        return summed.astype(np.float64).reshape(a.shape)

    occupied = ((a + b) > 0).astype(np.float64)
    p, q = together(a) / np.maximum(m, 1), together(b) / np.maximum(n, 1)
    both = (p + q) ** 3
    each = np.divide(8 * p * q * (m * p + n * q) / total, both, out=np.zeros_like(both), where=both > 0)
    worth = np.ceil((together(occupied) * each).sum(1) - 1e-9)
    counted: NDArray[np.int64] = np.maximum(worth, occupied.sum(1)).astype(np.int64)
    return counted


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
    reference has few rows of cannot be told from what it has none of. For the same reason the values that
    have cells have a few rows too many in the rows that chose them: those count as *other* too
    (`_without_luck`).
    """
    chose = (np.diff(a[..., :-3], axis=-1) <= 0).all(-1, keepdims=True)
    rare = a < LEAST_REFERENCE_ROWS
    rare[..., -3:-1], rare[..., -1] = True, False
    both = []
    for counts in (a, b):
        merged = np.where(rare, 0, counts)
        merged[..., -3] = np.where(rare, counts, 0).sum(-1)
        both.append(merged)
    fair = _without_luck(both[0], ~rare[..., :-3])
    return np.where(chose, fair, both[0]), both[1]


def _without_luck(a: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Reference counts with the rows that its values have by having been chosen for them moved to *other*.

    A value just common enough to have a cell is probably less common than it looks, and one just too rare
    more so: of 300 values by Zipf's law, the 50 commonest of a reference have some 42 rows too many, whatever
    its size. A harmless shift towards the others then alarms at 1.2 times alpha where m = 10 n, at seven
    times where m = n / 2. By Robbins' estimate (1956) a value seen c times is expected (c + 1) f(c + 1) /
    f(c) times, f(c) being how many values are seen c times: where the count of the r-th value falls like
    r^-s, that is c less 1 / s. 1 / s is read off the lower half of the values with a cell. There cannot be
    more such luck than the others near the cut allow: those have *other* / t values of t rows, the least that
    has a cell, and sqrt(t) rows are a standard deviation.

    Only where `a` is of the very rows that chose: its values then stand in the order of their counts.
    """
    values, other = a[..., :-3], a[..., -3:-2]
    if values.shape[-1] < 2:
        return a
    kept = np.where(chosen, values, 0)
    k = (kept > 0).sum(-1, keepdims=True)
    ranked = -np.sort(-kept, axis=-1)
    least = np.maximum(np.take_along_axis(ranked, np.maximum(k - 1, 0), -1), 1)
    middle = np.maximum(np.take_along_axis(ranked, np.maximum(k - 1, 0) // 2, -1), least)
    fall = np.log(middle / least)
    slope = fall / np.log(np.maximum(k, 2) / ((np.maximum(k, 2) + 1) // 2))
    most = np.minimum(least, other / np.sqrt(least) / np.maximum(k, 1))
    each = np.where(k > 1, np.minimum(1 / np.maximum(slope, 1e-9), most), 0.0)
    place = np.cumsum(kept > 0, axis=-1)
    # Whole rows, as evenly as they come.
    lucky = np.where(kept > 0, np.floor(each * place) - np.floor(each * (place - 1)), 0).astype(np.int64)
    found = a.copy()
    found[..., :-3] -= lucky
    found[..., -3] += lucky.sum(-1)
    return found


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
