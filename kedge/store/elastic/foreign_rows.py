"""Rows of a source one by one: how many there are, and a few for people to look at."""

from collections.abc import Mapping
from typing import Any

from kedge.store.base import Json
from kedge.store.elastic.client import SEARCH_PAGE, Client
from kedge.store.elastic.flawed import flawed
from kedge.store.elastic.foreign import ForeignPlace
from kedge.store.flaws import Flaw
from kedge.windows import Window, iso


def count_rows(client: Client, index: str, query: Json, wildcards: str) -> int:
    body = {"size": 0, "track_total_hits": True, "query": query}
    answer = client.search(index, body, filter_path="hits.total.value", expand_wildcards=wildcards)
    return int(answer.get("hits", {}).get("total", {}).get("value", 0))


def foreign_examples(
    client: Client, place: ForeignPlace, model: str, window: Window, limit: int, flaw: Flaw | None
) -> list[Json]:
    """Rows as documents by kedge's names (DESIGN §4), whatever theirs are."""
    shown = {name: field.path for name, field in place.fields.items() if name != "timestamp"}
    asked: list[Json] = [{"field": path} for path in sorted(set(shown.values()))]
    asked.append(
        {"field": place.timestamp, "format": "epoch_millis"} if place.dated else {"field": place.timestamp}
    )
    body = {
        "query": place.rows(model, window, *flawed(place, model, flaw)),
        "sort": [{place.timestamp: "desc"}],
        "size": min(limit, SEARCH_PAGE),
        "track_total_hits": False,
        "_source": False,
        "fields": asked,
    }
    answer = client.search(
        place.everywhere, body, filter_path="hits.hits._id,hits.hits.fields", expand_wildcards=place.wildcards
    )
    return [_example(place, model, hit, shown) for hit in answer.get("hits", {}).get("hits", [])]


def _example(place: ForeignPlace, model: str, hit: Json, shown: Mapping[str, str]) -> Json:
    fields: dict[str, list[Any]] = hit.get("fields", {})
    time = float(fields[place.timestamp][0])
    document: Json = {
        "@timestamp": iso(int(time)),
        "event": {"id": hit["_id"]},
        "model": {"name": model},
    }
    for name, path in shown.items():
        if values := fields.get(path):
            value = values[0] if len(values) == 1 else values
            if name in ("latency", "label.delay"):
                name, value = f"{name}_ms", float(values[0]) / place.fields[name].per
            elif name == "error":
                name = "error.type"
            _put(document, name, value)
    return document


def _put(document: Json, name: str, value: Any) -> None:
    """Into nested maps; what follows `segment.` or `features.num.` is one name, dots and all."""
    depth = 2 if name.startswith("features.") else 1
    *outer, last = name.split(".", depth)
    for step in outer:
        document = document.setdefault(step, {})
    document[last] = value
