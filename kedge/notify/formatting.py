"""Numbers, times and lengths as people read them. Pure; typographic spaces and minus signs, times in UTC."""

import math
from collections.abc import Callable
from datetime import UTC, datetime

from kedge.windows import DAY, HOUR, MINUTE, SECOND, Millis

THIN = "\u202f"
"""Narrow no-break space: between thousands, and between a number and its unit."""

_TIMES = ((HOUR, "h"), (MINUTE, "min"), (SECOND, "s"), (1, "ms"))


def count(n: float) -> str:
    """`1204113` with thin separators."""
    return f"{n:,.0f}".replace(",", THIN).replace("-", "−")


def notation(unit: str, *values: float | None) -> Callable[[float | None], str]:
    """How to print numbers of `unit` (`ratio`, `ms`, `count` or empty) that stand beside each other.

    All share one scale, and enough decimals that two different ones among `values` never look equal: an
    accuracy of 0.8996 under a limit of 0.90 must not read "0.90, limit 0.90". Ratios all under 0.1 read as
    per cent.
    """
    given = sorted({float(v) for v in values if v is not None and math.isfinite(v)})
    largest = max((abs(v) for v in given), default=0.0)
    scale, suffix, decimals = 1.0, "", 2
    if unit == "ratio":
        if given and largest < 0.1:
            scale, suffix, decimals = 100.0, f"{THIN}%", 1
    elif unit == "ms":
        length, name = next(((t, name) for t, name in _TIMES if largest >= 2 * t), (1, "ms"))
        scale, suffix = 1 / length, THIN + name
        decimals = _significant(largest * scale)
    elif unit == "count" and all(v == int(v) for v in given):
        decimals = 0
    else:
        suffix = THIN + unit if unit and unit != "count" else ""
        decimals = _significant(largest)
    while decimals < 6 and len({f"{v * scale:.{decimals}f}" for v in given}) < len(given):
        decimals += 1

    def text(value: float | None) -> str:
        if value is None:
            return "–"
        if not math.isfinite(value):
            return "not a number" if math.isnan(value) else "∞" if value > 0 else "−∞"
        if abs(value * scale) >= 1e15:
            return f"{value * scale:.3g}{suffix}".replace("-", "−")
        number = f"{value * scale:,.{decimals}f}"
        if float(number.replace(",", "")) == 0:
            number = number.removeprefix("-")
        return number.replace(",", THIN).replace("-", "−") + suffix

    return text


def _significant(largest: float) -> int:
    """Decimals that show three significant digits of the largest number."""
    if largest == 0:
        return 0
    return min(max(2 - math.floor(math.log10(largest)), 0), 6)


def moment(t: Millis, near: Millis) -> str:
    """`9 Nov 14:05 UTC`; with the year where it is not the year of `near`."""
    return f"{_date(t, near)} {_clock(t)} UTC"


def window(start: Millis, end: Millis, near: Millis) -> str:
    """Half-open [start, end): `2–8 Nov` for whole days, else `9 Nov 13:00–14:00 UTC`."""
    last = end - 1
    if start % DAY == 0 and end % DAY == 0 and end > start:
        first, final = _date(start, near), _date(last, near)
        if first == final:
            return first
        a, b = _at(start), _at(last)
        if (a.year, a.month) == (b.year, b.month):
            return f"{a.day}–{final}"
        return f"{first} – {final}"
    if _at(start).date() == _at(end).date():
        return f"{_date(start, near)} {_clock(start)}–{_clock(end)} UTC"
    return f"{_date(start, near)} {_clock(start)} – {_date(end, near)} {_clock(end)} UTC"


def length(t: Millis) -> str:
    """The two largest units: `3 h 20 min`, `9 d`, `45 s`."""
    parts: list[str] = []
    rest = max(t, 0)
    for size, name in ((DAY, "d"), *_TIMES[:3]):
        amount, rest = divmod(rest, size)
        if amount:
            parts.append(f"{amount}{THIN}{name}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or f"{rest}{THIN}ms"


def _at(t: Millis) -> datetime:
    return datetime.fromtimestamp(t / 1000, UTC)


def _date(t: Millis, near: Millis) -> str:
    at = _at(t)
    return f"{at.day} {at:%b}" if at.year == _at(near).year else f"{at.day} {at:%b} {at.year}"


def _clock(t: Millis) -> str:
    return f"{_at(t):%H:%M}" if t % MINUTE == 0 else f"{_at(t):%H:%M:%S}"
