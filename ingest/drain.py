"""Between a gateway and a store that is down at times: rows that cannot be written wait in the spool.

A thread writes them in order once the store takes them again.
"""

import math
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import structlog

from ingest.spool import Batch, Depth, Kind, Record, Spool
from ingest.write import LogWriter, rejected_row
from kedge.clock import Clock, system_clock
from kedge.errors import KedgeError, StoreUnavailable
from kedge.pipeline.spooled import Gateway, forget, tell
from kedge.store.base import Json, Store, Written
from kedge.store.retention import too_old
from kedge.windows import SECOND, Millis, iso

HEARTBEAT = 15 * SECOND
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 15.0
"""Between tries; doubled from one to the next."""
CUT_AFTER = 2
"""Failures of rows, while the store answers otherwise, before they are tried in halves."""
GIVE_UP_AFTER = 8
"""Failures of a row alone before it is rejected, where the store stores others or fails on it (500)."""
GIVE_UP_ANYWAY = 24
"""The same where nothing shows that it is the row: some minutes, in which the store answers otherwise."""
_BUSY = (429, 503)
"""The store's answers that are about the store, never about a row."""
_SMALLEST_BUSY = 100
"""Rows that are not cut further for a store that is busy: it would only be asked more often."""
_STOP_S = 10.0

_log = structlog.get_logger(__name__)


class _Piece:
    """Rows that are tried together."""

    def __init__(self, records: Sequence[Any]) -> None:
        self.records = records
        self.failures = 0
        self.others = 0
        """Rows that were stored when this was first found to fail alone."""


class _Told(NamedTuple):
    depth: Depth
    at: Millis


class Drainer:
    """Owns a spool. `put` and `holding` are for the gateway's threads; `start` begins the thread that drains.

    `prepare` is run once before anything is written, and tried again while it raises: set-up, where the store
    was down when the gateway started.
    """

    def __init__(
        self,
        spool: Spool,
        store: Store,
        clock: Clock,
        *,
        prepare: Callable[[], object] | None = None,
        wall: Clock = system_clock,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self.spool = spool
        self._store = store
        self._writer = LogWriter(store, store.state)
        self._clock = clock
        self._wall = wall
        self._prepare = prepare
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kedge-spool", daemon=True)
        self._told: _Told | None = None
        self._batch: Batch | None = None
        self._pieces: deque[_Piece] = deque()
        self._failures = 0
        self.error = ""
        """Why the store could not be written to when it was last tried; empty if it could."""
        self.drained: Counter[str] = Counter()
        """Rows that left the spool since the start, by what became of them."""

    # --- the gateway's side -----------------------------------------------------------------------

    @property
    def holding(self) -> bool:
        """Whether what arrives now must wait behind what is held."""
        return self._prepare is not None or not self.spool.empty

    @property
    def problem(self) -> str:
        """Why no more rows could be kept; empty while they can."""
        return "the spool is full" if self.spool.full else ""

    def put(self, kind: Kind, records: Sequence[Record], error: str = "") -> None:
        """Keep rows; `error` is why they could not be written. Raises as Spool.put."""
        if records:
            if error:
                self.error = error
            self.spool.put(kind, records, self._wall())
            self._awake.set()

    def status(self) -> Json:
        depth = self.spool.depth()
        return {
            "gateway": self.spool.name,
            "rows": depth.rows,
            "bytes": depth.bytes,
            "limit": self.spool.limit,
            "oldest": iso(depth.oldest) if depth.oldest is not None else None,
            "age_s": (self._wall() - depth.since) / 1000 if depth.since is not None else 0.0,
            "error": self.error or None,
            "drained": dict(self.drained),
        }

    # --- the thread -------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, between two requests to the store if it answers; what is held stays."""
        self._stopping.set()
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        if not self._failures and not self._thread.is_alive():
            try:
                forget(self._store.state, self.spool.name) if self.spool.empty else self._tell()
            except KedgeError as error:
                _log.warning("not told that the gateway ends", error=str(error))
        self.spool.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                idle = self._step()
            except Exception as error:  # noqa: BLE001 - rows must not be stuck for an error of ours
                self._failed(error)
                self._stopping.wait(self._pause())
            else:
                if self._failures or self.error:
                    _log.info("the store takes rows again")
                self._failures, self.error = 0, ""
                if idle:
                    self._awake.wait(HEARTBEAT / 1000)
                    self._awake.clear()

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._told = None  # when the store is back, it is told first what is held
        text = str(error) if isinstance(error, KedgeError) else f"{type(error).__name__}: {error}"
        if text != self.error or self._failures == 1:
            _log.warning("rows wait in the spool", error=text, rows=self.spool.rows)
        if not isinstance(error, KedgeError):
            _log.exception("draining failed")
        self.error = text

    def _pause(self) -> float:
        longest = min(self._first_pause_s * 2.0 ** min(self._failures - 1, 20), self._longest_pause_s)
        return longest * random.uniform(0.5, 1.0)

    def _step(self) -> bool:
        """Do one thing; True if there is nothing more to do now."""
        if self._prepare is not None:
            self._prepare()
            self._prepare = None
        if self._batch is None:
            self._batch = self.spool.peek()
            if self._batch is not None:
                self._pieces = deque([_Piece(self._batch.records)])
        self._tell_if_due()
        if self._batch is None:
            return self.spool.empty
        if self._pieces:
            self._try_piece(self._batch.kind)
        if not self._pieces:
            self.spool.drop(self._batch)
            self._batch = None
        return False

    def _tell_if_due(self) -> None:
        depth, told = self.spool.depth(), self._told
        changed = (
            told is None
            or (depth.rows > 0) is not (told.depth.rows > 0)
            or (depth.oldest is not None and depth.oldest < (told.depth.oldest or math.inf))
        )
        if told is None or changed or told.at <= self._wall() - HEARTBEAT:
            self._tell()

    def _tell(self) -> None:
        depth, at = self.spool.depth(), self._wall()
        tell(self._store.state, Gateway(self.spool.name, depth.oldest, depth.rows, depth.bytes, at))
        self._told = _Told(depth, at)

    # --- writing ----------------------------------------------------------------------------------

    def _try_piece(self, kind: Kind) -> None:
        """Write the first piece. The store has just answered, so that a failure may be the rows' own."""
        piece = self._pieces[0]
        try:
            left = self._write(kind, piece.records)
        except Exception as error:
            self._blame(kind, piece, error)
            raise
        if left is None:
            self._pieces.popleft()
            return
        if len(left.records) < len(piece.records):
            piece.records, piece.failures = left.records, 0
        self._blame(kind, piece, left.failure)
        raise left.failure

    def _blame(self, kind: Kind, piece: _Piece, error: Exception) -> None:
        """Decide what is tried next after a piece has failed."""
        piece.failures += 1
        if isinstance(error, KedgeError) and not isinstance(error, StoreUnavailable):
            return  # credentials, missing templates: no row's fault
        busy = isinstance(error, StoreUnavailable) and error.status in _BUSY
        rows = len(piece.records)
        if rows > (_SMALLEST_BUSY if busy else 1):
            if piece.failures >= CUT_AFTER:
                self._pieces.popleft()
                half = rows // 2
                self._pieces.extendleft([_Piece(piece.records[half:]), _Piece(piece.records[:half])])
            return
        if rows > 1 or busy:
            return
        stored = sum(self.drained.values())
        if piece.failures == 1:
            piece.others = stored
        self._pieces.rotate(-1)  # the others go by meanwhile
        own_fault = not isinstance(error, StoreUnavailable) or error.status == 500 or stored > piece.others
        if piece.failures >= (GIVE_UP_AFTER if own_fault else GIVE_UP_ANYWAY):
            if kind is not Kind.REJECTED:
                self._store.reject([rejected_row(piece.records[0], str(error), self._clock())])
            self.drained["rejected"] += 1
            self._pieces.remove(piece)

    def _write(self, kind: Kind, records: Sequence[Any]) -> "_Left | None":
        """Write records; what is left of them where the store stopped in the middle."""
        if kind is Kind.REJECTED:
            self._store.reject(records)
            self.drained["kept as rejected"] += len(records)
            return None
        if kind is Kind.LABELS:
            self.drained.update(joined.value for joined in self._writer.labels(records))
            return None
        floor = self._writer.floor()
        old = [record for record in records if record.timestamp < floor]
        if old:  # their days were dropped while they waited
            records = [record for record in records if record.timestamp >= floor]
            self._store.reject([rejected_row(record, too_old(floor), self._clock()) for record in old])
            self.drained[Written.REJECTED.value] += len(old)
        appended = self._writer.predictions(records)
        refused = [
            rejected_row(records[i], result.reason, self._clock())
            for i, result in enumerate(appended.results)
            if result is not None and result.written is Written.REJECTED
        ]
        if refused:
            self._store.reject(refused)
        self.drained.update(result.written.value for result in appended.results if result is not None)
        if appended.failure is None:
            return None
        return _Left([records[i] for i in appended.left], appended.failure)


class _Left(NamedTuple):
    records: Sequence[Any]
    failure: StoreUnavailable
