"""Reading and judging windows of 30 days and of an hour, from summaries of 30 days on Elasticsearch."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bench.crank import LAG, pipeline
from bench.fleet import Event, Fleet, append, minute_of, reference_of
from bench.processes import kedge_on
from bench.targets import at_most
from ingest.schema import SchemaRegistry
from kedge.alerting.loading import parse_rules
from kedge.clock import system_clock
from kedge.pipeline.baselines import import_baseline
from kedge.pipeline.evaluate import evaluate_due
from kedge.pipeline.feed import load_feed
from kedge.pipeline.tick import drain
from kedge.sketch import PartName
from kedge.store.base import Store
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, floor, snap

TARGET = 2.0
RULES = """
version: 1
defaults: {{model: "*", window: {window}, min_count: 1}}
rules:
  - {{name: busy, metric: volume.count, above: 1000000}}
  - {{name: failing, metric: errors.rate, above: 90%}}
  - {{name: slow, metric: latency.p95, above: 10s}}
  - {{name: unsure, metric: confidence.mean, below: 1%}}
  - {{name: wrong, metric: performance.accuracy, below: 1%}}
  - {{name: drifted, kind: drift, by: [feature], tolerance: 3}}
"""


def measure(url: str, *, days: int = 30, goes: int = 9) -> dict[str, object]:
    """30 days with rows in one minute of each hour, and in every minute of the last two hours, summarised by
    ticks. Then, each time by a worker that has read nothing before: the sum of all parts of a window, and six
    rules judged on it at one step, from the first request to the stored findings."""
    now = floor(system_clock(), DAY) - DAY + 10 * HOUR + 30 * MINUTE
    start = floor(now - days * DAY, DAY)
    fleet = Fleet(1)
    model = fleet.names[0]
    hours = [Event(at, 1_000_000) for at in range(start, now - 2 * HOUR, HOUR)]
    with kedge_on(url) as (_, store, client):
        SchemaRegistry(store.state).register(list(fleet.rows([Event(start, 0)])))
        baseline = replace(reference_of(fleet), model=model)
        import_baseline(store.state, baseline, use=True)
        append(store, fleet.rows([e for h in hours for e in minute_of(h.timestamp, 10)]))
        append(store, fleet.rows([e for m in range(now - 2 * HOUR, now, MINUTE) for e in minute_of(m, 10)]))
        drain(pipeline(store), now + LAG)

        def read(length: Millis) -> Callable[[], object]:
            window = snap(Window(now - length, now), MINUTE)

            def go() -> object:
                pipe = pipeline(store)
                reader = pipe.reading(load_feed(store.state))
                return reader.window(model, MINUTE, window, frozenset(PartName), (), baseline.edges)

            return go

        def judge(window: str) -> Callable[[], object]:
            book = parse_rules(RULES.format(window=window), "bench.yml")
            book.raise_for_problems()

            def go() -> object:
                _forget(store, model)
                return evaluate_due(pipeline(store, book), book, now + LAG).steps

            return go

        figures: dict[str, Any] = {"server": str(client.server), "days": days, "goes": goes}
        for name, short, long in (
            ("reading", read(HOUR), read(days * DAY)),
            ("judging", judge("1h"), judge(f"{days}d")),
        ):
            hour, month = _pairs(short, long, goes)
            figures[name] = {"hour_ms": round(1e3 * hour, 1), "month_ms": round(1e3 * month, 1)}
            figures[name]["ratio"] = at_most(month / hour, TARGET)
            for of, work in (("hour", short), ("month", long)):
                before = store.counters.requests
                work()
                figures[name][f"{of}_requests"] = store.counters.requests - before
        return figures


def _forget(store: Store, model: str) -> None:
    """As if its rules had never been judged."""
    for documents, prefix in ((store.state, f"judged:{model}"), (store.alerts, "")):
        for name, stored in documents.find(prefix).items():
            documents.delete(name, stored.token)


def _pairs(short: Callable[[], object], long: Callable[[], object], goes: int) -> tuple[float, float]:
    """Seconds of each: medians of goes in turn, because what else the machine does changes."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(goes):
        for work, times in zip((short, long), spent, strict=True):
            began = time.perf_counter()
            if not work():
                raise RuntimeError("nothing was read or judged")
            times.append(time.perf_counter() - began)
    return statistics.median(spent[0]), statistics.median(spent[1])
