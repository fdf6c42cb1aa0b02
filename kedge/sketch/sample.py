"""A bounded sample of rows that come in pieces, whatever their number: each row gets a random key, and those
of the smallest keys are kept. Seeded: the same rows give the same sample.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kedge.sketch.columns import Columns
from kedge.sketch.edges import CategoricalEdges, EdgeSet
from kedge.sketch.tally import categorical_cells


class Sample:
    """Rows as a matrix of the features of an edge set: numbers, and of categorical features their cell."""

    def __init__(self, edges: EdgeSet, size: int, seed: int = 0) -> None:
        self._edges = edges
        self._size = size
        self._draw = np.random.default_rng(seed)
        self._keys = np.zeros(0)
        self._matrix = np.zeros((0, len(edges.features)), np.float32)
        self.rows = 0
        """That were offered."""

    @property
    def names(self) -> Sequence[str]:
        return list(self._edges.features)

    @property
    def categorical(self) -> Sequence[bool]:
        return [isinstance(e, CategoricalEdges) for e in self._edges.features.values()]

    @property
    def matrix(self) -> NDArray[np.float32]:
        """Shape (rows, features); nan is missing."""
        return self._matrix

    def add(self, piece: Columns) -> None:
        self.rows += piece.count
        keys = self._draw.random(piece.count)
        # What exceeds the largest key of a full sample cannot get in.
        bar = self._keys.max() if len(self._keys) >= self._size else np.inf
        chosen = np.flatnonzero(keys < bar)
        if not len(chosen):
            return
        chosen = chosen[np.argsort(keys[chosen], kind="stable")[: self._size]]
        keys = np.concatenate([self._keys, keys[chosen]])
        matrix = np.concatenate([self._matrix, self._encoded(piece, chosen)])
        kept = np.argsort(keys, kind="stable")[: self._size]
        self._keys, self._matrix = keys[kept], matrix[kept]

    def _encoded(self, piece: Columns, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        held = np.full((len(rows), len(self._edges.features)), np.nan, np.float32)
        features: Mapping[str, object] = self._edges.features
        for i, (name, edges) in enumerate(features.items()):
            if isinstance(edges, CategoricalEdges):
                if (texts := piece.texts.get(name)) is not None:
                    cells = categorical_cells(edges, texts)[rows]
                    held[:, i] = np.where(cells == edges.size - 1, np.nan, cells)
            elif (column := piece.numbers.get(name)) is not None:
                held[:, i] = column[rows]
        return held
