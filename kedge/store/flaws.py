"""A kind of value of one feature, as `quality.*` and `drift.*` count it, to look its rows up by."""

from dataclasses import dataclass
from enum import StrEnum

from kedge.sketch import CategoricalEdges, NumericEdges


class Problem(StrEnum):
    MISSING = "missing"
    INVALID = "invalid"
    UNSEEN = "unseen"
    OUT_OF_RANGE = "out_of_range"
    PRESENT = "present"
    """Any value of the right type: of a feature that froze, or is new, all rows are to be looked at."""
    CELL = "cell"
    """In one cell of the reference's that more rows than usual are in."""
    DUPLICATE = "duplicate"
    """Sent again, by the ids that gateways kept: no stored row tells of it."""
    AHEAD = "ahead"
    """Later than its arrival, by the ids that gateways kept."""


OF_ARRIVAL = frozenset({Problem.DUPLICATE, Problem.AHEAD})
"""Of a row, not of a feature's value in it."""


@dataclass(frozen=True)
class Flaw:
    """Rows in which one feature is bad, or what else its values are looked for; or that arrived badly."""

    feature: str
    problem: Problem
    numeric: bool = True
    """Its values should be numbers: a text is *invalid*; else a number is."""
    edges: NumericEdges | CategoricalEdges | None = None
    """What *unseen* (known values) and *out of range* (bounds) are told by; of that kind. Of a *cell* those
    values, or those bounds."""
    group: tuple[tuple[str, str], ...] = ()
    """Only rows of this group: (dimension, value) pairs."""
    ids: tuple[str, ...] = ()
    """Event ids of the rows that are meant, of a flaw of arrival."""

    @property
    def known(self) -> list[str]:
        """The values that are not unseen; of a cell, those in it."""
        edges = self.edges
        return [*edges.values, *edges.others] if isinstance(edges, CategoricalEdges) else []

    @property
    def bounds(self) -> tuple[float, float]:
        """Values in [low, high) are in range."""
        if not isinstance(self.edges, NumericEdges):
            raise ValueError(f"{self.feature} has no range")
        return (self.edges.edges[0], self.edges.edges[-1])
