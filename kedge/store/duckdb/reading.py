"""Reading rows back: reference columns for edges, and the newest rows as documents."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge.sketch import VALUE, EdgeSet, Moments, NumericEdges
from kedge.sketch.draw import Drawn, edges_of
from kedge.sketch.quantiles import of_counts
from kedge.sketch.tally import Segments, finite_floats, numeric_cells
from kedge.store.base import Json
from kedge.store.duckdb.catalog import SOURCES, Catalog, Model
from kedge.store.duckdb.database import Database
from kedge.store.duckdb.rows import Lists, names_at
from kedge.store.duckdb.summarise import source_of
from kedge.store.flaws import Flaw, Problem
from kedge.store.values import CLASS, EXAMPLES, FEATURE, ValueCount, ValueQuery, merged
from kedge.windows import Window, iso

_WITHIN = "model = $1 AND timestamp >= $2 AND timestamp < $3"
_LABEL_FIELDS = ("cls", "value", "timestamp", "ingested")
_OUTCOME_FIELDS = ("correct", "log_loss", "brier", "error", "abs_error", "squared_error")


def _within(code: int, window: Window, version: str | None) -> tuple[str, list[Any]]:
    """The condition on rows, and what is put into it."""
    if version is None:
        return _WITHIN, [code, *window]
    return f"{_WITHIN} AND version = $4", [code, *window, version]


class Reader:
    """Reads predictions of one model in a window."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog

    def edges(
        self,
        model: str,
        window: Window,
        numeric: Sequence[str],
        categorical: Sequence[str],
        version: str | None = None,
    ) -> EdgeSet:
        """From linear quantiles (numpy's default) of all values, or of a sample from SAMPLED_FROM rows, and
        full value counts."""
        known = self._catalog.models.get(model)
        if known is None:
            return EdgeSet({})
        numbers = [(name, p) for name in numeric if (p := known.slots["features.num"].get(name)) is not None]
        texts = [
            (name, p) for name in categorical if (p := known.slots["features.cat"].get(name)) is not None
        ]
        within, asked = _within(known.code, window, version)
        drawn = Drawn(len(numbers) + 1, self._count(within, asked, window))
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        read = partial(_read, numbers=[p for _, p in numbers], texts=[p for _, p in texts])
        for day in self._catalog.days_in(window):
            sql = f"SELECT numbers, texts, value FROM {day.predictions} WHERE {within}"
            for values, times in self._database.counted(sql, asked, read):
                drawn.add(values)
                for (name, _), of_value in zip(texts, times, strict=True):
                    counts[name].update(of_value)
        columns = [(name, f"numbers[{position + 1}]") for name, position in numbers]
        quantiles = {
            name: self._of_few(within, asked, window, column) if drawn.few(i) else drawn.quantiles(i)
            for i, (name, column) in enumerate([*columns, (VALUE, "value::FLOAT")])
        }
        return edges_of(quantiles, counts)

    def errors_by_value(
        self, model: str, window: Window, edges: NumericEdges, version: str | None = None
    ) -> list[Moments]:
        """Of the rows whose label was joined with an error."""
        sums = [Moments.ZERO] * edges.size
        known = self._catalog.models.get(model)
        if known is None:
            return sums
        within, asked = _within(known.code, window, version)
        for day in self._catalog.days_in(window):
            labelled = (
                f"SELECT p.value, l.abs_error FROM (SELECT * FROM {day.predictions} WHERE {within}) p"
                f" JOIN {day.labels} l USING (model, id) WHERE l.abs_error IS NOT NULL"
            )
            for batch in self._database.batches(labelled, [*asked]):
                cells = numeric_cells(edges, finite_floats(batch.column("value")))
                errors = finite_floats(batch.column("abs_error"))[:, None]
                by_cell = Segments(cells, edges.size, slice(None)).moments(errors)
                sums = [before + more for before, (more,) in zip(sums, by_cell, strict=True)]
        return sums

    def _count(self, within: str, asked: Sequence[Any], window: Window) -> int:
        return sum(
            self._database.rows(f"SELECT count(*) FROM {day.predictions} WHERE {within}", asked)[0][0]
            for day in self._catalog.days_in(window)
        )

    def _of_few(self, within: str, asked: Sequence[Any], window: Window, column: str) -> NDArray[np.float64]:
        """The quantiles of one numeric column from a count of each of its values."""
        times: Counter[float] = Counter()
        for day in self._catalog.days_in(window):
            sql = (
                f"SELECT {column} AS held, count(*) FROM {day.predictions}"
                f" WHERE {within} AND isfinite(held) GROUP BY held"
            )
            times.update(dict(self._database.rows(sql, asked)))
        values = sorted(times)
        return of_counts(np.array(values, np.float64), np.array([times[v] for v in values], np.int64))

    def examples(self, model: str, window: Window, limit: int, flaw: Flaw | None = None) -> list[Json]:
        """The newest rows, newest first, as documents in DESIGN's names; only those with the flaw, if any."""
        known = self._catalog.models.get(model)
        documents: list[Json] = []
        if known is None:
            return documents
        flawed, more = _flawed(known, flaw) if flaw is not None else ("", [])
        for day in reversed(self._catalog.days_in(window)):
            if len(documents) >= limit:
                break
            labels = ", ".join(f"l.{name} AS label_{name}" for name in _LABEL_FIELDS)
            outcomes = ", ".join(f"l.{name} AS outcome_{name}" for name in _OUTCOME_FIELDS)
            with_labels = (
                f"SELECT p.*, {labels}, {outcomes} FROM (SELECT * FROM {day.predictions}"
                f" WHERE {_WITHIN}{flawed}"
                " ORDER BY timestamp DESC, id DESC LIMIT $4) p"
                f" LEFT JOIN {day.labels} l USING (model, id) ORDER BY p.timestamp DESC, p.id DESC"
            )
            lacking = limit - len(documents)
            for batch in self._database.batches(with_labels, [known.code, *window, lacking, *more]):
                documents += [_document(row, known) for row in batch.to_pylist()]
        return documents

    def values(self, query: ValueQuery) -> list[ValueCount]:
        """The values of one field of text."""
        known = self._catalog.models.get(query.model)
        column = _text(known, query.field) if known is not None else None
        if known is None or column is None:
            return []
        asked: list[Any] = [known.code, *query.window]
        where = f"{_WITHIN} AND held IS NOT NULL"
        for name, value in query.group:
            held = _text(known, name)
            if held is None:
                return []
            asked.append(value)
            where += f" AND {held} = ${len(asked)}"
        if query.without:
            asked.append(sorted(query.without))
            where += f" AND NOT list_contains(${len(asked)}, held)"
        if query.among is not None:
            asked.append(sorted(query.among))
            where += f" AND list_contains(${len(asked)}::VARCHAR[], held)"
        newest = f"max_by(id, timestamp, {EXAMPLES})" if query.examples else "[]"
        counts = []
        for day in reversed(self._catalog.days_in(query.window)):
            chosen = f"SELECT {column} AS held, count(*), {newest} FROM {day.predictions}"
            found = self._database.rows(f"{chosen} WHERE {where} GROUP BY held", asked)
            counts += [ValueCount(value, rows, tuple(ids)) for value, rows, ids in found]
        return merged(counts)


def _text(known: Model, field: str) -> str | None:
    """Where a field of text is in a row; None where no row of the model ever had it."""
    columns = {"version": "version", CLASS: "cls"}
    if field in columns:
        return columns[field]
    origins = {"service": "service.name", "host": "host.name"}
    for source, name in (
        ("features.cat", field.removeprefix(FEATURE)) if field.startswith(FEATURE) else ("", ""),
        ("segment", field.removeprefix("segment.")) if field.startswith("segment.") else ("", ""),
        ("origin", origins.get(field, "")),
    ):
        position = known.slots.get(source, {}).get(name)
        if position is not None:
            return f"texts[{position + 1}]"
    return None


def _read(
    batch: pa.RecordBatch, numbers: Sequence[int], texts: Sequence[int]
) -> tuple[list[NDArray[np.float32]], list[dict[str, int]]]:
    """The numbers at some positions and, last, the predicted values, a column each; and how often each text
    is at others."""
    lists = Lists(batch.column("texts"))
    times = []
    for values in map(lists.texts, texts):
        counts = np.bincount(values.codes + 1, minlength=len(values.values) + 1)[1:].tolist()
        times.append(dict(zip(values.values, counts, strict=True)))
    matrix = Lists(batch.column("numbers")).numbers(numbers)
    return [*matrix.T, finite_floats(batch.column("value"))], times


def _flawed(known: Model, flaw: Flaw) -> tuple[str, list[Any]]:
    """The condition that a row has a flaw and is of its group, and the parameters from $5 on."""
    condition, asked = _faulty(known, flaw)
    for dimension, value in flaw.group:
        asked.append(value)
        condition += f" AND {_held_in(known, dimension)} = ${4 + len(asked)}"
    return condition, asked


def _held_in(known: Model, dimension: str) -> str:
    """Where a row has its value of a dimension."""
    source = source_of(dimension)
    if source is None:
        return "version" if dimension == "version" else "NULL"
    position = known.slots[source[0]].get(source[1])
    return "NULL" if position is None else f"{SOURCES[source[0]]}[{position + 1}]"


def _faulty(known: Model, flaw: Flaw) -> tuple[str, list[Any]]:
    number, text, invalid = (
        f"{within}[{position + 1}]" if position is not None else "NULL"
        for within, source in (("numbers", "num"), ("texts", "cat"), ("numbers", "invalid"))
        for position in [known.slots[f"features.{source}"].get(flaw.feature)]
    )
    is_number, is_text = f"coalesce(isfinite({number}::FLOAT), false)", f"{text} IS NOT NULL"
    is_invalid = f"{invalid} IS NOT NULL"
    match flaw.problem:
        case Problem.MISSING:
            return f" AND NOT ({is_number} OR {is_text} OR {is_invalid})", []
        case Problem.INVALID:
            return f" AND ({is_text if flaw.numeric else is_number} OR {is_invalid})", []
        case Problem.UNSEEN:
            return f" AND {is_text} AND NOT list_contains($5, {text})", [flaw.known]
        case Problem.OUT_OF_RANGE:
            return f" AND {is_number} AND ({number} < $5 OR {number} >= $6)", [*flaw.bounds]
        case Problem.PRESENT:
            return f" AND {is_number if flaw.numeric else is_text}", []
        case Problem.CELL if flaw.numeric:
            return f" AND {is_number} AND {number} >= $5 AND {number} < $6", [*flaw.bounds]
        case Problem.CELL:
            return f" AND {is_text} AND list_contains($5, {text})", [flaw.known]
        case Problem.DUPLICATE | Problem.AHEAD:
            return " AND list_contains($5::VARCHAR[], id)", [list(flaw.ids)]


def _document(row: Mapping[str, Any], model: Model) -> Json:
    """A stored row as the document that Elasticsearch would hold; what is missing is left out."""
    fields: dict[str, dict[str, Any]] = {}
    for source, within in SOURCES.items():
        values = row[within]
        fields[source] = {
            name: values[p]
            for name, p in names_at(model.slots[source])
            if p < len(values) and values[p] is not None
        }
    origin, details = fields["origin"], fields["details"]
    delay = None if row["label_timestamp"] is None else row["label_timestamp"] - row["timestamp"]
    document = {
        "@timestamp": iso(row["timestamp"]),
        "event": {
            "id": row["id"],
            "ingested": iso(row["ingested"]),
            "outcome": "failure" if row["failed"] else "success",
        },
        "model": {"name": model.name, "version": row["version"]},
        "prediction": {
            "class": row["cls"],
            "probability": row["probability"],
            "probabilities": fields["prediction.probabilities"],
            "value": row["value"],
            "entropy": row["entropy"],
        },
        "features": {
            "num": fields["features.num"],
            "cat": fields["features.cat"],
            "invalid": sorted(fields["features.invalid"]),
        },
        "attributions": fields["attributions"],
        "label": {
            "class": row["label_cls"],
            "value": row["label_value"],
            "timestamp": _time(row["label_timestamp"]),
            "ingested": _time(row["label_ingested"]),
            "delay_ms": delay,
        },
        "outcome": {name: row[f"outcome_{name}"] for name in _OUTCOME_FIELDS},
        "segment": fields["segment"],
        "latency_ms": row["latency_ms"],
        "resource": fields["resource"],
        "business": fields["business"],
        "service": {"name": origin.get("service.name")},
        "host": {"name": origin.get("host.name")},
        "trace": {"id": details.get("trace.id")},
        "error": {"type": details.get("error.type"), "message": details.get("error.message")},
    }
    return _without_missing(document)


def _time(t: int | None) -> str | None:
    return None if t is None else iso(t)


def _without_missing(document: Json) -> Json:
    kept = {
        name: _without_missing(value) if isinstance(value, dict) else value
        for name, value in document.items()
    }
    return {name: value for name, value in kept.items() if value not in (None, {}, [])}
