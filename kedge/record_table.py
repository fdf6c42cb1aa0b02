"""Predictions of one model as columns: a file of many rows is written from them, without an object a row.

The same values as the `Prediction`s of the rows, after the same validation (ingest/columnar.py), so a store
may write either. Numbers are float64 and NaN is missing (a stored number is always finite); texts are codes
into their distinct values and -1 is missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kedge.records import PROBABILITY_FLOOR, Label, Outcome, Prediction, outcome_of
from kedge.windows import Millis

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Texts:
    """A column of texts; shape of `codes`: (rows,)."""

    codes: NDArray[np.int32]
    values: Sequence[str]

    def __getitem__(self, rows: Mask | NDArray[np.intp]) -> "Texts":
        return Texts(self.codes[rows], self.values)

    @property
    def present(self) -> Mask:
        return np.asarray(self.codes >= 0, np.bool_)

    def tolist(self) -> list[str | None]:
        """Every row's text: few objects, shared by their rows."""
        held = np.empty(len(self.values) + 1, object)
        held[:-1] = self.values
        return list(held[self.codes].tolist())  # -1 is the last, None


Column = Floats | Texts


def present(column: Column) -> Mask:
    """Which rows have a value."""
    return column.present if isinstance(column, Texts) else ~np.isnan(column)


def listed(column: Column | None, rows: int) -> list[Any]:
    """A column as Python values, None where it is missing; a column that is not there is missing."""
    if column is None:
        return [None] * rows
    if isinstance(column, Texts):
        return column.tolist()
    missing = np.isnan(column)
    if not missing.any():
        return list(column.tolist())
    boxed = column.astype(object)
    boxed[missing] = None
    return list(boxed.tolist())


@dataclass(frozen=True, kw_only=True)
class PredictionTable:
    """Rows of one model, each column as long as `ids`. Without labels, or with one of each row's own."""

    model: str
    ingested: Millis
    ids: list[str]
    timestamps: Times
    version: Texts | None = None
    cls: Texts | None = None
    probability: Floats | None = None
    probabilities: Mapping[str, Floats] = field(default_factory=dict)
    entropy: Floats | None = None
    value: Floats | None = None
    num: Mapping[str, Floats] = field(default_factory=dict)
    cat: Mapping[str, Texts] = field(default_factory=dict)
    segment: Mapping[str, Texts] = field(default_factory=dict)
    attributions: Mapping[str, Floats] = field(default_factory=dict)
    resource: Mapping[str, Floats] = field(default_factory=dict)
    business: Mapping[str, Floats] = field(default_factory=dict)
    latency_ms: Floats | None = None
    service: Texts | None = None
    host: Texts | None = None
    trace: Texts | None = None
    error_type: Texts | None = None
    error_message: Texts | None = None
    label_cls: Texts | None = None
    label_value: Floats | None = None
    label_timestamps: Times | None = None
    """Of every row, also of those without a label; None: each label is as old as its prediction."""

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Mask | NDArray[np.intp]) -> "PredictionTable":
        """Some of the rows."""
        chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        taken: dict[str, Any] = {"ids": [self.ids[i] for i in chosen.tolist()]}
        for each in fields(self):
            held = getattr(self, each.name)
            if isinstance(held, Mapping):
                taken[each.name] = {name: column[rows] for name, column in held.items()}
            elif isinstance(held, np.ndarray | Texts):
                taken[each.name] = held[rows]
        return replace(self, **taken)

    @cached_property
    def failed(self) -> Mask:
        given = [texts.present for texts in (self.error_type, self.error_message) if texts is not None]
        return np.logical_or.reduce(given) if given else np.zeros(len(self), np.bool_)

    @cached_property
    def labelled(self) -> Mask:
        given = [present(c) for c in (self.label_cls, self.label_value) if c is not None]
        return np.logical_or.reduce(given) if given else np.zeros(len(self), np.bool_)

    @cached_property
    def label_times(self) -> Times:
        """When each row's label became true; of rows without one it means nothing."""
        return self.timestamps if self.label_timestamps is None else self.label_timestamps

    @cached_property
    def outcomes(self) -> list[Outcome | None]:
        """How each labelled row compares to its label (records.outcome_of)."""
        count = len(self)
        if not self.labelled.any():
            return [None] * count
        return [
            outcome_of(
                cls=cls,
                probabilities=probabilities,
                value=value,
                label_cls=label_cls,
                label_value=label_value,
            )
            if labelled
            else None
            for labelled, cls, probabilities, value, label_cls, label_value in zip(
                self.labelled.tolist(),
                listed(self.cls, count),
                dicts(self.probabilities, count),
                listed(self.value, count),
                listed(self.label_cls, count),
                listed(self.label_value, count),
                strict=True,
            )
        ]

    @cached_property
    def outcome_columns(self) -> dict[str, Floats]:
        """The numbers of `outcomes` for all rows at once, NaN where there is none: the same to the last bit
        but that of numpy's logarithm.
        """
        count = len(self)
        error = np.full(count, np.nan)
        if self.value is not None and self.label_value is not None:
            error = self.value - self.label_value
        log_loss, brier = np.full(count, np.nan), np.full(count, np.nan)
        if self.label_cls is not None and self.probabilities:
            log_loss, brier = _losses(self.label_cls, self.probabilities)
        return {
            "log_loss": log_loss,
            "brier": brier,
            "error": error,
            "abs_error": np.abs(error),
            "squared_error": error * error,
        }

    def rows(self) -> list[Prediction]:
        """The same as records."""
        count = len(self)
        plain: dict[str, list[Any]] = {
            name: listed(getattr(self, name), count)
            for name in (
                *("cls", "probability", "entropy", "value", "latency_ms", "service", "host", "trace"),
                *("error_type", "error_message"),
            )
        }
        maps: dict[str, list[dict[str, Any]]] = {
            name: dicts(getattr(self, name), count)
            for name in ("probabilities", "num", "cat", "segment", "attributions", "resource", "business")
        }
        columns = {
            "id": self.ids,
            "timestamp": self.timestamps.tolist(),
            "version": [version or "" for version in listed(self.version, count)],
            "label": self._labels(),
            **plain,
            **maps,
        }
        names = tuple(columns)
        return [
            Prediction(model=self.model, ingested=self.ingested, **dict(zip(names, cells, strict=True)))
            for cells in zip(*columns.values(), strict=True)
        ]

    def _labels(self) -> list[Label | None]:
        count = len(self)
        return [
            Label(id=id, timestamp=timestamp, ingested=self.ingested, cls=cls, value=value)
            if labelled
            else None
            for labelled, id, timestamp, cls, value in zip(
                self.labelled.tolist(),
                self.ids,
                self.label_times.tolist(),
                listed(self.label_cls, count),
                listed(self.label_value, count),
                strict=True,
            )
        ]

    @cached_property
    def carrier(self) -> Prediction:
        """A row that has a value in each map where any of the rows has one: it stands for all their names."""

        def names(columns: Mapping[str, Column]) -> list[str]:
            return [name for name, column in columns.items() if present(column).any()]

        members: dict[str, Any] = {
            name: dict.fromkeys(names(getattr(self, name)), 0.0)
            for name in ("probabilities", "num", "attributions", "resource", "business")
        }
        members |= {name: dict.fromkeys(names(getattr(self, name)), "") for name in ("cat", "segment")}
        return Prediction(id="", timestamp=0, ingested=self.ingested, model=self.model, **members)


def _losses(labels: Texts, probabilities: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """Log loss and Brier score of each row that has a class as its label and a probability."""
    of_label = {name: code for code, name in enumerate(labels.values)}
    count = len(labels.codes)
    known, named = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    own, only, squares = np.zeros(count), np.zeros(count), np.zeros(count)
    for name, column in probabilities.items():
        held = ~np.isnan(column)
        is_label = held & (labels.codes == of_label.get(name, -2))
        known += held
        named |= is_label
        own = np.where(is_label, column, own)
        only = np.where(held, column, only)
        squares += np.where(held, (column - is_label) ** 2, 0.0)
    # One probability alone is of a binary model: the other class has the rest.
    alone = known == 1
    own = np.where(alone & ~named, 1.0 - only, own)
    squares += np.where(alone, np.where(named, (1.0 - only) ** 2, (1.0 - only - 1.0) ** 2), ~named)
    brier = np.where(known <= 2, squares / 2, squares)
    log_loss = -np.log(np.clip(own, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR))
    told = (known > 0) & labels.present
    return np.where(told, log_loss, np.nan), np.where(told, brier, np.nan)


def dicts(columns: Mapping[str, Column], rows: int) -> list[dict[str, Any]]:
    """Each row's members by name; what is missing is left out."""
    if not columns:
        return [{} for _ in range(rows)]
    names = tuple(columns)
    cells = zip(*(listed(column, rows) for column in columns.values()), strict=True)
    if all(present(column).all() for column in columns.values()):
        return [dict(zip(names, row, strict=True)) for row in cells]
    return [{name: cell for name, cell in zip(names, row, strict=True) if cell is not None} for row in cells]


def maps(names: Sequence[str], columns: Sequence[list[Any]]) -> Iterator[Any]:
    """An object a row that encodes as a map of those members that are not None, in the order of `names`."""
    kind = _shape(tuple(names))
    if kind is not None:
        return map(kind, *columns)
    return (
        {name: cell for name, cell in zip(names, row, strict=True) if cell is not None}
        for row in zip(*columns, strict=True)
    )


@lru_cache(maxsize=256)
def _shape(names: tuple[str, ...]) -> type[msgspec.Struct] | None:
    """A struct made for these members: ten times as fast as a dict a row. None where a name cannot be one."""
    fields = [(f"f{i}", Any, None) for i in range(len(names))]
    try:
        return msgspec.defstruct(
            "Members",
            fields,
            omit_defaults=True,
            gc=False,
            rename={f"f{i}": name for i, name in enumerate(names)},
        )
    except ValueError:
        return None
