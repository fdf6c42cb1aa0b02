"""Labels joined in place, and those that wait for their prediction.

A row is read whole and written whole with its label, under `if_seq_no`: of two writers one is refused,
reads again and decides anew by `Label.rank`. So the highest rank wins whatever the order, and nobody holds
a lock. The partial `update` of the servers would read each row once more by itself: measured at two
to three times the work (docs/decisions/0002-storage-profile.md).
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from kedge.errors import StoreUnavailable
from kedge.records import Label
from kedge.store.base import PENDING_A_CALL, DocumentStore, Joined, Json, PendingCounts, digest
from kedge.store.elastic.client import Client, Refused
from kedge.store.elastic.indices import Addressed, Indices
from kedge.store.elastic.names import Names, series_of
from kedge.store.elastic.operations import Item, Operation
from kedge.store.elastic.shared import SharedIds, marked_id, plain
from kedge.store.elastic.stored import Stored, find, reread
from kedge.store.expiry import Expiry, Held, Rejecting
from kedge.windows import HOUR, MINUTE, Millis

_IDS = 2_500
"""Ids in one search and one bulk request."""
_THREADS = 2
"""Batches under way at once: one is read or put together here while the server writes the other."""
_DUE = 5_000
"""Waiting labels that are tried, and counted out, together."""
_KEPT = "_id,_seq_no,_primary_term,_source"
_ATTEMPTS = 8
"""Rounds of read and compare-and-set against concurrent writers of the same rows."""
_LONGEST_WAIT = 6 * HOUR
_ROW = {"seq": {"type": "long", "index": False}, "index": {"type": "keyword", "index": False}}
"""`label.row`, which indices made by older templates lack."""


class _Pending(NamedTuple):
    key: str
    attempts: int
    label: Label
    seq_no: int
    primary_term: int

    def operation(self, alias: str, action: str, body: Json | None = None) -> Operation:
        """On this version of the document: what another worker has deleted does not come back, and what was
        sent anew since is not deleted."""
        where = {"if_seq_no": self.seq_no, "if_primary_term": self.primary_term}
        return Operation.of(action, body, _index=alias, _id=self.key, **where)


class Labels:
    """`LogStore.label` and `join_pending`."""

    def __init__(
        self,
        client: Client,
        names: Names,
        indices: Indices,
        shared: SharedIds,
        state: DocumentStore,
        reject: Rejecting,
    ) -> None:
        self._expiry = Expiry(state, self, reject)
        self._shared = shared
        self._client = client
        self._names = names
        self._indices = indices
        self._pending = names("labels-pending")
        self._uuids: dict[str, str] = {}
        self._narrow: set[str] = set()
        """Indices whose mapping has no `label.row`, and may not be given it."""

    def label(self, labels: Sequence[Label]) -> list[Joined]:
        results = self._join(labels)
        waiting = [label for label, result in zip(labels, results, strict=True) if result is Joined.WAITING]
        self._put_aside(waiting)
        return results

    # --- joining ----------------------------------------------------------------------------------

    def _join(self, labels: Sequence[Label]) -> list[Joined]:
        """Join what has a visible prediction; of several labels of one prediction only the best is tried."""
        best: dict[tuple[str, str | None], int] = {}
        for i, label in enumerate(labels):
            rival = best.get((label.id, label.model))
            if rival is None or label.rank > labels[rival].rank:
                best[label.id, label.model] = i
        wanted: dict[str, list[int]] = {}
        for i in best.values():
            wanted.setdefault(labels[i].id, []).append(i)
        decided = dict.fromkeys(best.values(), Joined.WAITING)
        if not decided:
            return []
        for settled in self._at_once(labels, list(_batched(wanted.items(), _IDS))):
            for stored, i in settled:
                # An id in several indices (its times differed) is joined in each: one that took it is a join.
                if decided[i] is not Joined.JOINED:
                    decided[i] = stored
        return [
            decided[i] if i in decided else self._beaten(decided[best[label.id, label.model]])
            for i, label in enumerate(labels)
        ]

    def _at_once(
        self, labels: Sequence[Label], batches: list[list[tuple[str, list[int]]]]
    ) -> Iterator[list[tuple[Joined, int]]]:
        """Who came to what, batch by batch; no id is in two of them."""
        models = self._shared.models()

        def settle(batch: list[tuple[str, list[int]]]) -> list[tuple[Joined, int]]:
            wanted = dict(batch)
            ids = [id for event, mine in batch for id in _document_ids(event, models, labels, mine)]
            found = [
                stored
                for some in _batched(ids, 2 * _IDS)
                for stored in find(self._client, self._names.all_predictions, some)
            ]
            return list(self._settle(labels, wanted, found))

        if len(batches) < 2:
            yield from map(settle, batches)
            return
        with ThreadPoolExecutor(_THREADS, "kedge-labels") as pool:
            yield from pool.map(settle, batches)

    @staticmethod
    def _beaten(winner: Joined) -> Joined:
        """What a label is whose better rival in the same call came to `winner`."""
        return Joined.WAITING if winner is Joined.WAITING else Joined.SUPERSEDED

    def _settle(
        self, labels: Sequence[Label], wanted: dict[str, list[int]], found: list[Stored]
    ) -> Iterator[tuple[Joined, int]]:
        """Compare-and-set each found row until it carries the best label; who came to what."""
        for _ in range(_ATTEMPTS):
            updates: list[tuple[Stored, int]] = []
            operations = []
            for stored in found:
                mine = [i for i in wanted.get(stored.event, ()) if labels[i].model in (None, stored.model)]
                if not mine:
                    continue
                i = max(mine, key=lambda i: labels[i].rank)
                yield from ((Joined.SUPERSEDED, other) for other in mine if other != i)
                if stored.held is not None and stored.held.rank >= labels[i].rank:
                    yield Joined.SUPERSEDED, i
                    continue
                updates.append((stored, i))
                operations.append(self._write_back(stored, labels[i]))
            raced = []
            for (stored, i), item in zip(updates, self._client.bulk(operations), strict=True):
                if item.ok:
                    yield Joined.JOINED, i
                elif item.conflict or self._widen(stored.home, item):
                    raced.append(stored)
                elif item.status != 404:  # 404: retention dropped the row in between, so it waits and expires
                    raise StoreUnavailable(f"{self._client.host} refuses a label: {item.reason}")
            if not raced:
                return
            found = reread(self._client, raced)
        raise StoreUnavailable(f"{self._client.host}: other writers keep changing the same predictions")

    def _write_back(self, stored: Stored, label: Label) -> Operation:
        uuid = None if stored.home in self._narrow else self._uuid(stored.home)
        return Operation.of(
            "index",
            stored.labelled(label, uuid),
            # By its alias: a write to the index itself would bring it back where retention has just dropped
            # it.
            _index=series_of(stored.home),
            _id=stored.id,
            if_seq_no=stored.seq_no,
            if_primary_term=stored.primary_term,
        )

    def _uuid(self, index: str) -> str:
        """One that is no longer true costs the change feed its distinction, never a change."""
        if index not in self._uuids:
            path = f"/{self._names.all_predictions}/_settings/index.uuid"
            answer = self._client.request("GET", path, params={"filter_path": "*.settings.index.uuid"})
            self._uuids = {name: entry["settings"]["index"]["uuid"] for name, entry in answer.items()}
        return self._uuids.get(index, "")

    def _widen(self, index: str, item: Item) -> bool:
        """An index made by an older template has no field for when a row arrived: whether that was it."""
        if item.kind != "strict_dynamic_mapping_exception":
            return False
        mapping = {"properties": {"label": {"properties": {"row": {"properties": _ROW}}}}}
        try:
            self._client.request("PUT", f"/{index}/_mapping", mapping, verb="put_mapping")
        except Refused:  # then the feed tells its labels as rows, too
            self._narrow.add(index)
        return True

    # --- waiting ----------------------------------------------------------------------------------

    def _put_aside(self, labels: Sequence[Label]) -> None:
        self._write(
            [
                Operation.of(
                    "create", _pending_document(label, 0, label.ingested), _index=self._pending, _id=key
                )
                for label in labels
                for key in [digest(label.id, label.model, label.rank)]
            ]
        )

    def _write(self, operations: Sequence[Operation]) -> None:
        for item in self._indices.write([Addressed(self._pending, o) for o in operations]):
            if not item.ok and not item.conflict and item.status != 404:
                raise StoreUnavailable(f"{self._client.host} refuses a pending label: {item.reason}")

    def join_pending(self, now: Millis, expiry: Millis, limit: int = PENDING_A_CALL) -> PendingCounts:
        tally = dict.fromkeys(Joined, 0)
        tried = expired = 0
        self._client.refresh(self._pending)
        while tried < limit and (due := self._due(now, expiry, min(_DUE, limit - tried))):
            if not tried:
                self._expiry.resume()
                self._client.refresh(self._names.all_predictions)
            expired += self._try(due, now, expiry, tally)
            tried += len(due)
            self._client.refresh(self._pending)
            if len(due) < _DUE:
                break
        waiting, left = self._counts(now, expiry)
        return PendingCounts(tally[Joined.JOINED], tally[Joined.SUPERSEDED], waiting, expired, left)

    def _try(self, due: Sequence[_Pending], now: Millis, expiry: Millis, tally: dict[Joined, int]) -> int:
        """Join what has its prediction by now, counted in `tally`; give up what is too old: how many."""
        operations, old = [], []
        for pending, result in zip(due, self._join([p.label for p in due]), strict=True):
            if result is not Joined.WAITING:
                tally[result] += 1
                operations.append(pending.operation(self._pending, "delete"))
            elif pending.label.ingested < now - expiry:
                old.append(Held(pending.key, pending.label))
            else:
                wait = min(MINUTE * 2**pending.attempts, _LONGEST_WAIT)
                body = _pending_document(pending.label, pending.attempts + 1, now + wait)
                operations.append(pending.operation(self._pending, "index", body))
        self._write(operations)
        return self._expiry.give_up(old, now, expiry) if old else 0

    def held(self, batch: Mapping[str, Millis]) -> list[Held]:
        return [Held(pending.key, pending.label) for pending in self._held(batch)]

    def forget(self, batch: Collection[Held]) -> None:
        found = self._held({held.key: held.label.ingested for held in batch})
        self._write([pending.operation(self._pending, "delete") for pending in found])

    def _held(self, batch: Mapping[str, Millis]) -> list[_Pending]:
        """Realtime by id."""
        found = []
        params = {"filter_path": ",".join(f"docs.{name}" for name in (*_KEPT.split(","), "found", "error"))}
        for keys in _batched(batch, _IDS):
            answer = self._client.request("POST", f"/{self._pending}/_mget", {"ids": keys}, params=params)
            for doc in answer["docs"]:
                if "error" in doc:
                    raise StoreUnavailable(f"{self._client.host}: {doc['error'].get('reason')}")
                if doc.get("found") and doc["_source"]["ingested"] == batch[doc["_id"]]:
                    found.append(_pending(doc))
        return found

    def _due(self, now: Millis, expiry: Millis, most: int) -> list[_Pending]:
        """Those to try: due again, or about to be given up."""
        body = {
            "query": _ready(now, expiry),
            "sort": [{"due": "asc"}, {"key": "asc"}],
            "size": most,
            "track_total_hits": False,
            "seq_no_primary_term": True,
        }
        kept = ",".join(f"hits.hits.{name}" for name in _KEPT.split(","))
        answer = self._client.search(self._pending, body, filter_path=kept)
        return [_pending(hit) for hit in answer.get("hits", {}).get("hits", [])]

    def _counts(self, now: Millis, expiry: Millis) -> tuple[int, int]:
        """How many wait, and how many of them are due."""
        body = {"size": 0, "track_total_hits": True, "aggs": {"due": {"filter": _ready(now, expiry)}}}
        answer = self._client.search(
            self._pending, body, filter_path="hits.total.value,aggregations.due.doc_count"
        )
        return int(answer["hits"]["total"]["value"]), int(answer["aggregations"]["due"]["doc_count"])


def _ready(now: Millis, expiry: Millis) -> Json:
    ready = [{"range": {"due": {"lte": now}}}, {"range": {"ingested": {"lt": now - expiry}}}]
    return {"bool": {"should": ready, "minimum_should_match": 1}}


def _document_ids(
    event: str, models: Sequence[str], labels: Sequence[Label], mine: Sequence[int]
) -> Iterator[str]:
    """Under what ids rows with this event id may be, for labels of any model, or of those they name."""
    if plain(event):
        yield event
    if models:
        named = {labels[i].model for i in mine}
        yield from (marked_id(event, model) for model in models if None in named or model in named)


def _pending_document(label: Label, attempts: int, due: Millis) -> Json:
    return {
        "key": digest(label.id, label.model, label.rank),
        "event": {"id": label.id},
        "model": {"name": label.model},
        "label": {"class": label.cls, "value": _finite(label.value), "timestamp": label.timestamp},
        "ingested": label.ingested,
        "attempts": attempts,
        "due": due,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _pending(hit: Json) -> _Pending:
    source: Json = hit["_source"]
    said = source["label"]
    label = Label(
        id=source["event"]["id"],
        timestamp=said["timestamp"],
        ingested=source["ingested"],
        cls=said["class"],
        value=said["value"],
        model=source["model"]["name"],
    )
    return _Pending(hit["_id"], source["attempts"], label, hit["_seq_no"], hit["_primary_term"])


def _batched(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """itertools.batched, which Python 3.11 lacks."""
    held = list(values)
    for start in range(0, len(held), size):
        yield held[start : start + size]
