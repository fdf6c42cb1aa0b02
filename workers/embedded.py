"""The crank of the embedded mode: a thread that ticks at the configured interval."""

import logging
import threading

from kedge.clock import Clock
from kedge.errors import KedgeError
from kedge.pipeline.context import Pipeline
from kedge.pipeline.tick import TickReport, tick

log = logging.getLogger("kedge.scheduler")


class Scheduler:
    """Ticks in a thread of its own until stopped. A tick that fails is told, and the next one tried."""

    def __init__(self, pipe: Pipeline, clock: Clock, every_s: float) -> None:
        self._pipe, self._clock, self._every_s = pipe, clock, every_s
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="kedge-scheduler", daemon=True)
        self.last: TickReport | None = None
        self.failure = ""
        """Why the last tick failed; empty if it did not."""

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> None:
        """Let the running tick end, then stop."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                with self._turn:
                    self.last = tick(self._pipe, self._clock())
                self.failure = ""
            except KedgeError as e:
                self.failure = str(e)
                log.warning("tick put off: %s", e)
            except Exception as e:
                self.failure = f"{type(e).__name__}: {e}"
                log.exception("tick failed")
