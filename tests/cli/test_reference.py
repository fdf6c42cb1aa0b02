"""A file counted as columns gives what the same file gives when each of its rows is stored and summarised."""

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from ingest.columns import ColumnMap
from ingest.content import UniqueIds
from ingest.files import read_predictions
from kedge.cli import reference
from kedge.config import ModelSettings
from kedge.errors import BadInput
from kedge.pipeline.baselines import Baseline, build_baseline
from kedge.pipeline.schema import Features
from kedge.record_table import PredictionTable, Texts
from kedge.records import Prediction
from kedge.sketch import PartName
from kedge.sketch.columns import Columns
from kedge.sketch.draw import SAMPLED_FROM
from kedge.store.base import SummaryRequest
from kedge.store.duckdb import open_duckdb
from kedge.windows import DAY, Window, ceil, floor
from tests.ingest.conftest import NOW
from tests.ingest.test_columnar import SIMPLE, tables
from tests.support import oracle
from tests.support.rows import EDGES, SPAN, random_rows

GROUPED = ModelSettings.model_validate(
    {"groups": ["version", "segment.region", ["segment.region", "version"]]}
)
ANY_FILE = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def names_of(rows: list[Prediction], kind: str) -> tuple[str, ...]:
    return tuple(sorted({name for row in rows for name in getattr(row, kind)}))


def by_store(path: Path, model: ModelSettings) -> Baseline:
    """Every row as an object, through an embedded store."""
    batches = read_predictions(path, model="m", now=NOW, default_time=NOW)
    rows = [row for batch in batches for row in batch.rows]
    if not rows:
        raise BadInput("has no row that can be used", str(path))
    store = open_duckdb(":memory:", clock=lambda: NOW)
    store.setup()
    store.append(rows)
    features = Features(
        *(
            tuple(sorted({n for row in rows for n in getattr(row, kind)}))
            for kind in ("num", "cat", "invalid", "attributions")
        ),
        probabilities=names_of(rows, "probabilities"),
    )
    window = Window(
        floor(min(row.timestamp for row in rows), DAY), ceil(max(row.timestamp for row in rows) + 1, DAY)
    )
    try:
        return build_baseline(store, "m", window, features, ((), *model.groups), source="", now=NOW)
    finally:
        store.close()


def assert_same(path: Path) -> Baseline | None:
    try:
        expected = by_store(path, GROUPED)
    except BadInput as error:
        reason = re.escape(str(error))
        with pytest.raises(BadInput, match=f"^{reason}$"):
            reference.baseline_from_file(path, "m", ColumnMap(), GROUPED, NOW)
        return None
    found = reference.baseline_from_file(path, "m", ColumnMap(), GROUPED, NOW)
    assert_equal(found, expected)
    return found


def assert_equal(found: Baseline, expected: Baseline) -> None:
    assert found.window == expected.window
    assert found.edges == expected.edges
    assert found.summaries.keys() == expected.summaries.keys()
    for group, summary in expected.summaries.items():
        for part in ("core", "cells", "labels"):
            assert oracle.differences(getattr(summary, part), getattr(found.summaries[group], part)) == []
    assert (found.value_errors is None) == (expected.value_errors is None)
    for a, b in zip(found.value_errors or (), expected.value_errors or (), strict=True):
        assert oracle.same_moments(a, b)
    assert found.variation.lengths.keys() == expected.variation.lengths.keys()


@ANY_FILE
@given(table=tables())
def test_any_parquet_file_is_counted_as_its_stored_rows_are(tmp_path: Path, table: pa.Table) -> None:
    pq.write_table(table, tmp_path / "t.parquet")
    assert_same(tmp_path / "t.parquet")


@ANY_FILE
@given(table=tables())
def test_any_csv_file_is_counted_as_its_stored_rows_are(tmp_path: Path, table: pa.Table) -> None:
    kept = [n for n in table.column_names if any(is_a(table.schema.field(n).type) for is_a in SIMPLE)]
    if kept:
        pcsv.write_csv(table.select(kept), tmp_path / "t.csv")
        assert_same(tmp_path / "t.csv")


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"\n".join(map(msgspec.json.encode, rows)) + b"\n")
    return path


def test_lines_with_values_of_every_kind_are_counted_as_their_stored_rows_are(tmp_path: Path) -> None:
    odd = [7, "7", None, True, [1], {"a": 1}, 1e300, ""]
    rows = [
        {"id": f"r{i // 2 if i < 20 else i}",
         "timestamp": NOW - i * DAY // 30, "class": "ab"[i % 2], "label": "abc"[i % 3],
         "probabilities": {"a": 0.25, "b": 0.75} if i % 5 else {"a": 0.5}, "x": odd[i % 8], "y": i, "z": None,
         "segment": {"region": ["eu", "us", None][i % 3]}, "version": ["1", "", None][i % 3],
         "error": "late" if i % 7 == 0 else None}
        for i in range(120)
    ]  # fmt: skip
    found = assert_same(jsonl(tmp_path / "t.jsonl", rows))
    assert found is not None
    assert found.rows == len({(row["id"], row["timestamp"] // DAY) for row in rows}) < 115
    assert found.summaries[()].core is not None
    assert found.summaries[()].core.invalid == {"x": 28}


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_records_as_columns_are_counted_as_the_plainest_loops_count_them(kind: Any) -> None:
    rows = random_rows(3, 3_000, model="m", kind=kind)
    names = {
        n: tuple(sorted({f for row in rows for f in getattr(row, n)}))
        for n in ("num", "cat", "invalid", "attributions", "probabilities")
    }
    request = SummaryRequest(
        model="m",
        window=Window(floor(SPAN.start, DAY), floor(SPAN.start, DAY) + 2 * DAY),
        bucket=DAY,
        parts=frozenset(PartName),
        groupings=((), ("segment.region",), ("host", "version")),
        edges=EDGES,
        numeric=names["num"],
        categorical=names["cat"],
        invalid=names["invalid"],
        attributions=names["attributions"],
        probabilities=names["probabilities"],
    )
    expected = oracle.answer_to(request, rows)
    counted = reference.Counted(request)
    for first in range(0, len(rows), 700):
        counted.add(Columns.of_rows(rows[first : first + 700]))
    found = {row.key: row.part for row in counted.parts()}
    assert found.keys() == expected.keys()
    assert {
        key: lines for key, part in expected.items() if (lines := oracle.differences(part, found[key]))
    } == {}
    assert EDGES.value is not None
    for a, b in zip(counted.errors, oracle.errors_by_value(rows, EDGES.value), strict=True):
        assert oracle.same_moments(a, b)


def many(rows: int) -> pa.Table:
    draw = np.random.default_rng(rows)
    p = draw.random(rows)
    return pa.table(
        {
            "id": draw.integers(0, rows * 50, rows),
            "x": draw.lognormal(size=rows),
            "flag": draw.integers(0, 2, rows),
            "stars": pa.array(draw.integers(1, 6, rows).astype(float), mask=draw.random(rows) < 0.1),
            "city": np.array([f"city {i}" for i in range(1_200)])[draw.zipf(1.5, rows) % 1_200],
            "value": p,
            "label": p + draw.normal(size=rows),
        }
    )


def test_many_rows_are_cut_at_the_same_sample_in_memory_on_disk_and_in_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(many(SAMPLED_FROM + 20_000), path)
    plain = ModelSettings()
    found = reference.baseline_from_file(path, "m", ColumnMap(), plain, NOW)
    monkeypatch.setattr(reference, "HELD", 10 * 2**20)
    again = reference.baseline_from_file(path, "m", ColumnMap(), plain, NOW)
    assert_equal(again, found)
    assert again.id == found.id
    expected = by_store(path, plain)
    assert_equal(found, expected)
    assert SAMPLED_FROM < found.rows < SAMPLED_FROM + 20_000  # some ids were there before


def test_a_file_of_two_halves_is_counted_like_its_whole(tmp_path: Path) -> None:
    table = many(30_000)
    pq.write_table(table, tmp_path / "whole.parquet")
    pq.write_table(table, tmp_path / "pieces.parquet", row_group_size=7_000)
    plain = ModelSettings()
    whole, pieces = (
        reference.baseline_from_file(tmp_path / f"{name}.parquet", "m", ColumnMap(), plain, NOW)
        for name in ("whole", "pieces")
    )
    assert_equal(pieces, whole)


def test_a_reference_for_whose_rows_there_is_no_room_says_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(many(1_000), tmp_path / "t.parquet")
    monkeypatch.setattr(reference, "HELD", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(BadInput, match="TMPDIR"):
        reference.baseline_from_file(tmp_path / "t.parquet", "m", ColumnMap(), ModelSettings(), NOW)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_outcomes_of_columns_are_those_of_rows(classes: int) -> None:
    draw = np.random.default_rng(classes)
    names = ["a", "b", "c"][:classes]
    rows = 500
    given = draw.dirichlet(np.ones(classes + (classes == 1)), rows)
    given[draw.random(rows) < 0.2, 0] = np.nan
    given[:3, 0] = (0.0, 1.0, 1e-300)
    table = PredictionTable(
        model="m",
        ingested=0,
        ids=[""] * rows,
        timestamps=np.zeros(rows, np.int64),
        cls=Texts(draw.integers(-1, classes, rows).astype(np.int32), names),
        probabilities={name: given[:, i] for i, name in enumerate(names)},
        value=np.where(draw.random(rows) < 0.3, np.nan, draw.normal(size=rows)),
        label_cls=Texts(draw.integers(-1, 4, rows).astype(np.int32), ["a", "b", "c", "unheard of"]),
        label_value=np.where(draw.random(rows) < 0.3, np.nan, draw.normal(size=rows)),
    )
    for name, column in table.outcome_columns.items():
        expected = [getattr(o, name) if o is not None else None for o in table.outcomes]
        wanted = np.array(expected, np.float64)
        np.testing.assert_allclose(column, wanted, rtol=1e-15, err_msg=name)


def test_a_row_is_dropped_only_for_the_id_of_another_of_its_day() -> None:
    draw = np.random.default_rng(1)
    unique, seen = UniqueIds(), set[tuple[str, int]]()
    for _ in range(40):
        ids, days = [f"i{n}" for n in draw.integers(0, 900, 50)], draw.integers(0, 2, 50)
        expected = []
        for pair in zip(ids, days.tolist(), strict=True):
            expected.append(pair not in seen)
            seen.add(pair)
        assert unique.fresh(ids, days).tolist() == expected


def test_a_prediction_is_needed(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no row that can be used"):
        reference.baseline_from_file(
            jsonl(tmp_path / "t.jsonl", [{"timestamp": "then"}]), "m", ColumnMap(), ModelSettings(), NOW
        )
