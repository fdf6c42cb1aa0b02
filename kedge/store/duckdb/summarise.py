"""Summaries of logs: a scan a day, streamed through Arrow in pieces and counted there (`tally`).

DuckDB could count as well, but one path serves a tick's forty rows, where planning a large statement would
cost more than all the rest, and a million rows, where both take about a second; and equal cells on every
value need be proved for one path only.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kedge import record_table
from kedge.sketch import VALUE, Counted, PartName, definitions_key
from kedge.sketch.custom_tally import CustomCounter
from kedge.sketch.tally import (
    Batch,
    CellCounter,
    Floats,
    LabelColumns,
    core_parts,
    finite_floats,
    label_parts,
)
from kedge.sketch.where import leaves
from kedge.store.base import (
    EPOCH_SHIFT,
    Group,
    PartRow,
    SummaryKey,
    SummaryRequest,
)
from kedge.store.duckdb.catalog import SOURCES, Catalog, Day, Model
from kedge.store.duckdb.database import Database
from kedge.store.duckdb.rows import Lists, Texts
from kedge.store.segments import Grouper
from kedge.windows import HOUR, Millis, Window

_ALWAYS = "p.model, p.timestamp, p.version"
_SCALARS = ", p.cls, p.probability, p.entropy, p.value, p.latency_ms, p.failed"
_LABEL = (
    "l.revision AS l_revision, l.cls AS l_cls, l.value AS l_value, l.timestamp - l.predicted_at AS l_delay,"
    " l.log_loss, l.brier, l.error, l.abs_error, l.squared_error"
)
_OUTCOMES = ("success", "failure")
"""`event.outcome` by whether the row failed."""
_ORIGIN = {"service": "service.name", "host": "host.name"}

Parts = dict[SummaryKey, tuple[int, Any]]
"""A part with its fingerprint, by key."""
Keyed = tuple[SummaryKey, tuple[int, Any]]


class Summariser:
    """Answers SummaryRequests."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog

    def summarise(self, request: SummaryRequest) -> list[PartRow]:
        return self.summarise_many([request])[0]

    def summarise_many(self, requests: Sequence[SummaryRequest]) -> list[list[PartRow]]:
        """One scan a day for all that read the same window and columns, whatever their models."""
        alike: dict[_Scan, list[tuple[Model, int]]] = {}
        for i, request in enumerate(requests):
            model = self._catalog.models.get(request.model)
            if model is not None:
                alike.setdefault(_scan_of(request), []).append((model, i))
        answers: list[Parts] = [{} for _ in requests]
        for scan, asked in alike.items():
            codes = sorted({model.code for model, _ in asked})
            for day in self._catalog.days_in(scan.window):
                count = partial(_count, codes=codes, asked=[(model, i, requests[i]) for model, i in asked])
                sql = scan.sql(day, codes, labelled=scan.labels and self._labelled(day, scan.window, codes))
                for counted in self._database.counted(sql, scan.window, count):
                    for i, parts in counted:
                        _add(answers[i], parts)
        return [
            [
                PartRow(key, (request.epoch << EPOCH_SHIFT) + fingerprint, part)
                for key, (fingerprint, part) in answer.items()
            ]
            for request, answer in zip(requests, answers, strict=True)
        ]

    def _labelled(self, day: Day, window: Window, codes: Sequence[int]) -> bool:
        """Whether any row there has a label: where none has, a long scan is a fifth faster without the join.
        In a short window to look is half of the work."""
        if window.length < HOUR:
            return True
        among = f"model IN ({', '.join(map(str, codes))}) AND predicted_at >= $1 AND predicted_at < $2"
        return bool(self._database.rows(f"SELECT 1 FROM {day.labels} WHERE {among} LIMIT 1", window))


class _Scan(NamedTuple):
    """What a request reads of each day."""

    window: Window
    scalars: bool
    numbers: bool
    texts: bool
    details: bool
    labels: bool
    only_labels: bool
    probabilities: bool

    def sql(self, day: Day, codes: Sequence[int], *, labelled: bool) -> str:
        columns = _ALWAYS + _SCALARS * self.scalars + ", p.numbers" * self.numbers + ", p.texts" * self.texts
        columns += ", p.details" * self.details + ", p.probabilities" * self.probabilities
        within = f"model IN ({', '.join(map(str, codes))}) AND {{0}} >= $1 AND {{0}} < $2"
        source = f"(SELECT * FROM {day.predictions} WHERE {within.format('timestamp')}) p"
        if labelled:
            columns += ", " + _LABEL
            join = "JOIN" if self.only_labels else "LEFT JOIN"
            labels = f"SELECT * FROM {day.labels} WHERE {within.format('predicted_at')}"
            source += f" {join} ({labels}) l ON l.id = p.id AND l.model = p.model"
        elif self.only_labels:
            source += " WHERE false"
        return f"SELECT {columns} FROM {source}"


def _scan_of(request: SummaryRequest) -> _Scan:
    labels = PartName.LABELS in request.parts
    texts = _categorical(request) or any(source_of(name) for g in request.groupings for name in g)
    lists = {SOURCES[source] for field in _fields(request) if (source := _stored(field)[0])}
    of_core = _numeric(request) or request.invalid or _attributions(request) or _measured(request)
    return _Scan(
        request.window,
        request.parts != {PartName.CELLS} or bool(request.edges and request.edges.value),
        bool(of_core) or "numbers" in lists,
        bool(texts) or "texts" in lists,
        "details" in lists,
        labels,
        labels and len(request.parts) == 1,
        labels and bool(request.probabilities),
    )


def _count(
    batch: pa.RecordBatch, codes: Sequence[int], asked: Sequence[tuple[Model, int, SummaryRequest]]
) -> list[tuple[int, list[Keyed]]]:
    """The parts of a batch's rows for each request that has any of them, with the request's number."""
    pieces = _by_model(batch, codes)
    return [
        (i, list(_Piece(pieces[model.code], model, request).parts()))
        for model, i, request in asked
        if model.code in pieces
    ]


def _by_model(batch: pa.RecordBatch, codes: Sequence[int]) -> dict[int, pa.RecordBatch]:
    """A batch's rows by model, in their order."""
    if not batch.num_rows:
        return {}
    if len(codes) == 1:
        return {codes[0]: batch}
    models = batch.column("model").to_numpy()
    order = np.argsort(models, kind="stable")
    ordered = batch.take(pa.array(order))
    found, starts = np.unique(models[order], return_index=True)
    ends = [*starts[1:].tolist(), len(order)]
    return {
        code: ordered.slice(start, end - start)
        for code, start, end in zip(found.tolist(), starts.tolist(), ends, strict=True)
    }


def _add(answer: Parts, parts: Iterable[Keyed]) -> None:
    for key, (fingerprint, part) in parts:
        if key in answer:
            before, sum_so_far = answer[key]
            fingerprint, part = before + fingerprint, sum_so_far + part
        answer[key] = (fingerprint, part)


def _numeric(request: SummaryRequest) -> list[str]:
    """The numeric features that are read: for moments first, then those for cells alone."""
    edges = request.edges.numeric if request.edges and PartName.CELLS in request.parts else {}
    moments = request.numeric if PartName.CORE in request.parts else ()
    return _unique((*moments, *edges))


def _categorical(request: SummaryRequest) -> list[str]:
    edges = request.edges.categorical if request.edges and PartName.CELLS in request.parts else {}
    presence = request.categorical if PartName.CORE in request.parts else ()
    return _unique((*presence, *edges))


def _attributions(request: SummaryRequest) -> list[str]:
    return _unique(request.attributions) if PartName.CORE in request.parts else []


def _measured(request: SummaryRequest) -> list[str]:
    return _unique(request.measured) if PartName.CORE in request.parts else []


def _custom(request: SummaryRequest) -> tuple[Counted, ...]:
    return request.custom if PartName.CUSTOM in request.parts else ()


def _fields(request: SummaryRequest) -> set[str]:
    """Those that users' own metrics look at."""
    asked = _custom(request)
    read = {leaf.field for one in asked if one.where is not None for leaf in leaves(one.where)}
    return read | {one.field for one in asked if one.field}


def _stored(field: str) -> tuple[str, str]:
    """The source (catalog.SOURCES) that a field of a filter lies in, and its name there; columns of the table
    have none."""
    if field == "error.type":
        return "details", field
    if field in _ORIGIN.values():
        return "origin", field
    source = next((s for s in SOURCES if field.startswith(f"{s}.")), "")
    return source, field.removeprefix(f"{source}.")


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def source_of(dimension: str) -> tuple[str, str] | None:
    """Where the catalog has a dimension; None for the version, a column of its own, and for what is no
    dimension.
    """
    if dimension.startswith("segment."):
        return "segment", dimension.removeprefix("segment.")
    return ("origin", _ORIGIN[dimension]) if dimension in _ORIGIN else None


class _Piece:
    """One record batch of a scan, counted as the request asks."""

    def __init__(self, table: pa.RecordBatch, model: Model, request: SummaryRequest) -> None:
        self._table = table
        self._model = model
        self._request = request
        lists = ("texts", "details", "numbers", "probabilities")
        held = [name for name in lists if name in table.schema.names]
        self._lists = {name: Lists(table.column(name)) for name in held}

    def parts(self) -> Iterator[Keyed]:
        """Each part of each bucket and group, with its fingerprint."""
        request, table = self._request, self._table
        if not table.num_rows:
            return
        batch = self._batch()
        labels = _labels(table) if "l_revision" in table.schema.names else None
        cells = self._cells(batch)
        asked = _custom(request)
        custom = CustomCounter(asked, _Fields(self, batch)) if asked else None
        defined = definitions_key(asked)
        buckets = table.column("timestamp").to_numpy() // request.bucket * request.bucket
        grouper = Grouper(request, self._dimension, buckets)
        for grouping in request.groupings:
            segments, keys = grouper.segments(grouping)
            rows = segments.total().tolist()
            if PartName.CORE in request.parts:
                names = (request.numeric, request.categorical, request.invalid, request.attributions)
                cores = core_parts(batch, segments, *map(_unique, (*names, request.measured)))
                for at, n, core in zip(keys, rows, cores, strict=True):
                    yield self._key(at, PartName.CORE), (n, core)
            if cells is not None and request.edges is not None:
                for at, n, counted in zip(keys, rows, cells.parts(segments), strict=True):
                    yield self._key(at, PartName.CELLS, request.edges.hash), (n, counted)
            if custom is not None:
                for at, n, counted_for in zip(keys, rows, custom.parts(segments), strict=True):
                    yield self._key(at, PartName.CUSTOM, defined), (n, counted_for)
            if labels is not None:
                for at, (labelled, revisions) in zip(keys, label_parts(batch, labels, segments), strict=True):
                    if labelled.rows:
                        yield self._key(at, PartName.LABELS), (revisions, labelled)

    def _key(self, at: tuple[Millis, Group], part: PartName, edges: str = "") -> SummaryKey:
        bucket, group = at
        return SummaryKey(self._request.model, group, self._request.bucket, bucket, part, edges)

    def _batch(self) -> Batch:
        table, slots = self._table, self._model.slots
        numeric, invalid = _numeric(self._request), _unique(self._request.invalid)
        attributions = _attributions(self._request)
        measured = _measured(self._request)
        if numeric or invalid or attributions or measured:
            positions = [slots["features.num"].get(name) for name in numeric]
            positions += [slots["features.invalid"].get(name) for name in invalid]
            positions += [slots["attributions"].get(name) for name in attributions]
            positions += [slots[source].get(name) for source, name in map(_stored, measured)]
            numbers = self._lists["numbers"].numbers(positions)
        else:
            numbers = np.zeros((table.num_rows, 0), np.float32)
        scalars = "cls" in table.schema.names
        nothing = np.full(table.num_rows, np.nan, np.float32)
        return Batch(
            cls=Texts.of(table.column("cls")) if scalars else Texts.missing(table.num_rows),
            probability=_floats(table, "probability") if scalars else nothing,
            entropy=_floats(table, "entropy") if scalars else nothing,
            value=_floats(table, "value") if scalars else nothing,
            latency_ms=_floats(table, "latency_ms") if scalars else nothing,
            failed=table.column("failed").to_numpy(zero_copy_only=False) if scalars else np.isfinite(nothing),
            numbers=numbers[:, : len(numeric)],
            texts=[self._text("features.cat", name) for name in _categorical(self._request)],
            invalid=numbers[:, len(numeric) : len(numeric) + len(invalid)],
            attributions=numbers[:, len(numeric) + len(invalid) :][:, : len(attributions)],
            measured=numbers[:, numbers.shape[1] - len(measured) :],
            probabilities=self._probabilities(),
        )

    def _probabilities(self) -> dict[str, Floats]:
        """By class, where rows are ranked by them."""
        if "probabilities" not in self._lists:
            return {}
        classes = _unique(self._request.probabilities)
        slots = self._model.slots["prediction.probabilities"]
        columns = self._lists["probabilities"].numbers([slots.get(cls) for cls in classes])
        return dict(zip(classes, columns.T, strict=True))

    def number_at(self, source: str, name: str) -> Floats:
        """A field of the list of numbers."""
        return self._lists["numbers"].numbers([self._model.slots[source].get(name)])[:, 0]

    def text_at(self, field: str) -> Texts:
        """A text field of a filter, by its name there."""
        if field == "model.version":
            return Texts.of(self._table.column("version"))
        source, name = _stored(field)
        return self._lists[SOURCES[source]].texts(self._model.slots[source].get(name))

    def _text(self, source: str, name: str) -> Texts:
        if "texts" not in self._lists:
            return Texts.missing(self._table.num_rows)
        return self._lists["texts"].texts(self._model.slots[source].get(name))

    def _cells(self, batch: Batch) -> CellCounter | None:
        request = self._request
        if PartName.CELLS not in request.parts or request.edges is None:
            return None
        numbers = {name: batch.numbers[:, i] for i, name in enumerate(_numeric(request))}
        numbers[VALUE] = batch.value
        texts = dict(zip(_categorical(request), batch.texts, strict=True))
        return CellCounter(request.edges, numbers, texts, self._table.num_rows)

    def _dimension(self, name: str) -> Texts:
        """A dimension's value in each row."""
        if name == "version":
            return Texts.of(self._table.column("version"))
        source = source_of(name)
        return self._text(*source) if source else Texts.missing(self._table.num_rows)


class _Fields:
    """A batch's fields by their names in filters (custom_tally.Columns)."""

    def __init__(self, piece: _Piece, batch: Batch) -> None:
        self._piece = piece
        self._batch = batch

    def __len__(self) -> int:
        return len(self._batch.failed)

    def text(self, field: str) -> record_table.Texts:
        match field:
            case "prediction.class":
                return self._batch.cls
            case "event.outcome":
                return record_table.Texts(self._batch.failed.astype(np.int32), _OUTCOMES)
            case _:
                return self._piece.text_at(field)

    def number(self, field: str) -> Floats:
        if field == "latency_ms":
            return self._batch.latency_ms
        if field.startswith("prediction."):
            found: Floats = getattr(self._batch, field.removeprefix("prediction."))
            return found
        return self._piece.number_at(*_stored(field))


def _labels(table: pa.RecordBatch) -> LabelColumns:
    return LabelColumns(
        revision=pc.fill_null(table.column("l_revision"), 0).to_numpy(),
        cls=Texts.of(table.column("l_cls")),
        value=_floats(table, "l_value"),
        log_loss=_floats(table, "log_loss"),
        brier=_floats(table, "brier"),
        error=_floats(table, "error"),
        abs_error=_floats(table, "abs_error"),
        squared_error=_floats(table, "squared_error"),
        delay=_floats(table, "l_delay"),
    )


def _floats(table: pa.RecordBatch, name: str) -> Floats:
    return finite_floats(table.column(name))
