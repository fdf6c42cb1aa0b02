"""Mergeable statistics: what a set of rows is boiled down to, once. Pure: no I/O, no clock."""

from kedge.sketch.custom import AnyPart, Counted, Custom, Distinct, Tally, What, definitions_key
from kedge.sketch.edges import (
    VALUE,
    CategoricalEdges,
    Edges,
    EdgeSet,
    NumericEdges,
    categorical_edges,
    numeric_edges,
)
from kedge.sketch.moments import Moments
from kedge.sketch.pack import check_format, pack, unpack
from kedge.sketch.parts import MOST_RANKED, Cells, Core, Labels, PartName, ranked
from kedge.sketch.scale import DELAY, LATENCY, SCORE_CELLS, SCORE_WIDTH, Counts, LogScale, score_cell
from kedge.sketch.summary import Summary, total

__all__ = [
    "DELAY",
    "LATENCY",
    "MOST_RANKED",
    "SCORE_CELLS",
    "SCORE_WIDTH",
    "VALUE",
    "AnyPart",
    "CategoricalEdges",
    "Cells",
    "Core",
    "Counted",
    "Counts",
    "Custom",
    "Distinct",
    "EdgeSet",
    "Edges",
    "Labels",
    "LogScale",
    "Moments",
    "NumericEdges",
    "PartName",
    "Summary",
    "Tally",
    "What",
    "categorical_edges",
    "check_format",
    "definitions_key",
    "numeric_edges",
    "pack",
    "ranked",
    "score_cell",
    "total",
    "unpack",
]
