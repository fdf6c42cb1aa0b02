"""How far the predictions moved from a reference: of a classifier its classes and how sure it is of them, of
a regression the predicted values. No labels are needed.

Of a classifier the cells are predicted class x five bands of confidence, which hold a fifth each of the
reference's rows of that class, as near as the hundred score cells allow. A shift of confidence within unmoved
class shares is a shift here, which `class.drift` cannot see. A class that the reference has few rows of is
one cell: bands of a handful would only add noise.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from kedge.analysis import build
from kedge.analysis.drift import DriftSettings, FeatureDrift, shift_of_counts
from kedge.analysis.drift_metrics import judged
from kedge.analysis.metric import Metric
from kedge.analysis.variation import PREDICTED
from kedge.sketch import SCORE_CELLS, SCORE_WIDTH, VALUE, Core, Counts, NumericEdges, Summary

NAME = "prediction.drift"
BANDS = 5
BANDED = 100
"""Rows of a class that the reference needs for bands of confidence."""
MOST_CLASSES = 50
"""Classes with cells of their own, the reference's commonest; the others are one cell."""
OTHERS = "(other classes)"
NONE = "no row has a prediction"
NOT_COUNTED = "the predicted values are not counted on the baseline's cells"

Named = dict[str, int]


def prediction_shift(
    window: Summary, reference: Summary, value: NumericEdges | None, settings: DriftSettings
) -> FeatureDrift | str:
    """The predictions of both sides as cells, or the reason why they cannot be compared. `value`: the edges
    that a regression's predictions are counted on."""
    ours, theirs = window.core or Core(), reference.core or Core()
    if ours.scores or theirs.scores:
        before, now = by_confidence(theirs, ours)
    elif ours.value.n or theirs.value.n:
        sides = [_values(summary, value) for summary in (reference, window)]
        if value is None or sides[0] is None or sides[1] is None:
            return NOT_COUNTED
        before, now = (
            dict(zip(value.names, side.tolist(), strict=True)) for side in sides if side is not None
        )
    else:
        return NONE
    return shift_of_counts("prediction", before, now, _of_classes(settings))


def _of_classes(settings: DriftSettings) -> DriftSettings:
    """The dispersion of the predicted classes stands in for that of the finer cells, and is marked so."""
    if PREDICTED not in settings.phi and PREDICTED not in settings.borrowed:
        return settings
    phi = {"prediction": settings.phi.get(PREDICTED, 1.0)}
    return replace(settings, phi=phi, borrowed=frozenset(phi))


def prediction_drift(
    window: Summary, reference: Summary, value: NumericEdges | None, settings: DriftSettings
) -> Metric:
    shift = prediction_shift(window, reference, value, settings)
    if isinstance(shift, str):
        return build.absent(NAME, shift)
    return judged(NAME, shift, {})


def by_confidence(reference: Core, window: Core) -> tuple[Named, Named]:
    """Rows of both sides by class and band of confidence, the bands from the reference."""
    sizes = reference.classes
    kept = sorted(sizes, key=lambda name: (-sizes[name], name))[:MOST_CLASSES]
    before: Named = {}
    now: Named = {}
    for name in sorted(reference.scores.keys() | window.scores.keys()):
        bands = bands_of(reference.scores[name]) if name in kept else [0, SCORE_CELLS]
        for side, core in ((before, reference), (now, window)):
            if name not in core.scores:
                continue
            for cell, n in _banded(name if name in kept else OTHERS, core.scores[name], bands).items():
                side[cell] = side.get(cell, 0) + n
    return before, now


def bands_of(scores: Counts) -> list[int]:
    """Ascending bounds, as score cells, of the bands of one class: the first is 0, the last SCORE_CELLS."""
    cumulative = np.cumsum(scores[:SCORE_CELLS])
    total = int(cumulative[-1])
    if total < BANDED:
        return [0, SCORE_CELLS]
    fifths = np.arange(1, BANDS) * total / BANDS
    cuts = np.searchsorted(cumulative, fifths) + 1
    return [0, *sorted({int(cut) for cut in cuts if cut < SCORE_CELLS}), SCORE_CELLS]


def _banded(name: str, scores: Counts, bands: list[int]) -> Mapping[str, int]:
    if len(bands) == 2:
        return {name: int(scores.sum())}
    found = {
        f"{name} at {low * SCORE_WIDTH:.2f} to {high * SCORE_WIDTH:.2f}": int(scores[low:high].sum())
        for low, high in pairwise(bands)
    }
    return found | {f"{name} without a probability": int(scores[SCORE_CELLS:].sum())}


def _values(summary: Summary, value: NumericEdges | None) -> Counts | None:
    held = summary.cells.features.get(VALUE) if summary.cells is not None else None
    return held[1] if held is not None and value is not None and held[0] == value.hash else None
