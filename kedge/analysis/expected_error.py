"""The error of a regression without labels (direct loss estimation): the reference's mean absolute error by
cell of the predicted value, weighed with the window's predictions. It assumes that the errors at a predicted
value are what they were.
"""

import math
from collections.abc import Sequence

import numpy as np

from kedge.analysis import build
from kedge.analysis.calibrator import FEW, Floats
from kedge.analysis.estimation import MOST_UNSUPPORTED, NO_LABELLED
from kedge.analysis.evidence import Estimate
from kedge.analysis.metric import Metric
from kedge.sketch import Counts, Moments

NAME = "estimated.mae"


def mean_error(window: Counts | None, errors: Sequence[Moments] | None) -> Metric:
    """Expected absolute error of a window's rows by cell of the predicted value, *missing* last.

    Of cells without an error in the reference nothing is expected: they are left out, and where they, and
    those with less than FEW, hold too much of the window, there is no estimate.
    """
    if errors is None:
        return build.absent(NAME, "the baseline has no errors by prediction cell: create it anew")
    if window is None:
        return build.absent(NAME, "the predicted values are not counted on the baseline's cells")
    rows = window[:-1].astype(np.float64)
    n = int(rows.sum())
    if not n:
        return build.absent(NAME, "no row has a predicted value")
    held = np.array([m.n for m in errors[:-1]], np.float64)
    if not held.any():
        return build.absent(NAME, NO_LABELLED, n=n)
    outside = int(rows[held < FEW].sum())
    if outside > MOST_UNSUPPORTED * n:
        reason = (
            f"{outside / n:.0%} of the rows have a predicted value for which the reference has too few "
            f"labelled rows, more than {MOST_UNSUPPORTED:.0%}"
        )
        return build.absent(NAME, reason, n=n)
    rows = np.where(held > 0, rows, 0.0)
    shares, means = rows / rows.sum(), np.array([m.mean for m in errors[:-1]])
    value = float(shares @ means)
    error = math.sqrt(_variance(shares, means, errors[:-1], int(rows.sum())))
    return build.present(NAME, value, int(rows.sum()), Estimate(value, error, low=0.0))


def _variance(shares: Floats, means: Floats, errors: Sequence[Moments], n: int) -> float:
    """The reference's noise, and that of the window: the larger of how far the realised error of these rows
    lies from its expectation, and how far that lies from the population's.
    """
    within = sum(m.m2 for m in errors) / max(sum(m.n - 1 for m in errors if m.n), 1)
    spread = np.array([m.variance if m.n >= FEW else within for m in errors])
    held = np.array([max(m.n, 1) for m in errors])
    mixed = float(shares @ means**2 - (shares @ means) ** 2)
    return float(shares**2 @ (spread / held)) + max(float(shares @ spread), mixed) / n
