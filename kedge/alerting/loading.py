"""Rule files: every error of every file at once, each with `file:line:col`; a broken rule costs no other.

version: 1
defaults: {model: fraud, notify: ml-oncall}
rules:
- {name: slow, metric: latency.p95, window: 10m, above: 200ms}
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kedge.alerting.advice import advice
from kedge.alerting.budgets import with_shares
from kedge.alerting.composite import CompositeRule, bound_rules, problems_of
from kedge.alerting.fields import did_you_mean
from kedge.alerting.kinds import DEFAULT_KIND, KINDS
from kedge.alerting.routing import Routing
from kedge.alerting.rule import Rule
from kedge.errors import BadInput
from kedge.yamlfile import YamlError, YamlFile, parse_yaml, read_yaml

VERSION = 1
SUFFIXES = (".yml", ".yaml")
TESTS = (".test.yml", ".test.yaml")
_TOP = ("version", "defaults", "rules")
DEFAULTS = tuple(name for name in Rule.field_names() if name != "name")
_DEPTH = 8
"""Nesting that rules can need is half of this."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong in a rule file."""

    file: str
    line: int
    column: int
    text: str
    """`rule "slow": unknown field "abve" (did you mean "above"?)`"""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass(frozen=True)
class RuleBook:
    """The rules that are in force, and what is wrong with the files that they came from."""

    rules: tuple[Rule, ...] = ()
    problems: tuple[Problem, ...] = ()
    kept: frozenset[str] = frozenset()
    """Files with a problem whose last good rules are in force."""
    by_name: Mapping[str, Rule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", bound_rules(self.rules))
        object.__setattr__(self, "by_name", {rule.name: rule for rule in self.rules})

    @property
    def broken(self) -> frozenset[str]:
        """Files with a problem."""
        return frozenset(problem.file for problem in self.problems)

    @property
    def unsure(self) -> bool:
        """Rules may be missing: of a file with a problem no good version is known."""
        return bool(self.broken - self.kept)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is allowed, and rarely meant."""
        found = []
        for rule, text in advice(self.rules):
            file, _, line = rule.place.rpartition(":")
            found.append(Problem(file, int(line), 1, f'rule "{rule.name}": {text}'))
        return tuple(sorted(found))

    def of_model(self, model: str) -> tuple[Rule, ...]:
        """The rules that watch a model."""
        return tuple(rule for rule in self.rules if rule.model in ("*", model))

    def shared(self, routing: Routing, beside: "RuleBook | None" = None) -> "RuleBook":
        """This book with the budgets of receivers split over its rules.

        `beside`: the rules in force, where this book is of some files alone: those of other files and names
        take their part, so that a rule has the share here that it has there.
        """
        mine = {rule.file for rule in self.rules}
        others = (
            [r for r in beside.rules if r.name not in self.by_name and r.file not in mine] if beside else []
        )
        return RuleBook(with_shares(self.rules, routing, others), self.problems, self.kept)

    def raise_for_problems(self) -> None:
        """Raises BadInput with every problem, a line each."""
        if self.problems:
            raise BadInput("\n".join(map(str, self.problems)))

    def keeping(self, last_good: "RuleBook") -> "RuleBook":
        """This book, but with the last good rules of the files that are broken now; for a live reload.

        A file that never was good keeps the rules in it that are right.
        """
        known = {rule.file for rule in last_good.rules} - (last_good.broken - last_good.kept)
        restored = known & self.broken
        kept = [rule for rule in last_good.rules if rule.file in restored]
        rules = [rule for rule in self.rules if rule.file not in restored]
        taken = {rule.name for rule in rules}
        return RuleBook(
            (*rules, *(rule for rule in kept if rule.name not in taken)), self.problems, self.kept | restored
        )


def rule_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files among `paths` and the rule files in its folders; no `*.test.yml`, no subfolders."""
    for path in paths:
        if path.is_dir():
            found = (f for f in path.iterdir() if f.suffix in SUFFIXES and not f.name.startswith("."))
            yield from sorted(f for f in found if not f.name.endswith(TESTS))
        else:
            yield path


def load_rules(paths: Sequence[Path]) -> RuleBook:
    """Read the rules of files and folders. Never raises for what they contain: see `RuleBook.problems`."""
    reader = _Reader()
    for path in dict.fromkeys(rule_files(paths)):
        try:
            reader.read(read_yaml(path, shown(path)))
        except YamlError as e:
            reader.unreadable(shown(path), str(e))
    return reader.book()


def shown(path: Path) -> str:
    """As people name it: from the current folder where it is below that."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def parse_rules(text: str, name: str = "rules.yml") -> RuleBook:
    """The rules of one file's text."""
    return parse_files({name: text})


def parse_files(texts: Mapping[str, str]) -> RuleBook:
    """The rules of several files, by name."""
    reader = _Reader()
    for name, text in texts.items():
        try:
            reader.read(parse_yaml(text, name))
        except YamlError as e:
            reader.unreadable(name, str(e))
    return reader.book()


class _Reader:
    """Collects rules and problems over files."""

    def __init__(self) -> None:
        self.rules: dict[str, Rule] = {}
        self.problems: set[Problem] = set()
        self._named: set[str] = set()
        """All names, those of rules with errors too."""
        self._composites: dict[str, tuple[YamlFile, int]] = {}
        """Where each is written."""

    def book(self) -> RuleBook:
        found = {
            name: list(problems_of(rule, self.rules, self._named))
            for name in self._composites
            if isinstance(rule := self.rules[name], CompositeRule)
        }
        for name, problems in found.items():
            file, i = self._composites[name]
            for place, text in problems:
                self._add(file, ("rules", i, *place), f'rule "{name}": {place[0]}: {text}')
            if problems:
                del self.rules[name]
        return RuleBook(tuple(self.rules.values()), tuple(sorted(self.problems)))

    def unreadable(self, name: str, text: str) -> None:
        self.problems.add(unreadable(name, text))

    def read(self, file: YamlFile) -> None:
        content = file.data if file.data is not None else {}
        if not isinstance(content, Mapping):
            self._add(file, (), "a rule file is a map with `version: 1` and `rules:`")
            return
        for key in content:
            if key not in _TOP:
                self._add(file, (key,), f'unknown field "{key}"{did_you_mean(str(key), _TOP)}')
        if content and content.get("version") != VERSION:
            self._add(file, ("version",), f"write `version: {VERSION}` at the top: the only version there is")
        defaults = self._defaults(file, content.get("defaults") or {})
        rules = content.get("rules") or []
        if not isinstance(rules, Sequence) or isinstance(rules, str):
            self._add(file, ("rules",), "`rules` is a list: begin each rule with `- name: …`")
            return
        for i, node in enumerate(rules):
            self._rule(file, i, node, defaults)

    def _defaults(self, file: YamlFile, node: Any) -> dict[str, Any]:
        if not isinstance(node, Mapping):
            self._add(file, ("defaults",), "`defaults` is a map of fields that the rules share")
            return {}
        for key in node:
            if key not in DEFAULTS:
                hint = did_you_mean(str(key), DEFAULTS)
                self._add(file, ("defaults", key), f'defaults: unknown field "{key}"{hint}')
        return {key: plain(value) for key, value in node.items() if key in DEFAULTS}

    def _rule(self, file: YamlFile, i: int, node: Any, defaults: Mapping[str, Any]) -> None:
        if not isinstance(node, Mapping):
            self._add(
                file, ("rules", i), f"rule {i + 1}: a rule is a map: `- name: …` and its fields under it"
            )
            return
        own = {str(key): plain(value) for key, value in node.items()}
        title = f'rule "{own["name"]}"' if isinstance(own.get("name"), str) else f"rule {i + 1}"
        self._named |= {own["name"]} if isinstance(own.get("name"), str) else set()
        word = own.get("kind", DEFAULT_KIND)
        kind = next((k for k in KINDS if word == k.KIND), None)
        if kind is None:
            hint = did_you_mean(str(word), [k.KIND for k in KINDS])
            self._add(file, ("rules", i, "kind"), f'{title}: unknown kind "{word}"{hint}')
            return
        try:
            rule = kind.model_validate({"kind": word} | dict(defaults) | own)
        except ValidationError as e:
            for error in e.errors(include_url=False):
                key = error["loc"][0] if error["loc"] else None
                text = explain(error, kind, own.keys())
                if key in defaults and key not in own:
                    self._add(file, ("defaults", *error["loc"]), f"defaults: {text}")
                else:
                    self._add(file, ("rules", i, *error["loc"]), f"{title}: {text}")
            return
        if rule.name in self.rules:
            first = self.rules[rule.name].place
            text = f"{title}: there is a rule of that name at {first}; names are unique over all files"
            self._add(file, ("rules", i, "name"), text)
            return
        line, _ = file.position(("rules", i))
        self.rules[rule.name] = rule.placed(f"{file.name}:{line}")
        if isinstance(rule, CompositeRule):
            self._composites[rule.name] = (file, i)

    def _add(self, file: YamlFile, loc: Sequence[str | int], text: str) -> None:
        self.problems.add(Problem(file.name, *file.position(loc), text))


def unreadable(name: str, text: str) -> Problem:
    """What a YamlError says of a file; `text` begins with `file:line:col: ` or `file: `."""
    where, _, problem = text.removeprefix(name).lstrip(":").partition(" ")
    line, _, column = where.rstrip(":").partition(":")
    known = line.isdigit() and column.isdigit()
    at = (int(line), int(column)) if known else (1, 1)
    return Problem(name, *at, problem if known else text.removeprefix(f"{name}: "))


def explain(error: ErrorDetails, kind: type[Rule], given: Sequence[str] | Any = ()) -> str:
    """A pydantic error in words for the person who wrote the rule."""
    loc = ".".join(part for part in error["loc"] if isinstance(part, str))
    match error["type"]:
        case "extra_forbidden":
            other = [k.KIND for k in KINDS if k is not kind and loc in k.field_names()]
            if other:
                return f'"{loc}" is a field of kind {" and ".join(other)}; this rule is of kind {kind.KIND}'
            outer, _, name = loc.rpartition(".")
            if outer:
                return f'unknown field "{loc}"{did_you_mean(name, _fields_inside(kind, outer))}'
            unused = [name for name in kind.field_names() if name not in given]
            return f'unknown field "{loc}"{did_you_mean(loc, unused)}'
        case "missing":
            return f"needs `{loc}`"
        case "value_error":
            text = error["msg"].removeprefix("Value error, ")
            return f"{loc}: {text}" if loc else text
        case "enum" | "literal_error":
            allowed = str(error["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
            return f'{loc}: "{error["input"]}" is not allowed{did_you_mean(str(error["input"]), allowed)}'
        case "string_pattern_mismatch":
            return f'{loc}: "{error["input"]}" may hold letters, digits, "-", "_" and "." alone'
        case _:
            text = (
                error["msg"].replace("Input should be", "must be").replace("Input should have", "must have")
            )
            return f"{loc}: {text[0].lower()}{text[1:]}"


def _fields_inside(kind: type[Rule], field_name: str) -> list[str]:
    """Those of the map that a field holds."""
    field = kind.model_fields[field_name]
    held = [t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type)]
    return [name for t in held if issubclass(t, BaseModel) for name in t.model_fields]


def plain(node: Any, depth: int = 0) -> Any:
    """A YAML node as dicts, lists and scalars; what is nested beyond sense, as a text that no field takes."""
    if depth > _DEPTH:
        return "…"
    if isinstance(node, Mapping):
        return {str(key): plain(value, depth + 1) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(item, depth + 1) for item in node]
    return node
