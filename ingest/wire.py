"""What clients send, as types: friendly names, and the stored names of kedge's own documents as synonyms.

    {"id": "a1", "timestamp": "2026-11-23T14:05:00Z", "model": "fraud", "version": "7",
     "probabilities": {"fraud": 0.9, "ok": 0.1}, "features": {"age": 41, "country": "DE"}, "latency_ms": 12}

These types say which JSON type each field has; what the values may be is said in `enrich`. A row in friendly
names decodes in one pass of msgspec. Any other (stored names, unknown names, a wrong type) takes the slower
way: a plain object, `friendly` names, one conversion, which also says what is wrong.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from kedge.errors import BadInput

Number = int | float
Scalar = str | int | float | bool
Row = dict[str, Any]

MAX_NAME = 256
"""Characters of a feature's name, or of any other key that becomes part of a field's name."""


class WireError(msgspec.Struct):
    type: str | None = None
    message: str | None = None


class WireLabel(msgspec.Struct, forbid_unknown_fields=True, rename={"cls": "class"}):
    """A label inside its prediction."""

    cls: Scalar | None = None
    value: Number | None = None
    label: Scalar | None = None
    """Either of the two, by the kind of the prediction."""
    timestamp: str | Number | None = None


class WirePrediction(msgspec.Struct, forbid_unknown_fields=True, gc=False, rename={"cls": "class"}):
    """One inference as a client posts it. Only `model` is needed."""

    model: str = ""
    id: str | int | None = None
    timestamp: str | Number | None = None
    """RFC 3339, or seconds or milliseconds since 1970."""
    version: Scalar | None = None
    cls: Scalar | None = None
    probability: float | None = None
    """Of the predicted class."""
    probabilities: dict[str, float | None] | None = None
    """By class name; a binary model may give one of the two."""
    value: Number | None = None
    entropy: float | None = None
    features: dict[str, Any] | None = None
    segment: dict[str, Scalar | None] | None = None
    latency_ms: float | None = None
    error: WireError | str | None = None
    trace_id: str | None = None
    service: str | None = None
    host: str | None = None
    attributions: dict[str, float | None] | None = None
    resource: dict[str, float | None] | None = None
    business: dict[str, float | None] | None = None
    label: WireLabel | Scalar | None = None


class WireLabelRow(msgspec.Struct, forbid_unknown_fields=True, gc=False, rename={"cls": "class"}):
    """A label that comes by itself, for the prediction with that id."""

    id: str | int | None = None
    cls: Scalar | None = None
    value: Number | None = None
    label: Scalar | None = None
    timestamp: str | Number | None = None
    model: str | None = None


Wire = TypeVar("Wire", WirePrediction, WireLabelRow)

# --- names --------------------------------------------------------------------------------------------------

_FIELDS = frozenset(f.encode_name for f in msgspec.structs.fields(WirePrediction))
_LABEL_FIELDS = frozenset(f.encode_name for f in msgspec.structs.fields(WireLabelRow))
_SYNONYMS = {
    "@timestamp": "timestamp",
    "event.id": "id",
    "model.name": "model",
    "model.version": "version",
    "prediction.class": "class",
    "prediction.probability": "probability",
    "prediction.probabilities": "probabilities",
    "prediction.value": "value",
    "prediction.entropy": "entropy",
    "features.num": "features",
    "features.cat": "features",
    "trace.id": "trace_id",
    "service.name": "service",
    "host.name": "host",
}
_LABEL_SYNONYMS = {
    "event.id": "id",
    "model.name": "model",
    "label.class": "class",
    "label.value": "value",
    "label.timestamp": "timestamp",
}
_MAPS = (
    ("prediction.probabilities.", "probabilities"),
    ("features.num.", "features"),
    ("features.cat.", "features"),
    *(
        (f"{name}.", name)
        for name in (
            *("features", "segment", "probabilities", "attributions", "resource", "business"),
            *("label", "error"),
        )
    ),
)
_OBJECTS = frozenset({"event", "model", "prediction", "trace", "service", "host"})
"""Objects of stored documents whose members have friendly names of their own."""
_DERIVED = frozenset({"event.ingested", "event.outcome", "label.ingested", "label.delay_ms", "outcome"})
"""What kedge works out itself: worked out again where a stored document that is sent again carries it."""


class Place(NamedTuple):
    """Where a name belongs on the wire."""

    field: str
    """Empty for what kedge works out itself."""
    key: str = ""
    """In a map (`features`, `segment`); empty for a plain field."""


@lru_cache(maxsize=65_536)
def place_of(name: str) -> Place | None:
    """`prediction.class` is Place("class"), `segment.region` Place("segment", "region").

    None where it is not a name of kedge's.
    """
    name = _SYNONYMS.get(name, name)
    if name in _FIELDS:
        return Place(name)
    if name in _DERIVED or name.startswith("outcome."):
        return Place("")
    for prefix, field in _MAPS:
        if name.startswith(prefix) and len(name) > len(prefix):
            return Place(field, name[len(prefix) :])
    return None


class Friendly(NamedTuple):
    row: Row
    unknown: list[str]
    """Names that mean nothing to kedge: left out, and told."""


@lru_cache(maxsize=65_536)
def label_place_of(name: str) -> Place | None:
    """The same for a label; Place("") for the other fields of a whole prediction."""
    name = _LABEL_SYNONYMS.get(name, name)
    if name in _LABEL_FIELDS:
        return Place(name)
    return None if place_of(name) is None else Place("")


def friendly(row: Row, place: Callable[[str], Place | None] = place_of) -> Friendly:
    """A prediction under friendly names, from any mixture of friendly, nested and dotted stored names.

    Raises BadInput where two names give one field different values.
    """
    return _friendly(_members(row), place)


def friendly_label(row: Row, place: Callable[[str], Place | None] = label_place_of) -> Friendly:
    """The same for a label. A whole stored prediction with its label is taken as that label."""
    if isinstance(row.get("label"), dict):
        # A whole prediction: its own time and class are not those of the label.
        given = row["label"]
        row = {
            name: value
            for name, value in row.items()
            if name in ("id", "event.id", "event", "model", "model.name")
        }
        row |= {name: value for name, value in given.items() if f"label.{name}" not in _DERIVED}
    elif any(name.startswith("label.") for name in row):
        row = {name: value for name, value in row.items() if name not in ("class", "value", "timestamp")}
    elif "@timestamp" in row and "timestamp" not in row:
        row = {"timestamp" if name == "@timestamp" else name: value for name, value in row.items()}
    return _friendly(_members(row), place)


def _friendly(members: Iterable[tuple[str, Any]], place_of_name: Callable[[str], Place | None]) -> Friendly:
    named: Row = {}
    unknown = []
    collected: dict[str, Row] = {}
    for name, value in members:
        place = place_of_name(name)
        if place is None:
            unknown.append(name)
        elif place.key:
            collected.setdefault(place.field, {})[place.key] = value
        elif place.field:
            before = named.get(place.field)
            if isinstance(before, dict) and isinstance(value, dict):
                value = {**before, **value}
            elif before is not None and before != value:
                raise BadInput("is given twice, with different values", name)
            named[place.field] = value
    for field, parts in collected.items():
        whole = named.get(field) or {}
        if not isinstance(whole, dict):
            raise BadInput(f"is given beside {field}, which is not an object", f"{field}.{next(iter(parts))}")
        named[field] = {**whole, **parts} if whole else parts
    label = named.get("label")
    if isinstance(label, dict):
        named["label"] = {key: value for key, value in label.items() if f"label.{key}" not in _DERIVED}
    return Friendly(named, unknown)


def _members(row: Row) -> Iterator[tuple[str, Any]]:
    """The members of a row, those of stored documents' objects by their dotted names."""
    for name, value in row.items():
        if name in _OBJECTS and isinstance(value, dict):
            yield from ((f"{name}.{key}", member) for key, member in value.items())
        elif name == "features" and _is_split(value):
            yield from ((f"features.{kind}", members) for kind, members in value.items())
        else:
            yield name, value


def _is_split(features: Any) -> bool:
    """Stored form: {"num": {…}, "cat": {…}}. An object is no feature value, so nothing else is meant by
    it."""
    return (
        isinstance(features, dict)
        and bool(features)
        and features.keys() <= {"num", "cat"}
        and all(isinstance(members, dict) for members in features.values())
    )


# --- conversion ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape(Generic[Wire]):
    """One kind of row, and the ways to read it."""

    type: type[Wire]
    decoder: msgspec.json.Decoder[Wire]
    friendly: Callable[[Row], Friendly]

    def read(self, plain: Any) -> tuple[Wire, list[str]]:
        """A row from a plain JSON value, with the names that were not understood; raises BadInput with the
        field."""
        row, unknown = self.friendly(as_row(plain))
        return self.convert(row), unknown

    def convert(self, row: Row) -> Wire:
        """A row that has friendly names already; raises BadInput with the field."""
        try:
            return msgspec.convert(row, self.type)
        except msgspec.ValidationError as error:
            raise _explained(error, row) from None
        except UnicodeEncodeError:
            # Half a character where a number belongs: msgspec stumbles over it before it can say so.
            return self.convert(_whole_characters(row))


PREDICTION = Shape(WirePrediction, msgspec.json.Decoder(WirePrediction), friendly)
LABEL = Shape(WireLabelRow, msgspec.json.Decoder(WireLabelRow), friendly_label)


def _whole_characters(value: Any) -> Any:
    """The same with a mark in place of each lone surrogate, which no text in UTF-8 can have."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            return {_whole_characters(key): _whole_characters(member) for key, member in value.items()}
        case list():
            return [_whole_characters(member) for member in value]
    return value


def as_row(plain: Any) -> Row:
    """Raises BadInput for what is not an object."""
    if not isinstance(plain, dict):
        raise BadInput(f"expected an object, got {_spoken(_JSON_TYPES.get(type(plain), 'null'))}")
    return plain


_JSON_TYPES = {dict: "object", list: "array", str: "str", int: "int", float: "float", bool: "bool"}
_SPOKEN = {
    "object": "an object",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "bytes": "text that is not UTF-8",
    "null": "null",
}
_ERROR = re.compile(r"Expected `(?P<expected>[^`]*)`, got `(?P<got>[^`]*)`(?: - at `\$\.(?P<path>[^`]*)`)?")


def _spoken(types: str) -> str:
    """`float | null` -> `a number`."""
    names = [_SPOKEN.get(name, name) for name in types.split(" | ")]
    wanted = [name for name in names if name != "null"] or names
    if "a number" in wanted and "a whole number" in wanted:
        wanted.remove("a whole number")
    return ", ".join(wanted[:-1]) + " or " + wanted[-1] if len(wanted) > 1 else wanted[0]


def _explained(error: msgspec.ValidationError, row: Row) -> BadInput:
    """msgspec's words for people, with the key that it leaves out of a map's path."""
    found = _ERROR.match(str(error))
    if found is None:
        reason, _, path = str(error).partition(" - at `$.")
        return BadInput(reason[:1].lower() + reason[1:], path.rstrip("`"))
    path = found["path"] or ""
    if path.endswith("[...]"):
        field = path.removesuffix("[...]")
        fits = (str, int, float, bool) if field == "segment" else (int, float)
        for key, value in row[field].items():
            if value is not None and (type(value) not in fits):
                path = f"{field}.{key[:MAX_NAME]}"
                break
    return BadInput(f"expected {_spoken(found['expected'])}, got {_spoken(found['got'])}", path)
