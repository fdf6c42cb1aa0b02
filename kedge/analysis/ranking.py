"""How well the scores rank: the area under the ROC curve, from counts by score cell."""

import numpy as np

from kedge.analysis import build
from kedge.analysis.evidence import Rate
from kedge.analysis.latency import NO_LABELS
from kedge.analysis.metric import Metric
from kedge.analysis.scores import NO_SCORES, Scored, by_positive, not_binary
from kedge.sketch import Labels

AUC = "performance.auc"
PRIOR_ROWS = 50.0
"""Rows of the smaller class that DeLong's variance needs to weigh as much as a guess."""


def auc(labels: Labels, positive: str | None, classes: tuple[str, ...]) -> Metric:
    """The chance that a positive row scores higher than a negative one, a tie counting half.

    `classes`: those that the model is known to have. Of just two it is the same whichever is called positive,
    since their scores are complementary, so none need be declared. Of more, one against the rest would take
    that class's probability in every row, which summaries do not hold. Rows that share a cell are ties: it
    differs from that of the rows' own scores by at most half the share of the pairs that share one.
    """
    if not labels.scores:
        return build.absent(AUC, NO_LABELS)
    problem = not_binary(positive, classes)
    if problem is not None:
        return build.absent(AUC, problem)
    chosen = positive if positive is not None else classes[0]
    scored = by_positive(labels, chosen)
    if not scored.n:
        return build.absent(AUC, NO_SCORES)
    positives, negatives = int(scored.hits.sum()), int(scored.misses.sum())
    if not positives or not negatives:
        other = next((name for name in classes if name != chosen), None)
        only = other if negatives else chosen
        return build.absent(AUC, f'all labelled rows with a probability are of class "{only}": AUC needs two')
    value, variance = area(scored)
    return build.present(
        AUC, value, min(positives, negatives), _evidence(value, variance, positives, negatives)
    )


def area(scored: Scored) -> tuple[float, float]:
    """The area, and its variance by DeLong, DeLong and Clarke-Pearson (1988); 0 of a class with one row.

    A row's placement, the share of the other class that it ranks above, is a function of its cell: the sums
    over rows are sums over cells. Needs rows of both classes.
    """
    hits, misses = scored.hits.astype(np.float64), scored.misses.astype(np.float64)
    n1, n0 = hits.sum(), misses.sum()
    above = (np.cumsum(misses) - misses / 2) / n0
    below = 1 - (np.cumsum(hits) - hits / 2) / n1
    value = float(hits @ above / n1)
    variance = 0.0
    if n1 > 1:
        variance += float(hits @ (above - value) ** 2 / (n1 - 1) / n1)
    if n0 > 1:
        variance += float(misses @ (below - value) ** 2 / (n0 - 1) / n0)
    return min(max(value, 0.0), 1.0), variance


def _evidence(value: float, variance: float, positives: int, negatives: int) -> Rate:
    """The area as a rate of as many trials as give it that variance: Wilson's interval on those does not
    collapse where few rows happen to be ranked perfectly.

    No area varies more than as many trials as the smaller class has rows (van Dantzig 1951). Of few rows
    DeLong's variance is itself mostly noise: one pair out of order, of twenty positives, and it is nearly 0.
    So it is not let below a mean, weighted by the smaller class, with the variance that scores without any
    skill would give. Simulated for 10 to 3,000 rows a class and areas of 0.5 to 0.98 (288 settings of 1,500
    draws), 95 % intervals then miss 3.7 % at an end at most.
    """
    least, spread = float(min(positives, negatives)), value * (1 - value)
    if variance <= 1e-15 or spread <= 1e-15:
        return Rate(value * least, least)
    unskilled = spread * (positives + negatives) / (3.0 * positives * negatives)
    weight = least / (least + PRIOR_ROWS)
    trials = max(spread / max(variance, weight * variance + (1 - weight) * unskilled), least)
    return Rate(value * trials, trials)
