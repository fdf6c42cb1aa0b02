"""Filters as people write them: the part of Lucene's language that means the same in every store.

`field:value`, `field:"two words"`, `field:stem*`, `field:*`, `field:(a OR b)`, `latency_ms:>200`,
`features.num.age:[18 TO 30}`, joined by AND, OR, NOT and parentheses. What Lucene leaves to an analyser or to
scores (bare words, `+`, `-`, `~`, `^`, regular expressions, wildcards that are not at the end) is an error.
"""

import difflib
import math
import re

from luqum.exceptions import ParseError
from luqum.parser import parser
from luqum.tree import (
    AndOperation,
    FieldGroup,
    From,
    Group,
    Item,
    OrOperation,
    Phrase,
    Prohibit,
    Range,
    SearchField,
    To,
    Word,
)
from luqum.tree import Not as NotOperation

from kedge.errors import BadInput
from kedge.sketch.where import (
    ALLOWED,
    FIELDS,
    And,
    Begins,
    Between,
    Exists,
    Is,
    Kind,
    Not,
    Or,
    Where,
    joined,
    kind_of,
    leaves,
)

LONGEST = 2_000
"""Characters of a filter."""
MOST = 100
"""Conditions of one."""
_DEEPEST = 20
_PLACE = re.compile(r"position (\d+)")
_LATER = ("label.", "outcome.")


def parse_filter(text: str) -> Where:
    """The conditions that a filter stands for; raises BadInput with the place in it, from 1, and what would
    be right."""
    if not text.strip():
        raise BadInput("is empty: leave where out to count every row")
    if len(text) > LONGEST:
        raise BadInput(f"has {len(text)} characters; at most {LONGEST}")
    try:
        tree = parser.parse(text)
    except ParseError as e:
        found = _PLACE.search(str(e))
        if found is None:
            raise BadInput("ends too early: a value or a parenthesis is missing") from None
        at = int(found[1])
        hint = ' (quote a negative bound: >"-1")' if text[at : at + 1] == "-" else ""
        raise BadInput(f"at character {at + 1}: cannot be read from here on{hint}") from None
    where = _Reader(text).node(tree, None, 0)
    if sum(1 for _ in leaves(where)) > MOST:
        raise BadInput(f"has more than {MOST} conditions")
    return where


class _Reader:
    """Reads the tree of one text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def node(self, node: Item, field: str | None, depth: int) -> Where:
        """What a node means; within `field:( … )` the field is known."""
        if depth > _DEEPEST:
            raise self._wrong(node, f"is nested more than {_DEEPEST} deep")
        match node:
            case AndOperation() | OrOperation():
                kind, other = (And, OrOperation) if isinstance(node, AndOperation) else (Or, AndOperation)
                for child in node.children:
                    if isinstance(child, other):
                        raise self._wrong(
                            child, "AND and OR stand side by side: say with parentheses which binds"
                        )
                return joined(kind, [self.node(child, field, depth + 1) for child in node.children])
            case NotOperation():
                return Not(self.node(node.children[0], field, depth + 1))
            case Group() | FieldGroup():
                return self.node(node.children[0], field, depth + 1)
            case SearchField():
                if field is not None:
                    raise self._wrong(node, f"stands within the parentheses of {field}")
                return self.node(node.children[0], self._field(node), depth + 1)
            case _ if field is None:
                raise self._wrong(node, self._bare(node))
            case _:
                return self._value(node, field)

    def _field(self, node: SearchField) -> str:
        name = _plain(node.name)
        if kind_of(name) is not None:
            return name
        if name.startswith(_LATER):
            raise self._wrong(node, f"{name} comes after a row was counted, so no filter can ask for it")
        near = difflib.get_close_matches(name, FIELDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise self._wrong(node, f'"{name}" is no field to filter by ({hint}allowed: {", ".join(ALLOWED)})')

    def _value(self, node: Item, field: str) -> Where:
        """A condition on a field."""
        kind = kind_of(field)
        match node:
            case Word() if node.value == "*":
                return Exists(field)
            case Range():
                low, high = (self._bound(end, field) for end in node.children)
                return self._between(
                    node, field, low, high, low_in=node.include_low, high_in=node.include_high
                )
            case From():
                bound = self._bound(node.children[0], field)
                return self._between(node, field, bound, None, low_in=node.include, high_in=False)
            case To():
                bound = self._bound(node.children[0], field)
                return self._between(node, field, None, bound, low_in=False, high_in=node.include)
            case Word() | Phrase() | Prohibit() if kind is Kind.NUMBER:
                number = self._number(node, field)
                return self._between(node, field, number, number, low_in=True, high_in=True)
            case Phrase():
                return Is(field, _plain(node.value[1:-1]))
            case Word():
                stem = node.value.removesuffix("*") if _ends_open(node.value) else None
                if _wild(node.value if stem is None else stem):
                    raise self._wrong(node, "a wildcard may only stand at the end of a word: stem*")
                return Is(field, _plain(node.value)) if stem is None else Begins(field, _plain(stem))
            case Prohibit():
                raise self._wrong(
                    node, f'write NOT, or quote the value if it begins with a minus: {field}:"-…"'
                )
            case _:
                raise self._wrong(node, self._bare(node))

    def _between(
        self, node: Item, field: str, low: float | None, high: float | None, *, low_in: bool, high_in: bool
    ) -> Where:
        if kind_of(field) is not Kind.NUMBER:
            raise self._wrong(node, f"{field} is text, which has no ranges")
        if low is None and high is None:
            return Exists(field)
        return Between.of(field, low, high, low_in=low_in, high_in=high_in)

    def _bound(self, node: Item, field: str) -> float | None:
        if isinstance(node, Word) and node.value == "*":
            return None
        if kind_of(field) is not Kind.NUMBER:
            raise self._wrong(node, f"{field} is text, which has no ranges")
        return self._number(node, field)

    def _number(self, node: Item, field: str) -> float:
        sign = 1.0
        if isinstance(node, Prohibit):
            sign, node = -1.0, node.children[0]
        said = node.value.strip('"') if isinstance(node, Word | Phrase) else ""
        try:
            number = sign * float(said)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or "_" in said:
            raise self._wrong(node, f"{field} is a number, and {said or str(node)} is none")
        return number

    def _bare(self, node: Item) -> str:
        match type(node).__name__:
            case "Word" | "Phrase":
                return "a value without its field: write field:value"
            case "UnknownOperation":
                return "two conditions side by side: write AND or OR between them"
            case "Prohibit" | "Plus":
                return "+ and - are about scores: write AND, OR and NOT"
            case "Regex":
                return "regular expressions are not read: write stem*, or several values with OR"
            case "Fuzzy" | "Proximity" | "Boost":
                return "~ and ^ are about scores and likeness: write values as they are"
            case _:
                return "cannot be read"

    def _wrong(self, node: Item, what: str) -> BadInput:
        at = "" if node.pos is None else f"at character {node.pos + 1}: "
        return BadInput(f"{at}{what}")


def _plain(said: str) -> str:
    """Without the backslashes that keep a character from its meaning."""
    return re.sub(r"\\(.)", r"\1", said)


def _wild(said: str) -> bool:
    return re.search(r"(?<!\\)(?:\\\\)*[*?]", said) is not None


def _ends_open(said: str) -> bool:
    """Ends in a star that is not escaped."""
    stem = said.removesuffix("*")
    return stem != said and (len(stem) - len(stem.rstrip("\\"))) % 2 == 0
