"""Keeping rows that were refused, with their reasons.

Within reason: a client gone wrong must not fill the store with them.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import structlog

from ingest.drain import Drainer
from ingest.spool import Kind, SpoolBroken, SpoolFull
from kedge.errors import KedgeError
from kedge.store.base import Json, LogStore, RejectedRow

KEPT_A_MINUTE = 1_000

_log = structlog.get_logger(__name__)


class Keeper:
    """Keeps what was refused in the store, or in the spool while the store is down. Never raises: the client
    was told of each row anyway."""

    def __init__(self, logs: LogStore, drainer: Drainer | None) -> None:
        self._logs = logs
        self._drainer = drainer
        self._lock = threading.Lock()
        self._minute = 0
        self._left = 0
        self._reasons: Counter[str] = Counter()
        self._kept_rows = 0

    def counts(self) -> Json:
        """Rows refused since the start, those of them that can be looked up (`kept`), and what was wrong with
        them (`reasons`)."""
        with self._lock:
            reasons = dict(sorted(self._reasons.items()))
            return {"rows": sum(reasons.values()), "kept": self._kept_rows, "reasons": reasons}

    def keep(self, rows: Sequence[RejectedRow], reasons: Mapping[str, int]) -> None:
        """Keep rows; `reasons` counts all that were refused, of which `rows` may be the first."""
        if not reasons:
            return
        with self._lock:
            minute = int(time.monotonic() // 60)
            if minute != self._minute:
                self._minute, self._left = minute, KEPT_A_MINUTE
            rows = rows[: self._left]
            self._left -= len(rows)
            self._reasons.update(reasons)
        if rows and self._kept(rows):
            with self._lock:
                self._kept_rows += len(rows)

    def _kept(self, rows: Sequence[RejectedRow]) -> bool:
        problem = ""
        try:
            if self._drainer is None or not self._drainer.holding:
                self._logs.reject(rows)
                return True
        except KedgeError as error:
            problem = str(error)
        try:
            if self._drainer is not None:
                self._drainer.put(Kind.REJECTED, rows, problem)
                return True
        except (SpoolFull, SpoolBroken) as error:
            problem = str(error)
        _log.warning("rejected rows are not kept", rows=len(rows), error=problem)
        return False
