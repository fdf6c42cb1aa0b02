"""The change feed of a source, and which features the rows it tells of have."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from kedge.store.base import Changes, Json
from kedge.store.elastic.client import Client
from kedge.store.elastic.feed import Feed, Shard, paths
from kedge.store.elastic.foreign import ForeignPlace, resolve, text_of
from kedge.store.sources import Source
from kedge.windows import MINUTE, Millis, Window

_FIELDS_AT_ONCE = 100
_MODELS_AT_ONCE = 500
_PAGE = 10_000


class ForeignFeed(Feed):
    """`changed` of one source. `place` is what was found there, None while no index is."""

    def __init__(self, client: Client, source: Source, prefix: str) -> None:
        self._source = source
        self._prefix = prefix
        found = resolve(client, source, prefix)
        self.place = found
        super().__init__(client, found or ForeignPlace(source, {}, source.index))

    def changed(self, since: Json) -> Changes:
        if self.place is None or not self.place.usable:
            return Changes(since, {})
        seen: dict[str, int] = since.get("shards", {})
        known: dict[str, str] = since.get("indices", {})
        shards = self.shards()
        moved = [s for s in shards if s.checkpoint > seen.get(s.key, -1)]
        for batch in paths(sorted({s.name for s in moved})):
            self._client.refresh(batch)
        if moved:
            # Looked up after the checkpoints: it has every field of every row below them.
            self.place = resolve(self._client, self._source, self._prefix) or self.place
        dirty: dict[str, set[Millis]] = defaultdict(set)
        for shard in moved:
            for model, minute in self._minutes(self.place, shard, seen.get(shard.key, -1)):
                dirty[model].add(minute)
        indices = {s.name: s.uuid for s in shards}
        # One that took another's place, under its name or behind an alias: the same rows, numbered anew.
        gone, come = known.keys() - indices.keys(), indices.keys() - known.keys()
        gone = {
            name for name in gone if not name.startswith(".ds-")
        }  # a stream's oldest drop off as it grows
        renewed = any(known.get(name, uuid) != uuid for name, uuid in indices.items())
        watermark = {"shards": {s.key: s.checkpoint for s in shards}, "indices": indices}
        # Whether a label came with its row or later, their rows do not tell.
        labelled = {model: set(minutes) for model, minutes in dirty.items()} if self.place.labelled else {}
        return Changes(watermark, dict(dirty), renewed or bool(gone and come), labelled)

    def _minutes(self, place: ForeignPlace, shard: Shard, after: int) -> Iterator[tuple[str, Millis]]:
        by_minute = {"date_histogram": {"field": place.timestamp, "fixed_interval": f"{MINUTE}ms"}}
        sources: list[Json] = [{"minute": by_minute}]
        if place.model_field:
            sources.append({"model": {"terms": {"field": place.model_field}}})
        composite: Json = {"size": _PAGE, "sources": sources}
        params = {} if shard.only else {"preference": f"_shards:{shard.number}"}
        arrived = {"range": {"_seq_no": {"gt": after, "lte": shard.checkpoint}}}
        while True:
            answer = self._client.search(
                shard.name,
                {
                    "size": 0,
                    "track_total_hits": False,
                    "query": {"bool": {"filter": [arrived, *place.clauses]}},
                    "aggs": {"touched": {"composite": composite}},
                },
                filter_path="aggregations.touched.after_key,aggregations.touched.buckets.key",
                **params,
            )
            page = answer.get("aggregations", {}).get("touched", {})
            for bucket in page.get("buckets", []):
                key = bucket["key"]
                yield place.source.model or text_of({"key": key["model"]}), int(key["minute"])
            if len(page.get("buckets", [])) < _PAGE:
                return
            composite = composite | {"after": page["after_key"]}


def features_in(
    client: Client, place: ForeignPlace, window: Window, wanted: Sequence[str], models: Sequence[str]
) -> dict[str, set[str]]:
    """By model: which of the features `wanted` have a value in a window."""
    found: dict[str, set[str]] = defaultdict(set)
    by_model: Json = {}
    if place.model_field:
        by_model = {"aggs": {"model": {"terms": {"field": place.model_field, "size": _MODELS_AT_ONCE}}}}
    for some in _pieces(models, _MODELS_AT_ONCE if place.model_field else len(models)):
        # The terms of a numeric field of models take numbers for its values.
        clauses = [{"terms": {place.model_field: list(some)}}] if place.model_field else []
        for names in _pieces(wanted, _FIELDS_AT_ONCE):
            aggregations = {
                str(i): {"filter": {"exists": {"field": place.features[name].path}}, **by_model}
                for i, name in enumerate(names)
            }
            body = {
                "size": 0,
                "track_total_hits": False,
                "query": place.in_window(window, *clauses),
                "aggs": aggregations,
            }
            answer = client.search(
                place.everywhere, body, filter_path="aggregations", expand_wildcards=place.wildcards
            ).get("aggregations", {})
            for i, name in enumerate(names):
                one = answer.get(str(i), {})
                if not place.model_field and one.get("doc_count"):
                    found[place.source.model].add(name)
                for bucket in one.get("model", {}).get("buckets", []):
                    found[text_of(bucket)].add(name)
    return found


def _pieces(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
