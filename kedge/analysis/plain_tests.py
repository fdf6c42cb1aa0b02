"""The tests that people know by name, from the counts of frozen cells: KS, PSI over ten bins, chi-square.

They ask another question than the tolerance test: whether anything differs at all (KS, chi-square: on much
data it always does) or whether an index passed a figure of habit (PSI: on little data it always does). What
that costs in false alarms is in docs/false-alarms.md. Values outside the reference's range, and categories
that it never had, count in the outer cells; nothing is left out for being new.

Counts are features x cells, zero beyond a feature's own `sizes[i]` cells: `a` of the reference, `b` of the
window. A feature without rows on one side has the p value 1, the index 0.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kedge.analysis.divergence import (
    homogeneity,
    kolmogorov_smirnov,
    present_only,
    smoothed,
    stability_index,
)

Floats = NDArray[np.float64]
Sizes = NDArray[np.int64]

PSI_BINS = 10


def ks(a: Floats, b: Floats, sizes: Sizes) -> Floats:
    """p value of the two-sample Kolmogorov-Smirnov test, asymptotic, of the values present.

    The gap is that at the cells' edges, at most that of the values themselves, so that p is an upper limit
    (and for a discrete column conservative besides). Features are numeric: [below, cells, above, missing].
    """
    gap, _ = kolmogorov_smirnov(a, b, sizes)
    m, n = present_only(a, sizes).sum(1), present_only(b, sizes).sum(1)
    both = (m > 0) & (n > 0)
    rows = np.where(both, m * n / np.maximum(m + n, 1), 0.0)
    p: Floats = np.where(both, special.kolmogorov(np.sqrt(rows) * gap), 1.0)
    return p


def psi(a: Floats, b: Floats, sizes: Sizes, ordered: NDArray[np.bool_]) -> Floats:
    """The population stability index on shares smoothed by half a count.

    Of a numeric feature (`ordered`) over ten bins, and *missing* where either side has any: neighbouring
    quantile cells are put together two by two, *below* and *above* with the outer ones. Where ties left fewer
    than eleven cells each is a bin. Of a categorical one over its own cells.
    """
    both = (a.sum(1) > 0) & (b.sum(1) > 0)
    found = np.zeros(len(a))
    for rows, binned in ((np.flatnonzero(ordered), True), (np.flatnonzero(~ordered), False)):
        if not rows.size:
            continue
        before, after, own = a[rows], b[rows], sizes[rows]
        if binned:
            before, own_bins = _ten_bins(before, own)
            after, _ = _ten_bins(after, own)
            before, after, own = _without_empty_missing(before, after, own_bins)
        p, q = (smoothed(counts, counts.sum(1), own) for counts in (before, after))
        found[rows] = stability_index(p, q)
    index: Floats = np.where(both, found, 0.0)
    return index


def chi2(
    a: Floats, b: Floats, sizes: Sizes | None = None, ordered: NDArray[np.bool_] | None = None
) -> Floats:
    """p value of the chi-square test of homogeneity, over the cells that hold rows of either side.

    *below* and *above* of a numeric feature (`ordered`) are counted in the cells beside them: alone they are
    all but empty, and the test then alarms at twice its level.
    """
    if sizes is not None and ordered is not None:
        a, b = _with_outer(a, sizes, ordered), _with_outer(b, sizes, ordered)
    df = ((a + b) > 0).sum(1) - 1
    can = (df > 0) & (a.sum(1) > 0) & (b.sum(1) > 0)
    p = np.ones(len(a))
    p[can] = special.chdtrc(df[can], homogeneity(a[can], b[can]))
    return p


def _with_outer(counts: Floats, sizes: Sizes, ordered: NDArray[np.bool_]) -> Floats:
    """Counts with the outer cells of numeric features in their neighbours."""
    merged, at = counts.copy(), np.flatnonzero(ordered & (sizes > 3))
    above = sizes[at] - 2
    merged[at, 1] += merged[at, 0]
    merged[at, above - 1] += merged[at, above]
    merged[at, 0] = merged[at, above] = 0
    return merged


def _ten_bins(counts: Floats, sizes: Sizes) -> tuple[Floats, Sizes]:
    """Counts over up to ten bins of nearly as many inner cells each, and *missing* last; and how many."""
    inner = sizes - 3
    bins = np.clip(inner, 1, PSI_BINS)
    at = np.arange(counts.shape[1])
    # Cell 0 is below, cells 1 to `inner` are the quantiles', then above and missing.
    place = np.clip((at[None, :] - 1) * bins[:, None] // np.maximum(inner, 1)[:, None], 0, bins[:, None] - 1)
    place = np.where(at == (sizes - 1)[:, None], bins[:, None], place)
    inside = np.where(at < sizes[:, None], counts, 0.0)
    found = np.zeros((len(counts), PSI_BINS + 1))
    np.add.at(found, (np.arange(len(counts))[:, None], place), inside)
    return found, bins + 1


def _without_empty_missing(a: Floats, b: Floats, sizes: Sizes) -> tuple[Floats, Floats, Sizes]:
    """The bin of the missing is left out where neither side has any: the index is then that of ten bins."""
    last = sizes - 1
    at = np.arange(len(a))
    return a, b, np.where(a[at, last] + b[at, last] > 0, sizes, last)
