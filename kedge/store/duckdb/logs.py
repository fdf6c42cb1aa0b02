"""Predictions in: appended once each; and which minutes were touched since."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from kedge.errors import KedgeError
from kedge.record_table import PredictionTable
from kedge.records import Prediction, outcome_of
from kedge.store.base import AppendResult, Changes, Json, Written
from kedge.store.duckdb.catalog import MAX_FIELDS, Catalog, Day, Model, TooManyFields
from kedge.store.duckdb.database import Database, feed
from kedge.store.duckdb.idfilter import Hashes, IdFilter
from kedge.store.duckdb.rows import MAPS, labels_table, predictions_table
from kedge.store.duckdb.table import arrow_labels, arrow_predictions, carried
from kedge.store.duckdb.writer import Transaction, Writer
from kedge.store.retention import too_old
from kedge.windows import DAY, MINUTE, Millis, floor

_LAST_DAY: Millis = 253_402_300_800_000
"""The year 10000, where tables' names end."""
_HASH = "md5_number_upper(id)"
_encoder = msgspec.json.Encoder()

CREATED = AppendResult(Written.CREATED)
DUPLICATE = AppendResult(Written.DUPLICATE)


class _RowByRow(Exception):
    """A table has rows that are refused."""


class Logs:
    """Appends predictions, and tells what changed."""

    def __init__(self, database: Database, catalog: Catalog, writer: Writer) -> None:
        self._database = database
        self._catalog = catalog
        self._writer = writer

    def append(self, rows: Sequence[Prediction]) -> list[AppendResult]:
        if not rows:
            return []
        reasons = _unstorable(rows)
        good: Sequence[Prediction] = [row for row, reason in zip(rows, reasons, strict=True) if not reason]
        written = iter(self._writer.run(self._append, good) if good else ())
        return [AppendResult(Written.REJECTED, reason) if reason else next(written) for reason in reasons]

    def _append(
        self, transaction: Transaction, calls: list[Sequence[Prediction]]
    ) -> list[list[AppendResult]]:
        """All rows of several calls: one INSERT a day."""
        if not self._catalog.loaded:
            raise KedgeError("the store is empty: run `kedge setup` first")
        rows = [row for call in calls for row in call]
        results = [DUPLICATE] * len(rows)
        by_day: dict[Millis, dict[tuple[str, str], int]] = defaultdict(dict)
        for i, row in enumerate(rows):
            by_day[floor(row.timestamp, DAY)].setdefault((row.model, row.id), i)
        revision = self._catalog.revision + 1
        days: list[Day] = []
        for start, firsts in by_day.items():
            if start < self._catalog.floor:
                for i in firsts.values():
                    results[i] = AppendResult(Written.REJECTED, f"timestamp {too_old(self._catalog.floor)}")
                continue
            day = self._catalog.day(transaction.connection, start)
            days.append(day)
            indexes = list(firsts.values())
            named = [rows[i] for i in indexes]
            fresh = self._fresh(transaction, day, [row.model for row in named], [row.id for row in named])
            accepted: list[tuple[Model, Prediction]] = []
            for i in (i for i, new in zip(indexes, fresh, strict=True) if new):
                entered = self._enter(transaction, rows[i])
                if isinstance(entered, Model):
                    accepted.append((entered, rows[i]))
                    results[i] = CREATED
                else:
                    results[i] = AppendResult(Written.REJECTED, entered)
            self._insert(transaction, day, accepted, revision)
        self._catalog.revision = revision
        transaction.after_commit(lambda: self._catalog.publish(days, revision))
        left = iter(results)
        return [[next(left) for _ in call] for call in calls]

    def append_table(self, table: PredictionTable) -> list[AppendResult]:
        """Columns of one model; the rows of a table that needs a closer look go one by one."""
        if not len(table):
            return []
        if len(set(table.ids)) == len(table):
            try:
                return self._writer.run(self._append_tables, table)
            except (TooManyFields, _RowByRow):
                pass
        return self.append(table.rows())

    def _append_tables(
        self, transaction: Transaction, calls: list[PredictionTable]
    ) -> list[list[AppendResult]]:
        if not self._catalog.loaded:
            raise KedgeError("the store is empty: run `kedge setup` first")
        revision = self._catalog.revision + 1
        days: list[Day] = []
        results = []
        for table in calls:
            model = self._catalog.model(transaction.connection, table.model)
            for source, names in carried(table).items():
                self._catalog.enter(transaction.connection, model, source, names)
            starts, of_day = np.unique(table.timestamps // DAY, return_inverse=True)
            if starts[0] * DAY < self._catalog.floor:
                raise _RowByRow
            created = np.zeros(len(table), np.bool_)
            for i, start in enumerate(starts.tolist()):
                day = self._catalog.day(transaction.connection, start * DAY)
                days.append(day)
                rows = np.flatnonzero(of_day == i)
                ids = [table.ids[row] for row in rows.tolist()]
                rows = rows[self._fresh(transaction, day, [table.model] * len(ids), ids)]
                created[rows] = True
                if len(rows):
                    self._insert_table(
                        transaction, day, model, table if len(rows) == len(table) else table[rows], revision
                    )
            results.append([CREATED if new else DUPLICATE for new in created.tolist()])
        self._catalog.revision = revision
        transaction.after_commit(lambda: self._catalog.publish(days, revision))
        return results

    def _insert_table(
        self, transaction: Transaction, day: Day, model: Model, table: PredictionTable, revision: int
    ) -> None:
        arrived = arrow_predictions(model, table, revision)
        feed(transaction.connection, f"INSERT INTO {day.predictions} SELECT * FROM arrived", arrived)
        labels = arrow_labels(model, table, revision)
        if labels is not None:
            feed(transaction.connection, f"INSERT INTO {day.labels} SELECT * FROM arrived", labels)

    def _fresh(
        self, transaction: Transaction, day: Day, models: Sequence[str], ids: Sequence[str]
    ) -> list[bool]:
        """Which rows are not stored yet. Most days most ids are new, and the day's filter says so without
        a search.
        """
        hashes = hashes_of(ids)
        known = ids_of(transaction, day, len(ids)).may_hold(hashes)
        if known.any():
            doubtful = np.flatnonzero(known).tolist()
            table = pa.table(
                {
                    "name": pa.array([models[i] for i in doubtful], pa.string()),
                    "id": pa.array([ids[i] for i in doubtful], pa.string()),
                }
            )
            stored = feed(
                transaction.connection,
                f"SELECT name, id FROM {day.predictions} JOIN kedge_models USING (model)"
                " SEMI JOIN arrived USING (name, id)",
                table,
            ).fetchall()
            held = set(stored)
            known = np.array([pair in held for pair in zip(models, ids, strict=True)])
        add_ids(day, hashes[~known])
        return [not k for k in known.tolist()]

    def _enter(self, transaction: Transaction, row: Prediction) -> Model | str:
        """The row's model with a slot for each of its fields, or why the row is refused."""
        model = self._catalog.model(transaction.connection, row.model)
        try:
            for source, fields in MAPS.items():
                names = fields(row).keys()
                if not names <= model.slots[source].keys():
                    self._catalog.enter(transaction.connection, model, source, names)
        except TooManyFields:
            return f'model "{row.model}" would have more than {MAX_FIELDS} different fields'
        return model

    def _insert(
        self, transaction: Transaction, day: Day, rows: list[tuple[Model, Prediction]], revision: int
    ) -> None:
        connection = transaction.connection
        if rows:
            table = predictions_table(rows, revision)
            feed(connection, f"INSERT INTO {day.predictions} SELECT * FROM arrived", table)
        labelled = [
            (
                model.code,
                row.id,
                row.timestamp,
                row.label,
                outcome_of(
                    cls=row.cls,
                    probabilities=row.probabilities,
                    value=row.value,
                    label_cls=row.label.cls,
                    label_value=row.label.value,
                ),
            )
            for model, row in rows
            if row.label is not None
        ]
        if labelled:
            table = labels_table(labelled, revision)
            feed(connection, f"INSERT INTO {day.labels} SELECT * FROM arrived", table)

    def changed(self, since: Json) -> Changes:
        """Minutes of rows and of labels with a revision past the watermark.

        The watermark is read first: what is committed meanwhile is reported now, and again next time.
        """
        seen = int(since.get("revision", 0))
        watermark = max(seen, self._catalog.committed)
        dirty: dict[str, set[Millis]] = defaultdict(set)
        labelled: dict[str, set[Millis]] = defaultdict(set)
        for day in self._catalog.days.values():
            if day.revision <= seen:
                continue
            for table, time, minutes in (
                (day.predictions, "timestamp", dirty),
                (day.labels, "predicted_at", labelled),
            ):
                touched = self._database.rows(
                    f"SELECT DISTINCT model, {time} // {MINUTE} FROM {table} WHERE revision > $1", [seen]
                )
                for model, minute in touched:
                    minutes[self._catalog.names[model]].add(minute * MINUTE)
        return Changes({"revision": watermark}, dict(dirty), labelled=dict(labelled))


def hashes_of(ids: Iterable[str]) -> Hashes:
    """The hashes by which the filters know ids: half of MD5, which DuckDB computes too (`_HASH`)."""
    digests = (hashlib.md5(id.encode(), usedforsecurity=False).digest() for id in ids)
    return np.frombuffer(b"".join(digests), "<u8")[::2].astype(np.uint64)


def ids_of(transaction: Transaction, day: Day, more: int = 0) -> IdFilter:
    """The day's filter with room for `more` ids; read from its table where there is none yet, or it is
    full.
    """
    if day.ids is None or day.ids.size + more > day.ids.capacity:
        stored = transaction.connection.sql(f"SELECT {_HASH} FROM {day.predictions}").to_arrow_table()
        hashes: Hashes = np.asarray(stored.column(0), np.uint64)
        day.ids = IdFilter(2 * (len(hashes) + more))
        day.ids.add(hashes)
    return day.ids


def add_ids(day: Day, hashes: Hashes) -> None:
    """Note ids that are about to be written. Should that fail, they are searched in vain later, no more."""
    if day.ids is not None:
        day.ids.add(hashes)


def _unstorable(rows: Sequence[Prediction]) -> list[str]:
    """For each row why it cannot be stored, or an empty text."""
    reasons = [
        ""
        if 0 <= row.timestamp < _LAST_DAY
        else f"timestamp {row.timestamp} lies outside the years 1970 to 9999"
        for row in rows
    ]
    try:
        _encoder.encode(rows)
    except UnicodeEncodeError:
        for i, row in enumerate(rows):
            try:
                _encoder.encode(row)
            except UnicodeEncodeError:
                reasons[i] = "a text holds half a surrogate pair, which is not valid Unicode"
    return reasons
