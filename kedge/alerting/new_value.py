"""Kind `new_value`: values of a field that were never seen before."""

from typing import Annotated, Any, ClassVar, Literal, Self

from msgspec.structs import replace
from pydantic import Field, WithJsonSchema, field_validator, model_validator

from kedge.alerting.fields import Text, WindowLength, checked, reading
from kedge.alerting.finding import Finding, Severity, State
from kedge.alerting.inputs import Inputs, NewValue
from kedge.alerting.quantity import COUNT
from kedge.alerting.rule import ONE_OR_MORE, Judgement, Rule, parse_dimension
from kedge.errors import BadInput
from kedge.sketch import PartName, Summary
from kedge.windows import DAY, Millis

HISTORY: Millis = 30 * DAY
CLASS = "prediction.class"
FEATURE = "features.cat."
MOST_ALERTS = 20
"""New values that get an alert of their own at a step."""
MOST_NAMED = 5
MOST_CHARACTERS = 60
_OTHER_NAMES = {"model.version": "version", "service.name": "service", "host.name": "host", "class": CLASS}
_NAMES = "features.cat.NAME, prediction.class, segment.NAME, version, service, host"
VALUE = "value"
"""What a rule splits by for an alert of each value."""


def check_field(raw: str) -> str:
    """The name of a field whose values can be told; raises BadInput."""
    name = _OTHER_NAMES.get(raw, raw)
    if name in (CLASS, "version", "service", "host"):
        return name
    for prefix in (FEATURE, "segment."):
        if name.startswith(prefix) and len(name) > len(prefix):
            return name
    if name.startswith("features.num."):
        raise BadInput(
            f'"{raw}" holds numbers, which are new all the time: for those out of range write '
            "`metric: quality.out_of_range`"
        )
    hint = f'did you mean "{FEATURE}{name}"? Allowed' if name and "." not in name else "allowed"
    raise BadInput(f'"{raw}" is no field of text ({hint}: {_NAMES})')


def _dimension(raw: Any) -> str:
    return VALUE if raw == VALUE else parse_dimension(raw)


ValueOrDimension = Annotated[str, reading(_dimension), WithJsonSchema({"type": "string"})]


class NewValueRule(Rule):
    """Fires when a field has values that the baseline has never seen; without a baseline, or with `history`,
    that were not seen in that time before the window. It names them, with their rows and the newest of those.

    Against a baseline it clears when they are gone, or a new baseline knows them. Against history it clears
    by itself once a value is older than the window.
    """

    KIND: ClassVar[str] = "new_value"

    kind: Literal["new_value"] = Field(description="`new_value`.")
    field: Text = Field(description=f"Whose values: one of {_NAMES}.")
    history: WindowLength | None = Field(
        None,
        description=(
            "Values seen in this time before the window are known; 30d unless said. Without it those of the "
            "baseline are, where that has the field."
        ),
    )
    by: Annotated[tuple[ValueOrDimension, ...], ONE_OR_MORE] = Field(
        (),
        description=(
            "`value`: an alert for each new value, with the field as its label, 20 at a time. Else one alert "
            "lists them. Also dimensions, as in every rule."
        ),
    )
    window: WindowLength = Field(
        DAY,
        json_schema_extra={"default": "24h"},
        description="How much time is looked at for new values, ending at the step.",
    )
    min_count: int = Field(
        1,
        ge=1,
        strict=True,
        description="Rows of a value in the window from which on it counts as new.",
    )

    @field_validator("field")
    @classmethod
    def _has_values(cls, field: str) -> str:
        return checked(check_field, field)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = []
        if "feature" in self.by:
            problems.append("`field` says whose values are looked at: take `feature` out of `by`")
        if self.field in self.by:
            problems.append(f"`by: [{self.field}]` would look at one value at a time: write `by: [value]`")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    # --- what the pipeline asks -----------------------------------------------------------------------------

    @property
    def feature(self) -> str | None:
        """The feature that is meant, where it is one."""
        return self.field.removeprefix(FEATURE) if self.field.startswith(FEATURE) else None

    @property
    def parts(self) -> frozenset[PartName]:
        counted = self.feature is not None and self.history is None
        return frozenset({PartName.CORE, PartName.CELLS} if counted else {PartName.CORE})

    @property
    def keeps_budget(self) -> bool:
        return False

    @property
    def compares(self) -> bool:
        return False

    @property
    def lowest(self) -> Severity:
        return self.severity

    @property
    def fans_out(self) -> bool:
        return VALUE in self.by

    @property
    def grouping(self) -> tuple[str, ...]:
        return tuple(name for name in super().grouping if name != VALUE)

    def judge_complete(self, summary: Summary, inputs: Inputs, step: Millis) -> list[Judgement]:
        """`inputs.appeared` holds the new values."""
        draft = Finding(
            step=step, state=State.OK, window=inputs.window, unit=COUNT, clears="when there are none"
        )
        appeared = inputs.appeared
        if not summary.rows:
            found = replace(draft, state=State.NO_DATA, reason="no rows in the window")
        elif appeared is None or appeared.reason:
            why = appeared.reason if appeared else "the rows are not at hand"
            found = replace(draft, state=State.INSUFFICIENT, n=summary.rows, reason=f"{self.field}: {why}")
        else:
            enough = [value for value in appeared.values if value.rows >= self.min_count]
            few = [value for value in appeared.values if value.rows < self.min_count]
            if self.fans_out:
                return self._apart(draft, enough, few, inputs, appeared.known_by)
            return [({}, self._together(draft, enough, few, appeared.known_by, appeared.more))]
        return [(own, found) for own in self._own(inputs)] if self.fans_out else [({}, found)]

    def _together(
        self, draft: Finding, enough: list[NewValue], few: list[NewValue], known_by: str, more: bool
    ) -> Finding:
        rows = sum(value.rows for value in enough or few)
        if enough:
            over = "over " if more else ""
            values = "a value" if len(enough) == 1 else f"{over}{len(enough):,} values"
            named = ", ".join(_named(value) for value in enough[:MOST_NAMED])
            left = len(enough) - MOST_NAMED
            named += f" and {left:,} more" if left > 0 else ""
            reason = f"{self.field} has {values} that {known_by} did not have: {named}"
            return replace(draft, state=State.BREACH, severity=self.severity, n=rows, reason=reason)
        if few:
            return replace(draft, state=State.INSUFFICIENT, n=rows, reason=self._few(few, known_by))
        return replace(draft, reason=f"{self.field} has no value that {known_by} did not have")

    def _few(self, few: list[NewValue], known_by: str) -> str:
        named = ", ".join(_named(value) for value in few[:MOST_NAMED])
        return f"{self.field}: new since {known_by}, but under min_count {self.min_count:,}: {named}"

    def _apart(
        self, draft: Finding, enough: list[NewValue], few: list[NewValue], inputs: Inputs, known_by: str
    ) -> list[Judgement]:
        """A finding for each value that is new, and for each that has an alert already."""
        alerts = {own[self.field]: own for own in self._own(inputs)}
        found: list[Judgement] = []
        begun = 0
        for value in enough:
            if value.value not in alerts and begun == MOST_ALERTS:
                continue
            begun += value.value not in alerts
            one = self._together(draft, [value], [], known_by, more=False)
            found.append((alerts.pop(value.value, {self.field: value.value}), one))
        for value in few:
            if value.value in alerts:
                one = self._together(draft, [], [value], known_by, more=False)
                found.append((alerts.pop(value.value), one))
        gone = f"{self.field} has it no more, or {known_by} knows it by now"
        return found + [(own, replace(draft, reason=gone)) for own in alerts.values()]

    def _own(self, inputs: Inputs) -> list[dict[str, str]]:
        return [{self.field: own[self.field]} for own in inputs.own if self.field in own]


def _named(value: NewValue) -> str:
    """`"crypto" (31 rows; evt-1, evt-2)`."""
    text = value.value if len(value.value) <= MOST_CHARACTERS else value.value[: MOST_CHARACTERS - 1] + "…"
    rows = "1 row" if value.rows == 1 else f"{value.rows:,} rows"
    return f'"{text}" ({"; ".join([rows, *([", ".join(value.examples)] if value.examples else [])])})'
