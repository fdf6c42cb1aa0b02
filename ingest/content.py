"""Ids of rows that have none: of their time, their content and their number in the file.

Importing a file again, or with rows added at its end, then stores nothing twice. The content is the wire row
as MessagePack, so whichever way a row is read its id is the same.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.tables import values_of
from ingest.values import new_id, time_of
from ingest.wire import Place, WireError, WireLabel, WirePrediction
from kedge.record_table import Times, maps
from kedge.windows import Millis

_FLOATS = frozenset(
    {"probability", "probabilities", "entropy", "latency_ms", "attributions", "resource", "business"}
)
"""Fields of the wire that are float64 there whatever type the column has."""
_TEXTS = frozenset({"service", "host", "trace_id"})


def content_id(index: int, wire: WirePrediction, now: Millis) -> str:
    """The id of row number `index` of a file; the row must have a time. Raises BadInput for a wrong one."""
    # Equal rows are told apart by their number; the time goes first, so that ids are in the order of time.
    content = msgspec.msgpack.encode((index, wire))
    assert wire.timestamp is not None  # noqa: S101 - the caller has seen to it
    t = time_of(wire.timestamp, now, "timestamp")
    return new_id(t, hashlib.blake2b(content, digest_size=10).digest())


class ContentIds:
    """The same for columns."""

    def __init__(self, *, model: str, version: str | None) -> None:
        self._model, self._version = model, version
        self._encode = msgspec.msgpack.Encoder().encode

    def of(
        self, columns: Mapping[Place, pa.Array], indices: NDArray[np.int64], timestamps: Times
    ) -> list[str]:
        """`timestamps` are those of the rows in `Millis`, after validation."""
        count = len(indices)
        nothing = [None] * count

        def plain(name: str) -> list[Any]:
            column = columns.get(Place(name))
            return nothing if column is None else _wire_values(column, Place(name))

        def members(name: str) -> list[Any] | Iterator[Any]:
            places = [p for p in columns if p.field == name and p.key]
            if not places:
                return nothing
            return maps([p.key for p in places], [_wire_values(columns[p], p) for p in places])

        versions = plain("version")
        if self._version is not None:
            versions = [self._version if version is None else version for version in versions]
        wires = map(
            WirePrediction,
            [self._model] * count,
            nothing,
            plain("timestamp"),
            versions,
            plain("class"),
            plain("probability"),
            members("probabilities"),
            plain("value"),
            plain("entropy"),
            members("features"),
            members("segment"),
            plain("latency_ms"),
            self._errors(columns, nothing),
            plain("trace_id"),
            plain("service"),
            plain("host"),
            members("attributions"),
            members("resource"),
            members("business"),
            self._labels(columns, nothing),
        )
        encode, blake = self._encode, hashlib.blake2b
        return [
            f"{t:012x}{blake(encode(pair), digest_size=10).hexdigest()}"
            for t, pair in zip(timestamps.tolist(), zip(indices.tolist(), wires, strict=True), strict=True)
        ]

    def _errors(self, columns: Mapping[Place, pa.Array], nothing: list[Any]) -> list[Any] | Iterator[Any]:
        if Place("error") in columns:
            return _wire_values(columns[Place("error")], Place("error"))
        return _objects(WireError, columns, "error", {"type": "type", "message": "message"}, nothing)

    def _labels(self, columns: Mapping[Place, pa.Array], nothing: list[Any]) -> list[Any] | Iterator[Any]:
        if Place("label") in columns:
            return _wire_values(columns[Place("label")], Place("label"))
        names = {"cls": "class", "value": "value", "timestamp": "timestamp"}
        return _objects(WireLabel, columns, "label", names, nothing)


class UniqueIds:
    """Which rows are the first of their id and day, in 8 bytes a row: by 64-bit hashes, so among a hundred
    million rows one is taken for another once in four thousand times.
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[np.int64]] = []
        """Sorted, each at least twice as long as the next."""

    def fresh(self, ids: list[str], days: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Of some more rows."""
        count = len(ids)
        hashes = np.fromiter(map(hash, zip(ids, days.tolist(), strict=True)), np.int64, count)
        added, first = np.unique(hashes, return_index=True)
        new = np.ones(len(added), np.bool_)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, added), len(run) - 1)
            new &= run[at] != added
        answer = np.zeros(count, np.bool_)
        answer[first[new]] = True
        run = added[new]
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)
        return answer


def _objects(
    kind: type[Any], columns: Mapping[Place, pa.Array], field: str, names: dict[str, str], nothing: list[Any]
) -> list[Any] | Iterator[Any]:
    places = {attribute: Place(field, name) for attribute, name in names.items()}
    given = {attribute: p for attribute, p in places.items() if p in columns}
    if not given:
        return nothing
    lists = [_wire_values(columns[place], place) for place in given.values()]
    return (kind(**dict(zip(given, row, strict=True))) for row in zip(*lists, strict=True))


def _wire_values(column: pa.Array, place: Place) -> list[Any]:
    if place.field in _FLOATS and pa.types.is_integer(column.type):
        column = column.cast(pa.float64(), safe=False)
    if place.field in _TEXTS:
        return values_of(column, place)
    return fast_list(column)


def fast_list(column: pa.Array) -> list[Any]:
    """`to_pylist`, which makes a scalar object of every value first, several times faster."""
    kind = column.type
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        if not pa.types.is_dictionary(kind):
            if len(column) < 64:
                return list(column.to_pylist())
            column = column.dictionary_encode()
        held = np.empty(len(column.dictionary) + 1, object)
        held[:-1] = column.dictionary.to_pylist()
        codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return list(held[codes].tolist())
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return list(column.to_pylist())
    if not column.null_count:
        return list(column.to_numpy(zero_copy_only=False).tolist())
    boxed = column.fill_null(0).to_numpy(zero_copy_only=False).astype(object)
    boxed[column.is_null().to_numpy(zero_copy_only=False)] = None
    return list(boxed.tolist())
