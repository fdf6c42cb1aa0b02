"""Kind `trend`: a metric that climbs, or falls, and will have reached a bound before long.

It fires while there is still time: when the slope is credible and the line through the last points is at
`reaches` within `within` (`kedge.analysis.trend`).
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from msgspec.structs import replace
from pydantic import Field, ValidationInfo, field_validator, model_validator

from kedge.alerting.fields import QuantityField, WindowLength, checked, parse_window
from kedge.alerting.finding import Finding, State
from kedge.alerting.inputs import Inputs
from kedge.alerting.metric_name import MetricName, StatField, with_stat
from kedge.alerting.quantity import RATIO, Quantity, as_value, format_value
from kedge.alerting.rule import Judgement
from kedge.alerting.series import SeriesRule, context_of, known_metric, title
from kedge.analysis.catalogue import Bad, MetricInfo, lookup
from kedge.analysis.metric import Metric
from kedge.analysis.series import Series
from kedge.analysis.trend import LEAST_POINTS, Trend, trend_of
from kedge.errors import BadInput
from kedge.sketch import Summary
from kedge.windows import DAY, HOUR, Millis, format_duration, step_of

MOST_POINTS = 1_000
"""Slopes are of every pair of points."""
LINGERS = 1.25
"""An alert clears once the bound is so many times further away than `within`."""


class TrendRule(SeriesRule):
    """Fires when a metric moves, credibly, towards a bound and will be there soon: the slope over `over` is
    told from none, and its line is at `reaches` within `within`. Windows do not slide: each point is judged
    once.
    """

    KIND: ClassVar[str] = "trend"

    kind: Literal["trend"] = Field(description="`trend`.")
    metric: MetricName = Field(description="What is watched, by name: `performance.log_loss`, `latency.p95`.")
    stat: StatField = None
    over: WindowLength = Field(
        7 * DAY,
        json_schema_extra={"default": "7d"},
        description="How long a past the line is drawn through; half of its points must be there, and 10.",
    )
    reaches: QuantityField = Field(
        description="The bound that is not to be reached, in the metric's unit: `0.9`, `90%`, `200ms`."
    )
    within: WindowLength = Field(description="How soon is too soon: `3d`.")
    window: WindowLength = Field(
        6 * HOUR,
        json_schema_extra={"default": "6h"},
        description=(
            "How long a point is: 1h, 2h, 3h, 4h, 6h, 8h, 12h or whole days; unless said, the longest of 1h, "
            "6h and 1d that is at most a 24th of `over`. Each is judged once."
        ),
    )

    _one_name = model_validator(mode="before")(with_stat)

    @model_validator(mode="before")
    @classmethod
    def _points(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or "window" in raw:
            return raw
        try:
            over = parse_window(raw.get("over", "7d"))
        except BadInput:
            return raw  # which its own field tells
        return {**raw, "window": format_duration(step_of(over, HOUR))}

    @field_validator("metric")
    @classmethod
    def _metric(cls, metric: str) -> str:
        return known_metric(metric)

    @field_validator("reaches")
    @classmethod
    def _reaches(cls, reaches: Quantity, info: ValidationInfo) -> Quantity:
        if "metric" in info.data:
            metric = lookup(info.data["metric"])
            checked(as_value, reaches, metric.unit, metric.name)
        return reaches

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = self.problems()
        points = self.over / self.window
        if points < LEAST_POINTS:
            least = format_duration(LEAST_POINTS * self.window)
            problems.append(f"over {format_duration(self.over)} is too short: {least} at least")
        elif points > MOST_POINTS:
            problems.append(f"{points:,.0f} points are too many: a longer `window`, or a shorter `over`")
        elif self.over % self.window:
            problems.append("`over` must be a multiple of `window`")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    # --- what the pipeline asks -----------------------------------------------------------------------------

    @property
    def info(self) -> MetricInfo:
        return lookup(self.metric)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.metric,)

    @property
    def spans_back(self) -> Millis:
        return self.over

    @property
    def bound(self) -> float:
        return as_value(self.reaches, self.info.unit, self.metric)

    def judge_complete(self, summary: Summary, inputs: Inputs, step: Millis) -> list[Judgement]:
        return [({}, self._judge(summary, inputs, step))]

    def _judge(self, summary: Summary, inputs: Inputs, step: Millis) -> Finding:
        found = self.read(summary, context_of(inputs))
        (newest,) = found
        draft = Finding(
            step=step,
            state=State.OK,
            value=newest.value,
            n=newest.n,
            interval=newest.interval,
            bound=self.bound,
            window=inputs.window,
            unit=self.info.unit,
        )
        if (lacking := self.lacking(draft, found, inputs)) is not None:
            return lacking
        starts, values = _points(inputs.series, float(newest.value or 0.0))
        whole = self.over // self.window
        least = max(LEAST_POINTS, math.ceil(whole / 2))
        if len(values) < least:
            few = f" of at least {self.min_count:,} {self.info.counts}" if self.min_count else ""
            reason = (
                f"{title(newest)} needs {least} of {whole} windows of {format_duration(self.window)}{few} to "
                f"show a trend: there are {len(values)}"
            )
            return replace(draft, state=State.INSUFFICIENT, reason=reason)
        trend = trend_of(starts, values, self.window)
        return self.as_sure(self._told(draft, newest, trend, inputs))

    def _told(self, draft: Finding, newest: Metric, trend: Trend, inputs: Inputs) -> Finding:
        bad = self.info.bad
        up = bad is Bad.UP or (bad is Bad.BOTH and trend.level < self.bound)
        time, soonest, latest = trend.reaches(self.bound, up=up)
        credible = (trend.p_up if up else trend.p_down) < self.allowance.alpha(self.window, inputs.groups)
        soon = time <= self.within
        if credible and soon:
            state = State.BREACH
        elif (credible and time <= LINGERS * self.within) or (soon and trend.slope and not credible):
            state = State.HOLD
        else:
            state = State.OK
        bound = format_value(self.bound, self.info.unit)
        verb = "climbs" if trend.slope > 0 else "falls"
        moves = f"{verb} {self._speed(trend, verb)}" if trend.slope else "is level"
        if time == 0:
            ahead = f"its line stands at {format_value(trend.level, self.info.unit)}, past {bound}"
        elif math.isfinite(time):
            until = _length(latest) if math.isfinite(latest) else "never"
            ahead = f"reaches {bound} in {_length(time)} ({_length(soonest)} to {until})"
        else:
            ahead = f"does not lead to {bound}"
        unsure = "" if credible or not trend.slope else "; so small a slope may be chance"
        name = title(newest)
        return replace(
            draft,
            state=state,
            severity=self.severity if state is State.BREACH else None,
            holding=self.severity if state is State.HOLD else None,
            change=f"{moves}, {ahead}",
            clears=(
                f"once it no longer {'climbs' if up else 'falls'}, or takes more than "
                f"{_length(LINGERS * self.within)} to {bound}"
            ),
            reason=f"{name} {moves} and {ahead}{unsure}",
        )

    def _speed(self, trend: Trend, verb: str) -> str:
        """`0.02 a day (95 %: 0.01 to 0.03)`: sizes, in the direction of the slope."""
        per, word = (HOUR, "an hour") if self.over <= 2 * DAY else (DAY, "a day")
        sign = 1.0 if verb == "climbs" else -1.0
        size, one, other = (sign * per * slope for slope in (trend.slope, *trend.interval))
        show = [self._printed(v) for v in (size, min(one, other), max(one, other))]
        return f"{show[0]} {word} (95 %: {show[1]} to {show[2]})"

    def _printed(self, size: float) -> str:
        text = format_value(size, self.info.unit)
        return text.replace(" %", " points") if self.info.unit == RATIO else text


def _points(series: Series | None, newest: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Where the points begin, and their values, the newest last."""
    if series is None:
        return np.zeros(1, np.int64), np.array([newest])
    there = np.isfinite(series.values[:, 0])
    starts = np.append(series.starts[there], series.now)
    return starts, np.append(series.values[there, 0], newest)


def _length(time: float) -> str:
    """`2.4d`, `7h`: as exact as a forecast is."""
    size, unit = (time / DAY, "d") if time >= 2 * DAY else (time / HOUR, "h")
    return f"{size:,.0f}{unit}" if size >= 10 else f"{size:.1f}".removesuffix(".0") + unit
