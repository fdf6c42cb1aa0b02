"""The three sides over the same rows, one after the other."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.drift import rows
from bench.drift.shape import FEATURES, MODEL, MOVED, REFERENCE
from bench.environments import LONGEST_S, environment
from bench.fleet import append
from bench.processes import kedge_on
from bench.targets import at_least, at_most
from kedge.clock import system_clock
from kedge.store.base import Json, LogStore
from kedge.store.duckdb import open_duckdb
from kedge.store.elastic.client import Client

FASTER, MEMORY = 100, 0.2
EVIDENTLY, PANDAS = "evidently==0.7.23", "pandas<3"
BARE_GOES = 5


def measure(url: str, say: Callable[[str], None] = print, *, count: int = 1_000_000) -> dict[str, object]:
    """Rows are stored first (DuckDB, Elasticsearch) or loaded into memory (Evidently); neither is timed.

    Timed of kedge: edges, reference counts and current counts out of the store, and the test of every
    feature, as `kedge baseline create --from --to` and the drift metrics do it. Timed of Evidently: its data
    drift preset on the two halves. Memory is the peak of the whole process, for Elasticsearch that of the
    client: what the server takes is its heap, whatever it is asked.
    """
    figures: dict[str, Any] = {"rows": count, "features": 25}
    with tempfile.TemporaryDirectory(prefix="kedge-bench-") as folder:
        path = Path(folder) / "kedge.duckdb"
        store = open_duckdb(str(path), clock=system_clock)
        store.setup()
        _fill("DuckDB", store, count, say)
        store.close()
        figures["duckdb"] = _kedge(f"duckdb:{path}", "kedge")
        figures["evidently"] = _evidently(Path(folder), count, say)
    with kedge_on(url) as (kedge, elastic, client):
        _fill("Elasticsearch", elastic, count, say)
        elastic.changed({})  # makes them visible to search
        client.request("POST", f"/{kedge.prefix}-predictions-*/_forcemerge?max_num_segments=1")
        bound = _bare(elastic, client, kedge.prefix)
        figures["elasticsearch"] = {"server": str(client.server), "server_bound_s": bound} | _kedge(
            url, kedge.prefix
        )
    theirs = figures["evidently"]
    for name in ("duckdb", "elasticsearch"):
        ours = figures[name]
        if ours["drifted"] != [MOVED] or ours["rows"] != [count // 2, count // 2]:
            raise RuntimeError(f"{name} did not find what moved: {ours}")
        if "seconds" in theirs:
            ours["times_faster"] = at_least(theirs["seconds"] / ours["seconds"], FASTER)
            ours["of_its_memory"] = at_most(ours["peak_mb"] / theirs["peak_mb"], MEMORY)
    return figures


def _fill(name: str, store: LogStore, count: int, say: Callable[[str], None]) -> None:
    began = time.perf_counter()
    for chunk in rows.predictions(count):
        append(store, chunk)
    say(f"  {count:,} rows into {name} in {time.perf_counter() - began:.0f} s")


def _bare(elastic: LogStore, client: Client, prefix: str) -> dict[str, float]:
    """Seconds that the server takes to count all features of both halves once, with nothing of kedge around
    it: the median of BARE_GOES of 25 bare aggregations, 20 `range` on a reference's edges and 5 `terms`.

    `one_search`: all of them in a search over both indices. `side_by_side`: five in a search, four searches
    at a time, which is the fastest way that was found.
    """
    edges = elastic.edges(MODEL, REFERENCE, FEATURES.numeric, FEATURES.categorical)
    counted: list[tuple[str, Json]] = []
    for name, frozen in edges.numeric.items():
        cuts = frozen.edges
        inner = [{"from": a, "to": b} for a, b in pairwise(cuts)]
        ranges = [{"to": cuts[0]}, *inner, {"from": cuts[-1]}]
        counted.append((name, {"range": {"field": f"features.num.{name}", "ranges": ranges}}))
    counted += [
        (name, {"terms": {"field": f"features.cat.{name}", "size": len(values.values)}})
        for name, values in edges.categorical.items()
    ]

    def search(some: list[tuple[str, Json]]) -> None:
        body: Json = {"size": 0, "track_total_hits": False, "aggs": dict(some)}
        client.search(f"{prefix}-predictions-*", body, request_cache="false")

    five = [counted[i : i + 5] for i in range(0, len(counted), 5)]
    with ThreadPoolExecutor(4) as pool:
        ways: dict[str, Callable[[], object]] = {
            "one_search": lambda: search(counted),
            "side_by_side": lambda: list(pool.map(search, five)),
        }
        return {name: round(_median(way), 3) for name, way in ways.items()}


def _median(run: Callable[[], object]) -> float:
    took = []
    for _ in range(BARE_GOES):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _kedge(url: str, prefix: str) -> dict[str, Any]:
    found = _run([sys.executable, "-m", "bench.drift.by_kedge", url, prefix])
    return {"seconds": statistics.median(found["goes_s"])} | found


def _evidently(folder: Path, count: int, say: Callable[[str], None]) -> dict[str, Any]:
    """In an environment of its own, kept in the cache: it needs an older pandas than kedge's."""
    try:
        python = environment("evidently", [EVIDENTLY, PANDAS], say)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        text = f"left out: {EVIDENTLY} could not be installed ({' '.join(reason)})"
        say(f"  {text}")
        return {"version": text}
    path = folder / "rows.parquet"
    rows.write(path, count)
    say("  Evidently begins")
    script = Path(__file__).parent / "by_evidently.py"
    found = _run([str(python), str(script), str(path), str(count // 2)])
    say(f"  Evidently took {found['seconds']:.0f} s")
    return {"version": EVIDENTLY} | found


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"DO_NOT_TRACK": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
