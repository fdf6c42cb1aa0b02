"""What is computed from logs, stored by key and version: parts of Summaries, and metrics for people."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
import pyarrow as pa

from kedge.sketch import PartName, pack
from kedge.store.base import (
    Grouping,
    MetricDoc,
    PartRow,
    SummaryKey,
    SummaryQuery,
    group_key,
    parse_group,
)
from kedge.store.duckdb.database import Database, feed, spoken
from kedge.store.duckdb.writer import Transaction, Writer
from kedge.windows import Millis, Window

_encoder = msgspec.json.Encoder()


class _Versioned(NamedTuple):
    """A row by its id, of the table's columns; written where `version` is at least the stored one."""

    id: str
    at: Millis
    """The start of its bucket or window: rows are searched for near it only."""
    version: int
    row: tuple[object, ...]


class _Table:
    """A table of versioned rows."""

    def __init__(self, writer: Writer, name: str, at: str, schema: pa.Schema) -> None:
        self._writer = writer
        self._name = name
        self._at = at
        self._schema = schema

    def write(self, rows: Sequence[_Versioned]) -> list[bool]:
        return self._writer.run(self._write, rows) if rows else []

    def _write(self, transaction: Transaction, calls: list[Sequence[_Versioned]]) -> list[list[bool]]:
        connection = transaction.connection
        rows = [row for call in calls for row in call]
        span = [min(row.at for row in rows), max(row.at for row in rows)]
        ids = pa.table({"id": pa.array(sorted({row.id for row in rows}), pa.string())})
        near = f"{self._at} BETWEEN $1 AND $2"
        stored: dict[str, int] = dict(
            feed(
                connection,
                f"SELECT id, version FROM {self._name} SEMI JOIN arrived USING (id) WHERE {near}",
                ids,
                span,
            ).fetchall()
        )
        replaced, standing = set(stored), dict(stored)
        winners: dict[str, _Versioned] = {}
        results = []
        for row in rows:
            accepted = row.version >= standing.get(row.id, row.version)
            if accepted:
                standing[row.id] = row.version
                winners[row.id] = row
            results.append(accepted)
        if winners:
            columns = zip(*(row.row for row in winners.values()), strict=True)
            table = pa.table(
                [pa.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)],
                schema=self._schema,
            )
            if replaced & winners.keys():
                delete = f"DELETE FROM {self._name} WHERE {near} AND id IN (SELECT id FROM arrived)"
                feed(connection, delete, table, span)
            feed(connection, f"INSERT INTO {self._name} SELECT * FROM arrived", table)
        left = iter(results)
        return [[next(left) for _ in call] for call in calls]


class Summaries:
    """Packed parts of Summaries."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        text, whole = pa.string(), pa.int64()
        names = ["id", "model", "tier", "bucket", "grp", "grouping", "part", "edges", "version", "data"]
        kinds = [text, text, whole, whole, text, text, text, text, whole, pa.binary()]
        schema = pa.schema(list(zip(names, kinds, strict=True)))
        self._table = _Table(writer, "kedge_summaries", "bucket", schema)

    def write(self, rows: Sequence[PartRow]) -> list[bool]:
        return self._table.write([self._row(row) for row in rows])

    @staticmethod
    def _row(row: PartRow) -> _Versioned:
        key, id = row.key, row.key.id
        content = (
            *(id, key.model, key.tier, key.bucket, group_key(key.group), _grouping(key.grouping)),
            *(key.part.value, key.edges, row.version, pack(row.part)),
        )
        return _Versioned(id, key.bucket, row.version, content)

    def read_many(self, queries: Sequence[SummaryQuery]) -> list[list[PartRow]]:
        """All by one statement."""
        answers: list[list[PartRow]] = [[] for _ in queries]
        wanted = [(i, part, query) for i, query in enumerate(queries) for part in query.parts]
        if not wanted:
            return answers
        asked = pa.table(
            {
                "number": pa.array([i for i, _, _ in wanted], pa.int32()),
                "model": [q.model for _, _, q in wanted],
                "tier": pa.array([q.tier for _, _, q in wanted], pa.int64()),
                "part": [part.value for _, part, _ in wanted],
                "first": pa.array([q.window.start for _, _, q in wanted], pa.int64()),
                "past": pa.array([q.window.end for _, _, q in wanted], pa.int64()),
                "grouping": pa.array(
                    [None if q.grouping is None else _grouping(q.grouping) for _, _, q in wanted], pa.string()
                ),
                "edges": [q.custom if part is PartName.CUSTOM else q.edges for _, part, q in wanted],
            }
        )
        span = [min(q.window.start for _, _, q in wanted), max(q.window.end for _, _, q in wanted)]
        with spoken():
            rows = feed(self._database.cursor, _READ, asked, span).fetchall()
        for number, bucket, group, part, digest, version, data in rows:
            query = queries[number]
            key = _key(query.model, query.tier, bucket, group, part, digest)
            answers[number].append(PartRow(key, version, data))
        return answers

    def versions_many(self, models: Collection[str], tier: Millis, window: Window) -> dict[SummaryKey, int]:
        rows = self._database.rows(
            "SELECT model, bucket, grp, part, edges, version FROM kedge_summaries"
            " WHERE model IN (SELECT unnest($1)) AND tier = $2 AND bucket >= $3 AND bucket < $4",
            [list(models), tier, *window],
        )
        return {_key(model, tier, *identity): version for model, *identity, version in rows}


_READ = """
    SELECT q.number, s.bucket, s.grp, s.part, s.edges, s.version, s.data
    FROM kedge_summaries s JOIN arrived q ON s.model = q.model AND s.tier = q.tier AND s.part = q.part
    WHERE s.bucket >= $1 AND s.bucket < $2 AND s.bucket >= q.first AND s.bucket < q.past
    AND (q.grouping IS NULL OR s.grouping = q.grouping)
    AND (s.part NOT IN ('cells', 'custom') OR s.edges = q.edges)
    ORDER BY q.number, s.bucket, s.grp, s.part
"""


def _grouping(grouping: Grouping) -> str:
    return msgspec.json.encode(sorted(grouping)).decode()


def _key(model: str, tier: Millis, bucket: Millis, group: str, part: str, edges: str) -> SummaryKey:
    return SummaryKey(model, parse_group(group), tier, bucket, PartName(part), edges)


class Metrics:
    """Metrics of tumbling windows."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        text, whole = pa.string(), pa.int64()
        names = ["id", "model", "width", "start", "grp", "feature", "version", "content"]
        kinds = [text, text, whole, whole, text, text, whole, text]
        schema = pa.schema(list(zip(names, kinds, strict=True)))
        self._table = _Table(writer, "kedge_metrics", "start", schema)

    def write_metrics(self, docs: Sequence[MetricDoc]) -> None:
        self._table.write(
            [
                _Versioned(
                    doc.id,
                    doc.window.start,
                    doc.version,
                    (
                        *(doc.id, doc.model, doc.window.length, doc.window.start, group_key(doc.group)),
                        *(doc.feature, doc.version, _encoder.encode(doc.values).decode()),
                    ),
                )
                for doc in docs
            ]
        )

    def read_metrics(self, model: str, width: Millis, window: Window) -> list[MetricDoc]:
        rows = self._database.rows(
            "SELECT start, grp, feature, version, content FROM kedge_metrics"
            " WHERE model = $1 AND width = $2 AND start >= $3 AND start < $4 ORDER BY start, grp, feature",
            [model, width, *window],
        )
        return [
            MetricDoc(
                model=model,
                group=parse_group(group),
                window=Window(start, start + width),
                version=version,
                values=msgspec.json.decode(content),
                feature=feature,
            )
            for start, group, feature, version, content in rows
        ]
