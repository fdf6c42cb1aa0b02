"""Kind `absence`: no rows of a model, or of a part of it that had rows before."""

from typing import ClassVar, Literal, Self

from msgspec.structs import replace
from pydantic import Field, model_validator

from kedge.alerting.fields import Text, WindowLength
from kedge.alerting.finding import Finding, Severity, State
from kedge.alerting.inputs import Inputs
from kedge.alerting.quantity import COUNT
from kedge.alerting.rule import ALL_VERSIONS, SERVING, Judgement, Rule
from kedge.sketch import PartName, Summary
from kedge.windows import DAY, Millis, format_duration, iso

EXPECTED: Millis = 7 * DAY


class AbsenceRule(Rule):
    """Fires when no rows came in the window, also when nothing at all arrives any more, and clears with the
    first rows. With `by`, each value that had rows in the time before (`history`) is missed by itself.

    Rows that a gateway still holds are waited for, so that an outage of the store is no absence.
    """

    KIND: ClassVar[str] = "absence"

    kind: Literal["absence"] = Field(description="`absence`.")
    version: Text = Field(
        ALL_VERSIONS,
        min_length=1,
        description="`all`, or the name of one version. `serving` means `all` here: a version that goes is "
        "no absence.",
    )
    history: WindowLength = Field(
        EXPECTED,
        json_schema_extra={"default": "7d"},
        description=(
            "With `by`: a value is missed where it had rows in this time before the window. One that is gone "
            "for longer than that does not begin to fire; an alert that fires then stays until rows come, or "
            "somebody resolves it."
        ),
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = []
        if "feature" in self.by:
            problems.append("absence is of rows, which have all features: take `feature` out of `by`")
        if self.min_count:
            problems.append(
                "absence is of no rows at all, so `min_count` says nothing; for too few write "
                f"`metric: volume.count` and `below: {self.min_count}`"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    # --- what the pipeline asks -----------------------------------------------------------------------------

    @property
    def parts(self) -> frozenset[PartName]:
        return frozenset({PartName.CORE})

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
    def grouping(self) -> tuple[str, ...]:
        apart = {"version"} if self.version not in (ALL_VERSIONS, SERVING) else set()
        return tuple(sorted({*self.by} | apart))

    @property
    def looks_back(self) -> Millis:
        return self.history if self.grouping else 0

    def judge_complete(self, summary: Summary, inputs: Inputs, step: Millis) -> list[Judgement]:
        return [({}, self._judge(summary, inputs, step))]

    def _judge(self, summary: Summary, inputs: Inputs, step: Millis) -> Finding:
        """`inputs.before` holds the group's rows in the time before the window, where there are groups."""
        length = format_duration(inputs.window.length)
        draft = Finding(
            step=step,
            state=State.OK,
            value=float(summary.rows),
            n=summary.rows,
            window=inputs.window,
            unit=COUNT,
            clears="with the first rows",
        )
        if summary.rows:
            return replace(draft, reason=f"{summary.rows:,} rows in the {length} to {iso(step)}")
        nothing = f"no rows in the {length} to {iso(step)}"
        if inputs.before is not None:
            span = format_duration(self.history)
            if not inputs.before.rows:
                gone = f"{nothing}, nor in the {span} before"
                return replace(draft, state=State.HOLD, holding=self.severity, reason=gone)
            nothing += f"; {inputs.before.rows:,} in the {span} before"
        elif 0 < inputs.last_rows <= inputs.window.start:
            nothing += f"; the last ones came before {iso(inputs.last_rows)}"
        return replace(draft, state=State.BREACH, severity=self.severity, reason=nothing)
