"""Time-named indices, created when their first document is written.

`kedge-predictions-default-2026.11.23` is an alias over `…-000001`, and every write requires the alias: a
write that comes after retention dropped an index then fails, instead of bringing the index back with
guessed types.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from kedge.errors import KedgeError, StoreUnavailable
from kedge.store.base import DocumentStore, Json
from kedge.store.elastic.client import Client, Refused
from kedge.store.elastic.names import Names, first_index, period_of, period_start, series_of, stream_of_alias
from kedge.store.elastic.operations import NOT_SENT, RETIRED, Item, Operation
from kedge.store.elastic.templates import DERIVED
from kedge.store.retention import DOCUMENT, Floors, Swept, too_old
from kedge.windows import Millis

_TEMPLATES = ("predictions", "summaries", "metrics", "labels", "rejected")
"""Collections with a template of their own."""
_ROUNDS = 3
"""A new alias is seen by the second try; the third is for one that retention drops in between."""


class Addressed(msgspec.Struct, frozen=True, gc=False):
    alias: str
    operation: Operation


class Indices:
    """Writes to aliases that may not exist yet. Needs the templates of `kedge setup`."""

    def __init__(self, client: Client, names: Names, state: DocumentStore) -> None:
        self._client = client
        self._names = names
        self._state = state
        self._templates: dict[str, Json] = {}
        self._named: bool | None = None

    def write(
        self, documents: Sequence[Addressed], mapping: Callable[[str], Json] | None = None
    ) -> list[Item]:
        """Bulk write, creating what is missing; what became of each document, in order. Raises as
        `Client.bulk`.

        `mapping` gives what the index behind an alias has besides its template, as far as there is room.
        """
        items = self._client.bulk_unsettled([d.operation for d in documents])
        for _ in range(_ROUNDS):
            homeless = [i for i, item in enumerate(items) if item.no_index]
            if not homeless:
                break
            again = self._rehomed([documents[i] for i in homeless], mapping)
            for i, item in zip(homeless, again, strict=True):
                items[i] = item
        for i, item in enumerate(items):
            if item.no_index:
                alias = documents[i].alias
                items[i] = Item(
                    NOT_SENT,
                    item.kind,
                    f"{self._client.host}: {first_index(alias)} exists without the alias {alias}: "
                    "put the alias on the index that should be written to",
                )
        return self._client.settled(items)

    def _rehomed(self, documents: Sequence[Addressed], mapping: Callable[[str], Json] | None) -> list[Item]:
        """What becomes of documents whose index was missing."""
        items: list[Item | None] = [None] * len(documents)
        try:
            for alias in {document.alias for document in documents}:
                floor = self._floor(alias)
                if floor is None:
                    self.create(alias, mapping(alias) if mapping else None)
                    continue
                for i, document in enumerate(documents):
                    if document.alias == alias:
                        items[i] = Item(410, RETIRED, too_old(floor))
        except StoreUnavailable as error:
            return [Item(NOT_SENT, "", str(error))] * len(documents)
        homed = [document.operation for document, item in zip(documents, items, strict=True) if item is None]
        written = iter(self._client.bulk_unsettled(homed) if homed else ())
        return [item or next(written) for item in items]

    def ensure(self, alias: str, mapping: Callable[[], Json]) -> None:
        """Create an index that is missing, unless retention has dropped it."""
        try:
            self._client.request("GET", f"/_alias/{alias}", verb="alias")
        except Refused as refused:
            if refused.status != 404:
                raise
            if self._floor(alias) is None:
                self.create(alias, mapping())

    def _floor(self, alias: str) -> Millis | None:
        """The retention floor, if the whole index lies before it: then it must not come back."""
        period = period_of(alias)
        stream = stream_of_alias(self._names.prefix, alias)
        if period is None or stream is None:
            return None
        stored = self._state.get(DOCUMENT)
        floor: Millis = getattr(Floors.of(stored.value["floors"]), stream) if stored else 0
        return floor if period.end <= floor else None

    def named(self) -> bool:
        """Whether a row whose event id is that of its document is stored without it.

        OpenSearch puts rows together from doc values, of which those of the ids are the widest by far: 12
        bytes a row for ids that count, 28 where they are random, beside `_id`, which has them anyway.
        Elasticsearch keeps them: there a field is offered for searching by its doc values alone.
        """
        if self._named is None:
            if not self._client.server.opensearch:
                self._named = False
                return False
            try:
                composed = self._template(self._names("predictions"))["composed_of"]
            except Refused:  # a key that may not look: the ids then cost their bytes
                composed = []
            self._named = self._names(DERIVED) in composed
        return self._named

    def retire(self, floors: Floors) -> Swept:
        """`Store.retire`: whole indices, by the periods in their names."""
        meta = self._template(self._names("predictions")).get("_meta", {})
        if meta.get("manager"):
            return Swept(managed=meta.get("retention", {}))
        found = self._client.request(
            "GET", f"/{self._names.prefix}-*", params={"filter_path": "*.settings.index.uuid"}, verb="list"
        )
        gone = []
        for index in sorted(found):
            alias = series_of(index)
            period, stream = period_of(alias), stream_of_alias(self._names.prefix, alias)
            if period is not None and stream is not None and period.end <= getattr(floors, stream):
                self._client.request(
                    "DELETE", f"/{index}", params={"ignore_unavailable": "true"}, verb="retire"
                )
                gone.append(index)
        return Swept(tuple(gone))

    def create(self, alias: str, mapping: Json | None = None) -> None:
        """An index and its alias, by the template; another writer may have been faster."""
        template = self._template(alias)
        settings: Json = {}
        lifecycle = template.get("_meta", {}).get("lifecycle", {}).get(self._family(alias))
        born = period_start(alias)
        if lifecycle:
            settings["index.lifecycle.name"] = lifecycle
            if born is not None:  # age by event time: a backfill of last month is a month old at once
                settings["index.lifecycle.origination_date"] = born
        body: Json = {"aliases": {alias: {}}, "settings": settings}
        if mapping:
            body["mappings"] = mapping
        try:
            self._client.request("PUT", f"/{first_index(alias)}", body, verb="create_index")
        except Refused as refused:
            if refused.kind == "resource_already_exists_exception":
                return
            if mapping and refused.status == 400:  # more fields than there may be: let each row say so
                self.create(alias)
                return
            raise

    def _family(self, alias: str) -> str:
        """What lifecycles are named by: `predictions`, `summaries-1m`."""
        rest = alias.removeprefix(f"{self._names.prefix}-")
        collection, _, tail = rest.partition("-")
        return (
            f"{collection}-{tail.partition('-')[0]}" if collection in ("summaries", "metrics") else collection
        )

    def _template(self, alias: str) -> Json:
        rest = alias.removeprefix(f"{self._names.prefix}-")
        collection = rest.partition("-")[0]
        name = self._names(collection if collection in _TEMPLATES else "documents")
        if name not in self._templates:
            try:
                answer = self._client.request("GET", f"/_index_template/{name}", verb="template")
            except Refused as refused:
                if refused.status == 404:
                    raise KedgeError(
                        f"{self._client.host} has no index template {name}: run `kedge setup` first"
                    ) from None
                raise
            self._templates[name] = answer["index_templates"][0]["index_template"]
        return self._templates[name]


def scroll(
    client: Client,
    index: str,
    body: Json,
    *,
    page: int,
    filter_path: str,
    keep: Callable[[Json], Any],
) -> list[Any]:
    """All hits of a search that is sorted by fields that never change, page by page through `search_after`.

    Such an order needs no point in time: a document rewritten meanwhile keeps its place.
    """
    kept: list[Any] = []
    after: list[Any] | None = None
    while True:
        asked = body | {"size": page, "track_total_hits": False}
        if after is not None:
            asked["search_after"] = after
        answer = client.search(index, asked, filter_path=f"hits.hits.sort,{filter_path}")
        hits = answer.get("hits", {}).get("hits", [])
        kept += [keep(hit) for hit in hits]
        if len(hits) < page:
            return kept
        after = hits[-1]["sort"]
