"""The frozen cells that features are counted in. Edges are known by content: equal ones have equal hashes."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

TOP_VALUES = 50
"""Categorical values with a cell of their own; rarer known ones share *other*."""
KNOWN_VALUES = 1000
"""Values remembered at most; what lies beyond counts as *unseen*, in the reference too."""
NUMERIC_CELLS = 20
VALUE = "\x00prediction.value"
"""Under this name the cells part counts the predicted values of a regression. No feature has it: names with
control characters are refused.
"""
_HIGHEST = np.nextafter(np.finfo(np.float32).max, np.float32(0))
"""What lies above it cannot have a finite edge just above: it counts as *above*, in the reference too."""


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class NumericEdges:
    """k + 1 ascending float32 edges of k half-open cells; counts are [below, k cells, above, missing]."""

    edges: tuple[float, ...]

    @property
    def size(self) -> int:
        return len(self.edges) + 2

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name for each count."""
        inner = (f"[{a:.6g}, {b:.6g})" for a, b in zip(self.edges, self.edges[1:], strict=False))
        return ("below", *inner, "above", "missing")

    @cached_property
    def hash(self) -> str:
        # -0.0 + 0.0 is 0.0: the two are equal, so their hashes must be.
        return _digest(["num", [float(e) + 0.0 for e in self.edges]])

    def to_json(self) -> dict[str, Any]:
        return {"edges": list(self.edges)}


@dataclass(frozen=True)
class CategoricalEdges:
    """A cell for each of `values`, then *other*, *unseen* and *missing*. `others` are known but rare."""

    values: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return len(self.values) + 3

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (*self.values, "other", "unseen", "missing")

    @cached_property
    def hash(self) -> str:
        return _digest(["cat", self.values, self.others])

    def to_json(self) -> dict[str, Any]:
        return {"values": list(self.values), "others": list(self.others)}


Edges = NumericEdges | CategoricalEdges


@dataclass(frozen=True)
class EdgeSet:
    """The edges of a model's features, by name, and of what it predicts. Immutable; known by its hash."""

    features: Mapping[str, Edges]
    value: NumericEdges | None = None
    """Of the predicted value of a regression."""

    @cached_property
    def hash(self) -> str:
        return _digest({name: edges.hash for name, edges in self.counted.items()})

    @cached_property
    def counted(self) -> Mapping[str, Edges]:
        """All that the cells part counts: the features and, last, under VALUE the predicted value."""
        return self.features if self.value is None else {**self.features, VALUE: self.value}

    @cached_property
    def counted_numeric(self) -> dict[str, NumericEdges]:
        return {name: e for name, e in self.counted.items() if isinstance(e, NumericEdges)}

    @cached_property
    def numeric(self) -> dict[str, NumericEdges]:
        return {f: e for f, e in self.features.items() if isinstance(e, NumericEdges)}

    @cached_property
    def categorical(self) -> dict[str, CategoricalEdges]:
        return {f: e for f, e in self.features.items() if isinstance(e, CategoricalEdges)}

    def to_json(self) -> dict[str, Any]:
        """Of the features alone."""
        return {name: edges.to_json() for name, edges in self.features.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], value: Mapping[str, Any] | None = None) -> "EdgeSet":
        """From `to_json`; `value` is that of the predicted value's edges."""

        def one(e: Mapping[str, Any]) -> Edges:
            if "edges" in e:
                # Some JSON writers make 1.0 a 1, which would hash differently.
                return NumericEdges(tuple(float(edge) for edge in e["edges"]))
            return CategoricalEdges(tuple(e["values"]), tuple(e.get("others", ())))

        of_value = None if value is None else NumericEdges(tuple(float(e) for e in value["edges"]))
        return cls({name: one(e) for name, e in content.items()}, of_value)


def numeric_edges(quantiles: ArrayLike) -> NumericEdges | None:
    """Edges from the linear quantiles 0, 1/k, …, 1 of a reference column.

    Float32, duplicates dropped, the last one just above the maximum so that it has a cell; None without
    values. A constant column gets one cell. The last cell holds both the last but one quantile and the
    maximum: where either is a value that many rows have (it is more than one of the quantiles), the two get
    cells of their own, or flags of 0 and 1, and the top of a rating, would be counted in one.
    """
    column = np.asarray(quantiles, np.float32)
    column = np.minimum(column[np.isfinite(column)], _HIGHEST)
    if not column.size:
        return None
    unique, times = np.unique(column, return_counts=True)
    edges = [float(e) for e in unique[:-1]]
    if unique.size == 1 or times[-1] > 1:
        edges.append(float(unique[-1]))
    elif times[-2] > 1:
        edges.append(_just_above(unique[-2]))
    return NumericEdges((*edges, _just_above(unique[-1])))


def _just_above(value: np.float32) -> float:
    return float(np.nextafter(value, np.float32(np.inf)))


def categorical_edges(counts: Iterable[tuple[str, int]]) -> CategoricalEdges | None:
    """Edges from a reference's value counts: the commonest have cells, ties go by name; None without any."""
    ranked = [v for v, n in sorted(counts, key=lambda c: (-c[1], c[0])) if n > 0][:KNOWN_VALUES]
    if not ranked:
        return None
    return CategoricalEdges(tuple(ranked[:TOP_VALUES]), tuple(ranked[TOP_VALUES:]))
