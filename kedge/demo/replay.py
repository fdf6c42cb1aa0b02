"""`kedge demo`: months of real flights through the whole embedded pipeline, on simulated time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ingest.service import IngestService
from kedge.config import Settings
from kedge.demo.flights import MODEL, YEAR_START, Event, FlightModel, hours, reference
from kedge.notify.receivers import Receivers
from kedge.pipeline.baselines import Baseline, build_baseline, import_baseline
from kedge.pipeline.context import Pipeline
from kedge.pipeline.rulebook import RuleSource
from kedge.pipeline.schema import features_of
from kedge.pipeline.tick import TickReport, tick
from kedge.store.base import Store
from kedge.store.duckdb import open_duckdb
from kedge.windows import HOUR, Millis, Window

RULES = Path(__file__).with_name("rules.yml")
TICK_EVERY = 6 * HOUR
"""Simulated time between ticks. Every step is judged all the same, in order; a tick takes several at once."""
GROUPINGS = ((),)


class SimulatedClock:
    """The time of the replay."""

    def __init__(self, now: Millis) -> None:
        self.now = now

    def __call__(self) -> Millis:
        return self.now


def demo_settings(store: str) -> Settings:
    return Settings.model_validate(
        {
            "store": store,
            "models": {MODEL: {"bucket": "1h", "lag": "1m", "positive_class": "late"}},
        }
    )


def make_reference(model: FlightModel, store: Store) -> Baseline:
    """The baseline: the training months, each flight predicted by a model that had not seen its week."""
    scratch = open_duckdb(":memory:", clock=lambda: 0)
    scratch.setup()
    start = end = round(YEAR_START.timestamp() * 1000)
    clock = SimulatedClock(0)
    service = IngestService(scratch, scratch.state, clock)
    predictions: list[Event] = []
    labels: list[Event] = []
    for hour in reference(model):
        clock.now = end = hour.end_ms
        predictions += hour.predictions
        labels += hour.labels
    for chunk in batched(predictions):
        service.predictions(msgspec.json.encode(chunk))
    for chunk in batched(labels):
        service.labels(msgspec.json.encode(chunk))
    baseline = build_baseline(
        scratch,
        MODEL,
        Window(start, end),
        features_of(scratch.state, MODEL),
        GROUPINGS,
        source="flights of January and February 2013, held out by week",
        now=end,
    )
    import_baseline(store.state, baseline, use=True)
    scratch.close()
    return baseline


def batched(rows: list[Event], size: int = 20_000) -> Iterator[list[Event]]:
    for i in range(0, len(rows), size):
        yield rows[i : i + size]


def _ingest(service: IngestService, predictions: list[Event], labels: list[Event]) -> None:
    if predictions:
        service.predictions(msgspec.json.encode(predictions))
    if labels:
        service.labels(msgspec.json.encode(labels))


@dataclass
class Replay:
    """A replay in progress."""

    pipe: Pipeline
    clock: SimulatedClock
    predictions: int = 0
    labels: int = 0

    def run(
        self, model: FlightModel, start: datetime, end: datetime, told: Callable[[Millis, TickReport], None]
    ) -> None:
        """Replay from start to end; `told` hears of every tick."""
        service = IngestService(self.pipe.store, self.pipe.store.state, self.clock)
        next_tick: Millis = 0
        last = round(end.timestamp() * 1000)
        pending: tuple[list[Event], list[Event]] = ([], [])
        for hour in hours(model, start, end):
            if hour.end_ms > last:
                break
            self.clock.now = hour.end_ms
            next_tick = next_tick or hour.end_ms
            pending[0].extend(hour.predictions)
            pending[1].extend(hour.labels)
            self.predictions += len(hour.predictions)
            self.labels += len(hour.labels)
            if hour.end_ms < next_tick:
                continue
            _ingest(service, *pending)
            pending = ([], [])
            now = hour.end_ms + HOUR // 30
            told(hour.end_ms, tick(self.pipe, now, lease=0))
            next_tick = hour.end_ms + TICK_EVERY


def open_replay(store: str, receivers: Receivers, rules: Path = RULES) -> Replay:
    """A replay on a fresh embedded store."""
    clock = SimulatedClock(round(datetime(2013, 3, 1, tzinfo=UTC).timestamp() * 1000))
    settings = demo_settings(store)
    opened = open_duckdb(store.removeprefix("duckdb:"), clock=clock)
    opened.setup()
    pipe = Pipeline(opened, settings, RuleSource(rules), receivers, "demo", sole_writer=True)
    return Replay(pipe, clock)
