"""YAML files that people edit, read with the line and column of every value (YAML 1.2: `on` and `yes` are
text).

The grammar is ruamel's. Its round-trip loader also keeps comments and layout, for writing a file back, which
nobody here does: two thousand rules took seconds. So values are built from the parser's events, and the
scanner, which was most of the rest, asks less often whether it must look further.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.parser import Parser
from ruamel.yaml.scalarint import HexInt
from ruamel.yaml.scanner import Scanner
from ruamel.yaml.tokens import ScalarToken

from kedge.errors import KedgeError

MAX_BYTES = 2_000_000
MAX_NODES = 200_000
"""Aliases can make a small file expand without end; what people write by hand never comes near this."""


class YamlError(KedgeError):
    """A file that is not YAML; the text begins with `file:line:col`."""


Place = tuple[int, int]
"""Line and column, from 1."""


class Map(dict[Any, Any]):
    """A map that knows where it stands, and where its keys do."""

    place: Place = (1, 1)
    places: dict[Any, Place]


class Items(list[Any]):
    """A list that knows where it stands, and where its items do."""

    place: Place = (1, 1)
    places: list[Place]


@dataclass(frozen=True)
class YamlFile:
    """A parsed file. `data` is made of `Map` and `Items`, which know where each of their entries stands."""

    name: str
    data: Any

    def position(self, loc: Sequence[str | int]) -> Place:
        """Line and column, from 1, of the deepest part of `loc` (keys and indices from the top) that
        exists.
        """
        node, place = self.data, (1, 1)
        if isinstance(node, Map | Items):
            place = node.place
        for key in loc:
            known = (isinstance(node, Map) and key in node) or (
                isinstance(node, Items) and isinstance(key, int) and key < len(node)
            )
            if known:
                place, node = node.places[key], node[key]
        return place

    def place(self, loc: Sequence[str | int]) -> str:
        """`file:line:col` of `loc`."""
        line, col = self.position(loc)
        return f"{self.name}:{line}:{col}"


# --- from text to events ------------------------------------------------------------------------------------

_END = r" \n\0\t\r\x85\u2028\u2029"


def _plain(but: str) -> re.Pattern[str]:
    """Words on one line, without the characters `but`; ` #` begins a comment, `: ` ends a key."""
    word = rf"(?:[^{_END}:{but}\ufeff]|:(?![{_END}]))+"
    return re.compile(rf"{word}(?: +(?!#){word})*")


_PLAIN, _PLAIN_IN_FLOW = _plain(""), _plain(r",\[\]{}")


class _Scanner(Scanner):
    """ruamel's scanner of YAML without comments; says the same, in fewer calls."""

    @cached_property
    def reader(self) -> Any:
        return self.loader.reader

    def need_more_tokens(self) -> bool:
        if self.done:
            return False
        if not self.tokens:
            return True
        if not self.possible_simple_keys:
            return False
        self.stale_possible_simple_keys()
        return bool(self.next_possible_simple_key() == self.tokens_taken)

    def stale_possible_simple_keys(self) -> None:
        if self.possible_simple_keys:
            super().stale_possible_simple_keys()

    def check_token(self, *choices: Any) -> bool:
        while self.need_more_tokens():
            self.fetch_more_tokens()
        return bool(self.tokens) and (not choices or isinstance(self.tokens[0], choices))

    def scan_plain(self) -> Any:
        """A plain scalar that stands on one line; any other is left to ruamel."""
        reader, text = self.reader, self.reader.buffer
        found = (_PLAIN_IN_FLOW if self.flow_level else _PLAIN).match(text, reader.pointer)
        if found is None or not self._ends(text, found.end()):
            return super().scan_plain()
        start, length = reader.get_mark(), found.end() - found.start()
        self.allow_simple_key = False
        reader.pointer += length
        reader.index += length
        reader.column += length
        return ScalarToken(found[0], True, start, reader.get_mark())

    def _ends(self, text: str, at: int) -> bool:
        """Whether a scalar surely ends there: at a key's colon, a flow's mark, or a line that the next one
        does not continue."""
        mark = text[at]
        if self.flow_level:
            return mark in ",]}:"
        if mark != "\n":
            return mark in ":\0"
        after = at + 1
        while text[after] == " ":
            after += 1
        return text[after] not in "\n\r\t\0#" and after - at - 1 <= self.indent


class _Parser(Parser):
    """The same parser, its scanner looked up once."""

    @cached_property
    def scanner(self) -> Any:
        return self.loader.scanner


# --- from events to values ----------------------------------------------------------------------------------


class _Builder:
    """Builds the values of one document."""

    def __init__(self, text: str) -> None:
        yaml = YAML(typ="safe", pure=True)
        yaml.Scanner, yaml.Parser = _Scanner, _Parser
        _, self._parser = yaml.get_constructor_parser(text)
        self._scalars, self._resolver = yaml.constructor, yaml.resolver
        self._anchors: dict[str, Any] = {}
        self._open: set[int] = set()

    def document(self) -> Any:
        """The only one of the stream; None of an empty stream."""
        parser = self._parser
        parser.get_event()  # the start of the stream
        if parser.check_event(StreamEndEvent):
            return None
        parser.get_event()  # of the document
        data = self._value(parser.get_event())
        parser.get_event()  # its end
        if not parser.check_event(StreamEndEvent):
            mark = parser.get_event().start_mark
            raise ConstructorError(None, None, "expected a single document, but found another", mark)
        return data

    def _value(self, event: Any) -> Any:
        if isinstance(event, AliasEvent):
            if event.anchor not in self._anchors:
                raise ConstructorError(
                    None, None, f"found undefined alias {event.anchor!r}", event.start_mark
                )
            found = self._anchors[event.anchor]
            if id(found) in self._open:
                problem = f"alias {event.anchor!r} is inside of what it stands for"
                raise ConstructorError(None, None, problem, event.start_mark)
            return found
        if isinstance(event, ScalarEvent):
            value = self._scalar(event)
            if event.anchor is not None:
                self._anchors[event.anchor] = value
            return value
        holder: Map | Items = Items() if isinstance(event, SequenceStartEvent) else Map()
        holder.place = _place(event)
        if event.tag is not None:
            raise ConstructorError(None, None, f"the tag {event.tag} means nothing here", event.start_mark)
        if event.anchor is not None:
            self._anchors[event.anchor] = holder
        self._open.add(id(holder))
        if isinstance(holder, Items):
            self._items(holder)
        else:
            self._map(holder)
        self._open.discard(id(holder))
        return holder

    def _items(self, items: Items) -> None:
        items.places = []
        while not isinstance(event := self._parser.get_event(), SequenceEndEvent):
            items.places.append(_place(event))
            items.append(self._value(event))

    def _map(self, entries: Map) -> None:
        entries.places = {}
        merged: list[Map] = []
        while not isinstance(event := self._parser.get_event(), MappingEndEvent):
            key = self._value(event)
            value = self._value(self._parser.get_event())
            if key == "<<" and isinstance(event, ScalarEvent) and event.style is None:
                merged += self._merged(value, event)
                continue
            if isinstance(key, Map | Items):
                raise ConstructorError(None, None, "a key must be text or a number", event.start_mark)
            if key in entries:
                raise ConstructorError(None, None, f'found duplicate key "{key}"', event.start_mark)
            entries[key], entries.places[key] = value, _place(event)
        for other in merged:
            for key, value in other.items():
                if key not in entries:
                    entries[key], entries.places[key] = value, other.places[key]

    @staticmethod
    def _merged(value: Any, event: Any) -> list[Map]:
        """What `<<` takes in, first come first; keys of the map itself win."""
        found = value if isinstance(value, Items) else [value]
        if not all(isinstance(one, Map) for one in found):
            raise ConstructorError(None, None, "<< takes in a map, or a list of maps", event.start_mark)
        return list(found)

    def _scalar(self, event: Any) -> Any:
        tag = event.ctag
        if tag is None or str(tag) == "!":
            tag = self._resolver.resolve(ScalarNode, event.value, event.implicit)
        if str(tag) == _TEXT:
            return event.value
        if str(tag) == _WHOLE and event.value[:2] == "0x":
            return HexInt(int(event.value, 16))
        if str(tag) == _MERGE:
            return event.value
        make = self._scalars.yaml_constructors.get(str(tag))
        if make is None:
            raise ConstructorError(None, None, f"the tag {tag} means nothing here", event.start_mark)
        return make(self._scalars, ScalarNode(tag, event.value, event.start_mark, event.end_mark))


_TEXT, _WHOLE, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "int", "merge"))


def _place(event: Any) -> Place:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _count(node: Any, seen: int = 0) -> int:
    seen += 1
    if seen > MAX_NODES:
        return seen
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, Items) else ()
    for child in children:
        seen = _count(child, seen)
        if seen > MAX_NODES:
            return seen
    return seen


def parse_yaml(text: str, name: str) -> YamlFile:
    """Parse one document; raises YamlError with `name:line:col`. Duplicate keys are errors."""
    try:
        data = _Builder(text).document()
    except MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = (e.problem or e.context or "not YAML").split("\n")[0]
        raise YamlError(f"{place}: {problem}") from None
    except (YAMLError, ValueError, RecursionError) as e:
        raise YamlError(
            f"{name}: not YAML: {str(e).splitlines()[0] if str(e) else type(e).__name__}"
        ) from None
    if _count(data) > MAX_NODES:
        raise YamlError(f"{name}: expands to more than {MAX_NODES} values (aliases of aliases?)")
    return YamlFile(name, data)


def read_yaml(path: Path, name: str = "") -> YamlFile:
    """Read and parse a file; raises YamlError that names it."""
    name = name or str(path)
    return parse_yaml(read_text(path, name), name)


def read_text(path: Path, name: str) -> str:
    """The text of a file that people edit; raises YamlError that calls it `name`."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise YamlError(f"{name}: {size} bytes; at most {MAX_BYTES} are read")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as e:
        raise YamlError(f"{name}: {e.strerror or e}") from None
    except UnicodeDecodeError as e:
        line = path.read_bytes()[: e.start].count(b"\n") + 1
        raise YamlError(f"{name}:{line}:1: not UTF-8") from None
