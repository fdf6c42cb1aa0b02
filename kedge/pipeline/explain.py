"""Why a finding is as it is: read and worked out only for what is about to be told.

A judgement reads its own groups; its causes read every grouping of the model. So the findings are judged and
folded first, and those whose transitions will be told get their causes (`kedge.analysis.causes`), which
change nothing of what was decided. They are against what the rule compares with, or else the baseline.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec.structs import replace

from kedge.alerting.drift import DriftRule
from kedge.alerting.finding import AlertState, Finding, State, Transition
from kedge.alerting.lifecycle import ACTIVE, fold
from kedge.alerting.rule import Rule
from kedge.alerting.series import SeriesRule
from kedge.alerting.threshold import ThresholdRule
from kedge.analysis.additive import is_additive
from kedge.analysis.catalogue import MetricInfo, of_family
from kedge.analysis.causes import (
    Cause,
    Decomposition,
    Part,
    changed_causes,
    decompose,
    feature_causes,
    group_causes,
    is_normal,
    part_of,
    quality_causes,
    ranked,
    with_rest,
)
from kedge.analysis.drift import DriftSettings, FeatureDrift, drift, drifted_of
from kedge.analysis.faulty import first_of
from kedge.analysis.measure import Context, metric
from kedge.analysis.metric import Metric, Verdict
from kedge.analysis.quality import feature_names
from kedge.analysis.quality_change import APPEARED, CONSTANT
from kedge.pipeline.baselines import Baseline
from kedge.pipeline.judge import Judged, varies_of
from kedge.pipeline.reader import SummaryReader
from kedge.pipeline.references import References, Spans
from kedge.pipeline.summarise import computed_in
from kedge.sketch import Core, PartName, Summary
from kedge.store.base import Group, Grouping
from kedge.windows import DAY, Millis, Window

_Groups = Mapping[Group, Summary]
_Parts = frozenset[PartName]
_Read = Callable[[Window, Grouping, _Parts], _Groups]
MOST = 8
_WATCHED = {"errors": "errors.rate", "latency": "latency.p95", "confidence": "confidence.mean"}
"""What people ask first whether it is normal, and the metric that answers."""
TRAFFIC_WITHIN = 1.5
"""Times more, or fewer, rows an hour than in the reference."""


def explained(
    reader: SummaryReader,
    one: Judged,
    before: AlertState,
    after: AlertState,
    findings: Sequence[Finding],
) -> list[Finding]:
    """The findings, those with causes that the new transitions of an alert tell of."""
    steps = {t.finding.step for t in after.outgoing[len(before.outgoing) :] if _tells(t)}
    told, state = [], before
    for finding in findings:
        told.append(_with_causes(reader, one, state, finding) if finding.step in steps else finding)
        # What a history is without depends on when the alert fired until then.
        state = fold(state, finding, one.rule.timing, one.rule.identity, finding.step)
    return told


def _tells(transition: Transition) -> bool:
    """It fires, or worsens."""
    if transition.after not in ACTIVE or transition.finding.state is not State.BREACH:
        return False
    before = transition.severity_before
    return transition.before not in ACTIVE or (before is not None and transition.severity > before)


def _with_causes(reader: SummaryReader, one: Judged, state: AlertState, finding: Finding) -> Finding:
    rule = one.rule
    if not isinstance(rule, ThresholdRule | DriftRule | SeriesRule):
        return finding
    about = _About.of(reader, one, state, Window(*finding.window))
    if about is None:
        return finding
    causes: Sequence[dict[str, Any]] = finding.causes
    bad, drifts = about.quality(), about.drifts()
    info, cls = _watched(rule)
    if info is not None:
        groups = about.groups(info, cls) if is_additive(info) else []
        drifted = drifted_of([d for d in drifts if not d.restless], about.context.drift.alpha)
        causes = [cause.to_json() for cause in ranked(groups, bad, feature_causes(drifted))]
    families = {name.partition(".")[0] for name in _names(rule)}
    normal = tuple(name for name in about.normal(bad, drifts) if name not in families)
    rows = finding.rows or first_of(causes[:MOST])
    return replace(finding, causes=tuple(causes[:MOST]), normal=normal, rows=rows)


class _Reference(Protocol):
    """What a rule compares with, else the baseline: its groups."""

    length: Millis
    """Of time; 0 where traffic cannot be compared: with a file, whose rows may be a sample, or a version."""

    def groups(self, grouping: Grouping, parts: _Parts) -> _Groups:
        """By group: of this grouping, and of what it is without the version; with these parts at least."""
        ...


class _OfBaseline:
    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline
        self.length = 0 if baseline.source.startswith("file") else baseline.window.length

    def groups(self, grouping: Grouping, parts: _Parts) -> _Groups:
        return self._baseline.summaries


class _OfWindows:
    """Other windows, or another version, as the rule compares with them."""

    def __init__(self, references: References, spans: Spans, own: Group, read: _Read) -> None:
        self._references, self._spans, self._own, self._read = references, spans, own, read
        another = references.compare.version is not None  # which has a part of the traffic of its own
        self.length = 0 if another else sum(span.length for span in spans)

    def groups(self, grouping: Grouping, parts: _Parts) -> _Groups:
        return self._references.groups_of(
            self._spans, self._own, lambda span: self._read(span, grouping, parts)
        )


def _names(rule: Rule) -> tuple[str, ...]:
    """Of the metrics that a rule is on; drift is of the inputs."""
    if isinstance(rule, ThresholdRule):
        return (rule.metric,)
    return rule.names if isinstance(rule, SeriesRule) else ("inputs",)


def _watched(rule: Rule) -> tuple[MetricInfo | None, str | None]:
    """The one metric whose move is to be explained, and its class; None where the finding says what moved."""
    if isinstance(rule, ThresholdRule) and not rule.fans_out and rule.feature is None:
        return rule.info, rule.cls
    if isinstance(rule, SeriesRule) and len(rule.infos) == 1 and rule.feature is None:
        return rule.infos[0], rule.cls
    return None, None


@dataclass(frozen=True)
class _About:
    """One group's window and reference, and how to read more of both."""

    read: _Read
    one: Judged
    held: _Reference
    window: Window
    own: Group
    """The alert's group, with its version where versions are judged apart."""
    summary: Summary
    reference: Summary
    context: Context

    @classmethod
    def of(cls, reader: SummaryReader, one: Judged, state: AlertState, window: Window) -> "_About | None":
        """None where either side has nothing."""
        values = {**state.group, **({"version": state.version} if state.version else {})}
        own = tuple((name, values[name]) for name in one.rule.grouping if name in values)
        baseline, rule = one.baseline, one.rule
        edges = baseline.edges if baseline else None
        parts = rule.parts | {PartName.CORE} | ({PartName.CELLS} if edges and edges.features else set())

        def read(window: Window, grouping: Grouping, parts: _Parts) -> _Groups:
            own = one.state.settings.own.key
            return reader.window(one.model, one.feed.base, window, parts, grouping, edges, own)

        held: _Reference
        if one.references is not None:
            held = _OfWindows(one.references, one.references.read_of(window, state), own, read)
        elif baseline is not None:
            held = _OfBaseline(baseline)
        else:
            return None
        sums, before = read(window, rule.grouping, parts), held.groups(rule.grouping, parts)
        reference = before.get(own, before.get(tuple(pair for pair in own if pair[0] != "version")))
        if own not in sums or reference is None:
            return None
        settings = one.state.settings
        of = DriftSettings()
        if baseline is not None:
            fixed = one.references is None
            of = (
                baseline.at_length(rule.window, own) if fixed else varies_of(baseline, rule, own)
            ).settings()
        context = Context(settings.positive_class, reference, edges, drift=of, own=settings.own)
        return cls(read, one, held, window, own, sums[own], reference, context)

    # --- what moved ---------------------------------------------------------------------------------------

    def groups(self, info: MetricInfo, cls: str | None) -> list[Cause]:
        return group_causes(self._decompositions(info, cls), info.unit)

    def _decompositions(self, info: MetricInfo, cls: str | None) -> Iterator[Decomposition]:
        """Over each grouping that is summarised and splits this group further."""

        def read(summary: Summary) -> Part | None:
            return part_of(metric(info.name, summary, self.context, cls=cls))

        now, before = read(self.summary), read(self.reference)
        if now is None or before is None:
            return
        parts = info.reads | {PartName.CORE}
        for grouping in computed_in(self.one.feed.computed).groupings:
            if not set(grouping) > {name for name, _ in self.own}:
                continue
            then = self._inside(self.held.groups(grouping, parts), grouping)
            if not then:  # the reference is older than the grouping
                continue
            sums = self.read(self.window, grouping, parts)
            sides = [
                {group: part for group, summary in side.items() if (part := read(summary)) is not None}
                for side in (then, self._inside(sums, grouping))
            ]
            rest = tuple(name for name in grouping if name not in dict(self.own))
            found = decompose(rest, with_rest(sides[0], before), with_rest(sides[1], now))
            if found is not None:
                yield found

    def _inside(self, summaries: Mapping[Group, Summary], grouping: Grouping) -> dict[Group, Summary]:
        """The groups of a grouping within this one, by what tells them apart there. A version that the
        reference has never seen is compared to all its rows, as the finding was.
        """
        of_grouping = {g: s for g, s in summaries.items() if tuple(name for name, _ in g) == grouping}
        inside = {g: s for g, s in of_grouping.items() if set(self.own) <= set(g)}
        if not inside and "version" in dict(self.own):
            fewer = tuple(name for name in grouping if name != "version")
            own = {pair for pair in self.own if pair[0] != "version"}
            inside = {g: s for g, s in summaries.items() if tuple(n for n, _ in g) == fewer and own <= set(g)}
        held = dict(self.own)
        return {tuple((n, v) for n, v in g if n not in held): s for g, s in inside.items()}

    def quality(self) -> list[Cause]:
        """Features that froze or are new, and those with more bad values than before."""
        before = {m.key: m for m in self._quality_of(self.reference)}
        now = self._quality_of(self.summary)
        features = self.context.edges.features if self.context.edges else ()
        frozen = [metric(CONSTANT, self.summary, self.context, feature=f) for f in features]
        return [
            *changed_causes([*frozen, metric(APPEARED, self.summary, self.context)]),
            *quality_causes([(before[m.key], m) for m in now if m.key in before]),
        ]

    def _quality_of(self, summary: Summary) -> list[Metric]:
        features = feature_names(summary.core or Core(), self.context.edges, self.context.features)
        return [
            metric(info.name, summary, self.context, feature=feature)
            for feature in features
            for info in of_family("quality")
            if info.takes == "feature" and not info.needs_reference
        ]

    def drifts(self) -> list[FeatureDrift]:
        edges = self.context.edges
        if self.summary.cells is None or self.reference.cells is None or edges is None:
            return []
        return drift(self.reference.cells, self.summary.cells, edges, self.context.drift)

    # --- what did not -------------------------------------------------------------------------------------

    def normal(self, bad: Sequence[Cause], drifts: Sequence[FeatureDrift]) -> Iterator[str]:
        """`traffic`, `latency`, …: what is as in the reference, as far as that can be told."""
        if self._steady_traffic():
            yield "traffic"
        for name, wanted in _WATCHED.items():
            now, before = (metric(wanted, s, self.context) for s in (self.summary, self.reference))
            if is_normal(before, now):
                yield name
        if not bad and self.summary.rows:
            yield "quality"
        calm = [d for d in drifts if not d.restless]
        if calm and all(d.verdict is Verdict.OK for d in calm):
            yield "inputs"

    def _steady_traffic(self) -> bool:
        """Rows an hour against the reference: of whole days only, for nights are not days."""
        if self.window.length < DAY or not self.held.length:
            return False
        hourly = [
            self.summary.rows / self.window.length,
            self.reference.rows / self.held.length,
        ]
        return min(hourly) > 0 and max(hourly) <= TRAFFIC_WITHIN * min(hourly)
