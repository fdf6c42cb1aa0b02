"""Rows as they arrived: those whose id was there already, and those ahead of the gateway's clock."""

from dataclasses import dataclass

from kedge.analysis import build
from kedge.analysis.latency import NO_ROWS
from kedge.analysis.metric import Metric

DUPLICATES, TIME_SKEW = "quality.duplicates", "quality.time_skew"
NAMES = (DUPLICATES, TIME_SKEW)
UNKNOWN = "what arrived is counted for a model as a whole"
"""Why groups, files and single buckets have none."""


@dataclass(frozen=True)
class Arrived:
    """Of the rows of a window, by event time."""

    duplicates: int
    """Rows that were not stored, as their id was."""
    ahead: int
    """Stored rows that were ahead of their arrival by more than the tolerance."""


def duplicates(rows: int, arrived: Arrived | None) -> Metric:
    """Of all rows that arrived, stored or not."""
    if arrived is None:
        return build.absent(DUPLICATES, UNKNOWN)
    return build.rate(DUPLICATES, arrived.duplicates, rows + arrived.duplicates, NO_ROWS)


def time_skew(rows: int, arrived: Arrived | None) -> Metric:
    """Of the rows that are stored."""
    if arrived is None:
        return build.absent(TIME_SKEW, UNKNOWN)
    return build.rate(TIME_SKEW, min(arrived.ahead, rows), rows, NO_ROWS)
