"""Fixed scales of cells: logarithmic ones for latency and label delay, a linear one for scores in [0, 1].

Every store counts the same cells: values and edges are float32, cells are half-open [lo, hi).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]

SCORE_CELLS = 100
"""Scores fall in cell min(floor(float64(float32(p)) / 0.01), 99); one more cell counts missing scores."""
SCORE_WIDTH = 0.01


def score_cell(p: float) -> int:
    """The score cell of `p` in [0, 1]."""
    return min(int(float(np.float32(p)) / SCORE_WIDTH), SCORE_CELLS - 1)


@dataclass(frozen=True)
class LogScale:
    """`cells` cells from `low`, each `ratio` times as wide as the last; counts are [below, cells…, above]."""

    low: float
    ratio: float
    cells: int

    @cached_property
    def edges(self) -> NDArray[np.float32]:
        """The cells + 1 edges, float32."""
        return (self.low * self.ratio ** np.arange(self.cells + 1, dtype=np.float64)).astype(np.float32)

    @property
    def size(self) -> int:
        """Length of a counts vector."""
        return self.cells + 2

    def zero(self) -> Counts:
        return np.zeros(self.size, np.int64)

    def count(self, values: ArrayLike) -> Counts:
        """Counts of finite `values` over [below, cells…, above]."""
        cells = np.searchsorted(self.edges, np.asarray(values, np.float32), side="right")
        return np.bincount(cells, minlength=self.size).astype(np.int64)

    def quantile(self, counts: Counts, q: float) -> float:
        """The q-quantile from counts, as numpy's linear one of the rows: within (ratio - 1) / 2 of it.

        Each of the two order statistics that it lies between is taken as the geometric middle of its cell. In
        the outer cells that is the nearest edge; nan where nothing was counted.
        """
        cumulative = np.cumsum(counts)
        total = int(cumulative[-1])
        if not total:
            return float("nan")
        position = q * (total - 1)
        lower = int(position)
        below, above = self._middle(cumulative, lower), self._middle(cumulative, min(lower + 1, total - 1))
        return below + (position - lower) * (above - below)

    def _middle(self, cumulative: Counts, rank: int) -> float:
        """Of the cell that holds the row of that rank, from 0."""
        cell = int(np.searchsorted(cumulative, rank, side="right"))
        if cell == 0:
            return float(self.edges[0])
        if cell == self.size - 1:
            return float(self.edges[-1])
        return float(np.sqrt(float(self.edges[cell - 1]) * float(self.edges[cell])))


LATENCY = LogScale(low=0.1, ratio=1.05, cells=320)
"""Milliseconds: 0.1 ms to about 10 minutes in cells 5 % wide."""

DELAY = LogScale(low=1000.0, ratio=1.2, cells=96)
"""Milliseconds between prediction and label: 1 s to about 460 days in cells 20 % wide."""
