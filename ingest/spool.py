"""Rows that were answered but could not be written yet, in order, in one SQLite file.

What is put is kept when `put` returns: a killed process loses none of it, and with `sync` full a power cut
does not either. Rows are kept as validated records with their ids and times, so that writing them again
after a kill between write and drop stores nothing twice.
"""

import fcntl
import os
import secrets
import socket
import sqlite3
import threading
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import msgspec

from kedge.errors import KedgeError
from kedge.records import Label, Prediction
from kedge.store.base import RejectedRow
from kedge.windows import Millis

FILE = "gateway.sqlite"
Sync = Literal["full", "normal", "off"]
Record = Prediction | Label | RejectedRow

BATCH_ROWS = 5_000
"""Rows of one entry at most: what is put beyond is cut."""
MAX_BATCH = 8 * 2**20
"""Bytes of the entries that are taken out together, unless one alone is larger."""
_OVERHEAD = 64
"""Bytes that an entry counts beside its rows."""
_APPLICATION, _FORMAT = 0x6B656467, 1
"""`kedg`: how the file is told from other SQLite files."""
_BUSY_MS = 5_000
_ELSEWHERE = "name another folder (setting spool, or KEDGE_SPOOL)"

_SCHEMA = """
CREATE TABLE entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER, rows INTEGER, size INTEGER, oldest INTEGER,
    arrived INTEGER, data BLOB
);
CREATE INDEX oldest ON entries (oldest);
CREATE TABLE spool (name TEXT)
"""


class SpoolFull(KedgeError):
    """There is no room: neither within the limit, nor perhaps on the disk."""


class SpoolBroken(KedgeError):
    """The file cannot be opened, or read, or written."""


class Kind(IntEnum):
    PREDICTIONS = 1
    LABELS = 2
    REJECTED = 3
    """Not to be stored as logs, but kept with their reasons."""


class Batch(NamedTuple):
    """The oldest rows, of one kind."""

    kind: Kind
    numbers: tuple[int, ...]
    """Of its entries in the file; give the batch back to `drop`."""
    records: list[Any]


class Depth(NamedTuple):
    """How much is held."""

    rows: int
    bytes: int
    oldest: Millis | None
    """The earliest event time of the predictions held; None where there are none."""
    since: Millis | None
    """When the first of what is held was put; None when empty."""


_DECODERS: dict[Kind, msgspec.msgpack.Decoder[Any]] = {
    Kind.PREDICTIONS: msgspec.msgpack.Decoder(list[Prediction]),
    Kind.LABELS: msgspec.msgpack.Decoder(list[Label]),
    Kind.REJECTED: msgspec.msgpack.Decoder(list[RejectedRow]),
}
_encode = msgspec.msgpack.Encoder().encode


class _Entry:
    """One entry on its way into the file."""

    __slots__ = ("arrived", "data", "done", "failure", "kind", "oldest", "rows")

    def __init__(self, kind: Kind, rows: int, oldest: Millis | None, arrived: Millis, data: bytes) -> None:
        self.kind, self.rows, self.oldest, self.arrived, self.data = kind, rows, oldest, arrived, data
        self.done = False
        self.failure: Exception | None = None

    @property
    def size(self) -> int:
        return len(self.data) + _OVERHEAD


class Spool:
    """The spool of one gateway. Any thread may put; one thread takes out (peek, drop)."""

    def __init__(self, folder: Path, *, limit: int, sync: Sync = "full") -> None:
        """Open or create `folder`/gateway.sqlite; `limit` is in bytes of rows.

        Raises SpoolBroken where another gateway has it, where the file is no spool or damaged, or where it
        cannot be created.
        """
        self.path = folder / FILE
        self.limit = limit
        self._queue = threading.Lock()
        self._file = threading.Lock()
        self._waiting: list[_Entry] = []
        self._lock_file = _locked(self.path)
        try:
            self._connection = _opened(self.path, sync)
            found = self._execute("SELECT coalesce(sum(rows), 0), coalesce(sum(size), 0) FROM entries")
            self._rows: int
            self._bytes: int
            self._rows, self._bytes = found.fetchone()
            self.name: str = self._execute("SELECT name FROM spool").fetchone()[0]
            """Names the gateway that this spool belongs to, for people; the same after a restart."""
        except BaseException:
            self._lock_file.close()
            raise

    @property
    def rows(self) -> int:
        return self._rows

    @property
    def empty(self) -> bool:
        return self._rows == 0

    @property
    def full(self) -> bool:
        return self._bytes >= self.limit

    def close(self) -> None:
        with self._file:
            self._connection.close()
            self._lock_file.close()

    # --- in ---------------------------------------------------------------------------------------

    def put(self, kind: Kind, records: Sequence[Record], now: Millis) -> None:
        """Keep records behind all others; they are on disk when this returns.

        Raises SpoolFull, SpoolBroken, and what msgspec raises for text that is no Unicode; then none is kept.
        Threads that come while another writes are written together by the next.
        """
        entries = [_entry(kind, records[i : i + BATCH_ROWS], now) for i in range(0, len(records), BATCH_ROWS)]
        size, rows = sum(entry.size for entry in entries), len(records)
        with self._queue:
            if self._bytes + size > self.limit:
                raise SpoolFull(f"the spool is full ({self._bytes:,} of {self.limit:,} bytes)")
            self._bytes += size
            self._rows += rows
            self._waiting += entries
        with self._file:
            if not all(entry.done for entry in entries):
                self._write_waiting()
        failure = next((entry.failure for entry in entries if entry.failure), None)
        if failure is not None:
            with self._queue:
                self._bytes -= size
                self._rows -= rows
            raise failure

    def _write_waiting(self) -> None:
        with self._queue:
            entries, self._waiting = self._waiting, []
        rows = [(e.kind, e.rows, e.size, e.oldest, e.arrived, e.data) for e in entries]
        failure: Exception | None = None
        try:
            self._transact("INSERT INTO entries VALUES (NULL, ?, ?, ?, ?, ?, ?)", rows)
        except Exception as error:  # noqa: BLE001 - raised where each of them was put
            failure = error
        for entry in entries:
            entry.failure, entry.done = failure, True

    # --- out --------------------------------------------------------------------------------------

    def peek(self, rows: int = BATCH_ROWS) -> Batch | None:
        """The oldest entries of one kind, together at most `rows` unless the first alone has more.

        Raises SpoolBroken where the file is damaged.
        """
        with self._file:
            found = self._execute(
                "SELECT number, kind, rows, size FROM entries ORDER BY number LIMIT ?", (rows,)
            )
            numbers: list[int] = []
            kind = total = size = 0
            for number, of_kind, count, length in found:
                if numbers and (of_kind != kind or total + count > rows or size + length > MAX_BATCH):
                    break
                numbers.append(number)
                kind, total, size = of_kind, total + count, size + length
            found.close()
            if not numbers:
                return None
            data = self._execute(
                "SELECT data FROM entries WHERE number BETWEEN ? AND ? ORDER BY number",
                (numbers[0], numbers[-1]),
            ).fetchall()
        try:
            decoder = _DECODERS[Kind(kind)]
            records = [record for (content,) in data for record in decoder.decode(content)]
        except (msgspec.DecodeError, ValueError) as error:
            raise SpoolBroken(
                f"{self.path}: entry {numbers[0]} cannot be read ({error}): it is of another "
                "version of kedge, or damaged. Move the file away to go on with a new one"
            ) from None
        return Batch(Kind(kind), tuple(numbers), records)

    def drop(self, batch: Batch) -> None:
        """Forget rows that are stored. An emptied spool gives its space on the disk back."""
        span = (batch.numbers[0], batch.numbers[-1])
        with self._file:
            found = self._execute("SELECT sum(size) FROM entries WHERE number BETWEEN ? AND ?", span)
            (size,) = found.fetchone()
            self._transact("DELETE FROM entries WHERE number BETWEEN ? AND ?", [span])
            with self._queue:
                self._bytes -= size
                self._rows -= len(batch.records)
                empty = self._rows == 0
            if empty:
                self._give_back()

    def depth(self) -> Depth:
        with self._file:
            oldest = self._execute("SELECT min(oldest) FROM entries").fetchone()[0]
            first = self._execute("SELECT arrived FROM entries ORDER BY number LIMIT 1").fetchone()
            return Depth(self._rows, self._bytes, oldest, first[0] if first else None)

    def _give_back(self) -> None:
        try:  # as a script: `execute` would free a single page
            self._connection.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);")
        except sqlite3.Error as error:
            raise _translated(self.path, error) from None

    # --- SQLite -----------------------------------------------------------------------------------

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise _translated(self.path, error) from None

    def _transact(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(sql, rows)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _translated(self.path, error) from None


def read_depth(folder: Path) -> Depth | None:
    """How much a spool holds that may be in use by another process; None where there is none.

    Raises SpoolBroken.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_MS / 1000)
        try:
            return _depth(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise _translated(path, error) from None


def _depth(connection: sqlite3.Connection) -> Depth:
    rows, size, oldest = connection.execute(
        "SELECT coalesce(sum(rows), 0), coalesce(sum(size), 0), min(oldest) FROM entries"
    ).fetchone()
    first = connection.execute("SELECT arrived FROM entries ORDER BY number LIMIT 1").fetchone()
    return Depth(rows, size, oldest, first[0] if first else None)


def _entry(kind: Kind, records: Sequence[Record], now: Millis) -> _Entry:
    oldest = min((r.timestamp for r in records if isinstance(r, Prediction)), default=None)
    return _Entry(kind, len(records), oldest, now, _encode(records))


def _locked(path: Path) -> TextIO:
    """The open lock file, which is released with the process however it ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_suffix(".lock").open("a+")
    except OSError as error:
        raise SpoolBroken(
            f"{path} cannot be created ({error.strerror}): name a folder that can be written (spool, "
            "KEDGE_SPOOL), or set spool_limit to 0 to go without"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise SpoolBroken(
            f"{path} is in use by another gateway{f' (process {holder})' if holder else ''}: "
            "give each gateway a folder of its own (spool, KEDGE_SPOOL)"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _opened(path: Path, sync: Sync) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(path, connection, sync)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise _translated(path, error) from None
    return connection


def _prepare(path: Path, connection: sqlite3.Connection, sync: Sync) -> None:
    def ask(sql: str) -> Any:
        return connection.execute(sql).fetchone()[0]

    tables = ask("SELECT count(*) FROM sqlite_master")
    if tables and ask("PRAGMA application_id") != _APPLICATION:
        raise SpoolBroken(
            f"{path} is another program's SQLite file: name another folder (spool, KEDGE_SPOOL)"
        )
    if (version := ask("PRAGMA user_version")) > _FORMAT:
        raise SpoolBroken(f"{path} is of a later kedge (format {version}, this one reads {_FORMAT}): upgrade")
    if not tables:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {sync}")
    if not tables:
        connection.execute("BEGIN")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        connection.execute("INSERT INTO spool VALUES (?)", (name,))
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute("COMMIT")
    elif (said := ask("PRAGMA quick_check")) != "ok":
        raise SpoolBroken(f"{path} is damaged ({said}): move it away to go on with a new one")


def _translated(path: Path, error: sqlite3.Error) -> KedgeError:
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL:
        return SpoolFull(f"{path}: the disk is full")
    if code == sqlite3.SQLITE_NOTADB:
        return SpoolBroken(f"{path} is no spool: {_ELSEWHERE}, or move it away")
    return SpoolBroken(f"{path}: {error}. If it is damaged, move it away to go on with a new one")
