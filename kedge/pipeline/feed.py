"""The change feed's state: watermark and dirty set (dirty.py), in one compare-and-set document."""

from collections.abc import Callable, Mapping
from functools import partial

from kedge.pipeline.context import Pipeline
from kedge.pipeline.dirty import Done, Feed, absorb, adopted, cleared
from kedge.pipeline.faults import reach
from kedge.pipeline.memory import FeedMemory
from kedge.pipeline.spooled import spooled_since
from kedge.sketch import Core, PartName
from kedge.store.base import DocumentStore, SummaryRequest
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, ceil, floor

FEED = "feed"
SPARSE = 20
"""A model whose first logs have fewer rows a minute than this gets a base bucket of an hour."""


def load_feed(state: DocumentStore, memory: FeedMemory | None = None) -> Feed:
    """The feed as it is stored; `memory` spares decoding what is known already."""
    stored = state.get(FEED)
    if stored is None:
        return Feed()
    return memory.decoded(stored.value) if memory else Feed.decode(stored.value)


def update_feed(
    state: DocumentStore, change: Callable[[Feed], Feed], memory: FeedMemory | None = None
) -> Feed:
    """Change the feed by compare-and-set; `change` is pure and runs again when somebody else was faster."""
    memory = memory or FeedMemory()
    while True:
        stored = state.get(FEED)
        before = memory.decoded(stored.value) if stored else Feed()
        feed = change(before)
        if state.swap(FEED, memory.encoded(feed), stored.token if stored else None):
            return feed


def detect(pipe: Pipeline, now: Millis) -> Feed:
    """Read what arrived or changed since the watermark into the dirty set, together with the new
    watermark.
    """

    def advance(feed: Feed) -> Feed:
        # Before the changes: a spool that empties in between has written rows that they may not have.
        spooled = spooled_since(pipe.store.state, pipe.wall())
        changes = pipe.store.changed(feed.watermark)
        reach("detect:changes-read")
        return absorb(feed, changes, now, partial(fitting_base, pipe), spooled, lag_of)

    def lag_of(model: str) -> Millis:
        return pipe.settings.of_model(model).lag

    feed = update_feed(pipe.store.state, advance, pipe.feeds)
    reach("detect:stored")
    return feed


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


def mark_dirty(state: DocumentStore, model: str, window: Window) -> Feed:
    """Make every bucket of a window due again, as far as the model has logs there."""
    return adopt(state, {model: (None, window)})


def adopt(
    state: DocumentStore,
    wanted: Mapping[str, tuple[str | None, Window]],
    memory: FeedMemory | None = None,
) -> Feed:
    """Note what the summaries of models shall hold, and make buckets due for it (dirty.adopted)."""
    return update_feed(state, lambda feed: adopted(feed, wanted), memory)


def clear(
    state: DocumentStore, done: Mapping[str, Done], now: Millis, memory: FeedMemory | None = None
) -> Feed:
    """Take processed buckets off, unless they were touched again since (their mark moved), and mark the
    coarser ones that are made of them."""
    return update_feed(state, lambda feed: cleared(feed, done, now), memory)
