"""Where time comes from. Only the edges (command line, servers, workers) hold a clock; everything below is
given `now`.
"""

import time
from collections.abc import Callable

from kedge.errors import BadInput
from kedge.windows import Millis

Clock = Callable[[], Millis]


def system_clock() -> Millis:
    """The machine's clock, in `Millis`."""
    return time.time_ns() // 1_000_000


def rehearsal_clock(spec: str) -> Clock:
    """`START:SPEED`: a clock that runs SPEED times as fast since the epoch millisecond START.

    For rehearsals of rules and for tests: every process started with the same `KEDGE_CLOCK` tells the same
    time, so an hour of alerting passes in three minutes at a speed of 20. An empty spec is the machine's
    clock.
    """
    if not spec:
        return system_clock
    try:
        start_text, speed_text = spec.split(":")
        start, speed = int(start_text), float(speed_text)
    except ValueError:
        raise BadInput("write START_MS:SPEED, for example 1790000000000:20", "KEDGE_CLOCK") from None
    return lambda: start + round((system_clock() - start) * speed)
