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
from typing import IO, Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from ingest.rejection import Rejection
from ingest.values import scalar_text
from ingest.wire import Place, Row
from kedge.errors import BadInput

BATCH_ROWS = 10_000
_BLOCK = 8 * 2**20
"""Bytes of CSV read at once; also the longest row."""

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


def kind_of(path: Path) -> str:
    """The extension that tells the format: `.csv` of `a.CSV.gz`."""
    return (Path(path.stem).suffix if path.suffix == ".gz" else path.suffix).lower()


def is_csv(path: Path) -> bool:
    return kind_of(path) in (".csv", ".tsv", ".txt")


def open_bytes(path: Path) -> IO[bytes]:
    """A file, unpacked where its name ends in `.gz`."""
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


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


def read_parquet(path: Path, places: Mapping[str, Place]) -> Iterator[Rows]:
    start = 0
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(places)):
                # A column of a struct is listed by its members: only whole columns are places.
                columns = {
                    places[name]: _parquet_values(batch.column(i), places[name])
                    for i, name in enumerate(batch.schema.names)
                }
                yield Rows(list(enumerate(wire_rows(columns, batch.num_rows), start)), [])
                start += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"cannot be read: {_first_line(error)}", f"{path}: row {start}") from None


def _parquet_values(column: pa.Array, place: Place) -> list[Any]:
    """Python values of a column as JSON would carry them."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if place.field == "timestamp" and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        # Without a zone it is UTC, as everywhere; finer than milliseconds is cut.
        return list(column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_pylist())
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_temporal(kind):
        column = column.cast(pa.string())
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _decoded(column)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)  # what pandas means by it
    values: list[Any] = column.to_pylist()
    if pa.types.is_map(kind):
        return [None if value is None else dict(value) for value in values]
    if place.field == "id" or place.field in _TEXTS:
        return [scalar_text(value, place.field) for value in values]
    return values


# --- CSV ----------------------------------------------------------------------------------------------------


class CsvFile:
    """A CSV file with a header, its separator one of `,` `;` tab."""

    def __init__(self, path: Path) -> None:
        """Reads the header; raises BadInput."""
        self.path = path
        try:
            with self._open() as file:
                head = file.readline(_BLOCK).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadInput("is not UTF-8 text", f"{path}:1") from None
        except (OSError, EOFError) as error:
            raise BadInput(f"cannot be read: {_first_line(error)}", str(path)) from None
        if not head.strip():
            raise BadInput("is empty: a header with the names of the columns is expected", f"{path}:1")
        self._separator = max(",;\t", key=head.count)
        self.names: list[str] = next(csv.reader(io.StringIO(head), delimiter=self._separator))

    def read(self, places: Mapping[str, Place]) -> Iterator[Rows]:
        """Rows in batches; raises BadInput where the file cannot be read on."""
        kinds = self._kinds({name: place for name, place in places.items() if place.field == "features"})
        fields = {place.field for place in places.values()}
        if "value" in fields and "class" not in fields:  # a regression: its labels are numbers
            kinds |= {name: _cells for name, place in places.items() if place.field == "label"}
        start = 0
        skipped: dict[int, Rejection] = {}
        for batch in self._batches(list(places), skipped):
            index = start
            indices: list[int] = []
            rejections = []
            while len(indices) < batch.num_rows:
                if index in skipped:
                    rejections.append(skipped.pop(index))
                else:
                    indices.append(index)
                index += 1
            start = index
            columns = {
                places[name]: _csv_values(batch.column(i), places[name], kinds.get(name, _text))
                for i, name in enumerate(places)
            }
            yield Rows(list(zip(indices, wire_rows(columns, batch.num_rows), strict=True)), rejections)
        if skipped:
            yield Rows([], [skipped[i] for i in sorted(skipped)])

    def _kinds(self, places: Mapping[str, Place]) -> dict[str, Callable[[pa.Array], list[Any]]]:
        """By column, how its cells are read: as numbers, booleans or text."""
        possible = {name: [_numbers, _booleans] for name in places}
        for batch in self._batches(list(places), {}) if places else ():
            for i, name in enumerate(places):
                for kind in tuple(possible[name]):
                    try:
                        kind(batch.column(i))
                    except (pa.ArrowInvalid, UnicodeDecodeError):
                        possible[name].remove(kind)
        return {name: kinds[0] if kinds else _text for name, kinds in possible.items()}

    def _batches(self, names: list[str], skipped: dict[int, Rejection]) -> Iterator[pa.RecordBatch]:
        """Cells as bytes, so that one that is not UTF-8 costs its row and not the file."""

        def skip(row: Any) -> str:
            index = row.number - 2  # counted from 1, with the header
            reason = f"has {row.actual_columns} cells; the header has {row.expected_columns}"
            skipped[index] = Rejection(index, "", reason)
            return "skip"

        try:
            with (
                self._open() as file,
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
                for batch in reader:
                    for start in range(0, batch.num_rows, BATCH_ROWS):
                        yield batch.slice(start, BATCH_ROWS)
        except (pa.ArrowException, OSError, EOFError) as error:
            raise BadInput(f"cannot be read: {_first_line(error)}", str(self.path)) from None

    def _open(self) -> IO[bytes]:
        return open_bytes(self.path)


def _csv_values(column: pa.Array, place: Place, kind: Callable[[pa.Array], list[Any]]) -> list[Any]:
    if place.field == "timestamp" or place.field in _NUMBERS:
        kind = _cells
    return kind(column)


def _cells(column: pa.Array) -> list[Any]:
    """Each cell as a number where it is one: a text beside numbers is then its own row's error."""
    try:
        return _numbers(column)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return [None if cell in _MISSING else _or_number(cell) for cell in _text(column)]


def _numbers(column: pa.Array) -> list[Any]:
    """Cells as numbers or None; raises ArrowInvalid where one is not a number."""
    cells = pc.utf8_trim_whitespace(column.cast(pa.string()))
    known = pc.if_else(pc.is_in(cells, value_set=pa.array(_MISSING)), None, cells).cast(pa.float64())
    return list(pc.if_else(pc.is_nan(known), None, known).to_pylist())


def _booleans(column: pa.Array) -> list[Any]:
    cells = column.cast(pa.string())
    values = pa.array([*_TRUE, *_FALSE, ""])
    if not pc.all(pc.is_in(cells, value_set=values), min_count=0).as_py():
        raise pa.ArrowInvalid("not a boolean")
    truths = pc.is_in(cells, value_set=pa.array(_TRUE))
    return list(pc.if_else(pc.equal(cells, ""), None, truths).to_pylist())


def _text(column: pa.Array) -> list[Any]:
    """Cells as text; an empty one is missing, one that is not UTF-8 stays bytes."""
    try:
        cells: list[Any] = column.cast(pa.string()).to_pylist()
    except pa.ArrowInvalid:
        cells = _decoded(column)
    return [cell or None for cell in cells]


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
