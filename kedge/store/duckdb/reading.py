"""Reading rows back: reference columns for edges, and the newest rows as documents."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kedge.sketch import Edges, EdgeSet, categorical_edges, numeric_edges
from kedge.sketch.quantiles import of_column
from kedge.store.base import Json
from kedge.store.duckdb.catalog import SOURCES, Catalog, Model
from kedge.store.duckdb.database import Database
from kedge.store.duckdb.rows import Lists, names_at
from kedge.windows import Window, iso

_WITHIN = "model = $1 AND timestamp >= $2 AND timestamp < $3"
_LABEL_FIELDS = ("cls", "value", "timestamp", "ingested")
_OUTCOME_FIELDS = ("correct", "log_loss", "brier", "error", "abs_error", "squared_error")


class Reader:
    """Reads predictions of one model in a window."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog

    def edges(
        self, model: str, window: Window, numeric: Sequence[str], categorical: Sequence[str]
    ) -> EdgeSet:
        """Exact: linear quantiles of all values (numpy's default), and full value counts."""
        known = self._catalog.models.get(model)
        if known is None:
            return EdgeSet({})
        numbers = [(name, p) for name in numeric if (p := known.slots["features.num"].get(name)) is not None]
        texts = [
            (name, p) for name in categorical if (p := known.slots["features.cat"].get(name)) is not None
        ]
        columns: dict[str, list[Any]] = defaultdict(list)
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for day in self._catalog.days_in(window):
            for batch in self._database.batches(
                f"SELECT numbers, texts FROM {day.predictions} WHERE {_WITHIN}", [known.code, *window]
            ):
                matrix = Lists(batch.column("numbers")).numbers([position for _, position in numbers])
                for i, (name, _) in enumerate(numbers):
                    column = matrix[:, i]
                    held = np.isfinite(column)
                    columns[name].append(column.copy() if held.all() else column[held])
                lists = Lists(batch.column("texts"))
                for name, position in texts:
                    values = lists.texts(position)
                    times = np.bincount(values.codes + 1, minlength=len(values.values) + 1)[1:].tolist()
                    counts[name].update(dict(zip(values.values, times, strict=True)))
        found: dict[str, Edges] = {}
        for name, pieces in columns.items():
            if (cut := numeric_edges(of_column(np.concatenate(pieces)))) is not None:
                found[name] = cut
            pieces.clear()
        for name, counter in counts.items():
            if name not in found and (kept := categorical_edges(counter.items())) is not None:
                found[name] = kept
        return EdgeSet(found)

    def examples(self, model: str, window: Window, limit: int) -> list[Json]:
        """The newest rows, newest first, as documents in DESIGN's names."""
        known = self._catalog.models.get(model)
        documents: list[Json] = []
        if known is None:
            return documents
        for day in reversed(self._catalog.days_in(window)):
            if len(documents) >= limit:
                break
            labels = ", ".join(f"l.{name} AS label_{name}" for name in _LABEL_FIELDS)
            outcomes = ", ".join(f"l.{name} AS outcome_{name}" for name in _OUTCOME_FIELDS)
            with_labels = (
                f"SELECT p.*, {labels}, {outcomes} FROM (SELECT * FROM {day.predictions} WHERE {_WITHIN}"
                " ORDER BY timestamp DESC, id DESC LIMIT $4) p"
                f" LEFT JOIN {day.labels} l USING (model, id) ORDER BY p.timestamp DESC, p.id DESC"
            )
            for batch in self._database.batches(with_labels, [known.code, *window, limit - len(documents)]):
                documents += [_document(row, known) for row in batch.to_pylist()]
        return documents


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
