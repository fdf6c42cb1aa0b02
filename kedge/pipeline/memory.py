"""What a worker keeps between ticks to spare itself work; nothing is wrong without it."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kedge.analysis.metric import Metric
from kedge.pipeline.dirty import Feed, ModelFeed, decode_model, encode_model
from kedge.store.base import Group, Json
from kedge.windows import Millis

Key = tuple[str, Millis, Millis, Group]
MEMORY = 50_000
"""Buckets whose metrics are remembered, of all models."""


@dataclass
class MetricMemory:
    """The metrics of buckets that rest neither on labels nor on one feature, as they were computed last.

    Labels trickle in for days, and each makes its bucket's document anew; drift, most of the cost, did not
    move.
    """

    _kept: OrderedDict[Key, tuple[object, list[Metric]]] = field(default_factory=OrderedDict)

    def get(self, key: Key, made_of: object, compute: Callable[[], list[Metric]]) -> list[Metric]:
        """What was computed of exactly this, else what `compute` gives."""
        kept = self._kept.get(key)
        if kept is None or kept[0] != made_of:
            return self.keep(key, made_of, compute())
        self._kept.move_to_end(key)
        return kept[1]

    def keep(self, key: Key, made_of: object, metrics: Iterable[Metric]) -> list[Metric]:
        """Remember those of `metrics` that are not of one feature; returns them."""
        scalars = [m for m in metrics if "feature" not in m.labels]
        self._kept[key] = (made_of, scalars)
        self._kept.move_to_end(key)
        if len(self._kept) > MEMORY:
            self._kept.popitem(last=False)
        return scalars


class FeedMemory:
    """Each model's share of the dirty set as it was read or stored last, beside its JSON.

    A tick reads and stores the document several times, and a few models at most change in between. What is
    the same JSON is the same share, whoever stored it, so this is never out of date; threads may replace it
    under each other.
    """

    def __init__(self) -> None:
        self._models: dict[str, tuple[Json, ModelFeed]] = {}

    def decoded(self, document: Json) -> Feed:
        """`Feed.decode` of a stored document."""
        known = self._models
        models = {
            name: held
            if (held := known.get(name)) is not None and held[0] == said
            else (said, decode_model(said))
            for name, said in document["models"].items()
        }
        self._models = models
        return Feed.decode(document, {name: feed for name, (_, feed) in models.items()})

    def encoded(self, feed: Feed) -> Json:
        """`feed.encode()`."""
        known = self._models
        models = {
            name: held
            if (held := known.get(name)) is not None and held[1] is model
            else (encode_model(model), model)
            for name, model in feed.models.items()
        }
        self._models = models
        return feed.encode({name: said for name, (said, _) in models.items()})
