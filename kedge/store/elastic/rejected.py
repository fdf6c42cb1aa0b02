"""Rows that could not be stored, with their reasons, by the day they arrived."""

from collections.abc import Sequence

from kedge.errors import StoreUnavailable
from kedge.store.base import Json, RejectedRow
from kedge.store.elastic.client import SEARCH_PAGE, Client
from kedge.store.elastic.encode import millis
from kedge.store.elastic.indices import Addressed, Indices
from kedge.store.elastic.names import Names
from kedge.store.elastic.operations import Operation


class Rejected:
    """`LogStore.reject` and `rejected`."""

    def __init__(self, client: Client, names: Names, indices: Indices) -> None:
        self._client = client
        self._names = names
        self._indices = indices

    def reject(self, rows: Sequence[RejectedRow]) -> None:
        documents = []
        for row in rows:
            alias = self._names.rejected(row.at)
            operation = Operation.of("create", _document(row), _index=alias, _id=row.id)
            documents.append(Addressed(alias, operation))
        for item in self._indices.write(documents):
            if not (item.ok or item.conflict or item.retired):
                raise StoreUnavailable(f"{self._client.host} refuses a rejected row: {item.reason}")

    def rejected(self, limit: int) -> list[RejectedRow]:
        body = {
            "sort": [{"@timestamp": "desc"}],
            "size": min(limit, SEARCH_PAGE),
            "track_total_hits": False,
        }
        self._client.refresh(self._names.all_rejected)
        hits = self._client.search(self._names.all_rejected, body, filter_path="hits.hits._source")
        return [_row(hit["_source"]) for hit in hits.get("hits", {}).get("hits", [])]


def _document(row: RejectedRow) -> Json:
    document: Json = {"@timestamp": row.at, "reason": row.reason, "row": row.row}
    if row.model:
        document["model"] = {"name": row.model}
    if row.event:
        document["event"] = {"id": row.event}
    return document


def _row(source: Json) -> RejectedRow:
    return RejectedRow(
        millis(source["@timestamp"]),
        source["reason"],
        source["row"],
        source.get("model", {}).get("name", ""),
        source.get("event", {}).get("id", ""),
    )
