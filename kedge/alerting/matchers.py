"""Which alerts are meant: conditions on labels, as routes, inhibitions and silences write them. Pure.

    match: {team: fraud, severity: ">= high", model: "=~ fraud-.*", segment.country: [DE, FR]}

A value alone is equality, a list is any of its values; `!=`, `=~` and `!~` stand before a value, and for
`severity` `>=`, `>`, `<=` and `<` too. All conditions must hold. As in Alertmanager, a regular expression
matches the whole value, and a label that an alert does not have is the empty text.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kedge.alerting.fields import parse_severity, parse_text
from kedge.alerting.finding import AlertState, Severity, Transition
from kedge.errors import BadInput

Labels = Mapping[str, str]

SEVERITY = "severity"
MOST_CONDITIONS = 50
MOST_TEXT = 500
"""Characters of a value."""
_ORDER: dict[str, Callable[[int, int], bool]] = {
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}
_OPERATORS = ("!=", "=~", "!~", ">=", "<=", "=", ">", "<")
"""Longest first."""
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,199}")
_WRITTEN = re.compile(r"\s*([^=!~<>\s]+)\s*(!=|=~|!~|>=|<=|=|>|<)\s?(.*)", re.DOTALL)


def labels_of(transition: Transition) -> dict[str, str]:
    """What routes and silences see of an alert: its rule's labels, its group, and what it is itself."""
    return _labels(transition, transition.severity, transition.labels)


def state_labels(state: AlertState, of_rule: Labels) -> dict[str, str]:
    """The same of an alert as it stands, which has no severity while it is quiet; `of_rule`: its rule's."""
    return _labels(state, state.severity, of_rule)


def _labels(alert: Transition | AlertState, severity: Severity | None, of_rule: Labels) -> dict[str, str]:
    own = {
        "rule": alert.rule,
        "model": alert.model,
        "version": alert.version,
        SEVERITY: severity.word if severity else "",
    }
    return {**of_rule, **alert.group, **{name: value for name, value in own.items() if value}}


@dataclass(frozen=True)
class Matcher:
    """One condition on one label."""

    label: str
    operator: str
    values: tuple[str, ...]
    """One, but for `=` of a list."""

    def matches(self, labels: Labels) -> bool:
        found = labels.get(self.label, "")
        match self.operator:
            case "=":
                return found in self.values
            case "!=":
                return found not in self.values
            case "=~":
                return self._regex.fullmatch(found) is not None
            case "!~":
                return self._regex.fullmatch(found) is None
        rank = {s.word: int(s) for s in Severity}
        if found not in rank:
            return False
        return _ORDER[self.operator](rank[found], rank[self.values[0]])

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(self.values[0], re.DOTALL)

    @property
    def written(self) -> str | list[str]:
        """The value as `parse_match` reads it again."""
        if len(self.values) > 1:
            return list(self.values)
        (value,) = self.values
        plain = self.operator == "=" and not value.startswith(_OPERATORS) and value == value.strip()
        return value if plain else f"{self.operator} {value}"

    def __str__(self) -> str:
        if len(self.values) > 1:
            return f"{self.label} is one of {', '.join(self.values)}"
        return f"{self.label} {self.operator} {self.values[0] or '(none)'}"


Match = tuple[Matcher, ...]
"""Conditions that must all hold; none of them: every alert."""


def matches(match: Match, labels: Labels) -> bool:
    return all(matcher.matches(labels) for matcher in match)


def describe(match: Match) -> str:
    """For people: `team = fraud, severity >= high`."""
    return ", ".join(str(matcher) for matcher in match) or "every alert"


def parse_match(raw: Any) -> Match:
    """Conditions from the map that people write; raises BadInput."""
    if not isinstance(raw, Mapping):
        raise BadInput('conditions are a map of labels: {team: fraud, severity: ">= high"}')
    if len(raw) > MOST_CONDITIONS:
        raise BadInput(f"at most {MOST_CONDITIONS} conditions")
    return tuple(parse_matcher(str(label), value) for label, value in raw.items())


def parse_matcher(label: str, raw: Any) -> Matcher:
    """One entry of the map; raises BadInput."""
    if not _LABEL.fullmatch(label):
        raise BadInput(f'"{label}" is no name of a label')
    if isinstance(raw, list | tuple):
        if not raw:
            raise BadInput(f"{label}: an empty list matches nothing")
        values = tuple(_value(label, one) for one in raw)
        for value in values:
            if value.startswith(("!=", "=~", "!~", ">", "<")):
                raise BadInput(f'{label}: "{value}": a list is of values, without operators')
        return _checked(Matcher(label, "=", values))
    text = _value(label, raw)
    operator = next((o for o in _OPERATORS if text.startswith(o)), "")
    value = text.removeprefix(operator)
    return _checked(Matcher(label, operator or "=", (value.removeprefix(" "),)))


def parse_condition(text: str) -> Matcher:
    """One condition as commands take it: `rule=~drift.*`, `severity>=high`; raises BadInput."""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise BadInput(f'"{text}" is no condition (write model=fraud, rule=~"drift.*" or severity>=high)')
    label, operator, value = found.groups()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if not _LABEL.fullmatch(label):
        raise BadInput(f'"{label}" is no name of a label')
    return _checked(Matcher(label, operator, (_value(label, value),)))


def _value(label: str, raw: Any) -> str:
    if isinstance(raw, Mapping | list | tuple) or raw is None:
        raise BadInput(f"{label}: must be a text or a list of texts")
    text = parse_text(raw)
    if len(text) > MOST_TEXT:
        raise BadInput(f"{label}: at most {MOST_TEXT} characters")
    return text


def _checked(matcher: Matcher) -> Matcher:
    label, operator, values = matcher.label, matcher.operator, matcher.values
    if operator in _ORDER and label != SEVERITY:
        raise BadInput(f"{label}: {operator} is for severity alone")
    if operator in ("=~", "!~"):
        try:
            re.compile(values[0])
        except re.error as error:
            raise BadInput(f'{label}: "{values[0]}" is no regular expression: {error}') from None
    elif label == SEVERITY:
        for value in values:
            try:
                parse_severity(value)
            except BadInput as error:
                raise BadInput(f"{label}: {error.reason}") from None
    return matcher
