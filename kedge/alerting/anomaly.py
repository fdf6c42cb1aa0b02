"""Kind `anomaly`: a metric that its own history does not explain.

Nobody has to know what is normal: it is what the metric usually is at that time of the day or week, and how
far it usually is from that. How far is too far follows from the rule's `budget`
(`kedge.analysis.anomaly`).
"""

import dataclasses
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from msgspec.structs import replace
from pydantic import Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from kedge.alerting.condition import Scale, Side, beyond, scale_of
from kedge.alerting.fields import Budget, QuantityField, WindowLength, checked
from kedge.alerting.finding import Finding, Severity, State, capped
from kedge.alerting.inputs import Inputs
from kedge.alerting.metric_name import METRIC_SCHEMA, MetricName, StatField, with_stat
from kedge.alerting.quantity import COUNT, MS, RATIO, Quantity, format_value
from kedge.alerting.rule import Judgement, listed
from kedge.alerting.series import SeriesRule, context_of, known_metric, title
from kedge.analysis.anomaly import Anomaly, Chance, block_of, judge
from kedge.analysis.catalogue import MetricInfo, lookup
from kedge.analysis.metric import Metric
from kedge.analysis.series import Series, spread
from kedge.sketch import Summary
from kedge.windows import DAY, HOUR, WEEK, Millis, format_duration

LEAST_POINTS = 20
AT_LEAST = Quantity(10.0, "%", "10%")
SHORT = "the history is too short for this budget; `history: {}` would do{}"
MOST_CHANCE = 0.5
"""Of a block: a budget of more alarms than that would have half of all blocks fire."""


class AnomalyRule(SeriesRule):
    """Fires when a metric is not as it usually is: further from what is usual at that time of the day or week
    than chance explains, at the level that `budget` sets, and by at least `at_least`. What is usual is
    learned from `history`, without the times in which this alert fired. Windows do not slide: each hour (or
    what `window` says) is judged once.
    """

    KIND: ClassVar[str] = "anomaly"
    LOCAL: ClassVar[bool] = True

    kind: Literal["anomaly"] = Field(description="`anomaly`.")
    metric: MetricName | None = Field(None, description="What is watched, by name: `latency.p95`.")
    stat: StatField = None
    metrics: Annotated[
        tuple[MetricName, ...],
        WithJsonSchema(
            {
                "anyOf": [
                    METRIC_SCHEMA,
                    {"type": "array", "items": METRIC_SCHEMA},
                ]
            }
        ),
    ] = Field((), description="Of `method: isolation_forest`: what is watched together, two metrics or more.")
    direction: Literal["up", "down", "both"] = Field(
        "both", description="Which way is told: `up`, `down` or `both`."
    )
    history: WindowLength = Field(
        4 * WEEK,
        json_schema_extra={"default": "28d"},
        description=(
            "How long a past it is held against; a quarter of it must be there, and 20 windows. A budget of "
            "`1 per 30d` needs 28d for one group and as much again for each other; a share of a receiver's "
            "budget, as much again for each rule that has one. With less, a verdict reaches `medium` at "
            "most: say `budget` where it is to reach more."
        ),
    )
    at_least: QuantityField = Field(
        AT_LEAST,
        json_schema_extra={"default": "10%"},
        description=(
            "The least change from what is usual that is worth telling, however surely it is one: `10%` (of "
            "what is usual), `2pp` (points of a share), `20ms`."
        ),
    )
    method: Literal["auto", "robust_z", "ewma", "cusum", "isolation_forest"] = Field(
        "auto",
        description=(
            "`auto`: the distance from the median of that time of the week, or of the day, where the history "
            "shows such a cycle, else from the median. By name: `robust_z` (never a cycle), `ewma` (small "
            "shifts that last some windows), `cusum` (still smaller ones; its run length is that of "
            "`budget`), `isolation_forest` (several `metrics` together). `budget` sets the bound of each."
        ),
    )
    window: WindowLength = Field(
        HOUR,
        json_schema_extra={"default": "1h"},
        description="How long a point is: 1h, 2h, 3h, 4h, 6h, 8h, 12h or whole days. Each is judged once.",
    )

    _one_name = model_validator(mode="before")(with_stat)
    _list_metrics = field_validator("metrics", mode="before")(listed)

    @field_validator("metric")
    @classmethod
    def _metric(cls, metric: str | None) -> str | None:
        return None if metric is None else known_metric(metric)

    @field_validator("metrics")
    @classmethod
    def _metrics(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(known_metric, metrics))

    @field_validator("at_least")
    @classmethod
    def _least(cls, least: Quantity, info: ValidationInfo) -> Quantity:
        for name in (info.data.get("metric"), *info.data.get("metrics", ())):
            if name is not None and checked(_size, least, lookup(name))[0] is Scale.TIMES:
                raise ValueError(f"{least}: a least change is a size, not a ratio: write 10% or 2pp")
        return least

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = []
        if self.method == "isolation_forest":
            if self.metric is not None or len(set(self.metrics)) < 2:
                problems.append("`method: isolation_forest` is of several: write `metrics: [a, b]`")
            if self.direction != "both":
                problems.append("`method: isolation_forest` knows no direction: leave it out")
        elif self.metric is None or self.metrics:
            hint = " (`metrics` goes with `method: isolation_forest`)" if self.metrics else ""
            problems.append(f"needs `metric`{hint}")
        if self.history < max(LEAST_POINTS * self.window, WEEK):
            least = format_duration(max(LEAST_POINTS * self.window, WEEK))
            problems.append(f"history {format_duration(self.history)} is too short: {least} at least")
        elif self.history % self.window:
            problems.append("`history` must be a multiple of `window`")
        problems += self.problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    # --- what the pipeline asks -----------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        return self.metrics if self.metric is None else (self.metric,)

    @property
    def spans_back(self) -> Millis:
        return self.history + self.window

    @property
    def remembers(self) -> Millis:
        return self.history

    @property
    def warnings(self) -> tuple[str, ...]:
        enough = self._enough(self.chance(1))
        if self.history >= enough or (self.method != "isolation_forest" and self.severity <= Severity.MEDIUM):
            return ()
        costs = "nothing is judged" if self.method == "isolation_forest" else "it reaches `medium` at most"
        has, needs = format_duration(self.history), format_duration(enough)
        text = f"a history of {has} cannot show what happens {self.allowance}, so {costs}: "
        return (f"{text}write `history: {needs}`, or `budget: {self._shown(1)}`",)

    def _enough(self, chance: Chance) -> Millis:
        """The history whose block maxima can show so rare a deviation."""
        return max(math.ceil(1 / chance.per_block - 1e-9) - 1, 1) * block_of(self.window)

    def _shown(self, groups: int) -> Budget:
        """The smallest budget that a history as long as `history` can show, for so many groups."""
        block = block_of(self.window)
        return Budget(float(max(groups, 1)), (self.history // block + 1) * block)

    @property
    def costs(self) -> Budget:
        # Held against too short a history, it fires on whatever is beyond all that was seen.
        return max(self.allowance, self._shown(1), key=lambda budget: budget.rate)

    def chance(self, groups: int) -> Chance:
        """The budget as the chance of a false alarm of one look, and of a block of them, at one group."""
        rate = self.allowance.rate / max(groups, 1)
        block = min(rate * block_of(self.window), MOST_CHANCE)
        return Chance(block, block * self.window / block_of(self.window))

    def judge_complete(self, summary: Summary, inputs: Inputs, step: Millis) -> list[Judgement]:
        return [({}, self._judge(summary, inputs, step))]

    def _judge(self, summary: Summary, inputs: Inputs, step: Millis) -> Finding:
        draft = Finding(step=step, state=State.OK, window=inputs.window)
        found = self.read(summary, context_of(inputs))
        if self.metric is not None:
            draft = replace(draft, value=found[0].value, n=found[0].n, interval=found[0].interval)
            draft = replace(draft, unit=self.infos[0].unit)
        if (lacking := self.lacking(draft, found, inputs)) is not None:
            return lacking
        series = inputs.series
        if series is None or (why := self._too_short(series)):
            return replace(draft, state=State.INSUFFICIENT, reason=why if series else "there is no history")
        scales = [_scale(info) for info in self.infos]
        newest = np.array([s.forth(float(m.value or 0.0)) for s, m in zip(scales, found, strict=True)])
        scaled = np.column_stack([s.forth(column) for s, column in zip(scales, series.values.T, strict=True)])
        chance = self.chance(inputs.groups)
        seen = judge(dataclasses.replace(series, values=scaled), newest, self.method, self.direction, chance)
        judged = self._told(draft, found, seen, series, scales)
        if seen.short:
            enough = self._enough(chance)
            other = f", or `budget: {self._shown(inputs.groups)}`" if self.history < enough else ""
            short = SHORT.format(format_duration(enough), other)
            if self.method == "isolation_forest":
                reason = f"{short}; there are {seen.blocks} blocks of it"
                return replace(draft, state=State.INSUFFICIENT, reason=reason)
            judged = capped(judged, Severity.MEDIUM, short)
        return self.as_sure(judged)

    def _too_short(self, series: Series) -> str:
        """What is lacking in the history; empty where it will do."""
        there = series.quiet & np.isfinite(series.values).all(axis=1)
        least = max(self.history // 4, WEEK)
        since = series.now - int(series.starts[there].min()) if there.any() else 0
        points = max(LEAST_POINTS, least // self.window // 2)
        if since >= least and there.sum() >= points:
            return ""
        has = f"it begins {format_duration(since)} ago" if since else "it has none"
        out = f", {series.left_out} of its windows are not summarised" if series.left_out else ""
        few = f" of at least {self.min_count:,} {self.infos[0].counts}" if self.min_count else ""
        return (
            f"{self._title} needs a history of {format_duration(least)} with {points} windows{few}: {has}, "
            f"and {int(there.sum())} windows can be used{out}"
        )

    @property
    def _title(self) -> str:
        return " and ".join(self.names)

    # --- what it says ---------------------------------------------------------------------------------------

    def _told(
        self,
        draft: Finding,
        found: tuple[Metric, ...],
        seen: Anomaly,
        series: Series,
        scales: list["_Scaling"],
    ) -> Finding:
        parts = [
            _Part.of(one, info, scale, seen, i)
            for i, (one, info, scale) in enumerate(zip(found, self.infos, scales, strict=True))
        ]
        enough = any(_changed(self.at_least, part) for part in parts)
        if self.metric is None:
            return self._together(draft, parts, seen, series, enough=enough)
        (part,) = parts
        when = _when(seen, series, self.history)
        show = [format_value(end, part.info.unit) for end in part.band]
        is_ = f"{title(part.metric)} is {format_value(part.value, part.info.unit)} (n={part.metric.n:,})"
        usual = f"usual {when}: {show[0]} to {show[1]}"
        if seen.limits is not None:
            outside = part.value > part.band[1] if self.direction == "up" else part.value < part.band[0]
            if self.direction == "both":
                outside = not part.band[0] <= part.value <= part.band[1]
            rises = self.direction == "up" or (self.direction == "both" and part.value >= part.centre)
            bound = float(part.scale.back(seen.limits[1] if rises else seen.limits[0]))
            draft = replace(draft, bound=bound, change=f"{when} ({_basis(seen)})")
            limit = f", limit {format_value(bound, part.info.unit)}"
        else:
            outside = seen.score > seen.bound / 2
            name = {"ewma": "the weighted mean of the deviations", "cusum": "their sum"}[self.method]
            limit = f", {name} {seen.score:.2g} sd, limit {seen.bound:.2g} sd"
            if self.method == "cusum":
                limit += f" (run length {self.chance(1).run_length:,.0f} windows)"
            draft = replace(draft, change=f"{when} ({_basis(seen)}){limit}")
        breach = seen.unusual and enough
        state = State.BREACH if breach else State.HOLD if outside and enough else State.OK
        small = f"; unusual, but by less than {self.at_least}" if seen.unusual and not enough else ""
        return replace(
            draft,
            state=state,
            severity=self.severity if breach else None,
            holding=self.severity if state is State.HOLD else None,
            usual=part.band,
            clears=f"back between {show[0]} and {show[1]}, or what is usual then",
            reason=f"{is_}; {usual} ({_basis(seen)}{limit}){small}",
        )

    def _together(
        self, draft: Finding, parts: list["_Part"], seen: Anomaly, series: Series, *, enough: bool
    ) -> Finding:
        """Of several metrics: how odd they are together, and which ones most."""
        odd = sorted(parts, key=lambda part: -part.deviation)
        causes = tuple({"name": part.metric.name, "text": part.text} for part in odd)
        breach = seen.unusual and enough
        outside = seen.score > float(np.mean([seen.bound, 0.5]))
        as_ever = "odder together than ever" if seen.unusual else "together as ever"
        small = f"; unusual, but none by {self.at_least}" if seen.unusual and not enough else ""
        return replace(
            draft,
            state=State.BREACH if breach else State.HOLD if outside and enough else State.OK,
            severity=self.severity if breach else None,
            value=seen.score,
            bound=seen.bound,
            n=min(part.metric.n for part in parts),
            change=f"{self._title} {as_ever} in {format_duration(self.history)}",
            clears=f"at a score of {float(np.mean([seen.bound, 0.5])):.3g} or less",
            reason=(
                f"{self._title} are {as_ever} in {format_duration(self.history)}: score {seen.score:.3g}, "
                f"limit {seen.bound:.3g}; most of all {odd[0].metric.name} {odd[0].text}{small}"
            ),
            causes=causes if breach else (),
        )


# --- the scale that a metric is compared on -----------------------------------------------------------------


class _Scaling(NamedTuple):
    """Where deviations are alike, whatever the level: times multiply, counts vary with their root."""

    forth: Callable[[Any], Any]
    back: Callable[[Any], Any]


_LEAST_MS = 1e-3


def _scale(info: MetricInfo) -> _Scaling:
    if info.unit == MS:
        return _Scaling(lambda v: np.log(np.maximum(v, _LEAST_MS)), np.exp)
    if info.unit == COUNT:
        return _Scaling(lambda v: np.sqrt(np.maximum(v, 0.0)), lambda v: np.maximum(v, 0.0) ** 2)
    if info.unit == RATIO and info.evidence == "rate":
        return _Scaling(
            lambda v: np.arcsin(np.sqrt(np.clip(v, 0.0, 1.0))),
            lambda v: np.sin(np.clip(v, 0.0, math.pi / 2)) ** 2,
        )
    return _Scaling(lambda v: v, lambda v: v)


class _Part(NamedTuple):
    """One metric's newest value beside what is usual, in its own unit."""

    metric: Metric
    info: MetricInfo
    scale: _Scaling
    centre: float
    band: tuple[float, float]
    deviation: float
    """In standard deviations."""

    @classmethod
    def of(cls, found: Metric, info: MetricInfo, scale: _Scaling, seen: Anomaly, i: int) -> "_Part":
        residuals = seen.metrics[i].residuals
        sd = spread(residuals[np.isfinite(residuals)])
        low, high = (float(scale.back(end)) for end in seen.bands[i])
        size = abs(float(seen.residuals[i]))
        deviation = size / sd if sd else math.inf if size else 0.0
        centre = float(scale.back(seen.metrics[i].centre))
        return cls(found, info, scale, centre, (low, high), deviation)

    @property
    def value(self) -> float:
        return float(self.metric.value or 0.0)

    @property
    def text(self) -> str:
        low, high = (format_value(end, self.info.unit) for end in self.band)
        return f"{format_value(self.value, self.info.unit)} (usual {low} to {high})"


def _size(least: Quantity, info: MetricInfo) -> tuple[Scale, float]:
    """How a least change is counted, and how large it is; raises BadInput."""
    scale = scale_of(Side.CHANGE, least, info)
    return scale, least.value / 100 if least.unit in ("%", "pp") else least.value


def _changed(least: Quantity, part: _Part) -> bool:
    """Whether a value is at least so far from what is usual. Of nothing, every change is large enough."""
    scale, size = _size(least, part.info)
    moved = abs(part.value - part.centre)
    whole = abs(part.centre) if scale is Scale.RELATIVE else 1.0
    return moved > 0 and not beyond(size * whole, moved)


def _when(seen: Anomaly, series: Series, history: Millis) -> str:
    at = datetime.fromtimestamp(series.now / 1000, UTC)
    match seen.season:
        case "week" if series.window >= DAY:
            return f"on {at:%A}s"
        case "week":
            return f"on {at:%A}s at {at:%H:%M}"
        case "day":
            return f"at {at:%H:%M}"
        case _:
            return f"in {format_duration(history)}"


def _basis(seen: Anomaly) -> str:
    words = {"none": "windows", "day": "days", "week": "weeks"}
    return f"{seen.metrics[0].cycles} {words[seen.season]}"
