"""How well the scores rank: the area under the ROC curve, from counts by score cell."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from kedge.analysis import build
from kedge.analysis.evidence import Rate
from kedge.analysis.latency import NO_LABELS
from kedge.analysis.metric import Metric
from kedge.analysis.scores import NO_SCORES, Scored, by_confidence, by_positive, by_truth, not_binary
from kedge.sketch import MOST_RANKED, SCORE_CELLS, Labels

AUC = "performance.auc"
PRIOR_ROWS = 50.0
"""Rows of the smaller class that DeLong's variance needs to weigh as much as a guess."""
_NONE = np.zeros(SCORE_CELLS, np.int64)
_BEFORE = "were counted before they were ranked by every class"


def auc(labels: Labels, positive: str | None, classes: tuple[str, ...], cls: str | None = None) -> Metric:
    """The chance that a positive row scores higher than a negative one, a tie counting half.

    `classes`: those that the model is known to have. Of just two it is the same whichever is called positive,
    since their scores are complementary, so none need be declared. Of more it is one class against the rest
    by that class's own probability: of `cls`, else of the positive class, else the unweighted mean over the
    classes (scikit-learn's `multi_class="ovr", average="macro"`). Rows that share a cell are ties: it differs
    from that of the rows' own scores by at most half the share of the pairs that share one.
    """
    of = {"class": cls} if cls is not None else {}
    if not labels.scores:
        return build.absent(AUC, NO_LABELS, labels=of)
    chosen = cls if cls is not None else positive
    if len({*classes, *ranked_by(labels)}) > 2:
        found = _macro(labels, classes) if chosen is None else _against_rest(labels, chosen, classes)
    else:
        found = _of_two(labels, chosen, classes)
    if isinstance(found, str):
        return build.absent(AUC, found, labels=of)
    return build.present(AUC, *found, labels=of)


def ranked_by(labels: Labels) -> list[str]:
    """The classes by whose probability rows are ranked: none of a model with two."""
    return sorted({cls for cls, _ in labels.ranks})


class Area(NamedTuple):
    value: float
    n: int
    """The rows of the smaller side."""
    rate: Rate


def _of_two(labels: Labels, positive: str | None, classes: tuple[str, ...]) -> Area | str:
    """By the positive class's score, or the reason for none."""
    problem = not_binary(positive, classes)
    if problem is not None:
        return problem
    chosen = positive if positive is not None else classes[0]
    scored = by_positive(labels, chosen)
    if not scored.n:
        return NO_SCORES
    positives, negatives = int(scored.hits.sum()), int(scored.misses.sum())
    if not positives or not negatives:
        other = next((name for name in classes if name != chosen), None)
        only = other if negatives else chosen
        return f'all labelled rows with a probability are of class "{only}": AUC needs two'
    return _area(scored)


def _area(scored: Scored) -> Area:
    value, variance = area(scored)
    positives, negatives = int(scored.hits.sum()), int(scored.misses.sum())
    return Area(value, min(positives, negatives), _evidence(value, variance, positives, negatives))


def _against_rest(labels: Labels, cls: str, classes: tuple[str, ...]) -> Area | str:
    """One of many classes by its own probability, or the reason for none."""
    if problem := _unranked(labels, classes):
        return problem
    rows = by_confidence(labels).n
    scored = Scored(*(labels.ranks.get((cls, own), _NONE) for own in (True, False)))
    if scored.n < rows:
        return (
            f'{scored.n:,} of {rows:,} labelled rows with a probability are ranked by that of "{cls}": '
            f"the others lack it, or {_BEFORE}"
        )
    if not scored.hits.any():
        return f'no labelled row with a probability is of class "{cls}"'
    if not scored.misses.any():
        return f'all labelled rows with a probability are of class "{cls}": AUC needs two'
    return _area(scored)


def _macro(labels: Labels, classes: tuple[str, ...]) -> Area | str:
    """The unweighted mean over the classes that some rows are of and others not; its n is the least of
    theirs.

    A class that no row has a probability of is none of the model's. One that only some rows are ranked by is
    the reason for no mean: without it, it would be another one.
    """
    if problem := _unranked(labels, classes):
        return problem
    held = by_truth(labels)
    areas: list[Area] = []
    for cls in ranked_by(labels):
        if 0 < held.get(cls, 0) < sum(held.values()):
            found = _against_rest(labels, cls, classes)
            if isinstance(found, str):
                return found
            areas.append(found)
    if not areas:
        return "all labelled rows with a probability are of one class: AUC needs two"
    rate = _together([each.rate for each in areas])
    return Area(rate.value, min(each.n for each in areas), rate)


def _unranked(labels: Labels, classes: tuple[str, ...]) -> str | None:
    """The reason why no row is ranked by the probabilities of its classes, if so."""
    if not by_confidence(labels).n:
        return NO_SCORES
    if labels.ranks:
        return None
    shown = ", ".join(classes[:4]) + (", …" if len(classes) > 4 else "")
    many = f"{len(classes)} classes ({shown}): "
    if len(classes) > MOST_RANKED:
        return f"{many}AUC is counted of up to {MOST_RANKED}"
    return (
        f"{many}the labelled rows are not ranked by the probability of each: they carry none, "
        f"or those of more than {MOST_RANKED}, or {_BEFORE}"
    )


def _together(areas: Sequence[Rate]) -> Rate:
    """The mean of areas as a rate.

    The classes share their rows, so the areas err together, and summaries do not tell how much: the mean is
    given the mean of their standard deviations, which it never exceeds however they are correlated. Those are
    taken a trial of each side off 0 and 1, where a class of few rows would seem to vary least. By Jensen's
    inequality the mean is worth at least as many trials as the class that is worth the fewest.
    """
    value = fmean(each.value for each in areas)
    shrunk = [((each.successes + 1) / (each.trials + 2), each.trials) for each in areas]
    deviation = fmean(math.sqrt(p * (1 - p) / trials) for p, trials in shrunk)
    trials = max(value * (1 - value) / deviation**2, min(each.trials for each in areas))
    return Rate(value * trials, trials)


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
