"""Composites: judged after the rules that they name, on those rules' alerts, in the same tick."""

from collections.abc import Iterable, Mapping

from msgspec import structs

from kedge.alerting.composite import CompositeRule
from kedge.alerting.finding import AlertState
from kedge.alerting.inputs import Inputs, Standing
from kedge.alerting.lifecycle import alert_id, new_state
from kedge.alerting.loading import RuleBook
from kedge.alerting.muting import firing_at, labels_of
from kedge.pipeline.judge import Judged, Judgement
from kedge.pipeline.progress import Steps
from kedge.windows import Millis, Window, floor

Alerts = Mapping[str, Mapping[str, AlertState]]
"""Of one model: by rule, its alerts by name."""


def in_order(book: RuleBook, model: str) -> list[CompositeRule]:
    """The composites that can be judged on a model, each after those that it names."""
    found: dict[str, CompositeRule] = {}

    def visit(rule: CompositeRule) -> None:
        for part in rule.bound or ():
            if isinstance(part, CompositeRule):
                visit(part)
        if rule.model in ("*", model):
            found.setdefault(rule.name, rule)

    for rule in book.of_model(model):
        if isinstance(rule, CompositeRule) and rule.bound is not None:
            visit(rule)
    return list(found.values())


def judged_up_to(rule: CompositeRule, model: str, base: Millis, progress: Steps) -> Millis | None:
    """Up to which step it can be judged: none of its parts has one before it that is still to come.

    A part on labels is not waited for: it judges predictions of long ago, and counts as it stands. None where
    none of the parts was ever judged there.
    """
    parts = [part for part in rule.bound or () if part.name in progress and part.model in ("*", model)]
    timely = [part for part in parts if not part.label_based] or parts
    ends = [progress[part.name].through + part.step(base) - 1 for part in timely]
    return floor(min(ends), rule.step(base)) if ends else None


def judge_composite(one: Judged, since: Millis, known: Mapping[str, AlertState], alerts: Alerts) -> Judgement:
    """Judge the steps after `since`: what other rules' alerts, as they stood at each, are together."""
    rule = one.rule
    assert isinstance(rule, CompositeRule)  # noqa: S101
    found = Judgement(0, since, {}, {})
    own = dict(known)
    for step in one.steps_after(since):
        found.steps, found.through = found.steps + 1, step
        if rule.span(step) is None:
            continue
        standing = {name: tuple(_standing(alerts.get(name, {}).values(), step)) for name in rule.named}
        window = Window(step - one.width, step)
        labels_here = tuple(labels_of(state) for state in own.values())
        resumes = rule.span(step - one.width) is None
        for labels, finding in rule.judge_all(Inputs(window, None, own=labels_here, standing=standing), step):
            version = labels.pop("version", "")
            name = alert_id(rule.name, one.model, version, labels)
            if name not in own:
                own[name] = new_state(rule.name, one.model, version, labels, step - one.width)
                found.fresh[name] = own[name]
            held = structs.replace(finding, resumes=True) if resumes else finding
            found.findings.setdefault(name, []).append(held)
    return found


def _standing(states: Iterable[AlertState], step: Millis) -> Iterable[Standing]:
    for state in states:
        severity = firing_at(state, step)
        if severity is not None:
            reason = state.finding.reason if state.finding else ""
            yield Standing(state.rule, labels_of(state), severity, reason)
