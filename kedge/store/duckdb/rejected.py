"""Rows that could not be stored, with their reasons."""

from collections.abc import Sequence

import pyarrow as pa

from kedge.store.base import RejectedRow
from kedge.store.duckdb.database import Database, feed
from kedge.store.duckdb.writer import Transaction, Writer
from kedge.windows import DAY, floor

_COLUMNS = ("id", "ingested", "reason", "content", "model", "event")


class Rejected:
    """`LogStore.reject` and `rejected`."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    def reject(self, rows: Sequence[RejectedRow]) -> None:
        if rows:
            self._writer.run(self._insert, rows)

    def _insert(self, transaction: Transaction, calls: list[Sequence[RejectedRow]]) -> list[None]:
        days = {(row.id, floor(row.at, DAY)): row for call in reversed(calls) for row in reversed(call)}
        new = [(id, *row) for (id, _), row in reversed(days.items())]
        table = pa.table(dict(zip(_COLUMNS, map(list, zip(*new, strict=True)), strict=True)))
        feed(
            transaction.connection,
            "INSERT INTO kedge_rejected SELECT * FROM arrived WHERE NOT EXISTS"
            " (FROM kedge_rejected k WHERE k.id = arrived.id"
            f" AND k.ingested // {DAY} = arrived.ingested // {DAY})",
            table,
        )
        return [None] * len(calls)

    def rejected(self, limit: int) -> list[RejectedRow]:
        rows = self._database.rows(
            "SELECT ingested, reason, content, model, event FROM kedge_rejected"
            " ORDER BY ingested DESC, id LIMIT $1",
            [limit],
        )
        return [RejectedRow(*row) for row in rows]
