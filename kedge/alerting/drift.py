"""Kind `drift`: features, or the predictions, moved by more than is harmless since the reference.

The test asks whether the shift is credibly more than the tolerance (STATISTICS.md "Verdicts"), so neither
much data nor little data makes a harmless shift alarm.
"""

import dataclasses
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

from msgspec.structs import replace
from pydantic import Field, field_validator, model_validator

from kedge.alerting.compare import MEANING, Compare
from kedge.alerting.condition import beyond
from kedge.alerting.fields import Bounds, BoundsField, checked
from kedge.alerting.finding import BORROWED, Finding, Severity, State, capped
from kedge.alerting.important import FeaturesField, Top
from kedge.alerting.inputs import Inputs
from kedge.alerting.plain_drift import (
    P_BELOW,
    PSI_ABOVE,
    Plain,
    TestName,
    by_test,
    found_one,
    found_share,
    of_classes,
)
from kedge.alerting.quantity import RATIO, as_value, format_value
from kedge.alerting.rule import ALL_VERSIONS, Judgement, Rule
from kedge.analysis.classes import class_shift
from kedge.analysis.drift import RESTLESS, TOLERANCE, DriftSettings, FeatureDrift, counted, drift, drifted_of
from kedge.analysis.drift_metrics import drift_share
from kedge.analysis.faulty import rows_of_shift
from kedge.analysis.metric import Verdict
from kedge.analysis.predictions import prediction_shift
from kedge.errors import BadInput
from kedge.sketch import PartName, Summary, total
from kedge.windows import Millis

MOST_CAUSES = 10
HIGH_TOLERANCE = 0.1


class DriftRule(Rule):
    """Fires when the inputs or the predictions of a model no longer look like its reference.

    With `share` it judges how many features drifted; without, each feature by itself (`by: [feature]`); with
    `of: classes` the predicted classes as a whole, with `of: predictions` also how sure it is of them.
    """

    KIND: ClassVar[str] = "drift"

    kind: Literal["drift"] = Field(description="`drift`.")
    of: Literal["features", "classes", "predictions"] = Field(
        "features",
        description="What is compared: the model's input features, the classes that it predicts, or its "
        "predictions: classes by confidence, or values.",
    )
    features: FeaturesField = Field(
        (),
        description="Only these features: by name, or `{top: 3}`, the three most important ones, as "
        "`importance` in kedge.yml states them, else by the mean absolute attribution in the baseline. All "
        "that have a reference otherwise.",
    )
    tolerance: BoundsField | None = Field(
        None,
        description=(
            "The effect size that is still harmless; 0.05 unless said, for classes and predictions `{medium: "
            "0.05, high: 0.1}`. It is drift when the shift is credibly more. A ladder where each thing is "
            "judged by itself (features are `info` unless said), one value with `share`."
        ),
    )
    share: BoundsField | None = Field(
        None,
        description="Breaches when more than this share of the features drifted: `30%`, `{medium: 10%, high: "
        "30%}`. Where `features` are named, any of them unless said.",
    )

    compare: Compare | None = Field(
        None,
        description=f"What the shift is measured against; the baseline unless said. Edges of features are "
        f"always the baseline's. {MEANING} Of drift, the weeks of `same_time` count together.",
    )
    test: TestName = Field(
        "tolerance",
        description=(
            "How it is judged. `tolerance`: is the shift credibly more than is harmless, at the level that "
            "`budget` allows. By name, for those who must: `psi` (over ten bins, `above` 0.2), `ks` (numeric "
            "features only) and `chi2` (`p` below 0.05); values outside the reference's range count in the "
            "outer cells. These keep no budget. With nothing drifting, `chi2` alarms at 5 % and `ks` at 3 % "
            "of looks and features, `psi` at 2 % with 100 rows; on 50,000 rows `ks` and `chi2` alarm at 87 % "
            "and 100 % for a tenth of the tolerance (docs/false-alarms.md)."
        ),
    )
    above: float | None = Field(
        None, gt=0, description="Of `test: psi`: it is drift above this index; 0.2 unless said."
    )
    p: float | None = Field(
        None, gt=0, lt=1, description="Of `test: ks` and `chi2`: it is drift below this p value; 0.05."
    )

    @field_validator("tolerance")
    @classmethod
    def _effects(cls, bounds: Bounds | None) -> Bounds | None:
        if bounds is not None:
            checked(_rungs, bounds, "", "the tolerance, an effect size")
        return bounds

    @field_validator("share")
    @classmethod
    def _shares(cls, bounds: Bounds | None) -> Bounds | None:
        if bounds is not None:
            checked(_rungs, bounds, RATIO, "the share of features")
        return bounds

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = []
        apart = "feature" in self.by
        if self.of != "features" and (apart or self.features or self.share):
            problems.append(
                f"`of: {self.of}` is one thing: leave out `share`, `features` and `by: [feature]`"
            )
        elif self.of == "features" and self.share is None and not apart and not self.features:
            problems.append(
                "say what to judge: `share: 30%`, each by itself (`by: [feature]`), any of some (`features: "
                "[amount]`), `of: classes` or `of: predictions`"
            )
        elif self.share is not None and apart:
            problems.append(
                "`share` is of all features together: leave out `by: [feature]`, or write two rules"
            )
        if self.share is not None and self.tolerance is not None and len(self.tolerance.rungs) > 1:
            problems.append("with `share`, `tolerance` is one value: the ladder is that of `share`")
        if self._any_of and self.tolerance is not None and len(self.tolerance.rungs) > 1:
            problems.append("of features together `tolerance` is one value: write `share` or `by: [feature]`")
        if self.above is not None and self.test != "psi":
            problems.append("`above` goes with `test: psi`")
        if self.p is not None and self.test not in ("ks", "chi2"):
            problems.append("`p` goes with `test: ks` or `test: chi2`")
        if self.tolerance is not None and self.test != "tolerance":
            problems.append(f"`tolerance` is not for `test: {self.test}`, which has a bound of its own")
        if self.compare is not None:
            problems += self.compare.problems(self.version, self.by, ALL_VERSIONS)
        if self.test == "ks" and self.of == "classes":
            problems.append("`test: ks` is for numeric features: classes have no order")
        if self.test != "tolerance" and self.of == "predictions":
            problems.append("`of: predictions` is judged by its tolerance: leave out `test`")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    # --- what the pipeline asks -----------------------------------------------------------------------------

    @property
    def parts(self) -> frozenset[PartName]:
        return frozenset({PartName.CORE} if self.of == "classes" else {PartName.CORE, PartName.CELLS})

    @property
    def keeps_budget(self) -> bool:
        return self.test == "tolerance"

    @property
    def compares(self) -> bool:
        return True

    @property
    def other_reference(self) -> Compare | None:
        return None if self.compare is None or self.compare.to == "baseline" else self.compare

    @property
    def lowest(self) -> Severity:
        return self.rungs[0][0]

    @property
    def rungs(self) -> list[tuple[Severity, float]]:
        """What fires: shares of features, or effect sizes; lowest first."""
        if self.share is not None:
            return _rungs(self.share, RATIO, "", self.severity)
        if self._any_of:
            return [(self.severity, 0.0)]
        if self.test != "tolerance":
            return [(self._bare, self.limit)]
        if self.tolerance is None and self.of != "features" and not self._severity_given:
            return [(Severity.MEDIUM, TOLERANCE), (Severity.HIGH, HIGH_TOLERANCE)]
        bare = self._bare
        return [(bare, TOLERANCE)] if self.tolerance is None else _rungs(self.tolerance, "", "", bare)

    @property
    def _any_of(self) -> bool:
        """One of the features that it names is enough."""
        together = self.of == "features" and "feature" not in self.by
        return together and self.share is None and bool(self.features)

    @property
    def limit(self) -> float:
        """Of a test by name: the PSI or the p value from which it is drift."""
        if self.test == "psi":
            return PSI_ABOVE if self.above is None else self.above
        return P_BELOW if self.p is None else self.p

    @property
    def _bare(self) -> Severity:
        """What a bound without a severity of its own means: a single feature pages nobody unless told to."""
        return self.severity if self.of != "features" or self._severity_given else Severity.INFO

    @property
    def _named(self) -> tuple[str, ...] | None:
        """The features to look at; None: all."""
        return None if isinstance(self.features, Top) else self.features or None

    @property
    def _severity_given(self) -> bool:
        return "severity" in self.model_fields_set

    @property
    def reads_importance(self) -> bool:
        return isinstance(self.features, Top)

    def judge_complete(self, summary: Summary, inputs: Inputs, step: Millis) -> list[Judgement]:
        if isinstance(self.features, Top):
            return self._judge_top(self.features, summary, inputs, step)
        draft = Finding(step=step, state=State.OK, window=inputs.window)
        if self.other_reference is not None and (inputs.edges is not None or self.of != "features"):
            inputs, lacking = _of_windows(inputs, each=self.fans_out)
        else:
            lacking = "there is no baseline to compare with: create one with `kedge baseline create`"
        reference = inputs.reference
        if reference is None:
            return [] if self.fans_out else [({}, replace(draft, state=State.INSUFFICIENT, reason=lacking))]
        if self.test != "tolerance":
            return self._judge_plainly(draft, summary, reference, inputs)
        if self.fans_out:
            return self._judge_features(draft, summary, reference, inputs)
        if not summary.rows:
            return [({}, replace(draft, state=State.NO_DATA, reason="no rows in the window"))]
        if self.of == "classes":
            return [({}, self._judge_classes(draft, summary, reference, inputs))]
        if self.of == "predictions":
            return [({}, self._judge_predictions(draft, summary, reference, inputs))]
        return [({}, self._judge_share(draft, summary, reference, inputs))]

    def _judge_top(self, top: Top, summary: Summary, inputs: Inputs, step: Millis) -> list[Judgement]:
        """As by the names of the most important features; each finding tells which those are."""
        draft = Finding(step=step, state=State.INSUFFICIENT, window=inputs.window)
        try:
            names = top.of(inputs.importance)
        except BadInput as e:
            return [({}, replace(draft, reason=e.reason))]
        told = f"most important: {', '.join(names)} ({inputs.importance.known_by})"
        uncounted = [name for name in names if inputs.edges and name not in inputs.edges.features]
        if uncounted and not self.fans_out:
            told += f"; {', '.join(uncounted)} cannot be judged: no feature of the baseline"
        by_name = self.model_copy(update={"features": names})
        found = by_name.judge_complete(summary, inputs, step)
        if self.fans_out and inputs.reference is not None:
            lacking = replace(draft, reason="it is no feature of the baseline, so nothing can be judged")
            found += [({"feature": name}, lacking) for name in uncounted]
        return [(labels, replace(one, reason=f"{one.reason}; {told}")) for labels, one in found]

    def _judge_plainly(
        self, draft: Finding, summary: Summary, reference: Summary, inputs: Inputs
    ) -> list[Judgement]:
        """By a test with a name."""
        against = inputs.reference_name or "the reference"
        if not self.fans_out and not summary.rows:
            return [({}, replace(draft, state=State.NO_DATA, reason="no rows in the window"))]
        if self.of == "classes":
            if summary.core is None or reference.core is None:
                return [
                    ({}, replace(draft, state=State.NO_DATA, reason="the predicted classes were not counted"))
                ]
            one = of_classes(self.test, self.limit, reference.core.classes, summary.core.classes)
            return [({}, found_one(draft, one, self._bare, self.min_count, against))]
        plains: list[Plain] = []
        if summary.cells and reference.cells and inputs.edges:
            counts = counted(reference.cells, summary.cells, inputs.edges, self._named)
            numeric = [name in inputs.edges.numeric for name in counts.features]
            plains = by_test(self.test, self.limit, counts, numeric)
        restless = inputs.varies.restless(TOLERANCE) if inputs.varies else frozenset()
        if not self.fans_out:
            calm = [one for one in plains if one.name not in restless]
            return [({}, found_share(draft, calm, self.rungs, self.min_count, against))]
        found = [(one.name, found_one(draft, one, self._bare, self.min_count, against)) for one in plains]
        return [
            ({"feature": name}, capped(one, Severity.INFO, RESTLESS) if name in restless else one)
            for name, one in found
        ]

    def _judge_share(self, draft: Finding, summary: Summary, reference: Summary, inputs: Inputs) -> Finding:
        tolerance = self.tolerance.rungs[0][1].value if self.tolerance else TOLERANCE
        drifts = {d.feature: d for d in self._drifts(tolerance, summary, reference, inputs)}
        found = drift_share(list(drifts.values()), self.alpha(inputs))
        draft = replace(draft, unit=RATIO, n=found.n, value=found.value, interval=found.interval)
        if found.value is None:
            return replace(draft, state=State.INSUFFICIENT, reason=f"drift.share: {found.reason}")
        if found.n < self.min_count:
            few = f"drift.share rests on n={found.n} features, under min_count {self.min_count}"
            return replace(draft, state=State.INSUFFICIENT, reason=few)
        severity = max((s for s, limit in self.rungs if beyond(found.value, limit)), default=None)
        bound = dict(self.rungs)[severity] if severity else self.rungs[0][1]
        possible = found.interval[1] if found.interval else found.value
        drifted = [drifts[name] for name in found.detail["drifted"]]
        reason = (
            f"{len(drifted)} of {found.n} features drifted from {inputs.reference_name or 'the reference'}: "
            f"{format_value(found.value, RATIO)}, {'over' if severity else 'within'} "
            f"{format_value(bound, RATIO)}"
        )
        state = State.BREACH if severity else State.OK
        if state is State.OK and beyond(possible, bound):
            unsure = len(found.detail["insufficient"])
            state, reason = State.INSUFFICIENT, f"{reason}; {unsure} more have too few rows to tell"
        if restless := found.detail["restless"]:
            reason += f"; {len(restless)} restless, which normally exceed the tolerance, are left out"
        judged = replace(
            draft,
            state=state,
            severity=severity,
            bound=bound,
            clears=f"at {format_value(self.rungs[0][1], RATIO)} of the features or less",
            reason=reason,
            causes=tuple(_cause(d) for d in drifted[:MOST_CAUSES]),
            rows=rows_of_shift(drifted[0]) if drifted else {},
        )
        return capped(judged, Severity.MEDIUM, BORROWED) if any(d.borrowed for d in drifted) else judged

    def _judge_features(
        self, draft: Finding, summary: Summary, reference: Summary, inputs: Inputs
    ) -> list[Judgement]:
        """Each feature at each rung's tolerance, with Benjamini-Hochberg over the features of this look."""
        looks = [(severity, self._drifts(t, summary, reference, inputs)) for severity, t in self.rungs]
        reached: dict[str, Severity] = {}
        for severity, drifts in looks:
            for alike in (True, False):  # a restless one must not make it easier for the others
                some = [d for d in drifts if d.restless is alike]
                reached |= {d.feature: severity for d in drifted_of(some, self.alpha(inputs))}
        return [
            (
                {"feature": d.feature},
                self._shifted(
                    replace(draft, rows=rows_of_shift(d)), d, d.feature, reached.get(d.feature), inputs
                ),
            )
            for d in looks[0][1]
        ]

    def _judge_classes(self, draft: Finding, summary: Summary, reference: Summary, inputs: Inputs) -> Finding:
        if summary.core is None or reference.core is None:
            return replace(draft, state=State.NO_DATA, reason="the predicted classes were not counted")
        looks = [
            (severity, class_shift(summary.core, reference.core, self._settings(t, inputs)))
            for severity, t in self.rungs
        ]
        reached = [severity for severity, shift in looks if shift.verdict is Verdict.DRIFTED]
        return self._shifted(draft, looks[0][1], "the predicted classes", max(reached, default=None), inputs)

    def _judge_predictions(
        self, draft: Finding, summary: Summary, reference: Summary, inputs: Inputs
    ) -> Finding:
        value = inputs.edges.value if inputs.edges else None
        looks = []
        for severity, tolerance in self.rungs:
            shift = prediction_shift(summary, reference, value, self._settings(tolerance, inputs))
            if isinstance(shift, str):
                return replace(draft, state=State.NO_DATA, reason=f"the predictions: {shift}")
            looks.append((severity, shift))
        reached = [severity for severity, shift in looks if shift.verdict is Verdict.DRIFTED]
        return self._shifted(draft, looks[0][1], "the predictions", max(reached, default=None), inputs)

    def _shifted(
        self, draft: Finding, shift: FeatureDrift, title: str, severity: Severity | None, inputs: Inputs
    ) -> Finding:
        """The finding on one shift; `severity` is the highest rung that it is credibly beyond."""
        bound = dict(self.rungs)[severity] if severity else self.rungs[0][1]
        against = inputs.reference_name or "the reference"
        if not shift.n:
            state = State.NO_DATA
        elif not shift.m or shift.n < self.min_count or shift.verdict is Verdict.INSUFFICIENT:
            state = State.INSUFFICIENT
        elif severity:
            state = State.BREACH
        else:
            # Beyond the tolerance by itself, but not among so many features looked at: neither fires nor
            # clears.
            state = State.HOLD if shift.verdict is Verdict.DRIFTED else State.OK
        few = f"; under min_count {self.min_count:,}" if 0 < shift.n < self.min_count else ""
        judged = replace(
            draft,
            state=state,
            severity=severity if state is State.BREACH else None,
            value=shift.effect if shift.n and shift.m else None,
            bound=bound,
            n=shift.n,
            reference_n=shift.m,
            interval=shift.interval if shift.n and shift.m else None,
            reason=f"{title} against {against} (effect {shift.effect:.3g}, n={shift.n:,}): "
            f"{shift.explain()}{few}",
            clears=f"once the shift is not credibly more than {self.rungs[0][1]:g}",
            causes=tuple({"name": str(cell)} for cell in shift.moved) if state is State.BREACH else (),
        )
        if shift.restless:
            return capped(judged, Severity.INFO)
        return capped(judged, Severity.MEDIUM, BORROWED) if shift.borrowed else judged

    def _settings(self, tolerance: float, inputs: Inputs) -> DriftSettings:
        alpha = self.alpha(inputs)
        if inputs.varies is None:
            return DriftSettings(tolerance, alpha)
        return inputs.varies.settings(tolerance, alpha)

    def _drifts(
        self, tolerance: float, summary: Summary, reference: Summary, inputs: Inputs
    ) -> list[FeatureDrift]:
        if summary.cells is None or reference.cells is None or inputs.edges is None:
            return []
        settings = self._settings(tolerance, inputs)
        # Rules that look at one window ask for the same: it is kept with the summary, which never changes.
        kept = summary.__dict__.setdefault("_drifts", {})
        key = (tolerance, settings.alpha, self._named)
        known: tuple[Summary, DriftSettings, list[FeatureDrift]] | None = kept.get(key)
        if known is not None and known[0] is reference and known[1] == settings:
            return known[2]
        found = drift(reference.cells, summary.cells, inputs.edges, settings, self._named)
        kept[key] = (reference, settings, found)
        return found


def _of_windows(inputs: Inputs, *, each: bool) -> tuple[Inputs, str]:
    """The inputs with the sum of what the rule compares with in the baseline's place, and what is lacking
    where that is nothing. Where `each` feature is judged by itself, it is compared with no rows then."""
    against = inputs.against
    if against is None:
        return dataclasses.replace(inputs, reference=None), "there is nothing to compare with"
    held = [summary for summary in against.summaries if summary.rows]
    if held and len(held) >= against.least:
        return dataclasses.replace(inputs, reference=total(held), reference_name=against.name), ""
    lacking = "it has no rows"
    if against.least > 1:
        lacking = f"{against.least} windows are needed, and {len(held) or 'none'} have rows"
    nothing = Summary.zero(inputs.edges) if each else None
    return (
        dataclasses.replace(inputs, reference=nothing, reference_name=against.name),
        f"nothing to compare with in {against.name}: {lacking}",
    )


def _cause(shift: FeatureDrift) -> dict[str, Any]:
    cells = ", ".join(map(str, shift.moved[:2]))
    text = f"effect {shift.effect:.2g}" + (f" ({cells})" if cells else "")
    return {
        "feature": shift.feature,
        "effect": shift.effect,
        "text": text,
        "rows": rows_of_shift(shift),
    }


def _rungs(
    bounds: Bounds, unit: str, what: str, bare: Severity = Severity.MEDIUM
) -> list[tuple[Severity, float]]:
    """The ladder as numbers; raises BadInput."""
    ladder = [(severity, as_value(quantity, unit, what)) for severity, quantity in bounds.ladder(bare)]
    for (low, limit), (high, higher) in pairwise(ladder):
        if higher <= limit:
            raise BadInput(f"the bound of {high.word} must be higher than that of {low.word}")
    if ladder[0][1] < 0 or (not unit and not 0 < ladder[-1][1] < 4):
        raise BadInput(
            f"{bounds.rungs[0][1]} cannot be {what}" + ("" if unit else ", which lies between 0 and 4")
        )
    return ladder
