"""A rule file with a mistake is an alert of its own: `kedge.rules-broken`, one per file, told to the default
receiver when the file breaks and when it is good again. Its steps are those of the clock, not of logs.
"""

import msgspec

from kedge.alerting.finding import AlertState, Finding, Severity, State
from kedge.alerting.lifecycle import QUIET, Identity, Timing, alert_id, fold, new_state
from kedge.alerting.loading import Problem, RuleBook
from kedge.pipeline.context import Pipeline
from kedge.windows import Millis

RULE = "kedge.rules-broken"
MODEL = "kedge"
"""What stands where other alerts name a model."""
_DESCRIPTION = (
    "Edits of this file take no effect until it is put right: kedge rules check lists every problem."
)


def watch_rule_files(pipe: Pipeline, book: RuleBook, now: Millis) -> int:
    """Fire for each file with a problem, resolve for each that has none any more; counts the changes.

    The store is asked when what this worker knows to be broken has changed, and once when it starts.
    """
    if pipe.broken_files == book.broken:
        return 0
    stored = pipe.store.alerts.of_rules({RULE})
    standing = {s.value["group"]["file"] for s in stored.values()}
    count = sum(_judged(pipe, book, file, now) for file in sorted(book.broken | standing))
    pipe.broken_files = book.broken
    return count


def _judged(pipe: Pipeline, book: RuleBook, file: str, now: Millis) -> bool:
    """One file; whether it changed its alert."""
    problems = [problem for problem in book.problems if problem.file == file]
    group = {"file": file}
    name = alert_id(RULE, MODEL, "", group)
    while True:
        stored = pipe.store.alerts.get(name)
        fresh = new_state(RULE, MODEL, "", group)
        before = msgspec.convert(stored.value, AlertState) if stored else fresh
        if bool(problems) != (before.status in QUIET):
            return False  # it stands as it should
        step = max(now, before.evaluated_through + 1)
        place = problems[0].place if problems else file
        identity = Identity(severity=Severity.HIGH, place=place, description=_DESCRIPTION if problems else "")
        after = fold(before, _finding(problems, book, file, step), Timing(), identity, now)
        if pipe.store.alerts.swap(name, msgspec.to_builtins(after), stored.token if stored else None):
            return True


def _finding(problems: list[Problem], book: RuleBook, file: str, step: Millis) -> Finding:
    if not problems:
        return Finding(step=step, state=State.OK, reason=f"{file} has no problem any more")
    first = problems[0]
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    force = "its last good version stays" if file in book.kept else "what is right in it is"
    return Finding(
        step=step,
        state=State.BREACH,
        severity=Severity.HIGH,
        n=len(problems),
        reason=f"{first.line}:{first.column}: {first.text}{more}; {force} in force",
        clears="save it without a mistake",
    )
