"""Predictions with their own labels, as records or as a record table, in the columns that `tally` counts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from kedge.record_table import PredictionTable, Texts, Times
from kedge.records import Prediction
from kedge.sketch.edges import VALUE, EdgeSet
from kedge.sketch.tally import Batch, CellCounter, Floats, LabelColumns, Mask, rounded

Numbers = Mapping[str, Floats]

_MAPS = ("probabilities", "num", "attributions", "resource", "business")
_TEXT_MAPS = ("cat", "segment")
_FLOATS = ("probability", "entropy", "value", "latency_ms")
_TEXTS = ("cls", "service", "host", "error_type", "error_message")


@dataclass(frozen=True)
class Columns:
    """Some rows of one model, a value a row: float32 and nan where missing, texts as codes."""

    timestamps: Times
    cls: Texts
    probability: Floats
    entropy: Floats
    value: Floats
    latency_ms: Floats
    failed: Mask
    numbers: Numbers
    """By numeric feature."""
    texts: Mapping[str, Texts]
    """By categorical feature."""
    dimensions: Mapping[str, Texts]
    """By name of a dimension."""
    labels: LabelColumns | None
    """None where no row has one."""
    invalid: Numbers = field(default_factory=dict)
    """By feature: 1 where the row's value was neither number nor text."""
    attributions: Numbers = field(default_factory=dict)
    """By feature."""
    probabilities: Numbers = field(default_factory=dict)
    """By class."""

    @property
    def count(self) -> int:
        return len(self.timestamps)

    @classmethod
    def of_table(cls, table: PredictionTable, invalid: Numbers | None = None) -> "Columns":
        count = len(table)
        dimensions = {"version": table.version, "service": table.service, "host": table.host}
        dimensions |= {f"segment.{name}": column for name, column in table.segment.items()}
        return cls(
            timestamps=table.timestamps,
            cls=table.cls or _no_texts(count),
            probability=_floats(table.probability, count),
            entropy=_floats(table.entropy, count),
            value=_floats(table.value, count),
            latency_ms=_floats(table.latency_ms, count),
            failed=table.failed,
            numbers={name: rounded(column) for name, column in table.num.items()},
            texts=table.cat,
            dimensions={name: column for name, column in dimensions.items() if column is not None},
            labels=_labels(table) if table.labelled.any() else None,
            invalid=invalid or {},
            attributions={name: rounded(column) for name, column in table.attributions.items()},
            probabilities={name: rounded(column) for name, column in table.probabilities.items()},
        )

    @classmethod
    def of_rows(cls, rows: Sequence[Prediction]) -> "Columns":
        invalid = {}
        for name in _names(row.invalid for row in rows):
            invalid[name] = np.array([1.0 if name in row.invalid else np.nan for row in rows], np.float32)
        return cls.of_table(table_of(rows), invalid)

    def only(
        self,
        numeric: Iterable[str],
        categorical: Iterable[str],
        invalid: Iterable[str],
        attributions: Iterable[str],
        probabilities: Iterable[str] = (),
    ) -> "Columns":
        """The same rows with these features and classes, as far as they have them."""
        return replace(
            self,
            numbers={name: self.numbers[name] for name in numeric if name in self.numbers},
            texts={name: self.texts[name] for name in categorical if name in self.texts},
            invalid={name: self.invalid[name] for name in invalid if name in self.invalid},
            attributions={
                name: self.attributions[name] for name in attributions if name in self.attributions
            },
            probabilities={c: self.probabilities[c] for c in probabilities if c in self.probabilities},
        )

    def batch(self) -> Batch:
        """Of all features, in the order of their maps."""
        return Batch(
            cls=self.cls,
            probability=self.probability,
            entropy=self.entropy,
            value=self.value,
            latency_ms=self.latency_ms,
            failed=self.failed,
            numbers=_matrix(self.numbers, self.count),
            texts=list(self.texts.values()),
            invalid=_matrix(self.invalid, self.count),
            attributions=_matrix(self.attributions, self.count),
            probabilities=self.probabilities,
        )

    def counter(self, edges: EdgeSet) -> CellCounter:
        return CellCounter(edges, {**self.numbers, VALUE: self.value}, self.texts, self.count)

    @property
    def nbytes(self) -> int:
        """Of memory, about: that of texts' values, which rows share, is left out."""
        return sum(map(_bytes, (getattr(self, each.name) for each in fields(self))))


def table_of(rows: Sequence[Prediction]) -> PredictionTable:
    """Records of one model as a table; what was invalid is not in it. There is at least one row."""
    held: dict[str, Any] = {}
    for name in _MAPS:
        maps = [getattr(row, name) for row in rows]
        held[name] = {key: _numbers([each.get(key) for each in maps]) for key in _names(maps)}
    for name in _TEXT_MAPS:
        maps = [getattr(row, name) for row in rows]
        held[name] = {key: _encoded([each.get(key) for each in maps]) for key in _names(maps)}
    held |= {name: _numbers([getattr(row, name) for row in rows]) for name in _FLOATS}
    held |= {name: _encoded([getattr(row, name) for row in rows]) for name in _TEXTS}
    labels = [row.label for row in rows]
    times = [row.timestamp for row in rows]
    return PredictionTable(
        model=rows[0].model,
        ingested=rows[0].ingested,
        ids=[row.id for row in rows],
        timestamps=np.array(times, np.int64),
        version=_encoded([row.version or None for row in rows]),
        label_cls=_encoded([label.cls if label else None for label in labels]),
        label_value=_numbers([label.value if label else None for label in labels]),
        label_timestamps=np.array(
            [label.timestamp if label else t for label, t in zip(labels, times, strict=True)], np.int64
        ),
        **held,
    )


def _names(maps: Iterable[Iterable[str]]) -> list[str]:
    """Of all maps, in the order in which they come up."""
    return list(dict.fromkeys(name for each in maps for name in each))


def _numbers(values: list[float | None]) -> Any:
    return np.array(values, np.float64)  # None becomes nan


def _encoded(values: list[str | None]) -> Texts:
    codes: dict[str, int] = {}
    of_rows = [-1 if value is None else codes.setdefault(value, len(codes)) for value in values]
    return Texts(np.array(of_rows, np.int32), list(codes))


def _labels(table: PredictionTable) -> LabelColumns:
    count = len(table)
    outcomes = {name: rounded(column) for name, column in table.outcome_columns.items()}
    delay: Times = table.label_times - table.timestamps
    return LabelColumns(
        revision=table.labelled.astype(np.int64),
        cls=table.label_cls or _no_texts(count),
        value=_floats(table.label_value, count),
        delay=rounded(delay),
        **outcomes,
    )


def _floats(column: Any, count: int) -> Floats:
    return np.full(count, np.nan, np.float32) if column is None else rounded(column)


def _no_texts(count: int) -> Texts:
    return Texts(np.full(count, -1, np.int32), ())


def _matrix(columns: Numbers, count: int) -> Floats:
    """Shape (rows, columns), column by column in memory: that is how they are counted."""
    matrix = np.empty((len(columns), count), np.float32)
    for row, column in zip(matrix, columns.values(), strict=True):
        row[:] = column
    return matrix.T


def _bytes(held: Any) -> int:
    if isinstance(held, Mapping):
        return sum(map(_bytes, held.values()))
    if isinstance(held, Texts):
        return held.codes.nbytes
    if isinstance(held, LabelColumns):
        return sum(_bytes(getattr(held, each.name)) for each in fields(held))
    return held.nbytes if isinstance(held, np.ndarray) else 0
