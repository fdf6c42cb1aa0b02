"""The items of requests of many, bulk writes and searches, and what became of each."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import orjson

from kedge.errors import StoreUnavailable
from kedge.store.base import Json

BULK_BYTES = 8 * 2**20
BULK_ITEMS = 5_000
RETIRED = "retired"
"""The kind of an item that was not sent, because its index is beyond its retention."""
NOT_SENT = 0
"""The status of an item that the server gave no answer about."""


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One item of a bulk request: its lines, encoded once."""

    lines: bytes

    @classmethod
    def of(cls, action: str, source: Json | bytes | None = None, **fields: Any) -> "Operation":
        head = orjson.dumps({action: fields})
        if source is None:
            return cls(head + b"\n")
        body = source if isinstance(source, bytes) else orjson.dumps(source)
        return cls(b"%b\n%b\n" % (head, body))

    @classmethod
    def create(cls, alias: str, id: str, source: bytes) -> "Operation":
        """`of("create", source, _index=alias, _id=id)`, for the many rows of one alias."""
        return cls(b"%b%b}}\n%b\n" % (_create_head(alias), orjson.dumps(id), source))


@lru_cache(4096)
def _create_head(alias: str) -> bytes:
    return b'{"create":{"_index":%b,"_id":' % orjson.dumps(alias)


class Search(NamedTuple):
    """One search of a request of many: its lines, encoded once."""

    lines: bytes

    @classmethod
    def of(cls, index: str, body: Json, wildcards: str = "open,closed") -> "Search":
        """`wildcards`: the states of indices that patterns reach."""
        head = orjson.dumps(
            {
                "index": index,
                "allow_partial_search_results": False,
                "expand_wildcards": wildcards,
                "request_cache": False,
            }
        )
        return cls(b"%b\n%b\n" % (head, orjson.dumps(body)))


class Item(NamedTuple):
    """What became of one operation of a bulk request."""

    status: int
    kind: str = ""
    reason: str = ""
    request: int = 0
    """The status of the whole request, where it was answered with an error."""

    @property
    def ok(self) -> bool:
        return NOT_SENT < self.status < 300

    @property
    def conflict(self) -> bool:
        """The document exists already, or is not the version that was asked for."""
        return self.status == 409

    @property
    def no_index(self) -> bool:
        return self.status == 404 and self.kind == "index_not_found_exception"

    @property
    def full(self) -> bool:
        """The index has as many fields as it may."""
        return self.status == 400 and "Limit of total fields" in self.reason

    @property
    def retired(self) -> bool:
        """Retention has dropped the index that it belongs in."""
        return self.kind == RETIRED

    @property
    def busy(self) -> bool:
        return self.status == 429 or self.status >= 500

    @property
    def unwritten(self) -> bool:
        """Neither written nor refused: it may be sent again."""
        return self.busy or self.status == NOT_SENT


class PartlyWritten(StoreUnavailable):
    """Some operations of a bulk write are done; those whose item is `unwritten` may be tried again."""

    def __init__(self, text: str, items: list[Item], status: int = 0) -> None:
        super().__init__(text, status)
        self.items = items
        """One each, in order."""


class Quick(NamedTuple):
    """Reads the answer of a bulk request without errors, all of whose documents are new, by counting."""

    operations: int

    def items(self, answer: bytes) -> Any:
        created = answer.count(b'{"status":201}') == self.operations
        if created and answer.startswith(b'{"errors":false,"items":['):
            return [written(201)] * self.operations
        return orjson.loads(answer)


@lru_cache(64)
def written(status: int) -> Item:
    return Item(status)


def chunks(operations: Sequence[Operation]) -> Iterator[Sequence[Operation]]:
    """The operations in requests of at most BULK_ITEMS and, unless one alone is larger, BULK_BYTES."""
    start = size = 0
    for i, operation in enumerate(operations):
        size += len(operation.lines)
        if i > start and (size > BULK_BYTES or i - start == BULK_ITEMS):
            yield operations[start:i]
            start, size = i, len(operation.lines)
    if operations:
        yield operations[start:]


def item_of(result: Json) -> Item:
    error = result.get("error")
    if not error:
        return Item(result["status"])
    kinds, reason = causes({"error": error})
    return Item(result["status"], kinds[0] if kinds else "", short(reason))


def causes(body: Any) -> tuple[list[str], str]:
    """The types of an error and of its causes, outermost first, and the reasons in one line, without
    repeats."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return [], str(error or body or "no reason given")
    kinds: list[str] = []
    reasons: list[str] = []
    queue = [error]
    while queue:
        cause = queue.pop(0)
        kinds.append(str(cause.get("type", "")))
        reason = str(cause.get("reason") or "")
        if reason and not any(reason in r for r in reasons):
            reasons.append(reason)
        queue += [cause["caused_by"]] if isinstance(cause.get("caused_by"), dict) else []
        queue += [c for c in cause.get("root_cause", ()) if isinstance(c, dict)]
        queue += [c["reason"] for c in cause.get("failed_shards", ()) if isinstance(c.get("reason"), dict)]
    return kinds, "; ".join(reasons) or kinds[0]


def short(text: str, limit: int = 400) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
