"""Rows a second from a Parquet file through `kedge import`, beside raw `_bulk` of the same documents."""

import itertools
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from bench import rows as generated
from bench.ingest import Raw, Round, until_visible
from bench.meter import Meter, busy, server_process, usual
from bench.processes import Kedge, kedge_on
from bench.targets import at_least
from kedge.clock import system_clock
from kedge.store.elastic.client import Client
from kedge.store.elastic.names import Names
from kedge.windows import DAY, Millis, floor

TARGET = 0.85


def measure(url: str, *, count: int = 200_000, rounds: int = 4, connections: int = 4) -> dict[str, object]:
    """Both sides in turn, each time into a fresh index of the same template.

    What the command needs before its first row, and after its last, is taken from an import of one row and
    left out of the rate: it is the same for ten million rows. Each side begins every second pair, and has one
    round before those that count.
    """
    with kedge_on(url) as (kedge, store, client):
        names = Names(kedge.prefix)
        days = itertools.count(floor(system_clock(), DAY) - 40 * DAY, DAY)
        server = server_process(url)
        raw = Raw(url, store, client, names, connections, server)
        imports = _Imports(kedge, client, names, server)
        starts = sorted((imports.round(next(days), 1, seed=98) for _ in range(3)), key=lambda r: r.seconds)
        first = starts[1]
        start = first.seconds
        ours: list[Round] = []
        bulk: list[Round] = []
        for i in range(-1, rounds):
            for side, kept in ((imports, ours), (raw, bulk))[:: 1 if i % 2 else -1]:
                kept.append(side.round(next(days), count, seed=i % 100))
        del ours[0], bulk[0]
        rates = [count / (r.seconds - start) for r in ours]
        ratios = [own / other.rate for own, other in zip(rates, bulk, strict=True)]
        own = usual([(r.spent.less(first.spent), r.rows) for r in ours])
        other = usual([(r.spent, r.rows) for r in bulk])
        return {
            "server": str(client.server),
            "rows_per_round": count,
            "rounds": rounds,
            "features": generated.NUMERIC + generated.CATEGORICAL,
            "import_rows_per_s": round(statistics.median(rates)),
            "import_rounds": [round(r) for r in rates],
            "start_s": round(start, 2),
            "with_start_rows_per_s": round(statistics.median(r.rate for r in ours)),
            "bulk_rows_per_s": round(statistics.median(r.rate for r in bulk)),
            "bulk_rounds": [round(r.rate) for r in bulk],
            "per_row": own,
            "per_row_raw": other,
            # What this machine could reach at most, were no core ever idle.
            "bound": round(busy(other) / busy(own), 2),
            "ratios": [round(r, 3) for r in ratios],
            "ratio": at_least(statistics.median(ratios), TARGET),
        }


@dataclass(frozen=True)
class _Imports:
    """Through the command."""

    kedge: Kedge
    client: Client
    names: Names
    server: psutil.Process

    def round(self, day: Millis, count: int, *, seed: int) -> Round:
        """From the command's start until all its rows are visible."""
        path = self.kedge.folder / f"{day}.parquet"
        _write(path, generated.predictions(count, day, seed=seed))
        meter, began = Meter(self.server, _children), time.perf_counter()
        self.kedge.run("import", path.name, "--model", "fraud")
        ran = time.perf_counter() - began
        until_visible(self.client, self.names.predictions(day), count)
        path.unlink()
        return Round(count, time.perf_counter() - began, ran, meter.spent())


def _children() -> float:
    """Processor time of the commands that this process ran to their end, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


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
