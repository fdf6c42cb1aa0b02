"""What changed, and what is therefore due: the watermark and the dirty buckets, kept in one compare-and-set
document.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from kedge.pipeline.context import Pipeline
from kedge.pipeline.faults import reach
from kedge.sketch import Core, PartName
from kedge.store.base import Changes, DocumentStore, Json, SummaryRequest
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, ceil, floor

FEED = "feed"
SPARSE = 20
"""A model whose first logs have fewer rows a minute than this gets a base bucket of an hour."""

Dirty = dict[Millis, int]
"""Bucket start -> mark: the number of the detection that touched it last."""


@dataclass(frozen=True)
class ModelFeed:
    """What the feed knows of one model."""

    base: Millis
    """Width of its base bucket; fixed when the model is first seen."""
    first: Millis
    last: Millis
    """Starts of the oldest and newest base bucket that ever had rows."""
    dirty: Dirty = field(default_factory=dict)
    computed: str = ""
    """Which groupings and edges its summaries hold; where that changes, all its buckets are due again."""

    def incomplete_in(self, window: Window) -> bool:
        return any(window.start <= b < window.end for b in self.dirty)


@dataclass(frozen=True)
class Feed:
    """The state of change detection."""

    watermark: Json = field(default_factory=dict)
    read_at: Millis = 0
    """When the watermark was read: rows that were stored before it are in the dirty set, or summarised."""
    epoch: int = 1
    mark: int = 0
    models: dict[str, ModelFeed] = field(default_factory=dict)

    def encode(self) -> Json:
        return {
            "watermark": self.watermark,
            "read_at": self.read_at,
            "epoch": self.epoch,
            "mark": self.mark,
            "models": {
                name: {
                    "base": m.base,
                    "first": m.first,
                    "last": m.last,
                    "computed": m.computed,
                    "dirty": list(_runs(m.dirty, m.base)),
                }
                for name, m in self.models.items()
            },
        }

    @classmethod
    def decode(cls, value: Json) -> "Feed":
        def one(m: dict[str, Any]) -> ModelFeed:
            dirty = {start + i * m["base"]: mark for start, count, mark in m["dirty"] for i in range(count)}
            return ModelFeed(m["base"], m["first"], m["last"], dirty, m.get("computed", ""))

        return cls(
            value["watermark"],
            value["read_at"],
            value["epoch"],
            value["mark"],
            {name: one(m) for name, m in value["models"].items()},
        )


def _runs(dirty: Dirty, base: Millis) -> Iterator[list[int]]:
    """Neighbouring buckets with one mark as [start, count, mark]: years of history are a few numbers."""
    run: list[int] = []
    for bucket, mark in sorted(dirty.items()):
        if run and bucket == run[0] + run[1] * base and mark == run[2]:
            run[1] += 1
        else:
            if run:
                yield run
            run = [bucket, 1, mark]
    if run:
        yield run


def load_feed(state: DocumentStore) -> Feed:
    stored = state.get(FEED)
    return Feed.decode(stored.value) if stored else Feed()


def update_feed(state: DocumentStore, change: Callable[[Feed], Feed]) -> Feed:
    """Change the feed by compare-and-set; `change` is pure and runs again when somebody else was faster."""
    while True:
        stored = state.get(FEED)
        feed = change(Feed.decode(stored.value) if stored else Feed())
        if state.swap(FEED, feed.encode(), stored.token if stored else None):
            return feed


def detect(pipe: Pipeline, now: Millis) -> Feed:
    """Read what arrived or changed since the watermark into the dirty set, together with the new
    watermark.
    """

    def advance(feed: Feed) -> Feed:
        changes = pipe.store.changed(feed.watermark)
        reach("detect:changes-read")
        return absorb(feed, changes, now, partial(fitting_base, pipe))

    feed = update_feed(pipe.store.state, advance)
    reach("detect:stored")
    return feed


def absorb(feed: Feed, changes: Changes, now: Millis, base_of: Callable[[str, set[Millis]], Millis]) -> Feed:
    """The feed after `changes` that were read at `now`; `base_of` says the base bucket of a new model."""
    mark = feed.mark + 1
    models = dict(feed.models)
    for name in sorted(changes.dirty.keys() | changes.labelled.keys()):
        minutes = changes.dirty.get(name, set()) | changes.labelled.get(name, set())
        if not minutes:
            continue
        known = models.get(name)
        base = known.base if known else base_of(name, minutes)
        buckets = {floor(minute, base) for minute in minutes}
        models[name] = ModelFeed(
            base,
            min(buckets | ({known.first} if known else set())),
            max(buckets | ({known.last} if known else set())),
            (known.dirty if known else {}) | dict.fromkeys(buckets, mark),
            known.computed if known else "",
        )
    return Feed(
        changes.watermark,
        max(now, feed.read_at),
        feed.epoch + 1 if changes.replaced else feed.epoch,
        mark,
        models,
    )


def fitting_base(pipe: Pipeline, model: str, minutes: set[Millis]) -> Millis:
    """The base bucket of a new model: what is configured; else a minute, or an hour where the first logs span
    hours and are sparse.
    """
    if configured := pipe.settings.of_model(model).base:
        return configured
    window = Window(floor(min(minutes), DAY), ceil(max(minutes) + MINUTE, DAY))
    span = max(minutes) - min(minutes) + MINUTE
    if span < 2 * HOUR:
        return MINUTE  # a service that was just started: too short to tell
    request = SummaryRequest(model, window, DAY, frozenset({PartName.CORE}))
    rows = sum(row.part.rows for row in pipe.store.summarise(request) if isinstance(row.part, Core))
    return HOUR if rows < SPARSE * span / MINUTE else MINUTE


def mark_dirty(state: DocumentStore, model: str, window: Window, computed: str | None = None) -> Feed:
    """Make every bucket of a window due again, as far as the model has logs there."""

    def change(feed: Feed) -> Feed:
        known = feed.models.get(model)
        if known is None:
            return feed
        mark = feed.mark + 1
        start = max(floor(window.start, known.base), known.first)
        stop = min(window.end, known.last + known.base)
        dirty = known.dirty | dict.fromkeys(range(start, stop, known.base), mark)
        changed = replace(known, dirty=dirty, computed=known.computed if computed is None else computed)
        return replace(feed, mark=mark, models=feed.models | {model: changed})

    return update_feed(state, change)


def clear_dirty(state: DocumentStore, model: str, done: Dirty) -> Feed:
    """Take processed buckets off the dirty set, unless they were touched again since (their mark moved)."""

    def change(feed: Feed) -> Feed:
        known = feed.models.get(model)
        if known is None:
            return feed
        dirty = {b: mark for b, mark in known.dirty.items() if done.get(b) != mark}
        return replace(feed, models=feed.models | {model: replace(known, dirty=dirty)})

    return update_feed(state, change)


def due(model: ModelFeed, now: Millis, lag: Millis) -> Dirty:
    """The dirty buckets that ended at least `lag` ago."""
    return {b: mark for b, mark in model.dirty.items() if b + model.base + lag <= now}


def runs_of(buckets: Iterable[Millis], base: Millis, longest: int) -> list[Window]:
    """Neighbouring buckets as windows of at most `longest` buckets, newest first."""
    windows: list[Window] = []
    for bucket in sorted(buckets):
        if windows and windows[-1].end == bucket and windows[-1].length < longest * base:
            windows[-1] = Window(windows[-1].start, bucket + base)
        else:
            windows.append(Window(bucket, bucket + base))
    return windows[::-1]
