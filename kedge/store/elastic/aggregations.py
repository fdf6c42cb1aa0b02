"""The aggregations that compute the parts of Summaries inside the server; `parse` reads their answers.

Buckets of time hold one node for the total, and one for each group; a node holds the aggregations of the
parts asked for. Cells are `range` aggregations on the frozen edges: both servers compare a float field with
the double that was sent, half-open, so float32 edges sent as their exact doubles give the same cells as
every other store. Their cost is about 14 M values a second a shard. Categorical values are `terms` over all
known ones, so that no shard leaves out what another one has.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from kedge.sketch import DELAY, LATENCY, SCORE_CELLS, VALUE, EdgeSet, LogScale, NumericEdges, PartName
from kedge.store.base import MOST_GROUPS, OTHER, Grouping, Json, SummaryRequest
from kedge.store.elastic import custom
from kedge.store.elastic.place import Field, Place

MOST_CLASSES = 1_000

TRIMMED = ("key", "from", "to", "from_as_string", "to_as_string")
"""What `range` aggregations say of each cell besides its count; they answer in the order of the request."""

BEYOND = "_beyond"
"""Ends the name of the aggregation of rows whose value of a dimension is not among the known ones."""
_TERMS = 10_000

MOMENTS: Mapping[str, str] = {
    "latency_ms": "latency_ms",
    "confidence": "prediction.probability",
    "entropy": "prediction.entropy",
    "value": "prediction.value",
}
LABEL_MOMENTS: Mapping[str, str] = {
    "log_loss": "outcome.log_loss",
    "brier": "outcome.brier",
    "error": "outcome.error",
    "abs_error": "outcome.abs_error",
    "squared_error": "outcome.squared_error",
    "value": "label.value",
}


def time_buckets(
    place: Place,
    request: SummaryRequest,
    parts: frozenset[PartName],
    groupings: Sequence[Grouping],
    partition: tuple[int, int] = (0, 1),
) -> Json:
    """The aggregations of one search; what the place has no field for is left out.

    With `partition` (i, n) only each n-th of a grouping's first values. A grouping whose list of values is
    full has an aggregation of these, and one of the rows beyond.
    """
    node = _node(place, request, parts)
    inside: Json = dict(node) if () in groupings else {}
    for j, grouping in enumerate(groupings):
        fields = [(place.dimension(name), request.known.get(name)) for name in grouping]
        levels = [_Level(field.path, known) for field, known in fields if field]
        if levels and len(levels) == len(fields):
            inside |= _groups(f"group{j}", levels, node, partition)
    histogram = {"field": place.timestamp, "fixed_interval": f"{request.bucket}ms", "min_doc_count": 1}
    return {"time": {"date_histogram": histogram, "aggs": inside}}


def errors_by_value(place: Place, edges: NumericEdges) -> Json | None:
    """The absolute errors of rows by cell of the predicted value; None where the place has none."""
    value, error = place.field("prediction.value"), place.field(LABEL_MOMENTS["abs_error"])
    if value is None or error is None:
        return None
    return {"cells": _range(value, edges.edges) | {"aggs": {"errors": _stats(error)}}}


def filter_path() -> str:
    """Keeps counts and leaves out the bounds of cells: the answer shrinks to less than half."""
    trimmed = [f"-aggregations.**.cells*.buckets.{name}" for name in TRIMMED]
    return ",".join(["aggregations", *trimmed])


def cost(request: SummaryRequest, parts: frozenset[PartName]) -> int:
    """About how many buckets one node makes, by which a request is cut to the server's limit."""
    made = 0
    if PartName.CORE in parts:
        made += LATENCY.size + 3 * SCORE_CELLS + 2 * len(request.attributions)
    if PartName.CELLS in parts and request.edges is not None:
        made += sum(e.size for e in request.edges.counted_numeric.values())
        made += sum(len(e.values) + len(e.others) for e in request.edges.categorical.values())
    if PartName.CUSTOM in parts:
        made += custom.cost(request.custom)
    if PartName.LABELS in parts:
        made += DELAY.size + 5 * SCORE_CELLS + len(request.probabilities) * 2 * (SCORE_CELLS + 1)
    return made


class _Level(NamedTuple):
    """One dimension of a grouping."""

    field: str
    known: Collection[str] | None
    """Its values where their list is full."""


def _groups(name: str, levels: Sequence[_Level], node: Json, partition: tuple[int, int]) -> Json:
    first, *rest = levels
    inside = _groups("group", rest, node, (0, 1)) if rest else node
    which, of = partition
    terms: Json = {"field": first.field, "size": MOST_GROUPS}
    if first.known is None:
        if of > 1:
            terms["include"] = {"partition": which, "num_partitions": of}
        return {name: {"terms": terms, "aggs": inside}}
    groups: Json = {}
    listed = sorted(set(first.known) - {OTHER})  # a row that says so is among the others, not beside them
    if mine := listed[which::of]:
        groups[name] = {"terms": terms | {"include": mine, "size": len(mine)}, "aggs": inside}
    if which == 0:
        beyond = [{"terms": {first.field: listed[i : i + _TERMS]}} for i in range(0, len(listed), _TERMS)]
        others = {"bool": {"filter": [{"exists": {"field": first.field}}], "must_not": beyond}}
        groups[name + BEYOND] = {"filter": others, "aggs": inside}
    return groups


def _node(place: Place, request: SummaryRequest, parts: frozenset[PartName]) -> Json:
    node: Json = {}
    if PartName.CORE in parts:
        node |= _core(place, request)
    if PartName.CELLS in parts and request.edges is not None:
        node |= _cells(place, request.edges)
    if PartName.CUSTOM in parts:
        node |= custom.aggregations(place, request.custom)
    if node and place.rewritten:
        node["writes"] = {"sum": {"field": "_seq_no"}}
    if PartName.LABELS in parts and place.labelled:
        node["labels"] = {"filter": place.labelled, "aggs": _labels(place, request)}
    return node


def _core(place: Place, request: SummaryRequest) -> Json:
    core = _all_stats(place, MOMENTS)
    if place.failed:
        core["errors"] = {"filter": place.failed}
    if latency := place.field("latency_ms"):
        core["cells_latency"] = _scale(LATENCY, latency)
    if predicted := place.field("prediction.class"):
        core["classes"] = _classes(predicted, _scores(place))
    for i, feature in enumerate(request.numeric):
        if number := place.numeric(feature):
            core[f"num{i}"] = _stats(number)
    for i, feature in enumerate(request.categorical):
        if text := place.categorical(feature):
            core[f"cat{i}"] = text.present()
    if request.invalid and (invalid := place.field("features.invalid")):
        core["invalid"] = _among(invalid, request.invalid)
    for i, feature in enumerate(request.attributions):
        if attribution := place.attribution(feature):
            core[f"att{i}"] = _by_sign(attribution)
    for i, name in enumerate(request.measured):
        if measurement := place.measurement(name):
            core[f"mea{i}"] = _stats(measurement)
    return core


def _cells(place: Place, edges: EdgeSet) -> Json:
    cells: Json = {}
    for i, (feature, numeric) in enumerate(edges.counted_numeric.items()):
        if number := place.field("prediction.value") if feature == VALUE else place.numeric(feature):
            cells[f"cells{i}"] = _range(number, numeric.edges)
    for i, (feature, known) in enumerate(edges.categorical.items()):
        if text := place.categorical(feature):
            cells[f"values{i}"] = _among(text, (*known.values, *known.others))
            cells[f"values{i}_present"] = text.present()
    return cells


def _labels(place: Place, request: SummaryRequest) -> Json:
    # Doubles, exact to 2^53: a bucket of 10 M labelled rows in an index of 900 M writes.
    labels: Json = {"fingerprint": {"sum": {"field": "_seq_no"}}, **_all_stats(place, LABEL_MOMENTS)}
    if delay := place.field("label.delay_ms"):
        labels["cells_delay"] = _scale(DELAY, delay)
    predicted, actual = place.field("prediction.class"), place.field("label.class")
    if predicted and actual:
        labels["classes"] = _classes(predicted, {"actual": _classes(actual, _scores(place))})
    if actual and request.probabilities:
        ranks = _ranks(place, actual, request.probabilities)
        labels["ranks"] = {"filter": {"exists": {"field": actual.path}}, "aggs": ranks}
    return labels


def _ranks(place: Place, actual: Field, classes: Sequence[str]) -> Json:
    """By each class's probability, all rows and those of the class: the others are the difference."""
    ranks: Json = {}
    for i, cls in enumerate(classes):
        if probability := place.probability(cls):
            ranks[f"cells_all{i}"] = probability.scores()
            own = {"cells": probability.scores()}
            ranks[f"own{i}"] = {"filter": {"term": {actual.path: cls}}, "aggs": own}
    return ranks


def _scores(place: Place) -> Json:
    score = place.field("prediction.probability")
    if score is None:
        return {}
    return {"scores": score.scores()}


def _all_stats(place: Place, names: Mapping[str, str]) -> Json:
    fields = {name: place.field(path) for name, path in names.items()}
    return {name: _stats(field) for name, field in fields.items() if field}


def _stats(field: Field) -> Json:
    return {"extended_stats": {"field": field.path}}


def _by_sign(field: Field) -> Json:
    """The values under 0 and the others apart: the moments of absolute values follow, without a script."""
    signs = {"field": field.path, "ranges": [{"to": 0.0}, {"from": 0.0}]}
    return {"range": signs, "aggs": {"of": _stats(field)}}


def _classes(field: Field, inside: Json) -> Json:
    return {"terms": {"field": field.path, "size": MOST_CLASSES}, "aggs": inside}


def _among(field: Field, values: Sequence[str]) -> Json:
    return {"terms": {"field": field.path, "include": list(values), "size": len(values)}}


def _range(field: Field, edges: Sequence[float]) -> Json:
    return {"range": {"field": field.path, "ranges": _ranges(field.edges(edges))}}


def _scale(scale: LogScale, field: Field) -> Json:
    return _range(field, _edges_of(scale))


@lru_cache(maxsize=8)
def _edges_of(scale: LogScale) -> tuple[float, ...]:
    return tuple(float(edge) for edge in scale.edges)


@lru_cache(maxsize=4_096)
def _ranges(edges: tuple[float, ...]) -> tuple[dict[str, Any], ...]:
    """*below*, the half-open cells, *above*."""
    inner = ({"from": a, "to": b} for a, b in pairwise(edges))
    return ({"to": edges[0]}, *inner, {"from": edges[-1]})
