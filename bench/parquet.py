"""Rows a second from a Parquet file through `kedge import`, beside raw `_bulk` of the same documents."""

import itertools
import statistics
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench import rows as generated
from bench.ingest import Raw, until_visible
from bench.processes import Kedge, kedge_on
from bench.targets import at_least
from kedge.clock import system_clock
from kedge.store.elastic.client import Client
from kedge.store.elastic.names import Names
from kedge.windows import DAY, Millis, floor

TARGET = 0.85


def measure(url: str, *, count: int = 60_000, rounds: int = 3, connections: int = 4) -> dict[str, object]:
    """Both sides in turn, each time into a fresh index of the same template.

    What the command needs before its first row, and after its last, is taken from an import of one row and
    left out of the rate: it is the same for ten million rows.
    """
    with kedge_on(url) as (kedge, store, client):
        names = Names(kedge.prefix)
        days = itertools.count(floor(system_clock(), DAY) - 40 * DAY, DAY)
        raw = Raw(url, store, client, names, connections)
        _import(kedge, client, names, next(days), 1_000, seed=97)  # warms up, and registers the features
        starts = [_import(kedge, client, names, next(days), 1, seed=98) for _ in range(2)]
        start = min(starts)
        seconds, bulk = [], []
        for i in range(rounds):
            seconds.append(_import(kedge, client, names, next(days), count, seed=i))
            bulk.append(raw.round(next(days), count, seed=i).rate)
        rates = [count / (s - start) for s in seconds]
        ratios = [own / other for own, other in zip(rates, bulk, strict=True)]
        return {
            "server": str(client.server),
            "rows_per_round": count,
            "rounds": rounds,
            "features": generated.NUMERIC + generated.CATEGORICAL,
            "import_rows_per_s": round(statistics.median(rates)),
            "import_rounds": [round(r) for r in rates],
            "start_s": round(start, 2),
            "with_start_rows_per_s": round(statistics.median(count / s for s in seconds)),
            "bulk_rows_per_s": round(statistics.median(bulk)),
            "bulk_rounds": [round(r) for r in bulk],
            "ratios": [round(r, 3) for r in ratios],
            "ratio": at_least(statistics.median(ratios), TARGET),
        }


def _import(kedge: Kedge, client: Client, names: Names, day: Millis, count: int, *, seed: int) -> float:
    """Seconds from the command's start until all its rows are visible."""
    path = kedge.folder / f"{day}.parquet"
    _write(path, generated.predictions(count, day, seed=seed))
    began = time.perf_counter()
    kedge.run("import", path.name, "--model", "fraud")
    until_visible(client, names.predictions(day), count)
    path.unlink()
    return time.perf_counter() - began


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Flat columns with kedge's own names; every other column is a feature."""
    flat = [
        {
            **{k: v for k, v in row.items() if not isinstance(v, dict)},
            **row["features"],
            **{f"segment.{k}": v for k, v in row["segment"].items()},
            **{f"probabilities.{k}": v for k, v in sorted(row["probabilities"].items())},
        }
        for row in rows
    ]
    table = pa.Table.from_pylist(flat)
    pq.write_table(table.drop_columns(["model"]), path)
