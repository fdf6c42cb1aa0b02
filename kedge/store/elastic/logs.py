"""Writing predictions, and reading a few of them back."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from kedge.records import OpenField, Prediction, open_fields
from kedge.store.base import AppendResult, Json, PartlyAppended, Written
from kedge.store.elastic.client import SEARCH_PAGE, Client, Refused
from kedge.store.elastic.encode import decode, encode
from kedge.store.elastic.flawed import flawed
from kedge.store.elastic.indices import Addressed, Indices
from kedge.store.elastic.names import Names, period_start
from kedge.store.elastic.namespaces import Namespaces, Stays, namespace_at, stored_name
from kedge.store.elastic.operations import Item, Operation, PartlyWritten
from kedge.store.elastic.place import Place
from kedge.store.elastic.shared import ID_BYTES, SharedIds, marked_id, plain
from kedge.store.elastic.templates import open_mapping
from kedge.store.flaws import Flaw
from kedge.windows import DAY, Millis, Window

_LIVE = 2 * DAY
"""An index of a day this near to now is made with all fields of its namespace, for they will all be there in
minutes. Older ones, of a backfill, get the fields of what is written to them."""
_MOST_SEEN = 100_000


class Logs:
    """`LogStore.append`, `reserve` and `examples`."""

    def __init__(
        self,
        client: Client,
        names: Names,
        indices: Indices,
        place: Place,
        namespaces: Namespaces,
        clock: Callable[[], Millis],
        shared: SharedIds,
    ) -> None:
        self._client = client
        self._names = names
        self._place = place
        self._indices = indices
        self._namespaces = namespaces
        self._clock = clock
        self._shared = shared
        self._seen: set[tuple[str, str]] = set()
        """The (alias, model) that this process has written."""

    def reserve(self, fields: Mapping[str, Collection[OpenField]]) -> None:
        self._namespaces.reserve(fields)

    def append(self, rows: Sequence[Prediction]) -> list[AppendResult]:
        results: list[AppendResult | None] = [None] * len(rows)
        places: list[int] = []
        documents: list[Addressed] = []
        stays = self._namespaces.of({row.model for row in rows})
        named = self._indices.named()
        aliases: dict[tuple[str, int], str] = {}
        for i, row in enumerate(rows):
            try:
                day = row.model, row.timestamp // DAY
                if (alias := aliases.get(day)) is None:
                    namespace = namespace_at(stays[row.model], row.timestamp)
                    alias = aliases[day] = self._names.predictions(row.timestamp, namespace)
                documents.append(self._addressed(row, alias, named))
                places.append(i)
            except (TypeError, ValueError, OverflowError) as error:
                results[i] = AppendResult(Written.REJECTED, str(error))
        stuck = self._write(rows, places, documents, results)
        taken = [
            (i, document.alias)
            for i, document in zip(places, documents, strict=True)
            if results[i] is _DUPLICATE and plain(rows[i].id)
        ]
        if taken and not stuck:
            stuck = self._write_beside(rows, taken, results)
        if stuck:
            raise PartlyAppended(str(stuck), results, stuck.status)
        return [result for result in results if result is not None]

    # --- for tables (table.py) --------------------------------------------------------------------

    def stays(self, model: str) -> Stays:
        """The namespaces of a model."""
        return self._namespaces.of({model})[model]

    def open(self, aliases: Collection[str], carrier: Prediction) -> None:
        """Make those indices that are missing, and map in all of them what `carrier` stands for."""
        for alias, names in self._prepare([(alias, carrier) for alias in sorted(aliases)]).items():
            self._indices.ensure(alias, partial(self._mapping_of, alias, names))

    def taken(self, rows: Sequence[Prediction], aliases: Sequence[str]) -> list[AppendResult]:
        """Of rows whose document id exists: duplicates, but for those whose id is another model's."""
        results: list[AppendResult | None] = [_DUPLICATE] * len(rows)
        stuck = self._write_beside(rows, list(enumerate(aliases)), results)
        if stuck:
            raise PartlyAppended(str(stuck), results)
        return [result for result in results if result is not None]

    def _write(
        self,
        rows: Sequence[Prediction],
        places: list[int],
        documents: list[Addressed],
        results: list[AppendResult | None],
    ) -> PartlyWritten | None:
        """Write the documents of the rows at `places`; what became of each goes to its place in `results`."""
        fresh = self._prepare([(d.alias, rows[i]) for i, d in zip(places, documents, strict=True)])
        stuck: PartlyWritten | None = None
        try:
            items = self._indices.write(
                documents, lambda alias: self._mapping_of(alias, fresh.get(alias, ()))
            )
        except PartlyWritten as error:
            stuck, items = error, error.items
        crowded: dict[str, set[OpenField]] = defaultdict(set)
        for i, document, item in zip(places, documents, items, strict=True):
            if item.status == 201:
                results[i] = _CREATED
                continue
            results[i] = _result(item)
            if item.full:
                crowded[rows[i].model] |= open_fields(rows[i])
                results[i] = AppendResult(Written.REJECTED, self._no_room(document.alias, item))
        if crowded:
            self._namespaces.crowded(crowded)
        return stuck

    def _write_beside(
        self,
        rows: Sequence[Prediction],
        taken: list[tuple[int, str]],
        results: list[AppendResult | None],
    ) -> PartlyWritten | None:
        """Of the rows whose document id was taken, write those that another model's row has it from."""
        docs = [{"_index": alias, "_id": rows[i].id} for i, alias in taken]
        owned = {"_source_includes": "model.name"}
        answer = self._client.request("POST", "/_mget", {"docs": docs}, params=owned)
        places: list[int] = []
        documents: list[Addressed] = []
        for (i, alias), found in zip(taken, answer["docs"], strict=True):
            # One that is gone was in an index that retention has just dropped: a duplicate, as it was.
            owner = found.get("_source", {}).get("model", {}).get("name")
            if owner not in (rows[i].model, None):
                id = marked_id(rows[i].id, rows[i].model)
                places.append(i)
                documents.append(Addressed(alias, Operation.create(alias, id, encode(rows[i]))))
        if not documents:
            return None
        self._shared.record({rows[i].model for i in places})
        return self._write(rows, places, documents, results)

    def _addressed(self, row: Prediction, alias: str, named: bool) -> Addressed:
        id = row.id
        if not 0 < len(id.encode()) <= ID_BYTES:
            raise ValueError(f"event.id must have 1 to {ID_BYTES} bytes")
        if not plain(id):
            self._shared.record({row.model})
            id = marked_id(id, row.model)
        return Addressed(alias, Operation.create(alias, id, encode(row, named=named and id == row.id)))

    # --- fields -----------------------------------------------------------------------------------

    def _prepare(self, rows: Collection[tuple[str, Prediction]]) -> dict[str, set[str]]:
        """Map the fields of models that an index has not had from this process yet, all at once.

        Returns them by alias, for those whose index is yet to be made.
        """
        first = {(alias, row.model) for alias, row in rows} - self._seen
        if not first:
            return {}
        fields: dict[str, set[str]] = defaultdict(set)
        for alias, row in rows:
            if (alias, row.model) in first:
                fields[alias].update(map(stored_name, open_fields(row)))
        for alias, names in fields.items():
            try:
                self._client.request("PUT", f"/{alias}/_mapping", open_mapping(names), verb="map_fields")
            except Refused as refused:
                if refused.status not in (400, 404):
                    raise
                # No such index yet; or no room for all of them: then each row is told by itself.
        if len(self._seen) > _MOST_SEEN:
            self._seen = set()
        self._seen |= first
        return fields

    def _mapping_of(self, alias: str, fields: Iterable[str]) -> Json:
        """What a new index is made with, besides its template."""
        born = period_start(alias)
        names = set(fields)
        if born is not None and abs(self._clock() - born) < _LIVE:
            names |= self._namespaces.fields(self._names.namespace_of(alias))
        return open_mapping(names)

    def _no_room(self, alias: str, item: Item) -> str:
        return (
            f"its new field names find no room in {alias} ({item.reason}): "
            "log fewer distinct names, or raise index.mapping.total_fields.limit "
            f"in the component template {self._names('settings')}"
        )

    # --- reading ----------------------------------------------------------------------------------

    def examples(self, model: str, window: Window, limit: int, flaw: Flaw | None = None) -> list[Json]:
        body = {
            "query": self._place.rows(model, window, *flawed(self._place, model, flaw)),
            "sort": [{"@timestamp": "desc"}],
            "size": min(limit, SEARCH_PAGE),
            "track_total_hits": False,
        }
        index = self._place.over(window)
        kept = "hits.hits._id,hits.hits._source"
        hits = self._client.search(index, body, filter_path=kept).get("hits", {})
        return [decode(hit["_source"], hit["_id"]) for hit in hits.get("hits", [])]


_CREATED, _DUPLICATE = AppendResult(Written.CREATED), AppendResult(Written.DUPLICATE)


def _result(item: Item) -> AppendResult | None:
    if item.ok:
        return _CREATED
    if item.conflict:
        return _DUPLICATE
    if item.retired:
        return AppendResult(Written.REJECTED, f"timestamp {item.reason}")
    return None if item.unwritten else AppendResult(Written.REJECTED, item.reason)
