"""Summaries of logs: a scan a day, streamed through Arrow in pieces and counted there (`tally`).

DuckDB could count as well, but one path serves a tick's forty rows, where planning a large statement would
cost more than all the rest, and a million rows, where both take about a second; and equal cells on every
value need be proved for one path only.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kedge.sketch import PartName
from kedge.store.base import EPOCH_SHIFT, Group, Grouping, PartRow, SummaryKey, SummaryRequest
from kedge.store.duckdb.catalog import Catalog, Day, Model
from kedge.store.duckdb.database import Database
from kedge.store.duckdb.rows import numbers_matrix, text_codes, texts_matrix
from kedge.store.duckdb.tally import (
    Batch,
    CellCounter,
    Floats,
    LabelColumns,
    Segments,
    Texts,
    core_parts,
    label_parts,
)
from kedge.windows import Millis

_ALWAYS = "p.timestamp, p.version, p.cls, p.probability, p.entropy, p.value, p.latency_ms, p.failed"
_LABEL = (
    "l.revision AS l_revision, l.cls AS l_cls, l.value AS l_value, l.timestamp - l.predicted_at AS l_delay,"
    " l.log_loss, l.brier, l.error, l.abs_error, l.squared_error"
)
_CONTEXT = {"service": "service.name", "host": "host.name"}

Parts = dict[SummaryKey, tuple[int, Any]]
"""A part with its fingerprint, by key."""


class Summariser:
    """Answers SummaryRequests."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog

    def summarise(self, request: SummaryRequest) -> list[PartRow]:
        model = self._catalog.models.get(request.model)
        if model is None:
            return []
        answer: Parts = {}
        for day in self._catalog.days_in(request.window):
            for batch in self._scan(day, model, request):
                for key, (fingerprint, part) in _count(batch, model, request):
                    if key in answer:
                        before, sum_so_far = answer[key]
                        fingerprint, part = before + fingerprint, sum_so_far + part
                    answer[key] = (fingerprint, part)
        epoch = request.epoch << EPOCH_SHIFT
        return [PartRow(key, epoch + fingerprint, part) for key, (fingerprint, part) in answer.items()]

    def _scan(self, day: Day, model: Model, request: SummaryRequest) -> Iterator[pa.RecordBatch]:
        labels = PartName.LABELS in request.parts
        only_labels = labels and len(request.parts) == 1
        columns = _ALWAYS
        if _numeric(request) or request.invalid:
            columns += ", p.numbers"
        if _categorical(request) or any(_source(name) for g in request.groupings for name in g):
            columns += ", p.texts"
        within = "model = $1 AND {} >= $2 AND {} < $3"
        source = f"(SELECT * FROM {day.predictions} WHERE {within.format('timestamp', 'timestamp')}) p"
        if labels:
            columns += ", " + _LABEL
            join = "JOIN" if only_labels else "LEFT JOIN"
            labelled = within.format("predicted_at", "predicted_at")
            source += f" {join} (SELECT * FROM {day.labels} WHERE {labelled}) l USING (id)"
        window = request.window
        return self._database.batches(
            f"SELECT {columns} FROM {source}", [model.code, window.start, window.end]
        )


def _numeric(request: SummaryRequest) -> list[str]:
    """The numeric features that are read: for moments first, then those for cells alone."""
    edges = request.edges.numeric if request.edges and PartName.CELLS in request.parts else {}
    moments = request.numeric if PartName.CORE in request.parts else ()
    return _unique((*moments, *edges))


def _categorical(request: SummaryRequest) -> list[str]:
    edges = request.edges.categorical if request.edges and PartName.CELLS in request.parts else {}
    presence = request.categorical if PartName.CORE in request.parts else ()
    return _unique((*presence, *edges))


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _source(dimension: str) -> tuple[str, str] | None:
    """Where the catalog has a dimension; None for the version, a column of its own, and for what is no
    dimension.
    """
    if dimension.startswith("segment."):
        return "segment", dimension.removeprefix("segment.")
    return ("context", _CONTEXT[dimension]) if dimension in _CONTEXT else None


def _count(
    table: pa.RecordBatch, model: Model, request: SummaryRequest
) -> Iterator[tuple[SummaryKey, tuple[int, Any]]]:
    """The parts of one batch."""
    if not table.num_rows:
        return
    numeric, categorical = _numeric(request), _categorical(request)
    batch = _columns(table, model, request, numeric, categorical)
    labels = _labels(table) if PartName.LABELS in request.parts else None
    cells: CellCounter | None = None
    if PartName.CELLS in request.parts and request.edges is not None:
        numbers = {name: batch.numbers[:, i] for i, name in enumerate(numeric)}
        texts = {name: batch.texts[:, i] for i, name in enumerate(categorical)}
        cells = CellCounter(request.edges, numbers, texts, table.num_rows)
    timestamps = table.column("timestamp").to_numpy()
    buckets = timestamps // request.bucket * request.bucket
    for grouping in request.groupings:
        segments, keys = _segments(table, model, grouping, buckets)
        if not keys:
            continue
        rows = segments.total().tolist()

        def key(s: int, part: PartName, edges: str = "") -> SummaryKey:
            bucket, group = keys[s]  # noqa: B023
            return SummaryKey(request.model, group, request.bucket, bucket, part, edges)

        if PartName.CORE in request.parts:
            core = core_parts(
                batch,
                segments,
                _unique(request.numeric),
                _unique(request.categorical),
                _unique(request.invalid),
            )
            for s, part in enumerate(core):
                yield key(s, PartName.CORE), (rows[s], part)
        if cells is not None and request.edges is not None:
            for s, counted in enumerate(cells.parts(segments)):
                yield key(s, PartName.CELLS, request.edges.hash), (rows[s], counted)
        if labels is not None:
            for s, (labelled, revisions) in enumerate(label_parts(batch, labels, segments)):
                if labelled.rows:
                    yield key(s, PartName.LABELS), (revisions, labelled)


def _columns(
    table: pa.RecordBatch, model: Model, request: SummaryRequest, numeric: list[str], categorical: list[str]
) -> Batch:
    n = table.num_rows
    names = table.schema.names
    numbers = np.full((n, 0), np.nan, np.float32)
    invalid = numbers
    if "numbers" in names:
        slots = model.slots["features.num"]
        faulty = model.slots["features.invalid"]
        nowhere = 1 << 30
        positions = [slots.get(name, nowhere) for name in numeric]
        positions += [faulty.get(name, nowhere) for name in _unique(request.invalid)]
        matrix = numbers_matrix(table.column("numbers"), positions)
        numbers, invalid = matrix[:, : len(numeric)], matrix[:, len(numeric) :]
    texts = Texts(np.full((n, 0), -1, np.int32), ())
    if "texts" in names and categorical:
        slots = model.slots["features.cat"]
        texts = Texts(
            *texts_matrix(table.column("texts"), [slots.get(name, 1 << 30) for name in categorical])
        )
    return Batch(
        cls=Texts(*text_codes(table.column("cls"))),
        probability=_floats(table, "probability"),
        entropy=_floats(table, "entropy"),
        value=_floats(table, "value"),
        latency_ms=_floats(table, "latency_ms"),
        failed=table.column("failed").to_numpy(zero_copy_only=False),
        numbers=numbers,
        texts=texts,
        invalid=invalid,
    )


def _labels(table: pa.RecordBatch) -> LabelColumns:
    return LabelColumns(
        revision=pc.fill_null(table.column("l_revision"), 0).to_numpy(),
        cls=Texts(*text_codes(table.column("l_cls"))),
        value=_floats(table, "l_value"),
        log_loss=_floats(table, "log_loss"),
        brier=_floats(table, "brier"),
        error=_floats(table, "error"),
        abs_error=_floats(table, "abs_error"),
        squared_error=_floats(table, "squared_error"),
        delay=_floats(table, "l_delay"),
    )


def _floats(table: pa.RecordBatch, name: str) -> Floats:
    """A column as float32, nan where it is NULL or does not fit."""
    column = table.column(name).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        values = column.astype(np.float32, copy=False)
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def _segments(
    table: pa.RecordBatch, model: Model, grouping: Grouping, buckets: Any
) -> tuple[Segments, list[tuple[Millis, Group]]]:
    """Number the (bucket, group) pairs that occur; rows without one of the dimensions are in none."""
    columns = [_dimension(table, model, name) for name in grouping]
    rows: Any = slice(None)
    if columns:
        rows = np.flatnonzero(np.logical_and.reduce([c.codes >= 0 for c in columns]))
    if columns and not len(rows):
        return Segments(np.zeros(0, np.int64), 0, rows), []
    starts, of = np.unique(buckets[rows], return_inverse=True)
    index = of.astype(np.int64)
    for column in columns:
        # Renumber after each dimension: a product of all their sizes could overflow.
        _, index = np.unique(index * len(column.values) + column.codes[rows], return_inverse=True)
    size = int(index.max()) + 1
    first = np.zeros(size, np.int64)
    first[index[::-1]] = np.arange(len(index) - 1, -1, -1)
    keys = []
    for i in first.tolist():
        row = i if isinstance(rows, slice) else int(rows[i])
        group = tuple(
            sorted((name, c.values[c.codes[row]]) for name, c in zip(grouping, columns, strict=True))
        )
        keys.append((int(starts[of[i]]), group))
    return Segments(index, size, rows), keys


def _dimension(table: pa.RecordBatch, model: Model, name: str) -> Texts:
    """A dimension's value in each row."""
    if name == "version":
        return Texts(*text_codes(table.column("version")))
    source = _source(name)
    position = model.slots[source[0]].get(source[1]) if source else None
    if position is None:
        return Texts(np.full(table.num_rows, -1, np.int32), ("",))
    return Texts(*texts_matrix(table.column("texts"), [position]))[:, 0]
