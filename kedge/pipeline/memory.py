"""The metrics that were computed last, so that labels that trickle in do not have drift computed anew."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from kedge.analysis.metric import Metric
from kedge.store.base import Group
from kedge.windows import Millis

Key = tuple[str, Millis, Millis, Group]
MEMORY = 20_000
"""Buckets whose metrics are remembered, of all models: about 20 kB each with 25 features."""


@dataclass
class MetricMemory:
    """The metrics that do not rest on labels, as they were computed last.

    Labels trickle in for days, and each makes its bucket's document anew; drift, most of the cost, did not
    move.
    """

    _kept: OrderedDict[Key, tuple[object, list[Metric]]] = field(default_factory=OrderedDict)

    def get(self, key: Key, made_of: object, compute: Callable[[], list[Metric]]) -> list[Metric]:
        """What was computed of exactly this, else what `compute` gives."""
        kept = self._kept.get(key)
        if kept is None or kept[0] != made_of:
            kept = self._kept[key] = (made_of, compute())
        self._kept.move_to_end(key)
        if len(self._kept) > MEMORY:
            self._kept.popitem(last=False)
        return kept[1]
