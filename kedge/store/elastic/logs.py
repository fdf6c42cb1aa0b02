"""Writing predictions, and reading a few of them back."""

from collections.abc import Sequence

from kedge.records import Prediction
from kedge.store.base import AppendResult, Json, PartlyAppended, Written
from kedge.store.elastic.client import SEARCH_PAGE, Client, Item, Operation, PartlyWritten
from kedge.store.elastic.encode import decode, encode
from kedge.store.elastic.indices import Addressed, Indices
from kedge.store.elastic.names import Names
from kedge.store.elastic.place import Place
from kedge.windows import Window

_ID_BYTES = 512
"""The servers' limit. A longer id would have the whole bulk request refused."""


class Logs:
    """`LogStore.append` and `examples`."""

    def __init__(self, client: Client, names: Names, indices: Indices, place: Place) -> None:
        self._client = client
        self._names = names
        self._place = place
        self._indices = indices

    def append(self, rows: Sequence[Prediction]) -> list[AppendResult]:
        results: list[AppendResult | None] = [None] * len(rows)
        places: list[int] = []
        documents: list[Addressed] = []
        for i, row in enumerate(rows):
            try:
                documents.append(self._addressed(row))
                places.append(i)
            except (TypeError, ValueError, OverflowError) as error:
                results[i] = AppendResult(Written.REJECTED, str(error))
        stuck: PartlyWritten | None = None
        try:
            items = self._indices.write(documents)
        except PartlyWritten as error:
            stuck, items = error, error.items
        for i, item in zip(places, items, strict=True):
            results[i] = _result(item)
        if stuck:
            raise PartlyAppended(str(stuck), results)
        return [result for result in results if result is not None]

    def _addressed(self, row: Prediction) -> Addressed:
        if not 0 < len(row.id.encode()) <= _ID_BYTES:
            raise ValueError(f"event.id must have 1 to {_ID_BYTES} bytes")
        alias = self._names.predictions(row.timestamp)
        return Addressed(alias, Operation.create(alias, row.id, encode(row)))

    def examples(self, model: str, window: Window, limit: int) -> list[Json]:
        body = {
            "query": self._place.rows(model, window),
            "sort": [{"@timestamp": "desc"}],
            "size": min(limit, SEARCH_PAGE),
            "track_total_hits": False,
        }
        index = self._place.over(window)
        hits = self._client.search(index, body, filter_path="hits.hits._source").get("hits", {})
        return [decode(hit["_source"]) for hit in hits.get("hits", [])]


_CREATED, _DUPLICATE = AppendResult(Written.CREATED), AppendResult(Written.DUPLICATE)


def _result(item: Item) -> AppendResult | None:
    if item.ok:
        return _CREATED
    if item.conflict:
        return _DUPLICATE
    return None if item.unwritten else AppendResult(Written.REJECTED, item.reason)
