"""A test instrument: named points between any two steps of a tick at which a process can be made to die.

Does nothing unless the environment variable KEDGE_FAULT names a point. A test that sets it starts a process,
sees it killed exactly there (SIGKILL: no handler, no `finally`, no flush), starts it again without it
and compares the end state with that of a run that was left alone.
"""

import os
import signal

VARIABLE = "KEDGE_FAULT"

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


def reach(point: str) -> None:
    """Die here if KEDGE_FAULT says so. A name that is not in POINTS is an error, on either side."""
    wanted = os.environ.get(VARIABLE) or None
    for name in (point, wanted):
        if name is not None and name not in POINTS:
            raise ValueError(f'"{name}" is not a fault point; kedge.pipeline.faults.POINTS lists them')
    if wanted == point:
        os.kill(os.getpid(), signal.SIGKILL)
