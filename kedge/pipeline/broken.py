"""A file that people edit with a mistake in it is an alert of its own, one per file: `kedge.rules-broken` of
rule files, `kedge.notify-broken` of notify.yml. The default receiver (of the last good notify.yml) is told
when the file breaks and when it is good again. Steps are those of the clock, not of logs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from kedge.alerting.finding import AlertState, Finding, Severity, State
from kedge.alerting.lifecycle import QUIET, Identity, Timing, alert_id, fold, new_state
from kedge.alerting.loading import Problem, RuleBook
from kedge.notify.receivers import Receivers
from kedge.pipeline.context import Pipeline
from kedge.windows import Millis

RULES = "kedge.rules-broken"
NOTIFY = "kedge.notify-broken"
MODEL = "kedge"
"""What stands where other alerts name a model."""


@dataclass(frozen=True)
class _Watched:
    """Files of one kind, as this worker has read them."""

    rule: str
    problems: Sequence[Problem]
    kept: frozenset[str]
    """Of those with a problem: the last good version of these is in force."""
    check: str
    """The command that lists every problem."""

    @property
    def broken(self) -> frozenset[str]:
        return frozenset(problem.file for problem in self.problems)


def watch_files(pipe: Pipeline, book: RuleBook, receivers: Receivers, now: Millis) -> int:
    """Fire for each file with a problem, resolve for each that has none any more; counts the changes.

    The store is asked when what this worker knows to be broken has changed, and once when it starts.
    """
    of_notify = frozenset(problem.file for problem in receivers.problems)
    kinds = (
        _Watched(RULES, book.problems, book.kept, "kedge rules check"),
        _Watched(NOTIFY, receivers.problems, of_notify, "kedge notify check"),
    )
    broken = {kind.rule: kind.broken for kind in kinds}
    if pipe.broken_files == broken:
        return 0
    standing = [s.value for s in pipe.store.alerts.of_rules(broken.keys()).values()]
    count = 0
    for kind in kinds:
        known = {value["group"]["file"] for value in standing if value["rule"] == kind.rule}
        count += sum(_judged(pipe, kind, file, now) for file in sorted(kind.broken | known))
    pipe.broken_files = broken
    return count


def _judged(pipe: Pipeline, kind: _Watched, file: str, now: Millis) -> bool:
    """One file; whether it changed its alert."""
    problems = [problem for problem in kind.problems if problem.file == file]
    group = {"file": file}
    name = alert_id(kind.rule, MODEL, "", group)
    while True:
        stored = pipe.store.alerts.get(name)
        fresh = new_state(kind.rule, MODEL, "", group)
        before = msgspec.convert(stored.value, AlertState) if stored else fresh
        if bool(problems) != (before.status in QUIET):
            return False  # it stands as it should
        step = max(now, before.evaluated_through + 1)
        place = problems[0].place if problems else file
        told = f"Edits of this file take no effect until it is put right: {kind.check} lists every problem."
        identity = Identity(severity=Severity.HIGH, place=place, description=told if problems else "")
        after = fold(before, _finding(problems, kind, file, step), Timing(), identity, now)
        if pipe.store.alerts.swap(name, msgspec.to_builtins(after), stored.token if stored else None):
            return True


def _finding(problems: list[Problem], kind: _Watched, file: str, step: Millis) -> Finding:
    if not problems:
        return Finding(step=step, state=State.OK, reason=f"{file} has no problem any more")
    first = problems[0]
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    force = "its last good version stays" if file in kind.kept else "what is right in it is"
    return Finding(
        step=step,
        state=State.BREACH,
        severity=Severity.HIGH,
        n=len(problems),
        reason=f"{first.line}:{first.column}: {first.text}{more}; {force} in force",
        clears="save it without a mistake",
    )
