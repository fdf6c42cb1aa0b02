"""How right the predictions are, from the confusion of labelled rows and the sums of their errors.

Of a declared positive class, precision, recall and F1 are that class's; else their macro averages, over the
classes that were predicted or true, an undefined one counting 0 (scikit-learn's `zero_division=0`).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kedge.analysis import build
from kedge.analysis.evidence import Estimate, Rate, RootMean
from kedge.analysis.latency import NO_LABELS
from kedge.analysis.metric import Metric
from kedge.sketch import Labels

Floats = NDArray[np.float64]
Score = Literal["precision", "recall", "f1"]
SCORES: tuple[Score, ...] = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Confusion:
    """Labelled rows by predicted (rows of `counts`) and actual class (columns), classes sorted by name."""

    classes: tuple[str, ...]
    counts: Floats

    @classmethod
    def of(cls, labels: Labels) -> "Confusion":
        pairs = {pair: n for pair, n in labels.confusion.items() if n}
        classes = tuple(sorted({name for pair in pairs for name in pair}))
        place = {name: i for i, name in enumerate(classes)}
        counts = np.zeros((len(classes), len(classes)))
        for (predicted, actual), n in pairs.items():
            counts[place[predicted], place[actual]] = n
        return cls(classes, counts)

    @cached_property
    def n(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def right(self) -> Floats:
        """By class: true positives."""
        return np.diagonal(self.counts).astype(np.float64)

    @cached_property
    def predicted(self) -> Floats:
        rows: Floats = self.counts.sum(1)
        return rows

    @cached_property
    def actual(self) -> Floats:
        columns: Floats = self.counts.sum(0)
        return columns

    def denominators(self, score: Score) -> Floats:
        """By class: what the score is a share of. F1 is 2 TP / (predicted + actual)."""
        match score:
            case "precision":
                return self.predicted
            case "recall":
                return self.actual
            case "f1":
                return (self.predicted + self.actual) / 2

    def by_class(self, score: Score) -> Floats:
        """The score of each class, 0 where it is undefined."""
        below = self.denominators(score)
        return np.divide(self.right, below, out=np.zeros_like(below), where=below > 0)

    def gradient(self, score: Score, weights: Floats) -> Floats:
        """d (sum of weights x score) / d (share of each cell), the weights held fixed.

        Each score is TP / denominator, so a row in cell (i, j) moves class c by ([i = j = c] - score x [its
        part in the denominator]) / denominator.
        """
        below = self.denominators(score) / self.n
        each = np.divide(weights, below, out=np.zeros_like(below), where=below > 0)
        drag = each * self.by_class(score)
        part_predicted, part_actual = {"precision": (1.0, 0.0), "recall": (0.0, 1.0), "f1": (0.5, 0.5)}[score]
        return np.diag(each) - part_predicted * drag[:, None] - part_actual * drag[None, :]


def accuracy(confusion: Confusion) -> Metric:
    right = int(confusion.right.sum())
    return build.rate("performance.accuracy", right, confusion.n, NO_LABELS)


def class_score(score: Score, confusion: Confusion, cls: str, *, labelled: bool = True) -> Metric:
    """Precision, recall or F1 of one class. Its n: predicted positives, positives, or rows that are
    either.
    """
    name = f"performance.{score}"
    labels = {"class": cls} if labelled else {}
    if not confusion.n:
        return build.absent(name, NO_LABELS, labels=labels)
    if cls not in confusion.classes:
        return build.absent(name, f'no labelled row is of class "{cls}", predicted or true', labels=labels)
    c = confusion.classes.index(cls)
    below, right = float(confusion.denominators(score)[c]), float(confusion.right[c])
    if not below:
        lacking = (
            f'no labelled row was predicted "{cls}"' if score == "precision" else f'no row of class "{cls}"'
        )
        return build.absent(name, lacking, labels=labels)
    if score != "f1":
        return build.present(name, right / below, int(below), Rate(right, below), labels=labels)
    weights = np.zeros(len(confusion.classes))
    weights[c] = 1.0
    n = int(confusion.predicted[c] + confusion.actual[c] - right)
    evidence = _effective(right / below, confusion, confusion.gradient(score, weights), below)
    return build.present(name, right / below, n, evidence, labels=labels)


def macro(score: Score, confusion: Confusion) -> Metric:
    """The unweighted mean over the classes that were predicted or true."""
    name = f"performance.{score}"
    if not confusion.n:
        return build.absent(name, NO_LABELS)
    k = len(confusion.classes)
    value = float(confusion.by_class(score).mean())
    gradient = confusion.gradient(score, np.full(k, 1 / k))
    return build.present(
        name, value, confusion.n, _effective(value, confusion, gradient, _harmonic(confusion, score))
    )


def weighted(score: Score, confusion: Confusion) -> Metric:
    """The mean over classes by their support (actual rows)."""
    name = f"performance.{score}_weighted"
    if not confusion.n:
        return build.absent(name, NO_LABELS)
    weights = confusion.actual / confusion.n
    scores = confusion.by_class(score)
    value = float(weights @ scores)
    # The weights are estimated too: a row of true class j adds the score of j.
    gradient = confusion.gradient(score, weights) + scores[None, :]
    return build.present(name, value, confusion.n, _effective(value, confusion, gradient, confusion.n))


def loss(name: Literal["log_loss", "brier"], labels: Labels) -> Metric:
    none = "no labelled row has probabilities" if labels.rows else NO_LABELS
    return build.mean(f"performance.{name}", getattr(labels, name), none)


def mae(labels: Labels) -> Metric:
    return build.mean("performance.mae", labels.abs_error, _no_values(labels))


def bias(labels: Labels) -> Metric:
    return build.mean("performance.bias", labels.error, _no_values(labels))


def rmse(labels: Labels) -> Metric:
    squares = labels.squared_error
    if not squares.n:
        return build.absent("performance.rmse", _no_values(labels))
    return build.present("performance.rmse", math.sqrt(max(squares.mean, 0.0)), squares.n, RootMean(squares))


def r2(labels: Labels) -> Metric:
    """1 - mean squared error / variance of the labels. The interval takes that variance as known."""
    name, squares, values = "performance.r2", labels.squared_error, labels.value
    if not squares.n:
        return build.absent(name, _no_values(labels))
    variance = values.m2 / values.n if values.n else 0.0
    if variance <= 0:
        return build.absent(name, "the labels do not vary", n=squares.n)
    evidence = None
    if squares.n > 1:
        evidence = Estimate(1 - squares.mean / variance, squares.stderr / variance, high=1.0)
    return build.present(name, 1 - squares.mean / variance, squares.n, evidence)


def _no_values(labels: Labels) -> str:
    return "no labelled row has a predicted value" if labels.rows else NO_LABELS


def _harmonic(confusion: Confusion, score: Score) -> float:
    """The trials that an average of k rates near 0 or 1 is worth: k^2 / sum (1 / trials), over the defined
    ones.
    """
    below = confusion.denominators(score)
    defined = below[below > 0]
    return float(defined.size**2 / (1 / defined).sum()) if defined.size else 0.0


def _effective(value: float, confusion: Confusion, gradient: Floats, trials_at_ends: float) -> Rate:
    """A ratio of counts as a rate of as many trials as give it the delta method's variance.

    Wilson's interval on those does not collapse at 0 and 1, where the variance is 0 and `trials_at_ends`
    stand in.
    """
    shares = confusion.counts / confusion.n
    mean = float((shares * gradient).sum())
    variance = (float((shares * gradient**2).sum()) - mean * mean) / confusion.n
    spread = value * (1 - value)
    trials = spread / variance if variance > 1e-15 and spread > 1e-15 else trials_at_ends
    trials = min(max(trials, 1e-9), float(confusion.n)) if trials else 0.0
    return Rate(value * trials, trials)
