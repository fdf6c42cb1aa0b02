"""Filters of Elasticsearch's query language, as the Lucene text that a metric's `where` takes. Pure.

What has the same meaning in both comes over: terms, ranges, existence, `and`, `or`, `not`, words with a star
at their end. Text without a field, regular expressions and fuzzy words do not: they mean what the analyzer of
an index makes of them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kedge.moving.fields import Vocabulary
from kedge.moving.report import NotPossible

ANEW = "write the condition with terms: `where: 'error.type:timeout AND segment.region:eu'`"
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<operand>[+-]?[\w.@-]+:(?:"(?:\\.|[^"\\])*" | [\[{][^\]}]*[\]}] | \((?:[^()"]|"[^"]*")*\)
          | [<>]=?[^\s()]+ | [^\s()"\[{]+))
      | (?P<word>(?:AND|OR|NOT|&&|\|\|)(?=[\s(!]|$)|!)
      | (?P<paren>[()])
      | (?P<rest>\S+)""",
    re.VERBOSE,
)
_WORDS = {"&&": "AND", "||": "OR", "!": "NOT"}
_BARE = re.compile(r"[\w.-]+\*?|\*")
_RANGES = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<", "from": ">=", "to": "<="}


@dataclass(frozen=True)
class Filter:
    """Which rows are meant."""

    model: str = ""
    version: str = ""
    terms: tuple[str, ...] = ()
    """Lucene, all of which must hold."""

    @property
    def where(self) -> str:
        return " AND ".join(self.terms)


def quoted(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if _BARE.fullmatch(text) and text not in _WORDS.values():
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def one_of(field: str, values: Sequence[Any]) -> str:
    """`field:a`, `field:(a OR b)`."""
    words = [quoted(value) for value in values]
    return f"{field}:{words[0]}" if len(words) == 1 else f"{field}:({' OR '.join(words)})"


def exactly(term: str, field: str) -> str | None:
    """The one value that a term asks of that field: `fraud` of `prediction.class:fraud`."""
    name, _, value = term.partition(":")
    if name != field or not value or value.startswith(("(", "[", "{", "<", ">")) or value.endswith("*"):
        return None
    return value.strip('"')


def read_filter(nodes: Any, names: Vocabulary) -> Filter:
    """A rule's `filter`; raises NotPossible."""
    terms: list[str] = []
    for node in nodes if isinstance(nodes, list) else [nodes]:
        terms += _conjuncts(node, names)
    model, version, rest = "", "", []
    for term in dict.fromkeys(terms):
        if not model and (value := exactly(term, "model.name")) is not None:
            model = value
        elif not version and (value := exactly(term, "model.version")) is not None:
            version = value
        elif "model.name:" in term:
            raise NotPossible(f"{term} asks for rows of several models", "a rule for each model")
        else:
            rest.append(term)
    return Filter(model, version, tuple(rest))


def _conjuncts(node: Any, names: Vocabulary) -> list[str]:
    """Terms that must all hold."""
    kind, body = _one(node)
    match kind, body:
        case ("query", Mapping()):
            return _conjuncts(body, names)
        case ("filtered" | "constant_score", Mapping()) if "filter" in body:
            return _conjuncts(body["filter"], names)
        case ("bool", Mapping()) if set(body) <= {"must", "filter"}:
            return [t for part in body.values() for one in _listed(part) for t in _conjuncts(one, names)]
        case ("and", list()):
            return [t for one in body for t in _conjuncts(one, names)]
        case "query_string", _:
            return query_string(body.get("query", "") if isinstance(body, Mapping) else body, names)
        case "match_all", _:
            return []
        case _:
            return [_term(kind, body, names)]


def _term(kind: str, body: Any, names: Vocabulary) -> str:
    match kind, body:
        case ("term" | "match" | "match_phrase", Mapping()) if len(body) == 1:
            ((field, value),) = body.items()
            if isinstance(value, Mapping):
                value = value.get("value", value.get("query"))
            if kind == "match" and len(str(value).split()) > 1:
                raise NotPossible(f"match on several words of {field} asks the analyzer of an index", ANEW)
            return f"{names.field(field)}:{quoted(value)}"
        case ("terms", Mapping()) if len(body) == 1:
            ((field, values),) = body.items()
            return one_of(names.field(field), _listed(values))
        case ("prefix", Mapping()) if len(body) == 1:
            ((field, value),) = body.items()
            value = value.get("value") if isinstance(value, Mapping) else value
            return f"{names.field(field)}:{_starred(f'{value}*', kind)}"
        case ("wildcard", Mapping()) if len(body) == 1:
            ((field, value),) = body.items()
            value = value.get("value", value.get("wildcard")) if isinstance(value, Mapping) else value
            return f"{names.field(field)}:{_starred(str(value), kind)}"
        case ("range", Mapping()) if len(body) == 1:
            ((field, ends),) = body.items()
            name = names.field(field)
            bounds = [f"{name}:{_RANGES[word]}{value}" for word, value in ends.items() if word in _RANGES]
            if not bounds:
                raise NotPossible(f"the range of {field} has no bound that is known", ANEW)
            return bounds[0] if len(bounds) == 1 else f"({' AND '.join(bounds)})"
        case ("exists", Mapping()):
            return f"{names.field(str(body['field']))}:*"
        case "not", _:
            inner = body.get("filter", body) if isinstance(body, Mapping) else body
            return f"NOT {_grouped(_conjuncts(inner, names), 'AND')}"
        case ("or", list()):
            return _grouped([_grouped(_conjuncts(one, names), "AND") for one in body], "OR")
        case ("bool", Mapping()):
            return _bool(body, names)
        case _:
            raise NotPossible(f"a filter of kind {kind} has no counterpart", ANEW)


def _bool(body: Mapping[str, Any], names: Vocabulary) -> str:
    parts: list[str] = []
    for word, nodes in body.items():
        inner = (
            [_conjuncts(one, names) for one in _listed(nodes)] if isinstance(nodes, list | Mapping) else []
        )
        match word:
            case "must" | "filter":
                parts += [term for terms in inner for term in terms]
            case "must_not":
                parts += [f"NOT {_grouped(terms, 'AND')}" for terms in inner]
            case "should" if (
                not ("must" in body or "filter" in body) or body.get("minimum_should_match") == 1
            ):
                parts.append(_grouped([_grouped(terms, "AND") for terms in inner], "OR"))
            case "should":
                pass  # beside `must` it only ranks
            case "minimum_should_match" if nodes in (1, "1"):
                pass
            case _:
                raise NotPossible(f"`{word}` of a bool filter has no counterpart", ANEW)
    return _grouped(parts, "AND")


def query_string(text: str, names: Vocabulary) -> list[str]:
    """Lucene's own syntax, with kedge's fields; terms that must all hold. Raises NotPossible."""
    out: list[str] = []
    for found in _TOKEN.finditer(str(text).strip()):
        match found.lastgroup:
            case "word":
                out.append(_WORDS.get(found[0], found[0]))
            case "paren":
                if found[0] == "(":
                    _join(out)
                out.append(found[0])
            case "operand":
                _join(out)
                out.append(_operand(found["operand"], names))
            case "rest":
                if found[0] == "*" and not out:
                    return []
                raise NotPossible(f'"{found[0]}" asks for text in no field by name', ANEW)
    if not {"OR", "NOT", "(", ")"} & set(out):
        return [one for one in out if one != "AND"]
    joined = " ".join(out).replace("( ", "(").replace(" )", ")")
    return [f"({joined})" if "OR" in out or "AND" in out else joined]


def _join(out: list[str]) -> None:
    """Two terms side by side are an `or`, which is what that language means by it."""
    if out and out[-1] not in ("AND", "OR", "NOT", "("):
        out.append("OR")


def _operand(text: str, names: Vocabulary) -> str:
    sign = "NOT " if text[0] == "-" else ""
    field, _, value = text.lstrip("+-").partition(":")
    if text[0] == "+":
        raise NotPossible(f'"{text}" weighs a term beside others', ANEW)
    if field == "_exists_":
        return f"{sign}{names.field(value)}:*"
    if value.startswith("/") or re.search(r"[~^]", value if not value.startswith('"') else ""):
        raise NotPossible(f'"{text}" is a regular expression, a fuzzy word or a weight', ANEW)
    if not value.startswith(('"', "(", "[", "{", "<", ">")):
        value = _starred(value, "query_string")
    return f"{sign}{names.field(field)}:{value}"


def _starred(value: str, kind: str) -> str:
    if "?" in value or "*" in value[:-1]:
        raise NotPossible(f'"{value}" ({kind}) has a wildcard before its end', ANEW)
    return value if _BARE.fullmatch(value) else quoted(value)


def _one(node: Any) -> tuple[str, Any]:
    if not isinstance(node, Mapping) or len(node) != 1:
        raise NotPossible("a filter is a map with one entry: {term: {field: value}}", ANEW)
    ((kind, body),) = node.items()
    return str(kind), body


def _listed(node: Any) -> list[Any]:
    return list(node) if isinstance(node, list | tuple) else [node]


def _grouped(terms: Sequence[str], word: str) -> str:
    if not terms:
        raise NotPossible("a filter that is empty inside another says nothing", ANEW)
    return terms[0] if len(terms) == 1 else f"({f' {word} '.join(terms)})"
