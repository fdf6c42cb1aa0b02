"""What the steps between rows and findings cost: counting in the store, packing, measuring, drift."""

import time
from collections.abc import Callable
from typing import Any

from bench import rows as generated
from bench.processes import kedge_on
from ingest.service import IngestService
from kedge.analysis.drift import drift
from kedge.analysis.measure import Context
from kedge.analysis.measure import measure as measure_summary
from kedge.clock import system_clock
from kedge.pipeline.baselines import build_baseline
from kedge.pipeline.schema import features_of
from kedge.sketch import PartName, pack, unpack
from kedge.store.base import Store, SummaryRequest
from kedge.store.duckdb import open_duckdb
from kedge.windows import DAY, HOUR, MINUTE, Window, floor

MODEL = "fraud"


def measure(url: str, *, count: int = 30_000) -> dict[str, object]:
    """One day of `count` rows with 25 features, on the embedded store and on the server."""
    embedded = open_duckdb(":memory:", clock=system_clock)
    embedded.setup()
    try:
        figures = {"rows": count, "duckdb": _counting(embedded, count)}
        figures |= _pure(embedded)
    finally:
        embedded.close()
    with kedge_on(url) as (_, store, client):
        figures[client.server.distribution] = _counting(store, count)
    return figures


def _day() -> Window:
    start = floor(system_clock(), DAY) - 30 * DAY
    return Window(start, start + DAY)


def _counting(store: Store, count: int) -> dict[str, float]:
    """All parts of six hours of minutes, of one minute and of one hour, counted from the rows."""
    service = IngestService(store, store.state, system_clock)
    for body in generated.bodies(generated.predictions(count, _day().start), 5_000):
        service.predictions(body, lines=True)
    store.changed({})  # on a server: makes them visible to search
    edges = build_baseline(
        store, MODEL, _day(), features_of(store.state, MODEL), ((),), source="bench", now=system_clock()
    ).edges
    features = features_of(store.state, MODEL)

    def request(window: Window, bucket: int) -> SummaryRequest:
        return SummaryRequest(
            model=MODEL,
            window=window,
            bucket=bucket,
            parts=frozenset(PartName),
            edges=edges,
            numeric=features.numeric,
            categorical=features.categorical,
        )

    start = _day().start
    return {
        "six_hours_of_minutes_s": _timed(
            lambda: store.summarise(request(Window(start, start + 6 * HOUR), MINUTE)), 1
        ),
        "one_minute_ms": 1e3
        * _timed(lambda: store.summarise(request(Window(start, start + MINUTE), MINUTE)), 10),
        "one_hour_ms": 1e3 * _timed(lambda: store.summarise(request(Window(start, start + HOUR), HOUR)), 5),
    }


def _pure(store: Store) -> dict[str, Any]:
    baseline = build_baseline(
        store, MODEL, _day(), features_of(store.state, MODEL), ((),), source="bench", now=system_clock()
    )
    summary = baseline.summaries[()]
    assert summary.cells is not None
    cells, packed = summary.cells, pack(summary.cells)
    context = Context(positive_class="fraud", reference=summary, edges=baseline.edges)
    return {
        "cells_packed_bytes": len(packed),
        "unpack_cells_us": 1e6 * _timed(lambda: unpack(PartName.CELLS, packed), 200),
        "add_cells_us": 1e6 * _timed(lambda: cells + cells, 200),
        "drift_of_25_features_ms": 1e3 * _timed(lambda: drift(cells, cells, baseline.edges), 20),
        "all_metrics_ms": 1e3 * _timed(lambda: measure_summary(summary, context), 20),
    }


def _timed(work: Callable[[], object], times: int) -> float:
    """Seconds a call: the fastest of three goes of `times` calls."""
    best = float("inf")
    for _ in range(3 if times > 1 else 1):
        started = time.perf_counter()
        for _ in range(times):
            work()
        best = min(best, (time.perf_counter() - started) / times)
    return best
