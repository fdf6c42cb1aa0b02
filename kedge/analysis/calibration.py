"""Whether the scores mean what they say: of the rows with score 0.8, are 80 % positive?

Expected calibration error (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017) over equal-width bins of the
score, and the reliability curve that it sums up. A row's score is taken as the middle of its cell, so a bin's
mean score is at most half a cell (0.005) off, and the intervals reach that much further.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kedge.analysis import build
from kedge.analysis.evidence import Gaps
from kedge.analysis.intervals import SHOWN_ALPHA, wilson
from kedge.analysis.latency import NO_LABELS
from kedge.analysis.metric import Metric
from kedge.analysis.scores import (
    HALF_CELL,
    MIDDLES,
    NO_SCORES,
    Scored,
    by_confidence,
    by_positive,
    not_binary,
)
from kedge.errors import BadInput
from kedge.sketch import SCORE_CELLS, Labels

ECE = "performance.ece"
BINS = 10
"""Each a tenth wide: ten cells, and rows enough in each to say something from a few hundred on."""
_HALF_NORMAL = math.sqrt(2 / math.pi)

Floats = NDArray[np.float64]


class Bin(NamedTuple):
    """The labelled rows whose score lies in [low, high); the last bin holds 1 as well."""

    low: float
    high: float
    n: int
    score: float
    """Their mean score."""
    rate: float
    """The share of them for which it came true."""
    interval: tuple[float, float]
    """Of that share, 95 % (Wilson)."""


class _Binned(NamedTuple):
    """Rows by bin, empty bins left out. Shape of each: (bins with rows,)."""

    place: NDArray[np.int64]
    n: Floats
    hits: Floats
    score: Floats

    @property
    def rate(self) -> Floats:
        rate: Floats = self.hits / self.n
        return rate


def scored_of(labels: Labels, positive: str | None, classes: tuple[str, ...]) -> Scored | str:
    """The rows by the score that calibration is about: the positive's probability where a positive class is
    declared, else the probability of the predicted class; or the reason why it is not known.
    """
    if not labels.scores:
        return NO_LABELS
    if positive is None:
        scored = by_confidence(labels)
    elif problem := not_binary(positive, classes):
        return problem
    else:
        scored = by_positive(labels, positive)
    return scored if scored.n else NO_SCORES


def reliability(labels: Labels, positive: str | None = None, bins: int = BINS) -> list[Bin]:
    """The reliability curve: mean score and observed rate of each bin that has rows; [] without scored rows.

    With `positive`, of that class's probability, in a model of two classes; else of the predicted class's.
    `bins` must divide 100. Raises BadInput where it does not, and where the labels have more than two
    classes.
    """
    classes = tuple({name for pair, cells in labels.scores.items() if cells.any() for name in pair})
    scored = scored_of(labels, positive, classes)
    if isinstance(scored, str):
        if scored in (NO_LABELS, NO_SCORES):
            return []
        raise BadInput(scored)
    return curve(scored, bins)


def curve(scored: Scored, bins: int = BINS) -> list[Bin]:
    """The same of scored rows."""
    held = _binned(scored, bins)
    ends = wilson(held.hits, held.n, SHOWN_ALPHA)
    return [
        Bin(
            int(place) / bins,
            (int(place) + 1) / bins,
            int(held.n[i]),
            float(held.score[i]),
            float(held.rate[i]),
            (float(ends.lower[i]), float(ends.upper[i])),
        )
        for i, place in enumerate(held.place)
    ]


def ece(labels: Labels, positive: str | None, classes: tuple[str, ...]) -> Metric:
    """Mean gap between score and observed rate, over BINS bins weighted by their rows.

    Noise only ever adds to it: of few rows, a model without any fault has a large one. `detail` tells how
    large (`if_calibrated`), and the interval takes it into account: its lower end is 0 wherever calibrated
    scores could have given the value.
    """
    scored = scored_of(labels, positive, classes)
    if isinstance(scored, str):
        return build.absent(ECE, scored)
    held = _binned(scored, BINS)
    weights = held.n / held.n.sum()
    value = float(weights @ np.abs(held.score - held.rate))
    # One row added to either side, or a bin that was all right or all wrong by chance would claim no noise.
    smooth = (held.hits + 1) / (held.n + 2)
    noise = weights * np.sqrt(smooth * (1 - smooth) / held.n)
    calibrated = weights * np.sqrt(held.score * (1 - held.score) / held.n)
    evidence = Gaps(value, float(noise.sum()), float(np.sqrt((noise**2).sum())), HALF_CELL)
    return build.present(
        ECE,
        value,
        scored.n,
        evidence,
        detail={
            "bins": BINS,
            "if_calibrated": _HALF_NORMAL * float(calibrated.sum()),
            "of": "predicted class" if positive is None else positive,
        },
    )


def _binned(scored: Scored, bins: int) -> _Binned:
    if bins < 1 or SCORE_CELLS % bins:
        raise BadInput(
            f"{bins} bins: scores are counted in {SCORE_CELLS} cells, so it must divide {SCORE_CELLS}"
        )
    shape = (bins, SCORE_CELLS // bins)
    rows = (scored.hits + scored.misses).astype(np.float64)
    n, hits = rows.reshape(shape).sum(1), scored.hits.reshape(shape).sum(1).astype(np.float64)
    sums = (rows * MIDDLES).reshape(shape).sum(1)
    place = np.flatnonzero(n)
    return _Binned(place, n[place], hits[place], sums[place] / n[place])
