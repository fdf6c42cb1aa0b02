"""Performance without labels, from confidence that is calibrated on a reference (CBPE).

The expected confusion counts of a window are sums over its score cells: rows predicted i in cell s times
P(actual = j | i, s) of the reference's labelled rows (`calibrator`). Every score follows from them as it does
from real counts. That assumes that labels still follow from the inputs as they did in the reference.

Standard errors are those of the delta method, and add the calibrator's own noise (labelled rows a block) to
that of the window. The latter is the larger of two: how far the realised value of these very rows may lie
from its expectation, and how far the expectation of these rows from that of the population. So the interval
holds for either reading.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kedge.analysis import build
from kedge.analysis.calibrator import MISSING, Floats, calibrator_of, cell_text
from kedge.analysis.classes import NO_CLASSES
from kedge.analysis.evidence import Rate
from kedge.analysis.metric import Metric
from kedge.analysis.performance import Confusion, Score
from kedge.sketch import SCORE_CELLS, Core, Labels

NO_LABELLED = "the reference has no labelled rows: create the baseline from a window whose labels are in"
NO_SCORES = "no row has a class and a probability"
MOST_UNSUPPORTED = 0.05
"""Share of the window that may lie where the reference has no labels. All that such rows can hide is their
share of the accuracy: 5 points at most, about the least fall that anyone is alarmed by.
"""
_HALF_A_ROW = 0.5
"""A class that fewer rows are expected to have, predicted or true, is not there."""


@dataclass(frozen=True)
class _Expected(Confusion):
    """Expected counts; they need not be whole."""

    @cached_property
    def n(self) -> int:
        return round(float(self.counts.sum()))


@dataclass(frozen=True)
class _Scored:
    """A score of expected counts, and how one row more moves it."""

    value: float
    below: float
    """The rows that it is a share of."""
    right: Floats
    """Of a row that was right, by predicted class (C), or by predicted class and cell (C x S)."""
    wrong: Floats
    """Of one that was not: the mean over what it was."""
    spread: Floats
    """Of one that was not: the variance over what it was."""
    blur: float = 0.0
    """How far off the value may be because cells hide the order within them."""


class Estimation:
    """A window of predictions read with a reference's calibration."""

    def __init__(self, core: Core, reference: Labels, positive_class: str | None) -> None:
        self.calibrator = calibrator_of(reference)
        self._core = core
        self._positive = positive_class
        self._labelled = reference.rows

    # --- the window -------------------------------------------------------------------------------------

    @cached_property
    def window(self) -> Floats:
        """C x S: rows of the window by predicted class and cell, of the classes that the calibrator knows."""
        counts = np.zeros(self.calibrator.rows.shape)
        for i, name in enumerate(self.calibrator.classes):
            if name is not None and name in self._core.scores:
                counts[i] = self._core.scores[name]
        return counts

    @cached_property
    def rows(self) -> int:
        """Rows with a predicted class."""
        return sum(self._core.classes.values())

    @cached_property
    def read(self) -> Floats:
        """C x S: the rows that the estimate is of."""
        return np.where(self.calibrator.known, self.window, 0.0)

    @cached_property
    def n(self) -> int:
        return int(self.read.sum())

    @cached_property
    def sizes(self) -> dict[str, float]:
        """Rows by class, predicted and expected together; none where there is no estimate of them."""
        if self.withheld:
            return {}
        both = (self.confusion.predicted + self.confusion.actual).tolist()
        return {c: n for c, n in zip(self.calibrator.classes, both, strict=True) if c is not None}

    @cached_property
    def withheld(self) -> str | None:
        """Why there is no estimate, if so."""
        if not self.rows:
            return NO_CLASSES
        if not any(counts[:SCORE_CELLS].any() for counts in self._core.scores.values()):
            return NO_SCORES
        if not self.calibrator.labelled:
            return "no labelled row of the reference has a class" if self._labelled else NO_LABELLED
        if not self.calibrator.scored:
            return "no labelled row of the reference has a probability"
        supported = int(np.where(self.calibrator.supported, self.window, 0.0).sum())
        if self.rows - supported <= MOST_UNSUPPORTED * self.rows:
            return None
        outside = np.where(self.calibrator.supported, 0.0, self.window)
        return (
            f"{1 - supported / self.rows:.0%} of the rows lie where the reference has too few labelled rows, "
            f"more than {MOST_UNSUPPORTED:.0%} (most: {self._most(outside)})"
        )

    def _most(self, outside: Floats) -> str:
        """Where most of the unsupported rows are."""
        known = set(self.calibrator.classes)
        new = {name: n for name, n in self._core.classes.items() if name not in known}
        places = {f'predicted "{name}", which is new': float(n) for name, n in new.items()}
        for i, name in enumerate(self.calibrator.classes):
            cells = np.flatnonzero(outside[i, :MISSING])
            if cells.size:
                places[f'predicted "{name}" with {cell_text(cells)}'] = float(outside[i, :MISSING].sum())
            places[f'predicted "{name}" without a probability'] = float(outside[i, MISSING])
        return max(sorted(places), key=lambda place: places[place])

    # --- the scores -------------------------------------------------------------------------------------

    @cached_property
    def confusion(self) -> Confusion:
        return self._confusion(self.calibrator.right)

    @cached_property
    def _smooth(self) -> Confusion:
        return self._confusion(self.calibrator.smooth)

    def _confusion(self, right: Floats) -> Confusion:
        """Expected rows by predicted and actual class, of P(right) by predicted class and cell."""
        wrong = ((1 - right) * self.read).sum(1)
        counts = np.diag((right * self.read).sum(1)) + wrong[:, None] * self.calibrator.wrong
        return _Expected(tuple(name or "" for name in self.calibrator.classes), counts)

    def accuracy(self) -> Metric:
        name = "estimated.accuracy"
        if self.withheld:
            return build.absent(name, self.withheld, n=self.rows)

        def scored(confusion: Confusion) -> _Scored:
            total = float(confusion.counts.sum())
            value, same = float(confusion.right.sum()) / total, np.ones(len(confusion.classes))
            return _Scored(value, total, same * (1 - value) / total, -same * value / total, 0 * same)

        return self._estimate(name, scored(self.confusion), scored(self._smooth), self.n)

    def score(self, score: Score, cls: str | None) -> Metric:
        """Precision, recall or F1: of one class, of the positive class, or the macro average."""
        name, labels = f"estimated.{score}", {"class": cls} if cls is not None else {}
        if self.withheld:
            return build.absent(name, self.withheld, n=self.rows, labels=labels)
        of = cls if cls is not None else self._positive
        if of is not None and of not in self.calibrator.classes:
            lacking = f'no labelled row of the reference is of class "{of}", predicted or true'
            return build.absent(name, lacking, n=self.rows, labels=labels)
        weights = self._weights(of)
        if of is not None:
            c = self.calibrator.classes.index(of)
            below = float(self.confusion.denominators(score)[c])
            if below < _HALF_A_ROW:
                lacking = f'no row was predicted "{of}"' if score == "precision" else f'no "{of}" is expected'
                return build.absent(name, lacking, n=self.rows, labels=labels)
            n = below if score != "f1" else 2 * below - float(self.confusion.right[c])
        else:
            below, n = float(self.n), float(self.n)

        def scored(confusion: Confusion) -> _Scored:
            return self._averaged(score, weights, confusion, below)

        return self._estimate(name, scored(self.confusion), scored(self._smooth), round(n), labels)

    def _averaged(self, score: Score, weights: Floats, confusion: Confusion, below: float) -> _Scored:
        """The weighted sum of the classes' scores.

        Each is TP / denominator: a row (i, j) moves that of class c by ([i = j = c] - score x [its part in
        the denominator]) / denominator.
        """
        rows, scores = confusion.denominators(score), confusion.by_class(score)
        each = np.divide(weights, rows, out=np.zeros_like(rows), where=rows > 0)
        drag = each * scores
        of_predicted, of_actual = {"precision": (1.0, 0.0), "recall": (0.0, 1.0), "f1": (0.5, 0.5)}[score]
        what = self.calibrator.wrong
        mean, square = what @ drag, what @ drag**2
        return _Scored(
            float(weights @ scores),
            below,
            right=each - (of_predicted + of_actual) * drag,
            wrong=-of_predicted * drag - of_actual * mean,
            spread=of_actual**2 * np.maximum(square - mean**2, 0.0),
        )

    def _weights(self, cls: str | None) -> Floats:
        """What each class weighs in a score: one alone, or all that are expected evenly."""
        if cls is not None:
            return np.array([float(name == cls) for name in self.calibrator.classes])
        present = self.confusion.predicted + self.confusion.actual >= _HALF_A_ROW
        weights: Floats = present / max(int(present.sum()), 1)
        return weights

    def auc(self) -> Metric:
        """Of a binary model: the chance that a positive scores higher than a negative, ties counting half."""
        name, positive = "estimated.auc", self._positive
        if self.withheld:
            return build.absent(name, self.withheld, n=self.rows)
        if positive is None:
            return build.absent(name, "the model declares no positive class", n=self.rows)
        known = self.calibrator.classes
        if len(known) != 2 or None in known or positive not in known:
            reason = f'the reference has not two classes of which one is "{positive}"'
            return build.absent(name, reason, n=self.rows)
        point, smooth = (self._ranked(positive, r) for r in (self.calibrator.right, self.calibrator.smooth))
        if point is None or smooth is None:
            return build.absent(name, "rows of one class alone are expected", n=self.rows)
        return self._estimate(name, point, smooth, round(point.below))

    def _ranked(self, positive: str, right: Floats) -> _Scored | None:
        """AUC from expected positives and negatives by the cell of the positive class's probability, which is
        mirrored where the other class is predicted.
        """
        right, read = right[:, :MISSING], self.read[:, :MISSING]
        p = self.calibrator.classes.index(positive)
        turned = slice(None, None, -1)
        positives = (read * right)[p] + (read * (1 - right))[1 - p, turned]
        negatives = (read * (1 - right))[p] + (read * right)[1 - p, turned]
        n_positive, n_negative = float(positives.sum()), float(negatives.sum())
        if min(n_positive, n_negative) < _HALF_A_ROW:
            return None
        under = (np.cumsum(negatives) - negatives / 2) / n_negative
        over = 1 - (np.cumsum(positives) - positives / 2) / n_positive
        value = float(positives @ under) / n_positive
        if_positive, if_negative = (under - value) / n_positive, (over - value) / n_negative
        slopes = np.zeros((2, 2, SCORE_CELLS + 1))  # right or wrong, predicted, cell
        slopes[0, p, :MISSING], slopes[1, p, :MISSING] = if_positive, if_negative
        slopes[0, 1 - p, :MISSING], slopes[1, 1 - p, :MISSING] = if_negative[turned], if_positive[turned]
        tied = float(positives @ negatives) / (n_positive * n_negative)
        return _Scored(value, min(n_positive, n_negative), slopes[0], slopes[1], np.zeros(2), blur=tied / 2)

    # --- how sure ---------------------------------------------------------------------------------------

    @cached_property
    def _sums(self) -> tuple[Floats, Floats, Floats, Floats]:
        """By predicted class: rows, those expected to be right, the sum of squares of their chances, and the
        variance that the calibrator's blocks give to the second.
        """
        right, blocks = self.calibrator.smooth, self.calibrator.block_smooth
        noise = blocks * (1 - blocks) / self.calibrator.block_rows
        of_blocks = self.calibrator.by_block(self.read) ** 2 * noise
        classes = np.bincount(self.calibrator.block_class, of_blocks, len(self.read)).astype(np.float64)
        return self.read.sum(1), (self.read * right).sum(1), (self.read * right**2).sum(1), classes

    def _variance(self, found: _Scored) -> float:
        """From the smoothed shares: a block whose rows were all right is not certain."""
        gap, n = found.right - found.wrong, float(self.read.sum())
        if gap.ndim == 1:
            rows, right, squares, noise = self._sums
            realised = float((right - squares) @ gap**2 + (rows - right) @ found.spread)
            mean = float(rows @ found.wrong + right @ gap)
            square = float(rows @ found.wrong**2 + 2 * right @ (found.wrong * gap) + squares @ gap**2)
            calibration = float(noise @ gap**2)
            confused = float((rows - right) ** 2 / (self.calibrator.errors + 1) @ found.spread)
            return max(realised, square - mean**2 / n) + calibration + confused
        right, rows, blocks = self.calibrator.smooth, self.read, self.calibrator.block_smooth
        each = found.wrong + right * gap
        realised = float((rows * right * (1 - right) * gap**2).sum())
        mixed = float((rows * each**2).sum() - (rows * each).sum() ** 2 / n)
        noise = blocks * (1 - blocks) / self.calibrator.block_rows
        return max(realised, mixed) + float(self.calibrator.by_block(rows * gap) ** 2 @ noise)

    def _estimate(
        self, name: str, point: _Scored, smooth: _Scored, n: int, labels: build.Labels | None = None
    ) -> Metric:
        """A ratio as a rate of as many trials as give it that variance: Wilson's interval keeps it within 0
        and 1, and wide where all of few rows were right.
        """
        variance, spread = self._variance(smooth) + smooth.blur**2, smooth.value * (1 - smooth.value)
        trials = min(max(spread / variance if variance > 0 else 0.0, 1e-9), point.below)
        return build.present(name, point.value, n, Rate(point.value * trials, trials), labels=labels or {})
