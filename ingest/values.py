"""Plain values as records hold them: times, class names, texts, numbers, ids, names. Pure.

Every refusal is a BadInput whose place is the field. Text that is longer than MAX_TEXT is cut, not refused:
the row is worth more than the tail of a value, and Lucene takes no more than 32,766 bytes of a keyword.
"""

import math
import os
import re
from functools import lru_cache

from ingest.wire import MAX_NAME, Number, Scalar
from kedge.errors import BadInput
from kedge.windows import HOUR, SECOND, Millis, iso, parse_time

MAX_TEXT = 1_024
"""Characters of a class, a segment's value, a categorical feature's value."""
MAX_ID = 512
"""Bytes of an id, as Elasticsearch takes them."""
MAX_MODEL = 128
"""Characters of a model's name."""
EARLIEST: Millis = 946_684_800_000
"""2000-01-01. A time before it is a unit gone wrong."""
MAX_AHEAD: Millis = HOUR
"""How far a client's clock may run ahead."""
EXACT_INTEGER = 2**53
"""Beyond it not every integer is a float64."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_INTEGRAL = re.compile(r"-?\d+\.0+")
_BOOLEANS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


def time_of(value: str | Number, now: Millis, field: str) -> Millis:
    """RFC 3339 (no zone: UTC), or seconds or milliseconds since 1970, as `Millis`. Raises BadInput.

    Numbers under 10^11 are seconds (until the year 5138); milliseconds that small would be of 1973.
    """
    if isinstance(value, str):
        try:
            t = parse_time(value)
        except (BadInput, OverflowError, ValueError):
            raise BadInput(f'"{value[:40]}" is not a time (write 2026-11-23T14:05:00Z)', field) from None
    elif not math.isfinite(value):
        raise BadInput("is not finite", field)
    else:
        t = round(value * SECOND) if abs(value) < 1e11 else round(value)
    if t < EARLIEST:
        raise BadInput(f"{_spoken_time(t)} is before 2000-01-01", field)
    if t > now + MAX_AHEAD:
        raise BadInput(f"{_spoken_time(t)} is more than an hour ahead of {iso(now)}", field)
    return t


def class_text(value: Scalar | None, field: str) -> str | None:
    """A class as text: `1`, `1.0` and `"1"` are "1"; `true` and "True" are "true". Raises BadInput."""
    if isinstance(value, str):
        if value in _BOOLEANS:
            return _BOOLEANS[value]
        if value.endswith("0") and _INTEGRAL.fullmatch(value):
            return value.partition(".")[0]
        if not value:
            raise BadInput("is empty", field)
    return scalar_text(value, field)


def scalar_text(value: Scalar | None, field: str) -> str | None:
    """Text as it is, `7.0` as "7", `true` as "true"; an empty text is None. Raises BadInput."""
    if type(value) is str and value.isascii():
        return value[:MAX_TEXT] or None
    if value is None or isinstance(value, str):
        return text(value, field)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadInput("is not finite", field)
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)[:MAX_TEXT]


def text(value: str | None, field: str, limit: int = MAX_TEXT) -> str | None:
    """Text that every store takes, cut to `limit`; an empty one is None. Raises BadInput."""
    if not value:
        return None
    if not value.isascii():
        check_encodable(value, field)
    return value[:limit]


def number(value: Number | None, field: str) -> float | None:
    """A finite float64. Raises BadInput, also where an integer would lose digits."""
    if value is None:
        return None
    if isinstance(value, int) and abs(value) > EXACT_INTEGER:
        raise BadInput("an integer beyond 2^53 would lose digits", field)
    if not math.isfinite(value):
        raise BadInput("is not finite", field)
    return float(value)


def id_of(value: str | int) -> str:
    """An id as text. Raises BadInput."""
    name = value if isinstance(value, str) else str(value)
    if name.isascii() and 0 < len(name) <= MAX_ID:
        return name
    if not name:
        raise BadInput("is empty", "id")
    check_encodable(name, "id")
    if len(name) * 4 > MAX_ID and len(name.encode()) > MAX_ID:
        raise BadInput(f"is longer than {MAX_ID} bytes", "id")
    return name


def new_id(timestamp: Millis, tail: bytes | None = None) -> str:
    """A time-ordered id, as UUIDv7 (RFC 9562) orders them: 48 bits of milliseconds, then 80 bits, in hex.

    The tail is random unless given. Such ids cost bulk writing 3 % of its speed, random ones 17 %.
    """
    return f"{timestamp:012x}{(tail or os.urandom(10)).hex()}"


@lru_cache(maxsize=4_096)
def model_name(name: str) -> str:
    """A model's name. Raises BadInput."""
    if not name:
        raise BadInput("is missing", "model")
    if len(name) > MAX_MODEL:
        raise BadInput(f"is longer than {MAX_MODEL} characters", "model")
    if fault := name_fault(name):
        raise BadInput(fault, "model")
    return name


def name_fault(name: str) -> str | None:
    """Why a name cannot be part of a field's name in a mapping, or None.

    Tried on Elasticsearch 8.19 and OpenSearch 3.4: both refuse an empty or blank part between dots, neither
    refuses a leading underscore inside an object.
    """
    if not name.strip():
        return "has an empty name"
    if len(name) > MAX_NAME:
        return f"has a name longer than {MAX_NAME} characters"
    if _CONTROL.search(name):
        return "has a control character in its name"
    if "." in name and not all(part.strip() for part in name.split(".")):
        return "has an empty part between the dots of its name"
    if not name.isascii() and not _encodable(name):
        return "has half of a surrogate pair in its name, which is no Unicode text"
    return None


@lru_cache(maxsize=4_096)
def check_names(field: str, names: tuple[str, ...]) -> None:
    """Refuse rows whose names have a fault (name_fault). Raises BadInput."""
    # Rows of a model mostly carry the same names in the same order: one look-up stands for all of them.
    for name in names:
        if fault := name_fault(name):
            shown = "".join(c if c.isprintable() else "\ufffd" for c in name[:MAX_NAME])
            raise BadInput(fault, f"{field}.{shown}")


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_encodable(value: str, field: str) -> None:
    """Refuse what is no Unicode text. Raises BadInput."""
    if not value.isascii() and not _encodable(value):
        raise BadInput("has half of a surrogate pair, which is no Unicode text", field)


def _spoken_time(t: Millis) -> str:
    try:
        return iso(t)
    except (OverflowError, ValueError, OSError):
        return f"{t} ms since 1970"
