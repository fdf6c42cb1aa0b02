"""From wire rows to records: what the values may be, and what follows from them. Pure: `now` is an argument.

Every refusal is a BadInput whose place is the field. Text that is longer than MAX_TEXT is cut, not refused: the row
is worth more than the tail of a value, and Lucene takes no more than 32,766 bytes of a keyword.
"""

import math
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ingest.wire import MAX_NAME, Number, Scalar, WireError, WireLabel, WireLabelRow, WirePrediction
from kedge.errors import BadInput
from kedge.records import FLOAT32_MAX, Label, Prediction
from kedge.windows import HOUR, SECOND, Millis, iso, parse_time

MAX_TEXT = 1_024
"""Characters of a class, a segment's value, a categorical feature's value."""
MAX_MESSAGE = 4_096
"""Characters of an error message."""
MAX_ID = 512
"""Bytes of an id, as Elasticsearch takes them."""
MAX_MODEL = 128
"""Characters of a model's name."""
MAX_FEATURES = 1_000
"""Features of one row; also attributions, and classes with a probability."""
MAX_LABELS = 100
"""Segments, resource and business values of one row."""

EARLIEST: Millis = 946_684_800_000
"""2000-01-01. A time before it is a unit gone wrong."""
MAX_AHEAD: Millis = HOUR
"""How far a client's clock may run ahead."""
EXACT_INTEGER = 2**53
"""Beyond it not every integer is a float64."""

PROBABILITY_SLACK = 1e-6
"""A softmax in float32 may give 1.0000001: taken as 1."""
SUM_SLACK_PER_CLASS = 0.005
SUM_SLACK = (0.01, 0.05)
"""Probabilities rounded to two decimals miss a sum of 1 by up to 0.005 a class: at least and at most this is forgiven."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_INTEGRAL = re.compile(r"-?\d+\.0+")
_BOOLEANS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


def prediction_of(wire: WirePrediction, now: Millis) -> Prediction:
    """Validate one prediction and work out what follows: class, confidence, entropy, id. Raises BadInput."""
    timestamp = now if wire.timestamp is None else time_of(wire.timestamp, now, "timestamp")
    num, cat, invalid = _features(wire.features) if wire.features else ({}, {}, ())
    cls = class_text(wire.cls, "class")
    probabilities = _probabilities(wire.probabilities, cls) if wire.probabilities else {}
    if probabilities and cls is None:
        cls = _likeliest(probabilities)
    error_type, error_message = _error(wire.error)
    value = number(wire.value, "value")
    row_id = new_id(timestamp) if wire.id is None else id_of(wire.id)
    label = None
    if wire.label is not None:
        label = _own_label(wire.label, row_id, timestamp, now, regression=value is not None and cls is None)
    return Prediction(
        id=row_id,
        timestamp=timestamp,
        ingested=now,
        model=model_name(wire.model),
        version=scalar_text(wire.version, "version") or "",
        cls=cls,
        probability=_confidence(wire.probability, cls, probabilities),
        probabilities=probabilities,
        entropy=_entropy(wire.entropy, probabilities),
        value=value,
        num=num,
        cat=cat,
        invalid=invalid,
        segment=_segment(wire.segment) if wire.segment else {},
        attributions=_numbers(wire.attributions, "attributions", MAX_FEATURES) if wire.attributions else {},
        resource=_numbers(wire.resource, "resource", MAX_LABELS) if wire.resource else {},
        business=_numbers(wire.business, "business", MAX_LABELS) if wire.business else {},
        latency_ms=_not_negative(wire.latency_ms, "latency_ms"),
        service=text(wire.service, "service"),
        host=text(wire.host, "host"),
        trace=text(wire.trace_id, "trace_id"),
        error_type=error_type,
        error_message=error_message,
        label=label,
    )


def label_of(wire: WireLabelRow, now: Millis) -> Label:
    """Validate one label. Without a time it became true `now`. Raises BadInput.

    A bare `label` that is a number labels either kind, because the label does not say which kind its prediction is:
    it carries the class `1` and the value 1.0, and the store compares the one that the prediction has.
    """
    if wire.id is None:
        raise BadInput("is missing: a label is joined to its prediction by id", "id")
    timestamp = now if wire.timestamp is None else time_of(wire.timestamp, now, "timestamp")
    cls, value = _truth(wire.cls, wire.value, wire.label, "")
    if cls is None and value is None:
        raise BadInput("is missing: give class, value or label", "label")
    model = model_name(wire.model) if wire.model else None
    return Label(id=id_of(wire.id), timestamp=timestamp, ingested=now, cls=cls, value=value, model=model)


# --- plain values -------------------------------------------------------------------------------------------------


def time_of(value: str | Number, now: Millis, field: str) -> Millis:
    """RFC 3339 (no zone: UTC), or seconds or milliseconds since 1970, as `Millis`. Raises BadInput.

    Numbers under 10^11 are seconds (until the year 5138); milliseconds that small would be of 1973.
    """
    if isinstance(value, str):
        try:
            t = parse_time(value)
        except BadInput as error:
            raise BadInput(error.reason, field) from None
        except (OverflowError, ValueError):
            raise BadInput(f'"{value[:40]}" is not a time', field) from None
    elif not math.isfinite(value):
        raise BadInput("is not finite", field)
    else:
        t = round(value * SECOND) if abs(value) < 1e11 else round(value)
    if t < EARLIEST:
        raise BadInput(f"{_spoken_time(t)} is before 2000-01-01", field)
    if t > now + MAX_AHEAD:
        raise BadInput(f"{_spoken_time(t)} is more than an hour ahead of {iso(now)}", field)
    return t


def class_text(value: Scalar | None, field: str) -> str | None:
    """A class as text: `1`, `1.0` and `"1"` are "1"; `true` and "True" are "true". Raises BadInput."""
    if isinstance(value, str):
        if value in _BOOLEANS:
            return _BOOLEANS[value]
        if value.endswith("0") and _INTEGRAL.fullmatch(value):
            return value.partition(".")[0]
        if not value:
            raise BadInput("is empty", field)
    return scalar_text(value, field)


def scalar_text(value: Scalar | None, field: str) -> str | None:
    """A scalar as text: text as it is, `7.0` as "7", `true` as "true"; an empty one is None. Raises BadInput."""
    if value is None or isinstance(value, str):
        return text(value, field)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadInput("is not finite", field)
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)[:MAX_TEXT]


def text(value: str | None, field: str, limit: int = MAX_TEXT) -> str | None:
    """Text that every store takes, cut to `limit`; an empty one is None. Raises BadInput."""
    if not value:
        return None
    _check_encodable(value, field)
    return value[:limit]


def number(value: Number | None, field: str) -> float | None:
    """A finite float64. Raises BadInput, also where an integer would lose digits."""
    if value is None:
        return None
    if isinstance(value, int) and abs(value) > EXACT_INTEGER:
        raise BadInput("an integer beyond 2^53 would lose digits", field)
    if not math.isfinite(value):
        raise BadInput("is not finite", field)
    return float(value)


def id_of(value: str | int) -> str:
    """An id as text. Raises BadInput."""
    name = value if isinstance(value, str) else str(value)
    if not name:
        raise BadInput("is empty", "id")
    _check_encodable(name, "id")
    if len(name) * 4 > MAX_ID and len(name.encode()) > MAX_ID:
        raise BadInput(f"is longer than {MAX_ID} bytes", "id")
    return name


def new_id(timestamp: Millis, tail: bytes | None = None) -> str:
    """A time-ordered id, as UUIDv7 (RFC 9562) orders them: 48 bits of milliseconds, then 80 bits, in hex.

    The tail is random unless given. Ids in the order of time cost bulk writing 3 % of its speed, random ones 17 %.
    """
    return f"{timestamp:012x}{(tail or os.urandom(10)).hex()}"


@lru_cache(maxsize=4_096)
def model_name(name: str) -> str:
    """A model's name. Raises BadInput."""
    if not name:
        raise BadInput("is missing", "model")
    if len(name) > MAX_MODEL:
        raise BadInput(f"is longer than {MAX_MODEL} characters", "model")
    if fault := name_fault(name):
        raise BadInput(fault, "model")
    return name


def name_fault(name: str) -> str | None:
    """Why a name cannot be part of a field's name in a mapping, or None.

    Tried on Elasticsearch 8.19 and OpenSearch 3.4: both refuse an empty or blank part between dots, neither refuses a
    leading underscore inside an object.
    """
    if not name.strip():
        return "has an empty name"
    if len(name) > MAX_NAME:
        return f"has a name longer than {MAX_NAME} characters"
    if _CONTROL.search(name):
        return "has a control character in its name"
    if "." in name and not all(part.strip() for part in name.split(".")):
        return "has an empty part between the dots of its name"
    if not name.isascii() and not _encodable(name):
        return "has half of a surrogate pair in its name, which is no Unicode text"
    return None


@lru_cache(maxsize=4_096)
def _check_names(field: str, names: tuple[str, ...]) -> None:
    # Rows of a model mostly carry the same names in the same order: one look-up stands for all of them.
    for name in names:
        if fault := name_fault(name):
            shown = "".join(c if c.isprintable() else "\ufffd" for c in name[:MAX_NAME])
            raise BadInput(fault, f"{field}.{shown}")


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_encodable(value: str, field: str) -> None:
    if not value.isascii() and not _encodable(value):
        raise BadInput("has half of a surrogate pair, which is no Unicode text", field)


def _spoken_time(t: Millis) -> str:
    try:
        return iso(t)
    except (OverflowError, ValueError, OSError):
        return f"{t} ms since 1970"


# --- parts of a row -----------------------------------------------------------------------------------------------


def _features(
    features: Mapping[str, Any],
) -> tuple[dict[str, float], dict[str, str], tuple[str, ...]]:
    """Numeric and categorical values by the JSON type they came with, and the names of the others."""
    if len(features) > MAX_FEATURES:
        raise BadInput(f"has {len(features):,} features; at most {MAX_FEATURES:,} are taken", "features")
    _check_names("features", tuple(features))
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
    """By class text. One alone is of a binary model: where the row names the other class, that one has the rest."""
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
                f'is missing: with the probability of "{only}" alone, the name of the other class is not known '
                "(give the class too, or the probabilities of both)",
                "class",
            )
        if cls != only:
            probabilities[cls] = 1.0 - p
    return probabilities


@lru_cache(maxsize=65_536)
def _class_name(key: str) -> str:
    name = class_text(key, "probabilities") or ""
    _check_names("probabilities", (name,))
    return name


def _check_sum(probabilities: Mapping[str, float]) -> None:
    low, high = SUM_SLACK
    total = sum(probabilities.values())
    miss = abs(total - 1)
    if miss > low + 1e-9 and miss > min(SUM_SLACK_PER_CLASS * len(probabilities), high) + 1e-9:
        raise BadInput(f"sum to {total:.4g}, not to 1: give one of every class", "probabilities")


def _likeliest(probabilities: Mapping[str, float]) -> str:
    return min(probabilities, key=lambda name: (-probabilities[name], name))


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
            f'{given:g} is not that of the predicted class: probabilities gives "{cls}" {probabilities[cls]:g}',
            "probability",
        )
    return min(max(given, 0.0), 1.0)


def _entropy(given: float | None, probabilities: Mapping[str, float]) -> float | None:
    """In nats, of all classes. A confidence alone does not tell it: the model may have more than two classes."""
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
    _check_names("segment", tuple(segment))
    texts = {}
    for name, value in segment.items():
        if found := scalar_text(value, "segment"):
            texts[name] = found
    return texts


def _numbers(values: Mapping[str, float | None], field: str, limit: int) -> dict[str, float]:
    """Like numeric features: what is not finite is missing."""
    if len(values) > limit:
        raise BadInput(f"has {len(values):,} members; at most {limit:,} are taken", field)
    _check_names(field, tuple(values))
    return {
        name: value
        for name, value in values.items()
        if value is not None and -FLOAT32_MAX <= value <= FLOAT32_MAX
    }


def _not_negative(value: float | None, field: str) -> float | None:
    if value is not None and not 0.0 <= value < math.inf:
        raise BadInput(f"{value:g} is not a finite number from 0", field)
    return value


def _error(error: WireError | str | None) -> tuple[str | None, str | None]:
    if error is None:
        return None, None
    if isinstance(error, str):
        return None, text(error, "error", MAX_MESSAGE)
    return text(error.type, "error.type"), text(error.message, "error.message", MAX_MESSAGE)


# --- labels -------------------------------------------------------------------------------------------------------


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
