"""The values of one field: a `terms` aggregation over the rows that are asked for."""

from kedge.store.base import Json
from kedge.store.elastic.client import Client
from kedge.store.elastic.place import Field, Place
from kedge.store.values import CLASS, EXAMPLES, FEATURE, MOST_VALUES, ValueCount, ValueQuery

_NAME = "values"
"""A name that places read keys of as texts."""


def values_of(client: Client, place: Place, query: ValueQuery) -> list[ValueCount]:
    """What `LogStore.values` gives of one place."""
    field, group = _field(place, query.field), _group(place, query)
    if field is None or group is None or (query.among is not None and not query.among):
        return []
    counted: Json = {
        "terms": {
            "field": field.path,
            "size": MOST_VALUES,
            "shard_size": 10 * MOST_VALUES,  # so that several days agree on what is common
            "order": [{"_count": "desc"}, {"_key": "asc"}],
        }
    }
    if query.examples:
        newest: Json = {"size": EXAMPLES, "sort": [{place.timestamp: "desc"}], "_source": ["event.id"]}
        counted["aggs"] = {"newest": {"top_hits": newest}}
    body = {
        "size": 0,
        "query": place.rows(query.model, query.window, *group, *_only(place, field, query)),
        "aggs": {_NAME: counted},
    }
    answer = client.search(
        place.over(query.window), body, filter_path="aggregations", expand_wildcards=place.wildcards
    )
    found = place.read(answer.get("aggregations", {})).get(_NAME, {}).get("buckets", [])
    counts = [ValueCount(bucket["key"], bucket["doc_count"], _ids(bucket)) for bucket in found]
    return [count for count in counts if query.wanted(count.value)]


def _field(place: Place, name: str) -> Field | None:
    if name.startswith(FEATURE):
        return place.categorical(name.removeprefix(FEATURE))
    return place.field(name) if name == CLASS else place.dimension(name)


def _group(place: Place, query: ValueQuery) -> list[Json] | None:
    """The clauses for the rows of the group; None where no row can be of it."""
    clauses: list[Json] = []
    for name, value in query.group:
        field = place.dimension(name)
        if field is None:
            return None
        clauses.append({"term": {field.path: value}})
    return clauses


def _only(place: Place, field: Field, query: ValueQuery) -> list[Json]:
    """The clauses for the values. A source may keep them as numbers, of which texts cannot be asked: there
    they are picked from the answer."""
    if place.rewritten:
        return []
    wanted: list[Json] = [] if query.among is None else [{"terms": {field.path: sorted(query.among)}}]
    if query.without:
        wanted.append({"bool": {"must_not": [{"terms": {field.path: sorted(query.without)}}]}})
    return wanted


def _ids(bucket: Json) -> tuple[str, ...]:
    hits = bucket.get("newest", {}).get("hits", {}).get("hits", [])
    return tuple(str(hit.get("_source", {}).get("event", {}).get("id", hit["_id"])) for hit in hits)
