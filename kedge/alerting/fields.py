"""The field types that rules share: what people may write, what it becomes, and what an editor is told."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import gcd
from typing import Annotated, Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from kedge.alerting.finding import Severity
from kedge.alerting.quantity import Quantity, parse_quantity
from kedge.errors import BadInput
from kedge.windows import DAY, Millis, format_duration, parse_duration

T = TypeVar("T")
SEVERITIES = [s.word for s in Severity]


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """` (did you mean "above"?)`, or what is allowed where nothing is near."""
    names = list(allowed)
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    return f' (did you mean "{near[0]}"?)' if near else f" (allowed: {', '.join(names)})"


def checked(work: Callable[..., T], *args: Any) -> T:
    """Call `work`; its BadInput becomes the ValueError that pydantic collects."""
    try:
        return work(*args)
    except BadInput as e:
        raise ValueError(e.reason) from None


def reading(parse: Callable[[Any], Any]) -> BeforeValidator:
    """A pydantic validator from a parser that raises BadInput."""
    return BeforeValidator(lambda raw: checked(parse, raw))


# --- words --------------------------------------------------------------------------------------------------


def parse_severity(raw: Any) -> Severity:
    if isinstance(raw, Severity):
        return raw
    if not isinstance(raw, str) or raw not in SEVERITIES:
        raise BadInput(f'"{raw}" is not a severity{did_you_mean(str(raw), SEVERITIES)}')
    return Severity[raw.upper()]


def parse_text(raw: Any) -> str:
    """Names are text, however YAML read them: `1` and `true` are "1" and "true"."""
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, int | float):
        return str(int(raw)) if float(raw).is_integer() else str(raw)
    if not isinstance(raw, str):
        raise BadInput("must be text")
    return str(raw)


SeverityField = Annotated[
    Severity,
    reading(parse_severity),
    PlainSerializer(lambda s: s.word, return_type=str),
    WithJsonSchema({"type": "string", "enum": SEVERITIES}),
]


def parse_labels(raw: Any) -> dict[str, str]:
    if not isinstance(raw, Mapping):
        raise BadInput("labels are a map of names and texts: {tier: gold}")
    for name in raw:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", name):
            raise BadInput(f'"{name}" is no name of a label (letters, digits and "_")')
    return {name: parse_text(value) for name, value in raw.items()}


LabelsField = Annotated[
    dict[str, str],
    reading(parse_labels),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}),
]
Text = Annotated[str, reading(parse_text), WithJsonSchema({"type": ["string", "number", "boolean"]})]


def parse_zone(raw: Any) -> str:
    name = str(raw)
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, or no name that could be one
        zones = sorted(available_timezones())
        by_city = {zone.rpartition("/")[2]: zone for zone in zones}
        near = get_close_matches(name.replace(" ", "_").title(), by_city, n=1, cutoff=0.8)
        near = [by_city[city] for city in near] or get_close_matches(name, zones, n=1)
        hint = f'did you mean "{near[0]}"?' if near else "write Europe/Berlin"
        raise BadInput(f'"{name}" is not a time zone ({hint})') from None
    return name


ZoneField = Annotated[str, reading(parse_zone), WithJsonSchema({"type": "string"})]

# --- lengths of time ----------------------------------------------------------------------------------------


def parse_length(raw: Any) -> Millis:
    """A duration; 0 needs no unit."""
    if isinstance(raw, str):
        return 0 if raw.strip() == "0" else parse_duration(raw.strip())
    if raw == 0 and not isinstance(raw, bool):
        return 0
    unit = f" (did you mean {raw}m?)" if isinstance(raw, int) and not isinstance(raw, bool) else ""
    raise BadInput(f'"{raw}" is not a duration: write 30s, 10m, 24h or 7d{unit}')


TODAY_WORD = "today"


def parse_window(raw: Any) -> Millis:
    if raw == TODAY_WORD:
        raise BadInput(f'"{TODAY_WORD}" is a `window` of kind threshold alone: write 24h')
    length = parse_length(raw)
    if length <= 0:
        raise BadInput("a window must be longer than 0")
    return length


DURATION = r"(\d+(\.\d+)?(ms|s|m|h|d|w))+"
_as_duration = PlainSerializer(format_duration, return_type=str)
Length = Annotated[
    Millis,
    reading(parse_length),
    _as_duration,
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^(0|{DURATION})$", "maximum": 0}),
]
WindowLength = Annotated[
    Millis,
    reading(parse_window),
    _as_duration,
    WithJsonSchema({"type": "string", "pattern": f"^{DURATION}$"}),
]


@dataclass(frozen=True)
class Budget:
    """How many false alerts a rule may cost, or a receiver be told of: `1 per 30d`."""

    alerts: float = 1.0
    per: Millis = 30 * DAY

    def __str__(self) -> str:
        return f"{self.alerts:g} per {format_duration(self.per)}"

    def alpha(self, step: Millis, groups: int) -> float:
        """The chance of a false alarm that a look at one group may carry: the budget over looks x groups."""
        return min(self.alerts / (self.per / step * max(groups, 1)), 0.1)

    @property
    def rate(self) -> float:
        """Alerts a millisecond: what budgets are compared by."""
        return self.alerts / self.per

    def split(self, parts: int) -> "Budget":
        """One of so many equal parts: of `1 per 30d` in four, `1 per 120d`."""
        whole = int(self.alerts) if self.alerts == int(self.alerts) else 1
        common = gcd(whole, parts)
        return Budget(self.alerts / common, self.per * (parts // common))


class Share(NamedTuple):
    """A rule's part of a receiver's budget."""

    budget: Budget
    """What the part comes to."""
    receiver: str
    among: int
    """How many rules have such a part."""


def parse_budget(raw: Any) -> Budget:
    if isinstance(raw, Budget):
        return raw
    count, _, length = str(raw).partition(" per ")
    try:
        budget = Budget(float(count), parse_duration(length.strip()))
    except (ValueError, BadInput):
        raise BadInput(f'"{raw}" is not a budget (write 1 per 30d)') from None
    if not (budget.alerts > 0 and budget.per > 0):
        raise BadInput("a budget must allow something: write 1 per 30d")
    return budget


BudgetField = Annotated[
    Budget,
    reading(parse_budget),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)? per \d+(\.\d+)?(ms|s|m|h|d|w)$"}),
]

# --- bounds -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounds:
    """A severity ladder as written, lowest severity first; a bare value has no severity of its own."""

    rungs: tuple[tuple[Severity | None, Quantity], ...]

    def ladder(self, bare: Severity) -> list[tuple[Severity, Quantity]]:
        """With the severity that a bare value takes."""
        return [(severity or bare, quantity) for severity, quantity in self.rungs]

    def to_json(self) -> Any:
        if self.rungs[0][0] is None:
            return str(self.rungs[0][1])
        return {severity.word: str(quantity) for severity, quantity in self.rungs if severity}


def parse_bounds(raw: Any) -> Bounds:
    if isinstance(raw, Bounds):
        return raw
    if not isinstance(raw, Mapping):
        return Bounds(((None, parse_quantity(raw)),))
    if not raw:
        raise BadInput("an empty ladder: write {medium: …, high: …}")
    rungs = sorted((parse_severity(word), parse_quantity(value)) for word, value in raw.items())
    if len({quantity.unit for _, quantity in rungs}) > 1:
        written = " and ".join(str(quantity) for _, quantity in rungs)
        raise BadInput(f"{written} have different units: use one in a ladder")
    return Bounds(tuple(rungs))


_QUANTITY_SCHEMA = {"type": ["number", "string"]}
_as_text = PlainSerializer(str, return_type=str)
QuantityField = Annotated[Quantity, reading(parse_quantity), _as_text, WithJsonSchema(_QUANTITY_SCHEMA)]
BoundsField = Annotated[
    Bounds,
    reading(parse_bounds),
    PlainSerializer(Bounds.to_json),
    WithJsonSchema(
        {
            "anyOf": [
                _QUANTITY_SCHEMA,
                {
                    "type": "object",
                    "properties": dict.fromkeys(SEVERITIES, _QUANTITY_SCHEMA),
                    "additionalProperties": False,
                    "minProperties": 1,
                },
            ]
        }
    ),
]
