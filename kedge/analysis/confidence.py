"""How sure the model is of its predictions: the probability of the predicted class, and the entropy of
all.
"""

import math

import numpy as np

from kedge.analysis import build
from kedge.analysis.evidence import Estimate, Quantile
from kedge.analysis.latency import linear_quantile
from kedge.analysis.metric import Metric
from kedge.sketch import SCORE_CELLS, Core, Counts

NO_CONFIDENCE = "no row has a probability"

_EDGES = np.linspace(0.0, 1.0, SCORE_CELLS + 1)
_MIDDLES = (_EDGES[:-1] + _EDGES[1:]) / 2


def confidence_mean(core: Core) -> Metric:
    return build.mean("confidence.mean", core.confidence, NO_CONFIDENCE)


def confidence_std(core: Core) -> Metric:
    """Sample standard deviation (n - 1); its standard error from the fourth moment over the score cells."""
    name, moments = "confidence.std", core.confidence
    if moments.n < 2:
        return build.absent(name, NO_CONFIDENCE if not moments.n else "one row shows no spread", n=moments.n)
    error = _std_error(score_counts(core), moments.mean, moments.std, moments.n)
    evidence = None if error is None else Estimate(moments.std, error, low=0.0)
    return build.present(name, moments.std, moments.n, evidence)


def confidence_p10(core: Core) -> Metric:
    """Within a score cell (0.01) of the rows' own, and never outside their minimum and maximum."""
    name, counts = "confidence.p10", score_counts(core)
    n = int(counts.sum())
    if not n:
        return build.absent(name, "no row has a class and a probability")
    value = linear_quantile(counts, _EDGES, 0.10)
    if core.confidence.n:
        value = min(max(value, core.confidence.low), core.confidence.high)
    return build.present(name, value, n, Quantile(counts, _EDGES, 0.10))


def entropy_mean(core: Core) -> Metric:
    return build.mean("entropy.mean", core.entropy, "no row has probabilities")


def score_counts(core: Core) -> Counts:
    """Rows by confidence, of all classes; without the missing ones."""
    counts = np.zeros(SCORE_CELLS, np.int64)
    for cells in core.scores.values():
        counts += cells[:SCORE_CELLS]
    return counts


def _std_error(counts: Counts, mean: float, std: float, n: int) -> float | None:
    """sqrt((mu4 - s^4) / (4 s^2 n)), mu4 from the cells; None where no scores were counted or none varies."""
    counted = int(counts.sum())
    if not counted or std <= 0:
        return None
    fourth = float(counts @ (_MIDDLES - mean) ** 4) / counted
    return math.sqrt(max(fourth - std**4, 0.0) / (4 * std * std * n))
