"""Users' own metrics as queries and aggregations, and the parts that are read from the answers.

Filters are put as the server's own queries, never as its query language, whose analysers and wildcards would
give them another meaning. Features are not indexed: a filter on one reads their doc values, row by row of the
bucket, which a summary reads once. Quantiles and different values are as in every store; sums of a double
that the embedded store keeps as a float32 (`business.*`) agree to seven digits.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from kedge.sketch import Counted, Counts, Custom, Distinct, Moments, Tally, What
from kedge.sketch.custom import MOST_DISTINCT, hash_of, no_cells
from kedge.sketch.custom_tally import number_text
from kedge.sketch.where import And, Begins, Between, Exists, Is, Kind, Not, Or, Where, kind_of
from kedge.store.base import Json
from kedge.store.elastic.place import Field, Place

PREFIX = "own"
"""How the names begin of the aggregations of one request's `custom`, by their place in it."""
_NOTHING: Json = {"match_none": {}}


def aggregations(place: Place, counted: Sequence[Counted]) -> Json:
    """One aggregation each; what the place has no field for is left out."""
    return {f"{PREFIX}{i}": _one(place, one) for i, one in enumerate(counted)}


def cost(counted: Sequence[Counted]) -> int:
    """About how many buckets they make in one node."""
    each = {What.CELLS: 2, What.DISTINCT: MOST_DISTINCT // 4}
    cells = sum(one.scale.size for one in counted if one.what is What.CELLS)
    return cells + sum(each.get(one.what, 1) for one in counted)


def _one(place: Place, one: Counted) -> Json:
    found: Json = {"filter": {"match_all": {}} if one.where is None else query(place, one.where)}
    field = field_of(place, one.field) if one.field else None
    if field is None:
        return found
    inside: Json = {}
    if one.what in (What.VALUES, What.CELLS):
        inside[_stats(one)] = {"extended_stats": {"field": field.path}}
    if one.what is What.CELLS:
        edges = field.edges(tuple(float(edge) for edge in one.scale.edges))
        ranges = [{"from": a, "to": b} for a, b in pairwise(edges)]
        inside["cells"] = {
            "range": {"field": field.path, "ranges": [{"to": edges[0]}, *ranges, {"from": edges[-1]}]}
        }
    if one.what is What.DISTINCT:
        inside["values"] = {"terms": {"field": field.path, "size": MOST_DISTINCT + 1}}
    return found | {"aggs": inside}


def _stats(one: Counted) -> str:
    """What its `extended_stats` are called: a place knows latency by its name, and reads it as ms."""
    return one.field if one.field == "latency_ms" else "of"


def field_of(place: Place, name: str) -> Field | None:
    """The stored field of a field of filters."""
    for stem, find in (("features.num.", place.numeric), ("features.cat.", place.categorical)):
        if name.startswith(stem):
            return find(name.removeprefix(stem))
    if name == "model.version":
        return place.dimension("version")
    if name in ("service.name", "host.name") or name.startswith("segment."):
        return place.dimension(name.removesuffix(".name"))
    if name.startswith(("business.", "resource.")):
        return place.measurement(name)
    return place.field(name)


def query(place: Place, where: Where) -> Json:
    """The server's query for a filter; a field that the place has not is in no row."""
    match where:
        case And(of):
            return {"bool": {"filter": [query(place, one) for one in of]}}
        case Or(of):
            return {"bool": {"should": [query(place, one) for one in of], "minimum_should_match": 1}}
        case Not(one):
            return {"bool": {"must_not": [query(place, one)]}}
    if where.field == "event.outcome":
        return _outcome(place, where)
    field = field_of(place, where.field)
    if field is None:
        return _NOTHING
    match where:
        case Is(_, value):
            return {"term": {field.path: value}}
        case Begins(_, stem):
            return {"prefix": {field.path: stem}}
        case Exists():
            return {"exists": {"field": field.path}}
        case Between(_, low, high):
            bounds = {"gte": low, "lt": high}
            return {"range": {field.path: {k: _bound(field, v) for k, v in bounds.items() if v is not None}}}


def _outcome(place: Place, where: Is | Begins | Exists | Between) -> Json:
    """Every row is a success or a failure; what marks a failure is the place's own."""
    failed = place.failed or _NOTHING
    wanted = [
        failed if word == "failure" else {"bool": {"must_not": [failed]}}
        for word in ("failure", "success")
        if isinstance(where, Exists)
        or (isinstance(where, Is) and word == where.value)
        or (isinstance(where, Begins) and word.startswith(where.stem))
    ]
    return {"bool": {"should": wanted, "minimum_should_match": 1}} if wanted else _NOTHING


def _bound(field: Field, value: float) -> float:
    """The least stored number that is at least `value` as float32. The servers have -0 below 0."""
    if not math.isfinite(value):
        return math.copysign(1.7976931348623157e308, value)
    return field.edges((value,))[0] or -0.0


# --- answers ----------------------------------------------------------------------------------------


def part(counted: Sequence[Counted], node: Json, moments: Any) -> Custom:
    """The custom part from a node of an answer; `moments` reads `extended_stats`."""
    tallies = {}
    for i, one in enumerate(counted):
        answer = node.get(f"{PREFIX}{i}", {})
        rows = int(answer.get("doc_count", 0))
        if rows:
            tallies[one.key] = Tally(rows, *_content(one, answer, moments))
    return Custom(tallies)


def _content(one: Counted, answer: Json, moments: Any) -> tuple[Any, ...]:
    match one.what:
        case What.ROWS:
            return ()
        case What.VALUES:
            return (moments(answer.get(_stats(one), {})),)
        case What.CELLS:
            return moments(answer.get(_stats(one), {})), _cells(one, answer.get("cells", {}))
        case What.DISTINCT:
            return Moments.ZERO, no_cells(), _distinct(one, answer.get("values", {}))


def _cells(one: Counted, answer: Json) -> Counts:
    counts = [bucket["doc_count"] for bucket in answer.get("buckets", [])]
    return np.array(counts or [0] * one.scale.size, np.int64)


def _distinct(one: Counted, answer: Json) -> Distinct:
    keys = [bucket["key"] for bucket in answer.get("buckets", [])]
    more = len(keys) > MOST_DISTINCT or bool(answer.get("sum_other_doc_count"))
    text = number_text if kind_of(one.field) is Kind.NUMBER else str
    return Distinct.of(frozenset(hash_of(text(key)) for key in keys), more=more)
