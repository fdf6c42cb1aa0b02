"""What is computed from logs, stored by key and version: parts of Summaries, and metrics for people."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import pyarrow as pa

from kedge.sketch import PartName, pack, unpack
from kedge.store.base import (
    Grouping,
    MetricDoc,
    PartRow,
    SummaryKey,
    group_key,
    parse_group,
)
from kedge.store.duckdb.database import Database, feed
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
        key, version, part = row
        id = key.id
        content = (
            *(id, key.model, key.tier, key.bucket, group_key(key.group), _grouping(key.grouping)),
            *(key.part.value, key.edges, version, pack(part)),
        )
        return _Versioned(id, key.bucket, version, content)

    def read(
        self,
        model: str,
        tier: Millis,
        window: Window,
        parts: Iterable[PartName],
        *,
        grouping: Grouping | None = None,
        edges: str = "",
    ) -> list[PartRow]:
        where = ["part IN (SELECT unnest($5))", "(part <> $6 OR edges = $7)"]
        wanted = [part.value for part in parts]
        parameters: list[object] = [model, tier, *window, wanted, PartName.CELLS.value, edges]
        if grouping is not None:
            where.append("grouping = $8")
            parameters.append(_grouping(grouping))
        rows = self._database.rows(
            "SELECT bucket, grp, part, edges, version, data FROM kedge_summaries"
            " WHERE model = $1 AND tier = $2 AND bucket >= $3 AND bucket < $4 AND "
            + " AND ".join(where)
            + " ORDER BY bucket, grp, part",
            parameters,
        )
        return [
            PartRow(_key(model, tier, bucket, group, part, digest), version, unpack(PartName(part), data))
            for bucket, group, part, digest, version, data in rows
        ]

    def versions(self, model: str, tier: Millis, window: Window) -> dict[SummaryKey, int]:
        rows = self._database.rows(
            "SELECT bucket, grp, part, edges, version FROM kedge_summaries"
            " WHERE model = $1 AND tier = $2 AND bucket >= $3 AND bucket < $4",
            [model, tier, *window],
        )
        return {_key(model, tier, *identity): version for *identity, version in rows}


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
