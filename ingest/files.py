"""Files of predictions and labels: JSONL, CSV and Parquet, in batches of 5,000 rows.

A row without an id gets one of its time, its content and its number in the file, so that importing a file
again, or with rows added at its end, stores nothing twice.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Generic, NamedTuple, TypeVar

from ingest.body import Malformed, loads
from ingest.columnar import Lane
from ingest.columns import ColumnMap
from ingest.content import content_id
from ingest.enrich import label_of, prediction_of
from ingest.reading import NotPlain
from ingest.rejection import Rejection
from ingest.tables import (
    BATCH_ROWS,
    Chunk,
    CsvFile,
    PlaceOf,
    Rows,
    is_csv,
    kind_of,
    large_batch,
    number_in,
    parquet_names,
    places_of,
    read_parquet,
    unpacked,
)
from ingest.wire import (
    LABEL,
    PREDICTION,
    Friendly,
    Place,
    Row,
    WireLabelRow,
    as_row,
    friendly,
    friendly_label,
)
from kedge.errors import BadInput
from kedge.record_table import Mask, PredictionTable
from kedge.records import Label, Prediction
from kedge.windows import Millis

__all__ = ["Batch", "ColumnMap", "read_columns", "read_labels", "read_predictions"]

MAX_LINE = 32 * 2**20
"""Bytes of one line of JSONL."""

Record = TypeVar("Record", Prediction, Label)


class Batch(NamedTuple, Generic[Record]):
    """Some rows of a file; rejections carry the index of their row, from 0 without header and empty lines."""

    rows: list[Record]
    rejections: list[Rejection]
    end: int = 0
    """Rows of the file up to here, rejected ones too."""
    share: float | None = None
    """Of the file that has been read, 0 to 1; None where it is not known."""
    table: PredictionTable | None = None
    """Further rows, as columns; only where they are asked for (read_columns)."""


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
    return _predictions(path, model, version, columns, now, default_time)


def read_columns(
    path: str | Path,
    *,
    model: str,
    version: str | None = None,
    columns: ColumnMap | None = None,
    now: Millis,
    default_time: Millis | None = None,
    start: int = 0,
    counted_only: bool = False,
) -> Iterator[Batch[Prediction]]:
    """The predictions of a file from row `start` on: those of tables mostly as columns (Batch.table).

    Rows, ids and rejections are those of `read_predictions`; no id is both in a batch's table and among its
    rows. Raises like it.

    Args:
        counted_only: the rows are counted and not kept. Those without an id of their own need none (it is
            empty in a table, and anything in a row), and tables come in large batches.
    """
    return _predictions(
        path, model, version, columns, now, default_time, start=start, columnar=True, counted=counted_only
    )


def _predictions(
    path: str | Path,
    model: str | None,
    version: str | None,
    columns: ColumnMap | None,
    now: Millis,
    default_time: Millis | None,
    *,
    start: int = 0,
    columnar: bool = False,
    counted: bool = False,
) -> Iterator[Batch[Prediction]]:
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
        if wire.id is None and not counted:
            wire.id = content_id(index, wire, now)
        return prediction_of(wire, now)

    needed = () if default_time is not None else ("timestamp",)
    source = _open(str(path), _Plan(columns, cache(columns.place), friendly, needed), start, counted)
    lane = None
    if columnar and source.places and model is not None:
        try:
            lane = Lane(
                source.places,
                model=model,
                version=version,
                now=now,
                default_time=default_time,
                counted=counted,
            )
        except NotPlain:
            pass
    return _batches(source.pieces, build, lane)


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

    source = _open(str(path), _Plan(columns, cache(columns.label_place), friendly_label, ("id",)))
    return _batches(source.pieces, build)


def _batches(
    pieces: Iterable[Rows | Chunk], build: Callable[[int, Row], Record], lane: Lane | None = None
) -> Iterator[Batch[Record]]:
    for piece in pieces:
        table = None
        if isinstance(piece, Rows):
            rows = piece.rows
        else:
            table, others = _split(piece, lane)
            rows = piece.rows(others)
        records, rejections = [], list(piece.rejections)
        for index, row in rows:
            try:
                records.append(build(index, row))
            except BadInput as error:
                rejections.append(Rejection.of(index, error))
        rejections.sort(key=lambda rejection: rejection.index)
        yield Batch(records, rejections, piece.end, piece.share, table)


def _split(chunk: Chunk, lane: Lane | None) -> tuple[PredictionTable | None, Mask | None]:
    """The rows that can stay columns, and which ones cannot (None: none can)."""
    if lane is None or not chunk.columns:
        return None, None
    try:
        table, plain = lane.table(chunk)
    except NotPlain:
        return None, None
    return table, ~plain


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


class _Source(NamedTuple):
    pieces: Iterator[Rows] | Iterator[Chunk]
    """Under wire names."""
    places: Collection[Place] = ()
    """Where the columns go; none for lines of JSON."""


def _open(path: str, plan: _Plan, start: int = 0, large: bool = False) -> _Source:
    """A file from row `start` on, its tables in small or large batches."""
    if path == "-":
        return _Source(_jsonl(sys.stdin.buffer, "standard input", plan, start))
    file = Path(path)
    if not file.is_file():
        raise BadInput("no such file", path)
    if is_csv(file):
        table = CsvFile(file)
        places = plan.places(table.names, path)
        batch_rows = large_batch(len(places)) if large else BATCH_ROWS
        return _Source(table.read(places, start, batch_rows), places.values())
    match kind_of(file):
        case ".jsonl" | ".ndjson" | ".json":
            return _Source(_jsonl_file(file, plan, start))
        case ".parquet" | ".pq":
            places = plan.places(parquet_names(file), path)
            batch_rows = large_batch(len(places)) if large else BATCH_ROWS
            return _Source(read_parquet(file, places, start, batch_rows), places.values())
    raise BadInput("what kind of file is this? Its name should end in .jsonl, .csv, .tsv or .parquet", path)


def _jsonl_file(path: Path, plan: _Plan, start: int) -> Iterator[Rows]:
    try:
        size = max(path.stat().st_size, 1)
        with path.open("rb") as raw, unpacked(path, raw) as file:
            for rows in _jsonl(file, str(path), plan, start):
                yield rows._replace(share=raw.tell() / size)
    except (OSError, EOFError) as error:
        raise BadInput(f"cannot be read: {error}", str(path)) from None


def _jsonl(file: IO[bytes], name: str, plan: _Plan, start: int) -> Iterator[Rows]:
    lines = enumerate(_lines(file, name))
    checked = False
    end = sum(1 for _ in islice(lines, start))
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
        end += len(batch)
        yield Rows(rows, rejections, end)


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
