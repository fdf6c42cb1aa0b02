"""From summaries to alert states: every rule at every step that is due, strictly in step order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from kedge.alerting.finding import AlertState, Finding
from kedge.alerting.inputs import Inputs
from kedge.alerting.lifecycle import alert_id, fold, new_state
from kedge.alerting.loading import RuleBook
from kedge.alerting.rule import Rule
from kedge.pipeline.baselines import Baseline, baseline_in_use
from kedge.pipeline.context import Pipeline, settings_of
from kedge.pipeline.dirty import Feed, ModelFeed
from kedge.pipeline.faults import reach
from kedge.pipeline.feed import load_feed
from kedge.pipeline.measure import label_horizon
from kedge.pipeline.progress import advance, judged_through
from kedge.pipeline.tiers import tier_floors
from kedge.sketch import Summary
from kedge.store.base import Group, Stored
from kedge.windows import DAY, Millis, Window, ceil, floor, format_duration, snap

_ByRule = Mapping[tuple[str, str], dict[str, Stored]]
"""Stored alerts by (rule, model) and name."""

SERVING = 0.05
"""A version with at least this share of the traffic is serving."""
STEPS_A_TICK = 5_000
"""Steps of one rule that one tick catches up at most."""


@dataclass(frozen=True)
class EvaluateCounts:
    """What a tick's judging did."""

    steps: int = 0
    transitions: int = 0
    held: tuple[str, ...] = ()
    """Rules that cannot be judged, and why."""
    left: int = 0
    """Rules that have more steps due than one tick takes."""


@dataclass(frozen=True)
class _Judged:
    """A rule on one model, with what judging needs to know of it."""

    rule: Rule
    model: str
    feed: ModelFeed
    baseline: Baseline | None
    positive_class: str | None
    complete: Millis
    """Buckets up to here are complete."""
    through: Millis
    """Steps up to here can be judged: labels are late."""

    @property
    def width(self) -> Millis:
        return self.rule.step(self.feed.base)

    @property
    def last(self) -> Millis:
        """The newest step that can be judged."""
        return floor(self.through, self.width)


def evaluate_due(pipe: Pipeline, book: RuleBook, now: Millis) -> EvaluateCounts:
    """Judge every rule for every model at every step that is due, and fold the findings into the alerts.

    A step is due once its window's buckets are complete: the watermark was read after their end and lag, and
    none is dirty. Rules on labels are judged as the labels mature. `now` only stamps transitions; judging
    goes by the step.
    """
    feed = load_feed(pipe.store.state)
    pipe.reader.begin(feed, tier_floors(pipe.settings, feed.read_at))
    by_rule: dict[tuple[str, str], dict[str, Stored]] = {}
    for name, stored in pipe.store.alerts.find().items():
        by_rule.setdefault((stored.value["rule"], stored.value["model"]), {})[name] = stored
    counts = EvaluateCounts()
    for model, known in sorted(feed.models.items()):
        judged = _horizons(pipe, feed, model, known)
        rules: list[_Judged] = []
        for rule in book.of_model(model):
            if rule.window < known.base:
                reason = (
                    f'{rule.place}: rule "{rule.name}": window {format_duration(rule.window)} is shorter '
                    f"than the base bucket of model {model} ({format_duration(known.base)}): not judged there"
                )
                counts = replace(counts, held=(*counts.held, reason))
                continue
            rules.append(judged(rule))
        begun = _begin(pipe, model, rules, by_rule)
        reached: dict[str, Millis] = {}
        for one in rules:
            if (start := begun.get(one.rule.name)) is None:
                continue
            stored_alerts = by_rule.get((one.rule.name, model), {})
            steps, transitions, through = _evaluate(pipe, one, start, stored_alerts, now)
            reached[one.rule.name] = through
            counts = replace(
                counts,
                steps=counts.steps + steps,
                transitions=counts.transitions + transitions,
                left=counts.left + (steps >= STEPS_A_TICK),
            )
        advance(pipe.store.state, model, reached)
        reach("evaluate:advanced")
    return counts


def _horizons(pipe: Pipeline, feed: Feed, model: str, known: ModelFeed) -> Callable[[Rule], _Judged]:
    """How far each of a model's rules can be judged; label maturity is worked out once, if any rule asks."""
    settings = settings_of(pipe, model)
    baseline = baseline_in_use(pipe.store.state, model)
    complete = floor(feed.read_at - settings.lag, known.base)
    mature: list[Millis] = []

    def judged(rule: Rule) -> _Judged:
        through = complete
        if rule.label_based:
            if not mature:
                mature.append(label_horizon(pipe.reader, settings, model, known, feed.read_at))
            through = min(complete, mature[0])
        return _Judged(rule, model, known, baseline, settings.positive_class, complete, through)

    return judged


def _begin(pipe: Pipeline, model: str, rules: Sequence[_Judged], by_rule: _ByRule) -> dict[str, Millis]:
    """How far each rule was judged; rules that are new to the model begin, which is stored before any alert.

    A new rule starts at the last step: history belongs to a backtest. Nor does it start on a model that has
    been silent for more than a day, so that an import of old rows pages no one.
    """
    known = judged_through(pipe.store.state, model)
    new: dict[str, Millis] = {}
    for one in rules:
        if one.rule.name in known:
            continue
        seen = [s.value["evaluated_through"] for s in by_rule.get((one.rule.name, model), {}).values()]
        silent_since = one.feed.last + one.feed.base
        if seen:
            new[one.rule.name] = min(seen)
        elif one.complete <= silent_since + one.rule.window + DAY:
            new[one.rule.name] = max(one.last, ceil(one.feed.first + 1, one.width)) - one.width
    return advance(pipe.store.state, model, new) if new else known


def _evaluate(
    pipe: Pipeline, one: _Judged, since: Millis, stored: dict[str, Stored], now: Millis
) -> tuple[int, int, Millis]:
    """Judge one rule on one model at the steps after `since`.

    Returns how many steps were judged, how many transitions followed, and the last of the steps.
    """
    rule, step_width = one.rule, one.width
    states = {name: msgspec.convert(s.value, AlertState) for name, s in stored.items()}
    findings: dict[str, list[Finding]] = {}
    fresh: dict[str, AlertState] = {}
    steps, through = 0, since
    pipe.reader.ahead = one.last
    for step in range(floor(since, step_width) + step_width, one.last + 1, step_width):
        if steps >= STEPS_A_TICK:
            break
        window = snap(Window(step - max(rule.window, step_width), step), one.feed.base)
        if one.feed.incomplete_in(window, rule.parts):
            break
        steps, through = steps + 1, step
        for version, group, finding in _judge(pipe, one, window, step, states | fresh):
            name = alert_id(rule.name, one.model, version, group)
            if name not in states and name not in fresh:
                fresh[name] = new_state(rule.name, one.model, version, group, step - step_width)
            findings.setdefault(name, []).append(finding)
    transitions = 0
    for name, series in findings.items():
        state = states.get(name) or fresh[name]
        transitions += _store(pipe, rule, name, state, stored.get(name), series, now)
    return steps, transitions, through


def _judge(
    pipe: Pipeline, one: _Judged, window: Window, step: Millis, known: dict[str, AlertState]
) -> Iterator[tuple[str, dict[str, str], Finding]]:
    """The findings of one step: (version, group with the labels that the rule fans out to, finding) each."""
    rule = one.rule
    baseline = one.baseline
    groups = pipe.reader.window(
        one.model, one.feed.base, window, rule.parts, rule.grouping, baseline.edges if baseline else None
    )
    groups = {g: s for g, s in groups.items() if _serves(rule, g, groups)}
    for state in known.values():
        absent = _group_of(rule, state)
        if absent is not None and absent not in groups:
            groups[absent] = Summary.zero(baseline.edges if baseline else None)
    for group, summary in sorted(groups.items()):
        values = dict(group)
        version = values.pop("version", "") if "version" in rule.grouping and "version" not in rule.by else ""
        inputs = Inputs(
            window=window,
            summary=summary,
            reference=_reference(baseline, group),
            edges=baseline.edges if baseline else None,
            reference_name=f"baseline {baseline.label}" if baseline else "",
            positive_class=one.positive_class,
            groups=max(len(groups), 1),
            every=rule.step(one.feed.base),
            complete=True,
        )
        for labels, finding in rule.judge_all(inputs, step):
            yield version, values | labels, finding


def _reference(baseline: Baseline | None, group: Group) -> Summary | None:
    """A group's own reference; a version that the baseline has never seen is compared to all its rows."""
    if baseline is None:
        return None
    if group in baseline.summaries:
        return baseline.summaries[group]
    without_version = tuple((k, v) for k, v in group if k != "version")
    return baseline.summaries.get(without_version)


def _serves(rule: Rule, group: Group, groups: dict[Group, Summary]) -> bool:
    """Whether the rule judges a group: it is of the version it names, or of one with enough traffic."""
    version = dict(group).get("version")
    if version is None or rule.version == "all":
        return True
    if rule.version != "serving":
        return version == rule.version
    total = sum(s.rows for s in groups.values())
    own = sum(s.rows for g, s in groups.items() if dict(g).get("version") == version)
    return own >= SERVING * total


def _group_of(rule: Rule, state: AlertState) -> Group | None:
    """The group of a stored alert among those that are summarised: without labels that the rule adds."""
    values = dict(state.group)
    if state.version:
        values["version"] = state.version
    group = tuple((name, values[name]) for name in rule.grouping if name in values)
    return group if len(group) == len(rule.grouping) else None


def _store(
    pipe: Pipeline,
    rule: Rule,
    name: str,
    state: AlertState,
    stored: Stored | None,
    findings: Sequence[Finding],
    now: Millis,
) -> int:
    """Fold the findings and swap the state in; where another worker was faster, fold into what it wrote.

    Steps that were folded already are no-ops there, so that nothing happens twice.
    """
    timing, identity = rule.timing, rule.identity
    while True:
        after = state
        for finding in findings:
            after = fold(after, finding, timing, identity, now)
        if after == state and stored is not None:
            return 0
        reach("evaluate:folded")
        if pipe.store.alerts.swap(name, msgspec.to_builtins(after), stored.token if stored else None):
            reach("evaluate:swapped")
            return len(after.outgoing) - len(state.outgoing)
        stored = pipe.store.alerts.get(name)
        state = msgspec.convert(stored.value, AlertState) if stored else state
