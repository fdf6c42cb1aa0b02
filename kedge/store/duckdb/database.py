"""The DuckDB file: opened once by one process, read through a cursor a thread, its failures in kedge's
words.
"""

import re
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from kedge.errors import KedgeError, StoreUnavailable

BATCH_ROWS = 32_768
"""Rows of a piece of a scan's answer."""
COUNTERS = 2
"""Threads that count a long answer, one piece each at a time."""
Counted = TypeVar("Counted")

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    # A second thread halves the time of a scan of a million rows, but costs every small statement a third
    # more.
    "threads": "1",
    # The default of 16 MB checkpoints every few seconds under load; replaying 64 MB at start takes under a
    # second.
    "checkpoint_threshold": "64MB",
    # Of new files. Every table takes a block at least, and there are two a day: with the usual 256 kB a year
    # of forty rows a day was 198 MB. A scan of a million rows is no slower.
    "default_block_size": "16384",
    # Nothing is fetched from anywhere, whatever a statement names.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_HOLDER = re.compile(r"PID (\d+)")


class Database:
    """One open file, or `:memory:`. `cursor` is for reading, from any thread; `writing` belongs to the
    writer.
    """

    def __init__(self, path: str, memory: str = "") -> None:
        """`memory` bounds what DuckDB keeps of the file (`128MB`); by default most of the machine's."""
        self.path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._cursors: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()
        """All that are in use; a thread that ends lets go of its own."""
        self._connection: duckdb.DuckDBPyConnection | None = self._open(path, memory)
        self.writing = self._new_cursor()

    @staticmethod
    def _open(path: str, memory: str) -> duckdb.DuckDBPyConnection:
        try:
            bound = {"memory_limit": memory} if memory else {}
            return duckdb.connect(path, config={**_SETTINGS, **bound})
        except duckdb.IOException as error:
            raise KedgeError(_why_not_opened(path, str(error))) from None

    @property
    def cursor(self) -> duckdb.DuckDBPyConnection:
        """This thread's own connection to the file; it sees all that is committed when a statement begins."""
        cursor: duckdb.DuckDBPyConnection | None = getattr(self._local, "cursor", None)
        if cursor is None:
            cursor = self._local.cursor = self._new_cursor()
        return cursor

    def _new_cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._connection is None:
                raise StoreUnavailable("the store is closed")
            cursor = self._connection.cursor()
            self._cursors.add(cursor)
            return cursor

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with spoken():
            return self.cursor.execute(sql, list(parameters)).fetchall()

    def batches(self, sql: str, parameters: Sequence[Any] = ()) -> Generator[pa.RecordBatch]:
        """The answer in pieces of at most BATCH_ROWS; to be consumed before this thread's next statement."""
        with spoken(), self.cursor.sql(sql, params=list(parameters)).to_arrow_reader(BATCH_ROWS) as reader:
            yield from reader

    def counted(
        self, sql: str, parameters: Sequence[Any], count: Callable[[pa.RecordBatch], Counted]
    ) -> Iterator[Counted]:
        """`count` of each of those pieces, in their order.

        A long answer is counted by threads that fetch a piece in turn and count it: DuckDB and numpy both let
        go of the interpreter, and no more pieces are held than there are threads. An error of `count` leaves
        no answer open: it would be in the way of this thread's next statement.
        """
        with closing(self.batches(sql, parameters)) as pieces:
            first = next(pieces, None)
            if first is None:
                return
            if first.num_rows < BATCH_ROWS:
                yield count(first)
                yield from map(count, pieces)
                return
            turn = threading.Lock()
            numbered = enumerate(chain([first], pieces))
            del first

            def one() -> tuple[int, Counted] | None:
                with turn:
                    numbered_piece = next(numbered, None)
                return None if numbered_piece is None else (numbered_piece[0], count(numbered_piece[1]))

            done: dict[int, Counted] = {}
            following = 0
            with ThreadPoolExecutor(COUNTERS) as others:
                coming = deque(others.submit(one) for _ in range(COUNTERS))
                while coming:
                    if (counted := coming.popleft().result()) is None:
                        continue
                    coming.append(others.submit(one))
                    done[counted[0]] = counted[1]
                    while following in done:
                        yield done.pop(following)
                        following += 1

    def close(self) -> None:
        """Close the connections of all threads: the file stays locked while one is open."""
        with self._lock:
            if self._connection is None:
                return
            for connection in (*self._cursors, self._connection):
                connection.close()
            self._connection = None


def feed(
    connection: duckdb.DuckDBPyConnection, sql: str, arrived: pa.Table, parameters: Sequence[Any] = ()
) -> duckdb.DuckDBPyConnection:
    """Run a statement that reads an Arrow table under the name `arrived`.

    DuckDB finds it among the variables of this function. To register it as a view and to drop that again
    would cost more than most statements do.
    """
    return connection.execute(sql, list(parameters))


@contextmanager
def spoken() -> Iterator[None]:
    """Turn what the disk or the memory refuses into StoreUnavailable; a wrong statement stays a fault of
    ours.
    """
    try:
        yield
    except duckdb.CatalogException as error:
        if "kedge_" in str(error):
            raise KedgeError("the store is empty: run `kedge setup` first") from None
        raise
    except (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.FatalException) as error:
        raise StoreUnavailable(f"DuckDB: {str(error).splitlines()[0]}") from error
    except duckdb.ConnectionException as error:
        raise StoreUnavailable("the store is closed") from error


def _why_not_opened(path: str, reason: str) -> str:
    if "lock" in reason:
        holder = _HOLDER.search(reason)
        who = f" (process {holder[1]})" if holder else ""
        return (
            f"{path} is open in another kedge{who}, and DuckDB lets one process at a time in:"
            " give the address of that running server, or stop it first"
        )
    if "not a valid DuckDB" in reason:
        return f"{path} is not a DuckDB file: name another one, or move it away"
    if "No such file or directory" in reason:
        return f"{path} cannot be created: make the folder {Path(path).parent} first"
    return f"{path} cannot be opened: {reason.splitlines()[0]}"
