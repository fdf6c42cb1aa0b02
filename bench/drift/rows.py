"""A million rows with 25 features: half of them the reference's day, half of them the next, in which one
feature moved."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.drift.shape import BY, CURRENT, FEATURES, MOVED, START
from bench.fleet import Event, Fleet
from kedge.records import Prediction
from kedge.windows import DAY

FLEET = Fleet(1, len(FEATURES.numeric), len(FEATURES.categorical))
CHUNK = 50_000


def predictions(count: int) -> Iterator[list[Prediction]]:
    """`count` rows in order of time."""
    for first in range(0, count, CHUNK):
        events = [Event(START + i * 2 * DAY // count, i) for i in range(first, min(first + CHUNK, count))]
        rows = list(FLEET.rows(events))
        for row in rows:
            if row.timestamp >= CURRENT.start:
                row.num[MOVED] += BY
        yield rows


def write(path: Path, count: int) -> None:
    """The features of the same rows as a Parquet file."""
    writer = None
    for rows in predictions(count):
        table = pa.Table.from_pylist([row.num | row.cat for row in rows])
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
