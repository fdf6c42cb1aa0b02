"""Kind `threshold`: a metric beyond a bound, or moved against a reference. At the bound is not beyond it."""

import math
from functools import cached_property
from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from kedge.alerting.compare import MEANING, Compare
from kedge.alerting.condition import Condition, Side, beyond, condition_of
from kedge.alerting.fields import Bounds, BoundsField, QuantityField, Text, checked
from kedge.alerting.finding import BORROWED, Finding, Severity, State, capped
from kedge.alerting.inputs import Against, Inputs
from kedge.alerting.metric_name import MetricName, StatField, with_stat
from kedge.alerting.quantity import COUNT, Quantity, format_interval, format_value
from kedge.alerting.rule import ALL_VERSIONS, Judgement
from kedge.alerting.today import DayRule
from kedge.analysis.arrived import NAMES as ARRIVALS
from kedge.analysis.build import absent, median_of
from kedge.analysis.catalogue import MetricInfo, lookup
from kedge.analysis.drift import RESTLESS
from kedge.analysis.faulty import rows_of_metric
from kedge.analysis.intervals import Interval, change_interval, interval_at
from kedge.analysis.measure import Context, measure, metric
from kedge.analysis.metric import Metric, Verdict
from kedge.analysis.stuck import STUCK
from kedge.sketch import PartName, Summary
from kedge.windows import Millis

ASSUMED = "assumes that labels still follow from the inputs as they did in the reference"
"""What every estimate without labels rests on, and why it alone wakes nobody (STATISTICS "Performance")."""


class ThresholdRule(DayRule):
    """Fires when a metric is beyond a bound, or moved too far from its reference.

    Just one of `above`, `below`, `rise`, `fall` and `change` says where; each takes one value or a severity
    ladder.
    """

    KIND: ClassVar[str] = "threshold"

    kind: Literal["threshold"] = Field("threshold", description="May be left out.")
    metric: MetricName = Field(
        description="What is watched, by name: `performance.recall`, `latency.p95`, `volume.count`."
    )
    stat: StatField = None
    cls: Text | None = Field(
        None, alias="class", description="The class whose share, precision, recall or F1 is meant."
    )
    feature: Text | None = Field(
        None,
        description=(
            "The feature that is meant, for `quality.*`, `drift.*` and `attribution.*`; or split "
            "`by: [feature]`."
        ),
    )
    compare: Compare | None = Field(
        None, description=f"What `rise`, `fall` and `change` are measured against. {MEANING}"
    )
    above: BoundsField | None = Field(
        None,
        description="Breaches above this, in the metric's unit: `200ms`, `5%`, or `{medium: 200ms, high: "
        "1s}`.",
    )
    below: BoundsField | None = Field(
        None, description="Breaches below this: `90%`, or `{medium: 90%, high: 80%}`."
    )
    rise: BoundsField | None = Field(
        None,
        description="Breaches when it rose by more: `5%` of the reference, `5pp` (points of a share), `3x`.",
    )
    fall: BoundsField | None = Field(None, description="Breaches when it fell by more: `5%`, `5pp`, `3x`.")
    change: BoundsField | None = Field(
        None, description="Breaches when it moved by more, either way: `5%`, `5pp`, `3x`."
    )
    clear: QuantityField | None = Field(
        None,
        description=(
            "Clears here rather than at the lowest bound, in the same unit; between the two nothing changes. "
            "Higher rungs leave at their bound less the same gap."
        ),
    )
    evidence: Literal["interval", "point"] = Field(
        "interval",
        description=(
            "`interval`: fires only where chance is no explanation, at the level that `budget` sets. "
            "`point`: the bare value decides."
        ),
    )

    _one_name = model_validator(mode="before")(with_stat)

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        return checked(lookup, metric).name

    @field_validator("cls", "feature")
    @classmethod
    def _takes(cls, value: str | None, info: ValidationInfo) -> str | None:
        label = "class" if info.field_name == "cls" else "feature"
        if value is not None and "metric" in info.data and lookup(info.data["metric"]).takes != label:
            raise ValueError(f"{info.data['metric']} is not of one {label}: leave it out")
        return value

    @field_validator(*Side)
    @classmethod
    def _bounds(cls, bounds: Bounds | None, info: ValidationInfo) -> Bounds | None:
        if bounds is not None and "metric" in info.data:
            side, metric = Side(str(info.field_name)), lookup(info.data["metric"])
            bare = info.data.get("severity", Severity.MEDIUM)
            condition = checked(condition_of, side, bounds, None, metric, bare)
            if metric.estimated and condition.rungs[-1][0] > Severity.MEDIUM:
                raise ValueError(
                    f"estimated.* alone reaches at most medium: it {ASSUMED}. "
                    f"Write {condition.rungs[-1][0].word} on performance.*, which has the labels"
                )
        return bounds

    @field_validator("clear")
    @classmethod
    def _clearing(cls, clear: Quantity | None, info: ValidationInfo) -> Quantity | None:
        sides = [side for side in Side if info.data.get(side) is not None]
        if clear is not None and "metric" in info.data and len(sides) == 1:
            metric, bare = lookup(info.data["metric"]), info.data.get("severity", Severity.MEDIUM)
            checked(condition_of, sides[0], info.data[sides[0]], clear, metric, bare)
        return clear

    @model_validator(mode="after")
    def _whole(self) -> Self:
        sides = [side for side in Side if getattr(self, side) is not None]
        info, problems = self.info, []
        if not sides:
            problems.append(f"needs one of {', '.join(Side)}")
        if len(sides) > 1:
            problems.append(f"has {' and '.join(sides)}: write a rule for each")
        elif sides and sides[0].compares and self.compare is None:
            problems.append(f"`{sides[0]}` needs `compare: {{to: baseline}}`")
        elif sides and sides[0].compares and info.comparison:
            problems.append(f"{info.name} is a comparison already: bound it with `above`")
        elif sides and sides[0].compares and self.grows and not self._same_length:
            others = "same_time" if self.is_of_today else "same_time, previous"
            problems.append(
                f"{info.name} grows with the window, and that of a baseline or history is another: use above "
                f"or below, or compare to {others} or another version"
            )
        elif sides and self.compare is not None and not sides[0].compares:
            problems.append(f"`compare` goes with rise, fall or change, not with `{sides[0]}`")
        if PartName.CUSTOM in info.parts and self.compare is not None and self.compare.to == "baseline":
            problems.append(f"no baseline has {info.name}: compare to history, same_time or previous")
        if self.is_of_today and info.comparison:
            problems.append(
                f"{info.name} is held against windows of one length, and the day so far grows: write "
                f"`window: 24h`"
            )
        if self.is_of_today and self.compare is not None and self.compare.to == "previous":
            problems.append(
                "before the day so far is the evening before: compare `window: today` to same_time, or write "
                "`window: 24h`"
            )
        if self.compare is not None:
            problems += self.compare.problems(self.version, self.by, ALL_VERSIONS)
        per_feature = "feature" in self.by
        if info.takes == "feature" and (self.feature is None) != per_feature:
            problems.append(f"{info.name} is of one feature: write `feature: NAME` or `by: [feature]`")
        elif per_feature and info.takes != "feature":
            problems.append(f"{info.name} is not of one feature: `by: [feature]` does not fit")
        if self.reads_arrivals and (self.by or self.version != ALL_VERSIONS):
            problems.append(f"{info.name} is of a model as a whole: leave out `by` and `version`")
        if self.reads_arrivals and self.compare is not None:
            problems.append(f"{info.name} is not kept of other windows: use above or below")
        if info.takes == "class" and info.must and self.cls is None:
            problems.append(f"{info.name} is of one class: write `class: NAME`")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    # --- what the pipeline asks -----------------------------------------------------------------------------

    @property
    def warnings(self) -> tuple[str, ...]:
        found = super().warnings
        if self.is_of_today and self.grows and self.side is Side.BELOW and self.active is None:
            lacks = (
                f"{self.metric} begins at 0 after midnight, so it is below its bound until enough has come"
            )
            found += (f'{lacks}: say when that must be, as in `active: {{hours: "20:00-24:00"}}`',)
        return found

    @cached_property
    def info(self) -> MetricInfo:
        return lookup(self.metric)

    @cached_property
    def side(self) -> Side:
        return next(side for side in Side if getattr(self, side) is not None)

    @cached_property
    def condition(self) -> Condition:
        return condition_of(self.side, getattr(self, self.side), self.clear, self.info, self.severity)

    @property
    def parts(self) -> frozenset[PartName]:
        return self.info.reads

    @property
    def keeps_budget(self) -> bool:
        return self.evidence == "interval" and self.info.evidence != "exact"

    @property
    def compares(self) -> bool:
        return self.compare is not None or self.info.needs_reference

    @property
    def other_reference(self) -> Compare | None:
        return None if self.compare is None or self.compare.to == "baseline" else self.compare

    @property
    def grows(self) -> bool:
        return self.info.unit == COUNT or self.info.grows

    @property
    def _same_length(self) -> bool:
        return self.compare is not None and self.compare.same_length

    @property
    def lowest(self) -> Severity:
        return self.condition.rungs[0][0]

    @property
    def label_based(self) -> bool:
        return self.info.label_based  # not label.coverage, which asks how late they are

    @property
    def reads_arrivals(self) -> bool:
        return self.metric in ARRIVALS

    @property
    def reads_runs(self) -> bool:
        return self.metric == STUCK

    def judge_complete(self, summary: Summary, inputs: Inputs, step: Millis) -> list[Judgement]:
        context = inputs.context
        if not self.fans_out:
            return [({}, self._judge(self._metric(summary, context), context, inputs, step))]
        found = [m for m in measure(summary, context) if m.name == self.metric and "feature" in m.labels]
        return [(m.labels, self._judge(m, context, inputs, step)) for m in found]

    def _metric(self, summary: Summary, context: Context, feature: str | None = None) -> Metric:
        return metric(self.metric, summary, context, cls=self.cls, feature=feature or self.feature)

    def _judge(self, found: Metric, context: Context, inputs: Inputs, step: Millis) -> Finding:
        n = found.n
        if self._on_baseline and inputs.reference is None:
            lacks = "learn from" if self.info.estimated else "be compared with"
            reason = f"{_title(found)} has nothing to {lacks}: create a baseline (`kedge baseline create`)"
            return self._unjudged(found, inputs, step, State.INSUFFICIENT, reason)
        if found.value is None:
            reason = f"{_title(found)}: {found.reason or 'no data in the window'}"
            # What is withheld is of rows that are there: silence would not be a recovery.
            withheld = n > 0 and (self.info.estimated or found.verdict is Verdict.INSUFFICIENT)
            state = State.INSUFFICIENT if withheld else State.NO_DATA
            return self._unjudged(found, inputs, step, state, reason)
        if n < self.min_count:
            least = f"under min_count {self.min_count:,} (of {self.info.counts})"
            few = f"{_title(found)} rests on n={n:,}, {least}"
            return self._unjudged(found, inputs, step, State.INSUFFICIENT, few)
        if self.compare is None:
            judged = self._weighed(found, None, "", inputs, step)
            if found.detail.get("restless") is True:
                return capped(judged, Severity.INFO, RESTLESS)
            return capped(judged, Severity.MEDIUM, BORROWED) if found.detail.get("borrowed") else judged
        against = self._against(inputs)
        before = self._before(against, context, found)
        if before.value is None:
            reason = f"{_title(found)} has nothing to be compared with in {against.name}: {before.reason}"
            return self._unjudged(found, inputs, step, State.INSUFFICIENT, reason)
        return self._weighed(found, before, against.name, inputs, step)

    @cached_property
    def _on_baseline(self) -> bool:
        """Whether there is nothing to judge without a baseline."""
        return self.info.needs_reference or (self.compare is not None and self.other_reference is None)

    def _unjudged(
        self,
        found: Metric,
        inputs: Inputs,
        step: Millis,
        state: State,
        reason: str,
        before: Metric | None = None,
    ) -> Finding:
        return Finding(
            step=step,
            state=state,
            value=found.value,
            reference=None if before is None else before.value,
            reference_n=None if before is None else before.n,
            n=found.n,
            interval=found.interval,
            window=inputs.window,
            unit=self.info.unit,
            rows=rows_of_metric(found),
            reason=reason,
        )

    def _against(self, inputs: Inputs) -> Against:
        if self.other_reference is not None:
            return inputs.against or Against("what it compares with", ())
        return inputs.of_baseline

    def _before(self, against: Against, context: Context, found: Metric) -> Metric:
        """The metric of the reference; of several windows the median of those that have one."""
        held = [self._metric(s, context, found.labels.get("feature")) for s in against.summaries]
        usable = [m for m in held if m.value is not None]
        if usable and len(usable) >= against.least:
            return median_of(usable) if len(usable) > 1 else usable[0]
        why = next((m.reason for m in held if m.value is None and m.reason), "no rows")
        if against.least > 1:
            why = f"{against.least} windows are needed, and {len(usable) or 'none'} can be used ({why})"
        return absent(found.name, why)

    def _weighed(
        self, found: Metric, before: Metric | None, against: str, inputs: Inputs, step: Millis
    ) -> Finding:
        """Hold the value against the ladder: a breach needs evidence, all clear needs none."""
        condition, value, unit = self.condition, found.value or 0.0, self.info.unit
        reference = None if before is None else before.value
        size = condition.size(value, reference)
        if math.isnan(size):
            reason = f"{_title(found)}: a ratio to {format_value(reference, unit)} says nothing"
            return self._unjudged(found, inputs, step, State.INSUFFICIENT, reason, before)
        proof = self._proof(found, before, inputs)
        severity: Severity | None = None
        for rung, limit in condition.rungs:
            if beyond(size, limit) and (proof is None or condition.excludes(limit, proof)):
                severity = rung
        holding, limit = condition.holding(size), condition.limit(severity)
        state = State.BREACH if severity else State.HOLD if holding else State.OK
        text, change, basis = _said(found, unit), "", None
        if before is not None:
            basis, moved = before.n, condition.print_size(size, value, reference)
            change = f"{moved} (limit {condition.print_size(limit, value, reference)})"
            was = f"{format_value(reference, unit)} (n={basis:,}; {against})"
            text = f"{text}, was {was}: {change}"
        text += _verdict(state, condition, size, severity)
        if found.told and state is State.BREACH:
            text += f": {found.told}"
        return Finding(
            step=step,
            state=state,
            severity=severity,
            holding=holding,
            value=found.value,
            bound=condition.bound(limit, value, reference),
            reference=reference,
            reference_n=basis,
            n=found.n,
            interval=found.interval,
            window=inputs.window,
            unit=unit,
            change=change,
            reason=f"{text}; {ASSUMED}" if self.info.estimated else text,
            clears=condition.clears,
            rows=rows_of_metric(found),
        )

    def _proof(self, found: Metric, before: Metric | None, inputs: Inputs) -> Interval | None:
        """The interval that must lie beyond the bound, or exclude no-change; None where the point decides."""
        if self.evidence == "point":
            return None
        alpha = self.alpha(inputs)
        if before is None:
            return interval_at(found, alpha)
        return change_interval(found, before, alpha / 2 if self.side is Side.CHANGE else alpha)


def _title(found: Metric) -> str:
    """`performance.recall of fraud`."""
    return " of ".join([found.name, *found.labels.values()])


def _said(found: Metric, unit: str) -> str:
    """What was seen, with every number that it rests on: `errors.rate is 2 % (n=1,000; 95 %: 1 % to 3 %)`."""
    # A metric never changes, and all the rules on it say so.
    kept: str | None = found.__dict__.get("_said")
    if kept is None:
        basis = f"n={found.n:,}"
        if found.interval is not None and found.interval[0] != found.interval[1]:
            basis += f"; 95 %: {format_interval(found.interval, unit)}"
        kept = found.__dict__["_said"] = f"{_title(found)} is {format_value(found.value, unit)} ({basis})"
    return kept


def _verdict(state: State, condition: Condition, size: float, severity: Severity | None) -> str:
    """What that means: the end of the sentence."""
    lowest = condition.rungs[0][1]
    match state:
        case State.BREACH:
            return (
                "" if condition.side.compares else f", {condition.limits[severity or condition.rungs[0][0]]}"
            )
        case State.HOLD if beyond(size, lowest):
            return f"; it {condition.wording(lowest)}, but with so few rows that may be chance"
        case State.HOLD:
            return f"; it clears {condition.clears}"
        case _ if condition.side.compares:
            return ""
        case _:
            return f", not {condition.limits[condition.rungs[0][0]]}"
