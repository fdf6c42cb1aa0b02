"""Which values a field of text has among a model's rows, for whoever asks what is new."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from kedge.windows import Window

CLASS = "prediction.class"
FEATURE = "features.cat."
MOST_VALUES = 1_000
"""Distinct values of which one question is answered exactly, and that it lists at most."""
EXAMPLES = 3


class ValueCount(NamedTuple):
    value: str
    rows: int
    examples: tuple[str, ...] = ()
    """Ids of the newest rows that have it, newest first, where they were asked for."""


@dataclass(frozen=True)
class ValueQuery:
    """Ask for the values of one field, the commonest first, equals by name."""

    model: str
    window: Window
    field: str
    """`prediction.class`, `features.cat.NAME`, or a dimension: `version`, `service`, `segment.NAME`."""
    group: tuple[tuple[str, str], ...] = ()
    """Only rows with these dimensions (store.base.Group)."""
    without: Collection[str] = ()
    """Not these values."""
    among: Collection[str] | None = None
    """Only these; None: any."""
    examples: bool = False
    """Name the newest EXAMPLES rows of each."""

    def wanted(self, value: str) -> bool:
        return value not in self.without and (self.among is None or value in self.among)


def merged(counts: Collection[ValueCount]) -> list[ValueCount]:
    """Counts of several places put together; of one value the examples of the first come first."""
    held: dict[str, ValueCount] = {}
    for one in counts:
        known = held.get(one.value, ValueCount(one.value, 0))
        ids = (*known.examples, *one.examples)[:EXAMPLES]
        held[one.value] = ValueCount(one.value, known.rows + one.rows, ids)
    return sorted(held.values(), key=lambda v: (-v.rows, v.value))[:MOST_VALUES]
