"""From wire rows to records: what the values may be, and what follows from them. Pure: `now` is an argument.

Every refusal is a BadInput whose place is the field.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ingest.lane import KnownFeatures
from ingest.values import (
    EXACT_INTEGER,
    MAX_TEXT,
    check_names,
    class_text,
    id_of,
    model_name,
    new_id,
    number,
    scalar_text,
    text,
    time_of,
)
from ingest.wire import Number, Scalar, WireError, WireLabel, WireLabelRow, WirePrediction
from kedge.errors import BadInput
from kedge.records import FLOAT32_MAX, Label, Prediction
from kedge.windows import Millis

MAX_MESSAGE = 4_096
"""Characters of an error message."""
MAX_FEATURES = 1_000
"""Features of one row; also attributions, and classes with a probability."""
MAX_LABELS = 100
"""Segments, resource and business values of one row."""

PROBABILITY_SLACK = 1e-6
"""A softmax in float32 may give 1.0000001: taken as 1."""
SUM_SLACK_PER_CLASS = 0.005
SUM_SLACK = (0.01, 0.05)
"""Rounded to two decimals, they miss a sum of 1 by up to 0.005 a class: forgiven, from 0.01 to 0.05."""


def prediction_of(wire: WirePrediction, now: Millis) -> Prediction:
    """Validate one prediction and work out what follows: class, confidence, entropy, id. Raises BadInput."""
    timestamp = now if wire.timestamp is None else time_of(wire.timestamp, now, "timestamp")
    features: Any = wire.features  # a map or, from a lane, a struct
    num, cat, invalid = _features(features) if features else ({}, {}, ())
    cls = None if wire.cls is None else class_text(wire.cls, "class")
    probabilities = _probabilities(wire.probabilities, cls) if wire.probabilities else {}
    if probabilities and cls is None:
        cls = _likeliest(probabilities)
    error_type, error_message = _error(wire.error) if wire.error is not None else (None, None)
    value = None if wire.value is None else number(wire.value, "value")
    row_id = new_id(timestamp) if wire.id is None else id_of(wire.id)
    label = None
    if wire.label is not None:
        label = _own_label(wire.label, row_id, timestamp, now, regression=value is not None and cls is None)
    # By position, in the order of the class: 24 keywords take five times as long.
    return Prediction(
        row_id,
        timestamp,
        now,
        model_name(wire.model),
        scalar_text(wire.version, "version") or "",
        cls,
        _confidence(wire.probability, cls, probabilities),
        probabilities,
        _entropy(wire.entropy, probabilities),
        value,
        num,
        cat,
        invalid,
        _segment(wire.segment) if wire.segment else {},
        _numbers(wire.attributions, "attributions", MAX_FEATURES) if wire.attributions else {},
        _numbers(wire.resource, "resource", MAX_LABELS) if wire.resource else {},
        _numbers(wire.business, "business", MAX_LABELS) if wire.business else {},
        _not_negative(wire.latency_ms, "latency_ms"),
        text(wire.service, "service") if wire.service else None,
        text(wire.host, "host") if wire.host else None,
        text(wire.trace_id, "trace_id") if wire.trace_id else None,
        error_type,
        error_message,
        label,
    )


def label_of(wire: WireLabelRow, now: Millis) -> Label:
    """Validate one label. Without a time it became true `now`. Raises BadInput.

    A bare `label` that is a number labels either kind, because the label does not say which kind its
    prediction is: it carries the class `1` and the value 1.0, and the store compares the one that the
    prediction has.
    """
    if wire.id is None:
        raise BadInput("is missing: a label is joined to its prediction by id", "id")
    timestamp = now if wire.timestamp is None else time_of(wire.timestamp, now, "timestamp")
    cls, value = _truth(wire.cls, wire.value, wire.label, "")
    if cls is None and value is None:
        raise BadInput("is missing: give class, value or label", "label")
    model = model_name(wire.model) if wire.model else None
    return Label(id=id_of(wire.id), timestamp=timestamp, ingested=now, cls=cls, value=value, model=model)


# --- parts of a row -----------------------------------------------------------------------------------------


def _features(
    features: Mapping[str, Any] | KnownFeatures,
) -> tuple[dict[str, float], dict[str, str], tuple[str, ...]]:
    """Numeric and categorical values by the JSON type they came with, and the names of the others."""
    if isinstance(features, KnownFeatures):
        return *features.split(), ()
    if len(features) > MAX_FEATURES:
        raise BadInput(f"has {len(features):,} features; at most {MAX_FEATURES:,} are taken", "features")
    check_names("features", tuple(features))
    num: dict[str, float] = {}
    cat: dict[str, str] = {}
    invalid: list[str] = []
    low, high = -FLOAT32_MAX, FLOAT32_MAX
    for name, value in features.items():  # the hot loop of ingestion
        kind = type(value)
        if kind is float:
            if low <= value <= high:  # false for NaN, too: missing
                num[name] = value
        elif kind is str:
            plain = value.isascii() and len(value) <= MAX_TEXT
            cat[name] = value if plain else text(value, f"features.{name}") or ""
        elif kind is int:
            if low <= value <= high:
                num[name] = float(value)
        elif kind is bool:
            cat[name] = "true" if value else "false"
        elif value is not None:
            invalid.append(name)
    return num, cat, tuple(invalid)


def _probabilities(given: Mapping[str, float | None], cls: str | None) -> dict[str, float]:
    """By class text. One alone is of a binary model: the other class, if the row names it, has the rest."""
    if len(given) > MAX_FEATURES:
        raise BadInput(f"has {len(given):,} classes; at most {MAX_FEATURES:,} are taken", "probabilities")
    probabilities: dict[str, float] = {}
    for key, value in given.items():
        if value is None:
            continue
        name = _class_name(key)
        if not 0.0 <= value <= 1.0:
            if not -PROBABILITY_SLACK <= value <= 1 + PROBABILITY_SLACK:
                raise BadInput(f"{value:g} is not a probability in [0, 1]", f"probabilities.{name}")
            value = min(max(value, 0.0), 1.0)
        if name in probabilities:
            raise BadInput(f'"{name}" is given twice', "probabilities")
        probabilities[name] = value
    if len(probabilities) > 1:
        _check_sum(probabilities)
        if cls is not None and cls not in probabilities:
            raise BadInput(f'has no probability of the predicted class "{cls}"', "probabilities")
    elif probabilities:
        ((only, p),) = probabilities.items()
        if cls is None:
            raise BadInput(
                f'is missing: with the probability of "{only}" alone, the other class has no name '
                "(give the class too, or the probabilities of both)",
                "class",
            )
        if cls != only:
            probabilities[cls] = 1.0 - p
    return probabilities


@lru_cache(maxsize=65_536)
def _class_name(key: str) -> str:
    name = class_text(key, "probabilities") or ""
    check_names("probabilities", (name,))
    return name


def _check_sum(probabilities: Mapping[str, float]) -> None:
    low, high = SUM_SLACK
    total = sum(probabilities.values())
    miss = abs(total - 1)
    if miss > low + 1e-9 and miss > min(SUM_SLACK_PER_CLASS * len(probabilities), high) + 1e-9:
        raise BadInput(f"sum to {total:.4g}, not to 1: give one of every class", "probabilities")


def _likeliest(probabilities: Mapping[str, float]) -> str:
    most = max(probabilities.values())
    return min([name for name, p in probabilities.items() if p == most])


def _confidence(given: float | None, cls: str | None, probabilities: Mapping[str, float]) -> float | None:
    """The probability of the predicted class; raises BadInput where two are given that differ."""
    if given is None:
        return probabilities[cls] if cls is not None and probabilities else None
    if not -PROBABILITY_SLACK <= given <= 1 + PROBABILITY_SLACK:
        raise BadInput(f"{given:g} is not a probability in [0, 1]", "probability")
    if cls is None:
        raise BadInput(
            "is that of the predicted class, and the row has none (give class, or probabilities by class)",
            "probability",
        )
    if probabilities and abs(probabilities[cls] - given) > SUM_SLACK[0]:
        raise BadInput(
            f'is {given:g}, but probabilities gives the predicted class "{cls}" {probabilities[cls]:g}',
            "probability",
        )
    return min(max(given, 0.0), 1.0)


def _entropy(given: float | None, probabilities: Mapping[str, float]) -> float | None:
    """In nats, of all classes. A confidence alone does not tell it: there may be more than two."""
    if given is not None:
        return _not_negative(given, "entropy")
    if not probabilities:
        return None
    values = list(probabilities.values())
    if len(values) == 1:
        values.append(1.0 - values[0])
    return -sum([p * math.log(p) for p in values if p > 0.0]) + 0.0  # no -0.0


def _segment(segment: Mapping[str, Scalar | None]) -> dict[str, str]:
    if len(segment) > MAX_LABELS:
        raise BadInput(f"has {len(segment):,} members; at most {MAX_LABELS} are taken", "segment")
    check_names("segment", tuple(segment))
    texts = {}
    for name, value in segment.items():
        if found := scalar_text(value, "segment"):
            texts[name] = found
    return texts


def _numbers(values: Mapping[str, float | None], field: str, limit: int) -> dict[str, float]:
    """Like numeric features: what is not finite is missing."""
    if len(values) > limit:
        raise BadInput(f"has {len(values):,} members; at most {limit:,} are taken", field)
    check_names(field, tuple(values))
    return {
        name: value
        for name, value in values.items()
        if value is not None and -FLOAT32_MAX <= value <= FLOAT32_MAX
    }


def _not_negative(value: float | None, field: str) -> float | None:
    if value is not None and not 0.0 <= value < math.inf:
        raise BadInput(f"{value:g} is not a finite number from 0", field)
    return value


def _error(error: WireError | str) -> tuple[str | None, str | None]:
    if isinstance(error, str):
        return None, text(error, "error", MAX_MESSAGE)
    return text(error.type, "error.type"), text(error.message, "error.message", MAX_MESSAGE)


# --- labels -------------------------------------------------------------------------------------------------


def _own_label(
    given: WireLabel | Scalar, row_id: str, timestamp: Millis, now: Millis, *, regression: bool
) -> Label | None:
    """A label inside its prediction. Without a time of its own it is as old as the prediction."""
    wire = given if isinstance(given, WireLabel) else WireLabel(label=given)
    when = timestamp if wire.timestamp is None else time_of(wire.timestamp, now, "label.timestamp")
    cls, value = _truth(wire.cls, wire.value, wire.label, "label.")
    if wire.label is not None and value is not None and wire.value is None:
        if regression:
            cls = None
        else:
            value = None
    if cls is None and value is None:
        return None
    return Label(id=row_id, timestamp=when, ingested=now, cls=cls, value=value)


def _truth(
    cls: Scalar | None, value: Number | None, either: Scalar | None, prefix: str
) -> tuple[str | None, float | None]:
    """The class and the value that a label gives; `either` is both where it is a number."""
    truth_class = class_text(cls, f"{prefix}class")
    truth_value = number(value, f"{prefix}value")
    if either is not None and truth_class is None and truth_value is None:
        field = f"{prefix}label" if not prefix else "label"
        truth_class = class_text(either, field)
        if isinstance(either, int | float) and not isinstance(either, bool) and abs(either) <= EXACT_INTEGER:
            truth_value = float(either)
    return truth_class, truth_value
