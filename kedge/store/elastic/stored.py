"""A stored row as far as a label needs it, and the same row with another label.

The rest of the row is never decoded: its JSON is passed on as it came. That is a third of the time of a
label on this side of the wire.
"""

from typing import Any, NamedTuple

import msgspec
import orjson

from kedge.errors import PartialResult
from kedge.records import Label, outcome_of
from kedge.store.elastic.client import SEARCH_PAGE, Client
from kedge.store.elastic.encode import label_fields, millis
from kedge.store.elastic.names import unescape
from kedge.windows import Millis


class Origin(NamedTuple):
    """When a row arrived: the sequence number that it had before its first joined label, and the uuid of the
    index that gave it.

    Kept in `label.row.*`, so that the change feed can tell a row that arrived from one that was only
    labelled. In an index rebuilt from another the numbers are others, and the uuid tells so.
    """

    seq: int
    uuid: str


class _Event(msgspec.Struct):
    id: str = ""


class _Model(msgspec.Struct):
    name: str | None = None


class _Prediction(msgspec.Struct):
    cls: str | None = msgspec.field(name="class", default=None)
    probabilities: dict[str, float] | None = None
    value: float | None = None


class _Origin(msgspec.Struct):
    seq: int | None = None
    index: str | None = None


class _Label(msgspec.Struct):
    timestamp: int | str | None = None
    ingested: int | str | None = None
    cls: str | None = msgspec.field(name="class", default=None)
    value: float | None = None
    row: _Origin | None = None


class _Row(msgspec.Struct):
    timestamp: int | str = msgspec.field(name="@timestamp")
    event: _Event = msgspec.field(default_factory=_Event)
    model: _Model | None = None
    prediction: _Prediction | None = None
    label: _Label | msgspec.UnsetType | None = msgspec.UNSET
    outcome: Any = msgspec.UNSET


class _Hit(msgspec.Struct):
    index: str = msgspec.field(name="_index", default="")
    id: str = msgspec.field(name="_id", default="")
    seq_no: int = msgspec.field(name="_seq_no", default=-1)
    primary_term: int = msgspec.field(name="_primary_term", default=0)
    source: msgspec.Raw = msgspec.field(name="_source", default_factory=msgspec.Raw)
    found: bool = True


class _Hits(msgspec.Struct):
    hits: list[_Hit]


class _Shards(msgspec.Struct):
    failed: int = 0


class _Found(msgspec.Struct):
    hits: _Hits
    shards: _Shards = msgspec.field(name="_shards", default_factory=_Shards)
    timed_out: bool = False


class _Got(msgspec.Struct):
    docs: list[_Hit]


_found = msgspec.json.Decoder(_Found).decode
_got = msgspec.json.Decoder(_Got).decode
_row = msgspec.json.Decoder(_Row).decode


class Stored:
    """A prediction as found."""

    __slots__ = ("_row", "_source", "held", "home", "id", "model", "primary_term", "seq_no")

    def __init__(self, hit: _Hit) -> None:
        self._source = hit.source
        self._row = _row(hit.source)
        self.home = hit.index
        """The index behind the alias."""
        self.id = hit.id
        """Of the document; `event` is that of the row."""
        self.seq_no = hit.seq_no
        self.primary_term = hit.primary_term
        self.model = self._row.model.name if self._row.model else None
        self.held = _label(self._row, self.event)
        """The label that it carries."""

    @property
    def event(self) -> str:
        """The id of the row, which is kept in it only where the document's is another (`Indices.named`)."""
        return self._row.event.id or self.id

    def labelled(self, label: Label, uuid: str | None) -> bytes:
        """The row's JSON with this label, and how it did, in place of what it had.

        `uuid` is of the index; None where that cannot keep when the row arrived.
        """
        row = self._row
        said = row.prediction or _Prediction()
        outcome = outcome_of(
            cls=said.cls,
            probabilities={unescape(k): v for k, v in (said.probabilities or {}).items()},
            value=said.value,
            label_cls=label.cls,
            label_value=label.value,
        )
        fields = label_fields(label, millis(row.timestamp), outcome)
        if uuid is not None:
            origin = self._origin(uuid)
            fields["label"]["row"] = {"seq": origin.seq, "index": origin.uuid}
        if row.label is msgspec.UNSET and row.outcome is msgspec.UNSET:
            return bytes(self._source)[:-1] + b"," + orjson.dumps(fields)[1:]
        kept = {k: v for k, v in orjson.loads(bytes(self._source)).items() if k not in ("label", "outcome")}
        return orjson.dumps(kept | fields)

    def _origin(self, uuid: str) -> Origin:
        """Every join writes it, so a row without one of this index has not been updated since it came
        there."""
        label = self._row.label
        held = label.row if isinstance(label, _Label) else None
        if held is not None and held.seq is not None and held.index == uuid:
            return Origin(held.seq, uuid)
        return Origin(self.seq_no, uuid)


def find(client: Client, index: str, ids: list[str]) -> list[Stored]:
    """The visible rows under these document ids, in every index of the path."""
    body = {
        "query": {"ids": {"values": ids}},
        "size": SEARCH_PAGE,
        "seq_no_primary_term": True,
        "sort": ["_doc"],
        "track_total_hits": False,
    }
    # Not filtered by path: the server would parse and write every row once more for it.
    answer: _Found = client.request(
        "POST",
        f"/{index}/_search",
        body,
        params={"allow_partial_search_results": "false", "expand_wildcards": "open,closed"},
        decode=_found,
    )
    if answer.timed_out or answer.shards.failed:
        raise PartialResult(f"{client.host} answered from only some shards, or ran out of time")
    hits = answer.hits.hits
    if len(hits) == SEARCH_PAGE and len(ids) > 1:  # an id may be in several indices: there may be more
        half = len(ids) // 2
        return find(client, index, ids[:half]) + find(client, index, ids[half:])
    return [Stored(hit) for hit in hits]


def reread(client: Client, rows: list[Stored]) -> list[Stored]:
    """As they are now: reads by id see writes that a search does not yet."""
    docs = [{"_index": row.home, "_id": row.id} for row in rows]
    answer: _Got = client.request("POST", "/_mget", {"docs": docs}, decode=_got)
    return [Stored(doc) for doc in answer.docs if doc.found and doc.source]


def _label(row: _Row, event: str) -> Label | None:
    label = row.label
    if not isinstance(label, _Label) or label.timestamp is None:
        return None
    timestamp: Millis = millis(label.timestamp)
    return Label(
        id=event,
        timestamp=timestamp,
        ingested=timestamp if label.ingested is None else millis(label.ingested),
        cls=label.cls,
        value=label.value,
    )
