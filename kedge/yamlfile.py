"""YAML files that people edit, read with the line and column of every value (YAML 1.2: `on` and `yes` are
text).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from kedge.errors import KedgeError

MAX_BYTES = 2_000_000
MAX_NODES = 200_000
"""Aliases can make a small file expand without end; what people write by hand never comes near this."""


class YamlError(KedgeError):
    """A file that is not YAML; the text begins with `file:line:col`."""


@dataclass(frozen=True)
class YamlFile:
    """A parsed file. `data` is made of ruamel's maps and lists, which know where each of their entries
    stands.
    """

    name: str
    data: Any

    def position(self, loc: Sequence[str | int]) -> tuple[int, int]:
        """Line and column, from 1, of the deepest part of `loc` (keys and indices from the top) that
        exists.
        """
        node, place = self.data, (1, 1)
        if isinstance(node, CommentedMap | CommentedSeq) and node.lc.line is not None:
            place = (node.lc.line + 1, node.lc.col + 1)
        for key in loc:
            if isinstance(node, CommentedMap) and key in node:
                line, col = node.lc.key(key)
            elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
                line, col = node.lc.item(key)
            else:
                continue
            place = (line + 1, col + 1)
            node = node[key]
        return place

    def place(self, loc: Sequence[str | int]) -> str:
        """`file:line:col` of `loc`."""
        line, col = self.position(loc)
        return f"{self.name}:{line}:{col}"


def _count(node: Any, seen: int = 0) -> int:
    seen += 1
    if seen > MAX_NODES:
        return seen
    children = (
        node.values() if isinstance(node, CommentedMap) else node if isinstance(node, CommentedSeq) else ()
    )
    for child in children:
        seen = _count(child, seen)
        if seen > MAX_NODES:
            return seen
    return seen


def parse_yaml(text: str, name: str) -> YamlFile:
    """Parse one document; raises YamlError with `name:line:col`. Duplicate keys are errors."""
    reader = YAML(typ="rt")
    reader.allow_duplicate_keys = False
    try:
        data = reader.load(StringIO(text))
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
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise YamlError(f"{name}: {size} bytes; at most {MAX_BYTES} are read")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as e:
        raise YamlError(f"{name}: {e.strerror or e}") from None
    except UnicodeDecodeError as e:
        line = path.read_bytes()[: e.start].count(b"\n") + 1
        raise YamlError(f"{name}:{line}:1: not UTF-8") from None
    return parse_yaml(text, name)
