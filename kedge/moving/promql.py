"""A reader for the part of PromQL that alerts are made of. Pure; no part of it evaluates anything.

Left out on purpose, with an error that says so: subqueries, `@`, and vector matching beyond being skipped.
"""

import re
from dataclasses import dataclass
from typing import NoReturn

from kedge.errors import BadInput
from kedge.windows import DAY, HOUR, MINUTE, SECOND, WEEK, Millis

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      | (?P<duration>(?:\d+(?:ms|[smhdwy]))+)(?![\w.])
      | (?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)(?![\w.])
      | (?P<name>[A-Za-z_:][\w:]*)
      | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
      | (?P<sign>==|!=|=~|!~|>=|<=|[-+*/%^(){}\[\],<>=@:])
      | (?P<rest>.)""",
    re.VERBOSE | re.DOTALL,
)
_UNITS = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK, "y": 365 * DAY}
_BINDS = {
    **dict.fromkeys(("or",), 1),
    **dict.fromkeys(("and", "unless"), 2),
    **dict.fromkeys(("==", "!=", ">", "<", ">=", "<="), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%"), 5),
    "^": 6,
}
COMPARES = frozenset(word for word, binds in _BINDS.items() if binds == 3)
AGGREGATES = frozenset(
    ("sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "topk", "bottomk", "quantile")
)
_DEEPEST = 50


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Text:
    value: str


@dataclass(frozen=True)
class Selector:
    """`requests_total{job="api"}[5m] offset 1w`."""

    name: str
    matchers: tuple[tuple[str, str, str], ...] = ()
    """Label, operator, value."""
    range: Millis = 0
    offset: Millis = 0

    def __str__(self) -> str:
        """Without range and offset, its matchers in order."""
        inner = ",".join(f'{label}{op}"{value}"' for label, op, value in sorted(self.matchers))
        return f"{self.name}{{{inner}}}" if inner else self.name


@dataclass(frozen=True)
class Call:
    name: str
    args: "tuple[Node, ...]"


@dataclass(frozen=True)
class Aggregate:
    """`sum by (le) (…)`."""

    name: str
    args: "tuple[Node, ...]"
    by: tuple[str, ...] = ()
    without: bool = False


@dataclass(frozen=True)
class Binary:
    op: str
    left: "Node"
    right: "Node"
    matching: bool = False
    """It says on which labels the two sides meet."""


Node = Number | Text | Selector | Call | Aggregate | Binary


def parse_duration(text: str) -> Millis:
    """`1h30m`, as Prometheus writes it; raises BadInput."""
    if not re.fullmatch(r"(\d+(ms|[smhdwy]))+", text):
        raise BadInput(f'"{text}" is not a duration')
    return sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)(ms|[smhdwy])", text))


def parse(text: str) -> Node:
    """An expression; raises BadInput, with what stands where it is not understood."""
    return _Parser(text).whole()


def selectors(node: Node) -> list[Selector]:
    """All that an expression reads."""
    match node:
        case Selector():
            return [node]
        case Call(args=args) | Aggregate(args=args):
            return [found for arg in args for found in selectors(arg)]
        case Binary():
            return selectors(node.left) + selectors(node.right)
        case _:
            return []


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = [(str(m.lastgroup), m[0]) for m in _TOKEN.finditer(text) if m.lastgroup != "space"]
        self.at = self.depth = 0

    def whole(self) -> Node:
        node = self._binary(1)
        if self.at < len(self.tokens):
            self._fail("nothing more")
        return node

    def _peek(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.tokens[at][1] if at < len(self.tokens) else ""

    def _kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def _next(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][1]

    def _take(self, sign: str) -> None:
        if self._peek() != sign:
            self._fail(f'"{sign}"')
        self.at += 1

    def _fail(self, expected: str) -> NoReturn:
        found = f'"{self._peek()}"' if self._peek() else "the end"
        raise BadInput(f"PromQL: expected {expected}, found {found}")

    def _binary(self, least: int) -> Node:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise BadInput("PromQL: nested too deeply")
        left = self._unary()
        while (binds := _BINDS.get(self._peek(), 0)) >= least:
            op = self._next()
            matching = False
            while self._peek() in ("bool", "on", "ignoring", "group_left", "group_right"):
                word = self._next()
                matching |= word != "bool"
                if word != "bool" and self._peek() == "(":
                    self._labels()
            right = self._binary(binds if op == "^" else binds + 1)
            left = Binary(op, left, right, matching)
        self.depth -= 1
        return left

    def _unary(self) -> Node:
        if self._peek() in ("-", "+"):
            sign = self._next()
            inner = self._binary(6)
            if isinstance(inner, Number):
                return Number(-inner.value if sign == "-" else inner.value)
            return inner if sign == "+" else Binary("*", Number(-1), inner)
        return self._ranged(self._primary())

    def _primary(self) -> Node:
        match self._kind():
            case "number":
                return Number(float(self._next()))
            case "text":
                return Text(_plain(self._next()))
            case "name":
                return self._named()
        if self._peek() == "{":
            return Selector("", self._matchers())
        if self._peek() != "(":
            self._fail("a metric, a function or a number")
        self._take("(")
        inner = self._binary(1)
        self._take(")")
        return inner

    def _named(self) -> Node:
        name = self._next()
        if name.lower() in ("inf", "nan") and self._peek() not in ("{", "("):
            return Number(float(name))
        if name in AGGREGATES and self._peek() in ("(", "by", "without"):
            return self._aggregate(name)
        if self._peek() == "(":
            return Call(name, self._args())
        return Selector(name, self._matchers() if self._peek() == "{" else ())

    def _aggregate(self, name: str) -> Aggregate:
        by: tuple[str, ...] = ()
        word = ""
        if self._peek() in ("by", "without"):
            word, by = self._next(), self._labels()
        args = self._args()
        if not word and self._peek() in ("by", "without"):
            word, by = self._next(), self._labels()
        return Aggregate(name, args, by, word == "without")

    def _args(self) -> tuple[Node, ...]:
        self._take("(")
        args: list[Node] = []
        while self._peek() != ")":
            args.append(self._binary(1))
            if self._peek() != ")":
                self._take(",")
        self._take(")")
        return tuple(args)

    def _labels(self) -> tuple[str, ...]:
        self._take("(")
        names: list[str] = []
        while self._peek() != ")":
            if self._kind() != "name":
                self._fail("a label")
            names.append(self._next())
            if self._peek() != ")":
                self._take(",")
        self._take(")")
        return tuple(names)

    def _matchers(self) -> tuple[tuple[str, str, str], ...]:
        self._take("{")
        found: list[tuple[str, str, str]] = []
        while self._peek() != "}":
            if self._kind() != "name":
                self._fail("a label")
            label, op = self._next(), self._peek()
            if op not in ("=", "!=", "=~", "!~"):
                self._fail("=, !=, =~ or !~")
            self._next()
            if self._kind() != "text":
                self._fail("a value in quotes")
            found.append((label, op, _plain(self._next())))
            if self._peek() != "}":
                self._take(",")
        self._take("}")
        return tuple(found)

    def _ranged(self, node: Node) -> Node:
        while self._peek() in ("[", "offset", "@"):
            if not isinstance(node, Selector) or self._peek() == "@" or self._peek(2).startswith(":"):
                raise BadInput("PromQL: subqueries, `@`, and ranges or offsets of an expression are not read")
            if self._peek() == "[":
                self._take("[")
                node = Selector(node.name, node.matchers, self._duration(), node.offset)
                self._take("]")
            else:
                self._take("offset")
                sign = -1 if self._peek() == "-" else 1
                if sign < 0:
                    self._take("-")
                node = Selector(node.name, node.matchers, node.range, sign * self._duration())
        return node

    def _duration(self) -> Millis:
        if self._kind() != "duration":
            self._fail("a duration")
        return parse_duration(self._next())


def _plain(quoted: str) -> str:
    if quoted[0] == "`":
        return quoted[1:-1]
    return re.sub(r"\\(.)", r"\1", quoted[1:-1])
