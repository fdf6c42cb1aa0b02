"""The part of notify.yml that says who is told what, and when: its models, and the routing that they make.

```yaml
route:
  receiver: team
  group_by: [model]
  routes:
    - match: {team: fraud, severity: ">= high"}
      receiver: pager
      escalate: {after: 30m, to: lead}
inhibit:
  - {source: {rule: no-traffic}, target: {severity: "<= medium"}, equal: [model]}
time_intervals:
  nights: {times: ["22:00-24:00", "00:00-06:00"], timezone: Europe/Berlin}
```
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from kedge.alerting.fields import Length, Text, WindowLength, ZoneField, did_you_mean, reading
from kedge.alerting.finding import Severity
from kedge.alerting.inhibition import Inhibition
from kedge.alerting.matchers import Match, parse_match
from kedge.alerting.mutes import MONTHS, WEEKDAYS, Interval, Range, Ranges
from kedge.alerting.routing import ALL, Escalation, Route, Routing
from kedge.errors import BadInput

T = TypeVar("T")
DEEPEST = 8
"""Routes inside routes."""

# --- what people write --------------------------------------------------------------------------------------


def listed(raw: Any) -> Any:
    """A list of one may be written without its brackets."""
    return list(raw) if isinstance(raw, list | tuple) else [raw]


def _ranges(parse: Callable[[str], Range]) -> BeforeValidator:
    def read(raw: Any) -> Ranges:
        return tuple(parse(str(one).strip().lower()) for one in listed(raw))

    return reading(read)


def _time_range(text: str) -> Range:
    found = re.fullmatch(r"(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)", text)
    if found is None:
        raise BadInput(f'"{text}" is no span of a day (write "08:00-18:00")')
    start, end = (int(found[i]) * 60 + int(found[i + 1]) for i in (1, 3))
    if max(start, end) > 1440 or int(found[2]) > 59 or int(found[4]) > 59:
        raise BadInput(f'"{text}": a day has the times 00:00 to 24:00')
    if start >= end:
        raise BadInput(
            f'"{text}" ends before it begins: a span over midnight is two, "22:00-24:00" and "00:00-06:00"'
        )
    return start, end


def _named(names: Sequence[str], first: int, what: str) -> Callable[[str], Range]:
    """Ranges of names: `mon-fri`, in full or by three letters; `first` is what the first counts as."""

    def number(word: str, text: str) -> int:
        if word.isdigit() and first == 1 and 1 <= int(word) <= len(names):
            return int(word)
        near = [i for i, name in enumerate(names) if len(word) >= 3 and name.startswith(word)]
        if not near:
            raise BadInput(f'"{text}" is no {what}{did_you_mean(word, names)}')
        return near[0] + first

    def parse(text: str) -> Range:
        start, _, end = text.replace(":", "-").partition("-")
        a = number(start.strip(), text)
        b = number(end.strip(), text) if end else a
        if a > b:
            raise BadInput(f'"{text}" ends before it begins: write it as two')
        return a, b

    return parse


def _day_range(text: str) -> Range:
    found = re.fullmatch(r"(-?\d+)(?:\s*(?::|-)\s*(-?\d+))?", text)
    if found is None:
        raise BadInput(f'"{text}" is no day of a month (write 1, "1-5", or "-3:-1" for the last three)')
    start = int(found[1])
    end = start if found[2] is None else int(found[2])
    if not all(1 <= abs(day) <= 31 for day in (start, end)):
        raise BadInput(f'"{text}": days are 1 to 31, or -31 to -1 from the end')
    if (start < 0 < end) or ((start > 0) == (end > 0) and start > end):
        raise BadInput(f'"{text}" ends before it begins')
    return start, end


def _year_range(text: str) -> Range:
    found = re.fullmatch(r"(\d{4})(?:\s*(?::|-)\s*(\d{4}))?", text)
    if found is None or int(found[2] or found[1]) < int(found[1]):
        raise BadInput(f'"{text}" is no year (write 2026 or "2026-2027")')
    return int(found[1]), int(found[2] or found[1])


_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_NUMBERS = {
    "anyOf": [{"type": ["string", "integer"]}, {"type": "array", "items": {"type": ["string", "integer"]}}]
}
_VALUE = {"type": ["string", "number", "boolean"]}
_MATCH = {
    "type": "object",
    "additionalProperties": {"anyOf": [_VALUE, {"type": "array", "items": _VALUE}]},
    "properties": {
        "severity": {
            "anyOf": [
                {"enum": [s.word for s in Severity]},
                {"type": "string", "pattern": "^(=|!=|=~|!~|>=|<=|>|<)"},
                {"type": "array", "items": {"enum": [s.word for s in Severity]}},
            ],
            "description": '`">= high"`, a list, or one.',
        }
    },
}
_as_is = PlainSerializer(str, return_type=str)
MatchField = Annotated[Match, reading(parse_match), _as_is, WithJsonSchema(_MATCH)]
Names = Annotated[tuple[Text, ...], BeforeValidator(listed), WithJsonSchema(_TEXTS)]


def _known(kind: str) -> AfterValidator:
    """Names that the file defines: `receivers` or `intervals` of the validation's context."""

    def check(value: Any, info: ValidationInfo) -> Any:
        known = (info.context or {}).get(kind, ())
        for name in value if isinstance(value, tuple) else (value,):
            if name is not None and name not in known:
                thing = "receiver" if kind == "receivers" else "time interval"
                raise ValueError(f'there is no {thing} "{name}"{did_you_mean(name, sorted(known))}')
        return value

    return AfterValidator(check)


KnownReceiver = Annotated[Text, _known("receivers")]
KnownTimes = Annotated[Names, _known("intervals")]


class _OneOrMore:
    """For editors: one may stand without its list."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core)
        return {"anyOf": [schema["items"], schema]}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    ELSEWHERE: ClassVar[Mapping[str, str]] = {}
    """What the same thing is called in Alertmanager's file."""


class IntervalModel(Strict):
    """All that is named must hold."""

    times: Annotated[Ranges, _ranges(_time_range), WithJsonSchema(_TEXTS)] = Field(
        (), description='Spans of the day, the end excluded: `"08:00-18:00"`.'
    )
    weekdays: Annotated[Ranges, _ranges(_named(WEEKDAYS, 0, "weekday")), WithJsonSchema(_TEXTS)] = Field(
        (), description="`mon-fri`, `[sat, sun]`."
    )
    days_of_month: Annotated[Ranges, _ranges(_day_range), WithJsonSchema(_NUMBERS)] = Field(
        (), description='`1`, `"1-5"`; from the end: `-1`, `"-3:-1"`.'
    )
    months: Annotated[Ranges, _ranges(_named(MONTHS, 1, "month")), WithJsonSchema(_NUMBERS)] = Field(
        (), description="`jan-mar`, `12`."
    )
    years: Annotated[Ranges, _ranges(_year_range), WithJsonSchema(_NUMBERS)] = Field(
        (), description='`2026`, `"2026-2027"`.'
    )
    timezone: ZoneField = Field("UTC", description="Whose wall clock counts (IANA): `Europe/Berlin`.")

    ELSEWHERE: ClassVar[Mapping[str, str]] = {"location": "timezone"}

    @property
    def interval(self) -> Interval:
        return Interval(self.times, self.weekdays, self.days_of_month, self.months, self.years, self.timezone)


class EscalationModel(Strict):
    after: WindowLength = Field(description="After it was told: `30m`.")
    to: KnownReceiver = Field(description="The receiver that is told then.")


Escalations = Annotated[tuple[EscalationModel, ...], BeforeValidator(listed), _OneOrMore()]


class RouteModel(Strict):
    """What it does not say it has from the route around it, but for `match`, `continue` and times."""

    match: MatchField = Field((), description="Labels that an alert must have to go here; all must hold.")
    receiver: KnownReceiver | None = Field(None, description="Who is told.")
    continue_: bool = Field(
        False, alias="continue", strict=True, description="Ask the next routes beside it too."
    )
    group_by: Names | None = Field(
        None,
        description="Labels whose values the alerts of one message share; none: one group for all. "
        '`["..."]`: every alert by itself.',
    )
    group_wait: Length | None = Field(
        None, description="How long a new group waits for alerts that come together; `30s` unless said."
    )
    group_interval: WindowLength | None = Field(
        None, description="How often a group is looked at from then on; `5m` unless said."
    )
    repeat_interval: WindowLength | None = Field(
        None,
        description="After how long what fires is told again, rounded up to a multiple of `group_interval`; "
        "`4h` unless said.",
    )
    mute_times: KnownTimes = Field((), description="`time_intervals` in which nothing is told.")
    active_times: KnownTimes = Field((), description="`time_intervals` outside of which nothing is told.")
    escalate: Escalations | None = Field(
        None,
        description="Whom to tell of what nobody has acknowledged: `{after: 30m, to: lead}`, or a list; "
        "`[]`: nobody.",
    )
    routes: tuple["RouteModel", ...] = Field((), description="Routes inside this one, asked in order.")

    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        "matchers": "match",
        "match_re": "match",
        "mute_time_intervals": "mute_times",
        "active_time_intervals": "active_times",
    }

    @field_validator("group_by")
    @classmethod
    def _distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("names a label twice")
        if names is not None and ALL in names and len(names) > 1:
            raise ValueError(f'"{ALL}" is every label: it stands alone')
        return names

    @field_validator("escalate")
    @classmethod
    def _onwards(
        cls, escalate: tuple[EscalationModel, ...] | None, info: ValidationInfo
    ) -> tuple[EscalationModel, ...] | None:
        names = [one.to for one in escalate or ()]
        if len(set(names)) < len(names) or info.data.get("receiver") in names:
            raise ValueError("goes to a receiver that is told already: name another")
        return escalate


class InhibitModel(Strict):
    """While an alert fires that matches `source`, those that match `target` are not told."""

    source: MatchField = Field(description="Labels of what fires.")
    target: MatchField = Field(description="Labels of what is not told meanwhile.")
    equal: Names = Field((), description="Labels that both must have the same values of.")

    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        "source_matchers": "source",
        "source_match": "source",
        "source_match_re": "source",
        "target_matchers": "target",
        "target_match": "target",
        "target_match_re": "target",
    }

    @field_validator("source", "target")
    @classmethod
    def _some(cls, match: Match) -> Match:
        if not match:
            raise ValueError("needs a condition: an empty one is every alert")
        return match


Intervals = dict[Text, Annotated[tuple[IntervalModel, ...], BeforeValidator(listed)]]
Inhibits = tuple[InhibitModel, ...]


# --- what it makes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Misplaced:
    """What is wrong with a tree that parses."""

    loc: tuple[str | int, ...]
    text: str


def made(
    root: RouteModel,
    default: str,
    inhibits: Inhibits,
    intervals: Intervals,
    receivers: frozenset[str],
    place: Callable[[tuple[str | int, ...]], str],
) -> Routing:
    """The routing of a file that is right. `default`: the root's receiver, where it names none."""
    base = Route(default)
    return Routing(
        _route(root, base, ("route",), place),
        tuple(Inhibition(one.source, one.target, one.equal) for one in inhibits),
        {name: tuple(one.interval for one in held) for name, held in intervals.items()},
        receivers,
    )


def misplaced(root: RouteModel) -> list[Misplaced]:
    """Fields that the root cannot have, and routes that no alert can reach."""
    found = [
        Misplaced(("route", name), f"the root takes every alert, always: it has no `{name}`")
        for name, value in (
            ("match", root.match),
            ("continue", root.continue_),
            ("mute_times", root.mute_times),
            ("active_times", root.active_times),
        )
        if value
    ]
    waiting: list[tuple[tuple[str | int, ...], RouteModel]] = [(("route",), root)]
    while waiting:
        loc, route = waiting.pop()
        if len(loc) > 2 * DEEPEST:
            found.append(Misplaced(loc, f"routes are at most {DEEPEST} deep"))
            continue
        everything = False
        for i, child in enumerate(route.routes):
            at = (*loc, "routes", i)
            if everything:
                found.append(Misplaced(at, "no alert comes here: the route before it takes every one"))
            everything = everything or (not child.match and not child.continue_)
            waiting.append((at, child))
    return found


def _route(
    model: RouteModel,
    parent: Route,
    loc: tuple[str | int, ...],
    place: Callable[[tuple[str | int, ...]], str],
) -> Route:
    receiver = model.receiver or parent.receiver
    escalate = model.escalate
    own = Route(
        receiver=receiver,
        match=model.match,
        goes_on=model.continue_,
        group_by=_or(model.group_by, parent.group_by),
        group_wait=_or(model.group_wait, parent.group_wait),
        group_interval=_or(model.group_interval, parent.group_interval),
        repeat_interval=_or(model.repeat_interval, parent.repeat_interval),
        mute_times=model.mute_times,
        active_times=model.active_times,
        escalate=(
            tuple(one for one in parent.escalate if one.to != receiver)
            if escalate is None
            else tuple(sorted((Escalation(one.after, one.to) for one in escalate), key=lambda e: e.after))
        ),
        place=place(loc),
    )
    children = tuple(_route(child, own, (*loc, "routes", i), place) for i, child in enumerate(model.routes))
    return replace(own, routes=children)


def _or(value: T | None, inherited: T) -> T:
    return inherited if value is None else value
