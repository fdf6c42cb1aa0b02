"""From summaries to alert states: every rule at every step that is due, strictly in step order."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec

from kedge.alerting.composite import CompositeRule
from kedge.alerting.finding import AlertState
from kedge.alerting.loading import RuleBook
from kedge.alerting.new_value import NewValueRule
from kedge.alerting.rule import Rule
from kedge.pipeline.arrived import arrivals_of
from kedge.pipeline.changes import ByRule, Change, change_of, folded, mute, write
from kedge.pipeline.composites import in_order, judge_composite, judged_up_to
from kedge.pipeline.context import Pipeline
from kedge.pipeline.dirty import Feed
from kedge.pipeline.due import has_turn
from kedge.pipeline.faults import reach
from kedge.pipeline.feed import load_feed
from kedge.pipeline.gone import end_gone
from kedge.pipeline.judge import STEPS_A_TICK, Judged, judge_steps
from kedge.pipeline.late import judge_again, only, steps_again
from kedge.pipeline.measure import coarse_horizon, horizon_asks, label_horizon
from kedge.pipeline.models import ModelState, load_models
from kedge.pipeline.negatives import Negatives
from kedge.pipeline.novelty import Novelty
from kedge.pipeline.progress import Reached, Steps, advance, judged_through
from kedge.pipeline.retention import read_floors
from kedge.pipeline.tiers import tier_floors
from kedge.store.base import Stored
from kedge.windows import DAY, Millis, ceil, floor, format_duration

MODELS_AT_ONCE = 100
"""Models whose alerts are folded and stored together."""


@dataclass
class EvaluateCounts:
    """What a tick's judging did."""

    steps: int = 0
    transitions: int = 0
    held: tuple[str, ...] = ()
    """Rules that cannot be judged, and why."""
    corrected: int = 0
    """Steps that late rows or labels made be judged again."""
    left: int = 0
    """Rules that have more steps due than one tick takes."""


def evaluate_due(pipe: Pipeline, book: RuleBook, now: Millis, *, patient: bool = True) -> EvaluateCounts:
    """Judge every rule for every model at every step that is due, and fold the findings into the alerts.

    A step is due once its window's buckets are complete: the watermark was read after their end and lag, and
    none is dirty. Rules on labels are judged as the labels mature. `now` only stamps transitions; judging
    goes by the step. Steps whose windows late rows or labels changed are judged again with the rule's next
    step, or when it is the model's turn (due.has_turn); at once unless `patient`.
    """
    feed = load_feed(pipe.store.state, pipe.feeds)
    pipe.reader.begin(feed, tier_floors(pipe.settings, feed.read_at))
    counts = EvaluateCounts()
    names = sorted(model for model in feed.models if book.of_model(model))
    states = load_models(pipe, names)
    progress = judged_through(pipe.store.state, feed.models.keys())
    counts.transitions += end_gone(pipe, book, progress, now)
    pairs = [pair for model in names for pair in _rules_of(feed, book, model, counts)]

    def corrects(model: str) -> bool:
        return not patient or has_turn(model, now)

    due = _due(feed, pairs, states, progress, corrects)
    # Read after the progress: alerts may be ahead of it, never behind.
    by_rule: dict[tuple[str, str], dict[str, Stored]] = {}
    wanted = {one.rule.name for one in due}
    composites = {model: in_order(book, model) for model in {one.model for one in due}}
    wanted |= {name for held in composites.values() for rule in held for name in (rule.name, *rule.named)}
    for name, stored in pipe.store.alerts.of_rules(wanted).items():
        by_rule.setdefault((stored.value["rule"], stored.value["model"]), {})[name] = stored
    of_model: dict[str, list[Judged]] = defaultdict(list)
    for one in due:
        of_model[one.model].append(one)
    busy = list(of_model)
    for start in range(0, len(busy), MODELS_AT_ONCE):
        models = busy[start : start + MODELS_AT_ONCE]
        some = [one for model in models for one in of_model[model]]
        of_some = {model: progress[model] for model in models if model in progress}
        together = {model: composites[model] for model in models}
        _evaluate(pipe, some, together, of_some, by_rule, feed, now, counts, corrects)
    return counts


class _Pair(NamedTuple):
    """A rule on a model that it can judge."""

    rule: Rule
    model: str


def _rules_of(feed: Feed, book: RuleBook, model: str, counts: EvaluateCounts) -> list[_Pair]:
    base = feed.models[model].base
    pairs = []
    for rule in book.of_model(model):
        if isinstance(rule, CompositeRule):  # judged after the rules that it names
            if rule.bound is None:
                lacking = sorted(name for name in rule.named if name not in book.by_name)
                why = f"{', '.join(lacking)} cannot be read" if lacking else "what it names cannot be judged"
                counts.held = (*counts.held, f'{rule.place}: rule "{rule.name}": {why}: not judged')
        elif rule.window < base:
            reason = (
                f'{rule.place}: rule "{rule.name}": window {format_duration(rule.window)} is shorter '
                f"than the base bucket of model {model} ({format_duration(base)}): not judged there"
            )
            counts.held = (*counts.held, reason)
        else:
            pairs.append(_Pair(rule, model))
    return pairs


def _evaluate(
    pipe: Pipeline,
    due: Sequence[Judged],
    composites: Mapping[str, Sequence[CompositeRule]],
    progress: dict[str, Steps],
    by_rule: ByRule,
    feed: Feed,
    now: Millis,
    counts: EvaluateCounts,
    corrects: Callable[[str], bool],
) -> None:
    """Judge some models' rules; all that is read is read at once, and all that is written."""
    due = _matured(pipe, due, feed.read_at)
    progress = _begin(pipe, due, progress, by_rule, feed.mark)
    due = [one for one in due if one.rule.name in progress.get(one.model, {})]
    novelty = Novelty(pipe.store, pipe.values)
    due = [replace(one, novelty=novelty) if isinstance(one.rule, NewValueRule) else one for one in due]
    asked = {one.model for one in due if one.rule.reads_arrivals}
    arrivals = {model: arrivals_of(pipe.store.state, model) for model in sorted(asked)}
    due = [replace(one, arrivals=arrivals[one.model]) if one.rule.reads_arrivals else one for one in due]
    if any(one.references is not None and one.rule.grows for one in due):
        floors = read_floors(pipe.store.state)
        since = min(floors.predictions, floors.minutes)
        due = [replace(one, counted_from=since) for one in due]
    alerts = [
        {
            name: msgspec.convert(s.value, AlertState)
            for name, s in by_rule.get((one.rule.name, one.model), {}).items()
        }
        for one in due
    ]
    # A rule on labels that waits for them is due at each tick, and late labels come at each.
    wait = [one.last <= progress[one.model][one.rule.name].through and not corrects(one.model) for one in due]
    steps = [
        [] if waits else steps_again(one, progress[one.model][one.rule.name])
        for one, waits in zip(due, wait, strict=True)
    ]
    pipe.reader.load(
        [
            ask
            for one, known, again in zip(due, alerts, steps, strict=True)
            for part, since in (
                (one, progress[one.model][one.rule.name].through),
                *([only(one, again)] if again else ()),
            )
            for ask in part.asks(since, known.values(), pipe.reader.points)
        ]
    )
    changes: dict[str, Change] = {}
    reached: dict[str, dict[str, Reached]] = defaultdict(dict)
    for one, standing, steps_of, waits in zip(due, alerts, steps, wait, strict=True):
        stored, known = by_rule.get((one.rule.name, one.model), {}), standing
        was = progress[one.model][one.rule.name]
        again = judge_again(pipe.reader, one, steps_of, standing, feed.spooled)
        if again.findings:
            known = {
                name: folded(s, again.findings.get(name, ()), (), one.rule, now)
                for name, s in standing.items()
            }
        found = judge_steps(pipe.reader, one, was.through, known, feed.spooled)
        reached[one.model][one.rule.name] = Reached(
            found.through, feed.mark if again.done and not waits else was.mark
        )
        counts.steps += found.steps
        counts.corrected += len(steps_of) if again.done else 0
        counts.left += found.steps >= STEPS_A_TICK
        for name in again.findings.keys() | found.findings.keys():
            before = standing.get(name) or found.fresh[name]
            found_of = again.findings.get(name, ()), found.findings.get(name, ()), found.dropped.get(name, "")
            change = change_of(pipe, one, before, *found_of, stored.get(name), now)
            if change.after != before or change.stored is None:
                changes[name] = change
    _judge_composites(pipe, due, composites, progress, reached, by_rule, changes, feed.mark, now, counts)
    counts.transitions += write(pipe, changes, now)
    advance(pipe.store.state, reached, progress)
    reach("evaluate:advanced")


def _judge_composites(
    pipe: Pipeline,
    due: Sequence[Judged],
    composites: Mapping[str, Sequence[CompositeRule]],
    progress: Mapping[str, Steps],
    reached: dict[str, dict[str, Reached]],
    by_rule: ByRule,
    changes: dict[str, Change],
    mark: int,
    now: Millis,
    counts: EvaluateCounts,
) -> None:
    """Judge what goes by other rules' alerts, as those are to be written, and mark what it mutes of them."""
    some = {one.model: one for one in due}
    for model, rules in composites.items():
        if model not in some:
            continue
        alerts: dict[str, dict[str, AlertState]] = defaultdict(dict)
        for name in {name for rule in rules for name in (rule.name, *rule.named)}:
            for alert, stored in by_rule.get((name, model), {}).items():
                alerts[name][alert] = msgspec.convert(stored.value, AlertState)
        for alert, change in changes.items():
            if change.after.model == model:
                alerts[change.rule.name][alert] = change.after
        for rule in rules:
            base = some[model].feed.base
            through = judged_up_to(rule, model, base, {**progress.get(model, {}), **reached[model]})
            if through is None:
                continue
            one = replace(some[model], rule=rule, through=through, negatives=None)
            begun = _begin(pipe, [one], {model: progress.get(model, {})}, by_rule, mark)[model]
            if rule.name not in begun:
                continue
            found = judge_composite(one, begun[rule.name].through, alerts[rule.name], alerts)
            reached[model][rule.name] = Reached(found.through, mark)
            counts.steps += found.steps
            counts.left += found.steps >= STEPS_A_TICK
            held = by_rule.get((rule.name, model), {})
            for name, findings in found.findings.items():
                before = alerts[rule.name].get(name) or found.fresh[name]
                after = alerts[rule.name][name] = folded(before, (), findings, rule, now)
                if after != before or name not in held:
                    changes[name] = Change(rule, before, after, (), findings, "", held.get(name))
        mute(rules, model, alerts, by_rule, changes, now)


def _due(
    feed: Feed,
    pairs: Sequence[_Pair],
    states: Mapping[str, ModelState],
    progress: Mapping[str, Steps],
    corrects: Callable[[str], bool],
) -> list[Judged]:
    """The rules that have a step to judge, as far as rows tell, or never had one; where a model `corrects`,
    those too that have one to judge again."""
    due = []
    for rule, model in pairs:
        known, state = feed.models[model], states[model]
        complete = floor(feed.read_at - state.settings.lag, known.base)
        one = Judged(rule, model, known, state, complete, complete)
        since = progress.get(model, {}).get(rule.name)
        if since is None or one.last > since.through or (corrects(model) and steps_again(one, since)):
            due.append(one)
    return due


def _matured(pipe: Pipeline, due: Sequence[Judged], now: Millis) -> list[Judged]:
    """The same, rules on labels up to where labels are mature. That is worked out once a model, if any of its
    rules asks."""
    late = {one.model: one for one in due if one.rule.label_based}
    reader = pipe.reader
    reader.load([ask for model, one in late.items() for ask in horizon_asks(reader, model, one.feed, now)])
    fine = [
        ask
        for model, one in late.items()
        if coarse_horizon(reader, one.state.settings, model, one.feed, now) == now
        for ask in horizon_asks(reader, model, one.feed, now, fine=True)
    ]
    reader.load(fine)
    mature = {
        model: label_horizon(reader, one.state.settings, model, one.feed, now) for model, one in late.items()
    }
    return [
        replace(
            one,
            through=min(one.complete, mature[one.model]),
            negatives=Negatives.of(one.state.settings, one.feed.base, now),
        )
        if one.rule.label_based
        else one
        for one in due
    ]


def _begin(
    pipe: Pipeline, rules: Sequence[Judged], progress: dict[str, Steps], by_rule: ByRule, mark: int
) -> dict[str, Steps]:
    """How far each rule was judged; rules that are new to a model begin, which is stored before any alert.

    A new rule starts at the last step: history belongs to a backtest. Nor does it start on a model that has
    been silent for more than a day, so that an import of old rows pages no one.
    """
    new: dict[str, dict[str, Reached]] = defaultdict(dict)
    for one in rules:
        if one.rule.name in progress.get(one.model, {}):
            continue
        seen = [s.value["evaluated_through"] for s in by_rule.get((one.rule.name, one.model), {}).values()]
        silent_since = one.feed.last + one.feed.base
        if seen:
            new[one.model][one.rule.name] = Reached(min(seen), mark)
        elif one.complete <= silent_since + one.rule.window + DAY:
            first = max(one.last, ceil(one.feed.first + 1, one.width))
            new[one.model][one.rule.name] = Reached(first - one.width, mark)
    return progress | advance(pipe.store.state, new)
