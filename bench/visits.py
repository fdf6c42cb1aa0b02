"""How many rows summarising reads for each row that came in."""

from dataclasses import replace
from typing import Any

import orjson

from bench.crank import LAG, pipeline
from bench.fleet import Fleet, append, join, minute_of, reference_of
from bench.processes import kedge_on
from bench.targets import at_most
from ingest.schema import SchemaRegistry
from kedge.alerting.loading import parse_rules
from kedge.clock import system_clock
from kedge.pipeline.baselines import import_baseline
from kedge.pipeline.tick import tick
from kedge.store.elastic import ElasticStore
from kedge.store.elastic.client import Client
from kedge.windows import DAY, MINUTE, floor

TARGET = 1.1
WINDOWS = ("5m", "10m", "30m", "1h", "6h", "24h")
METRICS = (
    "metric: volume.count, above: 1000000",
    "metric: errors.rate, above: 90%",
    "metric: latency.p95, above: 10s",
    "metric: confidence.mean, below: 0.01",
    "metric: performance.accuracy, below: 1%",
    "kind: drift, by: [feature], tolerance: 3",
)


def rules() -> str:
    """Twenty rules over six window lengths and six kinds of numbers."""
    lines = ["version: 1", 'defaults: {model: "*"}', "rules:"]
    for i in range(20):
        what, window = METRICS[i % len(METRICS)], WINDOWS[(i + i // len(METRICS)) % len(WINDOWS)]
        lines.append(f"  - {{name: rule-{i}, {what}, window: {window}}}")
    return "\n".join(lines) + "\n"


class Visits:
    """Counts the rows that each aggregation over predictions matches, by asking again for the count alone.

    It stands in front of the client's `request`, so that no search is missed, whatever code sends it.
    """

    def __init__(self, store: ElasticStore, client: Client, prefix: str) -> None:
        self._client, self._prefix = client, prefix
        self.summarising = self.detecting = self.searches = 0
        watched: Any = store._client  # every request passes here
        self._send = watched.request
        watched.request = self._request

    def _request(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        if path.endswith("/_search") and isinstance(body, dict):
            self._count(path.split("/")[1], body)
        elif path.endswith("/_msearch") and isinstance(body, bytes):
            lines = [orjson.loads(line) for line in body.splitlines()]
            for head, inner in zip(lines[::2], lines[1::2], strict=True):
                self._count(head.get("index") or path.split("/")[1], inner)
        return self._send(method, path, body, **more)

    def _count(self, index: Any, body: dict[str, Any]) -> None:
        index = ",".join(index) if isinstance(index, list) else index
        if not index.startswith(f"{self._prefix}-predictions") or not (
            body.get("aggs") or body.get("aggregations")
        ):
            return
        asked = {"query": body.get("query", {"match_all": {}})}
        matched = self._client.request("POST", f"/{index}/_count?ignore_unavailable=true", asked)["count"]
        if b'"_seq_no"' in orjson.dumps(asked):
            self.detecting += matched
        else:
            self.summarising += matched
            self.searches += 1


def measure(
    url: str, *, models: int = 2, rows: int = 50, minutes: int = 60, label_minutes: int = 15
) -> dict[str, object]:
    """An hour of minutes in order, a tick each; then, for comparison, fewer minutes with labels for nine rows
    in ten that come two minutes after them: labels are counted apart from the rows, in their own part."""
    figures: dict[str, object] = {
        "models": models,
        "rows": models * rows * minutes,
        "rules": 20,
        "window_lengths": len(WINDOWS),
    }
    for name, labelled, span in (
        ("rows_visited_per_row", False, minutes),
        ("with_labels", True, label_minutes),
    ):
        with kedge_on(url) as (kedge, store, client):
            figures["server"] = str(client.server)
            visits = Visits(store, client, kedge.prefix)
            ticks = _hour(store, models, rows, span, labelled)
            written = models * rows * span
            share = visits.summarising / written
            figures[name] = (at_most(share, TARGET) if not labelled else {"value": round(share, 3)}) | {
                "searches": visits.searches,
                "ticks": ticks,
                "by_change_detection": round(visits.detecting / written, 3),
            }
    return figures


def _hour(store: ElasticStore, models: int, rows: int, minutes: int, labelled: bool) -> int:
    fleet = Fleet(models)
    start = floor(system_clock(), DAY) - 2 * DAY
    book = parse_rules(rules(), "bench.yml")
    book.raise_for_problems()
    pipe = pipeline(store, book)
    SchemaRegistry(store.state).register(list(fleet.rows(minute_of(start, 1))))
    reference = reference_of(fleet)
    for name in fleet.names:
        import_baseline(store.state, replace(reference, model=name), use=True)
    ticks = 0
    for i in range(minutes + 3):
        minute = start + i * MINUTE
        if i < minutes:
            append(store, fleet.rows(minute_of(minute, rows)))
        if labelled and 2 <= i < minutes + 2:
            events = minute_of(minute - 2 * MINUTE, rows)[: rows * 9 // 10]
            join(store, fleet.labels(events, minute))
        tick(pipe, minute + MINUTE + LAG)
        ticks += 1
    return ticks
