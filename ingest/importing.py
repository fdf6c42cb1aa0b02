"""A file's batches into a store: a few at once, answered for in order, so that an import can be resumed.

The store works on one batch while the next is read and encoded. What is told of a batch is told once it is
stored, in the order of the file: everything up to `Batch.end` is then safe.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from ingest.answers import PredictionAnswer
from ingest.columns import ColumnMap
from ingest.files import Batch
from ingest.service import IngestService
from kedge.errors import StoreUnavailable
from kedge.record_table import PredictionTable
from kedge.records import Prediction

_EDGE = 2**20
"""Bytes at each end of a file by which it is recognised."""
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Before a batch that the store could not take is sent again; after the last the import ends."""


class Stored(NamedTuple):
    """What became of the rows of one batch that were sent to the store."""

    accepted: int
    duplicate: int
    rejected: int
    reasons: list[str]
    """Of the first that were rejected."""
    spooled: int = 0
    """Kept by a gateway until its store can take them."""


class Door(Protocol):
    """Where rows go; called from `at_once` threads."""

    at_once: int

    def table(self, table: PredictionTable) -> Stored: ...

    def rows(self, rows: list[Prediction]) -> Stored: ...


class StoreDoor:
    """A store in this process: nothing is encoded that the store does not need."""

    at_once = 4
    """Two keep two cores of a server busy; the others are read, encoded and answered for meanwhile."""

    def __init__(self, service: IngestService) -> None:
        self._service = service

    def table(self, table: PredictionTable) -> Stored:
        return _stored(self._service.store_table(table), table.ids)

    def rows(self, rows: list[Prediction]) -> Stored:
        return _stored(self._service.store_predictions(rows), [row.id for row in rows])


def _stored(answer: PredictionAnswer, ids: list[str]) -> Stored:
    told = answer.rejections
    reasons = [f"{r.field + ': ' if r.field else ''}{r.reason} (id {ids[r.index]})" for r in told]
    return Stored(answer.accepted, answer.duplicate, answer.rejected, reasons)


def stored(
    batches: Iterable[Batch[Prediction]], door: Door, waiting: Callable[[float, str], None]
) -> Iterator[tuple[Batch[Prediction], Stored]]:
    """Store batches; each with what became of it, in order. Raises what reading or storing raises.

    Of two rows with one id the first in the file is stored, so batches that share one go one after the other.
    `waiting` is told of each pause (seconds, why) while the store cannot be reached.
    """
    ending = threading.Event()
    with ThreadPoolExecutor(door.at_once, "kedge-import") as pool:
        under_way: deque[tuple[Batch[Prediction], frozenset[str], Future[Stored]]] = deque()

        def settled() -> tuple[Batch[Prediction], Stored]:
            batch, _, future = under_way[0]
            result = future.result()
            under_way.popleft()
            return batch, result

        try:
            for batch in batches:
                ids = frozenset(batch.table.ids if batch.table else ()).union(row.id for row in batch.rows)
                while under_way and (
                    under_way[0][2].done()
                    or len(under_way) > door.at_once
                    or any(not ids.isdisjoint(others) for _, others, _ in under_way)
                ):
                    yield settled()
                under_way.append((batch, ids, pool.submit(_store, batch, door, waiting, ending)))
            while under_way:
                yield settled()
        finally:
            ending.set()
            for *_, future in under_way:
                future.cancel()


def _store(
    batch: Batch[Prediction], door: Door, waiting: Callable[[float, str], None], ending: threading.Event
) -> Stored:
    parts = []
    if batch.table:
        parts.append(_patiently(lambda: door.table(batch.table), waiting, ending))  # type: ignore[arg-type]
    if batch.rows:
        parts.append(_patiently(lambda: door.rows(batch.rows), waiting, ending))
    return Stored(
        sum(part.accepted for part in parts),
        sum(part.duplicate for part in parts),
        sum(part.rejected for part in parts),
        [reason for part in parts for reason in part.reasons],
        sum(part.spooled for part in parts),
    )


def _patiently(
    send: Callable[[], Stored], waiting: Callable[[float, str], None], ending: threading.Event
) -> Stored:
    for pause in PAUSES_S:
        try:
            return send()
        except StoreUnavailable as error:
            if ending.is_set():
                raise
            waiting(pause, str(error))
            ending.wait(pause)
    return send()


def fingerprint(path: Path, model: str, version: str | None, columns: ColumnMap) -> str:
    """What tells one import from another: the file as it is now, and how it is read.

    Raises OSError. The content is known by its size, its time and its ends: reading all of a large file
    would take as long as a part of the import.
    """
    about = path.stat()
    with path.open("rb") as file:
        ends = hashlib.sha256(file.read(_EDGE))
        file.seek(max(0, about.st_size - _EDGE))
        ends.update(file.read(_EDGE))
    flags = {name: value for name, value in asdict(columns).items() if name != "positive"}
    said = (str(path.resolve()), about.st_size, about.st_mtime_ns, ends.hexdigest(), model, version, flags)
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:32]
