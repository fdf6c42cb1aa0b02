"""One thread writes; what callers ask for while it commits is committed together next (group commit).

A commit waits for the disk, and DuckDB spends about a millisecond on any statement however few rows it takes.
So the work of a group is sorted by *handler*, and a handler gets all of its payloads at once: a hundred
callers that append a row each cost one INSERT and one commit.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import duckdb

from kedge.errors import StoreUnavailable
from kedge.store.duckdb.database import spoken

P = TypeVar("P")
R = TypeVar("R")

GROUP = 512
"""Payloads committed together at most."""


class Transaction:
    """What a handler works in. It may run again after a rollback, so it changes nothing but the database;
    what must follow in memory is left to `after_commit`.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self._after: list[Callable[[], None]] = []

    def after_commit(self, action: Callable[[], None]) -> None:
        self._after.append(action)

    def committed(self) -> None:
        for action in self._after:
            action()


Handler = Callable[[Transaction, list[P]], list[R]]
"""Does the work of several calls in one transaction: a result for each payload, in order."""


class _Job(NamedTuple):
    handler: Handler[Any, Any]
    payload: Any
    future: Future[Any]


class Writer:
    """The only one that writes. `rolled_back` is called after a rollback, to forget what was noted on the
    way.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, rolled_back: Callable[[], None]) -> None:
        self._connection = connection
        self._rolled_back = rolled_back
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="kedge-duckdb-writer", daemon=True)
        self._thread.start()

    def submit(self, handler: Handler[P, R], payload: P) -> Future[R]:
        """Queue work; the future has its result once it is committed. Work is committed in the order of
        submission.
        """
        future: Future[R] = Future()
        with self._lock:  # so that nothing can be queued behind the end
            if self._closed:
                raise StoreUnavailable("the store is closed")
            self._queue.put(_Job(handler, payload, future))
        return future

    def run(self, handler: Handler[P, R], payload: P) -> R:
        """Queue work and wait until it is committed; raises what the handler raised."""
        return self.submit(handler, payload).result()

    def close(self) -> None:
        """Commit what is queued, then end."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group = [first]
            ended = False
            while len(group) < GROUP and not self._queue.empty():
                job = self._queue.get()
                if job is None:
                    ended = True
                    break
                group.append(job)
            self._commit(group)
            if ended:
                return

    def _commit(self, group: list[_Job]) -> None:
        """Commit a group; where it fails, each of its jobs on its own, so that one caller's fault costs no
        other.
        """
        try:
            with spoken():
                results = self._attempt(group)
        except Exception as error:  # noqa: BLE001 - it is the caller's, and is raised there
            if len(group) == 1:
                group[0].future.set_exception(error)
            else:
                for job in group:
                    self._commit([job])
            return
        for job, result in results:
            job.future.set_result(result)

    def _attempt(self, group: list[_Job]) -> list[tuple[_Job, Any]]:
        by_handler: dict[Handler[Any, Any], list[_Job]] = {}
        for job in group:
            by_handler.setdefault(job.handler, []).append(job)
        transaction = Transaction(self._connection)
        self._connection.begin()
        try:
            results = [
                pair
                for handler, jobs in by_handler.items()
                for pair in zip(jobs, handler(transaction, [job.payload for job in jobs]), strict=True)
            ]
            self._connection.commit()
        except BaseException:
            self._undo()
            raise
        transaction.committed()
        return results

    def _undo(self) -> None:
        try:
            self._connection.rollback()
        except duckdb.Error:
            # A failed commit has rolled back already, and says so as an error. The first error is the one to
            # tell.
            pass
        self._rolled_back()
