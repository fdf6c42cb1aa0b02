"""Small JSON documents with compare-and-set, kept in memory and in a log table.

The file is this process's alone, so reading is a dictionary lookup, and a swap is decided under a lock. What
is written is a log: each swap adds a row, whatever the number of documents, and now and then the table is
rewritten without what was overtaken (an update or a deletion of a row would leave its space in the file).
"""

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from kedge.errors import KedgeError
from kedge.store.base import LIVE_ALERTS, Json, Stored
from kedge.store.duckdb.database import feed
from kedge.store.duckdb.writer import Transaction, Writer
from kedge.store.tally import Standing, tally

REWRITE_ABOVE = 2000
"""Overtaken rows at least, and as many as there are documents, before the log is rewritten."""


_standing = msgspec.json.Decoder(Standing)


class _Entry(NamedTuple):
    """A document as it became; no content: it was deleted."""

    collection: str
    name: str
    token: int
    content: bytes | None


class Change(NamedTuple):
    """A swap: content (None: delete) for the document that the token stands for (None: there is none)."""

    name: str
    content: bytes | None
    token: int | None


class DocumentLog:
    """All collections' documents, and their log."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._lock = threading.Lock()
        self._local = threading.local()
        self._held: dict[str, dict[str, _Entry]] = {}
        self._token = 0
        self._logged = 0
        self._unsettled: Future[None] | None = None
        """The newest write; earlier ones are committed before it."""

    def load(self) -> None:
        """Read all documents from the file."""
        with self._lock:
            self._reload()

    def get(self, collection: str, name: str) -> Stored | None:
        self._settle()
        entry = self._held.get(collection, {}).get(name)
        return None if entry is None else _stored(entry)

    def find(self, collection: str, prefix: str) -> dict[str, Stored]:
        self._settle()
        with self._lock:
            entries = [e for name, e in self._held.get(collection, {}).items() if name.startswith(prefix)]
        return {e.name: _stored(e) for e in sorted(entries, key=lambda e: e.name)}

    def contents(self, collection: str) -> list[bytes]:
        """All documents as JSON, in no order."""
        self._settle()
        with self._lock:
            return [e.content for e in self._held.get(collection, {}).values() if e.content is not None]

    def get_many(self, collection: str, names: Iterable[str]) -> dict[str, Stored]:
        self._settle()
        held = self._held.get(collection, {})
        found = ((name, held.get(name)) for name in names)
        return {name: _stored(entry) for name, entry in found if entry is not None}

    def swap(self, collection: str, changes: Sequence[Change]) -> list[bool]:
        """Put each content (None: delete) where the token is still the document's; False: it is not.

        All that succeed are written in one commit.
        """
        done: list[bool] = []
        entries: list[_Entry] = []
        with self._lock:
            held = self._held.setdefault(collection, {})
            changed: dict[str, _Entry] = {}
            for name, content, token in changes:
                standing = changed.get(name) or held.get(name)
                current = standing.token if standing and standing.content is not None else None
                done.append(current == token)
                if current == token:
                    entry = _Entry(collection, name, self._token + len(entries) + 1, content)
                    entries.append(entry)
                    changed[name] = entry
            if not entries:
                return done
            written = self._writer.submit(self._write, entries)
            self._token += len(entries)
            for name, entry in changed.items():
                if entry.content is None:
                    held.pop(name, None)
                else:
                    held[name] = entry
            self._unsettled = written
        if not self._batching:
            self._wait(written)
        return done

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Inside, this thread's swaps do not wait for the disk; leaving waits for all of them.

        They reach the file in order, so a crash in the middle loses the newest ones, as if it had come
        sooner. Other threads wait for the disk before they read, so nobody acts on what a crash could still
        undo; the batch itself must not act on the outside world either.
        """
        outermost = not self._batching
        self._local.batching = True
        try:
            yield
        finally:
            if outermost:
                self._local.batching = False
                self._settle()

    @property
    def _batching(self) -> bool:
        return getattr(self._local, "batching", False)

    def _settle(self) -> None:
        """Wait until all that was swapped so far is in the file; a batch sees its own writes without."""
        written = self._unsettled
        if written is not None and not self._batching:
            self._wait(written)

    def _wait(self, written: Future[None]) -> None:
        try:
            written.result()
        except BaseException:
            with self._lock:  # memory is ahead of the file: go back to what the file has
                self._reload()
            raise

    def _reload(self) -> None:
        rows = self._writer.run(_read, None)  # follows every write that was queued
        self._held = {}
        for collection, name, token, content in rows:
            if content is not None:
                self._held.setdefault(collection, {})[name] = _Entry(
                    collection, name, token, content.encode()
                )
            self._token = max(self._token, token)
        self._logged = len(rows)
        self._unsettled = None

    def _write(self, transaction: Transaction, calls: list[list[_Entry]]) -> list[None]:
        entries = [entry for call in calls for entry in call]
        table = pa.table(
            {
                "collection": [e.collection for e in entries],
                "name": [e.name for e in entries],
                "token": pa.array([e.token for e in entries], pa.int64()),
                "content": pa.array(
                    [None if e.content is None else e.content.decode() for e in entries], pa.string()
                ),
            }
        )
        feed(transaction.connection, "INSERT INTO kedge_documents SELECT * FROM arrived", table)
        logged = self._logged + len(entries)
        live = sum(map(len, list(self._held.values())))
        if logged - live > max(REWRITE_ABOVE, live):
            logged = self._rewrite(transaction)

        def publish() -> None:
            self._logged = logged

        transaction.after_commit(publish)
        return [None] * len(calls)

    @staticmethod
    def _rewrite(transaction: Transaction) -> int:
        """Keep the newest row of each document; a dropped table gives its space back. The number of rows
        left.
        """
        execute = transaction.connection.execute
        execute(f"CREATE TABLE kedge_documents_new AS {_NEWEST}")
        execute("DROP TABLE kedge_documents")
        execute("ALTER TABLE kedge_documents_new RENAME TO kedge_documents")
        found = execute("SELECT count(*) FROM kedge_documents").fetchone()
        return int(found[0]) if found else 0


_NEWEST = (
    "SELECT collection, name, token, content FROM"
    " (SELECT *, max(token) OVER (PARTITION BY collection, name) AS newest FROM kedge_documents)"
    " WHERE token = newest AND content IS NOT NULL"
)


def _read(transaction: Transaction, calls: list[None]) -> list[list[tuple[str, str, int, str | None]]]:
    rows = transaction.connection.execute(_NEWEST).fetchall()
    return [rows for _ in calls]


def _stored(entry: _Entry) -> Stored:
    return Stored(msgspec.json.decode(entry.content or b"null"), entry.token)


class Documents:
    """One collection."""

    def __init__(self, log: DocumentLog, collection: str) -> None:
        self._log = log
        self._collection = collection

    def get(self, name: str) -> Stored | None:
        return self._log.get(self._collection, name)

    def swap(self, name: str, value: Json, token: int | None) -> bool:
        return self.swap_many([(name, value, token)])[0]

    def find(self, prefix: str = "") -> dict[str, Stored]:
        return self._log.find(self._collection, prefix)

    def delete(self, name: str, token: int) -> bool:
        return self._log.swap(self._collection, [Change(name, None, token)])[0]

    def get_many(self, names: Collection[str]) -> dict[str, Stored]:
        return self._log.get_many(self._collection, names)

    def swap_many(self, changes: Sequence[tuple[str, Json, Any | None]]) -> list[bool]:
        encoded = [Change(name, _encoded(name, value), token) for name, value, token in changes]
        return self._log.swap(self._collection, encoded)


class Alerts(Documents):
    """`AlertStore`."""

    def of_rules(self, rules: Collection[str]) -> dict[str, Stored]:
        wanted = set(rules)
        return {name: s for name, s in self.find().items() if s.value.get("rule") in wanted}

    def live(self) -> dict[str, Stored]:
        return {name: s for name, s in self.find().items() if s.value.get("status") in LIVE_ALERTS}

    def outgoing(self) -> dict[str, Stored]:
        return {name: s for name, s in self.find().items() if s.value.get("outgoing")}

    def tally(self) -> dict[tuple[str, str], int]:
        return tally(map(_standing.decode, self._log.contents(self._collection)))


def _encoded(name: str, value: Json) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, UnicodeEncodeError) as error:
        raise KedgeError(f"document {name!r} is not JSON: {error}") from None
