"""The numbers that people write in rules, with their units, and the numbers that messages print."""

import math
import re
from dataclasses import dataclass
from functools import lru_cache

from kedge.errors import BadInput
from kedge.sketch import LATENCY
from kedge.windows import DAY, HOUR, MINUTE, SECOND

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(%|pp|x|ms|s|m|h|d)?")
_DURATIONS = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}

RATIO, MS, COUNT = "ratio", "ms", "count"
"""Units of metrics: a share in [0, 1], milliseconds, whole things. Others are printed as they are."""


@dataclass(frozen=True)
class Quantity:
    """`200ms`, `5%`, `5pp`, `3x` or a plain number, as written: 5 % is 5 with the unit `%`."""

    value: float
    unit: str = ""
    """`%`, `pp`, `x`, `ms` (every length of time is) or empty."""
    text: str = ""
    """As it was typed."""

    def __str__(self) -> str:
        return self.text or f"{self.value:g}{self.unit}"


def parse_quantity(raw: object) -> Quantity:
    """From a YAML scalar; raises BadInput."""
    if isinstance(raw, Quantity):
        return raw
    if isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw):
        return Quantity(float(raw), "", f"{raw:g}")
    found = _QUANTITY.fullmatch(raw.strip()) if isinstance(raw, str) else None
    if found is None:
        raise BadInput(f'"{raw}" is not a number (write 0.9, 90%, 5pp, 3x or 200ms)')
    value, unit = float(found[1]), found[2] or ""
    text = str(raw).strip()
    if unit in _DURATIONS:
        return Quantity(value * _DURATIONS[unit], "ms", text)
    return Quantity(value, unit, text)


def as_value(quantity: Quantity, unit: str, metric: str) -> float:
    """An absolute bound in the unit of its metric; raises BadInput with what to write instead."""
    match unit, quantity.unit:
        case "ratio", "%":
            value = quantity.value / 100
        case "ratio", "":
            value = quantity.value
        case "ms", "ms" | "":
            return quantity.value
        case (("ratio" | "ms"), _) if quantity.unit in ("pp", "x"):
            raise BadInput(f"{quantity} compares: it goes with rise, fall or change")
        case "ratio", _:
            raise BadInput(f"{quantity} does not fit {metric}, which is a share: write 90% or 0.9")
        case "ms", _:
            raise BadInput(f"{quantity} does not fit {metric}, which is a time: write 200ms or 1.5s")
        case _, "":
            return quantity.value
        case _:
            raise BadInput(
                f"{quantity} does not fit {metric}, which is a plain number: write it without a unit"
            )
    if not -1 <= value <= 1:
        hint = (
            f" (did you mean {quantity.value:g}%?)" if quantity.unit == "" and quantity.value <= 100 else ""
        )
        raise BadInput(f"{quantity} does not fit {metric}, which lies between 0 and 1{hint}")
    return value


@lru_cache(maxsize=20_000)  # rules on one metric and window say the same numbers
def format_value(value: float | None, unit: str) -> str:
    """`91.2 %`, `212 ms`, `12,400`, `0.0831`: four significant digits at most, counts whole."""
    if value is None or not math.isfinite(value):
        return "nothing" if value is None else str(value)
    if unit == RATIO:
        return f"{_significant(value * 100, 2)} %"
    if unit == MS:
        seconds = abs(value) >= 10 * SECOND
        return f"{_significant(value / SECOND, 2)} s" if seconds else f"{_significant(value, 1)} ms"
    if unit == COUNT:
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
    text = f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return f"{text} {unit}" if unit and unit != "label" else text


def is_open(unit: str, end: float) -> bool:
    """Whether the upper end of an interval is none: few rows bound a high quantile of latency from below
    alone, and what is said above is the end of the scale."""
    return unit == MS and end >= float(LATENCY.edges[-1])


def format_interval(interval: tuple[float, float], unit: str) -> str:
    """`180 ms to 230 ms`, or `180 ms or more`."""
    low, high = interval
    if is_open(unit, high):
        return f"{format_value(low, unit)} or more"
    return f"{format_value(low, unit)} to {format_value(high, unit)}"


def _significant(value: float, decimals: int) -> str:
    """Few decimals for large values, more for small ones; no trailing zeros."""
    if value and abs(value) < 10**-decimals:
        return f"{value:.2g}"
    text = f"{value:.{decimals if abs(value) < 100 else 1}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
