"""A kind of bad value of one feature, as `quality.*` counts it, so that rows with it can be looked up."""

from dataclasses import dataclass
from enum import StrEnum

from kedge.sketch import CategoricalEdges, NumericEdges


class Problem(StrEnum):
    MISSING = "missing"
    INVALID = "invalid"
    UNSEEN = "unseen"
    OUT_OF_RANGE = "out_of_range"


@dataclass(frozen=True)
class Flaw:
    """Rows in which one feature is bad."""

    feature: str
    problem: Problem
    numeric: bool = True
    """Its values should be numbers: a text is *invalid*; else a number is."""
    edges: NumericEdges | CategoricalEdges | None = None
    """What *unseen* (known values) and *out of range* (bounds) are told by; of that kind."""

    @property
    def known(self) -> list[str]:
        """The values that are not unseen."""
        edges = self.edges
        return [*edges.values, *edges.others] if isinstance(edges, CategoricalEdges) else []

    @property
    def bounds(self) -> tuple[float, float]:
        """Values in [low, high) are in range."""
        if not isinstance(self.edges, NumericEdges):
            raise ValueError(f"{self.feature} has no range")
        return (self.edges.edges[0], self.edges.edges[-1])
