"""One rule as it stands: what it reads, what that is now, how far from firing, and when it last fired."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from kedge.alerting import budgets
from kedge.alerting.finding import AlertState, Finding, State, Status
from kedge.alerting.important import Top
from kedge.alerting.quantity import format_value
from kedge.alerting.rule import Rule
from kedge.alerting.threshold import ThresholdRule
from kedge.alerting.today import text_of
from kedge.errors import BadInput
from kedge.pipeline.context import Pipeline
from kedge.pipeline.feed import load_feed
from kedge.pipeline.importance import importance_of
from kedge.pipeline.models import ModelState, load_models
from kedge.pipeline.progress import judged_through
from kedge.pipeline.summarise import computed_in
from kedge.store.base import Json
from kedge.windows import Millis, floor, format_duration, iso

_WORST = (State.BREACH, State.HOLD, State.OK, State.INSUFFICIENT, State.NO_DATA, State.INCOMPLETE)


def explain_rule(pipe: Pipeline, rule: Rule, now: Millis, model: str | None = None) -> list[Json]:
    """A row for each model that the rule watches, with its alerts. Raises BadInput for a model that it does
    not, and where none has logged."""
    models = load_feed(pipe.store.state, pipe.feeds).models
    names = [name for name in sorted(models) if rule.model in ("*", name)]
    if model is not None and model not in names:
        raise BadInput(f'rule "{rule.name}" watches {_listed(names) or rule.model}, and not {model}')
    if not names:
        raise BadInput(f'rule "{rule.name}" is of model {rule.model}, which has not logged anything yet')
    return [_of_model(pipe, rule, name, now) for name in names if model in (None, name)]


def _of_model(pipe: Pipeline, rule: Rule, model: str, now: Millis) -> Json:
    known = load_feed(pipe.store.state, pipe.feeds).models[model]
    state = load_models(pipe, [model])[model]
    reached = judged_through(pipe.store.state, [model]).get(model, {}).get(rule.name)
    through = None if reached is None else reached.through
    row: Json = {
        "rule": rule.name,
        "place": rule.place,
        "kind": rule.KIND,
        "model": model,
        "reads": _reads(rule, pipe, model),
        "budget": budgets.budget_of(rule),
        "budget_from": budgets.why(rule),
        "missing": list(_missing(rule, known.computed, state.baseline is not None)),
        **_important(rule, state),
        "bucket": format_duration(known.base),
    }
    if rule.window < known.base:
        reason = f"its window, {format_duration(rule.window)}, is shorter than the bucket of {model}"
        return row | {"not_judged": reason, "alerts": []}
    step = rule.step(known.base)
    due = floor(now, step) + step
    alerts = [
        msgspec.convert(stored.value, AlertState)
        for stored in pipe.store.alerts.of_rules({rule.name}).values()
        if stored.value["model"] == model
    ]
    if rule.fans_out:  # what was said of no feature stands only while nothing can be said of each
        alerts = [one for one in alerts if "feature" in one.group or one.evaluated_through >= (through or 0)]
    row |= {
        "judged_every": format_duration(step),
        "judged_through": None if through is None else iso(through),
        "next_step": iso(due if through is None else max(through + step, due - step)),
        "window": [iso(t) for t in rule.bounds(due, step, known.base)],
        "alerts": [_alert(pipe, rule, one) for one in sorted(alerts, key=_order)],
    }
    return row


def _important(rule: Rule, state: ModelState) -> Json:
    """The features that are meant by `{top: 3}`, and how that is known, or why it is not."""
    top = getattr(rule, "features", ())
    if not isinstance(top, Top):
        return {}
    importance = importance_of(state.settings, state.baseline)
    try:
        return {"features": list(top.of(importance)), "features_known": importance.known_by}
    except BadInput as e:
        return {"features": [], "features_known": e.reason}


def _reads(rule: Rule, pipe: Pipeline, model: str) -> Json:
    metric = getattr(rule, "metric", None)
    compare = rule.other_reference
    return {
        "metric": metric,
        "window": text_of(rule.window),
        "parts": sorted(part.value for part in rule.parts),
        "by": list(rule.by),
        "version": rule.version,
        "compare": None if not rule.compares else compare.to if compare is not None else "baseline",
        "for": format_duration(rule.for_) if rule.for_ else "0",
        "min_count": rule.min_count,
        "waits_for_labels": rule.label_based,
        "lag": format_duration(pipe.settings.of_model(model).lag),
    }


def _missing(rule: Rule, computed: str, baseline: bool) -> Iterator[str]:
    """What it would need, and what is not there."""
    held = computed_in(computed)
    if rule.grouping not in held.groupings:
        yield f"summaries by {' and '.join(rule.grouping)} (they are made from the next tick on)"
    against_baseline = rule.compares and rule.other_reference is None
    if against_baseline and not baseline:
        yield "a baseline to compare with (kedge baseline create)"
    elif "cells" in {part.value for part in rule.parts} and not held.edges:
        yield "the cells of the features, which need a baseline (kedge baseline create)"


def _alert(pipe: Pipeline, rule: Rule, state: AlertState) -> Json:
    finding = state.finding
    told: Json = {
        "alert": state.alert,
        "version": state.version,
        "group": state.group,
        "state": state.status.value,
        "severity": state.severity.word if state.severity else None,
        "since": iso(state.started) if state.started is not None else None,
        "last_fired": _last_fired(pipe, state),
    }
    if finding is None:
        return told
    return told | {
        "found": finding.state.value,
        "value": finding.value,
        "n": finding.n,
        "interval": None if finding.interval is None else list(finding.interval),
        "bound": finding.bound,
        "reference": finding.reference,
        "unit": finding.unit,
        "away": _away(rule, finding),
        "fires_at": _fires_at(rule, state),
        "window": [iso(t) for t in finding.window],
        "reason": finding.reason,
    }


def _away(rule: Rule, finding: Finding) -> str | None:
    """How far the value is from the bound, in words."""
    if finding.value is None or finding.bound is None:
        return None
    gap = abs(finding.value - finding.bound)
    beyond = finding.state is State.BREACH
    if isinstance(rule, ThresholdRule) and not beyond:
        limit = rule.condition.limit(None)
        size = rule.condition.size(finding.value, finding.reference)
        if size > limit:
            return f"beyond the bound by {format_value(gap, finding.unit)}, and that may be chance"
    return f"{format_value(gap, finding.unit)} {'beyond the bound' if beyond else 'to the bound'}"


def _fires_at(rule: Rule, state: AlertState) -> str | None:
    """When what is pending fires, if it goes on."""
    if state.status is not Status.PENDING or state.started is None:
        return None
    return iso(max(state.started + rule.for_, state.evaluated_through + 1))


def _last_fired(pipe: Pipeline, state: AlertState) -> str | None:
    if state.fired is not None:
        return iso(state.fired)
    times = [
        stored.value["step"]
        for stored in pipe.store.events.find().values()
        if stored.value["alert"] == state.alert and stored.value["after"] == Status.FIRING.value
    ]
    return iso(max(times)) if times else None


def _order(state: AlertState) -> tuple[Any, ...]:
    worst = _WORST.index(state.finding.state) if state.finding else len(_WORST)
    return (worst, state.version, sorted(state.group.items()))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
