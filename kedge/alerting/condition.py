"""What a threshold asks of a value: a direction, a scale, and a ladder of limits with its hysteresis. Pure.

Every condition is brought to one form, a *size* that breaches a rung when it is greater than the rung's
limit: `above` is the value itself, `below` its negative, `fall: 5%` the relative fall. So there is one
comparison, and it is strict.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise

from kedge.alerting.fields import Bounds
from kedge.alerting.finding import Severity
from kedge.alerting.quantity import RATIO, Quantity, as_value, format_value
from kedge.analysis.catalogue import MetricInfo
from kedge.errors import BadInput


class Side(StrEnum):
    """The fields that bound a metric, as they are written in rules."""

    ABOVE = "above"
    BELOW = "below"
    RISE = "rise"
    FALL = "fall"
    CHANGE = "change"

    @property
    def compares(self) -> bool:
        return self is Side.RISE or self is Side.FALL or self is Side.CHANGE


class Scale(StrEnum):
    """How a size is counted."""

    VALUE = "value"
    RELATIVE = "relative"
    """Of the reference: 0.05 is 5 %."""
    DIFFERENCE = "difference"
    """In the metric's own unit; points, for shares."""
    TIMES = "times"
    """The greater over the smaller."""


def beyond(size: float, limit: float) -> bool:
    """Strictly greater, and not by a rounding error alone: 0.55 is not more than 5 points above 0.5."""
    return size > limit and not math.isclose(size, limit, rel_tol=1e-9, abs_tol=1e-12)


@dataclass(frozen=True)
class Condition:
    """A ladder of limits on a size, lowest first."""

    side: Side
    scale: Scale
    unit: str
    """Of the metric."""
    rungs: tuple[tuple[Severity, float], ...]
    gap: float = 0.0
    """How far under its limit a size must come to leave a rung."""

    def size(self, value: float, reference: float | None = None) -> float:
        """What is compared with the limits; nan where there is no such thing."""
        match self.side:
            case Side.ABOVE:
                return value
            case Side.BELOW:
                return -value
        if reference is None:
            return math.nan
        rise = _rise(self.scale, value, reference)
        if self.side is Side.RISE:
            return rise
        fall = _rise(self.scale, reference, value) if self.scale is Scale.TIMES else -rise
        return fall if self.side is Side.FALL else max(rise, fall)

    def breached(self, size: float) -> Severity | None:
        """The highest rung whose limit the size is beyond."""
        return max((severity for severity, limit in self.rungs if beyond(size, limit)), default=None)

    def holding(self, size: float) -> Severity | None:
        """The highest rung that the size has not left: its limit less the gap."""
        highest: Severity | None = None
        for severity, limit in self.rungs:
            if beyond(size, limit - self.gap):
                highest = severity
        return highest

    def limit(self, severity: Severity | None) -> float:
        """Of that rung; of the lowest one for None."""
        if severity is not None:
            for rung, limit in self.rungs:
                if rung is severity:
                    return limit
        return self.rungs[0][1]

    def bound(self, limit: float, value: float, reference: float | None = None) -> float:
        """The value at which the size is `limit`, on the side of the reference where `value` is."""
        if self.side is Side.ABOVE:
            return limit
        if self.side is Side.BELOW:
            return -limit
        if reference is None:
            return math.nan
        up = self.side is Side.RISE or (self.side is Side.CHANGE and value >= reference)
        match self.scale:
            case Scale.RELATIVE:
                return reference + (limit if up else -limit) * abs(reference)
            case Scale.TIMES:
                return reference * limit if up else reference / limit
            case _:
                return reference + (limit if up else -limit)

    def excludes(self, limit: float, interval: tuple[float, float]) -> bool:
        """Whether an interval is evidence: a value's lies beyond the bound, a change's does not hold 0."""
        lower, upper = interval
        match self.side:
            case Side.ABOVE:
                return lower > limit
            case Side.BELOW:
                return -upper > limit
            case Side.RISE:
                return lower > 0
            case Side.FALL:
                return upper < 0
            case Side.CHANGE:
                return lower > 0 or upper < 0

    # --- in words -------------------------------------------------------------------------------------------

    def print_size(self, size: float, value: float, reference: float | None) -> str:
        """`−15 %`, `+5.2 points`, `3.4 x`, `200 ms`: a size, or a limit, with the sign of the move."""
        if not self.side.compares:
            return format_value(size if self.side is Side.ABOVE else -size, self.unit)
        if not math.isfinite(size):
            return "from nothing"
        if self.scale is Scale.TIMES:
            return f"{size:.3g} x"
        falls = self.side is Side.FALL or (self.side is Side.CHANGE and value < (reference or 0.0))
        sign = ("−" if falls else "+") if size >= 0 else ("+" if falls else "−")
        return sign + self._magnitude(abs(size))

    def _magnitude(self, size: float) -> str:
        match self.scale:
            case Scale.RELATIVE:
                return format_value(size, RATIO)
            case Scale.DIFFERENCE if self.unit == RATIO:
                return format_value(size, RATIO).replace(" %", " points")
            case _:
                return format_value(size, self.unit)

    def wording(self, limit: float) -> str:
        """`is above 200 ms`, `fell by more than 10 %`: what a breach says."""
        if not self.side.compares:
            return f"is {self.side.value} {self.print_size(limit, 0.0, None)}"
        verb = {Side.RISE: "rose", Side.FALL: "fell", Side.CHANGE: "changed"}[self.side]
        if self.scale is Scale.TIMES:
            return f"{verb} by more than {limit:g} x"
        return f"{verb} by more than {self._magnitude(limit)}"

    @cached_property
    def limits(self) -> Mapping[Severity, str]:
        """`above 200 ms`, by rung, of a bound on the value itself."""
        return {rung: f"{self.side} {self.print_size(limit, 0.0, None)}" for rung, limit in self.rungs}

    @cached_property
    def clears(self) -> str:
        """`at 150 ms or less`: what it takes to leave the lowest rung."""
        limit = self.rungs[0][1] - self.gap
        match self.side:
            case Side.ABOVE:
                return f"at {format_value(limit, self.unit)} or less"
            case Side.BELOW:
                return f"at {format_value(-limit, self.unit)} or more"
            case side:
                size = f"{limit:g} x" if self.scale is Scale.TIMES else self._magnitude(limit)
                return f"at a {side.value} of {size} or less"


def _rise(scale: Scale, value: float, reference: float) -> float:
    match scale:
        case Scale.DIFFERENCE:
            return value - reference
        case Scale.RELATIVE:
            if reference == 0:
                return math.copysign(math.inf, value) if value else 0.0
            return (value - reference) / abs(reference)
        case _:
            if value < 0 or reference < 0:
                return math.nan
            if reference == 0:  # 0 over 0 is no spike
                return math.inf if value else 1.0
            return value / reference


def condition_of(
    side: Side, bounds: Bounds, clear: Quantity | None, metric: MetricInfo, bare: Severity
) -> Condition:
    """From what a rule says; raises BadInput where units, order or clearing bound make no sense."""
    scale = scale_of(side, bounds.rungs[0][1], metric)
    ladder = [(severity, _limit(side, scale, q, metric)) for severity, q in bounds.ladder(bare)]
    for (low, limit), (high, higher) in pairwise(ladder):
        if not higher > limit:
            less = "lower" if side is Side.BELOW else "higher"
            raise BadInput(f"the bound of {high.word} must be {less} than that of {low.word}")
    if side.compares and ladder[0][1] <= (1.0 if scale is Scale.TIMES else 0.0):
        least = "1x" if scale is Scale.TIMES else "0"
        raise BadInput(f"a {side.value} must be more than {least}; the direction is in the field's name")
    gap = 0.0
    if clear is not None:
        if side.compares and scale_of(side, clear, metric) is not scale:
            raise BadInput(f"{clear} is counted otherwise than the bound: give both in one unit")
        gap = ladder[0][1] - _limit(side, scale, clear, metric)
        if gap < 0:
            where = "above" if side is Side.BELOW else "below"
            raise BadInput(f"{clear} must be {where} the lowest bound, {bounds.rungs[0][1]}")
    return Condition(side, scale, metric.unit, tuple(ladder), gap)


def scale_of(side: Side, quantity: Quantity, metric: MetricInfo) -> Scale:
    """How a bound of that side is counted, by the unit it is written in; raises BadInput."""
    if not side.compares:
        return Scale.VALUE
    match quantity.unit, metric.unit:
        case "%", _:
            return Scale.RELATIVE
        case "x", _:
            return Scale.TIMES
        case "pp", "ratio":
            return Scale.DIFFERENCE
        case "pp", _:
            raise BadInput(
                f"{quantity}: points are for shares, and {metric.name} is none: write 5% (relative) or 3x"
            )
        case "", "ratio":
            n = f"{quantity.value * 100:g}" if quantity.value < 1 else f"{quantity.value:g}"
            raise BadInput(f"{quantity} can be read in two ways: write {n}% (relative) or {n}pp (points)")
        case "ms", "ms":
            return Scale.DIFFERENCE
        case "", _:
            return Scale.DIFFERENCE
        case _:
            raise BadInput(f"{quantity} does not fit {metric.name}: write 5% (relative) or 3x")


def _limit(side: Side, scale: Scale, quantity: Quantity, metric: MetricInfo) -> float:
    match scale:
        case Scale.VALUE:
            value = as_value(quantity, metric.unit, metric.name)
            return -value if side is Side.BELOW else value
        case Scale.RELATIVE:
            return quantity.value / 100
        case Scale.DIFFERENCE if quantity.unit == "pp":
            return quantity.value / 100
        case _:
            return quantity.value
