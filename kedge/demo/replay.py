"""`kedge demo`: months of real flights through the whole embedded pipeline, on simulated time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from ingest.service import IngestService
from kedge.config import Settings
from kedge.demo.flights import (
    MODEL,
    TRAINED_UNTIL,
    YEAR_START,
    Event,
    FlightModel,
    hours,
    reference,
)
from kedge.notify.receivers import Receivers
from kedge.pipeline.baselines import Baseline, build_baseline, import_baseline
from kedge.pipeline.context import Pipeline
from kedge.pipeline.rulebook import RuleSource
from kedge.pipeline.schema import features_of
from kedge.pipeline.tick import TickReport, tick
from kedge.store.duckdb import open_duckdb
from kedge.windows import HOUR, MINUTE, Millis, Window, iso

RULES = Path(__file__).with_name("rules.yml")
TICK_EVERY = 48 * HOUR
"""Simulated time between ticks. Every step is judged all the same, in order; a tick takes several at once."""
LAG = 2 * MINUTE
"""After the hour: its bucket has waited for stragglers by then."""


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


@dataclass
class Replay:
    """A replay: the training months as imported history, then the rest of the year as it happened."""

    pipe: Pipeline
    clock: SimulatedClock
    model: FlightModel
    predictions: int = 0
    labels: int = 0

    def import_reference(self) -> Baseline:
        """Load January and February, and freeze them as the baseline.

        Each of those flights is predicted by a model that had not seen its week.
        """
        service = self._service()
        predictions: list[Event] = []
        labels: dict[str, Event] = {}
        for hour in reference(self.model):
            self.clock.now = hour.end_ms
            predictions += hour.predictions
            labels |= {label["id"]: label for label in hour.labels}
        for chunk in batched(predictions):
            service.predictions(msgspec.json.encode([_with_label(row, labels) for row in chunk]))
        store = self.pipe.store
        window = Window(millis(YEAR_START), millis(TRAINED_UNTIL))
        source = f"window {iso(window.start)} to {iso(window.end)}"
        features = features_of(store.state, MODEL)
        baseline = build_baseline(store, MODEL, window, features, [()], source=source, now=self.clock())
        import_baseline(store.state, baseline, use=True)
        return baseline

    def run(self, end: datetime, told: Callable[[Millis, TickReport], None]) -> None:
        """Replay from March to `end`; `told` hears of every tick."""
        service = self._service()
        last, next_tick = millis(end), millis(TRAINED_UNTIL)
        predictions: list[Event] = []
        labels: list[Event] = []
        for hour in hours(self.model, TRAINED_UNTIL, end):
            if hour.end_ms > last:
                break
            self.clock.now = hour.end_ms
            predictions += hour.predictions
            labels += hour.labels
            if hour.end_ms < next_tick and hour.end_ms < last:
                continue
            if predictions:
                service.predictions(msgspec.json.encode(predictions))
            if labels:
                service.labels(msgspec.json.encode(labels))
            self.predictions += len(predictions)
            self.labels += len(labels)
            predictions, labels = [], []
            self.clock.now += LAG
            told(hour.end_ms, tick(self.pipe, self.clock(), lease=0))
            next_tick = hour.end_ms + TICK_EVERY

    def _service(self) -> IngestService:
        return IngestService(self.pipe.store, self.pipe.store.state, self.clock)


def _with_label(row: Event, labels: dict[str, Event]) -> Event:
    """History comes with its labels."""
    label = labels.get(row["id"])
    return row if label is None else row | {"label": {k: label[k] for k in ("class", "timestamp")}}


def batched(rows: list[Event], size: int = 20_000) -> Iterator[list[Event]]:
    for i in range(0, len(rows), size):
        yield rows[i : i + size]


def millis(time: datetime) -> Millis:
    return round(time.timestamp() * 1000)


def open_replay(model: FlightModel, store: str, receivers: Receivers, rules: Path = RULES) -> Replay:
    """A replay on a fresh embedded store."""
    clock = SimulatedClock(millis(TRAINED_UNTIL))
    settings = demo_settings(store)
    opened = open_duckdb(store.removeprefix("duckdb:"), clock=clock)
    opened.setup()
    pipe = Pipeline(
        opened,
        settings,
        RuleSource(rules, routing=lambda: receivers.tree),
        receivers,
        "demo",
        sole_writer=True,
    )
    return Replay(pipe, clock, model)
