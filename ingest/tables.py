"""CSV and Parquet as wire rows, in batches: memory is bounded whatever the size of the file.

A CSV file is read twice. Its cells have no types, and a column that begins with numbers may hold text a
million rows later, so the first reading decides what each feature is: numeric if every cell that is not empty
or a sign of a missing value (NA, NaN, null) is a number, boolean if every one is true or false, text
otherwise.
"""

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from ingest.rejection import Rejection
from ingest.values import scalar_text
from ingest.wire import Place, Row
from kedge.errors import BadInput

BATCH_ROWS = 5_000
MOST_ROWS = 65_536
_MOST_CELLS = 2_000_000
"""Of a large batch."""
_BLOCK = 8 * 2**20
"""Bytes of CSV read at once; also the longest row."""

_BUFFER = 2**16
"""Bytes of each Parquet column that are read at once."""

_MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NULL", "Null", "null", "None", "NaN", "nan", "-nan")
"""Missing among numbers. Among text only the empty cell is: NA may be Namibia."""
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")

_NUMBERS = frozenset(
    {"probability", "probabilities", "value", "entropy", "latency_ms", "attributions", "resource", "business"}
)
_TEXTS = frozenset({"model", "service", "host", "trace_id"})
"""Fields that are text on the wire, whatever type the column has."""

PlaceOf = Callable[[str], Place | None]


class Rows(NamedTuple):
    """Some rows of a file, with their indices in it, and those that could not be read."""

    rows: list[tuple[int, Row]]
    rejections: list[Rejection]
    end: int
    """Rows of the file up to here, rejected ones too."""
    share: float | None = None
    """Of the file that has been read, 0 to 1; None where it is not known."""


Cells: TypeAlias = pa.Array | list[Any]
"""A column: as Arrow has it, or Python values where no Arrow type holds them all."""


class Chunk(NamedTuple):
    """Some rows of a table by column."""

    columns: dict[Place, Cells]
    indices: NDArray[np.int64]
    """Of the rows in the file."""
    rejections: list[Rejection]
    end: int
    share: float | None = None

    def rows(self, chosen: NDArray[np.bool_] | None = None) -> list[tuple[int, Row]]:
        """The rows, or some of them, under wire names."""
        indices, columns = self.indices, self.columns
        if chosen is not None:
            indices = indices[chosen]
            columns = {place: _chosen(cells, chosen) for place, cells in columns.items()}
        values = {place: values_of(cells, place) for place, cells in columns.items()}
        return list(zip(indices.tolist(), wire_rows(values, len(indices)), strict=True))


def _chosen(cells: Cells, chosen: NDArray[np.bool_]) -> Cells:
    if isinstance(cells, list):
        return [cells[i] for i in np.flatnonzero(chosen).tolist()]
    return cells.filter(pa.array(chosen))


def large_batch(columns: int) -> int:
    """Rows that make work on whole columns worth its calls, and take a few ten MB."""
    return max(BATCH_ROWS, min(MOST_ROWS, _MOST_CELLS // max(columns, 1)))


def kind_of(path: Path) -> str:
    """The extension that tells the format: `.csv` of `a.CSV.gz`."""
    return (Path(path.stem).suffix if path.suffix == ".gz" else path.suffix).lower()


def is_csv(path: Path) -> bool:
    return kind_of(path) in (".csv", ".tsv", ".txt")


def unpacked(path: Path, raw: IO[bytes]) -> IO[bytes]:
    """The content of the open file, unpacked where its name ends in `.gz`."""
    return cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw


def places_of(names: list[str], place_of: PlaceOf, file: str) -> dict[str, Place]:
    """By column, where it goes; raises BadInput for a column, or a field, that occurs twice."""
    places: dict[str, Place] = {}
    taken: dict[Place, str] = {}
    seen = set()
    for name in names:
        place = place_of(name)
        if place is None or not place.field:
            continue
        if name in seen:
            raise BadInput(f'the column "{name}" occurs twice', file)
        if place in taken:
            raise BadInput(f'the columns "{taken[place]}" and "{name}" both give {place.field}', file)
        seen.add(name)
        places[name] = place
        taken[place] = name
    return places


def wire_rows(columns: Mapping[Place, list[Any]], count: int) -> list[Row]:
    """Rows from columns; missing values are left out."""
    plain = [(place.field, values) for place, values in columns.items() if not place.key]
    rows: list[Row] = [{} for _ in range(count)]
    for field, values in plain:
        for row, value in zip(rows, values, strict=True):
            if value is not None:
                row[field] = value
    maps: dict[str, dict[str, list[Any]]] = {}
    for place, values in columns.items():
        if place.key:
            maps.setdefault(place.field, {})[place.key] = values
    for field, members in maps.items():
        keys = tuple(members)
        for row, cells in zip(rows, zip(*members.values(), strict=True), strict=True):
            present = {key: cell for key, cell in zip(keys, cells, strict=True) if cell is not None}
            whole = row.get(field)
            row[field] = {**whole, **present} if isinstance(whole, dict) else present
    return rows


# --- Parquet ------------------------------------------------------------------------------------------------


def parquet_names(path: Path) -> list[str]:
    """Column names; raises BadInput."""
    try:
        return list(pa.parquet.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"is not a Parquet file: {_first_line(error)}", str(path)) from None


def read_parquet(
    path: Path, places: Mapping[str, Place], start: int = 0, batch_rows: int = BATCH_ROWS
) -> Iterator[Chunk]:
    """The rows from number `start` on; row groups before it are not read."""
    at = start
    try:
        # Otherwise whole row groups would be in memory, as they are in the file.
        with pa.parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            groups, skip = _groups_from(file.metadata, start)
            for batch in file.iter_batches(batch_rows, row_groups=groups, columns=list(places)):
                if skip:
                    skipped = min(skip, batch.num_rows)
                    batch, skip = batch.slice(skipped), skip - skipped
                if not batch.num_rows:
                    continue
                # A column of a struct is listed by its members: only whole columns are places.
                columns = {
                    places[name]: plain_array(batch.column(i), places[name])
                    for i, name in enumerate(batch.schema.names)
                }
                end = at + batch.num_rows
                yield Chunk(columns, np.arange(at, end), [], end, end / file.metadata.num_rows)
                at = end
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"cannot be read: {_first_line(error)}", f"{path}: row {at}") from None


def _groups_from(metadata: pa.parquet.FileMetaData, start: int) -> tuple[list[int], int]:
    """The row groups from that row on, and how many rows of the first come before it."""
    groups = list(range(metadata.num_row_groups))
    while groups and (rows := metadata.row_group(groups[0]).num_rows) <= start:
        start -= rows
        groups.pop(0)
    return groups, start


def plain_array(column: pa.Array, place: Place) -> pa.Array:
    """A column in the few types of JSON: times are milliseconds or text, NaN is missing."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if pa.types.is_string(kind.value_type):
            return column
        column = column.dictionary_decode()
        kind = column.type
    if place.field == "timestamp" and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        # Without a zone it is UTC, as everywhere; finer than milliseconds is cut.
        return column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_temporal(kind):
        column = column.cast(pa.string())
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)  # what pandas means by it
    return column


def values_of(cells: Cells, place: Place) -> list[Any]:
    """Python values of a plain column as JSON would carry them."""
    if isinstance(cells, list):
        return cells
    kind = cells.type
    values: list[Any]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        values = _decoded(cells)
    else:
        try:
            values = cells.to_pylist()
        except UnicodeDecodeError:  # a file may say text of what is none
            values = _decoded(cells.cast(pa.binary()))
    if pa.types.is_map(kind):
        return [None if value is None else dict(value) for value in values]
    if place.field == "id" or place.field in _TEXTS:
        return [_as_text(value, place.field) for value in values]
    return values


def _as_text(value: Any, field: str) -> Any:
    """A value of a text field as text; what cannot be text stays, and is its own row's error."""
    try:
        return scalar_text(value, field) if isinstance(value, str | int | float) else value
    except BadInput:
        return value


# --- CSV ----------------------------------------------------------------------------------------------------


class CsvFile:
    """A CSV file with a header, its separator one of `,` `;` tab."""

    def __init__(self, path: Path) -> None:
        """Reads the header; raises BadInput."""
        self.path = path
        try:
            with path.open("rb") as raw, unpacked(path, raw) as file:
                head = file.readline(_BLOCK).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadInput("is not UTF-8 text", f"{path}:1") from None
        except (OSError, EOFError) as error:
            raise BadInput(f"cannot be read: {_first_line(error)}", str(path)) from None
        if not head.strip():
            raise BadInput("is empty: a header with the names of the columns is expected", f"{path}:1")
        self._separator = max(",;\t", key=head.count)
        self._share = 0.0
        self.names: list[str] = next(csv.reader(io.StringIO(head), delimiter=self._separator))

    def read(
        self, places: Mapping[str, Place], start: int = 0, batch_rows: int = BATCH_ROWS
    ) -> Iterator[Chunk]:
        """Rows from number `start` on, in batches; raises BadInput where the file cannot be read on."""
        kinds = self._kinds({name: place for name, place in places.items() if place.field == "features"})
        fields = {place.field for place in places.values()}
        if "value" in fields and "class" not in fields:  # a regression: its labels are numbers
            kinds |= {name: _cells for name, place in places.items() if place.field == "label"}
        index = 0
        skipped: dict[int, Rejection] = {}
        for batch in self._batches(list(places), skipped, batch_rows):
            indices: list[int] = []
            rejections = []
            while len(indices) < batch.num_rows:
                if index in skipped:
                    rejections.append(skipped.pop(index))
                else:
                    indices.append(index)
                index += 1
            if index <= start or not batch.num_rows:
                continue
            numbers = np.array(indices, np.int64)
            if numbers[0] < start:
                batch, numbers = batch.slice(int((numbers < start).sum())), numbers[numbers >= start]
                rejections = [rejection for rejection in rejections if rejection.index >= start]
            columns = {
                places[name]: _csv_cells(batch.column(i), places[name], kinds.get(name, _text))
                for i, name in enumerate(places)
            }
            yield Chunk(columns, numbers, rejections, index, self._share)
        if skipped:
            rejections = [skipped[i] for i in sorted(skipped) if i >= start]
            yield Chunk({}, np.arange(0), rejections, max(skipped) + 1, 1.0)

    def _kinds(self, places: Mapping[str, Place]) -> dict[str, Callable[[pa.Array], Cells]]:
        """By column, how its cells are read: as numbers, booleans or text."""
        possible: dict[str, list[Callable[[pa.Array], Cells]]] = {
            name: [_numbers, _booleans] for name in places
        }
        for batch in self._batches(list(places), {}, MOST_ROWS) if places else ():
            for i, name in enumerate(places):
                for kind in tuple(possible[name]):
                    try:
                        kind(batch.column(i))
                    except (pa.ArrowInvalid, UnicodeDecodeError):
                        possible[name].remove(kind)
        return {name: kinds[0] if kinds else _text for name, kinds in possible.items()}

    def _batches(
        self, names: list[str], skipped: dict[int, Rejection], rows: int
    ) -> Iterator[pa.RecordBatch]:
        """Cells as bytes, so that one that is not UTF-8 costs its row and not the file."""

        def skip(row: Any) -> str:
            index = row.number - 2  # counted from 1, with the header
            reason = f"has {row.actual_columns} cells; the header has {row.expected_columns}"
            skipped[index] = Rejection(index, "", reason)
            return "skip"

        try:
            with (
                self.path.open("rb") as raw,
                unpacked(self.path, raw) as file,
                pa.csv.open_csv(
                    file,
                    pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK),
                    pa.csv.ParseOptions(
                        delimiter=self._separator, newlines_in_values=True, invalid_row_handler=skip
                    ),
                    pa.csv.ConvertOptions(
                        column_types=dict.fromkeys(names, pa.binary()),
                        include_columns=names,
                        strings_can_be_null=False,
                    ),
                ) as reader,
            ):
                size = max(self.path.stat().st_size, 1)
                for batch in reader:
                    self._share = raw.tell() / size
                    for start in range(0, batch.num_rows, rows):
                        yield batch.slice(start, rows)
        except (pa.ArrowException, OSError, EOFError) as error:
            raise BadInput(f"cannot be read: {_first_line(error)}", str(self.path)) from None


def _csv_cells(column: pa.Array, place: Place, kind: Callable[[pa.Array], Cells]) -> Cells:
    if place.field == "timestamp" or place.field in _NUMBERS:
        kind = _cells
    return kind(column)


def _cells(column: pa.Array) -> Cells:
    """Each cell as a number where it is one: a text beside numbers is then its own row's error."""
    try:
        return _numbers(column)
    except pa.ArrowInvalid:
        texts = _text(column)
        values = texts if isinstance(texts, list) else texts.to_pylist()
        return [None if cell in _MISSING else _or_number(cell) for cell in values]


def _numbers(column: pa.Array) -> pa.Array:
    """Cells as numbers or null; raises ArrowInvalid where one is not a number."""
    cells = pc.utf8_trim_whitespace(column.cast(pa.string()))
    known = pc.if_else(pc.is_in(cells, value_set=pa.array(_MISSING)), None, cells).cast(pa.float64())
    return pc.if_else(pc.is_nan(known), None, known)


def _booleans(column: pa.Array) -> pa.Array:
    cells = column.cast(pa.string())
    values = pa.array([*_TRUE, *_FALSE, ""])
    if not pc.all(pc.is_in(cells, value_set=values), min_count=0).as_py():
        raise pa.ArrowInvalid("not a boolean")
    truths = pc.is_in(cells, value_set=pa.array(_TRUE))
    return pc.if_else(pc.equal(cells, ""), None, truths)


def _text(column: pa.Array) -> Cells:
    """Cells as text; an empty one is missing, one that is not UTF-8 stays bytes."""
    try:
        cells = column.cast(pa.string())
    except pa.ArrowInvalid:
        return [cell or None for cell in _decoded(column)]
    return pc.if_else(pc.equal(cells, ""), None, cells)


def number_in(cell: str) -> float | None:
    """The number that a cell shows, or None."""
    try:
        return float(cell)
    except ValueError:
        return None


def _or_number(cell: Any) -> Any:
    found = number_in(cell) if isinstance(cell, str) else None
    return cell if found is None else found


def _decoded(column: pa.Array) -> list[Any]:
    cells: list[Any] = []
    for cell in column.to_pylist():
        try:
            cells.append(None if cell is None else cell.decode())
        except UnicodeDecodeError:
            cells.append(cell)
    return cells


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
