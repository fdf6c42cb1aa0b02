"""Fixed scales of cells: logarithmic ones for latency and label delay, a linear one for scores in [0, 1].

Every store counts the same cells: values and edges are float32, cells are half-open [lo, hi).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]

SCORE_CELLS = 100
"""Scores fall in cell min(floor(float64(float32(p)) / 0.01), 99); the cell after the last counts missing scores."""
SCORE_WIDTH = 0.01


def score_cell(p: float) -> int:
    """The score cell of `p` in [0, 1]."""
    return min(int(float(np.float32(p)) / SCORE_WIDTH), SCORE_CELLS - 1)


@dataclass(frozen=True)
class LogScale:
    """`cells` cells, each `ratio` times as wide as the one before, from `low`; counts are [below, cells…, above]."""

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
        column = np.asarray(values, np.float32)
        return np.bincount(np.searchsorted(self.edges, column, side="right"), minlength=self.size).astype(np.int64)

    def quantile(self, counts: Counts, q: float) -> float:
        """The q-quantile from counts: the geometric middle of its cell, so within (ratio - 1) / 2 of the true one.

        In the outer cells the answer is the nearest edge; nan where nothing was counted.
        """
        total = int(counts.sum())
        if not total:
            return float("nan")
        rank = min(int(q * total), total - 1)
        cell = int(np.searchsorted(np.cumsum(counts), rank, side="right"))
        if cell == 0:
            return float(self.edges[0])
        if cell == self.size - 1:
            return float(self.edges[-1])
        return float(np.sqrt(float(self.edges[cell - 1]) * float(self.edges[cell])))


LATENCY = LogScale(low=0.1, ratio=1.05, cells=320)
"""Milliseconds: 0.1 ms to about 10 minutes in cells 5 % wide."""

DELAY = LogScale(low=1000.0, ratio=1.2, cells=96)
"""Milliseconds between prediction and label: 1 s to about 460 days in cells 20 % wide."""
