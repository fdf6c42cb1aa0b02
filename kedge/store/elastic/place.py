"""Where rows lie and what their fields are called: kedge's own indices, or a source that others fill.

Everything that reads rows (the change feed, summaries, edges, examples) is given a `Place`, and names fields
by what they mean: `prediction.class`, the feature `age`, the dimension `version`. A place says which stored
field that is, or None where its rows have no such thing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import ClassVar, Protocol

import numpy as np

from kedge.sketch import SCORE_CELLS, SCORE_WIDTH, score_cell
from kedge.store.base import Json
from kedge.store.elastic.names import Names, escape, field_of, series_of
from kedge.windows import Window


@dataclass(frozen=True, slots=True)
class Field:
    """A stored field that the server can count by."""

    path: str

    def edges(self, edges: Sequence[float]) -> tuple[float, ...]:
        """The float32 edges of cells, as numbers to compare the stored values with."""
        return tuple(edges)

    def scores(self) -> Json:
        """The aggregation of rows by score cell: only those that have any, by where they begin."""
        return {"histogram": {"field": self.path, "interval": SCORE_WIDTH, "min_doc_count": 1}}

    def present(self) -> Json:
        """The aggregation that counts the rows with a value."""
        return {"value_count": {"field": self.path}}


@dataclass(frozen=True, slots=True)
class DoubleField(Field):
    """A field of doubles, which every other store keeps, and counts, as float32."""

    def edges(self, edges: Sequence[float]) -> tuple[float, ...]:
        return thresholds(tuple(edges), 1.0)

    def scores(self) -> Json:
        return score_ranges(self)


class Place(Protocol):
    """The indices of one kind of rows, and the fields in them."""

    @property
    def everywhere(self) -> str:
        """All its indices, as a search path."""
        ...

    @property
    def wildcards(self) -> str:
        """`expand_wildcards`: which states of indices its patterns reach."""
        ...

    def over(self, window: Window) -> str:
        """Those that may have rows in a window, as a search path."""
        ...

    def series(self, index: str) -> str:
        """What an index is a generation of: where another index takes its place, its rows were rebuilt."""
        ...

    @property
    def rewritten(self) -> bool:
        """Whether anything in a row may change after it was written. In kedge's own, only its label does."""
        ...

    @property
    def timestamp(self) -> str: ...

    def field(self, name: str) -> Field | None:
        """By kedge's name (DESIGN §4): `latency_ms`, `label.class`."""
        ...

    def numeric(self, feature: str) -> Field | None: ...

    def categorical(self, feature: str) -> Field | None: ...

    def attribution(self, feature: str) -> Field | None:
        """How much a feature contributed to the prediction."""
        ...

    def probability(self, cls: str) -> Field | None:
        """Of one class, whatever was predicted. All cells of its `scores` are told, the empty ones too."""
        ...

    def measurement(self, name: str) -> Field | None:
        """By kedge's name: `business.cost`, `resource.cpu_ms`."""
        ...

    def dimension(self, name: str) -> Field | None: ...

    @property
    def labelled(self) -> Json | None:
        """The query for rows with a label; None where rows have none."""
        ...

    @property
    def failed(self) -> Json | None:
        """The query for rows that are errors."""
        ...

    def rows(self, model: str, window: Window, *more: Json) -> Json:
        """The query for one model's rows with event time in a window."""
        ...

    def read(self, aggregations: Json) -> Json:
        """An answer to `aggregations`, in kedge's units and with its keys."""
        ...


class OwnPlace:
    """kedge's own prediction indices."""

    timestamp = "@timestamp"
    rewritten = False
    wildcards = "open,closed"  # a closed index in reach is an error, its rows must not count as none
    labelled: ClassVar[Json] = {
        "bool": {
            "should": [{"exists": {"field": "label.class"}}, {"exists": {"field": "label.value"}}],
            "minimum_should_match": 1,
        }
    }
    failed: ClassVar[Json] = {"term": {"event.outcome": "failure"}}

    def __init__(self, names: Names) -> None:
        self._names = names

    @property
    def everywhere(self) -> str:
        return self._names.all_predictions

    def over(self, window: Window) -> str:
        return self._names.predictions_over(window)

    def series(self, index: str) -> str:
        return series_of(index)

    def field(self, name: str) -> Field | None:
        # Regressions keep the exact double, and a float beside it to be counted in cells.
        return Field(f"{name}.float" if name in ("prediction.value", "label.value") else name)

    def numeric(self, feature: str) -> Field | None:
        return Field(f"features.num.{escape(feature)}")

    def categorical(self, feature: str) -> Field | None:
        return Field(f"features.cat.{escape(feature)}")

    def attribution(self, feature: str) -> Field | None:
        return Field(f"attributions.{escape(feature)}")

    def probability(self, cls: str) -> Field | None:
        return DoubleField(f"prediction.probabilities.{escape(cls)}")

    def measurement(self, name: str) -> Field | None:
        family, _, own = name.partition(".")
        path = f"{family}.{escape(own)}"
        return DoubleField(path) if family == "business" else Field(path)

    def dimension(self, name: str) -> Field | None:
        return Field(field_of(name))

    def rows(self, model: str, window: Window, *more: Json) -> Json:
        times = {"gte": window.start, "lt": window.end, "format": "epoch_millis"}
        return {
            "bool": {"filter": [{"term": {"model.name": model}}, {"range": {self.timestamp: times}}, *more]}
        }

    def read(self, aggregations: Json) -> Json:
        return aggregations


def score_ranges(field: Field) -> Json:
    """Score cells one by one: a histogram of doubles would put 0.01 where its float32 is not."""
    bounds = field.edges(_score_edges())
    ranges: list[Json] = [{"from": a, "to": b} for a, b in pairwise(bounds)]
    return {"range": {"field": field.path, "ranges": [*ranges, {"from": bounds[-1]}]}}


@cache
def _score_edges() -> tuple[float, ...]:
    """The least float32 of each score cell."""
    edges = []
    for cell in range(SCORE_CELLS):
        edge = np.float32(cell * SCORE_WIDTH)
        while score_cell(float(edge)) < cell:
            edge = np.nextafter(edge, np.float32(2))
        while cell and score_cell(float(np.nextafter(edge, np.float32(-1)))) == cell:
            edge = np.nextafter(edge, np.float32(-1))
        edges.append(float(edge))
    return tuple(edges)


@lru_cache(maxsize=4_096)
def thresholds(edges: tuple[float, ...], per: float) -> tuple[float, ...]:
    """The least doubles that round to each float32 edge or above it, in units of which `per` make one."""
    upper = np.asarray(edges, np.float32)
    below = np.nextafter(upper, np.float32(-np.inf)).astype(np.float64)
    middle = (below + upper.astype(np.float64)) / 2
    with np.errstate(over="ignore"):
        ties_up = middle.astype(np.float32) >= upper
    least = np.where(ties_up, middle, np.nextafter(middle, np.inf))
    return tuple((least * per).tolist())
