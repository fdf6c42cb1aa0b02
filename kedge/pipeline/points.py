"""What a worker keeps of the series that rules are judged on; nothing is wrong without it.

A month of hours is 672 summaries of each model, and all but the newest are those of an hour ago. So values
are kept rather than summaries (12 kB a rule and group, of one metric), and what was read once is not asked
for again until it changes.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from kedge.analysis.series import Floats, Ints
from kedge.store.base import Group
from kedge.windows import Millis

Point = tuple[tuple[float, int], ...]
"""(value, n) of each metric; nan where there is none."""
MOST = 20_000
"""Series that are kept: those of rules that are no more go with all others, now and then."""


@dataclass(eq=False)
class Ring:
    """The points of one series of windows, by group: the newest `size` of them."""

    length: Millis
    """Of a window."""
    size: int
    metrics: int
    stamps: Ints = field(init=False)
    """Which window each place holds; -1: none."""
    groups: dict[Group, Floats] = field(default_factory=dict)
    """Shape (size, 2 metrics): values, then what each rests on; that is -1 where the group had no rows."""

    def __post_init__(self) -> None:
        self.stamps = np.full(self.size, -1, np.int64)

    def unknown(self, starts: Ints) -> Ints:
        """Those of the windows that are not held."""
        known: Ints = self.stamps[self._places(starts)]
        unknown: Ints = starts[known != starts]
        return unknown

    def put(self, start: Millis, points: Mapping[Group, Point]) -> None:
        """What all groups were in a window."""
        place = start // self.length % self.size
        self.stamps[place] = start
        for held in self.groups.values():
            held[place, self.metrics :] = -1
        for group, point in points.items():
            if group not in self.groups:
                self.groups[group] = np.full((self.size, 2 * self.metrics), -1.0)
            self.groups[group][place] = [*(value for value, _ in point), *(n for _, n in point)]

    def rows(self, group: Group, starts: Ints) -> Floats:
        """Of windows that are held; shape (windows, 2 metrics)."""
        held = self.groups.get(group)
        if held is None:
            return np.full((len(starts), 2 * self.metrics), -1.0)
        rows: Floats = held[self._places(starts)]
        return rows

    def forget(self, start: Millis, end: Millis) -> None:
        """The windows that overlap [start, end)."""
        self.stamps[(self.stamps + self.length > start) & (self.stamps < end)] = -1

    def _places(self, starts: Ints) -> Ints:
        return starts // self.length % self.size


class PointMemory:
    """Rings by model and by what their points follow from."""

    def __init__(self) -> None:
        self._rings: dict[str, dict[Hashable, Ring]] = defaultdict(dict)

    def ring(self, model: str, key: Hashable, length: Millis, size: int, metrics: int) -> Ring:
        """The ring of that key; a new one where there is none."""
        if key not in self._rings[model]:
            if sum(map(len, self._rings.values())) >= MOST:
                self._rings.clear()
            self._rings[model][key] = Ring(length, size, metrics)
        return self._rings[model][key]

    def drop(self, model: str) -> None:
        """All of a model: something else may be stored."""
        self._rings.pop(model, None)

    def changed(self, buckets: Iterable[tuple[str, Millis, Millis]]) -> None:
        """(model, tier, bucket) that were written."""
        for model, tier, bucket in set(buckets):
            for ring in self._rings.get(model, {}).values():
                ring.forget(bucket, bucket + tier)
