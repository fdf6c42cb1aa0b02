"""What the edges of many rows are cut from: every value of their columns, or a sample of the rows."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kedge.sketch.edges import (
    VALUE,
    Edges,
    EdgeSet,
    NumericEdges,
    categorical_edges,
    numeric_edges,
)
from kedge.sketch.quantiles import of_column

SAMPLED_FROM = 200_000
SAMPLE = 50_000
"""Of so many rows, features of many values are cut at the quantiles of a sample, as on Elasticsearch: to hold
and partition every value would take more memory than all the rest, and half the time. Ranks are then within
about 0.7 % (three standard errors) of a cell's 5 %; the extremes are exact, and the reference is counted
exactly on whatever edges come of it."""
FEW_VALUES = 256
"""Up to so many values in a sample all of them are counted: the cells of flags and ratings do not hang on
which rows were drawn."""


class Drawn:
    """The values of numeric features of so many rows: all, or of a sample, the same whenever these rows are
    read."""

    def __init__(self, features: int, rows: int) -> None:
        self._places: NDArray[np.int64] | None = None
        if rows >= SAMPLED_FROM:
            # One of each run of rows, anywhere in it: even over time, and in step with no period of theirs.
            starts = np.arange(0, rows, run := rows // SAMPLE)
            self._places = starts + np.random.default_rng(rows).integers(0, run, len(starts))
        self._seen = 0
        self._pieces: list[list[NDArray[np.float32]]] = [[] for _ in range(features)]
        self._ends: list[list[np.float32]] = [[] for _ in range(features)]

    def add(self, columns: Sequence[NDArray[np.float32]]) -> None:
        """Some of the rows, a column each, nan where missing."""
        rows = len(columns[0])
        picked = None
        if self._places is not None:
            first, last = np.searchsorted(self._places, [self._seen, self._seen + rows])
            picked = self._places[first:last] - self._seen
        self._seen += rows
        for i, column in enumerate(columns):
            held = column[picked] if picked is not None else column
            finite = np.isfinite(held)
            self._pieces[i].append(held.copy() if finite.all() else held[finite])
            if picked is not None:
                ends = (np.fmin.reduce(column), np.fmax.reduce(column))
                self._ends[i] += [end for end in ends if np.isfinite(end)]

    def few(self, feature: int) -> bool:
        """Whether only a sample is here, of a feature with so few values that all should be counted."""
        if self._places is None:
            return False
        values = self._whole(feature)
        beginning = np.unique(values[: 8 * FEW_VALUES]).size  # tells it of most, without sorting all
        return beginning <= FEW_VALUES and np.unique(values).size <= FEW_VALUES

    def quantiles(self, feature: int) -> NDArray[np.float64]:
        quantiles = of_column(self._whole(feature))
        if self._ends[feature]:
            quantiles[0], quantiles[-1] = min(self._ends[feature]), max(self._ends[feature])
        return quantiles

    def _whole(self, feature: int) -> NDArray[np.float32]:
        pieces = self._pieces[feature]
        if len(pieces) > 1:
            pieces[:] = [np.concatenate(pieces)]
        return pieces[0] if pieces else np.zeros(0, np.float32)


def distinct(column: NDArray[np.float32]) -> dict[float, int]:
    """How often each value is there, nan aside; -0.0 is 0.0."""
    values, counts = np.unique(column[np.isfinite(column)], return_counts=True)
    return dict(zip((values.astype(np.float64) + 0.0).tolist(), counts.tolist(), strict=True))


def edges_of(
    quantiles: Mapping[str, NDArray[np.float64]], counts: Mapping[str, Mapping[str, int]]
) -> EdgeSet:
    """From the quantiles of numeric columns, that of the predicted value under VALUE, and how often each text
    is in the others. A feature of both kinds is a numeric one.
    """
    found: dict[str, Edges] = {}
    for name, column in quantiles.items():
        if (cut := numeric_edges(column)) is not None:
            found[name] = cut
    for name, times in counts.items():
        if name not in found and (kept := categorical_edges(times.items())) is not None:
            found[name] = kept
    predicted = found.pop(VALUE, None)
    return EdgeSet(found, predicted if isinstance(predicted, NumericEdges) else None)
