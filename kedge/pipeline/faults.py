"""A test instrument: named points between any two steps of a tick at which a process can be made to die.

Does nothing unless the environment variable KEDGE_FAULT names a point. A test that sets it starts a process,
sees it killed exactly there (SIGKILL: no handler, no `finally`, no flush), starts it again without it
and compares the end state with that of a run that was left alone.

KEDGE_STALL names a point at which the process stops instead (SIGSTOP, once), until a test lets it go on: the
worker that was away for minutes and does not know it.
"""

import os
import signal

VARIABLE = "KEDGE_FAULT"
STALL = "KEDGE_STALL"

POINTS: tuple[str, ...] = (
    # kedge/pipeline/tick.py, feed.py, summarise.py, evaluate.py: logs become summaries, metrics and states.
    "tick:labels-joined",
    "detect:changes-read",
    "detect:stored",
    "summarise:counted",
    "summarise:base-written",
    "summarise:tier-written",
    "summarise:day-written",
    "summarise:metrics-written",
    "summarise:cleared",
    "evaluate:folded",
    "evaluate:swapped",
    "evaluate:advanced",
    # kedge/pipeline/deliver.py, project: transitions become events and outbox rows.
    "deliver:projecting",
    "deliver:projected-event",
    "deliver:projected-outbox",
    "deliver:projected",
    # kedge/pipeline/deliver.py, deliver: outbox rows become posts.
    "deliver:leased",
    "deliver:attempting",
    "deliver:sent",
    "deliver:threaded",
    "deliver:recorded",
)
"""Every name that may be reached, in the order of a tick."""

ROUTED: tuple[str, ...] = (
    # kedge/pipeline/route.py: transitions become groups, and groups become rows.
    "route:assigned",
    "route:decided",
    "route:queued",
    "route:settled",
)
"""The same, on the way of a transition through a group; a tick without routes does not come there."""

_stalled = False


def reach(point: str) -> None:
    """Die or stop here if the environment says so. A name that is not in POINTS is an error anywhere."""
    global _stalled
    die, stop = (os.environ.get(name) or None for name in (VARIABLE, STALL))
    for name in (point, die, stop):
        if name is not None and name not in (*POINTS, *ROUTED):
            raise ValueError(f'"{name}" is not a fault point; kedge.pipeline.faults.POINTS lists them')
    if die == point:
        os.kill(os.getpid(), signal.SIGKILL)
    if stop == point and not _stalled:
        _stalled = True
        os.kill(os.getpid(), signal.SIGSTOP)
