"""Kind `versions`: one version of a model against another: promote, roll back, or keep waiting.

The counts of both begin at a fixed start and only grow, so the verdict holds under any number of looks
(`kedge.analysis.versions`). A window that slides would begin anew with every look: this kind's `window` is
only how long a comparison lasts.
"""

from datetime import date
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from msgspec.structs import replace
from pydantic import Field, PlainSerializer, ValidationInfo, WithJsonSchema, field_validator, model_validator

from kedge.alerting.condition import Scale, Side, scale_of
from kedge.alerting.fields import QuantityField, Text, WindowLength, checked, reading
from kedge.alerting.finding import Finding, Severity, State
from kedge.alerting.inputs import Inputs
from kedge.alerting.metric_name import FAMILIES, StatField, with_stat
from kedge.alerting.quantity import RATIO, Quantity, as_value
from kedge.alerting.rule import Judgement, Rule
from kedge.analysis.additive import AVERAGED, is_additive
from kedge.analysis.catalogue import METRICS, Bad, MetricInfo, lookup
from kedge.analysis.measure import Context, metric
from kedge.analysis.metric import Metric
from kedge.analysis.versions import Decision, Margin, VersionComparison, check_margin, compare_versions
from kedge.errors import BadInput
from kedge.sketch import PartName, Summary
from kedge.windows import DAY, MINUTE, Millis, format_duration, iso, parse_time

OTHERS = "others"
LOOK_EVERY = 15 * MINUTE
"""Looks cost no certainty here, so there is no reason to wait for a 24th of the window."""
MOST_ALPHA = 0.01


def comparable(info: MetricInfo) -> bool:
    """Shares and means of rows. Not how many labels came so far, which grows by itself."""
    return is_additive(info) and not info.name.startswith("label.")


COMPARABLE = [name for name, info in METRICS.items() if comparable(info)]


def check_comparable(raw: str) -> MetricInfo:
    """The metric of that name; raises BadInput with those that can be compared."""
    info = lookup(raw)
    if not comparable(info):
        raise BadInput(
            f"{info.name} is no share or mean of rows, so versions cannot be compared by it "
            f"(allowed: {', '.join(COMPARABLE)})"
        )
    return info


def margin_of(quantity: Quantity, info: MetricInfo) -> Margin:
    """What a rule, or a person, calls harmless; raises BadInput."""
    if quantity.unit == "pp" and info.unit != RATIO:
        raise BadInput(
            f"{quantity}: points are for shares, and {info.name} is none: write 10% (of the reference)"
        )
    scale = scale_of(Side.RISE, quantity, info)
    if scale is Scale.TIMES:
        raise BadInput(f"{quantity}: a margin is a size, not a ratio: write 10% (of the reference) or 1pp")
    relative = scale is Scale.RELATIVE
    if relative and info.name == "performance.bias":
        raise BadInput(
            f"{info.name} may be negative, so no share of it is a margin: write it in its own unit"
        )
    points = relative or quantity.unit == "pp"
    margin = Margin(quantity.value / 100 if points else as_value(quantity, info.unit, info.name), relative)
    check_margin(info, margin)
    return margin


def _time(raw: Any) -> Millis:
    if isinstance(raw, date):
        return parse_time(raw.isoformat())
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw  # as a rule that was read already holds it
    return parse_time(str(raw))


class VersionsRule(Rule):
    """Compares a new version with the one before it, and fires when it is to be rolled back: when its metric
    is credibly worse by more than `margin`, at any look. Once it is credibly not worse by more than that, the
    finding says `promote`; until then, how many rows are lacking. Counts begin with the first row of the
    candidate, or at `since`.
    """

    KIND: ClassVar[str] = "versions"

    kind: Literal["versions"] = Field(description="`versions`.")
    metric: Annotated[str, WithJsonSchema({"type": "string", "enum": [*COMPARABLE, *FAMILIES]})] = Field(
        description="What is compared: a share or a mean of rows, such as `errors.rate`, `latency.mean`."
    )
    stat: StatField = None
    cls: Text | None = Field(
        None, alias="class", description="The class whose share, precision or recall is meant."
    )
    feature: Text | None = Field(None, description="The feature that is meant, for `quality.*`.")
    candidate: Text = Field(min_length=1, description="The new version, as its logs name it.")
    reference: Text = Field(
        OTHERS,
        min_length=1,
        description="The version it is compared with; `others`: all other versions together.",
    )
    margin: QuantityField = Field(
        description=(
            "How much worse is harmless: `1pp` (points of a share), `10%` (of the reference), `20ms`. With "
            "`0pp` or `0%` only a version that is better is promoted."
        )
    )
    since: Annotated[
        Millis | None,
        reading(_time),
        PlainSerializer(lambda t: None if t is None else iso(t), return_type=str | None),
        WithJsonSchema({"type": "string"}),
    ] = Field(
        None,
        description="It begins at this time (RFC 3339) or later; else with the candidate's first row.",
    )
    window: WindowLength = Field(
        7 * DAY,
        json_schema_extra={"default": "7d"},
        description=(
            "How long a comparison lasts from its start, at most: it does not slide. It is judged every 15 "
            "minutes. A candidate that began more than twice as long ago needs `since`."
        ),
    )

    _one_name = model_validator(mode="before")(with_stat)

    @field_validator("metric")
    @classmethod
    def _comparable(cls, metric: str) -> str:
        return checked(check_comparable, metric).name

    @field_validator("margin")
    @classmethod
    def _margin(cls, margin: Quantity, info: ValidationInfo) -> Quantity:
        if "metric" in info.data:
            checked(margin_of, margin, lookup(info.data["metric"]))
        return margin

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = []
        info = self.info
        for label, value in (("class", self.cls), ("feature", self.feature)):
            if value is not None and info.takes != label:
                problems.append(f"{info.name} is not of one {label}: leave it out")
            elif value is None and info.takes == label and info.must:
                problems.append(f"{info.name} is of one {label}: write `{label}: NAME`")
        if self.candidate in (self.reference, OTHERS):
            problems.append(f'"{self.candidate}" is compared with itself: name two versions')
        if {"version", "feature"} & set(self.by):
            problems.append("`by` splits by segments here: the versions are those two, the feature `feature`")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    # --- what the pipeline asks -----------------------------------------------------------------------------

    @property
    def info(self) -> MetricInfo:
        return lookup(self.metric)

    @property
    def parts(self) -> frozenset[PartName]:
        return self.info.parts

    @property
    def compares(self) -> bool:
        return False

    @property
    def lowest(self) -> Severity:
        return self.severity

    @property
    def label_based(self) -> bool:
        return self.info.label_based

    @cached_property
    def grouping(self) -> tuple[str, ...]:
        return tuple(sorted({*self.by, "version"}))

    @property
    def slides(self) -> bool:
        return False

    def reach(self, step: Millis) -> Millis:
        """Far enough back to find the candidate's first row, even when the comparison is over."""
        return max(step - self.since, 0) if self.since is not None else 2 * self.window

    def step(self, base: Millis) -> Millis:
        return max(base, min(LOOK_EVERY, super().step(base)))

    def alpha(self, inputs: Inputs) -> float:
        """Of a whole comparison, however often it is looked at: the budget over the comparisons that fit into
        its time, and the groups.
        """
        return min(self.allowance.alpha(self.window, inputs.groups), MOST_ALPHA)

    def of_reference(self, version: str) -> bool:
        """Whether a version's rows are the reference's."""
        return version != self.candidate if self.reference == OTHERS else version == self.reference

    def judge_complete(self, summary: Summary, inputs: Inputs, step: Millis) -> list[Judgement]:
        """`summary` is the candidate's, `inputs.reference` the other's, both since the start of
        `inputs.window`; an empty window says that the start is not known.
        """
        return [({}, self._judge(summary, inputs, step))]

    def _judge(self, summary: Summary, inputs: Inputs, step: Millis) -> Finding:
        draft = Finding(step=step, state=State.OK, window=inputs.window, unit=self.info.unit)
        if inputs.window.length <= 0:
            ago = format_duration(2 * self.window)
            early = f"{self.candidate} began more than {ago} ago: say from when to compare with `since`"
            return replace(draft, state=State.INSUFFICIENT, reason=early)
        if not summary.rows:
            return replace(draft, state=State.NO_DATA, reason=f"{self.candidate} has no rows yet")
        context = Context(inputs.positive_class, None, inputs.edges)
        ours, theirs = (self._read(s, context) for s in (summary, inputs.reference or Summary()))
        found = self.compared(ours, theirs, self.alpha(inputs))
        draft = replace(
            draft,
            value=ours.value,
            n=ours.n,
            interval=ours.interval,
            reference=theirs.value,
            reference_n=theirs.n if theirs.value is not None else None,
            bound=self._bound(found),
            clears=f"once {self.candidate} gets no traffic any more",
        )
        if found.decision is Decision.ROLL_BACK and not inputs.live:
            gone = f"{self.candidate} gets no traffic any more; {found.explain()}"
            return replace(draft, reason=gone)
        if found.reason and self._averaged(inputs):
            each = f"{self.metric} is an average over classes: name one with `class`"
            return replace(draft, state=State.INSUFFICIENT, reason=each)
        if min(ours.n, theirs.n) < self.min_count:
            few = (
                f"{self.metric} rests on n={ours.n:,} and {theirs.n:,}, under min_count {self.min_count:,} "
                f"(of {self.info.counts})"
            )
            return replace(draft, state=State.INSUFFICIENT, reason=few)
        draft = replace(draft, reason=found.explain(), change=found.change_text)
        match found.decision:
            case Decision.ROLL_BACK:
                return replace(draft, state=State.BREACH, severity=self.severity)
            case Decision.PROMOTE:
                return draft
            case Decision.WAIT:
                over = inputs.window.end < step
                ended = (
                    f"; {format_duration(self.window)} are over: a longer `window` counts on" if over else ""
                )
                return replace(draft, state=State.INSUFFICIENT, reason=draft.reason + ended)

    def compared(self, candidate: Metric, reference: Metric, alpha: float) -> VersionComparison:
        margin = margin_of(self.margin, self.info)
        names = (self.candidate, "all others" if self.reference == OTHERS else self.reference)
        return compare_versions(self.info, candidate, reference, margin, alpha, names=names)

    def _averaged(self, inputs: Inputs) -> bool:
        last = self.metric.rpartition(".")[2]
        return last in AVERAGED and self.cls is None and inputs.positive_class is None

    def _read(self, summary: Summary, context: Context) -> Metric:
        return metric(self.metric, summary, context, cls=self.cls, feature=self.feature)

    def _bound(self, found: VersionComparison) -> float | None:
        """The candidate's value at which it would be worse by just the margin."""
        before = found.reference.value
        if before is None:
            return None
        size = found.margin.size * (abs(before) if found.margin.relative else 1.0)
        falls = found.bad is Bad.DOWN or (found.bad is Bad.BOTH and (found.change or 0.0) < 0)
        return before - size if falls else before + size
