"""Why a value moved: which groups did it, by their own rate or by their share of the rows; which inputs moved
with it; and what stayed normal.

The change of a share or a mean between a reference and a window, over the groups of a grouping, is

    sum of dw * (mean r - mean R)  +  sum of mean w * dr

with w a group's share of the metric's own n, r its value, R the total, each mean over the two sides: the
first is the *mix*, the second the groups' own *rates*. The two add up to the change exactly (Das Gupta's
symmetric form; taking off R changes no sum, as the dw add up to 0, and makes a group count by how it differs
from the rest). A group that one side lacks has no rate to change: it is mix alone.

Contributions are ranked by the lower end of their size, so a tiny group's noise does not rank.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kedge.analysis.additive import adds_up
from kedge.analysis.drift import FeatureDrift
from kedge.analysis.evidence import Mean, Rate
from kedge.analysis.faulty import rows_of, rows_of_metric, rows_of_shift
from kedge.analysis.intervals import SHOWN_ALPHA, change_interval, interval_at, z_of
from kedge.analysis.metric import Metric

LEAST_SHARE = 0.1
"""Of the change: what explains less is not told."""
SHARPER = 0.9
"""A finer group is told of instead of the one around it where it has at most this part of its rows, and
explains at least this part of what it does."""
LEAST_RISE = 0.01
"""Of the rows: a feature whose missing values rose by less is not told."""
QUALITY_ALPHA = 0.001
NORMAL_WITHIN = 0.1
"""Of the reference: a change within this is normal however credible it is."""
NORMAL_ROWS = 30
Group = tuple[tuple[str, str], ...]
"""(dimension, value) pairs: what tells a group from the others of its grouping."""
NO_VALUE: Group = (("", "(none)"),)
"""The rows that are in no group of a grouping."""


@dataclass(frozen=True)
class Part:
    """A share or a mean of some rows."""

    value: float
    n: float
    error: float
    """Standard error; a share's is of two more successes and failures, so that it is never 0."""


def part_of(found: Metric) -> Part | None:
    """None for what is no share or mean of rows."""
    if found.value is None or not adds_up(found):
        return None
    match found.evidence:
        case Rate(successes, trials):
            p = (successes + 2) / (trials + 4)
            return Part(found.value, trials, math.sqrt(p * (1 - p) / (trials + 4)))
        case Mean(moments):
            return Part(found.value, moments.n, moments.stderr if moments.n > 1 else math.inf)
        case _:
            return None


def with_rest(groups: Mapping[Group, Part], total: Part) -> dict[Group, Part]:
    """The groups, and the rows that are in none as one more, so that all together are the total."""
    n = total.n - sum(part.n for part in groups.values())
    if n < 0.5:
        return dict(groups)
    value = (total.value * total.n - sum(part.value * part.n for part in groups.values())) / n
    return {**groups, NO_VALUE: Part(value, n, total.error * math.sqrt(total.n / n))}


@dataclass(frozen=True)
class Contribution:
    """What one group did to the change."""

    group: Group
    reference: Part | None
    window: Part | None
    mix: float
    rate: float
    rate_low: float
    """Lower end of the size of `rate`; 0 where it may be nothing."""
    own_low: float
    """Lower end of how much more it moved, in the direction of the change, than all groups together; 0 where
    it just moved as they did.
    """


@dataclass(frozen=True)
class Decomposition:
    """The change of a value over the groups of a grouping: `change` = `mix` + the groups' rates."""

    grouping: tuple[str, ...]
    change: float
    mix: float
    mix_low: float
    contributions: tuple[Contribution, ...]

    @property
    def rate(self) -> float:
        return math.fsum(c.rate for c in self.contributions)


def decompose(
    grouping: tuple[str, ...], reference: Mapping[Group, Part], window: Mapping[Group, Part]
) -> Decomposition | None:
    """None where a side has no rows."""
    m, n = (math.fsum(part.n for part in side.values()) for side in (reference, window))
    if not m or not n:
        return None
    names = sorted(reference.keys() | window.keys())
    z = z_of(SHOWN_ALPHA / len(names))
    sides = [_Sides(reference.get(name), window.get(name), m, n) for name in names]
    before = math.fsum(s.w0 * s.r0 for s in sides)
    after = math.fsum(s.w1 * s.r1 for s in sides)
    middle = (before + after) / 2
    rates = math.fsum(s.w * s.dr for s in sides)
    mix_variance = math.fsum(s.dw**2 * s.spread / 4 for s in sides)
    for rows, weights in ((m, [s.w0 for s in sides]), (n, [s.w1 for s in sides])):
        mean = math.fsum(w * s.r for w, s in zip(weights, sides, strict=True))
        mix_variance += math.fsum(w * (s.r - mean) ** 2 for w, s in zip(weights, sides, strict=True)) / rows
    mix = math.fsum(s.dw * (s.r - middle) for s in sides)
    sign = 1.0 if after >= before else -1.0
    found = []
    for name, s in zip(names, sides, strict=True):
        rate = s.w * s.dr
        noise = s.w**2 * s.spread + (s.dr / 2) ** 2 * s.weight_variance
        low = max(abs(rate) - z * math.sqrt(noise), 0.0)
        beyond = sign * (s.dr - rates) * s.w
        # All groups' change holds this one's: the rest of it adds the noise of the others.
        rest = math.fsum(other.w**2 * other.spread for other in sides if other is not s)
        own = beyond - z * math.sqrt(s.w**2 * ((1 - s.w) ** 2 * s.spread + rest))
        found.append(
            Contribution(name, s.reference, s.window, s.dw * (s.r - middle), rate, low, max(own, 0.0))
        )
    mix_low = max(abs(mix) - z * math.sqrt(mix_variance), 0.0) if math.isfinite(mix_variance) else 0.0
    return Decomposition(grouping, after - before, mix, mix_low, tuple(found))


class _Sides:
    """One group on both sides; a side without rows has the other's value."""

    def __init__(self, reference: Part | None, window: Part | None, m: float, n: float) -> None:
        some = reference or window
        assert some is not None  # noqa: S101 -- a name comes from one of the sides
        self.reference, self.window = reference, window
        self.r0 = (reference or some).value
        self.r1 = (window or some).value
        self.w0 = reference.n / m if reference else 0.0
        self.w1 = window.n / n if window else 0.0
        self.w, self.dw = (self.w0 + self.w1) / 2, self.w1 - self.w0
        self.r, self.dr = (self.r0 + self.r1) / 2, self.r1 - self.r0
        self.spread = sum(part.error**2 for part in (reference, window) if part)
        self.weight_variance = self.w0 * (1 - self.w0) / m + self.w1 * (1 - self.w1) / n


Kind = Literal["mix", "rate", "quality", "feature"]


@dataclass(frozen=True)
class Cause:
    """Something that moved with the value."""

    kind: Kind
    what: str
    """`region=eu`, `the mix of region`, or the feature."""
    text: str
    """What it did: `2 % → 9 % (87 % of the change)`."""
    share: float | None = None
    """Of the change, where it adds up."""
    low: float = 0.0
    """What it is ranked by, among its kind."""
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        named = {"feature": self.what} if self.kind in ("quality", "feature") else {"name": self.what}
        return {"kind": self.kind, **named, "text": self.text, "share": self.share, **self.detail}


def group_causes(decompositions: Iterable[Decomposition], unit: str) -> list[Cause]:
    """The groups, and the mixes, that made the change, the surest first.

    A group is told of where it moved by more than all together did: where every group moved alike, none of
    them is the cause.
    """
    causes = []
    for found in decompositions:
        if not found.change:
            continue
        for c in found.contributions:
            share = c.rate / found.change
            if c.rate_low and c.own_low and share >= LEAST_SHARE and c.reference and c.window:
                moved = f"{_shown(c.reference.value, unit)} → {_shown(c.window.value, unit)}"
                values = dict(c.group)
                detail = {"group": values, "from": c.reference.value, "to": c.window.value, "n": c.window.n}
                text = f"{moved} ({_percent(share)} of the change)"
                causes.append(Cause("rate", named(c.group), text, share, c.rate_low, detail))
        share = found.mix / found.change
        if found.mix_low and share >= LEAST_SHARE:
            causes.append(_mix_cause(found, share))
    return _apart(sorted(causes, key=lambda cause: -cause.low))


def _apart(causes: Sequence[Cause]) -> list[Cause]:
    """Of a group and a finer one within it, one alone: the finer where fewer rows explain about as much."""
    told: list[Cause] = []
    rates = [cause for cause in causes if cause.kind == "rate"]
    for cause in causes:
        around = [c for c in rates if c is not cause and _within(cause, c)]
        inside = [c for c in rates if c is not cause and _within(c, cause)]
        if any(_sharper(fine, cause) for fine in inside) or not all(_sharper(cause, c) for c in around):
            continue
        told.append(cause)
    return told


def _within(fine: Cause, coarse: Cause) -> bool:
    if fine.kind != "rate":
        return False
    held, outer = set(fine.detail["group"].items()), set(coarse.detail.get("group", {}).items())
    return coarse.kind == "rate" and held > outer


def _sharper(fine: Cause, coarse: Cause) -> bool:
    rows, share = fine.detail["n"] / coarse.detail["n"], (fine.share or 0.0) / (coarse.share or 1.0)
    return bool(rows <= SHARPER and share >= SHARPER)


def named(group: Group) -> str:
    """`region=eu`, `plan=free, region=eu`."""
    return ", ".join(f"{name.removeprefix('segment.')}={value}" if name else value for name, value in group)


def _mix_cause(found: Decomposition, share: float) -> Cause:
    """Named by the group that did most of it."""
    m = math.fsum(c.reference.n for c in found.contributions if c.reference)
    n = math.fsum(c.window.n for c in found.contributions if c.window)
    most = max(found.contributions, key=lambda c: c.mix / found.change)
    before, after = ((part.n / of if part else 0.0) for part, of in ((most.reference, m), (most.window, n)))
    values = " ".join(value for _, value in most.group)
    rows = f"{values} {_percent(before)} → {_percent(after)} of the rows"
    text = f"({rows}; {_percent(share)} of the change)"
    detail = {"group": dict(most.group), "from": before, "to": after}
    what = "the mix of " + " and ".join(name.removeprefix("segment.") for name in found.grouping)
    return Cause("mix", what, text, share, found.mix_low, detail)


_QUALITY_WORDS = {
    "quality.missing": "missing",
    "quality.unseen": "never seen",
    "quality.out_of_range": "out of range",
    "quality.invalid": "of the wrong type",
}


def quality_causes(pairs: Sequence[tuple[Metric, Metric]]) -> list[Cause]:
    """Features of which more values are bad than before: pairs (reference, window) of `quality.*`."""
    causes = []
    for before, now in pairs:
        interval = change_interval(now, before, QUALITY_ALPHA / max(len(pairs), 1))
        if interval is None or interval[0] <= 0 or before.value is None or now.value is None:
            continue
        if now.value - before.value >= LEAST_RISE:
            text = f"{_percent(now.value)} {_QUALITY_WORDS[now.name]} (usual {_percent(before.value)})"
            detail = {
                "metric": now.name,
                "from": before.value,
                "to": now.value,
                "n": now.n,
                "rows": rows_of_metric(now),
            }
            causes.append(Cause("quality", now.labels["feature"], text, None, interval[0], detail))
    return sorted(causes, key=lambda cause: -cause.low)


def changed_causes(found: Sequence[Metric]) -> list[Cause]:
    """Features that froze or are new: `quality.constant` of each, and `quality.appeared`."""
    causes = []
    for m in found:
        interval = interval_at(m, QUALITY_ALPHA / max(len(found), 1))
        if not m.value or interval is None or interval[0] <= 0:
            continue
        new = m.detail.get("features")
        text = f"{m.told} (n={m.n:,})" if new is None else "new: the reference has no such feature"
        named = [m.labels["feature"]] if new is None else new
        causes += [
            Cause(
                "quality",
                feature,
                text,
                None,
                1.0,
                {"metric": m.name, "n": m.n, "rows": rows_of(m.name, feature)},
            )
            for feature in named
        ]
    return causes


def feature_causes(drifted: Sequence[FeatureDrift]) -> list[Cause]:
    """The features that drifted, each with the cells that moved most."""
    causes = []
    for shift in drifted:
        cells = ", ".join(map(str, shift.moved[:2]))
        text = f"effect {shift.effect:.2g}" + (f" ({cells})" if cells else "")
        detail = {"effect": shift.effect, "rows": rows_of_shift(shift)}
        causes.append(Cause("feature", shift.feature, text, None, shift.low, detail))
    return sorted(causes, key=lambda cause: -cause.low)


def ranked(groups: Sequence[Cause], quality: Sequence[Cause], features: Sequence[Cause]) -> list[Cause]:
    """The surest of each kind first: a group, then bad data, then moved inputs, then the others. A feature
    whose data are bad is told of once.
    """
    bad = {cause.what for cause in quality}
    moved = [cause for cause in features if cause.what not in bad]
    first = [*groups[:1], *quality[:1], *(moved[:1] if not quality else [])]
    return [*first, *(c for c in (*groups[:4], *quality[:3], *moved[:3]) if c not in first)]


def is_normal(before: Metric, now: Metric) -> bool:
    """Whether a metric is as it was: no change is credible, or it is small. Few rows say nothing."""
    if before.value is None or now.value is None or min(before.n, now.n) < NORMAL_ROWS:
        return False
    if abs(now.value - before.value) <= NORMAL_WITHIN * abs(before.value):
        return True
    interval = change_interval(now, before, SHOWN_ALPHA)
    return interval is not None and interval[0] <= 0 <= interval[1]


def _shown(value: float, unit: str) -> str:
    if unit == "ratio":
        return _percent(value)
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{number} ms" if unit == "ms" else number


def _percent(share: float) -> str:
    """`0.12 %`, `9 %`, `87 %`."""
    points = 100 * share
    return f"{points:.0f} %" if abs(points) >= 10 or not points else f"{points:.2g} %"
