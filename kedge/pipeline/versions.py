"""What judging one version against another reads: sums since the start of the comparison."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import add

from kedge.alerting.finding import Finding
from kedge.alerting.inputs import Inputs
from kedge.alerting.versions import VersionsRule
from kedge.pipeline.baselines import Baseline
from kedge.pipeline.dirty import ModelFeed
from kedge.pipeline.reader import SummaryReader
from kedge.sketch import Core, PartName, Summary
from kedge.store.base import Group, Grouping
from kedge.windows import HOUR, Millis, Window, ceil, floor, tile

_QUIET = 24
"""A candidate without rows in this part of its window, up to the step, gets no traffic any more."""


def judge_versions(
    reader: SummaryReader,
    rule: VersionsRule,
    model: str,
    known: ModelFeed,
    window: Window,
    step: Millis,
    *,
    baseline: Baseline | None,
    positive_class: str | None,
) -> Iterator[tuple[str, dict[str, str], Finding]]:
    """(candidate, group, finding) of each group with rows of the candidate; of the total where none has."""
    edges = baseline.edges if baseline else None
    searched = Window(max(window.start, floor(rule.since or 0, known.base)), window.end)
    start = first_rows(reader, model, known, searched, rule.grouping, rule.candidate, rule.window)
    compared = Window(min(window.start, step), step)
    if start is not None:
        compared = Window(start, min(step, start + rule.window))
        if rule.since is None and start <= window.start and known.first < window.start:
            compared = Window(step, step)
    sums = reader.window(model, known.base, compared, rule.parts, rule.grouping, edges) if start else {}
    ours, theirs = _sides(sums, rule)
    width = rule.step(known.base)
    lately = Window(max(step - ceil(max(rule.window // _QUIET, 2 * width), known.base), 0), step)
    alive, _ = _sides(
        reader.window(model, known.base, lately, frozenset({PartName.CORE}), rule.grouping), rule
    )
    for group, summary in sorted(ours.items()) or ([((), Summary.zero(edges))] if not rule.by else []):
        inputs = Inputs(
            window=compared,
            summary=summary,
            reference=theirs.get(group),
            edges=edges,
            positive_class=positive_class,
            groups=max(len(ours), 1),
            every=width,
            live=group in alive,
        )
        for labels, finding in rule.judge_all(inputs, step):
            yield rule.candidate, dict(group) | labels, finding


def first_rows(
    reader: SummaryReader,
    model: str,
    known: ModelFeed,
    window: Window,
    grouping: Grouping,
    version: str,
    lasting: Millis,
) -> Millis | None:
    """When a version's rows begin in a window: to the hour, or the base bucket where the comparison is
    `lasting` no more than two hours; None where it has none.
    """
    finest = max(known.base, HOUR if lasting > 2 * HOUR else known.base)
    return _first(reader, model, known, window, grouping, version, finest)


def _first(
    reader: SummaryReader,
    model: str,
    known: ModelFeed,
    window: Window,
    grouping: Grouping,
    version: str,
    finest: Millis,
    coarsest: Millis | None = None,
) -> Millis | None:
    start = max(floor(window.start, known.base), floor(known.first, known.base))
    if start >= window.end:
        return None
    lacking = known.missing(PartName.CORE)
    tiles = tile(Window(start, window.end), known.base, lacking, *([coarsest] if coarsest else []))
    for span in tiles:
        buckets = reader.parts(model, span.tier, Window(span.start, span.end), PartName.CORE, "", grouping)
        having = [b for b, groups in buckets.items() if _has(groups, grouping, version)]
        if not having:
            continue
        found = min(having)
        if span.tier <= finest:
            return max(floor(found, finest), window.start)
        inside = Window(max(found, window.start), min(found + span.tier, window.end))
        return _first(reader, model, known, inside, grouping, version, finest, finest) or found
    return None


def _has(groups: Mapping[Group, object], grouping: Grouping, version: str) -> bool:
    return any(
        isinstance(part, Core) and part.rows and ("version", version) in group
        for group, part in groups.items()
        if tuple(name for name, _ in group) == grouping
    )


def _sides(
    sums: Mapping[Group, Summary], rule: VersionsRule
) -> tuple[dict[Group, Summary], dict[Group, Summary]]:
    """The candidate's and the reference's summaries, by the group that is left without the version."""
    ours: dict[Group, list[Summary]] = defaultdict(list)
    theirs: dict[Group, list[Summary]] = defaultdict(list)
    for group, summary in sums.items():
        version = dict(group).get("version", "")
        rest = tuple((name, value) for name, value in group if name != "version")
        if version == rule.candidate and summary.rows:
            ours[rest].append(summary)
        elif rule.of_reference(version):
            theirs[rest].append(summary)
    return _added(ours), _added(theirs)


def _added(by_group: Mapping[Group, list[Summary]]) -> dict[Group, Summary]:
    return {group: reduce(add, held) for group, held in by_group.items()}
