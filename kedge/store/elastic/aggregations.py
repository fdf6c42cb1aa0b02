"""The aggregations that compute the parts of Summaries inside the server; `parse` reads their answers.

Buckets of time hold one node for the total, and one for each group; a node holds the aggregations of the
parts asked for. Cells are `range` aggregations on the frozen edges: both servers compare a float field with
the double that was sent, half-open, so float32 edges sent as their exact doubles give the same cells as
every other store. Their cost is about 14 M values a second a shard. Categorical values are `terms` over all
known ones, so that no shard leaves out what another one has.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from kedge.sketch import DELAY, LATENCY, SCORE_CELLS, SCORE_WIDTH, EdgeSet, LogScale, PartName
from kedge.store.base import Grouping, Json, SummaryRequest
from kedge.store.elastic.names import escape, field_of

MOST_CLASSES = 1_000
MOST_GROUPS = 1_000
"""Values of one dimension in one bucket of time."""

LABELLED: Json = {
    "bool": {
        "should": [{"exists": {"field": "label.class"}}, {"exists": {"field": "label.value"}}],
        "minimum_should_match": 1,
    }
}
FAILED: Json = {"term": {"event.outcome": "failure"}}

TRIMMED = ("key", "from", "to", "from_as_string", "to_as_string")
"""What `range` aggregations say of each cell besides its count; they answer in the order of the request."""

MOMENTS: Mapping[str, str] = {
    "latency_ms": "latency_ms",
    "confidence": "prediction.probability",
    "entropy": "prediction.entropy",
    "value": "prediction.value.float",
}
LABEL_MOMENTS: Mapping[str, str] = {
    "log_loss": "outcome.log_loss",
    "brier": "outcome.brier",
    "error": "outcome.error",
    "abs_error": "outcome.abs_error",
    "squared_error": "outcome.squared_error",
    "value": "label.value.float",
}


def time_buckets(
    request: SummaryRequest,
    parts: frozenset[PartName],
    groupings: Sequence[Grouping],
    partition: tuple[int, int] = (0, 1),
) -> Json:
    """The aggregations of one search. With `partition` (i, n) only each n-th of a grouping's first values."""
    node = _node(request, parts)
    inside: Json = dict(node) if () in groupings else {}
    for j, grouping in enumerate(groupings):
        if grouping:
            inside[f"group{j}"] = _groups(grouping, node, partition)
    histogram = {"field": "@timestamp", "fixed_interval": f"{request.bucket}ms", "min_doc_count": 1}
    return {"time": {"date_histogram": histogram, "aggs": inside}}


def filter_path() -> str:
    """Keeps counts and leaves out the bounds of cells: the answer shrinks to less than half."""
    trimmed = [f"-aggregations.**.cells*.buckets.{name}" for name in TRIMMED]
    return ",".join(["aggregations", *trimmed])


def cost(request: SummaryRequest, parts: frozenset[PartName]) -> int:
    """About how many buckets one node makes, by which a request is cut to the server's limit."""
    made = 0
    if PartName.CORE in parts:
        made += LATENCY.size + 3 * SCORE_CELLS
    if PartName.CELLS in parts and request.edges is not None:
        made += sum(e.size for e in request.edges.numeric.values())
        made += sum(len(e.values) + len(e.others) for e in request.edges.categorical.values())
    if PartName.LABELS in parts:
        made += DELAY.size + 5 * SCORE_CELLS
    return made


def _groups(grouping: Grouping, node: Json, partition: tuple[int, int]) -> Json:
    first, *rest = grouping
    terms: Json = {"field": field_of(first), "size": MOST_GROUPS}
    which, of = partition
    if of > 1:
        terms["include"] = {"partition": which, "num_partitions": of}
    return {"terms": terms, "aggs": {"group": _groups(tuple(rest), node, (0, 1))} if rest else node}


def _node(request: SummaryRequest, parts: frozenset[PartName]) -> Json:
    node: Json = {}
    if PartName.CORE in parts:
        node |= _core(request)
    if PartName.CELLS in parts and request.edges is not None:
        node |= _cells(request.edges)
    if PartName.LABELS in parts:
        node["labels"] = {"filter": LABELLED, "aggs": _labels()}
    return node


def _core(request: SummaryRequest) -> Json:
    core: Json = {
        "errors": {"filter": FAILED},
        "cells_latency": _scale(LATENCY, "latency_ms"),
        "classes": _classes("prediction.class", {"scores": _SCORES}),
    }
    core |= {name: _stats(field) for name, field in MOMENTS.items()}
    core |= {f"num{i}": _stats(f"features.num.{escape(f)}") for i, f in enumerate(request.numeric)}
    core |= {f"cat{i}": _present(f) for i, f in enumerate(request.categorical)}
    if request.invalid:
        core["invalid"] = _among("features.invalid", request.invalid)
    return core


def _cells(edges: EdgeSet) -> Json:
    cells: Json = {}
    for i, (feature, numeric) in enumerate(edges.numeric.items()):
        cells[f"cells{i}"] = _range(f"features.num.{escape(feature)}", numeric.edges)
    for i, (feature, known) in enumerate(edges.categorical.items()):
        field = f"features.cat.{escape(feature)}"
        cells[f"values{i}"] = _among(field, (*known.values, *known.others))
        cells[f"values{i}_present"] = _present(feature)
    return cells


def _labels() -> Json:
    labels: Json = {
        # Doubles, exact to 2^53: a bucket of 10 M labelled rows in an index of 900 M writes.
        "fingerprint": {"sum": {"field": "_seq_no"}},
        "cells_delay": _scale(DELAY, "label.delay_ms"),
        "classes": _classes("prediction.class", {"actual": _classes("label.class", {"scores": _SCORES})}),
    }
    return labels | {name: _stats(field) for name, field in LABEL_MOMENTS.items()}


_SCORES: Json = {
    "histogram": {"field": "prediction.probability", "interval": SCORE_WIDTH, "min_doc_count": 1}
}


def _stats(field: str) -> Json:
    return {"extended_stats": {"field": field}}


def _present(feature: str) -> Json:
    return {"value_count": {"field": f"features.cat.{escape(feature)}"}}


def _classes(field: str, inside: Json) -> Json:
    return {"terms": {"field": field, "size": MOST_CLASSES}, "aggs": inside}


def _among(field: str, values: Sequence[str]) -> Json:
    return {"terms": {"field": field, "include": list(values), "size": len(values)}}


def _range(field: str, edges: Sequence[float]) -> Json:
    return {"range": {"field": field, "ranges": _ranges(tuple(edges))}}


def _scale(scale: LogScale, field: str) -> Json:
    return _range(field, _edges_of(scale))


@lru_cache(maxsize=8)
def _edges_of(scale: LogScale) -> tuple[float, ...]:
    return tuple(float(edge) for edge in scale.edges)


@lru_cache(maxsize=4_096)
def _ranges(edges: tuple[float, ...]) -> tuple[dict[str, Any], ...]:
    """*below*, the half-open cells, *above*."""
    inner = ({"from": a, "to": b} for a, b in pairwise(edges))
    return ({"to": edges[0]}, *inner, {"from": edges[-1]})
