"""The steps of an alert that late rows and labels may still correct, kept in its document. Pure.

Of each step what the fold needs is kept, in runs of steps that found the same; what is too old to be
corrected is folded into where the alert stood before them. So folding them again gives where the alert would
stand had all that is known now been known in time.
"""

from collections.abc import Callable, Iterator, Mapping

from msgspec.structs import replace

from kedge.alerting.finding import AlertState, Finding, Past, Run, Standing, State, Status
from kedge.windows import Millis

Fold = Callable[[AlertState, Finding], AlertState]
"""One step of the fold, of an alert that keeps no past."""
SEPARATOR = "/"
"""Of a rule's signature from its timing, in `Past.under`."""
SLACK = 4
"""A past may grow by that part of what corrections reach over, so that not each step folds one away."""
MISSING = frozenset({State.NO_DATA, State.INSUFFICIENT, State.INCOMPLETE})
_QUIET = frozenset({Status.INACTIVE, Status.RESOLVED})


def kept(state: AlertState, finding: Finding, under: str, reach: Millis, fold: Fold) -> Past:
    """The past of an alert that stood as `state` before `finding`, with it; steps older than `reach` are
    folded away. A rule that means something else now begins a new past."""
    past = state.past
    if past is None or past.under != under:
        past = Past(base=_standing(state), under=under)
    runs = _appended(past.runs, finding.step, _bare(finding))
    base, oldest = past.base, finding.step - reach
    if runs[0].start <= oldest - reach // SLACK:
        signature, _, _ = under.partition(SEPARATOR)
        while runs[0].start <= oldest:
            base, runs = _folded_away(state, base, runs, oldest, fold, signature)
    return Past(base=base, runs=runs, under=under)


def steps(past: Past) -> Iterator[tuple[Millis, Finding]]:
    """The steps that are kept, oldest first."""
    for run in past.runs:
        for i in range(run.count):
            yield run.start + i * run.gap, run.found


def holds(past: Past, step: Millis) -> bool:
    return any(
        step == run.start or (run.gap and run.start <= step < run.start + run.count * run.gap)
        for run in past.runs
        if not run.gap or (step - run.start) % run.gap == 0
    )


def corrected(past: Past, found: Mapping[Millis, Finding]) -> tuple[Past, list[Finding]]:
    """The past with steps that were judged again, and the findings that changed it, oldest first.

    What is missing takes nothing back that was judged: late rows add to what is known.
    """
    changed = []
    runs: tuple[Run, ...] = ()
    for step, before in steps(past):
        again = found.get(step)
        now = before if again is None or again.state in MISSING else _bare(again)
        if again is not None and now != before:
            changed.append(again)
        runs = _appended(runs, step, now)
    return replace(past, runs=runs), changed


def refolded(state: AlertState, past: Past, fold: Fold, before: Millis | None = None) -> AlertState:
    """Where the alert would stand had it always been so, with the changes on the way as its `outgoing`; where
    `before` is given, by the steps before that alone."""
    again = _standing_again(state, past.base)
    for step, found in steps(past):
        if before is None or step < before:
            again = fold(again, replace(found, step=step))
    return again


def _bare(finding: Finding) -> Finding:
    """What the fold goes by."""
    return Finding(
        step=0,
        state=finding.state,
        severity=finding.severity,
        holding=finding.holding,
        resumes=finding.resumes,
    )


def _standing(state: AlertState) -> Standing:
    return Standing(**{name: getattr(state, name) for name in Standing.__struct_fields__})


def _standing_again(state: AlertState, base: Standing) -> AlertState:
    held = {name: getattr(base, name) for name in Standing.__struct_fields__}
    nothing = {"past": None, "outgoing": (), "turns": (), "flapping": None, "incident": None}
    return replace(state, **held, **nothing, acknowledged_by="", finding=None)


def _folded_away(
    state: AlertState, base: Standing, runs: tuple[Run, ...], oldest: Millis, fold: Fold, signature: str
) -> tuple[Standing, tuple[Run, ...]]:
    """Where the alert stood after the first step, and the runs without it; of a quiet alert's ok run, after
    all its steps up to `oldest`."""
    run = runs[0]
    if base.status in _QUIET and not base.rung_since and run.found.state is State.OK:
        count = min((oldest - run.start) // run.gap + 1, run.count) if run.gap else 1
        through = run.start + (count - 1) * run.gap
        base = replace(base, evaluated_through=through, started=None, no_data_since=None, signature=signature)
        return base, _without_first(runs, count)
    base = _standing(fold(_standing_again(state, base), replace(run.found, step=run.start)))
    return base, _without_first(runs, 1)


def _appended(runs: tuple[Run, ...], step: Millis, found: Finding) -> tuple[Run, ...]:
    if not runs or runs[-1].found != found:
        return (*runs, Run(step, 1, 0, found))
    last = runs[-1]
    if last.count > 1 and step != last.start + last.count * last.gap:
        return (*runs, Run(step, 1, 0, found))
    return (
        *runs[:-1],
        Run(last.start, last.count + 1, step - (last.start + (last.count - 1) * last.gap), found),
    )


def _without_first(runs: tuple[Run, ...], count: int) -> tuple[Run, ...]:
    first, *others = runs
    left = first.count - count
    if not left:
        return tuple(others)
    gap = first.gap if left > 1 else 0
    return (Run(first.start + count * first.gap, left, gap, first.found), *others)
