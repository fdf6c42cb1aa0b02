"""Whether the scores mean something else than they did: the reliability curve against the reference's.

In each bin of the score, the gap between observed rate and mean score is compared with the same gap of the
reference, so that a window with other scores, but the same meaning of a score, has not drifted. A window can
be as wrong as ever (`performance.ece`) without drift. Where scores were wrong all along and quite other ones
come, the gaps within a bin differ a little: simulated, from scores near 0 and 1 to scores about 0.5, an
effect of 0.015, within the tolerance and not 0.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kedge.analysis import build
from kedge.analysis.calibration import BINS
from kedge.analysis.drift import DriftSettings
from kedge.analysis.evidence import Shift
from kedge.analysis.metric import Metric, Verdict
from kedge.analysis.resemblance import rows_needed, tolerance_test
from kedge.analysis.scores import MIDDLES, Scored

CALIBRATION_DRIFT = "calibration.drift"
LEAST = 5.0
"""Of either outcome, what a bin must expect on both sides (Cochran's rule): of fewer, chi-square is bold."""
TOO_FEW = (
    f"too few labelled rows with a probability: no bin expects {LEAST:g} of either outcome on both sides"
)

Floats = NDArray[np.float64]


class _Side(NamedTuple):
    """Sums by bin."""

    n: Floats
    hits: Floats
    score: Floats
    """The sum of the scores."""

    @property
    def gap(self) -> Floats:
        """Observed rate less mean score."""
        gap: Floats = (self.hits - self.score) / self.n
        return gap

    @property
    def variance(self) -> Floats:
        """Of one row's outcome; smoothed, so that a rate of 0 or 1 claims no certainty."""
        return _variance(self.n, self.hits)


def _variance(n: Floats, hits: Floats) -> Floats:
    rate = (hits + 1) / (n + 2)
    variance: Floats = rate * (1 - rate)
    return variance


def calibration_drift(window: Scored | str, reference: Scored | str, settings: DriftSettings) -> Metric:
    """The effect of the shift of the curve, with the verdict of the tolerance test on it.

    Per bin, the shift of the gap squared over the variance of the outcome; their mean, weighted by the rows
    that the comparison of a bin is worth (n m / (n + m)). It is D of the outcome within bins where rates move
    little, so it is tested as D is, at as many degrees of freedom as bins: in a bin with a rate of 50 %, the
    tolerance of 0.05 is a shift by 11 points, of 5 % by 5 points. A text is the reason why a side has none.
    """
    if isinstance(window, str):
        return build.absent(CALIBRATION_DRIFT, window)
    if isinstance(reference, str):
        return build.absent(CALIBRATION_DRIFT, f"the reference: {reference}", n=window.n)
    edges = _bins(window, reference)
    if not edges.size:
        verdict = Verdict.INSUFFICIENT
        return Metric(CALIBRATION_DRIFT, None, window.n, verdict=verdict, reason=TOO_FEW)
    now, then = _side(window, edges), _side(reference, edges)
    worth = now.n * then.n / (now.n + then.n)
    moved = now.gap - then.gap
    # That of both together is right where a bin has the same scores on both sides, and too small for the
    # side with fewer rows where it has not; that of each side by itself is noisy.
    apart = (then.n * now.variance + now.n * then.variance) / (now.n + then.n)
    variance = np.maximum(apart, _variance(now.n + then.n, now.hits + then.hits))
    effective = float(worth.sum())
    effect = float(worth @ (moved**2 / variance)) / effective
    cells = np.array([edges.size + 1])
    tested = tolerance_test(
        np.array([effect]), cells, np.array([effective]), settings.tolerance, settings.alpha
    )
    needs = rows_needed(settings.tolerance, settings.alpha, cells, np.array([float(reference.n)]))[0]
    p_value = float(tested.p_value[0])
    verdict = Verdict.INSUFFICIENT if needs is None or window.n < needs else Verdict.OK
    return Metric(
        CALIBRATION_DRIFT,
        effect,
        window.n,
        interval=(float(tested.shown[0][0]), float(tested.shown[1][0])),
        verdict=Verdict.DRIFTED if p_value <= settings.alpha else verdict,
        detail={
            "tolerance": settings.tolerance,
            "low": float(tested.low[0]),
            "alarm_from": float(tested.alarm_from[0]),
            "p_value": p_value,
            "needs": needs,
            "m": reference.n,
            "bins": int(edges.size),
            "shift": float(worth @ moved) / effective,
        },
        evidence=Shift(effect, int(cells[0]), effective),
    )


def _bins(window: Scored, reference: Scored) -> NDArray[np.int64]:
    """The first cell of each bin: about BINS of as many rows of both together, each with enough to test."""
    ours = np.cumsum(window.hits + window.misses).tolist()
    theirs = np.cumsum(reference.hits + reference.misses).tolist()
    came_true = np.cumsum(window.hits + reference.hits).tolist()
    share = (ours[-1] + theirs[-1]) / BINS
    starts: list[int] = []
    first, before = 0, (0, 0, 0)
    for cell, until in enumerate(zip(ours, theirs, came_true, strict=True)):
        n, m, hits = (now - then for now, then in zip(until, before, strict=True))
        rows = n + m
        if rows >= share and min(n, m) * min(hits, rows - hits) >= LEAST * rows > 0:
            starts.append(first)
            first, before = cell + 1, until
    # What is left over at the end belongs to the last bin.
    return np.array(starts, np.int64)


def _side(scored: Scored, starts: NDArray[np.int64]) -> _Side:
    n = (scored.hits + scored.misses).astype(np.float64)
    sums = (np.add.reduceat(column, starts) for column in (n, scored.hits.astype(np.float64), n * MIDDLES))
    return _Side(*sums)
