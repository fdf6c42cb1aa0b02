"""Counting a batch of rows into the parts of Summaries, for all buckets and groups of it at once. Numpy only.

A *segment* is one bucket of one group: every row has the number of its segment, and a count is one `bincount`
over segment x cell. So the cost hardly depends on how many buckets, groups or features there are, only on
values counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge.record_table import Texts
from kedge.sketch import (
    DELAY,
    LATENCY,
    SCORE_CELLS,
    SCORE_WIDTH,
    CategoricalEdges,
    Cells,
    Core,
    Counts,
    EdgeSet,
    Labels,
    LogScale,
    Moments,
    NumericEdges,
)

RUN_ROWS = 1_000
"""Rows a segment, on average, from which counting run by run pays."""
DENSE = 1_000
"""Rows of score cells that are made without looking which of them occur."""

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class LabelColumns:
    """Of a batch's rows; those without a label have revision 0."""

    revision: NDArray[np.int64]
    cls: Texts
    value: Floats
    log_loss: Floats
    brier: Floats
    error: Floats
    abs_error: Floats
    squared_error: Floats
    delay: Floats


@dataclass(frozen=True)
class Batch:
    """Rows as columns; float32, nan where missing."""

    cls: Texts
    probability: Floats
    entropy: Floats
    value: Floats
    latency_ms: Floats
    failed: Mask
    numbers: Floats
    """Shape (rows, numeric features asked for)."""
    texts: Sequence[Texts]
    """A column for each categorical feature asked for."""
    invalid: Floats
    attributions: Floats
    """Shape (rows, features whose attributions are asked for)."""
    measured: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """Shape (rows, measurements asked for)."""
    probabilities: Mapping[str, Floats] = field(default_factory=dict)
    """By class that labelled rows are ranked by (`parts.ranked`): its probability."""


class Segments:
    """Which of the batch's rows count, and in which of `size` segments each."""

    def __init__(self, of: Ints, size: int, rows: Ints | slice) -> None:
        self.of = of
        self.size = size
        self.rows = rows

    @cached_property
    def runs(self) -> list[slice] | None:
        """Where each segment lies, if the rows lie segment by segment and there are many of each.

        Then a comparison of a whole run with one edge is faster than to look for each row's cell: 16 values
        an instruction.
        """
        if not isinstance(self.rows, slice) or len(self.of) < max(self.size, 1) * RUN_ROWS:
            return None
        if self.size > 1 and (self.of[1:] < self.of[:-1]).any():
            return None
        bounds = np.searchsorted(self.of, np.arange(self.size + 1)).tolist()
        return [slice(start, end) for start, end in pairwise(bounds)]

    def count(self, cells: Ints, width: int, where: Mask | None = None) -> Counts:
        """Rows by segment and cell, shape (segments, width)."""
        index = self.of * width + cells
        if where is not None:
            index = index[where]
        return (
            np.bincount(index, minlength=self.size * width)
            .reshape(self.size, width)
            .astype(np.int64, copy=False)
        )

    def total(self, where: Mask | None = None) -> Counts:
        of = self.of if where is None else self.of[where]
        return np.bincount(of, minlength=self.size).astype(np.int64, copy=False)

    def moments(self, columns: Floats) -> list[list[Moments]]:
        """Of each column in each segment; `columns` has shape (rows, columns)."""
        if self.runs is not None:
            return [[_moments(column[run]) for column in columns.T] for run in self.runs]
        width = columns.shape[1]
        held = np.isfinite(columns)
        index = (self.of[:, None] * width + np.arange(width))[held]
        values = columns[held].astype(np.float64)
        size = self.size * width
        n = np.bincount(index, minlength=size)
        # Two passes: a difference of sums of squares would lose the digits of a small spread on a large mean.
        mean = np.bincount(index, values, size) / np.maximum(n, 1)
        m2 = np.bincount(index, (values - mean[index]) ** 2, size)
        low, high = np.full(size, np.inf), np.full(size, -np.inf)
        np.minimum.at(low, index, values)
        np.maximum.at(high, index, values)
        flat = list(map(Moments, n.tolist(), mean.tolist(), m2.tolist(), low.tolist(), high.tolist()))
        held_or_zero = [m if m.n else Moments.ZERO for m in flat]
        return [held_or_zero[s * width : (s + 1) * width] for s in range(self.size)]

    def on_scale(self, scale: LogScale, values: Floats) -> Counts:
        cells = np.searchsorted(scale.edges, values, side="right")
        return self.count(cells, scale.size, np.isfinite(values))

    def scores(self, keys: Ints, probability: Floats) -> list[dict[int, Counts]]:
        """For each segment, by key (negative: not counted): rows by score cell, the missing ones in the
        last.
        """
        keyed = keys >= 0
        missing = np.isnan(probability)
        cells = (np.where(missing, 0, probability).astype(np.float64) / SCORE_WIDTH).astype(np.int64)
        cells = np.where(missing, SCORE_CELLS, np.minimum(cells, SCORE_CELLS - 1))
        span = int(keys.max(initial=0)) + 1
        row = self.of[keyed].astype(np.int64) * span + keys[keyed]
        if self.size * span <= DENSE:
            pairs = np.arange(self.size * span)
        else:  # only pairs of segment and key that occur get a row of cells: classes may be many
            pairs, row = np.unique(row, return_inverse=True)
        width = SCORE_CELLS + 1
        counts = np.bincount(row * width + cells[keyed], minlength=len(pairs) * width).reshape(
            len(pairs), width
        )
        answer: list[dict[int, Counts]] = [{} for _ in range(self.size)]
        for pair, cell_counts in zip(pairs.tolist(), counts.astype(np.int64, copy=False), strict=True):
            if cell_counts.any():
                answer[pair // span][pair % span] = cell_counts
        return answer


def _moments(column: Floats) -> Moments:
    """Of the values that are there: finite, so their mean is not a number where one is missing."""
    if not column.size:
        return Moments.ZERO
    values = column.astype(np.float64)
    mean = values.mean()
    if np.isnan(mean):
        return _moments(column[~np.isnan(column)])
    values -= mean
    m2 = np.square(values, out=values).sum()
    return Moments(column.size, float(mean), float(m2), float(column.min()), float(column.max()))


def core_parts(
    batch: Batch,
    segments: Segments,
    numeric: Sequence[str],
    categorical: Sequence[str],
    invalid: Sequence[str],
    attributions: Sequence[str],
    measured: Sequence[str] = (),
) -> list[Core]:
    """The core part of each segment. The first columns of the batch's matrices bear these names."""
    at = segments.rows
    scalars = np.column_stack([batch.latency_ms, batch.probability, batch.entropy, batch.value])[at]
    rows = segments.total()
    errors = segments.total(batch.failed[at])
    latency = segments.on_scale(LATENCY, batch.latency_ms[at])
    moments = segments.moments(scalars)
    features = segments.moments(batch.numbers[at, : len(numeric)])
    scores = segments.scores(batch.cls.codes[at], batch.probability[at])
    texts = [column.codes[at] >= 0 for column in batch.texts[: len(categorical)]]
    present = _present(segments, texts, categorical)
    faulty = _present(segments, [np.isfinite(column) for column in batch.invalid[at].T], invalid)
    absolute: list[list[Moments]] = [[]] * segments.size
    if attributions:
        absolute = segments.moments(np.abs(batch.attributions[at]))
    measurements: list[list[Moments]] = [[]] * segments.size
    if measured:
        measurements = segments.moments(batch.measured[at])
    return [
        Core(
            rows=int(rows[s]),
            errors=int(errors[s]),
            latency=latency[s],
            latency_ms=moments[s][0],
            scores={batch.cls.values[code]: cells for code, cells in scores[s].items()},
            confidence=moments[s][1],
            entropy=moments[s][2],
            value=moments[s][3],
            numeric={name: m for name, m in zip(numeric, features[s], strict=True) if m.n},
            present=present[s],
            invalid=faulty[s],
            attributions={name: m for name, m in zip(attributions, absolute[s], strict=True) if m.n},
            measured={name: m for name, m in zip(measured, measurements[s], strict=True) if m.n},
        )
        for s in range(segments.size)
    ]


def _columns(columns: Sequence[NDArray[Any]], rows: int) -> NDArray[Any]:
    """Columns side by side, also where there are none."""
    return np.column_stack(columns) if columns else np.zeros((rows, 0), np.bool_)


def _present(segments: Segments, held: Sequence[Mask], names: Sequence[str]) -> list[dict[str, int]]:
    """For each segment and name how many rows hold it; names that none holds are left out."""
    if segments.runs is not None:
        table = [[int(np.count_nonzero(column[run])) for column in held] for run in segments.runs]
    else:
        table = np.column_stack([segments.total(column) for column in held]).tolist() if held else []
    table = table or [[] for _ in range(segments.size)]
    return [{name: n for name, n in zip(names, row, strict=True) if n} for row in table]


class CellCounter:
    """Counts rows on an EdgeSet; made once for a batch, used for each of its groupings."""

    def __init__(
        self, edges: EdgeSet, numbers: Mapping[str, Floats], texts: Mapping[str, Texts], rows: int
    ) -> None:
        """`numbers` and `texts` hold the features' columns, and under VALUE the predicted values; a feature
        without one is missing in every row.
        """
        self._edges = edges
        self._numbers, self._texts, self._rows = numbers, texts, rows
        sizes = [frozen.size for frozen in edges.counted.values()]
        self._starts = dict(zip(edges.counted, [0, *accumulate(sizes)], strict=False))
        self._width = sum(sizes)

    @cached_property
    def _cells(self) -> Ints:
        """Each row's cell of each feature, numbered through all features."""
        columns: list[Ints] = []
        for name, frozen in self._edges.counted.items():
            column: Ints | None = None
            if isinstance(frozen, NumericEdges):
                if name in self._numbers:
                    column = numeric_cells(frozen, self._numbers[name])
            elif name in self._texts:
                column = categorical_cells(frozen, self._texts[name])
            if column is None:
                column = np.full(self._rows, frozen.size - 1)
            columns.append(column + self._starts[name])
        return _columns(columns, self._rows)

    def _of_run(self, run: slice) -> Counts:
        """The counts of all cells over neighbouring rows."""
        counted: list[Counts] = []
        for name, frozen in self._edges.counted.items():
            if isinstance(frozen, NumericEdges) and name in self._numbers:
                counted.append(_numeric_counts(frozen, self._numbers[name][run]))
            elif isinstance(frozen, CategoricalEdges) and name in self._texts:
                counted.append(_categorical_counts(frozen, self._texts[name], run))
            else:
                counts = np.zeros(frozen.size, np.int64)
                counts[-1] = run.stop - run.start
                counted.append(counts)
        return np.concatenate(counted) if counted else np.zeros(0, np.int64)

    def parts(self, segments: Segments) -> list[Cells]:
        """The cells part of each segment."""
        if segments.runs is not None:
            table = np.array([self._of_run(run) for run in segments.runs])
        else:
            index = segments.of[:, None] * self._width + self._cells[segments.rows]
            counts = np.bincount(index.ravel(), minlength=segments.size * self._width)
            table = counts.reshape(segments.size, self._width).astype(np.int64, copy=False)
        features = [(name, e.hash, self._starts[name], e.size) for name, e in self._edges.counted.items()]
        return [
            Cells({name: (digest, row[start : start + size]) for name, digest, start, size in features})
            for row in table
        ]


def finite_floats(column: pa.Array) -> Floats:
    """A column as float32, nan where it is NULL or does not fit."""
    return rounded(column.to_numpy(zero_copy_only=False))


def rounded(held: NDArray[Any]) -> Floats:
    """Numbers as float32, nan where they are none or do not fit."""
    with np.errstate(over="ignore"):
        values = held.astype(np.float32, copy=False)
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, np.float32(np.nan))


def numeric_cells(edges: NumericEdges, values: Floats) -> Ints:
    """The cell of each value; *missing* of nan."""
    cells = np.searchsorted(np.array(edges.edges, np.float32), values, side="right")
    return np.where(np.isnan(values), edges.size - 1, cells)


def _numeric_counts(edges: NumericEdges, values: Floats) -> Counts:
    """How many lie at or above each edge says how many lie in each cell."""
    held = values.size - int(np.count_nonzero(np.isnan(values)))
    reached = [int(np.count_nonzero(values >= edge)) for edge in np.array(edges.edges, np.float32)]
    cells = [before - after for before, after in pairwise([held, *reached, 0])]
    return np.array([*cells, values.size - held], np.int64)


def _categorical_counts(edges: CategoricalEdges, column: Texts, run: slice) -> Counts:
    times = np.bincount(column.codes[run] + 1, minlength=len(column.values) + 1)
    counts = np.zeros(edges.size, np.int64)
    # Code -1, which is missing, comes first here and takes the last cell there.
    np.add.at(counts, _cell_of_code(edges, column), np.append(times[1:], times[0]))
    return counts


def categorical_cells(edges: CategoricalEdges, column: Texts) -> Ints:
    """The cell of each value."""
    return _cell_of_code(edges, column)[column.codes]


def _cell_of_code(edges: CategoricalEdges, column: Texts) -> Ints:
    """By code; -1 takes the last."""
    other, unseen, missing = edges.size - 3, edges.size - 2, edges.size - 1
    cell_of = {text: i for i, text in enumerate(edges.values)} | dict.fromkeys(edges.others, other)
    cells = [cell_of.get(text, unseen) for text in column.values]
    return np.array([*cells, missing], np.int64)


def label_parts(batch: Batch, labels: LabelColumns, segments: Segments) -> list[tuple[Labels, int]]:
    """The labels part of each segment, with the sum of its label revisions; zero rows where it has no
    label.
    """
    held = labels.revision[segments.rows] > 0
    rows = np.flatnonzero(held) if isinstance(segments.rows, slice) else segments.rows[held]
    labelled = Segments(segments.of[held], segments.size, rows)
    counts = labelled.total()
    # Revisions are summed as integers: a float would lose the last change of a long history.
    revisions = np.zeros(segments.size, np.int64)
    np.add.at(revisions, labelled.of, labels.revision[rows])
    names = ("log_loss", "brier", "error", "abs_error", "squared_error", "value")
    moments = labelled.moments(np.column_stack([getattr(labels, name) for name in names])[rows])
    predicted, actual = batch.cls.codes[rows].astype(np.int64), labels.cls.codes[rows].astype(np.int64)
    span = len(labels.cls.values) + 1
    pairs = np.where((predicted >= 0) & (actual >= 0), predicted * span + actual, -1)
    scores = labelled.scores(pairs, batch.probability[rows])
    delay = labelled.on_scale(DELAY, labels.delay[rows])
    ranks = _ranks(labelled, {c: p[rows] for c, p in batch.probabilities.items()}, labels.cls, actual)
    return [
        (
            Labels(
                rows=int(counts[s]),
                scores={
                    (batch.cls.values[pair // span], labels.cls.values[pair % span]): cells
                    for pair, cells in scores[s].items()
                },
                delay=delay[s],
                ranks=ranks[s],
                **dict(zip(names, moments[s], strict=True)),
            ),
            int(revisions[s]),
        )
        for s in range(segments.size)
    ]


def _ranks(
    labelled: Segments, probabilities: Mapping[str, Floats], truth: Texts, actual: NDArray[np.int64]
) -> list[dict[tuple[str, bool], Counts]]:
    """`Labels.ranks` of each segment; `actual` is the code in `truth` of each row's label."""
    answer: list[dict[tuple[str, bool], Counts]] = [{} for _ in range(labelled.size)]
    codes = {name: code for code, name in enumerate(truth.values)}
    for cls, probability in probabilities.items():
        own = actual == codes.get(cls, -2)
        keys = np.where((actual >= 0) & ~np.isnan(probability), own.astype(np.int64), -1)
        for ranks, by_side in zip(answer, labelled.scores(keys, probability), strict=True):
            ranks |= {(cls, bool(side)): cells[:SCORE_CELLS] for side, cells in by_side.items()}
    return answer
