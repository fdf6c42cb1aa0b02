"""What the last tick left to be told of: when it ended, how long it took, what waits.

Ticks of several processes leave it in the document of their lease, which they write in any case; the one
process that alone has the store open keeps it in memory.
"""

from typing import NamedTuple

from kedge.pipeline.context import Pipeline
from kedge.pipeline.lease import left
from kedge.store.base import Json
from kedge.windows import Millis


class Ticked(NamedTuple):
    """Of the last tick that ran to its end."""

    ended: Millis
    """By the machine's clock."""
    seconds: float
    labels_waiting: int
    """Labels whose prediction has not come yet."""

    def told(self) -> Json:
        return self._asdict()


def last_tick(pipe: Pipeline) -> Ticked | None:
    """None where none has ended yet, or none since this process started, where it alone ticks. One request at
    most."""
    if pipe.sole_writer:
        return Ticked(**pipe.ticked) if pipe.ticked else None
    told = left(pipe.store.state, "tick")
    return Ticked(**told) if told else None
