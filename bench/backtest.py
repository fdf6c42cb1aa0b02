"""Ninety days of history, a hundred rules: how long a backtest takes."""

import cProfile
import pstats
import time
from collections.abc import Callable
from typing import Any

from bench.history import FEATURES, GROUPINGS, MODEL, History, edges
from bench.targets import at_most
from kedge.alerting.loading import RuleBook, parse_rules
from kedge.clock import system_clock
from kedge.config import Settings
from kedge.notify.receivers import Receivers
from kedge.pipeline.baselines import import_baseline
from kedge.pipeline.context import Pipeline
from kedge.pipeline.dirty import Feed, ModelFeed
from kedge.pipeline.feed import update_feed
from kedge.pipeline.summarise import SEPARATOR
from kedge.rehearsal.backtest import reports_of
from kedge.rehearsal.replay import Replay
from kedge.rehearsal.running import Nobody
from kedge.store.duckdb import open_duckdb
from kedge.windows import DAY, HOUR, Window, floor

TARGET = 20.0
_KINDS = (
    "metric: latency.p95, window: 1h, above: {{medium: {0}ms, high: 2s}}",
    "metric: latency.p99, window: 24h, by: [segment.region], above: {0}ms, for: 2h",
    "metric: errors.rate, window: 1h, above: {0}%",
    "metric: errors.rate, window: 24h, by: [segment.region], above: {0}%, for: 1h",
    "metric: volume.count, window: 1h, below: {0}",
    "metric: confidence.mean, window: 24h, compare: {{to: baseline}}, fall: {0}%",
    "metric: class.share, class: fraud, window: 24h, compare: {{to: history}}, change: {0}pp",
    "metric: performance.recall, class: fraud, window: 7d, compare: {{to: baseline}}, fall: {0}%",
    "metric: performance.accuracy, window: 24h, by: [segment.region], below: {1}%",
    "metric: quality.missing, feature: f{0:02}, window: 1h, above: 20%",
)
"""Each with bounds of its own: what rules of one metric and window share is its value."""
_DRIFT = (
    "kind: drift, window: 24h, share: {medium: 10%, high: 30%}",
    "kind: drift, window: 24h, by: [feature]",
)


def book_of(count: int = 100) -> RuleBook:
    """Ten kinds of thresholds in turn: by region, against baseline and history, on labels; two of drift."""
    lines = [*_DRIFT, *(_KINDS[i % len(_KINDS)].format(10 + i // 10, 90 - i // 10) for i in range(count - 2))]
    text = "\n".join(f"- {{name: rule-{i}, {line}}}" for i, line in enumerate(lines))
    book = parse_rules(f"version: 1\ndefaults: {{model: {MODEL}}}\nrules:\n{text}\n", "bench.yml")
    book.raise_for_problems()
    return book


def measure(
    say: Callable[[str], None], *, days: int = 90, rules: int = 100, profile: bool = False
) -> dict[str, object]:
    """One model with buckets of an hour, three regions and 25 features, in a DuckDB database; the rules have
    windows of 1h, 24h and 7d. The clock runs from the first read to the report."""
    end = floor(system_clock(), DAY)
    history = History(end, days)
    store = open_duckdb(":memory:", clock=system_clock)
    try:
        store.setup()
        say(f"summaries of {days} days …")
        store.write(history.rows())
        import_baseline(store.state, history.baseline(), use=True)
        computed = SEPARATOR.join(["+".join(g) for g in GROUPINGS] + [edges().hash])
        known = ModelFeed(HOUR, history.window.start, end - HOUR, computed=computed)
        update_feed(store.state, lambda _: Feed({}, end + HOUR, 1, 1, {MODEL: known}))
        pipe = Pipeline(
            store,
            Settings.model_validate({"store": "duckdb::memory:", "models": {MODEL: {"bucket": "1h"}}}),
            RuleBook,
            Receivers({"nobody": Nobody()}, "nobody"),
            "bench",
            sole_writer=True,
        )
        book = book_of(rules)
        say(f"{len(book.rules)} rules …")
        profiler = cProfile.Profile() if profile else None
        wall, cpu = time.perf_counter(), time.process_time()
        if profiler:
            profiler.enable()
        replay = Replay(pipe, book, Window(*history.window))
        for _ in replay.run():
            pass
        found = replay.found()
        reports = reports_of(book, found)
        if profiler:
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
        seconds, used = time.perf_counter() - wall, time.process_time() - cpu
    finally:
        store.close()
    judged: dict[str, Any] = {"steps": found.steps, "us_of_a_step": round(used / found.steps * 1e6, 1)}
    return {
        "days": days,
        "rules": len(book.rules),
        "features": FEATURES,
        "seconds": at_most(seconds, TARGET),
        "cpu_s": round(used, 2),
        **judged,
        "alerts": sum(len(r.episodes) for r in reports.values()),
        "notes": len(found.notes),
    }
