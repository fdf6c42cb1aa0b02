"""Labels joined in place, and those that wait for their prediction.

A row is read whole and written whole with its label, under `if_seq_no`: of two writers one is refused,
reads again and decides anew by `Label.rank`. So the highest rank wins whatever the order, and nobody holds
a lock. The partial `update` of the servers would read each row once more by itself: measured at a quarter
of the speed where rows are put together from doc values (docs/decisions/0002-storage-profile.md).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from kedge.errors import StoreUnavailable
from kedge.records import Label
from kedge.store.base import Joined, Json, PendingCounts, digest
from kedge.store.elastic.client import SEARCH_PAGE, Client, Operation
from kedge.store.elastic.encode import relabelled, stored_label
from kedge.store.elastic.indices import Addressed, Indices, scroll
from kedge.store.elastic.names import Names, series_of
from kedge.windows import HOUR, MINUTE, Millis

_IDS = 5_000
"""Ids in one search."""
_ATTEMPTS = 8
"""Rounds of read and compare-and-set against concurrent writers of the same rows."""
_LONGEST_WAIT = 6 * HOUR


class _Stored(NamedTuple):
    """A prediction as found."""

    home: str
    """The index behind the alias."""
    id: str
    seq_no: int
    primary_term: int
    source: Json


class _Pending(NamedTuple):
    key: str
    attempts: int
    label: Label


class Labels:
    """`LogStore.label` and `join_pending`."""

    def __init__(self, client: Client, names: Names, indices: Indices) -> None:
        self._client = client
        self._names = names
        self._indices = indices
        self._pending = names("labels-pending")

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
        decided = dict.fromkeys(best.values(), Joined.WAITING)
        for batch in _batched(best.values(), _IDS):
            wanted: dict[str, list[int]] = {}
            for i in batch:
                wanted.setdefault(labels[i].id, []).append(i)
            for stored, i in self._settle(labels, wanted, self._find(list(wanted))):
                # An id in several indices (its times differed) is joined in each: one that took it is a join.
                if decided[i] is not Joined.JOINED:
                    decided[i] = stored
        return [
            decided[i] if i in decided else self._beaten(decided[best[label.id, label.model]])
            for i, label in enumerate(labels)
        ]

    @staticmethod
    def _beaten(winner: Joined) -> Joined:
        """What a label is whose better rival in the same call came to `winner`."""
        return Joined.WAITING if winner is Joined.WAITING else Joined.SUPERSEDED

    def _settle(
        self, labels: Sequence[Label], wanted: dict[str, list[int]], found: list[_Stored]
    ) -> Iterator[tuple[Joined, int]]:
        """Compare-and-set each found row until it carries the best label; who came to what."""
        for _ in range(_ATTEMPTS):
            updates: list[tuple[_Stored, int]] = []
            operations = []
            for stored in found:
                mine = [i for i in wanted[stored.id] if labels[i].model in (None, _model(stored))]
                if not mine:
                    continue
                i = max(mine, key=lambda i: labels[i].rank)
                yield from ((Joined.SUPERSEDED, other) for other in mine if other != i)
                held = stored_label(stored.source, stored.id)
                if held is not None and held.rank >= labels[i].rank:
                    yield Joined.SUPERSEDED, i
                    continue
                updates.append((stored, i))
                operations.append(_write_back(stored, labels[i]))
            items = self._client.bulk(operations)
            raced = []
            for (stored, i), item in zip(updates, items, strict=True):
                if item.ok:
                    yield Joined.JOINED, i
                elif item.conflict:
                    raced.append(stored)
                elif item.status != 404:  # 404: retention dropped the row in between, so it waits and expires
                    raise StoreUnavailable(f"{self._client.host} refuses a label: {item.reason}")
            if not raced:
                return
            found = self._reread(raced)
        raise StoreUnavailable(f"{self._client.host}: other writers keep changing the same predictions")

    def _find(self, ids: list[str]) -> list[_Stored]:
        body = {
            "query": {"ids": {"values": ids}},
            "size": SEARCH_PAGE,
            "seq_no_primary_term": True,
            "sort": ["_doc"],
            "track_total_hits": False,
        }
        answer = self._client.search(
            self._names.all_predictions,
            body,
            filter_path="hits.hits._index,hits.hits._id,hits.hits._seq_no,hits.hits._primary_term,hits.hits._source",
        )
        return [_stored(hit) for hit in answer.get("hits", {}).get("hits", [])]

    def _reread(self, rows: Iterable[_Stored]) -> list[_Stored]:
        """As they are now: reads by id see writes that a search does not yet."""
        docs = [{"_index": r.home, "_id": r.id} for r in rows]
        answer = self._client.request("POST", "/_mget", {"docs": docs})
        return [_stored(doc) for doc in answer["docs"] if doc.get("found")]

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

    def join_pending(self, now: Millis, expiry: Millis) -> PendingCounts:
        self._client.refresh(self._pending)
        due = self._due(now, expiry)
        if not due:
            return PendingCounts(0, 0, self._waiting(), 0)
        self._client.refresh(self._names.all_predictions)
        results = self._join([p.label for p in due])
        operations = []
        tally = dict.fromkeys(Joined, 0)
        expired = 0
        for pending, result in zip(due, results, strict=True):
            if result is not Joined.WAITING:
                tally[result] += 1
            elif pending.label.ingested < now - expiry:
                expired += 1
            else:
                wait = min(MINUTE * 2**pending.attempts, _LONGEST_WAIT)
                body = _pending_document(pending.label, pending.attempts + 1, now + wait)
                operations.append(Operation.of("index", body, _index=self._pending, _id=pending.key))
                continue
            operations.append(Operation.of("delete", _index=self._pending, _id=pending.key))
        self._write(operations)
        self._client.refresh(self._pending)
        return PendingCounts(tally[Joined.JOINED], tally[Joined.SUPERSEDED], self._waiting(), expired)

    def _due(self, now: Millis, expiry: Millis) -> list[_Pending]:
        """Those to try: due again, or about to be given up."""
        ready = [{"range": {"due": {"lte": now}}}, {"range": {"ingested": {"lt": now - expiry}}}]
        body = {
            "query": {"bool": {"should": ready, "minimum_should_match": 1}},
            "sort": [{"ingested": "asc"}, {"key": "asc"}],
        }
        return scroll(
            self._client,
            self._pending,
            body,
            page=_IDS,
            filter_path="hits.hits._id,hits.hits._source",
            keep=_pending,
        )

    def _waiting(self) -> int:
        answer = self._client.search(
            self._pending, {"size": 0, "track_total_hits": True}, filter_path="hits.total.value"
        )
        return int(answer["hits"]["total"]["value"])


def _write_back(stored: _Stored, label: Label) -> Operation:
    return Operation.of(
        "index",
        relabelled(stored.source, label),
        # By its alias: a write to the index itself would bring it back where retention has just dropped it.
        _index=series_of(stored.home),
        _id=stored.id,
        if_seq_no=stored.seq_no,
        if_primary_term=stored.primary_term,
    )


def _stored(hit: Json) -> _Stored:
    return _Stored(hit["_index"], hit["_id"], hit["_seq_no"], hit["_primary_term"], hit.get("_source", {}))


def _model(stored: _Stored) -> str | None:
    name = stored.source.get("model", {}).get("name")
    return name if isinstance(name, str) else None


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
    return _Pending(hit["_id"], source["attempts"], label)


def _batched(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """itertools.batched, which Python 3.11 lacks."""
    held = list(values)
    for start in range(0, len(held), size):
        yield held[start : start + size]
