"""Counts of references and windows, drawn directly: multinomial, thousands of features at once.

A *world* makes reference counts a and the window's true shares w over the same cells, features x cells.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kedge.sketch.edges import NUMERIC_CELLS, TOP_VALUES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Generator = np.random.Generator
World = Callable[[Generator, int, int], tuple[Ints, Floats]]
"""(generator, rows of the reference, features) -> (a, w)"""

TOLERANCE = 0.05


def quantile_cells(rng: Generator, m: int, features: int) -> tuple[Ints, Floats]:
    """A continuous column, whatever its distribution: its 20 cells are cut at order statistics of the
    reference, whose true shares are a Dirichlet; *below* and *above* beside them.

    The reference's own counts are then m / 20 each without noise: that is in the true shares instead.
    """
    inside = (m - 1) / NUMERIC_CELLS
    spacings = rng.gamma([1.0, *[inside] * NUMERIC_CELLS, 1.0], size=(features, NUMERIC_CELLS + 2))
    ranks = np.floor(np.arange(NUMERIC_CELLS + 1) * inside).astype(np.int64)
    ranks[-1] = m
    counts = np.array([0, *np.diff(ranks), 0])
    return np.tile(counts, (features, 1)), spacings / spacings.sum(1, keepdims=True)


def of_shares(shares: Floats) -> World:
    """Cells that are known beforehand: values of a discrete column, categories, classes."""

    def world(rng: Generator, m: int, features: int) -> tuple[Ints, Floats]:
        return rng.multinomial(m, shares, size=features), np.tile(shares, (features, 1))

    return world


def top_categories(rng: Generator, m: int, features: int, values: int = 300) -> tuple[Ints, Floats]:
    """Zipf's 300 values, of which the 50 commonest of the reference have cells, and the others share *other*
    or, where the reference lacks them, *unseen*."""
    shares = zipf(values)
    counts = rng.multinomial(m, shares, size=features)
    order = np.argsort(-counts, axis=1, kind="stable")
    counts = np.take_along_axis(counts, order, 1)
    true = shares[order]
    rest, known = counts[:, TOP_VALUES:], counts[:, TOP_VALUES:] > 0
    other, unseen = (np.where(which, true[:, TOP_VALUES:], 0.0).sum(1) for which in (known, ~known))
    a = np.column_stack([counts[:, :TOP_VALUES], rest.sum(1), np.zeros(features, np.int64)])
    return a, np.column_stack([true[:, :TOP_VALUES], other, unseen])


def equal(k: int) -> Floats:
    return np.full(k, 1 / k)


def zipf(k: int, power: float = 1.1) -> Floats:
    shares = np.arange(1.0, k + 1) ** -power
    return shares / shares.sum()


def halves(k: int) -> Floats:
    """Each value half as common as the one before: a heavy discrete column such as a count of purchases."""
    shares = 0.5 ** np.arange(1.0, k + 1)
    return shares / shares.sum()


def constant_and_rare(k: int, rare: float = 0.002) -> Floats:
    return np.array([1 - rare, *[rare / (k - 1)] * (k - 1)])


WORLDS: dict[str, World] = {
    "continuous, 20 quantile cells": quantile_cells,
    **{f"equal, k={k}": of_shares(equal(k)) for k in (2, 5, 10, 20, 50)},
    **{f"Zipf, k={k}": of_shares(zipf(k)) for k in (5, 20, 50)},
    "Zipf of 300 values, top 50": top_categories,
    "halving, k=12": of_shares(halves(12)),
    **{f"constant and rare, k={k}": of_shares(constant_and_rare(k)) for k in (2, 10)},
}


# --- shifts -------------------------------------------------------------------------------------------------


def effect(p: Floats, q: Floats) -> Floats:
    """The true D of rows of shares."""
    both = p + q
    terms = np.divide(2 * (p - q) ** 2, both, out=np.zeros_like(both), where=both > 0)
    found: Floats = terms.sum(1)
    return found


Tilt = Callable[[Generator, Floats], Floats]


def spread(rng: Generator, shares: Floats) -> Floats:
    """Every other cell gains and the others lose, in random order."""
    signs = np.where(np.arange(shares.shape[1]) % 2, 1.0, -1.0)
    return rng.permuted(np.tile(signs, (len(shares), 1)), axis=1)


def trend(rng: Generator, shares: Floats) -> Floats:
    """High cells gain what low ones lose, as where a mean moves."""
    return np.cumsum(shares, 1) - shares / 2 - 0.5


def trend_back(rng: Generator, shares: Floats) -> Floats:
    """The other way: among categories by their counts, the common ones gain what many rare ones lose."""
    return -trend(rng, shares)


def one_cell(rng: Generator, shares: Floats) -> Floats:
    """The rarest cell of those in use gains."""
    tilt = np.zeros_like(shares)
    rarest = np.where(shares > 0, shares, 2.0).argmin(1)
    tilt[np.arange(len(shares)), rarest] = 1.0
    return tilt


TILTS: dict[str, Tilt] = {"spread": spread, "trend": trend, "rarest cell": one_cell, "trend back": trend_back}


def shifted(shares: Floats, tilt: Floats, size: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Shares moved along a tilt until the true effect is `size`, and whether it goes that far: shares do not
    become negative. By bisection of each row's own step."""
    tilt = tilt - (shares * tilt).sum(1, keepdims=True)
    down = np.where(shares > 0, -tilt, 0.0).max(1)
    most = np.where(down > 0, 1 / np.maximum(down, 1e-12), 0.0)
    low, high = np.zeros(len(shares)), most
    for _ in range(45):
        middle = (low + high) / 2
        far = effect(shares, shares * (1 + middle[:, None] * tilt)) > size
        low, high = np.where(far, low, middle), np.where(far, middle, high)
    moved = np.maximum(shares * (1 + low[:, None] * tilt), 0.0)
    return moved / moved.sum(1, keepdims=True), effect(shares, moved) > 0.999 * size


def windows(rng: Generator, n: int, shares: Floats) -> Ints:
    """One window of n rows for each row of shares."""
    found: Ints = rng.multinomial(n, shares / shares.sum(1, keepdims=True))
    return found
