"""The columnar lane gives the same predictions, ids and rejections as the row path, whatever a file holds."""

import datetime as dt
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.columns import ColumnMap
from ingest.files import Batch, read_columns, read_predictions
from kedge.records import FLOAT32_MAX, Prediction
from tests.ingest.conftest import NOW

Cells = st.SearchStrategy[Any]

FLOATS = st.one_of(
    st.floats(0, 1),
    st.floats(-1e4, 1e4, width=32),
    st.sampled_from(
        [
            0.0,
            -0.0,
            1.0,
            1 + 1e-7,
            -1e-7,
            1.5,
            math.nan,
            math.inf,
            -math.inf,
            2.0**53,
            FLOAT32_MAX,
            3.41e38,
            1e300,
        ]
    ),
)
INTEGERS = st.one_of(
    st.integers(-2, 3), st.sampled_from([2**53 - 1, 2**53, 2**53 + 1, -(2**63), 2**63 - 1, NOW, NOW // 1000])
)
TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            "a",
            "ok",
            "late",
            "1",
            "1.0",
            "True",
            "FALSE",
            "é" * 1_100,
            "x" * 1_200,
            "x" * 513,
            "0.50",
            "-3.0",
        ]
    ),
    st.text(max_size=3),
)
TIMES = st.sampled_from(
    [
        "2026-11-18T10:00:00Z",
        "2026-11-18 10:00:00",
        "2026-11-18T10:00:00.125+02:00",
        "2026-11-18T10:00:00.1259Z",
        "2026-11-18",
        "1999-12-31T23:59:59Z",
        "2999-01-01T00:00:00Z",
        "yesterday",
        "",
    ]
)
MOMENTS = st.integers(NOW - 10**9, NOW + 10**7)


def column(kind: pa.DataType, cells: Cells) -> Cells:
    """(type, strategy of one cell) with nulls among them."""
    return st.tuples(st.just(kind), st.just(st.one_of(cells, cells, cells, st.none())))


NUMBERS = st.one_of(
    column(pa.float64(), FLOATS),
    column(pa.float32(), st.floats(width=32)),
    column(pa.int64(), INTEGERS),
    column(pa.int8(), st.integers(-2, 3)),
    column(pa.uint64(), st.integers(0, 2**64 - 1)),
    column(pa.decimal128(20, 3), st.decimals(-100, 100, places=3)),
    column(pa.float16(), st.floats(-2, 2, width=16).map(np.float16)),
    column(pa.null(), st.none()),
)
WORDS = st.one_of(
    column(pa.string(), TEXTS),
    column(pa.large_string(), TEXTS),
    column(pa.dictionary(pa.int32(), pa.string()), TEXTS),
    column(pa.binary(), st.one_of(TEXTS.map(str.encode), st.just(b"\xff"))),
)
OTHERS = st.one_of(
    column(pa.bool_(), st.booleans()),
    column(pa.date32(), st.dates(dt.date(2000, 1, 1), dt.date(2026, 1, 1))),
    column(pa.list_(pa.int64()), st.lists(st.integers(0, 3), max_size=2)),
    column(pa.struct([("a", pa.int64())]), st.fixed_dictionaries({"a": st.integers(0, 3)})),
)
MOSTLY_TEXT = st.one_of(WORDS, WORDS, NUMBERS, OTHERS)
MOSTLY_NUMBERS = st.one_of(NUMBERS, NUMBERS, column(pa.float64(), st.floats(0, 1)), WORDS, OTHERS)
WHEN = st.one_of(
    column(pa.int64(), st.one_of(MOMENTS, INTEGERS)),
    column(pa.timestamp("us", "UTC"), MOMENTS.map(lambda t: t * 1_000 + 999)),
    column(pa.timestamp("s"), MOMENTS.map(lambda t: t // 1_000)),
    column(pa.string(), TIMES),
    column(pa.float64(), st.one_of(MOMENTS.map(lambda t: t / 1_000), FLOATS)),
)
FIELDS: dict[str, Cells] = {
    "id": MOSTLY_TEXT,
    "version": MOSTLY_TEXT,
    "class": st.one_of(MOSTLY_TEXT, column(pa.string(), st.sampled_from(["ok", "late"]))),
    "probability": MOSTLY_NUMBERS,
    "probabilities.ok": st.one_of(column(pa.float64(), st.floats(0, 1)), MOSTLY_NUMBERS),
    "probabilities.late": st.one_of(column(pa.float64(), st.floats(0, 1)), MOSTLY_NUMBERS),
    "probabilities.True": MOSTLY_NUMBERS,
    "value": MOSTLY_NUMBERS,
    "entropy": MOSTLY_NUMBERS,
    "latency_ms": MOSTLY_NUMBERS,
    "segment.region": MOSTLY_TEXT,
    "segment.tier": MOSTLY_NUMBERS,
    "service": MOSTLY_TEXT,
    "trace_id": MOSTLY_TEXT,
    "attributions.a": MOSTLY_NUMBERS,
    "business.cost": MOSTLY_NUMBERS,
    "resource.cpu": MOSTLY_NUMBERS,
    "error": MOSTLY_TEXT,
    "error.type": MOSTLY_TEXT,
    "error.message": MOSTLY_TEXT,
    "label": st.one_of(MOSTLY_TEXT, MOSTLY_NUMBERS),
    "label.class": MOSTLY_TEXT,
    "label.value": MOSTLY_NUMBERS,
    "label.timestamp": WHEN,
    "model": MOSTLY_TEXT,
    **{f"n{i}": MOSTLY_NUMBERS for i in range(3)},
    **{f"c{i}": MOSTLY_TEXT for i in range(2)},
    'quoted"na.me': MOSTLY_NUMBERS,
    " ": MOSTLY_NUMBERS,
}


@st.composite
def tables(draw: Callable[[Cells], Any]) -> pa.Table:
    count = draw(st.integers(1, 12))
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=9, unique=True))
    columns = {}
    for name in ["timestamp", *names]:
        kind, cells = draw(WHEN if name == "timestamp" else FIELDS[name])
        values = draw(st.lists(cells, min_size=count, max_size=count))
        if name == "timestamp" and draw(st.booleans()):
            values = [next((v for v in values if v is not None), None) if v is None else v for v in values]
        columns[name] = pa.array(values, kind)
    return pa.table(columns)


def told(batches: list[Batch[Prediction]]) -> tuple[list[bytes], list[Any]]:
    """All rows, those of one id in the order in which they are stored, and all rejections."""
    rows = [row for b in batches for row in (*(b.table.rows() if b.table else ()), *b.rows)]
    rows.sort(key=lambda row: row.id)
    return [msgspec.msgpack.encode(row) for row in rows_in_one_form(rows)], [
        r for b in batches for r in b.rejections
    ]


def rows_in_one_form(rows: list[Prediction]) -> list[Prediction]:
    """Members of a map in one order: that of the columns is none."""
    maps = ("probabilities", "num", "cat", "segment", "attributions", "resource", "business")
    return [
        msgspec.structs.replace(row, **{name: dict(sorted(getattr(row, name).items())) for name in maps})
        for row in rows
    ]


def assert_same(path: Path, version: str | None, columns: ColumnMap | None = None) -> list[Batch[Prediction]]:
    by_row = list(read_predictions(path, model="m", version=version, columns=columns, now=NOW))
    by_column = list(read_columns(path, model="m", version=version, columns=columns, now=NOW))
    assert told(by_column) == told(by_row)
    return by_column


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables(), version=st.sampled_from([None, "7", ""]))
def test_any_parquet_file_gives_the_same_rows_by_both_ways(
    tmp_path: Path, table: pa.Table, version: str | None
) -> None:
    pq.write_table(table, tmp_path / "t.parquet")
    assert_same(tmp_path / "t.parquet", version)


SIMPLE = (pa.types.is_string, pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables())
def test_any_csv_file_gives_the_same_rows_by_both_ways(tmp_path: Path, table: pa.Table) -> None:
    kept = [
        name for name in table.column_names if any(is_a(table.schema.field(name).type) for is_a in SIMPLE)
    ]
    if "timestamp" not in kept:
        return
    pcsv.write_csv(table.select(kept), tmp_path / "t.csv")
    assert_same(tmp_path / "t.csv", None)


def test_a_service_of_no_letters_is_none_by_both_ways(tmp_path: Path) -> None:
    empty = {"timestamp": pa.array([NOW]), "service": pa.array([b""]), "trace_id": pa.array([""])}
    pq.write_table(pa.table(empty), tmp_path / "t.parquet")
    (batch,) = assert_same(tmp_path / "t.parquet", None)
    assert batch.table is not None
    assert batch.table.rows()[0].service is None
