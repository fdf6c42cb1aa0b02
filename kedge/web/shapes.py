"""From counts to what a chart draws: shares over evenly wide bins, bars of categories, whiskers. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kedge.analysis.comparison import FeatureComparison
from kedge.analysis.intervals import Interval
from kedge.sketch import Counts, NumericEdges

Floats = NDArray[np.float64]

BINS = 32
BEYOND = 0.75
"""How far the axis reaches past the middle nine tenths of the reference, in their width: one outlier must not
squeeze all the rest into a line.
"""
CATEGORIES = 8
FEW_CELLS = 8
"""A numeric feature with at most so many cells has few values (a flag, a rating): its cells are bars."""
_ONE_VALUE = 0.01
"""Of a bin's width."""
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Shape:
    """A numeric feature: shares by bin of both sides over [low, high); what lies beyond is in no bin."""

    low: float
    high: float
    reference: Floats
    current: Floats

    @property
    def top(self) -> float:
        """The tallest bin."""
        return float(max(self.reference.max(initial=0.0), self.current.max(initial=0.0)))


@dataclass(frozen=True)
class Bar:
    """One category, with the share of either side."""

    name: str
    reference: float
    current: float


def shape_of(feature: FeatureComparison, bins: int = BINS) -> Shape:
    """Both sides on one axis; each frozen cell is taken as filled evenly, a value with its own cell stays in
    one bin.
    """
    edges = feature.edges
    assert isinstance(edges, NumericEdges)  # noqa: S101 - the caller asked which it is
    moments = [m for m in (feature.reference_moments, feature.current_moments) if m.n]
    least = min([edges.edges[0], *(m.low for m in moments)])
    most = max([edges.edges[-1], *(m.high for m in moments)])
    inner = edges.edges[1:-1] or edges.edges
    room = BEYOND * (inner[-1] - inner[0])
    if room <= 0:
        room = max(edges.edges[-1] - edges.edges[0], abs(inner[0]) * 0.01, 1e-6)
    low, high = max(least, inner[0] - room), min(most, inner[-1] + room)
    if high <= low:
        low, high = low - room, high + room
    bounds = np.array([min(least, edges.edges[0]), *edges.edges, max(most, edges.edges[-1])])
    return Shape(
        low,
        high,
        _spread(feature.reference[:-1], bounds, low, high, bins),
        _spread(feature.current[:-1], bounds, low, high, bins),
    )


def _spread(counts: Counts, bounds: Floats, low: float, high: float, bins: int) -> Floats:
    """Shares of all counted rows by bin; a cell so narrow that it is one value goes whole into one bin."""
    total, shares, width = int(counts.sum()), np.zeros(bins), (high - low) / bins
    if not total:
        return shares
    at = low + width * np.arange(bins + 1)
    for n, (a, b) in zip(counts.tolist(), pairwise(bounds.tolist()), strict=True):
        if not n or b <= low or a >= high:
            continue
        if b - a <= width * _ONE_VALUE:
            shares[min(max(int(((a + b) / 2 - low) / width), 0), bins - 1)] += n
        else:
            shares += n * np.maximum(np.minimum(at[1:], b) - np.maximum(at[:-1], a), 0.0) / (b - a)
    return shares / total


def bars_of(feature: FeatureComparison, most: int = CATEGORIES) -> list[Bar]:
    """A bar a cell: of a categorical feature the largest ones on either side, then the rest together,
    *unseen* and *missing*; of a numeric one all that hold rows, in their order.
    """
    edges = feature.edges
    a, b = (counts / max(int(counts.sum()), 1) for counts in (feature.reference, feature.current))
    if isinstance(edges, NumericEdges):
        every = [Bar(*cell) for cell in zip(edges.names, a.tolist(), b.tolist(), strict=True)]
        return [bar for bar in every if bar.reference or bar.current]
    known = len(edges.values)
    ranked = sorted(range(known), key=lambda i: (-max(a[i], b[i]), i))
    bars = [Bar(edges.values[i], float(a[i]), float(b[i])) for i in ranked[:most]]
    rest = ranked[most:]
    others = Bar(
        f"{len(rest) + len(edges.others)} others",
        float(a[rest].sum() + a[known]),
        float(b[rest].sum() + b[known]),
    )
    ends = (others, Bar("unseen", float(a[-2]), float(b[-2])), Bar("missing", float(a[-1]), float(b[-1])))
    return bars + [bar for bar in ends if bar.reference or bar.current]


def is_drawn_as_bars(feature: FeatureComparison) -> bool:
    return not isinstance(feature.edges, NumericEdges) or len(feature.edges.edges) - 1 <= FEW_CELLS


def blocks(shares: Sequence[float] | Floats, top: float) -> str:
    """A line of block characters, as tall as `top` at most; an empty bin is a space."""
    if top <= 0:
        return " " * len(shares)
    return "".join(
        _BLOCKS[min(int(share / top * len(_BLOCKS)), len(_BLOCKS) - 1)] if share > 0 else " "
        for share in shares
    )


@dataclass(frozen=True)
class Whisker:
    """A value with its interval, as shares of an axis from 0 to 1."""

    at: float
    low: float
    high: float


def whiskers(
    sides: Sequence[tuple[float, Interval | None]],
) -> list[Whisker]:
    """Values with their intervals on one axis that just holds them all."""
    ends = [end for value, interval in sides for end in (value, *(interval or ()))]
    low, high = min(ends), max(ends)
    span: float = (high - low) or 1.0
    start: float = low if high > low else low - 0.5

    def place(value: float) -> float:
        return (value - start) / span

    return [
        Whisker(place(value), *(map(place, interval) if interval else (place(value), place(value))))
        for value, interval in sides
    ]
