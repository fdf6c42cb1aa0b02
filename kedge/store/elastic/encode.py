"""Predictions and labels as stored documents (DESIGN §4 names), and back for people to read.

Types decide exactness. What is counted in cells is a float; `prediction.value`,
`prediction.probabilities.*` and `label.value` are doubles, because the outcome of a label that comes weeks
later is computed from them and must equal the one computed at write. Where the server keeps no source, they
are all that is left of the row.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import orjson

from kedge.records import Label, Outcome, Prediction, outcome_of
from kedge.store.base import Json
from kedge.store.elastic.names import escape, unescape
from kedge.windows import Millis, iso, parse_time

FLOAT32_OVERFLOW = 3.4028235677973366e38
"""Halfway from the largest float32 to the next: from here on a value rounds to infinity, which servers
reject."""
_OPEN = (
    ("prediction", "probabilities"),
    ("features", "num"),
    ("features", "cat"),
    ("attributions",),
    ("segment",),
    ("resource",),
    ("business",),
)
_TIMES = (("@timestamp",), ("event", "ingested"), ("label", "timestamp"), ("label", "ingested"))


def encode(row: Prediction, *, named: bool = False) -> bytes:
    """A row as its stored JSON; raises TypeError or ValueError for text that is no Unicode.

    `named`: its event id is left out, being that of the document (`Indices.named`).
    """
    prediction: Json = {}
    if row.cls is not None:
        prediction["class"] = row.cls
    if row.probability is not None:
        prediction["probability"] = row.probability
    if row.probabilities:
        prediction["probabilities"] = _named(row.probabilities)
    if row.value is not None:
        prediction["value"] = _float(row.value)
    if row.entropy is not None:
        prediction["entropy"] = row.entropy

    features: Json = {}
    if row.num:
        features["num"] = _floats(row.num)
    if row.cat:
        features["cat"] = _named(row.cat)
    if row.invalid:
        features["invalid"] = row.invalid

    failed = row.failed
    event: Json = {} if named else {"id": row.id}
    event["ingested"] = row.ingested
    event["outcome"] = "failure" if failed else "success"
    document: Json = {
        "@timestamp": row.timestamp,
        "event": event,
        "model": {"name": row.model, "version": row.version} if row.version else {"name": row.model},
    }
    if prediction:
        document["prediction"] = prediction
    if features:
        document["features"] = features
    if row.attributions:
        document["attributions"] = _floats(row.attributions)
    if row.resource:
        document["resource"] = _floats(row.resource)
    if row.business:
        document["business"] = _floats(row.business)
    if row.segment:
        document["segment"] = _named(row.segment)
    if row.latency_ms is not None:
        document["latency_ms"] = _float(row.latency_ms)
    if row.service is not None:
        document["service"] = {"name": row.service}
    if row.host is not None:
        document["host"] = {"name": row.host}
    if row.trace is not None:
        document["trace"] = {"id": row.trace}
    if failed:
        failure = {"type": row.error_type, "message": row.error_message}
        document["error"] = {k: v for k, v in failure.items() if v is not None}
    if row.label is not None:
        outcome = outcome_of(
            cls=row.cls,
            probabilities=row.probabilities,
            value=row.value,
            label_cls=row.label.cls,
            label_value=row.label.value,
        )
        document |= label_fields(row.label, row.timestamp, outcome)
    return orjson.dumps(document)


def label_fields(label: Label, timestamp: Millis, outcome: Outcome) -> Json:
    """`label` and `outcome` of a row of that time."""
    said: Json = {
        "timestamp": label.timestamp,
        "ingested": label.ingested,
        "delay_ms": label.timestamp - timestamp,
    }
    if label.cls is not None:
        said["class"] = label.cls
    if label.value is not None:
        said["value"] = _float(label.value)
    how: Json = {} if outcome.correct is None else {"correct": outcome.correct}
    for name in ("log_loss", "brier", "error", "abs_error", "squared_error"):
        number = getattr(outcome, name)
        if number is not None:
            how[name] = _float(number)
    return {"label": said, "outcome": how} if how else {"label": said}


def millis(stored: int | str) -> Millis:
    """A stored time, which comes back as it was sent or, where the server keeps no source, as text."""
    return parse_time(stored) if isinstance(stored, str) else int(stored)


def decode(source: Json, id: str) -> Json:
    """A stored document, and its id, for people: names unescaped, times as RFC 3339, nothing empty."""
    document: Json = {k: _pruned(v) for k, v in source.items()}
    document["event"] = {"id": id} | document.get("event", {})
    for path in _OPEN:
        holder = _holder(document, path)
        if holder is not None:
            holder[path[-1]] = {unescape(k): v for k, v in holder[path[-1]].items()}
    for path in _TIMES:
        holder = _holder(document, path)
        if holder is not None:
            holder[path[-1]] = iso(millis(holder[path[-1]]))
    holder = _holder(document, ("label", "row"))
    if holder is not None:  # the change feed's own
        del holder["row"]
    holder = _holder(document, ("features", "invalid"))
    if holder is not None and isinstance(holder["invalid"], str):  # a list of one, without a source
        holder["invalid"] = [holder["invalid"]]
    return {k: v for k, v in document.items() if v not in (None, {})}


def _pruned(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {k: _pruned(v) for k, v in value.items() if v not in (None, {})}


def _holder(document: Json, path: tuple[str, ...]) -> Json | None:
    """The object that has the last step of `path`; None where there is none."""
    place: Any = document
    for step in path[:-1]:
        place = place.get(step)
        if not isinstance(place, dict):
            return None
    return place if place.get(path[-1]) is not None else None


def _float(value: float) -> float | None:
    """Servers reject a whole row for one number that is no finite float32: null, which is *missing*,
    instead."""
    return value if -FLOAT32_OVERFLOW < value < FLOAT32_OVERFLOW else None


def _floats(values: Mapping[str, float]) -> Mapping[str, float]:
    # The norm is at least the largest of them, and no number where one is none: one call says that all fit.
    if math.hypot(*values.values()) < FLOAT32_OVERFLOW:
        return _named(values)
    return {escape(k): v for k, v in values.items() if -FLOAT32_OVERFLOW < v < FLOAT32_OVERFLOW}


_plain: set[str] = set()
"""Names seen that are their own escaped form, as nearly all are: then a row's own map is the document's."""
_MOST_PLAIN = 100_000

Value = TypeVar("Value", float, str)


def _named(values: Mapping[str, Value]) -> Mapping[str, Value]:
    """The values under their names as steps of a field's path."""
    if _plain.issuperset(values):
        return values
    escaped = {escape(k): v for k, v in values.items()}
    if len(_plain) > _MOST_PLAIN:
        _plain.clear()
    _plain.update(name for name in values if escape(name) == name)
    return escaped
