"""Predictions and labels as Arrow tables, and a table's lists as matrices."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge import record_table
from kedge.records import Label, Outcome, Prediction
from kedge.store.duckdb.catalog import SOURCES, ListName, Model
from kedge.windows import Millis

SHARED_VALUES = 1_000
"""Distinct texts of a batch, up to which its fields may have one list of values."""


def _named(*texts: tuple[str, str | None]) -> dict[str, str]:
    """Single texts of a row as one more map."""
    return {name: text for name, text in texts if text is not None}


MAPS: dict[str, Callable[[Prediction], Mapping[str, Any]]] = {
    "features.num": lambda row: row.num,
    "features.invalid": lambda row: dict.fromkeys(row.invalid, 1.0),
    "attributions": lambda row: row.attributions,
    "resource": lambda row: row.resource,
    "business": lambda row: row.business,
    "features.cat": lambda row: row.cat,
    "segment": lambda row: row.segment,
    "origin": lambda row: _named(("service.name", row.service), ("host.name", row.host)),
    "prediction.probabilities": lambda row: row.probabilities,
    "details": lambda row: _named(
        ("trace.id", row.trace), ("error.type", row.error_type), ("error.message", row.error_message)
    ),
}
"""A row's fields by source (catalog.SOURCES)."""


def predictions_table(rows: Sequence[tuple[Model, Prediction]], revision: int) -> pa.Table:
    """Rows in the column order of the table; every field has been entered into its model's slots before."""
    only = [row for _, row in rows]
    return pa.table(
        {
            "model": pa.array([model.code for model, _ in rows], pa.int32()),
            "id": pa.array([row.id for row in only], pa.string()),
            "timestamp": pa.array([row.timestamp for row in only], pa.int64()),
            "ingested": pa.array([row.ingested for row in only], pa.int64()),
            "revision": pa.array(np.full(len(only), revision, np.int64)),
            "version": pa.array([row.version or None for row in only], pa.string()),
            "cls": pa.array([row.cls for row in only], pa.string()),
            "probability": _floats([row.probability for row in only], np.float32),
            "entropy": _floats([row.entropy for row in only], np.float32),
            "value": _floats([row.value for row in only], np.float64),
            "latency_ms": _floats([row.latency_ms for row in only], np.float32),
            "failed": pa.array([row.failed for row in only], pa.bool_()),
            "probabilities": _lists(rows, "probabilities"),
            "numbers": _lists(rows, "numbers"),
            "texts": _lists(rows, "texts"),
            "details": _lists(rows, "details"),
        }
    )


def labels_table(rows: Sequence[tuple[int, str, Millis, Label, Outcome]], revision: int) -> pa.Table:
    """Labels as (model code, id, prediction's timestamp, label, outcome), in the column order of the
    table.
    """
    labels = [label for *_, label, _ in rows]
    outcomes = [outcome for *_, outcome in rows]
    return pa.table(
        {
            "model": pa.array([row[0] for row in rows], pa.int32()),
            "id": pa.array([row[1] for row in rows], pa.string()),
            "predicted_at": pa.array([row[2] for row in rows], pa.int64()),
            "revision": pa.array(np.full(len(rows), revision, np.int64)),
            "timestamp": pa.array([label.timestamp for label in labels], pa.int64()),
            "ingested": pa.array([label.ingested for label in labels], pa.int64()),
            "cls": pa.array([label.cls for label in labels], pa.string()),
            "value": _floats([label.value for label in labels], np.float64),
            "correct": pa.array([o.correct for o in outcomes], pa.bool_()),
            **{
                name: _floats([getattr(o, name) for o in outcomes], np.float32)
                for name in ("log_loss", "brier", "error", "abs_error", "squared_error")
            },
        }
    )


def _floats(values: list[float | None], kind: type[np.floating[Any]]) -> pa.Array:
    """Values rounded to the column's type; what is not finite then is missing."""
    with np.errstate(over="ignore"):
        column = np.array(values, np.float64).astype(kind)
    return pa.array(column, mask=~np.isfinite(column))


def _lists(rows: Sequence[tuple[Model, Prediction]], within: ListName) -> pa.ListArray:
    """One list a row, as long as its model has slots, None where the row has no such field."""
    sources = [source for source, name in SOURCES.items() if name == within]
    widths = {code: model.width(within) for code, model in {m.code: m for m, _ in rows}.items()}
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([widths[model.code] for model, _ in rows], out=offsets[1:])
    flat: list[Any] = [None] * int(offsets[-1])
    for (model, row), start in zip(rows, offsets.tolist(), strict=False):
        for source in sources:
            values = MAPS[source](row)
            if values:
                slots = model.slots[source]
                for name, value in values.items():
                    flat[start + slots[name]] = value
    if within in ("texts", "details"):
        items = pa.array(flat, pa.string())
    else:
        items = _floats(flat, np.float32 if within == "numbers" else np.float64)
    return pa.ListArray.from_arrays(pa.array(offsets), items)


class Texts(record_table.Texts):
    """A column of texts from Arrow."""

    @classmethod
    def of(cls, column: pa.Array) -> "Texts":
        encoded = column.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return cls(codes.astype(np.int32, copy=False), encoded.dictionary.to_pylist())

    @classmethod
    def missing(cls, rows: int) -> "Texts":
        return cls(np.full(rows, -1, np.int32), ())


class Lists:
    """A column of lists, read by position. A list written before a field was known is shorter than later
    ones.
    """

    def __init__(self, column: pa.ListArray) -> None:
        self._items = column.flatten()
        self._lengths = column.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths
        width = int(self._lengths[0]) if len(self._lengths) else 0
        self._width = width if (self._lengths == width).all() else 0
        """Of every list, where no field is new; else 0."""

    def numbers(self, positions: Sequence[int | None]) -> NDArray[np.float32]:
        """The fields at `positions` (None: nowhere), shape (rows, positions), nan where missing."""
        values = self._items.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
        # Column by column in memory: that is how they are counted.
        matrix = np.empty((len(positions), len(self._lengths)), np.float32).T
        if self._width:
            table = values.reshape(-1, self._width)
            for i, position in enumerate(positions):
                inside = position is not None and position < self._width
                matrix[:, i] = table[:, position] if inside else np.nan
            return matrix
        matrix[:] = np.nan
        for i, position in enumerate(positions):
            if position is not None:
                held = self._lengths > position
                if held.all():
                    matrix[:, i] = values[self._starts + position]
                else:
                    matrix[held, i] = values[self._starts[held] + position]
        return matrix

    def texts(self, position: int | None) -> Texts:
        """The field at a position."""
        if position is None:
            return Texts.missing(len(self._lengths))
        if position < self._width and (all_of_them := self._all_texts) is not None:
            return Texts(all_of_them.codes[position :: self._width], all_of_them.values)
        places = pa.array(self._starts + position, mask=self._lengths <= position)
        return Texts.of(self._items.take(places))

    @cached_property
    def _all_texts(self) -> Texts | None:
        """All fields at once, in a fifth of the time; None where they have too many values to share them."""
        found = Texts.of(self._items)
        return found if len(found.values) <= SHARED_VALUES else None


def names_at(slots: Mapping[str, int]) -> list[tuple[str, int]]:
    """Names with their positions, in order of position."""
    return sorted(slots.items(), key=lambda item: item[1])
