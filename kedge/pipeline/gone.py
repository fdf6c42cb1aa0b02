"""Alerts that nobody judges any more are ended, once: their rule is gone, or no longer looks at what they are
about. Nothing is ended because a file cannot be read, or because there is no data of it for a while.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

import msgspec

from kedge.alerting.composite import CompositeRule
from kedge.alerting.facts import Ended
from kedge.alerting.finding import AlertState, Status
from kedge.alerting.lifecycle import QUIET, Identity, end
from kedge.alerting.loading import RuleBook
from kedge.alerting.new_value import NewValueRule
from kedge.alerting.rule import DIMENSIONS, SERVING, Rule
from kedge.alerting.versions import VersionsRule
from kedge.pipeline.context import Pipeline
from kedge.pipeline.progress import Steps, forget, judged_through
from kedge.windows import DAY, Millis, format_duration


def end_gone(pipe: Pipeline, book: RuleBook, progress: Mapping[str, Steps], now: Millis) -> int:
    """End what stands of rules that were judged on a model, and are no longer to be; counts the changes.

    Killed anywhere, it goes on at the next tick: a rule's progress is forgotten last.
    """
    gone = gone_rules(book, progress)
    if not gone:
        return 0
    count = 0
    for name, stored in pipe.store.alerts.of_rules(set().union(*gone.values())).items():
        if stored.value["rule"] not in gone.get(stored.value["model"], ()):
            continue
        while stored is not None:
            state = msgspec.convert(stored.value, AlertState)
            after = end(state, why_gone(state, book), Identity(notify=state.notify, place=state.place), now)
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


def gone_rules(book: RuleBook, progress: Mapping[str, Steps]) -> dict[str, set[str]]:
    """By model: the rules that were judged on it, and are no longer to be."""
    if book.unsure:
        return {}  # a rule that is missing may stand in what cannot be read
    return {
        model: names
        for model, steps in progress.items()
        if (names := steps.keys() - {rule.name for rule in book.of_model(model)})
    }


def why_gone(state: AlertState, book: RuleBook) -> str:
    """What is told of an alert whose rule is no longer judged on its model."""
    if state.rule in book.by_name:
        return f"the rule no longer watches {state.model}"
    file = state.place.rpartition(":")[0]
    reason = f"the rule is gone from {file}" if file else "the rule is gone"
    same = _same(state, book)
    return f'{reason}: "{same[0]}" judges the same, and begins anew' if same else reason


def would_end(
    pipe: Pipeline, book: RuleBook, models: Collection[str], files: Collection[str] | None = None
) -> Iterator[Ended]:
    """The alerts that people were told of, and that the next tick would end if `book` were in force.

    `files`: only those whose rules were written in one of these, where the book is of them alone.
    """
    if book.unsure:
        return
    live = [msgspec.convert(stored.value, AlertState) for stored in pipe.store.alerts.live().values()]
    progress = judged_through(pipe.store.state, {state.model for state in live} & set(models))
    gone = gone_rules(book, progress)
    counts: dict[tuple[str, ...], list[Status]] = defaultdict(list)
    for state in live:
        if files is not None and state.place.rpartition(":")[0] not in files:
            continue
        rule, successor = book.by_name.get(state.rule), ""
        if state.rule in gone.get(state.model, ()):
            reason = why_gone(state, book)
            successor = next(iter(_same(state, book)), "")
        elif rule is not None and not _has_own_labels(rule) and is_foreign(rule, state):
            reason = _no_longer(state)
        else:
            continue
        counts[state.rule, state.model, state.place, reason, successor].append(state.status)
    for (name, model, place, reason, successor), held in sorted(counts.items()):
        silent = held.count(Status.NO_DATA)
        yield Ended(name, model, place, reason, len(held) - silent, silent, successor)


def _has_own_labels(rule: Rule) -> bool:
    """Besides those of `by`."""
    return isinstance(rule, CompositeRule) or (isinstance(rule, NewValueRule) and rule.fans_out)


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


def _same(state: AlertState, book: RuleBook) -> list[str]:
    """The rules that judge on its model what an alert's rule judged, under other names."""
    return [r.name for r in book.of_model(state.model) if r.signature == state.signature]


def _no_longer(state: AlertState) -> str:
    """What is told of an alert that `is_foreign`."""
    return f"the rule no longer looks at {_about(state)}"


def _about(state: AlertState) -> str:
    values = (*state.group.items(), ("version", state.version))
    return ", ".join(f"{key}={value}" for key, value in values if value) or "all rows together"


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
        silent = step - (step if state.no_data_since is None else state.no_data_since)
        if is_foreign(rule, state):
            yield name, _no_longer(state)
        elif silent >= (longest := max(FORGOTTEN, rule.window)):
            yield name, f"nothing was found of {_about(state)} for {format_duration(longest)}"
        else:
            yield name, ""
