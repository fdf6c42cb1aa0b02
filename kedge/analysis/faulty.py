"""Which rows to look at behind a finding: those in which a feature has the kind of value that was found.

Told in words that the store's look-up of rows knows (`missing`, `unseen`, …), so that a message can lead
there.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from kedge.analysis.arrived import DUPLICATES, TIME_SKEW
from kedge.analysis.drift import RARE, FeatureDrift, MovedCell
from kedge.analysis.metric import Metric

Rows = dict[str, str]
"""{"feature", "problem"} and, of the problem `cell`, the "cell"'s name; of rows that arrived badly the
"problem" alone. Empty where there is nothing to look at."""
_OF_METRIC: Mapping[str, str] = {
    "quality.missing": "missing",
    "quality.unseen": "unseen",
    "quality.out_of_range": "out_of_range",
    "quality.invalid": "invalid",
    "quality.constant": "present",
    "quality.stuck": "present",
    "quality.appeared": "present",
    "quality.disappeared": "missing",
}
_OF_ARRIVAL = {DUPLICATES: "duplicate", TIME_SKEW: "ahead"}
_OF_CELL: Mapping[str, str] = {
    "missing": "missing",
    "unseen": "unseen",
    "below": "out_of_range",
    "above": "out_of_range",
}


def rows_of_metric(found: Metric) -> Rows:
    """Of a metric of one feature, or of the first one of those that it names; or of rows as they arrived."""
    if found.name in _OF_ARRIVAL:
        return {"problem": _OF_ARRIVAL[found.name]}
    named = [found.labels["feature"]] if "feature" in found.labels else found.detail.get("features")
    if not named:
        return {}
    if found.name.startswith("drift."):
        moved = found.detail.get("moved", ())
        return _of_cells(named[0], (MovedCell(c["cell"], c["reference"], c["window"]) for c in moved))
    return rows_of(found.name, named[0])


def rows_of(metric: str, feature: str) -> Rows:
    problem = _OF_METRIC.get(metric)
    return {"feature": feature, "problem": problem} if problem else {}


def rows_of_shift(shift: FeatureDrift) -> Rows:
    """Of a feature that drifted."""
    return _of_cells(shift.feature, shift.moved)


def _of_cells(feature: str, moved: Iterable[MovedCell]) -> Rows:
    """Rows of the cell that filled most. Where values left cells and filled none by itself, and where rare
    values are counted together, those with any value."""
    filled = next((cell for cell in moved if cell.window > cell.reference and cell.name != RARE), None)
    if filled is None:
        return {"feature": feature, "problem": "present"}
    if problem := _OF_CELL.get(filled.name):
        return {"feature": feature, "problem": problem}
    return {"feature": feature, "problem": "cell", "cell": filled.name}


def first_of(causes: Iterable[Mapping[str, Any]]) -> Rows:
    """Of the first cause that rows can be shown of."""
    return next((dict(cause["rows"]) for cause in causes if cause.get("rows")), {})
