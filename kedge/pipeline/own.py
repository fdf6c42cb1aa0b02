"""How kedge itself does, from what it has stored: for monitoring. Nothing here is kept; each question is
asked anew, by the functions that answer people."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from kedge.alerting.composite import CompositeRule
from kedge.alerting.finding import Status
from kedge.alerting.loading import RuleBook
from kedge.pipeline.context import Pipeline
from kedge.pipeline.dirty import Feed, ModelFeed
from kedge.pipeline.feed import load_feed
from kedge.pipeline.outbox import FAILED, is_unsettled
from kedge.pipeline.progress import Steps, judged_through
from kedge.pipeline.spooled import Gateway, gateways, silent_holders, silent_others
from kedge.pipeline.ticked import Ticked, last_tick
from kedge.store.base import OTHER
from kedge.store.expiry import expired_labels
from kedge.windows import Millis

MOST_MODELS = 200
"""Models that are told apart. By name, and not by how they do: a series that comes and goes with that tells
nothing over time."""


T = TypeVar("T")


class Behind(NamedTuple):
    """Of one model; of several (OTHER), the worst of each, and all their buckets."""

    summaries_s: float
    """Since when rows may be there that are in no summary: the end and lag of the oldest bucket that is due,
    or, where none is, the last reading of the logs."""
    judging_s: float | None
    """For how long a step of a rule has been due; 0 where none is. None: no rule was judged yet. Rules on
    labels, which wait for them, and composites, which follow their parts, are left out."""
    buckets: int
    """Base buckets to be summarised, those of history too."""


@dataclass(frozen=True)
class Own:
    """All of it, as of one moment."""

    read_at: Millis
    """When ticks last read which logs had come; 0: never. By the pipeline's clock."""
    models: int
    behind: Mapping[str, Behind]
    """By model, at most MOST_MODELS and OTHER."""
    alerts: Mapping[tuple[Status, str], int]
    """By state and the word of the severity; empty: it does not fire."""
    waiting: Mapping[str, int]
    """By receiver: messages that are to be sent still,"""
    failed: Mapping[str, int]
    """and those that were given up, as long as they are kept."""
    expired: Mapping[str, int]
    """Labels that were given up since the beginning, by model (empty: none named), capped like `behind`."""
    tick: Ticked | None
    spooled: int
    """Rows that gateways said last to hold."""
    silent: int
    """Gateways that have said nothing for long, and no farewell."""


def own(pipe: Pipeline, book: RuleBook, now: Millis) -> Own:
    """Ask the store. On a cluster ten requests, whatever the number of rules, alerts and labels; one more for
    each further 1,000 models, for each further 1,000 messages that the outbox keeps, and for each further
    1,000 gateways."""
    state = pipe.store.state
    feed = load_feed(state, pipe.feeds)
    progress = judged_through(state, feed.models.keys()) if feed.models else {}
    waiting, failed = _outbox(pipe)
    said, wall = gateways(state), pipe.wall()
    return Own(
        read_at=feed.read_at,
        models=len(feed.models),
        behind=_capped(_behind(pipe, book, feed, progress, now), _worst),
        alerts={
            (Status(status or Status.INACTIVE), severity): count
            for (status, severity), count in pipe.store.alerts.tally().items()
        },
        waiting=waiting,
        failed=failed,
        expired=_capped({e.model: e.labels for e in expired_labels(state)}, sum),
        tick=last_tick(pipe),
        spooled=_spooled(said),
        silent=len(silent_holders(said, wall)) + len(silent_others(said, wall)),
    )


def _behind(
    pipe: Pipeline, book: RuleBook, feed: Feed, progress: Mapping[str, Steps], now: Millis
) -> dict[str, Behind]:
    found = {}
    for model, known in sorted(feed.models.items()):
        lag = pipe.settings.of_model(model).lag
        due = min(known.dirty, default=None)
        complete = feed.read_at if due is None else min(feed.read_at, due + known.base + lag)
        found[model] = Behind(
            max(now - complete, 0) / 1000,
            _judging(book, model, known, progress.get(model, {}), now - lag),
            len(known.dirty.keys() | known.history.keys()),
        )
    return found


def _judging(book: RuleBook, model: str, known: ModelFeed, steps: Steps, complete: Millis) -> float | None:
    """`complete`: steps up to then may be judged, if all rows are read."""
    lates = [
        complete - (reached.through + rule.step(known.base))
        for rule in book.of_model(model)
        if not (rule.label_based or isinstance(rule, CompositeRule) or rule.window < known.base)
        and (reached := steps.get(rule.name)) is not None
    ]
    return max(0, *lates) / 1000 if lates else None


def _worst(those: Iterable[Behind]) -> Behind:
    held = list(those)
    judged = [one.judging_s for one in held if one.judging_s is not None]
    return Behind(
        max(one.summaries_s for one in held), max(judged, default=None), sum(one.buckets for one in held)
    )


def _capped(values: Mapping[str, T], fold: Callable[[Iterable[T]], T]) -> dict[str, T]:
    """The first MOST_MODELS by name, and the others as one."""
    named = [(name, value) for name, value in sorted(values.items()) if name != OTHER]
    others = [value for _, value in named[MOST_MODELS:]] + ([values[OTHER]] if OTHER in values else [])
    return dict(named[:MOST_MODELS]) | ({OTHER: fold(others)} if others else {})


def _outbox(pipe: Pipeline) -> tuple[Counter[str], Counter[str]]:
    waiting: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for stored in pipe.store.outbox.find().values():
        receiver = stored.value["receiver"]
        waiting[receiver] += is_unsettled(stored.value)
        failed[receiver] += stored.value["status"] == FAILED
    return waiting, failed


def _spooled(said: Iterable[Gateway]) -> int:
    return sum(gateway.rows for gateway in said)
