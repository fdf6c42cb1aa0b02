"""Alerts that nobody judges any more are ended, once: their rule is gone, or no longer looks at what they are
about. Nothing is ended because a file cannot be read, or because there is no data of it for a while.
"""

from collections.abc import Collection, Iterator, Mapping

import msgspec

from kedge.alerting.finding import AlertState
from kedge.alerting.lifecycle import QUIET, Identity, end
from kedge.alerting.loading import RuleBook
from kedge.alerting.rule import DIMENSIONS, SERVING, Rule
from kedge.alerting.versions import VersionsRule
from kedge.pipeline.context import Pipeline
from kedge.pipeline.progress import Steps, forget
from kedge.windows import DAY, Millis, format_duration


def end_gone(pipe: Pipeline, book: RuleBook, progress: Mapping[str, Steps], now: Millis) -> int:
    """End what stands of rules that were judged on a model, and are no longer to be; counts the changes.

    Killed anywhere, it goes on at the next tick: a rule's progress is forgotten last.
    """
    if book.unsure:
        return 0  # a rule that is missing may stand in what cannot be read
    gone = {
        model: names
        for model, steps in progress.items()
        if (names := steps.keys() - {rule.name for rule in book.of_model(model)})
    }
    if not gone:
        return 0
    count = 0
    for name, stored in pipe.store.alerts.of_rules(set().union(*gone.values())).items():
        if stored.value["rule"] not in gone.get(stored.value["model"], ()):
            continue
        while stored is not None:
            state = msgspec.convert(stored.value, AlertState)
            after = end(state, _why(state, book), Identity(notify=state.notify, place=state.place), now)
            if after is state:
                break
            if pipe.store.alerts.swap(name, msgspec.to_builtins(after), stored.token):
                count += 1
                break
            again = pipe.store.alerts.get(name)
            if again is None:
                break
            stored = again
    forget(pipe.store.state, gone)
    return count


def _why(state: AlertState, book: RuleBook) -> str:
    if state.rule in book.by_name:
        return f"the rule no longer watches {state.model}"
    file = state.place.rpartition(":")[0]
    reason = f"the rule is gone from {file}" if file else "the rule is gone"
    same = [r.name for r in book.of_model(state.model) if r.signature == state.signature]
    return f'{reason}: "{same[0]}" judges the same, and begins anew' if same else reason


def is_foreign(rule: Rule, state: AlertState) -> bool:
    """By its labels an alert is none of the rule's as it is written now: `by` or `version` was another."""
    if isinstance(rule, VersionsRule):
        version: str | None = rule.candidate
    elif "version" in rule.by or "version" not in rule.grouping:
        version = ""
    else:
        version = None if rule.version == SERVING else rule.version
    if version is None:
        versioned = bool(state.version)
    else:
        versioned = state.version == version
    names = {n for n in state.group if n in DIMENSIONS or n.startswith("segment.")}
    return not versioned or names != {*rule.by} - {"feature"}


NOTHING_SAID = "its rule found nothing to say of it"


FORGOTTEN: Millis = 7 * DAY
"""How long nothing may be found of what an alert is about (or for its window, where that is longer)."""


def unlooked(
    rule: Rule, known: Mapping[str, AlertState], found: Collection[str], step: Millis
) -> Iterator[tuple[str, str]]:
    """The alerts that stand and that a step found nothing of, each with why it is to be ended: a feature that
    is in no row, a label that the rule had before. Empty where it only has no data of its own, so far.
    """
    for name, state in known.items():
        if name in found or state.status in QUIET:
            continue
        values = (*state.group.items(), ("version", state.version))
        about = ", ".join(f"{key}={value}" for key, value in values if value) or "all rows together"
        silent = step - (step if state.no_data_since is None else state.no_data_since)
        if is_foreign(rule, state):
            yield name, f"the rule no longer looks at {about}"
        elif silent >= (longest := max(FORGOTTEN, rule.window)):
            yield name, f"nothing was found of {about} for {format_duration(longest)}"
        else:
            yield name, ""
