"""Many models with the same features, and what they log: rows, and labels that come later.

In one minute all models log the same values under ids of their own. So what is counted of one model is what
would be counted of any, and history can be summarised once and written for all of them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import msgspec
import numpy as np

from kedge.clock import system_clock
from kedge.pipeline.baselines import Baseline, build_baseline
from kedge.pipeline.schema import Features
from kedge.records import Label, Prediction
from kedge.store.base import Joined, LogStore, Written
from kedge.store.duckdb import open_duckdb
from kedge.windows import DAY, MINUTE, Millis, Window

BATCH = 5_000
WRITERS = 2
REFERENCE_ROWS = 20_000


class Event(msgspec.Struct, frozen=True):
    """One row of every model."""

    timestamp: Millis
    number: int
    """Tells apart rows of one time."""


@dataclass(frozen=True)
class Fleet:
    """`models` models with `numeric` + `categorical` features each."""

    models: int
    numeric: int = 24
    categorical: int = 6

    @property
    def names(self) -> list[str]:
        return [f"model-{i:03}" for i in range(self.models)]

    @property
    def features(self) -> Features:
        return Features(
            tuple(f"n{j:02}" for j in range(self.numeric)), tuple(f"c{j}" for j in range(self.categorical))
        )

    def template(self, events: Sequence[Event]) -> list[Prediction]:
        """The rows of one model; those of the others differ by id and name."""
        rng = np.random.default_rng([e.timestamp // 1000 for e in events[:1]] or 0)
        features = self.features
        numbers = rng.normal(np.arange(self.numeric), 1.0, (len(events), self.numeric)).round(3).tolist()
        texts = rng.integers(0, 8, (len(events), self.categorical)).tolist()
        scores, latencies = (
            rng.beta(8, 2, len(events)).tolist(),
            rng.lognormal(2.5, 0.4, len(events)).tolist(),
        )
        rows = []
        for i, event in enumerate(events):
            likely, other = ("fraud", "ok") if i % 10 == 0 else ("ok", "fraud")
            score = max(scores[i], 1 - scores[i])
            rows.append(
                Prediction(
                    id="",
                    timestamp=event.timestamp,
                    ingested=event.timestamp,
                    model="",
                    version="7",
                    cls=likely,
                    probability=score,
                    probabilities={likely: score, other: 1 - score},
                    entropy=0.5,
                    num=dict(zip(features.numeric, numbers[i], strict=True)),
                    cat={n: f"v{t}" for n, t in zip(features.categorical, texts[i], strict=True)},
                    latency_ms=latencies[i],
                )
            )
        return rows

    def rows(self, events: Sequence[Event]) -> Iterator[Prediction]:
        """Of every model, by model."""
        template = self.template(events)
        for number, name in enumerate(self.names):
            for row, event in zip(template, events, strict=True):
                yield msgspec.structs.replace(row, id=_id(event, number), model=name)

    def labels(self, events: Sequence[Event], at: Millis) -> Iterator[Label]:
        """The labels of those rows: nine in ten say what was predicted."""
        for number in range(self.models):
            for i, event in enumerate(events):
                cls = "fraud" if (event.number + i) % 10 == 0 else "ok"
                yield Label(id=_id(event, number), timestamp=at, ingested=at, cls=cls)


def minute_of(start: Millis, count: int) -> list[Event]:
    """`count` rows spread over one minute."""
    return [Event(start + i * MINUTE // count, i) for i in range(count)]


def append(store: LogStore, rows: Iterable[Prediction]) -> int:
    """Write rows in large batches, two at a time; raises RuntimeError unless every one is new."""

    def one(batch: list[Prediction]) -> int:
        results = store.append(batch)
        if any(r.written is not Written.CREATED for r in results):
            raise RuntimeError("the store did not take every row as new")
        return len(batch)

    return _spread(one, rows)


def join(store: LogStore, labels: Iterable[Label]) -> int:
    """Join labels likewise; raises RuntimeError unless every one finds its prediction."""

    def one(batch: list[Label]) -> int:
        if any(joined is not Joined.JOINED for joined in store.label(batch)):
            raise RuntimeError("not every label found its prediction")
        return len(batch)

    return _spread(one, labels)


Item = TypeVar("Item")


def _spread(one: Callable[[list[Item]], int], items: Iterable[Item]) -> int:
    with ThreadPoolExecutor(WRITERS) as pool:
        return sum(pool.map(one, _batches(items)))


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _id(event: Event, model: int) -> str:
    return f"{event.timestamp:012x}{model:04x}{event.number:08x}"


def reference_of(fleet: Fleet) -> Baseline:
    """Of rows like those of every minute, of the first model; made in a store of its own."""
    store = open_duckdb(":memory:", clock=system_clock)
    store.setup()
    one = Fleet(1, fleet.numeric, fleet.categorical)
    window = Window(DAY, 2 * DAY)
    events = [Event(window.start + i * DAY // REFERENCE_ROWS, i) for i in range(REFERENCE_ROWS)]
    try:
        append(store, one.rows(events))
        name = one.names[0]
        return build_baseline(store, name, window, one.features, ((),), source="bench", now=window.end)
    finally:
        store.close()
