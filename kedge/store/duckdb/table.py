"""A whole table of predictions as Arrow tables of the store's shape (rows.py does the same for records)."""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from kedge.record_table import Column, Floats, PredictionTable, Texts, present
from kedge.store.duckdb.catalog import SOURCES, ListName, Model


def _named(**texts: Texts | None) -> dict[str, Texts]:
    return {name.replace("_", "."): column for name, column in texts.items() if column is not None}


COLUMNS: dict[str, Callable[[PredictionTable], Mapping[str, Column]]] = {
    "features.num": lambda table: table.num,
    "attributions": lambda table: table.attributions,
    "resource": lambda table: table.resource,
    "business": lambda table: table.business,
    "features.cat": lambda table: table.cat,
    "segment": lambda table: table.segment,
    "origin": lambda table: _named(service_name=table.service, host_name=table.host),
    "prediction.probabilities": lambda table: table.probabilities,
    "details": lambda table: _named(
        trace_id=table.trace, error_type=table.error_type, error_message=table.error_message
    ),
}
"""A table's columns by source (catalog.SOURCES). None has a feature that is invalid."""


def carried(table: PredictionTable) -> dict[str, list[str]]:
    """By source, the names of the columns that hold anything."""
    return {
        source: [name for name, column in columns(table).items() if present(column).any()]
        for source, columns in COLUMNS.items()
    }


def arrow_predictions(model: Model, table: PredictionTable, revision: int) -> pa.Table:
    """The rows in the column order of the table; every field has been entered into the model's slots."""
    count = len(table)
    return pa.table(
        {
            "model": pa.array(np.full(count, model.code, np.int32)),
            "id": pa.array(table.ids, pa.string()),
            "timestamp": pa.array(table.timestamps),
            "ingested": pa.array(np.full(count, table.ingested, np.int64)),
            "revision": pa.array(np.full(count, revision, np.int64)),
            "version": _texts(table.version, count),
            "cls": _texts(table.cls, count),
            "probability": _floats(table.probability, count, np.float32),
            "entropy": _floats(table.entropy, count, np.float32),
            "value": _floats(table.value, count, np.float64),
            "latency_ms": _floats(table.latency_ms, count, np.float32),
            "failed": pa.array(table.failed),
            **{
                within: _lists(model, table, within)
                for within in ("probabilities", "numbers", "texts", "details")
            },
        }
    )


def arrow_labels(model: Model, table: PredictionTable, revision: int) -> pa.Table | None:
    """The rows' own labels in the column order of that table; None where there is none."""
    if not table.labelled.any():
        return None
    some = table if table.labelled.all() else table[table.labelled]
    count = len(some)
    outcomes = [outcome for outcome in some.outcomes if outcome is not None]

    def how(name: str) -> pa.Array:
        given = [getattr(outcome, name) for outcome in outcomes]
        return _floats(np.array(given, np.float64), count, np.float32)

    return pa.table(
        {
            "model": pa.array(np.full(count, model.code, np.int32)),
            "id": pa.array(some.ids, pa.string()),
            "predicted_at": pa.array(some.timestamps),
            "revision": pa.array(np.full(count, revision, np.int64)),
            "timestamp": pa.array(some.label_times),
            "ingested": pa.array(np.full(count, some.ingested, np.int64)),
            "cls": _texts(some.label_cls, count),
            "value": _floats(some.label_value, count, np.float64),
            "correct": pa.array([outcome.correct for outcome in outcomes], pa.bool_()),
            **{name: how(name) for name in ("log_loss", "brier", "error", "abs_error", "squared_error")},
        }
    )


def _floats(column: Floats | None, count: int, kind: type[np.floating]) -> pa.Array:
    """Values rounded to the column's type; what is not finite then is missing."""
    if column is None:
        return pa.nulls(count, pa.from_numpy_dtype(kind))
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = column.astype(kind)
    return pa.array(rounded, mask=~np.isfinite(rounded))


def _texts(column: Texts | None, count: int) -> pa.Array:
    if column is None:
        return pa.nulls(count, pa.string())
    codes = pa.array(column.codes, mask=column.codes < 0)
    return pa.DictionaryArray.from_arrays(codes, pa.array(column.values, pa.string())).dictionary_decode()


def _lists(model: Model, table: PredictionTable, within: ListName) -> pa.ListArray:
    """One list a row, as long as the model has slots."""
    count, width = len(table), model.width(within)
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(width))
    columns = [
        (model.slots[source][name], column)
        for source, of in COLUMNS.items()
        if SOURCES[source] == within
        for name, column in of(table).items()
        if name in model.slots[source]  # without a slot it holds nothing
    ]
    if within in ("texts", "details"):
        codes = np.full((count, width), -1, np.int32)
        values: list[str] = []
        for slot, column in columns:
            if isinstance(column, Texts):
                codes[:, slot] = np.where(column.codes < 0, -1, column.codes + len(values))
                values += column.values
        return pa.ListArray.from_arrays(offsets, _texts(Texts(codes.ravel(), values), count * width))
    kind: type[np.floating] = np.float32 if within == "numbers" else np.float64
    matrix = np.full((count, width), np.nan, kind)
    with np.errstate(over="ignore"):
        for slot, column in columns:
            if not isinstance(column, Texts):
                matrix[:, slot] = column
    return pa.ListArray.from_arrays(offsets, _floats(matrix.ravel(), count * width, kind))
