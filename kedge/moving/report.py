"""What became of each rule, and the files that come of it. Pure."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kedge.alerting.loading import parse_rules
from kedge.analysis.catalogue import is_known

Fields = dict[str, Any]
"""One rule, as it is written: scalars, lists and maps by field, in order."""


class NotPossible(Exception):
    """Nothing of this rule can be told in kedge."""

    def __init__(self, why: str, instead: str) -> None:
        super().__init__(why)
        self.why, self.instead = why, instead


class Verdict(StrEnum):
    """What a person has to do about a rule: nothing, read, or write it anew."""

    EQUAL = "equal"
    DIFFERS = "differs"
    NOT_POSSIBLE = "not possible"


@dataclass
class Translated:
    """One rule of theirs."""

    source: str
    """Its name there."""
    place: str
    """`alerts/slow.yaml:3`."""
    rules: list[Fields] = field(default_factory=list)
    metrics: dict[str, Fields] = field(default_factory=dict)
    """Metrics that kedge.yml must define for them."""
    receivers: set[str] = field(default_factory=set)
    """Names that notify.yml must know."""
    same: list[str] = field(default_factory=list)
    """What means the same, in words."""
    differs: list[str] = field(default_factory=list)
    """What means something else, and what."""
    lost: list[str] = field(default_factory=list)
    """What of it cannot be told, and what there is instead."""
    why: str = ""
    """Why nothing came of it."""
    instead: str = ""
    """What to use, where nothing came of it."""

    @property
    def verdict(self) -> Verdict:
        if not self.rules:
            return Verdict.NOT_POSSIBLE
        return Verdict.DIFFERS if self.differs or self.lost else Verdict.EQUAL

    def give_up(self, reason: NotPossible) -> "Translated":
        """The same rule, of which nothing is left."""
        return Translated(self.source, self.place, why=reason.why, instead=reason.instead)

    @property
    def waits(self) -> bool:
        """Whether it names metrics that are not defined yet: such rules are written as comments."""
        return not all(map(is_known, self.metrics))

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "place": self.place,
            "verdict": self.verdict.value,
            "rules": [rule["name"] for rule in self.rules],
            "equal": list(dict.fromkeys(self.same)),
            "differs": self.differs,
            "not_possible": [self.why] if self.why else self.lost,
            "instead": self.instead,
            "needs_metrics": {name: self.metrics[name] for name in sorted(self.metrics)},
            "commented_out": self.waits,
        }


# --- names --------------------------------------------------------------------------------------------------


class Names:
    """Names of rules are unique over all files, and hold letters, digits, `-`, `_` and `.` alone."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def rule(self, name: str) -> str:
        return self._free(re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-_.")[:90] or "rule", "-")

    def metric(self, name: str) -> str:
        """From a rule's name: `card-timeouts` as `card_timeouts`, `5xx` as `m_5xx`."""
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        return self._free(plain if plain[:1].isalpha() else f"m_{plain}", "_")

    def _free(self, plain: str, joint: str) -> str:
        found, n = plain, 1
        while f"{joint}{found.lower()}" in self._taken:
            n += 1
            found = f"{plain}{joint}{n}"
        self._taken.add(f"{joint}{found.lower()}")
        return found


# --- the files ----------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*|\d+(\.\d+)?(ms|s|m|h|d|w|%|pp|x)")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off"}


def scalar(value: Any) -> str:
    """A scalar as YAML 1.2 reads it back: JSON's notation is a part of YAML's."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return f"{value:.12g}"
    return json.dumps(value)


def inline(value: Any) -> str:
    """`{to: history, window: 30d}`, `[a, b]`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(k)}: {inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(inline, value)) + "]"
    return scalar(value)


def rule_lines(rule: Fields) -> list[str]:
    marks = ("- ", *["  "] * (len(rule) - 1))
    return [f"{mark}{key}: {inline(value)}" for mark, (key, value) in zip(marks, rule.items(), strict=True)]


def rules_text(found: Sequence[Translated], origin: str, defaults: Mapping[str, Any]) -> str:
    """A rule file that `kedge rules check` accepts. Each rule has what is different above it; one that needs
    metrics which are not defined is a comment until kedge.yml has them."""
    lines = [
        f"# Translated from {origin}. What is different is said above each rule; it is yours to edit now.",
        "version: 1",
        f"defaults: {inline(dict(defaults))}",
    ]
    lines.append("rules:" if any(one.rules and not one.waits for one in found) else "rules: []")
    for one in found:
        lines += ["", f"# {one.source} ({one.place}): {one.verdict}"]
        lines += [_comment(text) for text in (*one.differs, *one.lost)]
        if one.why:
            lines += [_comment(one.why), _comment(f"instead: {one.instead}")]
        if waits := one.waits:
            names = ", ".join(sorted(one.metrics))
            lines.append(_comment(f"needs {names} in kedge.yml: open this comment when they are there"))
        for rule in one.rules:
            lines += [f"# {line}" if waits else line for line in rule_lines(rule)]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    return "#   " + " ".join(text.split())


def metrics_text(found: Sequence[Translated]) -> str:
    """The part of kedge.yml that the rules need; empty where they need none."""
    needed = {name: fields for one in found for name, fields in one.metrics.items()}
    if not needed:
        return ""
    return "metrics:\n" + "".join(f"  {name}: {inline(fields)}\n" for name, fields in needed.items())


def translate_each(
    sources: Iterable[tuple[Translated, Callable[[Translated], None]]], defaults: Mapping[str, Any]
) -> list[Translated]:
    """Fill each in. Nothing is left of one that kedge's own check refuses, and its words say why."""
    found = []
    for one, fill in sources:
        try:
            fill(one)
            _check(one, defaults)
        except NotPossible as e:
            one = one.give_up(e)
        found.append(one)
    return found


def _check(one: Translated, defaults: Mapping[str, Any]) -> None:
    if one.waits:
        return  # whether it is right is known when its metrics are
    book = parse_rules(rules_text([one], "a check", defaults), "")
    if book.problems:
        why = "; ".join(re.sub(r'^rule "[^"]*": ', "", problem.text) for problem in book.problems)
        raise NotPossible(why, "write it anew: docs/reference/rules.md")
