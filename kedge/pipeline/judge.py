"""One rule on one model: which steps are due, what they read, and what they find."""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from msgspec import structs

from kedge.alerting.finding import AlertState, Finding, Severity, State, capped
from kedge.alerting.inputs import Appeared, Inputs
from kedge.alerting.lifecycle import QUIET, alert_id, fold, new_state
from kedge.alerting.new_value import NewValueRule
from kedge.alerting.rule import Rule
from kedge.alerting.series import SeriesRule, context_of
from kedge.alerting.versions import VersionsRule
from kedge.analysis.custom import OwnMetrics
from kedge.analysis.importance import UNKNOWN, Importance
from kedge.analysis.measure import Context
from kedge.analysis.variation import AtLength
from kedge.pipeline.arrived import Minutes, arrived_in
from kedge.pipeline.baselines import Baseline
from kedge.pipeline.dirty import ModelFeed
from kedge.pipeline.gone import NOTHING_SAID, is_foreign, unlooked
from kedge.pipeline.groups import folded_notice
from kedge.pipeline.importance import importance_of
from kedge.pipeline.models import ModelState
from kedge.pipeline.negatives import PARTS, Negatives
from kedge.pipeline.novelty import Novelty
from kedge.pipeline.points import PointMemory
from kedge.pipeline.reader import Ask, SummaryReader
from kedge.pipeline.references import References
from kedge.pipeline.series import PastWindows
from kedge.pipeline.tails import RunsByGroup, runs_in
from kedge.pipeline.versions import judge_versions
from kedge.sketch import PartName, Summary
from kedge.store.base import Group
from kedge.windows import Millis, Window, ceil, floor, snap, tile

SERVING = 0.05
"""A version with at least this share of the traffic is serving."""
STEPS_A_TICK = 5_000
"""Steps of one rule that one tick catches up at most."""


PROVISIONAL = "the baseline is provisional until someone accepts it (kedge baseline accept {})"


@dataclass(frozen=True)
class Judged:
    """A rule on one model, with what judging needs to know of it."""

    rule: Rule
    model: str
    feed: ModelFeed
    state: ModelState
    complete: Millis
    """Buckets up to here are complete."""
    through: Millis
    """Steps up to here can be judged: labels are late."""
    negatives: Negatives | None = None
    """Where the rule is on labels and absence counts as negative: as of when it is judged."""
    counted_from: Millis = 0
    """Since when rows can be counted by the minute (References)."""
    novelty: Novelty | None = None
    """Tells new values, for rules that ask for them."""
    arrivals: Minutes | None = None
    """What gateways counted of the model, where the rule asks."""

    @cached_property
    def width(self) -> Millis:
        return self.rule.step(self.feed.base)

    @cached_property
    def last(self) -> Millis:
        """The newest step that can be judged."""
        return floor(self.through, self.width)

    @property
    def baseline(self) -> Baseline | None:
        return self.state.baseline

    @cached_property
    def importance(self) -> Importance:
        """Of the model's features, where the rule asks."""
        return importance_of(self.state.settings, self.baseline) if self.rule.reads_importance else UNKNOWN

    @cached_property
    def own(self) -> OwnMetrics:
        """Those that users define for the model."""
        return self.state.settings.own

    @cached_property
    def references(self) -> References | None:
        """What the rule compares with, where that is not the baseline."""
        compare = self.rule.other_reference
        if compare is None:
            return None
        return References(self.rule, compare, self.feed.base, self.feed.first, self.counted_from)

    @cached_property
    def past(self) -> PastWindows | None:
        """The windows before that the rule looks at too, where it is judged on a series."""
        if not isinstance(self.rule, SeriesRule):
            return None
        read_against = (self.baseline and (self.baseline.id, self.baseline.generation), self.state.settings)
        # Which rows without a label count as negative changes as time goes by.
        keep = None if self.negatives is not None else (self.rule.signature, repr(read_against))
        return PastWindows(self.rule, self.model, self.feed, keep)

    def steps_after(self, since: Millis) -> range:
        first = floor(since, self.width) + self.width
        return range(first, min(self.last, first + (STEPS_A_TICK - 1) * self.width) + 1, self.width)

    def window_of(self, step: Millis) -> Window:
        """The true bounds of what is looked at: never before the hours that the rule is active in."""
        window = self.rule.bounds(step, self.width, self.feed.base)
        span = self.rule.span(step)
        earliest = 0 if span is None else min(ceil(span.start, self.feed.base), step)
        return Window(max(window.start, earliest), step)

    def before(self, window: Window) -> Window | None:
        """The time before a window that the rule looks at besides."""
        length = self.rule.looks_back
        return snap(Window(max(window.start - length, 0), window.start), self.feed.base) if length else None

    def windows_of(self, step: Millis) -> list[Window]:
        """The window of a step, and those that it is compared with."""
        window = self.window_of(step)
        before = self.before(window)
        others = self.references.windows(window) if self.references else ()
        return [window, *others, *([before] if before else ())]

    def _read_at(self, step: Millis, states: Iterable[AlertState]) -> set[Window]:
        window = self.window_of(step)
        found = {window} | (self.references.read_for(window, states) if self.references else set())
        return found | ({before} if (before := self.before(window)) else set())

    def asks(
        self, since: Millis, states: Iterable[AlertState] = (), points: PointMemory | None = None
    ) -> Iterator[Ask]:
        """What the first and the last of the steps after `since` read, as its alerts stand; of a series, what
        is not among `points`."""
        steps = self.steps_after(since)
        judged = (step for step in steps if self.rule.span(step))
        ends = {step for step in (next(judged, None), *deque(judged, 1)) if step is not None}
        windows = {window for step in ends for window in self._read_at(step, states)}
        baseline, past = self.baseline, self.past
        for part in sorted(self.rule.parts | {PartName.CORE}):
            own = self.own.key
            if (part is PartName.CELLS and baseline is None) or (part is PartName.CUSTOM and not own):
                continue
            edges = baseline.edges.hash if baseline and part is PartName.CELLS else ""
            edges = own if part is PartName.CUSTOM else edges
            missing = self.feed.missing(part)
            spans = [span for read in windows for span in tile(read, self.feed.base, missing)]
            if past is not None:
                looked = [self.window_of(step) for step in ends]
                spans += [span for window in looked for span in past.spans(window, missing, points)]
            for span in spans:
                window = Window(span.start, span.end)
                yield Ask(self.model, span.tier, window, part, edges, self.rule.grouping)


@dataclass
class Judgement:
    """What the steps of one rule found."""

    steps: int
    through: Millis
    """The last of the steps."""
    findings: dict[str, list[Finding]]
    """By alert, in step order."""
    fresh: dict[str, AlertState]
    """Alerts that had no state before."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Alerts that the rule no longer looks at, as of the last of the steps, and why they end."""


def judge_steps(
    reader: SummaryReader,
    one: Judged,
    since: Millis,
    states: dict[str, AlertState],
    spooled: Millis | None = None,
) -> Judgement:
    """Judge the steps after `since` up to the first whose window is not complete: a bucket of it is dirty, or
    it ends after `spooled`, from where on a gateway still holds rows."""
    found = Judgement(0, since, {}, {})
    reader.ahead = one.last
    rule, known = one.rule, dict(states)
    remembers = bool(rule.timing.remember) or isinstance(rule, NewValueRule)
    for step in one.steps_after(since):
        if rule.span(step) is None:
            found.steps, found.through = found.steps + 1, step
            continue
        window, *others = one.windows_of(step)
        lacking = any(one.feed.incomplete_in(w, rule.parts) for w in (window, *others))
        if lacking or (spooled is not None and window.end > spooled):
            break
        found.steps, found.through = found.steps + 1, step
        looked: set[str] = set()
        for version, group, finding in list(judge_step(reader, one, window, step, known)):
            name = alert_id(rule.name, one.model, version, group)
            if name not in known:
                found.fresh[name] = new_state(rule.name, one.model, version, group, step - one.width)
                known[name] = found.fresh[name]
            found.findings.setdefault(name, []).append(finding)
            looked.add(name)
            if remembers:  # whether and when it fired decides what the next step looks at
                known[name] = fold(known[name], finding, rule.timing, rule.identity, step)
        found.dropped = {}
        for name, ends in unlooked(rule, states, looked, step):
            missing = Finding(
                step=step, state=State.NO_DATA, window=(window.start, window.end), reason=NOTHING_SAID
            )
            found.findings.setdefault(name, []).append(missing)
            if ends:
                found.dropped[name] = ends
    return found


def judge_step(
    reader: SummaryReader, one: Judged, window: Window, step: Millis, known: dict[str, AlertState]
) -> Iterator[tuple[str, dict[str, str], Finding]]:
    """The findings of one step: (version, group with the labels that the rule fans out to, finding) each."""
    part = one.state.settings.labels.speaks_of if one.rule.label_based else ""
    resumes = one.rule.span(step - one.width) is None
    for version, group, found in _judge(reader, one, window, step, known):
        finding = _of_part(found, part)
        yield version, group, structs.replace(finding, resumes=True) if resumes else finding


def _judge(
    reader: SummaryReader, one: Judged, window: Window, step: Millis, known: dict[str, AlertState]
) -> Iterator[tuple[str, dict[str, str], Finding]]:
    """The findings of one step: (version, group with the labels that the rule fans out to, finding) each."""
    rule = one.rule
    baseline = one.baseline
    if isinstance(rule, VersionsRule):
        positive = one.state.settings.positive_class
        yield from judge_versions(
            reader, rule, one.model, one.feed, window, step, baseline=baseline, positive_class=positive
        )
        return
    references: dict[Group, Summary | None] = {}

    def part(window: Window) -> dict[Group, Summary]:
        return reader.window(one.model, one.feed.base, window, PARTS, rule.grouping)

    def read(window: Window) -> dict[Group, Summary]:
        edges = baseline.edges if baseline else None
        found = reader.window(one.model, one.feed.base, window, rule.parts, rule.grouping, edges, one.own.key)
        for group in found.keys() - references.keys():
            references[group] = reference_of(baseline, group)
            if one.negatives is not None:
                references[group] = one.negatives.reference(baseline, references[group])
        return one.negatives.counted(window, found, references.get, part) if one.negatives else found

    every = read(window)
    before = read(earlier) if (earlier := one.before(window)) else {}
    for group in before:
        every.setdefault(group, Summary.zero(baseline.edges if baseline else None))
    groups = {g: s for g, s in every.items() if _serves(rule, g, every)}
    for state in known.values():
        absent = _group_of(rule, state)
        if absent is not None and absent not in groups and not is_foreign(rule, state):
            groups[absent] = Summary.zero(baseline.edges if baseline else None)
    runs = _runs(reader, one, window)
    arrived = None if one.arrivals is None else arrived_in(one.arrivals, window)
    compared = one.references
    if compared is not None and compared.compare.version is not None:
        same = ("version", compared.compare.version)
        groups = {group: summary for group, summary in groups.items() if same not in group}

    def inputs_of(group: Group, summary: Summary | None) -> Inputs:
        return Inputs(
            window=window,
            summary=summary,
            reference=references[group] if group in references else reference_of(baseline, group),
            negative_after=one.negatives.after if one.negatives else None,
            varies=varies_of(baseline, rule, group) if baseline else None,
            edges=baseline.edges if baseline else None,
            value_errors=baseline.value_errors if baseline else None,
            reference_name=baseline.title if baseline else "",
            arrived=arrived,
            runs=None if runs is None else runs.get(group, {}),
            positive_class=one.state.settings.positive_class,
            own_metrics=one.own,
            groups=max(len(groups), 1),
            appeared=_appeared(one, window, group, summary),
            own=_own(rule, group, known) if isinstance(rule, NewValueRule) else (),
            before=before.get(group, Summary.zero()) if earlier else None,
            last_rows=one.feed.last + one.feed.base,
            every=one.width,
            complete=True,
            importance=one.importance,
        )

    contexts: dict[Group, Context] = {}

    def context(group: Group) -> Context:
        if group not in contexts:
            contexts[group] = context_of(inputs_of(group, None))
        return contexts[group]

    alike = None if earlier else _alike(one, window)
    for group, summary in sorted(groups.items()):
        values = dict(group)
        version = values.pop("version", "") if "version" in rule.grouping and "version" not in rule.by else ""
        if alike is None:
            inputs = inputs_of(group, summary)
        else:
            inputs = reader.inputs((*alike, group, len(groups)), summary, partial(inputs_of, group, summary))
        if one.past is not None:
            own_state = known.get(alert_id(rule.name, one.model, version, values))
            series = one.past.of(window, group, read, context, own_state, reader.points)
            inputs = replace(inputs, series=series)
        if compared is None:
            found: Iterable[tuple[dict[str, str], Finding]] = rule.judge_all(inputs, step)
        else:

            def state_of(
                labels: Mapping[str, str], version: str = version, values: Mapping[str, str] = values
            ) -> AlertState | None:
                return known.get(alert_id(rule.name, one.model, version, {**values, **labels}))

            own = [state for state in known.values() if _group_of(rule, state) == group]
            found = compared.judge(inputs, step, group, read, state_of, own)
        for labels, finding in found:
            if baseline is not None and baseline.provisional and against_baseline(rule):
                finding = capped(finding, Severity.INFO, PROVISIONAL.format(one.model))
            notice = folded_notice(group, one.state.settings.max_groups)
            if notice:
                finding = structs.replace(finding, reason=f"{finding.reason}; {notice}")
            yield version, values | labels, finding


def _alike(one: Judged, window: Window) -> tuple[Hashable, ...] | None:
    """What rules have in common that are judged on the same of a group, besides its summary; None: nobody
    else is judged on what this rule is."""
    rule = one.rule
    own = rule.reads_runs or rule.reads_importance or one.arrivals is not None or one.negatives is not None
    if own or isinstance(rule, NewValueRule):
        return None
    read_against = (one.baseline.id, one.baseline.generation) if one.baseline else None
    read_by = (rule.parts, rule.window, one.width, against_baseline(rule))
    return one.model, one.feed.last, window, read_by, read_against


def _runs(reader: SummaryReader, one: Judged, window: Window) -> RunsByGroup | None:
    if not one.rule.reads_runs:
        return None
    edges = one.baseline.edges if one.baseline else None
    return runs_in(reader, one.model, one.feed, window, one.rule.grouping, edges)


def _own(rule: Rule, group: Group, known: Mapping[str, AlertState]) -> tuple[Mapping[str, str], ...]:
    """The labels of the alerts that a group has already. Not of those that are quiet: of all values that were
    ever new there may be very many."""
    live = (state for state in known.values() if state.status not in QUIET)
    return tuple(state.group for state in live if _group_of(rule, state) == group)


def _appeared(one: Judged, window: Window, group: Group, summary: Summary | None) -> Appeared | None:
    """What is new in a group's rows, for a rule that asks; nothing is asked where there are none."""
    rule = one.rule
    if not isinstance(rule, NewValueRule) or one.novelty is None or summary is None or not summary.rows:
        return None
    return one.novelty.appeared(rule, one.model, window, group, summary, one.baseline, one.feed.first)


def _of_part(finding: Finding, part: str) -> Finding:
    """The finding with what part of the rows its value is of, where that is not all."""
    if not part or finding.value is None:
        return finding
    return structs.replace(finding, part=part, reason=f"{finding.reason}; {part}")


def against_baseline(rule: Rule) -> bool:
    """Whether the rule compares with the baseline: where it names nothing else."""
    compare = getattr(rule, "compare", None)
    return rule.compares and (compare is None or compare.to == "baseline")


def varies_of(baseline: Baseline, rule: Rule, group: Group) -> AtLength:
    """A feature is restless against a fixed reference: what it is against its own history tells something."""
    varies = baseline.at_length(rule.window, group)
    return varies if against_baseline(rule) else varies.restlessness_apart


def reference_of(baseline: Baseline | None, group: Group) -> Summary | None:
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
