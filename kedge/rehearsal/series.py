"""Series as promtool writes them: `1+0x6 _x3 stale`. Pure.

    1 2 3         three values
    1+0.5x3       1, 1.5, 2, 2.5: the first, and three more, each 0.5 greater
    10-2x5        10, 8, 6, 4, 2, 0
    5x3           5, 5, 5, 5: the first, and three more
    _ or _x3      nothing, once or three times
    stale         nothing; says in words that the series has ended

A value may have the unit of its metric: `200ms`, `1.5s`, `5%`.
"""

import re

from kedge.alerting.quantity import parse_quantity
from kedge.errors import BadInput

MOST = 100_000
"""Values of one series."""
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?:%|ms|s|m|h|d)?"
_TERM = re.compile(rf"([+-]?{_NUMBER})(?:([+-])({_NUMBER}))?(?:x(\d+))?")
_GAP = re.compile(r"_(?:x(\d+))?")


def expand(text: str) -> list[float | None]:
    """The values in order; None where there is nothing. Raises BadInput that quotes the term."""
    values: list[float | None] = []
    for term in str(text).split():
        if term == "stale":
            values.append(None)
        elif gap := _GAP.fullmatch(term):
            values += [None] * _times(gap[1] or "1", term)
        elif found := _TERM.fullmatch(term):
            start, sign, by, times = found.groups()
            if by is not None and times is None:
                raise BadInput(f'"{term}": how often? write {term}x5')
            first, step = _value(start), _value(by) if by else 0.0
            step = -step if sign == "-" else step
            # Each from the first, not from the one before: rounding must not add up.
            values += [first + step * i for i in range(_times(times or "0", term) + 1)]
        else:
            raise BadInput(f'"{term}" is no value of a series (write 1 2 3, 1+0.5x6, 5x3, _x3 or stale)')
        if len(values) > MOST:
            raise BadInput(f"more than {MOST:,} values")
    if not values:
        raise BadInput("a series without values (write 1 2 3, or 1+0x6)")
    return values


def _times(text: str, term: str) -> int:
    times = int(text)
    if times > MOST:
        raise BadInput(f'"{term}": more than {MOST:,} values')
    return times


def _value(text: str) -> float:
    quantity = parse_quantity(text)
    return quantity.value / 100 if quantity.unit == "%" else quantity.value
