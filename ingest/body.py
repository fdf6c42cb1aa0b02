"""From the bytes of a request to wire rows: an object, a list, or one object a line.

One bad row costs no other.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import msgspec

from ingest.lane import KnownRow, Lanes
from ingest.rejection import Rejection
from ingest.wire import Shape, Wire
from kedge.errors import BadInput

MAX_ROWS = 50_000
"""Rows of one request."""

_BOM = b"\xef\xbb\xbf"
_HEAD = 4_096
"""Bytes at the beginning of a body that are searched for its first row's model."""
_MOST_OBJECTS = 7 * MAX_ROWS
"""Of as many rows as are taken: each has at most six objects in it that a lane reads."""
_BLANK = re.compile(rb"[ \t\r\n]*")
_RAW = (bytes, msgspec.Raw)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_RAW_ROWS = msgspec.json.Decoder(list[msgspec.Raw])


class Malformed(BadInput):
    """The body cannot be read as JSON; `byte` counts from 0, `line` and `column` from 1."""

    def __init__(self, reason: str, text: bytes, byte: int) -> None:
        self.byte = byte
        self.line = text.count(b"\n", 0, byte) + 1
        self.column = byte - (text.rfind(b"\n", 0, byte) + 1) + 1
        super().__init__(reason, f"line {self.line}, column {self.column} (byte {byte})")


class TooManyRows(BadInput):
    def __init__(self, rows: int) -> None:
        super().__init__(
            f"the request has {rows:,} rows; at most {MAX_ROWS:,} are taken in one: send it in several"
        )


@dataclass
class Decoded(Generic[Wire]):
    """What became of each row, by its index from 0. Blank lines are not rows."""

    rows: list[tuple[int, Wire]] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    """Names that mean nothing to kedge and were left out."""
    plain: bool = False
    """A row was read without a lane."""

    @property
    def total(self) -> int:
        return len(self.rows) + len(self.rejections)


def decode(
    body: bytes, shape: Shape[Wire], *, lines: bool = False, lanes: Lanes | None = None
) -> Decoded[Wire]:
    """The rows of a body. `lines`: it was declared as one object a line; else the first byte tells.

    `lanes` only make it faster. Raises Malformed where the body as a whole is no JSON, TooManyRows, BadInput
    where it is empty.
    """
    decoded: Decoded[Wire] = Decoded()
    if lanes is not None and (known := _at_once(body, lines, lanes)) is not None:
        rows: list[Any] = known
        decoded.rows = list(enumerate(rows))
        return decoded
    elements = _elements(body.removeprefix(_BOM), lines)
    if lanes is None:
        for index, element in enumerate(elements):
            decode_row(index, element, shape, decoded)
    else:
        _decode_quickly(elements, shape, lanes, decoded)
    return decoded


def _at_once(body: bytes, lines: bool, lanes: Lanes) -> list[KnownRow] | None:
    """All rows by one lane in one pass; None where that cannot be, or would not be the same.

    Lines become a list. Where the end of one row and the beginning of the next are all that line breaks stand
    between, and the list has as many rows as there were lines, each line was one row.
    """
    start = body[:1]
    if start == b"[":
        count = 0
        if body.count(b"{") > _MOST_OBJECTS:
            return None
    elif lines and start == b"{":
        text = body.rstrip()
        body = b"[%b]" % text.replace(b"}\n{", b"} , {")
        count = (len(body) - 2 - len(text)) // 2 + 1
        if b"\n" in body or not 1 < count <= MAX_ROWS:
            return None
    else:
        return None
    lane = lanes.of(body[:_HEAD])
    if lane is None:
        return None
    try:
        rows: list[KnownRow] = lane.decode_list(body)
    except _UNREADABLE:
        return None
    if len(rows) > MAX_ROWS:
        raise TooManyRows(len(rows))
    return rows if count in (0, len(rows)) else None


def _decode_quickly(
    elements: Sequence[Any], shape: Shape[Wire], lanes: Lanes, decoded: Decoded[Wire]
) -> None:
    """Each row by the lane of the row before; where it does not fit, by its own, then the plain way."""
    lane = None
    rows: list[tuple[int, Any]] = decoded.rows
    for index, element in enumerate(elements):
        if isinstance(element, _RAW):
            try:
                if lane is not None:
                    rows.append((index, lane.decode(element)))
                    continue
            except _UNREADABLE:
                pass
            if (other := lanes.of(element)) is not None and other is not lane:
                lane = other
                try:
                    rows.append((index, lane.decode(element)))
                    continue
                except _UNREADABLE:
                    pass
        decoded.plain = True
        decode_row(index, element, shape, decoded)


def rows_at(body: bytes, indices: Sequence[int], *, lines: bool = False) -> list[bytes]:
    """The text of some rows of a body that could be decoded, for those who want to see them."""
    elements = _elements(body.removeprefix(_BOM), lines)
    chosen = (elements[index] for index in indices)
    return [bytes(row) if isinstance(row, _RAW) else json.dumps(row).encode() for row in chosen]


def decode_row(index: int, element: Any, shape: Shape[Wire], decoded: Decoded[Wire]) -> None:
    """Read one row, from bytes or from a plain JSON value, into `decoded`."""
    raw = isinstance(element, _RAW)
    if raw:
        try:
            decoded.rows.append((index, shape.decoder.decode(element)))
            return
        except _UNREADABLE:
            pass  # the slower way takes more, and says what is wrong
    try:
        row, unknown = shape.read(loads(bytes(element)) if raw else element)
    except BadInput as error:
        decoded.rejections.append(Rejection.of(index, error))
        return
    decoded.rows.append((index, row))
    decoded.unknown.update(unknown)


def loads(text: bytes) -> Any:
    """A JSON value; raises Malformed.

    NaN and Infinity, which Python's own encoder writes, are taken: as values they are judged later.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _loads_leniently(text)


def _elements(body: bytes, lines: bool) -> list[Any]:
    """The rows, each still raw where possible. A raw row costs 56 bytes beside the body itself."""
    blank = _BLANK.match(body)
    start = blank.end() if blank else 0
    first = body[start : start + 1]
    if not first:
        raise BadInput("the body is empty: send an object, a list of objects, or one object a line")
    if first == b"[":
        return _limited(_array(body))
    if lines:
        return _lines(body)
    if first != b"{":
        raise Malformed("expected an object, a list of objects, or one object a line", body, start)
    try:
        return [loads(body)]
    except Malformed:
        # One object a line, undeclared: its first line is a whole object, which half a document's is not.
        head, newline, rest = body[start:].partition(b"\n")
        if not newline or not rest.strip():
            raise
        try:
            loads(head)
        except Malformed:
            head = b""
        if not head:
            raise
        return _lines(body)


def _array(body: bytes) -> list[Any]:
    try:
        return _RAW_ROWS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        elements = _loads_leniently(body)
    if not isinstance(elements, list):
        raise Malformed("expected a list", body, 0)
    return elements


def _lines(body: bytes) -> list[Any]:
    return _limited([line for line in body.split(b"\n") if line.strip()])


def _limited(elements: list[Any]) -> list[Any]:
    if len(elements) > MAX_ROWS:
        raise TooManyRows(len(elements))
    return elements


def _loads_leniently(text: bytes) -> Any:
    try:
        return json.loads(text.decode(), parse_int=_integer)
    except UnicodeDecodeError as error:
        raise Malformed("is not UTF-8", text, error.start) from None
    except json.JSONDecodeError as error:
        byte = len(error.doc[: error.pos].encode())
        raise Malformed(f"malformed JSON: {error.msg[:1].lower()}{error.msg[1:]}", text, byte) from None
    except RecursionError:
        raise Malformed("is nested too deeply", text, 0) from None


def _integer(digits: str) -> int | float:
    # Python refuses thousands of digits, whose cost grows with their square; no field takes such a number.
    return int(digits) if len(digits) <= 400 else float(digits)
