"""Files of predictions and labels: JSONL, CSV and Parquet, in batches of 10,000 rows.

A row without an id gets one of its time, its content and its number in the file, so that importing a file
again, or with rows added at its end, stores nothing twice.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Generic, NamedTuple, TypeVar

import msgspec

from ingest.body import Malformed, loads
from ingest.columns import ColumnMap
from ingest.enrich import label_of, prediction_of
from ingest.rejection import Rejection
from ingest.tables import (
    BATCH_ROWS,
    CsvFile,
    PlaceOf,
    Rows,
    is_csv,
    kind_of,
    number_in,
    open_bytes,
    parquet_names,
    places_of,
    read_parquet,
)
from ingest.values import new_id, time_of
from ingest.wire import (
    LABEL,
    PREDICTION,
    Friendly,
    Place,
    Row,
    WireLabelRow,
    WirePrediction,
    as_row,
    friendly,
    friendly_label,
)
from kedge.errors import BadInput
from kedge.records import Label, Prediction
from kedge.windows import Millis

__all__ = ["Batch", "ColumnMap", "read_labels", "read_predictions"]

MAX_LINE = 32 * 2**20
"""Bytes of one line of JSONL."""

Record = TypeVar("Record", Prediction, Label)


class Batch(NamedTuple, Generic[Record]):
    """Some rows of a file; rejections carry the index of their row, from 0 without header and empty lines."""

    rows: list[Record]
    rejections: list[Rejection]


def read_predictions(
    path: str | Path,
    *,
    model: str | None = None,
    version: str | None = None,
    columns: ColumnMap | None = None,
    now: Millis,
    default_time: Millis | None = None,
) -> Iterator[Batch[Prediction]]:
    """The predictions of a file, by its extension; `-` is JSONL on standard input.

    Args:
        model: the model of all rows; None where the rows say it.
        version: the version of rows that do not say it.
        columns: which column is what, beside kedge's own names.
        now: rows are ingested now; times more than an hour ahead are rejected.
        default_time: of rows without a time; None makes a file without times an error.

    Raises BadInput, with the place, for a file that cannot be read or has not the columns that were named.
    """
    columns = columns or ColumnMap()

    def build(index: int, row: Row) -> Prediction:
        if model is not None:
            row["model"] = model
        if version is not None:
            row.setdefault("version", version)
        if row.get("timestamp") is None and default_time is not None:
            row["timestamp"] = default_time
        wire = PREDICTION.convert(row)
        if wire.timestamp is None:
            raise BadInput("is missing: name its column with --timestamp", "timestamp")
        if wire.id is None:
            wire.id = _content_id(index, wire, now)
        return prediction_of(wire, now)

    needed = () if default_time is not None else ("timestamp",)
    rows = _rows(str(path), _Plan(columns, cache(columns.place), friendly, needed))
    return _batches(rows, build)


def read_labels(
    path: str | Path,
    *,
    now: Millis,
    id: str | None = None,
    label: str | None = None,
    timestamp: str | None = None,
    model: str | None = None,
) -> Iterator[Batch[Label]]:
    """The labels of a file. `id`, `label`, `timestamp` name columns; kedge's own names need none.

    A label without a time became true `now`. Raises like `read_predictions`.
    """
    columns = ColumnMap(id=id, label=label, timestamp=timestamp)
    untyped = is_csv(Path(path))

    def build(_: int, row: Row) -> Label:
        if model is not None:
            row["model"] = model
        if untyped and isinstance(given := row.get("label"), str):
            # A cell says no type: the number labels a regression, the text as it stands a classification.
            row |= {"class": given, "label": None, "value": number_in(given)}
        wire: WireLabelRow = LABEL.convert(row)
        return label_of(wire, now)

    rows = _rows(str(path), _Plan(columns, cache(columns.label_place), friendly_label, ("id",)))
    return _batches(rows, build)


def _batches(rows: Iterator[Rows], build: Callable[[int, Row], Record]) -> Iterator[Batch[Record]]:
    for batch in rows:
        records, rejections = [], list(batch.rejections)
        for index, row in batch.rows:
            try:
                records.append(build(index, row))
            except BadInput as error:
                rejections.append(Rejection.of(index, error))
        yield Batch(records, sorted(rejections, key=lambda rejection: rejection.index))


def _content_id(index: int, wire: WirePrediction, now: Millis) -> str:
    # Equal rows are told apart by their number; the time goes first, so that ids are in the order of time.
    content = msgspec.msgpack.encode((index, wire))
    assert wire.timestamp is not None  # noqa: S101 - the caller has seen to it
    t = time_of(wire.timestamp, now, "timestamp")
    return new_id(t, hashlib.blake2b(content, digest_size=10).digest())


@dataclass(frozen=True)
class _Plan:
    """How one kind of file is read."""

    columns: ColumnMap
    place_of: PlaceOf
    renamed: Callable[[Row, PlaceOf], Friendly]
    needed: tuple[str, ...]
    """Fields without which no row can be used."""

    def places(self, names: list[str], file: str) -> dict[str, Place]:
        """Where the columns of a table go; raises BadInput where one that is needed is not there."""
        self.columns.check(names, file)
        places = places_of(names, self.place_of, file)
        for field in self.needed:
            if not any(place.field == field for place in places.values()):
                raise BadInput(f"no column is the {field}: name it with --{field}", file)
        return places

    def check_lines(self, rows: list[tuple[int, Row]], names: set[str], file: str) -> None:
        """Raise BadInput for what no line of the first batch has; single lines may differ in their names."""
        if not rows:
            return
        self.columns.check(names, file)
        for field in self.needed:
            if all(row.get(field) is None for _, row in rows):
                raise BadInput(f"no row has a {field}: name it with --{field}", file)


def _rows(path: str, plan: _Plan) -> Iterator[Rows]:
    """The rows of a file under wire names."""
    if path == "-":
        return _jsonl(sys.stdin.buffer, "standard input", plan)
    file = Path(path)
    if not file.is_file():
        raise BadInput("no such file", path)
    if is_csv(file):
        table = CsvFile(file)
        return table.read(plan.places(table.names, path))
    match kind_of(file):
        case ".jsonl" | ".ndjson" | ".json":
            return _jsonl_file(file, plan)
        case ".parquet" | ".pq":
            return read_parquet(file, plan.places(parquet_names(file), path))
    raise BadInput("what kind of file is this? Its name should end in .jsonl, .csv, .tsv or .parquet", path)


def _jsonl_file(path: Path, plan: _Plan) -> Iterator[Rows]:
    try:
        with open_bytes(path) as file:
            yield from _jsonl(file, str(path), plan)
    except (OSError, EOFError) as error:
        raise BadInput(f"cannot be read: {error}", str(path)) from None


def _jsonl(file: IO[bytes], name: str, plan: _Plan) -> Iterator[Rows]:
    lines = enumerate(_lines(file, name))
    checked = False
    while batch := list(islice(lines, BATCH_ROWS)):
        rows: list[tuple[int, Row]] = []
        rejections: list[Rejection] = []
        seen: set[str] = set()
        for index, (number, line) in batch:
            try:
                plain = as_row(loads(line))
                seen.update(plain)
                rows.append((index, plan.renamed(plain, plan.place_of).row))
            except Malformed as error:
                place = f"{name}:{number}:{error.column}"
                rejections.append(Rejection(index, "", f"{error.reason} ({place})"))
            except BadInput as error:
                rejections.append(Rejection.of(index, error))
        if not checked:
            plan.check_lines(rows, seen, name)
            checked = True
        yield Rows(rows, rejections)


def _lines(file: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1; raises BadInput for one without an end."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise BadInput(f"the line is longer than {MAX_LINE // 2**20} MB", f"{name}:{number}")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
            if line.lstrip()[:1] == b"[":
                raise BadInput("is one list: write one object a line (jq -c '.[]' does it)", f"{name}:1")
        if line.strip():
            yield number, line
