"""The store of the embedded mode: every collection of kedge in one DuckDB file."""

import atexit
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager

from kedge.errors import KedgeError
from kedge.record_table import PredictionTable
from kedge.records import Label, OpenField, Prediction
from kedge.sketch import EdgeSet, Moments, NumericEdges
from kedge.store.base import (
    PENDING_A_CALL,
    AlertStore,
    AppendResult,
    Changes,
    Check,
    DocumentStore,
    Joined,
    Json,
    MetricDoc,
    PartRow,
    PendingCounts,
    RejectedRow,
    SummaryKey,
    SummaryQuery,
    SummaryRequest,
)
from kedge.store.duckdb.catalog import FORMAT, TABLES, Catalog, tables_of
from kedge.store.duckdb.database import Database
from kedge.store.duckdb.documents import Alerts, DocumentLog, Documents
from kedge.store.duckdb.labels import Labels
from kedge.store.duckdb.logs import Logs
from kedge.store.duckdb.reading import Reader
from kedge.store.duckdb.rejected import Rejected
from kedge.store.duckdb.retirement import Retirement
from kedge.store.duckdb.summaries import Metrics, Summaries
from kedge.store.duckdb.summarise import Summariser
from kedge.store.duckdb.writer import Transaction, Writer
from kedge.store.flaws import Flaw
from kedge.store.retention import Floors, Swept
from kedge.store.values import ValueCount, ValueQuery
from kedge.windows import Millis, Window

_open: "weakref.WeakSet[DuckStore]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A process that ends with an open store: what is queued is committed, and the file let go of."""
    for store in list(_open):
        store.close()


def open_duckdb(path: str, *, clock: Callable[[], Millis] | None = None, memory: str = "") -> "DuckStore":
    """Open the file at `path`, or `:memory:`; a new file is empty until `setup`.

    Raises KedgeError where another process holds it, or it is no DuckDB file. `clock` is accepted because
    every store's opener takes one; here all times come with the calls. `memory` bounds
    what is kept of the file (`128MB`).
    """
    return DuckStore(Database(path, "" if path == ":memory:" else memory))


class DuckStore:
    """One DuckDB file as a Store; every method may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._catalog = Catalog()
        self._writer = Writer(database.writing, self._rolled_back)
        self._logs = Logs(database, self._catalog, self._writer)
        self._retirement = Retirement(self._catalog)
        self._rejected = Rejected(database, self._writer)
        self._summariser = Summariser(database, self._catalog)
        self._reader = Reader(database, self._catalog)
        self._summaries = Summaries(database, self._writer)
        self._metrics = Metrics(database, self._writer)
        self._documents = DocumentLog(self._writer)
        self.state: DocumentStore = Documents(self._documents, "state")
        self.alerts: AlertStore = Alerts(self._documents, "alerts")
        self.events: DocumentStore = Documents(self._documents, "events")
        self.outbox: DocumentStore = Documents(self._documents, "outbox")
        self._labels = Labels(self._catalog, self._writer, self.state, self._rejected.reject)
        _open.add(self)
        try:
            self._writer.run(self._load, None)
            if self._catalog.loaded:
                self._documents.load()
        except BaseException:
            self.close()
            raise

    # --- life

    def setup(self, *, dry_run: bool = False) -> list[Check]:
        present = tables_of(self._database.cursor)
        checks = [
            Check(
                name,
                ok=name in present or not dry_run,
                detail="exists" if name in present else "missing" if dry_run else "created",
                remedy="run `kedge setup`" if name not in present and dry_run else "",
                changed=name not in present and not dry_run,
            )
            for name in TABLES
        ]
        if any(check.changed for check in checks):
            self._writer.run(self._create, None)
            self._documents.load()
        return checks

    def sources(self) -> list[Check]:
        return []  # they are in clusters

    def ping(self) -> Check:
        try:
            [(version,)] = self._database.rows("SELECT version()")
        except KedgeError as error:
            return Check("duckdb", ok=False, detail=str(error), remedy="restart kedge")
        place = "memory" if self._database.path == ":memory:" else self._database.path
        return Check("duckdb", ok=True, detail=f"DuckDB {version} in {place}")

    def retire(self, floors: Floors) -> Swept:
        return self._writer.run(self._retirement.retire, floors)

    def close(self) -> None:
        """Commit what is queued and let go of the file."""
        self._writer.close()
        self._database.close()

    def batch(self) -> AbstractContextManager[None]:
        """Inside, this thread's document swaps do not wait for the disk one by one; leaving waits for all.

        For a tick's many small writes. Nothing may be sent to the outside world from inside
        (DocumentLog.batch).
        """
        return self._documents.batch()

    def _load(self, transaction: Transaction, calls: list[None]) -> list[None]:
        self._catalog.load(transaction.connection)
        return calls

    def _create(self, transaction: Transaction, calls: list[None]) -> list[None]:
        connection = transaction.connection
        for name, columns in TABLES.items():
            connection.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
        connection.execute(f"INSERT INTO kedge_format SELECT {FORMAT} WHERE NOT EXISTS (FROM kedge_format)")
        self._catalog.load(connection)
        return calls

    def _rolled_back(self) -> None:
        self._catalog.load(self._database.writing)
        self._labels.rolled_back()

    # --- logs

    def reserve(self, fields: Mapping[str, Collection[OpenField]]) -> None:
        """Nothing: names are not columns here."""

    def append(self, rows: Sequence[Prediction]) -> list[AppendResult]:
        return self._logs.append(rows)

    def append_table(self, table: PredictionTable) -> list[AppendResult]:
        return self._logs.append_table(table)

    def label(self, labels: Sequence[Label]) -> list[Joined]:
        return self._labels.label(labels)

    def join_pending(self, now: Millis, expiry: Millis, limit: int = PENDING_A_CALL) -> PendingCounts:
        return self._labels.join_pending(now, expiry, limit)

    def changed(self, since: Json) -> Changes:
        return self._logs.changed(since)

    def summarise(self, request: SummaryRequest) -> list[PartRow]:
        return self._summariser.summarise(request)

    def summarise_many(self, requests: Sequence[SummaryRequest]) -> list[list[PartRow]]:
        return self._summariser.summarise_many(requests)

    def edges(
        self,
        model: str,
        window: Window,
        numeric: Sequence[str],
        categorical: Sequence[str],
        version: str | None = None,
    ) -> EdgeSet:
        return self._reader.edges(model, window, numeric, categorical, version)

    def errors_by_value(
        self, model: str, window: Window, edges: NumericEdges, version: str | None = None
    ) -> list[Moments]:
        return self._reader.errors_by_value(model, window, edges, version)

    def examples(self, model: str, window: Window, limit: int = 20, flaw: Flaw | None = None) -> list[Json]:
        return self._reader.examples(model, window, limit, flaw)

    def values(self, query: ValueQuery) -> list[ValueCount]:
        return self._reader.values(query)

    def reject(self, rows: Sequence[RejectedRow]) -> None:
        self._rejected.reject(rows)

    def rejected(self, limit: int = 100) -> list[RejectedRow]:
        return self._rejected.rejected(limit)

    # --- what is computed from them

    def write(self, rows: Sequence[PartRow]) -> list[bool]:
        return self._summaries.write(rows)

    def read_many(self, queries: Sequence[SummaryQuery]) -> list[list[PartRow]]:
        return self._summaries.read_many(queries)

    def versions_many(self, models: Collection[str], tier: Millis, window: Window) -> dict[SummaryKey, int]:
        return self._summaries.versions_many(models, tier, window)

    def write_metrics(self, docs: Sequence[MetricDoc]) -> None:
        self._metrics.write_metrics(docs)

    def read_metrics(self, model: str, width: Millis, window: Window) -> list[MetricDoc]:
        return self._metrics.read_metrics(model, width, window)
