"""Labels in: joined to their predictions whatever the order of arrival, and kept for a while where there
is none.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from kedge.errors import KedgeError
from kedge.records import Label, outcome_of
from kedge.store.base import PENDING_A_CALL, DocumentStore, Joined, PendingCounts, digest
from kedge.store.duckdb.catalog import Catalog, Day
from kedge.store.duckdb.database import feed
from kedge.store.duckdb.logs import hashes_of, ids_of
from kedge.store.duckdb.rows import labels_table, names_at
from kedge.store.duckdb.writer import Transaction, Writer
from kedge.store.expiry import Expiry, Held, Rejecting
from kedge.windows import HOUR, SECOND, Millis

FIRST_RETRY: Millis = 10 * SECOND
LAST_RETRY: Millis = HOUR
"""A pending label is tried at the next chance, then after 10 s, 20 s, 40 s …, and every hour in the end."""

_INSERT_PENDING = "INSERT INTO kedge_pending SELECT * FROM arrived"
_DELETE_PENDING = (
    "DELETE FROM kedge_pending p USING arrived a WHERE p.id = a.id AND p.ingested = a.ingested"
    " AND p.timestamp = a.timestamp AND p.model IS NOT DISTINCT FROM a.model"
    " AND p.cls IS NOT DISTINCT FROM a.cls AND p.value IS NOT DISTINCT FROM a.value"
)


@dataclass
class _Target:
    """A stored prediction that a label may belong to."""

    day: Day
    code: int
    model: str
    id: str
    timestamp: Millis
    cls: str | None
    value: float | None
    probabilities: dict[str, float]
    label: Label | None
    """As stored, then the one that wins."""
    replaces: bool
    """Whether a label is stored."""
    changed: bool = False


class _Pending(NamedTuple):
    label: Label
    attempts: int
    due: Millis


class _Try(NamedTuple):
    now: Millis
    expiry: Millis
    limit: int


class Labels:
    """Joins labels to predictions; the highest rank wins."""

    def __init__(
        self,
        catalog: Catalog,
        writer: Writer,
        state: DocumentStore,
        reject: Rejecting,
    ) -> None:
        self._expiry = Expiry(state, self, reject)
        self._catalog = catalog
        self._writer = writer
        self._waiting: int | None = None
        """How many labels are pending; None: not counted yet."""

    def rolled_back(self) -> None:
        """Count again."""
        self._waiting = None

    def label(self, labels: Sequence[Label]) -> list[Joined]:
        return self._writer.run(self._label, labels) if labels else []

    def join_pending(self, now: Millis, expiry: Millis, limit: int = PENDING_A_CALL) -> PendingCounts:
        if self._waiting == 0:
            return PendingCounts(0, 0, 0, 0)
        self._expiry.resume()
        counts, old = self._writer.run(self._retry, _Try(now, expiry, limit))
        if not old:
            return counts
        expired = self._expiry.give_up(old, now, expiry)
        return counts._replace(waiting=counts.waiting - expired, expired=expired)

    def held(self, batch: Mapping[str, Millis]) -> list[Held]:
        return self._writer.run(self._held, batch)

    def _held(self, transaction: Transaction, calls: list[Mapping[str, Millis]]) -> list[list[Held]]:
        times = sorted({time for batch in calls for time in batch.values()})
        table = pa.table({"ingested": pa.array(times, pa.int64())})
        sql = "FROM kedge_pending SEMI JOIN arrived USING (ingested)"
        waiting = [_held(_pending(row).label) for row in feed(transaction.connection, sql, table).fetchall()]
        return [[held for held in waiting if batch.get(held.key) == held.label.ingested] for batch in calls]

    def forget(self, batch: Collection[Held]) -> None:
        self._writer.run(self._delete, batch)

    def _delete(self, transaction: Transaction, calls: list[Collection[Held]]) -> list[None]:
        given_up = [_Pending(held.label, 0, 0) for call in calls for held in call]
        feed(transaction.connection, _DELETE_PENDING, _pending_table(given_up))
        self._recount(transaction)
        return [None] * len(calls)

    def _label(self, transaction: Transaction, calls: list[Sequence[Label]]) -> list[list[Joined]]:
        if not self._catalog.loaded:
            raise KedgeError("the store is empty: run `kedge setup` first")
        labels = [label for call in calls for label in call]
        results = self._join(transaction, labels)
        self._keep(
            transaction,
            [_Pending(label, 0, 0) for label, r in zip(labels, results, strict=True) if r is Joined.WAITING],
        )
        left = iter(results)
        return [[next(left) for _ in call] for call in calls]

    def _join(self, transaction: Transaction, labels: Sequence[Label]) -> list[Joined]:
        """Give each label to its predictions, the highest rank first; write what changed."""
        targets = self._targets(transaction, labels)
        results = [Joined.WAITING] * len(labels)
        for i in sorted(range(len(labels)), key=lambda i: labels[i].rank, reverse=True):
            label = labels[i]
            own = [t for t in targets.get(label.id, ()) if label.model in (None, t.model)]
            beaten = [t for t in own if t.label is None or t.label.rank < label.rank]
            for target in beaten:
                target.label, target.changed = label, True
            if own:
                results[i] = Joined.JOINED if beaten else Joined.SUPERSEDED
        changed: dict[Millis, list[_Target]] = defaultdict(list)
        for target in (t for found in targets.values() for t in found if t.changed):
            changed[target.day.start].append(target)
        if changed:
            revision = self._catalog.revision + 1
            for found in changed.values():
                self._write(transaction, found, revision)
            self._catalog.revision = revision
            days = [found[0].day for found in changed.values()]
            transaction.after_commit(lambda: self._catalog.publish(days, revision))
        return results

    def _targets(self, transaction: Transaction, labels: Sequence[Label]) -> dict[str, list[_Target]]:
        """Every stored prediction with one of the labels' ids, over all models and days."""
        ids = sorted({label.id for label in labels})
        hashes = hashes_of(ids)
        table = pa.table({"id": pa.array(ids, pa.string())})
        targets: dict[str, list[_Target]] = defaultdict(list)
        for day in self._catalog.days.values():
            possible = ids_of(transaction, day).may_hold(hashes)
            if not possible.any():
                continue
            found = feed(
                transaction.connection,
                "SELECT p.model, p.id, p.timestamp, p.cls, p.value, p.probabilities,"
                " l.timestamp, l.ingested, l.cls, l.value FROM"
                f" (SELECT * FROM {day.predictions} SEMI JOIN arrived USING (id)) p LEFT JOIN"
                f" (SELECT * FROM {day.labels} SEMI JOIN arrived USING (id)) l USING (model, id)",
                table.filter(pa.array(possible)),
            ).fetchall()
            names = {code: self._catalog.names[code] for code, *_ in found}
            classes_of = {
                code: names_at(self._catalog.models[model].slots["prediction.probabilities"])
                for code, model in names.items()
            }
            for code, id, timestamp, cls, value, probabilities, *stored in found:
                model, classes = names[code], classes_of[code]
                known = zip(classes, probabilities, strict=False)
                label = None
                if stored[0] is not None:
                    label = Label(
                        id=id, timestamp=stored[0], ingested=stored[1], cls=stored[2], value=stored[3]
                    )
                targets[id].append(
                    _Target(
                        day,
                        code,
                        model,
                        id,
                        timestamp,
                        cls,
                        value,
                        {name: p for (name, _), p in known if p is not None},
                        label,
                        replaces=label is not None,
                    )
                )
        return targets

    def _write(self, transaction: Transaction, targets: list[_Target], revision: int) -> None:
        """Store the winning labels of one day."""
        connection, day = transaction.connection, targets[0].day
        replaced = [t for t in targets if t.replaces]
        if replaced:
            keys = pa.table(
                {
                    "model": pa.array([t.code for t in replaced], pa.int32()),
                    "id": pa.array([t.id for t in replaced], pa.string()),
                }
            )
            feed(
                connection,
                f"DELETE FROM {day.labels} l USING arrived a WHERE l.model = a.model AND l.id = a.id",
                keys,
            )
        rows = [
            (
                t.code,
                t.id,
                t.timestamp,
                t.label,
                outcome_of(
                    cls=t.cls,
                    probabilities=t.probabilities,
                    value=t.value,
                    label_cls=t.label.cls,
                    label_value=t.label.value,
                ),
            )
            for t in targets
            if t.label is not None
        ]
        feed(connection, f"INSERT INTO {day.labels} SELECT * FROM arrived", labels_table(rows, revision))

    def _keep(self, transaction: Transaction, arrived: list[_Pending]) -> None:
        """Add to the pending labels. One that waits already, sent again, keeps its place."""
        if not arrived:
            return
        connection = transaction.connection
        ids = pa.table({"id": pa.array(sorted({p.label.id for p in arrived}), pa.string())})
        stored = feed(connection, "FROM kedge_pending SEMI JOIN arrived USING (id)", ids).fetchall()
        waiting = {_identity(_pending(row).label) for row in stored}
        new = {key: pending for pending in arrived if (key := _identity(pending.label)) not in waiting}
        if new:
            feed(connection, _INSERT_PENDING, _pending_table(list(new.values())))
        self._recount(transaction)

    def _retry(self, transaction: Transaction, calls: list[_Try]) -> list[tuple[PendingCounts, list[Held]]]:
        return [self._retry_once(transaction, *call) for call in calls]

    def _retry_once(
        self, transaction: Transaction, now: Millis, expiry: Millis, limit: int
    ) -> tuple[PendingCounts, list[Held]]:
        """The counts, and the labels that are to be given up; they still wait."""
        connection = transaction.connection
        due = "FROM kedge_pending WHERE due <= $1 OR ingested < $2"
        times = [now, now - expiry]
        rows = connection.execute(f"{due} ORDER BY due, ingested, id LIMIT {limit:d}", times).fetchall()
        tried = [_pending(row) for row in rows]
        results = self._join(transaction, [p.label for p in tried]) if tried else []
        decided = list(zip(tried, results, strict=True))
        still = [p for p, r in decided if r is Joined.WAITING]
        old = [_held(p.label) for p in still if p.label.ingested < now - expiry]
        kept = [
            _Pending(p.label, p.attempts + 1, now + min(FIRST_RETRY << min(p.attempts, 20), LAST_RETRY))
            for p in still
            if p.label.ingested >= now - expiry
        ]
        gone = kept + [p for p, r in decided if r is not Joined.WAITING]
        if gone:
            feed(connection, _DELETE_PENDING, _pending_table(gone))
        if kept:
            feed(connection, _INSERT_PENDING, _pending_table(kept))
        waiting = self._recount(transaction)
        ready = connection.execute(f"SELECT count(*) {due}", times).fetchone()
        counts = PendingCounts(
            joined=results.count(Joined.JOINED),
            superseded=results.count(Joined.SUPERSEDED),
            waiting=waiting,
            expired=0,
            left=(int(ready[0]) if ready else 0) - len(old),
        )
        return counts, old

    def _recount(self, transaction: Transaction) -> int:
        found = transaction.connection.execute("SELECT count(*) FROM kedge_pending").fetchone()
        waiting = int(found[0]) if found else 0

        def publish() -> None:
            self._waiting = waiting

        transaction.after_commit(publish)
        return waiting


def _identity(label: Label) -> tuple[object, ...]:
    return (label.id, label.model, label.rank)


def _held(label: Label) -> Held:
    return Held(digest(label.id, label.model, label.rank), label)


def _pending(row: tuple[str, str | None, Millis, Millis, str | None, float | None, int, Millis]) -> _Pending:
    id, model, timestamp, ingested, cls, value, attempts, due = row
    label = Label(id=id, timestamp=timestamp, ingested=ingested, cls=cls, value=value, model=model)
    return _Pending(label, attempts, due)


def _pending_table(pending: Sequence[_Pending]) -> pa.Table:
    labels = [p.label for p in pending]
    return pa.table(
        {
            "id": pa.array([label.id for label in labels], pa.string()),
            "model": pa.array([label.model for label in labels], pa.string()),
            "timestamp": pa.array([label.timestamp for label in labels], pa.int64()),
            "ingested": pa.array([label.ingested for label in labels], pa.int64()),
            "cls": pa.array([label.cls for label in labels], pa.string()),
            "value": pa.array([label.value for label in labels], pa.float64()),
            "attempts": pa.array(np.array([p.attempts for p in pending], np.int32)),
            "due": pa.array([p.due for p in pending], pa.int64()),
        }
    )
