"""One version of a model against another: promote it, roll it back, or keep waiting.

The margin says how much worse is still harmless. *Promote*: the candidate is credibly not worse by more
than the margin. *Roll back*: it is credibly worse by more than the margin. A candidate that is a little
worse, within the margin, is promoted in the end, and says so; one that is just as much worse as the margin
allows is never decided. So a harmless difference rolls nothing back, however many rows there are.

Each of the two wrong decisions has a probability of at most alpha over the whole comparison, under any number
of looks (`sequential`), where the counts begin at a fixed start and rows are independent, each version with a
mean of its own that stays.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kedge.analysis.additive import adds_up
from kedge.analysis.catalogue import Bad, MetricInfo
from kedge.analysis.evidence import Mean, Rate
from kedge.analysis.intervals import Interval
from kedge.analysis.metric import Metric
from kedge.analysis.sequential import Arm, Average, Pair, Share
from kedge.errors import BadInput

_MOST_TIMES = 1000.0
"""A decision that needs more than this many times the rows is not in sight."""


class Decision(StrEnum):
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    WAIT = "wait"


@dataclass(frozen=True)
class Margin:
    """How much worse is harmless: in the metric's unit, or of the reference's value."""

    size: float
    relative: bool = False


@dataclass(frozen=True)
class Side:
    """What one version's metric is."""

    name: str
    value: float | None
    n: int


@dataclass(frozen=True)
class VersionComparison:
    """A candidate against its reference, from what both have counted since the start of the comparison."""

    metric: str
    unit: str
    bad: Bad
    candidate: Side
    reference: Side
    margin: Margin
    alpha: float
    decision: Decision
    change: float | None = None
    """Candidate less reference; of the reference, where the margin is relative."""
    interval: Interval | None = None
    """Of the change: holds at every look at once, with an error of at most alpha."""
    needs: int | None = None
    """Rows of the candidate (the metric's own) until a decision, should all go on as it is; None where none
    is in sight, and where there is a decision.
    """
    reason: str = ""
    """Why nothing can be said, if so."""

    def explain(self) -> str:
        """One sentence that a person can check."""
        if self.reason or self.change is None or self.interval is None:
            return f"keep waiting: {self.reason}"
        ours, theirs, between = self.candidate, self.reference, self._size(self.margin.size)
        seen = (
            f"{_shown(ours.value, self.unit)} (n={ours.n:,}) against {_shown(theirs.value, self.unit)} "
            f"(n={theirs.n:,}) of {theirs.name}: {self._signed(self.change)}, "
            f"at {100 * (1 - self.alpha):.4g} % {self._signed(self.interval[0])} to "
            f"{self._signed(self.interval[1])} under any number of looks"
        )
        worse = self._worse()
        match self.decision:
            case Decision.PROMOTE:
                beaten = "better" if worse[1] < 0 else f"not worse by more than {between}"
                harm = "; a little worse it is" if worse[0] > 0 else ""
                return f"promote {ours.name}: {self.metric} is credibly {beaten}{harm}: {seen}"
            case Decision.ROLL_BACK:
                by = f" by more than {between}" if self.margin.size else ""
                return f"roll back {ours.name}: {self.metric} is credibly worse{by}: {seen}"
            case Decision.WAIT:
                return f"keep waiting: {self.metric} of {ours.name} is {seen}; {self._outlook()}"

    @property
    def change_text(self) -> str:
        """`+5 points (+4.27 points to +5.79 points, limit +1 point)`; empty where nothing can be said."""
        if self.change is None or self.interval is None:
            return ""
        low, high = map(self._signed, self.interval)
        limit = {Bad.UP: "+", Bad.DOWN: "−", Bad.BOTH: "±"}[self.bad] + self._size(self.margin.size)
        return f"{self._signed(self.change)} ({low} to {high}, limit {limit})"

    @property
    def detail(self) -> dict[str, Any]:
        """JSON-able."""
        ends = self.interval or (math.nan, math.nan)
        return {
            "decision": self.decision.value,
            "candidate": {
                "version": self.candidate.name,
                "value": self.candidate.value,
                "n": self.candidate.n,
            },
            "reference": {
                "version": self.reference.name,
                "value": self.reference.value,
                "n": self.reference.n,
            },
            "change": _finite(self.change),
            "interval": [_finite(end) for end in ends],
            "relative": self.margin.relative,
            "margin": self.margin.size,
            "alpha": self.alpha,
            "needs": self.needs,
            "explanation": self.explain(),
        }

    def _worse(self) -> Interval:
        """The interval in the bad direction; of a metric that is bad either way, of the distance."""
        return _harm(self.interval or (-math.inf, math.inf), self.bad)

    def _outlook(self) -> str:
        known = "it is credibly worse, perhaps within the margin; " if self._worse()[0] > 0 else ""
        if self.needs is None:
            far = "so near the margin that no decision is in sight"
            return f"{known}{far}"
        return f"{known}as it looks, a decision takes about {self.needs:,} more rows of {self.candidate.name}"

    def _size(self, size: float) -> str:
        if self.margin.relative:
            return f"{_short(100 * size)} %"
        if self.unit == "ratio":
            points = _short(100 * size)
            return f"{points} point{'' if points == '1' else 's'}"
        return _shown(size, self.unit)

    def _signed(self, size: float) -> str:
        if not math.isfinite(size):
            return "without bound"
        return ("−" if size < 0 else "+") + self._size(abs(size))


def compare_versions(
    info: MetricInfo,
    candidate: Metric,
    reference: Metric,
    margin: Margin,
    alpha: float,
    *,
    names: tuple[str, str] = ("the candidate", "the reference"),
) -> VersionComparison:
    """Compare a metric of two versions, each summed over the same span from the start of the comparison on.

    Raises BadInput for a margin that no value can keep.
    """
    check_margin(info, margin)
    if not 0 < alpha < 0.5:
        raise BadInput(f"alpha is between 0 and 0.5, not {alpha:g}")
    sides = (Side(names[0], candidate.value, candidate.n), Side(names[1], reference.value, reference.n))
    arms = [_arm(m) for m in (candidate, reference)]

    def told(decision: Decision, **more: Any) -> VersionComparison:
        return VersionComparison(info.name, info.unit, info.bad, *sides, margin, alpha, decision, **more)

    for side, found, arm in zip(sides, (candidate, reference), arms, strict=True):
        if found.value is None:
            return told(Decision.WAIT, reason=f"{info.name} of {side.name}: {found.reason or 'no rows yet'}")
        if arm is None:
            return told(Decision.WAIT, reason=f"{info.name} of {side.name} is no share or mean of rows")
        if not arm.settled:
            few = f"{side.n:,} rows of {side.name} do not settle {info.name}: one of them weighs too much yet"
            return told(Decision.WAIT, reason=few)
    ours, theirs = arms
    assert ours is not None and theirs is not None  # noqa: S101, PT018 -- the loop has seen to it
    if margin.relative and theirs.value < 0:
        return told(
            Decision.WAIT, reason=f"{info.name} of {names[1]} is negative: no share of it says anything"
        )
    pair = Pair(ours, theirs, margin.relative)
    interval = pair.interval(alpha)
    decision = _decided(_harm(interval, info.bad), margin.size)
    return told(
        decision,
        change=pair.change,
        interval=interval,
        needs=_needed(pair, info.bad, margin.size, alpha) if decision is Decision.WAIT else None,
    )


def check_margin(info: MetricInfo, margin: Margin) -> None:
    """Raises BadInput for a margin that makes no sense for the metric."""
    if margin.size < 0:
        raise BadInput("a margin says how much worse is harmless: it is 0 or more")
    if info.bad is Bad.BOTH and not margin.size:
        raise BadInput(f"{info.name} is bad either way: its margin must be more than 0")
    if info.unit == "ratio" and not margin.relative and margin.size >= 1:
        raise BadInput(f"{info.name} lies between 0 and 1: a margin of 100 points decides nothing")


def _arm(found: Metric) -> Arm | None:
    if not adds_up(found):
        return None
    match found.evidence:
        case Rate(successes, trials):
            return Share(successes, trials)
        case Mean(moments):
            return Average(moments)
        case _:
            return None


def _harm(change: Interval, bad: Bad) -> Interval:
    """How much worse the candidate is, from the interval of the change."""
    low, high = change
    match bad:
        case Bad.UP:
            return (low, high)
        case Bad.DOWN:
            return (-high, -low)
        case Bad.BOTH:
            return (max(low, -high, 0.0), max(high, -low))


def _decided(harm: Interval, margin: float) -> Decision:
    if harm[1] < margin:
        return Decision.PROMOTE
    return Decision.ROLL_BACK if harm[0] > margin else Decision.WAIT


def _needed(pair: Pair, bad: Bad, margin: float, alpha: float) -> int | None:
    """Rows of the candidate until a decision, should both versions go on as they are."""
    change = pair.change
    if not math.isfinite(change):
        return None
    worse = {Bad.UP: (margin,), Bad.DOWN: (-margin,), Bad.BOTH: (margin, -margin)}[bad]
    needed = -math.log(alpha)
    inside = bad is Bad.BOTH and abs(change) < margin
    # Within both margins both must be refuted; else the one that was passed.
    asked = worse if inside else (min(worse, key=lambda end: abs(change - end)),)

    def decided(times: float) -> bool:
        more = pair.times(times)
        return all(more.log_evidence(end) >= needed for end in asked)

    low, high = 1.0, _MOST_TIMES
    if not decided(high):
        return None
    for _ in range(20):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if decided(middle) else (middle, high)
    n = pair.candidate.rows
    return max(math.ceil(n * (high - 1)), 1)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "nothing"
    match unit:
        case "ratio":
            return f"{_short(100 * value)} %"
        case "ms" | "nats":
            return f"{_short(value)} {unit}"
        case _:
            return _short(value)


def _short(value: float) -> str:
    """Three significant digits, more only where the value is larger than that."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
