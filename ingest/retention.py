"""The retention floor as the gateway knows it: rows from before it are refused, with that reason."""

import time
from collections.abc import Callable

import structlog

from kedge.errors import KedgeError
from kedge.store.base import DocumentStore
from kedge.store.retention import DOCUMENT, Floors
from kedge.windows import Millis

REREAD_S = 60.0

_log = structlog.get_logger(__name__)


class RetentionFloor:
    """Read from `kedge-state` at most once a minute; while the store is away, what was known last."""

    def __init__(self, state: DocumentStore, seconds: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._seconds = seconds
        self._read_at: float | None = None
        self._floor: Millis = 0

    @property
    def known(self) -> Millis:
        """What was read last, without asking the store."""
        return self._floor

    def __call__(self) -> Millis:
        """The event time from which on predictions are taken."""
        now = self._seconds()
        if self._read_at is None or now - self._read_at >= REREAD_S:
            self._read_at = now
            try:
                stored = self._state.get(DOCUMENT)
            except KedgeError as error:  # down, or not set up yet
                _log.warning("the retention floor cannot be read", error=str(error))
            else:
                self._floor = Floors.of(stored.value["floors"]).predictions if stored else 0
        return self._floor
