"""Which rows a user's metric counts: a small tree of conditions on fields that rows have when they arrive.

Every store decides it for the same rows: text is compared whole and exactly, numbers as float32, and a row
without the field meets no condition on it. `str()` is canonical: equal trees have equal text, in whatever
order they were written. Labels and outcomes are no fields here, for they come after the row was counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Kind(StrEnum):
    TEXT = "text"
    NUMBER = "number"


FIELDS: dict[str, Kind] = {
    "model.version": Kind.TEXT,
    "prediction.class": Kind.TEXT,
    "event.outcome": Kind.TEXT,
    "error.type": Kind.TEXT,
    "service.name": Kind.TEXT,
    "host.name": Kind.TEXT,
    "prediction.probability": Kind.NUMBER,
    "prediction.entropy": Kind.NUMBER,
    "prediction.value": Kind.NUMBER,
    "latency_ms": Kind.NUMBER,
}
"""The fields of every model."""
FAMILIES: dict[str, Kind] = {
    "segment.": Kind.TEXT,
    "features.cat.": Kind.TEXT,
    "features.num.": Kind.NUMBER,
    "resource.": Kind.NUMBER,
    "business.": Kind.NUMBER,
}
"""How the names begin of fields that models have of their own."""
ALLOWED = (*FIELDS, *(f"{stem}NAME" for stem in FAMILIES))
"""For people."""


def kind_of(field: str) -> Kind | None:
    """What a field holds; None for what is no field to count by."""
    if field in FIELDS:
        return FIELDS[field]
    stem = next((stem for stem in FAMILIES if field.startswith(stem) and field != stem), None)
    return FAMILIES[stem] if stem else None


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True)
class Is:
    """The text field has exactly this value."""

    field: str
    value: str

    def __str__(self) -> str:
        return f"{self.field}:{_quoted(self.value)}"


@dataclass(frozen=True)
class Begins:
    """The text field's value begins so."""

    field: str
    stem: str

    def __str__(self) -> str:
        return f"{self.field}:{_quoted(self.stem)}*"


@dataclass(frozen=True)
class Exists:
    """The field has a value."""

    field: str

    def __str__(self) -> str:
        return f"{self.field}:*"


@dataclass(frozen=True)
class Between:
    """The number field's value, as float32, lies in [low, high); both are float32, None is open."""

    field: str
    low: float | None
    high: float | None

    @classmethod
    def of(
        cls, field: str, low: float | None, high: float | None, *, low_in: bool, high_in: bool
    ) -> "Between":
        """From bounds as they were written, each with or without itself: they are rounded as values are."""
        return cls(
            field,
            None if low is None else (_rounded(low) if low_in else _next(low)),
            None if high is None else (_next(high) if high_in else _rounded(high)),
        )

    def __str__(self) -> str:
        low, high = ("*" if end is None else repr(end) for end in (self.low, self.high))
        return f"{self.field}:[{low} TO {high}}}"


@dataclass(frozen=True)
class Not:
    of: "Where"

    def __str__(self) -> str:
        return f"NOT {self.of}"


@dataclass(frozen=True)
class And:
    of: tuple["Where", ...]

    def __str__(self) -> str:
        return f"({' AND '.join(map(str, self.of))})"


@dataclass(frozen=True)
class Or:
    of: tuple["Where", ...]

    def __str__(self) -> str:
        return f"({' OR '.join(map(str, self.of))})"


Leaf = Is | Begins | Exists | Between
Where = Leaf | Not | And | Or


def joined(kind: type[And] | type[Or], of: Sequence[Where]) -> Where:
    """All of one kind in one node, each once, in the order of their text."""
    flat = {str(inner): inner for one in of for inner in (one.of if isinstance(one, kind) else (one,))}
    held = tuple(flat[text] for text in sorted(flat))
    return held[0] if len(held) == 1 else kind(held)


def leaves(where: Where) -> Iterator[Leaf]:
    """Its conditions on single fields."""
    match where:
        case And(of) | Or(of):
            for one in of:
                yield from leaves(one)
        case Not(one):
            yield from leaves(one)
        case _:
            yield where


def is_part(part: Where | None, whole: Where | None) -> bool:
    """Whether every row of one is a row of the other, as far as their words tell: None is all rows."""
    if whole is None or part == whole:
        return True
    if part is None:
        return False
    has = part.of if isinstance(part, And) else (part,)
    wants = whole.of if isinstance(whole, And) else (whole,)
    return all(any(_implies(one, wanted) for one in has) for wanted in wants)


def _implies(one: Where, other: Where) -> bool:
    if isinstance(other, Exists) and not isinstance(one, Not | And | Or):
        return one.field == other.field
    return one == other


def _rounded(bound: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(bound)) + 0.0  # -0 is 0


def _next(bound: float) -> float:
    """The least float32 above it."""
    with np.errstate(over="ignore"):
        return float(np.nextafter(np.float32(bound), np.float32(np.inf))) + 0.0
