"""Alerts that are to be written: what was found put into them, explained, muted, and swapped in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from kedge.alerting.composite import CompositeRule
from kedge.alerting.corrections import correct
from kedge.alerting.finding import AlertState, Finding
from kedge.alerting.lifecycle import end, fold
from kedge.alerting.muting import Muter, muted
from kedge.alerting.rule import Rule
from kedge.pipeline.context import Pipeline
from kedge.pipeline.explain import explained
from kedge.pipeline.faults import reach
from kedge.pipeline.judge import Judged
from kedge.store.base import Json, Stored
from kedge.windows import Millis

ByRule = Mapping[tuple[str, str], dict[str, Stored]]
"""Stored alerts by (rule, model) and name."""


@dataclass
class Change:
    """An alert to be written."""

    rule: Rule
    before: AlertState
    after: AlertState
    again: Sequence[Finding]
    """Of steps that were judged before."""
    findings: Sequence[Finding]
    ends: str
    """Why it ends then, where its rule no longer looks at it."""
    stored: Stored | None
    muters: tuple[Muter, ...] = ()

    def onto(self, before: AlertState, now: Millis) -> AlertState:
        """The findings put into an alert, and what is muted of it marked."""
        rule = self.rule
        after = folded(before, self.again, self.findings, rule, now, self.ends)
        if not (self.muters or before.muted_by):
            return after
        return muted(before, after, self.muters, rule.identity, now, late=rule.label_based)


def change_of(
    pipe: Pipeline,
    one: Judged,
    before: AlertState,
    again: Sequence[Finding],
    findings: Sequence[Finding],
    ends: str,
    stored: Stored | None,
    now: Millis,
) -> Change:
    """An alert with what was found, explained where it is going to be told."""
    after = folded(before, again, findings, one.rule, now, ends)
    if len(after.outgoing) > len(before.outgoing):
        again = explained(pipe.reader, one, before, after, again)
        findings = explained(pipe.reader, one, before, after, findings)
        after = folded(before, again, findings, one.rule, now, ends)
    return Change(one.rule, before, after, again, findings, ends, stored)


def folded(
    state: AlertState,
    again: Sequence[Finding],
    findings: Sequence[Finding],
    rule: Rule,
    now: Millis,
    ends: str = "",
) -> AlertState:
    timing, identity = rule.timing, rule.identity
    if again:
        goes_on = any(finding.step > state.evaluated_through for finding in findings)
        state = correct(state, again, timing, identity, now, goes_on=goes_on)
    for finding in findings:
        state = fold(state, finding, timing, identity, now)
    return end(state, ends, identity, now) if ends else state


def write(pipe: Pipeline, changes: Mapping[str, Change], now: Millis) -> int:
    """Swap the states in; where another worker was faster, fold into what it wrote. Counts the transitions.

    Steps that were folded already are no-ops there, so that nothing happens twice.
    """
    transitions = 0
    reach("evaluate:folded")
    while changes:
        swaps: list[tuple[str, Json, object]] = [
            (name, msgspec.to_builtins(c.after), c.stored.token if c.stored else None)
            for name, c in changes.items()
        ]
        swapped = pipe.store.alerts.swap_many(swaps)
        reach("evaluate:swapped")
        transitions += sum(
            len(c.after.outgoing) - len(c.before.outgoing)
            for c, ok in zip(changes.values(), swapped, strict=True)
            if ok
        )
        beaten = {name: c for (name, c), ok in zip(changes.items(), swapped, strict=True) if not ok}
        found = pipe.store.alerts.get_many(list(beaten)) if beaten else {}
        changes = {}
        for name, c in beaten.items():
            stored = found.get(name)
            before = msgspec.convert(stored.value, AlertState) if stored else c.before
            after = c.onto(before, now)
            if after != before or stored is None:
                changes[name] = replace(c, before=before, after=after, stored=stored)
    return transitions


def mute(
    rules: Sequence[CompositeRule],
    model: str,
    alerts: Mapping[str, Mapping[str, AlertState]],
    by_rule: ByRule,
    changes: dict[str, Change],
    now: Millis,
) -> None:
    """Mark what composites tell of instead; and tell of what they told of, where they are over."""
    parts = {part.name: part for rule in rules for part in rule.bound or ()}
    muters: dict[str, tuple[Muter, ...]] = {}
    for rule in rules:
        for name in rule.mutes:
            muters[name] = (*muters.get(name, ()), Muter(rule.name, tuple(alerts[rule.name].values())))
    for name, held in alerts.items():
        for alert, state in held.items():
            if alert not in changes and state.muted_by and name in parts:
                stored = by_rule.get((name, model), {}).get(alert)
                changes[alert] = Change(parts[name], state, state, (), (), "", stored)
            change = changes.get(alert)
            if change is not None and (name in muters or change.before.muted_by):
                change.muters = muters.get(name, ())
                change.after = change.onto(change.before, now)
                if change.after == change.before and change.stored is not None:
                    del changes[alert]
