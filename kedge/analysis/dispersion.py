"""How much more the reference's own windows vary than independent rows would: phi, per feature.

Rows come in clusters, follow each other and have their hours, so that two windows of an unchanged world
differ by more than the multinomial noise that the tolerance test reckons with. phi is the ratio of the two
variances. It grows with the window (what lasts for days does not average out within one), so it is estimated
for each window length from windows of that length. `DriftSettings.phi` takes it to the test, which then
counts N_eff / phi rows.

The estimator, from counts b_wi of windows w (n_w rows) over cells i, with the pooled shares c_i: residuals
r_wi = (b_wi - n_w c_i) / sqrt(n_w c_i), their covariance S = sum_w r_w r_w' / (W - 1). Independent rows make
S the identity on its k' - 1 dimensions. `mean`, trace S / (k' - 1), is Pearson's chi-square over its degrees
of freedom. It is not enough: autocorrelation and seasons add their variance along one or two directions (the
very ones in which a feature drifts), the mean over twenty cells hardly shows it, and a harmless shift along
them then alarms at ten times alpha and more. So phi is the larger of the mean and the largest eigenvalue of
S, the latter only where it stands out from what the eigenvalues of pure noise reach (the Marchenko-Pastur
edge), and corrected for the upward bias that the largest of several has (Baik and Silverstein 2006); never
below 1. Clusters, which add to all directions alike, leave the mean in force.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge.windows import Millis

Floats = NDArray[np.float64]

LEAST_WINDOWS = 20
"""A variance from fewer is not worth using: with 20 its relative error is a third."""
_RARE = 1.0
"""Cells with fewer expected rows a window are pooled: their squared residuals have too long a tail."""
_STANDS_OUT = 1.1
"""Above the edge by this factor: of features with independent rows, 20 windows and 22 cells, one in twenty
passes."""


@dataclass(frozen=True)
class Dispersion:
    """Of each feature, from windows of one length."""

    phi: Floats
    """What the test divides by: variance over multinomial variance, in the direction where it is largest if
    one stands out, else the mean over all; at least 1."""
    mean: Floats
    """The mean over all directions: Pearson's chi-square over (W - 1)(k' - 1); 1 where there is nothing to
    estimate from."""
    windows: NDArray[np.int64]
    """Windows with rows."""

    @property
    def enough(self) -> NDArray[np.bool_]:
        return self.windows >= LEAST_WINDOWS


@dataclass(frozen=True)
class Chosen:
    """phi of each feature for windows of one length."""

    phi: Floats
    borrowed: NDArray[np.bool_]
    """From another length, or 1 for want of any: phi is then probably too small, and a verdict on it reaches
    `medium` at most."""


def dispersion(windows: ArrayLike) -> Dispersion:
    """From counts, features x windows x cells, zero beyond a feature's own cells; windows of one length.

    Windows without rows are left out. They need not have equally many rows: residuals are scaled by each
    window's own.
    """
    counts = np.asarray(windows, np.float64)
    rows = counts.sum(2, keepdims=True)
    used = (rows[:, :, 0] > 0).sum(1)
    free = np.maximum(used - 1, 1)
    counts = _without_rare(counts, used)
    pooled = counts.sum(1, keepdims=True)
    shares = pooled / np.maximum(pooled.sum(2, keepdims=True), 1)
    expected = rows * shares
    residuals = np.divide(counts - expected, np.sqrt(expected), out=np.zeros_like(counts), where=expected > 0)
    df = (shares[:, 0] > 0).sum(1) - 1
    spread = residuals.swapaxes(1, 2) @ residuals / free[:, None, None]
    values = np.linalg.eigvalsh(spread)
    can = (df > 0) & (used > 1)
    mean = np.where(can, values.sum(1) / np.maximum(df, 1), 1.0)
    largest = np.where(can, _largest(values, df, free), 1.0)
    return Dispersion(np.maximum(np.maximum(mean, largest), 1.0), mean, used)


def for_length(length: Millis, known: Mapping[Millis, Dispersion]) -> Chosen:
    """phi for windows of `length`, from the dispersions of the lengths that were looked at, of the same
    features in the same order.

    The length's own where it has 20 windows, else that of the longest length that has, else 1; the latter two
    are marked. Raises ValueError where no length is known.
    """
    if not known:
        raise ValueError("no window length has a dispersion")
    phi = np.ones_like(next(iter(known.values())).phi)
    for _, found in sorted(known.items()):
        phi = np.where(found.enough, found.phi, phi)
    own = known.get(length)
    if own is None:
        return Chosen(phi, np.ones(phi.size, np.bool_))
    return Chosen(np.where(own.enough, own.phi, phi), ~own.enough)


def _without_rare(counts: Floats, used: NDArray[np.int64]) -> Floats:
    """Cells with too few rows a window are put together in one, of index 0 in what is returned."""
    rare = counts.sum(1) < _RARE * np.maximum(used, 1)[:, None]
    kept = np.where(rare[:, None, :], 0.0, counts)
    return np.concatenate([(counts - kept).sum(2, keepdims=True), kept], axis=2)


def _largest(values: Floats, df: NDArray[np.int64], free: NDArray[np.int64]) -> Floats:
    """The largest eigenvalue, corrected for its bias; 0 where it does not stand out. `values` ascend.

    Where all others are `rest`, an eigenvalue l rest of the truth shows as l (1 + g / (l - 1)) rest, with g
    directions a degree of freedom; solved for l here. Of one direction it is the mean.
    """
    top = values[:, -1]
    rest = np.maximum((values.sum(1) - top) / np.maximum(df - 1, 1), 1e-9)
    g = np.maximum(df - 1, 0) / free
    seen = top / rest
    half = seen + 1 - g
    truth = (half + np.sqrt(np.maximum(half**2 - 4 * seen, 0.0))) / 2
    stands_out = (df > 1) & (seen > _STANDS_OUT * (1 + np.sqrt(g)) ** 2)
    largest: Floats = np.where(stands_out, truth * rest, 0.0)
    return largest
