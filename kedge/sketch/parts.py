"""The parts of a Summary. Each is a commutative monoid: a sum equals the part of the rows put together.

Vectors of counts are int64 arrays of fixed length; maps hold only what was counted at least once, so that
equal content is equal data whatever the order of addition.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache
from typing import Any, Self, TypeVar

import numpy as np

from kedge.sketch.edges import EdgeSet
from kedge.sketch.moments import Moments
from kedge.sketch.scale import DELAY, LATENCY, SCORE_CELLS, Counts

K = TypeVar("K")

MOST_RANKED = 20
"""Classes of a model, up to which `Labels.ranks` are counted: two vectors of cells each."""


class PartName(StrEnum):
    CORE = "core"
    CELLS = "cells"
    LABELS = "labels"
    CUSTOM = "custom"
    """Users' own metrics (custom.py)."""


def ranked(classes: Collection[str]) -> tuple[str, ...]:
    """Those by whose probability labelled rows are ranked, of all that rows carry one of.

    Of two classes one's is the rest of the other's, which `Labels.scores` tell already.
    """
    return tuple(sorted(classes)) if 2 < len(classes) <= MOST_RANKED else ()


def add_maps(a: Mapping[K, Any], b: Mapping[K, Any]) -> dict[K, Any]:
    """Union of keys, sum of values."""
    merged = dict(a)
    for key, value in b.items():
        merged[key] = merged[key] + value if key in merged else value
    return merged


class SumOfMaps(Mapping[K, Any]):
    """What `add_maps` gives, added up when it is first looked at: a window is a sum of dozens of parts, and
    of their maps, such as the moments of every feature, most rules look at none."""

    __slots__ = ("_made", "_sides")

    def __init__(self, a: Mapping[K, Any], b: Mapping[K, Any]) -> None:
        self._sides: tuple[Mapping[K, Any], Mapping[K, Any]] | None = (a, b)
        self._made: dict[K, Any] = {}

    def _map(self) -> dict[K, Any]:
        if self._sides is None:
            return self._made
        # In a loop: sums of sums are as deep as the parts are many.
        first: Mapping[K, Any] = self
        others = []
        while isinstance(first, SumOfMaps) and (sides := first._sides) is not None:
            first, other = sides
            others.append(other)
        merged = dict(first)
        for other in reversed(others):
            for key, value in other.items():
                merged[key] = merged[key] + value if key in merged else value
        self._made, self._sides = merged, None  # in this order: other threads may be reading
        return merged

    def __getitem__(self, key: K) -> Any:
        return self._map()[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._map())

    def __len__(self) -> int:
        return len(self._map())

    def __contains__(self, key: object) -> bool:
        return key in self._map()

    def __repr__(self) -> str:
        return repr(self._map())

    def __reduce__(self) -> tuple[type[dict[K, Any]], tuple[dict[K, Any]]]:
        return dict, (self._map(),)


def sum_of_maps(a: Mapping[K, Any], b: Mapping[K, Any]) -> Mapping[K, Any]:
    if type(a) is dict and not a:
        return b
    return a if type(b) is dict and not b else SumOfMaps(a, b)


def same(a: Any, b: Any) -> bool:
    """Equality of maps and arrays of counts, exact."""
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


class Part:
    """What the parts share: field-wise addition and equality."""

    def __add__(self, other: Self) -> Self:
        mine, theirs = vars(self), vars(other)
        summed = []
        for name in self._names():
            a, b = mine[name], theirs[name]
            kind = type(a)
            summed.append(sum_of_maps(a, b) if kind is dict or kind is SumOfMaps else a + b)
        return type(self)(*summed)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(same(getattr(self, name), getattr(other, name)) for name in self._names())

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    @cache
    def _names(cls) -> tuple[str, ...]:
        """Looked up once: windows are sums of dozens of parts."""
        return tuple(f.name for f in fields(cls))  # type: ignore[arg-type]


def scores_zero() -> Counts:
    """Score cells and, last, the missing scores."""
    return np.zeros(SCORE_CELLS + 1, np.int64)


@dataclass(frozen=True, eq=False)
class Core(Part):
    """What every row tells without labels or reference."""

    rows: int = 0
    errors: int = 0
    """Rows with an error type or message."""
    latency: Counts = field(default_factory=LATENCY.zero)
    """Rows by latency, on the LATENCY scale; rows without latency are not counted."""
    latency_ms: Moments = Moments.ZERO
    scores: Mapping[str, Counts] = field(default_factory=dict)
    """By predicted class: rows by confidence, 100 cells and missing. Their sums are the class counts."""
    confidence: Moments = Moments.ZERO
    entropy: Moments = Moments.ZERO
    value: Moments = Moments.ZERO
    """Of the predicted value of a regression."""
    numeric: Mapping[str, Moments] = field(default_factory=dict)
    """By numeric feature: of its values that are present."""
    present: Mapping[str, int] = field(default_factory=dict)
    """By categorical feature: rows that have a value."""
    invalid: Mapping[str, int] = field(default_factory=dict)
    """By feature: rows whose value was neither number nor text."""
    attributions: Mapping[str, Moments] = field(default_factory=dict)
    """By feature: of the absolute values of its attributions, where logs carry explanations."""
    measured: Mapping[str, Moments] = field(default_factory=dict)
    """By field (`business.cost`, `resource.cpu_ms`): of the measurements that came with rows."""

    @property
    def classes(self) -> dict[str, int]:
        """Rows by predicted class."""
        return {name: int(cells.sum()) for name, cells in self.scores.items()}


@dataclass(frozen=True, eq=False)
class Cells(Part):
    """Rows by frozen cell, for each feature: {feature: (hash of its edges, counts)}; under VALUE those of the
    predicted value.

    Counts on different edges never add: a sum keeps the features whose hashes match, and drops the others,
    which then read as *not computed*. So the zero of an addition is `Cells.zero` on the same edges.
    """

    features: dict[str, tuple[str, Counts]] = field(default_factory=dict)

    @classmethod
    def zero(cls, edges: EdgeSet) -> "Cells":
        return cls({name: (e.hash, np.zeros(e.size, np.int64)) for name, e in edges.counted.items()})

    def __add__(self, other: "Cells") -> "Cells":
        return Cells(
            {
                name: (digest, counts + other.features[name][1])
                for name, (digest, counts) in self.features.items()
                if name in other.features and other.features[name][0] == digest
            }
        )


@dataclass(frozen=True, eq=False)
class Labels(Part):
    """What the labelled rows tell."""

    rows: int = 0
    """Rows with a label, of a class or a value."""
    scores: Mapping[tuple[str, str], Counts] = field(default_factory=dict)
    """By (predicted, label class): rows by confidence, 100 cells and missing. Sums are the confusion."""
    log_loss: Moments = Moments.ZERO
    brier: Moments = Moments.ZERO
    error: Moments = Moments.ZERO
    """Prediction minus label, of a regression."""
    abs_error: Moments = Moments.ZERO
    squared_error: Moments = Moments.ZERO
    value: Moments = Moments.ZERO
    """Of the label values of a regression."""
    delay: Counts = field(default_factory=DELAY.zero)
    """Rows by time from prediction to label, on the DELAY scale; a label before its prediction is *below*."""
    ranks: Mapping[tuple[str, bool], Counts] = field(default_factory=dict)
    """By (class, whether it is the label's): rows with a label class by the probability of that class, where
    they carry one. Shape (SCORE_CELLS,). Of the classes that `ranked` names: none of a model with two."""

    @property
    def confusion(self) -> dict[tuple[str, str], int]:
        """Rows by (predicted, actual) class."""
        return {pair: int(cells.sum()) for pair, cells in self.scores.items()}
