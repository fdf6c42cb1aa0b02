"""A Summary: the parts that are computed of some rows. A part that is None is *not computed*, never zero."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Self

from kedge.sketch.custom import Custom
from kedge.sketch.edges import EdgeSet
from kedge.sketch.parts import Cells, Core, Labels


@dataclass(frozen=True)
class Summary:
    """Mergeable statistics of the rows of one model, group and span of time."""

    core: Core | None = None
    cells: Cells | None = None
    labels: Labels | None = None
    custom: Custom | None = None

    def __add__(self, other: Self) -> "Summary":
        """The summary of both row sets; a part that one side has not computed is not computed of the sum."""
        return Summary(
            None if self.core is None or other.core is None else self.core + other.core,
            None if self.cells is None or other.cells is None else self.cells + other.cells,
            None if self.labels is None or other.labels is None else self.labels + other.labels,
            None if self.custom is None or other.custom is None else self.custom + other.custom,
        )

    @classmethod
    def zero(cls, edges: EdgeSet | None = None) -> "Summary":
        """Of no rows. Without edges there are no cells to speak of: the part is then not computed."""
        return cls(Core(), None if edges is None else Cells.zero(edges), Labels(), Custom())

    @property
    def rows(self) -> int:
        return self.core.rows if self.core else 0


def total(summaries: Iterable[Summary], edges: EdgeSet | None = None) -> Summary:
    """The sum of all, the zero on `edges` where there are none; with `edges`, only their features' cells."""
    held = list(summaries)
    start = Summary.zero(edges) if edges is not None or not held else held.pop(0)
    return reduce(add, held, start)
