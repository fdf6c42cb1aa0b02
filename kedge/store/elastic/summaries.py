"""Packed parts of Summaries, kept under external versions: a stale worker's write is refused by the
server."""

import base64
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from kedge.errors import StoreUnavailable
from kedge.sketch import PartName, pack
from kedge.store.base import Grouping, Json, PartRow, SummaryKey, SummaryQuery, group_key, parse_group
from kedge.store.elastic.client import Client
from kedge.store.elastic.indices import Addressed, Indices, scroll
from kedge.store.elastic.names import Names
from kedge.store.elastic.operations import Operation
from kedge.windows import Millis, Window

_PAGE = 5_000
"""About 5 MB an answer."""
_MODELS = 5_000
"""Of one search: the servers take 65,536 values of a field."""
_HIT = "hits.hits._source,hits.hits._version"


class Summaries:
    """`SummaryStore`."""

    def __init__(self, client: Client, names: Names, indices: Indices) -> None:
        self._client = client
        self._names = names
        self._indices = indices

    def write(self, rows: Sequence[PartRow]) -> list[bool]:
        documents = []
        for row in rows:
            alias = self._names.series("summaries", row.key.tier, row.key.bucket)
            documents.append(Addressed(alias, versioned(alias, row.key.id, row.version, _document(row))))
        return write_versioned(self._client, self._indices, documents)

    def read_many(self, queries: Sequence[SummaryQuery]) -> list[list[PartRow]]:
        """One search, page by page, for all that differ in model and edges alone."""
        alike: dict[tuple[Any, ...], dict[str, list[int]]] = {}
        for i, query in enumerate(queries):
            if query.parts:
                kind = (query.tier, query.window, query.parts, query.grouping)
                alike.setdefault(kind, {}).setdefault(query.model, []).append(i)
        answers: list[list[PartRow]] = [[] for _ in queries]
        for (tier, window, parts, grouping), by_model in alike.items():
            of_model = [queries[i] for numbers in by_model.values() for i in numbers]
            on = {PartName.CELLS: {q.edges for q in of_model}, PartName.CUSTOM: {q.custom for q in of_model}}
            conditions = [_content(parts, on)]
            if grouping is not None:
                conditions.append({"term": {"grouping": _grouping_key(grouping)}})
            for row in self._search(by_model, tier, window, conditions, {}, _row):
                for i in by_model[row.key.model]:
                    if row.key.edges == _on(queries[i]).get(row.key.part, row.key.edges):
                        answers[i].append(row)
        return answers

    def versions_many(self, models: Collection[str], tier: Millis, window: Window) -> dict[SummaryKey, int]:
        content = {"_source": {"excludes": ["data"]}}
        return dict(self._search(models, tier, window, [], content, lambda hit: (_key(hit), hit["_version"])))

    def _search(
        self,
        models: Collection[str],
        tier: Millis,
        window: Window,
        conditions: list[Json],
        content: Json,
        keep: Any,
    ) -> Iterator[Any]:
        buckets = {"gte": window.start, "lt": window.end, "format": "epoch_millis"}
        index = self._names.series_over("summaries", tier, window)
        names = sorted(models)
        for start in range(0, len(names), _MODELS):
            some = {"terms": {"model.name": names[start : start + _MODELS]}}
            body = {
                "query": {"bool": {"filter": [some, {"range": {"bucket": buckets}}, *conditions]}},
                "sort": [{"bucket": "asc"}, {"key": "asc"}],
                "version": True,
            }
            yield from scroll(self._client, index, body | content, page=_PAGE, filter_path=_HIT, keep=keep)


def _on(query: SummaryQuery) -> dict[PartName, str]:
    """By part: the only edges, or definitions, that it is wanted on."""
    return {PartName.CELLS: query.edges, PartName.CUSTOM: query.custom}


def _content(parts: Collection[PartName], on: Mapping[PartName, Collection[str]]) -> Json:
    """The condition for these parts, those that are on edges or definitions only on one of these."""
    wanted: list[Json] = []
    for part in sorted(parts):
        of_part: list[Json] = [{"term": {"part": part.value}}]
        if part in on:
            of_part.append({"terms": {"edges": sorted(on[part])}})
        wanted.append({"bool": {"filter": of_part}})
    return {"bool": {"should": wanted, "minimum_should_match": 1}}


def versioned(alias: str, id: str, version: int, source: Json) -> Operation:
    """Write where `version` is at least the stored one."""
    return Operation.of("index", source, _index=alias, _id=id, version=version, version_type="external_gte")


def write_versioned(
    client: Client,
    indices: Indices,
    documents: Sequence[Addressed],
    *,
    refresh: bool = True,
    narrower: Callable[[int], Addressed] | None = None,
) -> list[bool]:
    """Which of them were written; False where a newer version stands, or retention is past. With `refresh`
    visible to searches on return, else within a second or so. `narrower` gives a document anew, by its
    index, without the fields that its index has no room for."""
    items = indices.write(documents)
    full = [i for i, item in enumerate(items) if item.full]
    if full and narrower:
        for i, item in zip(full, indices.write([narrower(i) for i in full]), strict=True):
            items[i] = item
    failed = next((item for item in items if not (item.ok or item.conflict or item.retired)), None)
    if failed:
        raise StoreUnavailable(f"{client.host} refuses a document of kedge's own: {failed.reason}")
    aliases = sorted({d.alias for d, item in zip(documents, items, strict=True) if item.ok and refresh})
    for start in range(0, len(aliases), 40):  # the servers limit the length of a request line
        client.refresh(",".join(aliases[start : start + 40]))
    return [item.ok for item in items]


def _grouping_key(grouping: Grouping) -> str:
    return json.dumps(list(grouping), separators=(",", ":"), ensure_ascii=False)


def _document(row: PartRow) -> Json:
    key = row.key
    return {
        "key": key.id,
        "model": {"name": key.model},
        "group": group_key(key.group),
        "grouping": _grouping_key(key.grouping),
        "tier": key.tier,
        "bucket": key.bucket,
        "part": key.part.value,
        "edges": key.edges,
        "data": base64.b64encode(pack(row.part)).decode(),
    }


def _key(hit: Json) -> SummaryKey:
    source = hit["_source"]
    return SummaryKey(
        source["model"]["name"],
        parse_group(source["group"]),
        source["tier"],
        source["bucket"],
        PartName(source["part"]),
        source["edges"],
    )


def _row(hit: Json) -> PartRow:
    key = _key(hit)
    return PartRow(key, hit["_version"], base64.b64decode(hit["_source"]["data"]))
