"""Dropping what is past its retention: days of predictions as whole tables, the rest row by row.

Deleting rows does not shrink the file, but makes room in it for those to come.
"""

from kedge.store.duckdb.catalog import RETIRED, Catalog
from kedge.store.duckdb.writer import Transaction
from kedge.store.retention import Floors, Swept
from kedge.windows import DAY, HOUR, MINUTE


class Retirement:
    """`Store.retire`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def retire(self, transaction: Transaction, calls: list[Floors]) -> list[Swept]:
        floors = Floors()
        for call in calls:
            floors = floors.raised(call)
        if not self._catalog.loaded:
            return [Swept() for _ in calls]
        connection = transaction.connection
        days = [day for start, day in sorted(self._catalog.days.items()) if start + DAY <= floors.predictions]
        dropped = []
        if floors.predictions > self._catalog.floor:
            # Revisions are read back from the tables at start: those of the dropped ones are noted here.
            connection.execute(f"CREATE TABLE IF NOT EXISTS {RETIRED} (revision BIGINT, floor BIGINT)")
            connection.execute(f"DELETE FROM {RETIRED}")
            connection.execute(
                f"INSERT INTO {RETIRED} VALUES (?, ?)", [self._catalog.revision, floors.predictions]
            )
        for day in days:
            connection.execute(f"DROP TABLE IF EXISTS {day.predictions}")
            connection.execute(f"DROP TABLE IF EXISTS {day.labels}")
            connection.execute("DELETE FROM kedge_days WHERE day = ?", [day.start])
            dropped.append(day.predictions)
        tiers = ((MINUTE, HOUR, floors.minutes), (HOUR, DAY, floors.hours), (DAY, None, floors.days))
        for finest, coarser, floor in tiers:
            for table, width, start in (
                ("kedge_summaries", "tier", "bucket"),
                ("kedge_metrics", "width", "start"),
            ):
                if floor:
                    below = f"AND {width} < {coarser}" if coarser else ""
                    connection.execute(
                        f"DELETE FROM {table} WHERE {width} >= {finest} {below} AND {start} + {width} <= ?",
                        [floor],
                    )
        if floors.rejected:
            connection.execute("DELETE FROM kedge_rejected WHERE ingested < ?", [floors.rejected])
        transaction.after_commit(lambda: self._catalog.forget(days, floors.predictions))
        return [Swept(tuple(dropped)) for _ in calls]
