"""What every kind of rule has. A kind is a model in a module of its own, with a pure `judge_all`."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, WithJsonSchema, field_validator

from kedge.alerting.active import Active
from kedge.alerting.compare import Compare
from kedge.alerting.fields import (
    Budget,
    BudgetField,
    LabelsField,
    Length,
    SeverityField,
    Share,
    Text,
    WindowLength,
    ZoneField,
    reading,
)
from kedge.alerting.finding import Finding, Severity
from kedge.alerting.inputs import Inputs, incomplete
from kedge.alerting.lifecycle import Identity, NoData, Timing
from kedge.errors import BadInput
from kedge.sketch import PartName, Summary
from kedge.windows import DAY, HOUR, MINUTE, WEEK, Millis, Window, format_duration, snap, step_of

Judgement = tuple[dict[str, str], Finding]
"""A finding, with the labels that tell it from its rule's others: `{"feature": "age"}`, or {}."""

ALL_VERSIONS = "all"
SERVING = "serving"
DIMENSIONS = ("version", "service", "host")
"""Besides these, every `segment.NAME` is a dimension."""
_ALWAYS = Window(0, 1 << 62)
_WINTER: Millis = 1_767_225_600_000
"""2026 begins."""
CORRECTED: Millis = 7 * DAY
"""How far back late rows and labels correct alerts at most; of older windows they change metrics alone."""
_NOT_MEANING = {
    *("name", "for_", "keep_firing", "no_data", "active"),
    *("notify", "team", "labels", "runbook", "description"),
    "stat",  # which is part of the metric's name
}


def parse_dimension(raw: Any) -> str:
    if not isinstance(raw, str):
        raise BadInput(f'"{raw}" is not a dimension')
    name = raw.strip().removeprefix("model.") if raw.strip() == "model.version" else raw.strip()
    known = name in (*DIMENSIONS, "feature") or (name.startswith("segment.") and len(name) > len("segment."))
    if not known:
        allowed = ", ".join((*DIMENSIONS, "segment.NAME"))
        hint = f'did you mean "segment.{name}"?' if name.isidentifier() else "write segment.NAME"
        raise BadInput(f'"{raw}" is not a dimension ({hint} Allowed: {allowed})')
    return name


def listed(raw: Any) -> Any:
    """A list of one may be written without its brackets."""
    return [raw] if isinstance(raw, str) else raw


ONE_OR_MORE = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
Dimension = Annotated[str, reading(parse_dimension), WithJsonSchema({"type": "string"})]


def _a_year_of(step: Millis) -> range:
    """Steps of a winter's and a summer's week, and all between them."""
    return range(_WINTER, _WINTER + 30 * WEEK, max(step, 15 * MINUTE))


class Rule(BaseModel, ABC):
    """The fields of every kind."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)

    KIND: ClassVar[str]

    name: Text = Field(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="Names the rule and its alerts; unique over all files. Letters, digits, `-`, `_` and "
        "`.`.",
    )
    model: Text = Field(
        min_length=1, description="The model it watches, or `'*'` for every model, each with its own alert."
    )
    version: Text = Field(
        ALL_VERSIONS,
        min_length=1,
        description=(
            "`all`: versions are judged together. `serving`: each version with over 5 % of the traffic is "
            "judged apart. Else the name of one version."
        ),
    )
    by: Annotated[tuple[Dimension, ...], ONE_OR_MORE] = Field(
        (),
        description=(
            "Dimensions to split by, one alert per value, each with its own state: `version`, `service`, "
            "`host`, `segment.NAME`."
        ),
    )
    window: WindowLength = Field(
        description="How much time is looked at, ending at the step: `10m`, `24h`, `7d`. Slides."
    )
    for_: Length = Field(
        0,
        alias="for",
        description="Fire only when it breached this long without a break; 0 fires at once.",
    )
    keep_firing: Length = Field(
        0, description="Resolve only after it has been ok this long; 0 resolves at once."
    )
    min_count: int = Field(
        0,
        ge=0,
        strict=True,
        description=(
            "Least n, the metric's own, to judge on (recall: positives; shares: rows). Fewer is insufficient "
            "data, which neither fires nor clears."
        ),
    )
    no_data: NoData = Field(
        NoData.KEEP,
        description=(
            "What a window without data means: `keep` leaves the alert as it is, `ok` counts as ok, `alert` "
            "tells."
        ),
    )
    severity: SeverityField = Field(
        Severity.MEDIUM,
        description="What a bound without a severity of its own means; `info` shows on the dashboard only.",
    )
    budget: BudgetField = Field(
        default_factory=Budget,
        description=(
            "False alerts that it may cost: `1 per 30d`. Unless said, it is an equal share of the budget of "
            "the receiver that its highest severity goes to (docs/routing.md). Split over all looks and "
            "groups, it sets how sure a judgement must be."
        ),
    )
    timezone: ZoneField = Field(
        "UTC",
        description="Whose local time `active`, `window: today`, `compare: {to: same_time}` and `kind: "
        "anomaly` mean: `Europe/Berlin` (IANA), summer time included.",
    )
    active: Active | None = Field(
        None,
        description=(
            'When it is judged, by the clock of `timezone`: `{days: mon-fri, hours: "08:00-18:00"}`. A '
            "window no longer than those hours must lie within them, so none begins in the night before. "
            "Outside them alerts stand as they are, and what was pending begins anew."
        ),
    )
    notify: Text = Field("", description="The receiver of its alerts, by name; empty is the default one.")
    team: Text = Field("", description="Whose it is: the label `team`, for routes and silences.")
    labels: LabelsField = Field(
        default_factory=dict,
        description=(
            "More labels for routes and silences: `{tier: gold}`. What an alert is itself (rule, model, "
            "version, severity, group) wins."
        ),
    )
    runbook: Text = Field("", description="A link for whoever is called.")
    description: Text = Field("", description="What it means when this fires, in a sentence or two.")

    _place: str = PrivateAttr("")
    _share: Share | None = PrivateAttr(None)

    _list_by = field_validator("by", mode="before")(listed)

    @field_validator("by")
    @classmethod
    def _distinct(cls, by: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(by)) < len(by):
            raise ValueError("names a dimension twice")
        return by

    # --- what the pipeline asks -----------------------------------------------------------------------------

    def judge_all(self, inputs: Inputs, step: Millis) -> list[Judgement]:
        """What the rule finds at a step: a Finding for each of its alerts in this group. Pure.

        One that fans out over features finds nothing where it cannot know them.
        """
        if inputs.summary is None or not inputs.complete:
            return [] if self.fans_out else [({}, incomplete(inputs, step))]
        return self.judge_complete(inputs.summary, inputs, step)

    @abstractmethod
    def judge_complete(self, summary: Summary, inputs: Inputs, step: Millis) -> list[Judgement]:
        """The same, of a window that is summarised whole."""

    @property
    def fans_out(self) -> bool:
        """Its alerts are told apart by a label of the metric, besides their group."""
        return "feature" in self.by

    @property
    @abstractmethod
    def parts(self) -> frozenset[PartName]:
        """The parts of summaries that it reads."""

    @property
    @abstractmethod
    def compares(self) -> bool:
        """Whether it needs a reference."""

    @property
    def other_reference(self) -> Compare | None:
        """What it compares with where that is not the baseline."""
        return None

    @property
    def looks_back(self) -> Millis:
        """How much time before its window it looks at besides, as a whole."""
        return 0

    @property
    def grows(self) -> bool:
        """What it watches grows with the window, so what it is compared with must be just as long."""
        return False

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed, and rarely meant."""
        found = () if self.other_reference is None else tuple(self.other_reference.warnings())
        if self.active is not None and not any(map(self.span, _a_year_of(step_of(self.window, MINUTE)))):
            found += ("is never judged: no step of its window falls into its `active` hours",)
        return found

    @property
    @abstractmethod
    def lowest(self) -> Severity:
        """Of its rungs."""

    @property
    def label_based(self) -> bool:
        """Its windows end at the newest mature bucket."""
        return PartName.LABELS in self.parts

    @property
    def reads_arrivals(self) -> bool:
        """It asks for what gateways counted as rows arrived."""
        return False

    @property
    def reads_runs(self) -> bool:
        """It asks for how long features have held one value, which takes a window's newest buckets apart."""
        return False

    @property
    def reads_importance(self) -> bool:
        """It asks which features of the model matter most."""
        return False

    @cached_property
    def grouping(self) -> tuple[str, ...]:
        """The dimensions that its summaries are grouped by, sorted; `version` where versions are apart."""
        apart = {"version"} if self.version != ALL_VERSIONS else set()
        return tuple(sorted(({*self.by} | apart) - {"feature"}))

    def reach(self, step: Millis) -> Millis:
        """How far back of a step it reads."""
        return self.window

    def bounds(self, step: Millis, width: Millis, base: Millis) -> Window:
        """What is looked at at a step, of those that are `width` apart and of buckets of `base`, wherever
        the rule's active hours begin."""
        return snap(Window(step - max(self.reach(step), width), step), base)

    def step(self, base: Millis) -> Millis:
        """How often it is judged, for a model with base buckets of that width.

        Raises BadInput for a window shorter than the base bucket.
        """
        if self.window < base:
            raise BadInput(
                f'rule "{self.name}": window {format_duration(self.window)} is shorter than the base bucket '
                f"of the "
                f"model, {format_duration(base)}: use a longer window, or a finer bucket",
                self.place,
            )
        return step_of(self.window, base)

    @property
    def slides(self) -> bool:
        """Its window ends at the step and is `window` long."""
        return True

    def span(self, step: Millis) -> Window | None:
        """The time around a step that its window may begin in: None where it is not judged then, for it is
        not `active`, or its window would begin before the hours in which it is.
        """
        if self.active is None:
            return _ALWAYS
        span = self.active.span(step, self.timezone)
        if span is None or not self.slides or self.window > span.length:
            return span and _ALWAYS
        return span if span.start <= step - self.window else None

    @property
    def keeps_budget(self) -> bool:
        """Whether how sure it must be follows from a budget: what judges by a bare value takes no share."""
        return True

    @property
    def budget_share(self) -> Share | None:
        """Its part of its receiver's budget, where it has one (kedge.alerting.budgets)."""
        return self._share

    @cached_property
    def allowance(self) -> Budget:
        """The false alerts that it may cost: its own `budget`, else its share, else the default."""
        return self.budget if self._share is None else self._share.budget

    @property
    def costs(self) -> Budget:
        """The false alerts that it does cost at most, for one group."""
        return self.allowance

    def alpha(self, inputs: Inputs) -> float:
        """The chance of a false alarm that a look at one group may carry: the budget over looks x groups."""
        return self.allowance.alpha(inputs.every or step_of(self.window, MINUTE), inputs.groups)

    @property
    def remembers(self) -> Millis:
        """How far back of a window it must be known when its alerts fired; 0: not at all."""
        return self.other_reference.history if self.other_reference else 0

    @cached_property
    def timing(self) -> Timing:
        # Until a time at which it fired lies before the history of every window that may still be judged.
        remember = self.remembers + self.window + 2 * DAY if self.remembers else 0
        return Timing(
            self.for_,
            self.keep_firing,
            self.no_data,
            remember,
            corrects=min(self.window + self.for_ + self.keep_firing, CORRECTED),
            flap_within=max(HOUR, 3 * self.window),
            level=str(self.allowance) if self._share else "",
        )

    @cached_property
    def identity(self) -> Identity:
        return Identity(
            signature=self.signature,
            severity=self.lowest,
            notify=self.notify,
            place=self.place,
            runbook=self.runbook,
            description=self.description,
            labels=({"team": self.team} if self.team else {}) | self.labels,
        )

    @cached_property
    def signature(self) -> str:
        """A hash of what it judges. Not of its name, texts or timing: the fold applies those as they are."""
        meaning = self.model_dump(mode="json", exclude=_NOT_MEANING)
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def place(self) -> str:
        """Where it is written: `rules/fraud.yml:12`."""
        return self._place

    @property
    def file(self) -> str:
        return self._place.rpartition(":")[0]

    def placed(self, place: str) -> "Rule":
        """The same rule, written there."""
        copy = self.model_copy()
        copy._place = place
        copy.__dict__.pop("identity", None)  # which says the place
        return copy

    def with_share(self, share: Share | None) -> "Rule":
        """The same rule, with that part of its receiver's budget. What it means, and so its `signature`, is
        as before: what fires goes on firing when the shares of a receiver change, and no late row takes back
        what was decided at another."""
        copy = self.model_copy()
        copy._share = share
        for known in ("allowance", "timing"):  # which say the level
            copy.__dict__.pop(known, None)
        return copy

    def uncorrected(self) -> "Rule":
        """The same rule, where no late rows or labels will correct what it found."""
        copy = self.model_copy()
        copy.__dict__["timing"] = replace(self.timing, corrects=0)
        return copy

    @classmethod
    def field_names(cls) -> Sequence[str]:
        """As people write them."""
        return [field.alias or name for name, field in cls.model_fields.items()]
