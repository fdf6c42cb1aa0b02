"""Steps that were judged, and whose windows have changed since: they are judged again.

Where late rows arrived and late labels were summarised anew stands in the feed under a mark; up to which mark
a rule's steps stand, in its progress. So a step is judged again if its window reaches into a change after
that mark, however often a worker dies on the way: what has not changed after all changes nothing (`correct`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kedge.alerting import past
from kedge.alerting.corrections import as_of
from kedge.alerting.finding import AlertState, Finding
from kedge.alerting.lifecycle import alert_id
from kedge.pipeline.judge import Judged, judge_step
from kedge.pipeline.progress import Reached
from kedge.pipeline.reader import SummaryReader
from kedge.windows import Millis, floor


@dataclass
class Again:
    """What steps of one rule found when they were judged again."""

    findings: dict[str, list[Finding]] = field(default_factory=dict)
    """By alert, in step order."""
    done: bool = True
    """Not so where a window is not summarised yet: nothing was judged, and is to be tried again."""


def steps_again(one: Judged, reached: Reached) -> list[Millis]:
    """The steps of a rule that are due to be judged again, oldest first."""
    changed = one.feed.changed_since(reached.mark, labels=one.rule.label_based)
    if not changed:
        return []
    newest = floor(reached.through, one.width)
    first = floor(reached.through - one.rule.timing.corrects, one.width) + one.width
    # Most changes are of buckets that were not judged yet, or long ago. The oldest window begins first.
    oldest = one.window_of(first).start
    changed = [w for w in changed if w.start < reached.through and w.end > oldest]
    if not changed:
        return []
    return [
        step
        for step in range(first, newest + 1, one.width)
        if one.rule.span(step) is not None
        and any(w.start < step and w.end > one.window_of(step).start for w in changed)
    ]


def only(one: Judged, steps: Sequence[Millis]) -> tuple[Judged, Millis]:
    """The rule as if it were judged up to the last of the steps, and since when: for what they read."""
    return replace(one, through=steps[-1]), steps[0] - one.width


def judge_again(
    reader: SummaryReader,
    one: Judged,
    steps: Sequence[Millis],
    known: dict[str, AlertState],
    spooled: Millis | None,
) -> Again:
    """Judge steps again for the alerts that were judged at them."""
    found = Again()
    if not steps:
        return found
    for step in steps:
        windows = one.windows_of(step)
        waits = spooled is not None and windows[0].end > spooled
        if waits or any(one.feed.incomplete_in(w, one.rule.parts) for w in windows):
            return Again(done=False)
    reader.ahead = steps[-1]
    rule = one.rule
    for step in steps:
        then = {n: s for n, s in known.items() if s.past is not None and past.holds(s.past, step)}
        if rule.timing.remember:  # when it fired decides what it is compared with
            timing, identity = rule.timing, rule.identity
            then = {n: as_of(s, found.findings.get(n, ()), step, timing, identity) for n, s in then.items()}
        if not then:
            continue
        for version, group, finding in judge_step(reader, one, one.window_of(step), step, then):
            name = alert_id(rule.name, one.model, version, group)
            if name in then:
                found.findings.setdefault(name, []).append(finding)
    return found
