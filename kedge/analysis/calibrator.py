"""How often a prediction turned out right, by predicted class and confidence, learnt from labelled rows.

P(right | predicted class, score cell) does not fall as the confidence rises: it is fitted by isotonic
regression over the 100 score cells, whose solution (pool adjacent violators) is a partition of the cells into
blocks, each with the share of its own rows. What a wrong prediction of a class really was follows the
reference's errors of that class.
"""

import weakref
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kedge.sketch import SCORE_CELLS, SCORE_WIDTH, Labels

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MISSING = SCORE_CELLS
"""The cell of rows without a probability: a stratum of its own."""
NEAR = 5
"""A cell is known by the reference's labelled rows up to this many cells away, 0.05 in probability."""
FEW = 3
"""Fewer labelled rows than this within NEAR are as good as none."""
_PRIOR_ERRORS = 1.0
"""How many errors the pooled distribution weighs in that of one class: it decides where a class has none."""


@dataclass(frozen=True)
class Calibrator:
    """Fitted on a reference. C classes, sorted by name; S = 101 score cells, the last one *missing*."""

    classes: tuple[str | None, ...]
    """None stands for every other class, where the reference knows one alone."""
    rows: Floats
    """C x S: labelled rows by predicted class and cell."""
    blocks: Ints
    """C x S: the block that a cell is read from; -1 where nothing is known."""
    block_rows: Floats
    block_right: Floats
    """By block: labelled rows, and those of them that were right."""
    block_class: Ints
    """By block: the predicted class, by its place."""
    wrong: Floats
    """C x C: what a wrong prediction of a class (row) was, as shares; 0 on the diagonal."""
    errors: Floats
    """By predicted class: the wrong rows that `wrong` rests on."""

    @property
    def labelled(self) -> float:
        return float(self.rows.sum())

    @property
    def scored(self) -> float:
        """Labelled rows that have a probability."""
        return float(self.rows[:, :MISSING].sum())

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """C x S: cells that some block is near enough to be read from, however few rows it has."""
        return self.blocks >= 0

    @cached_property
    def supported(self) -> NDArray[np.bool_]:
        """C x S: cells with at least FEW labelled rows within NEAR."""
        running = np.pad(np.cumsum(self.rows[:, :MISSING], 1), ((0, 0), (1, 0)))
        cells = np.arange(SCORE_CELLS)
        above, below = np.minimum(cells + NEAR + 1, SCORE_CELLS), np.maximum(cells - NEAR, 0)
        near = running[:, above] - running[:, below]
        return np.column_stack([near, self.rows[:, MISSING]]) >= FEW

    @cached_property
    def right(self) -> Floats:
        """C x S: P(right | predicted, cell); 0 where nothing is known."""
        return self._by_cell(self.block_right / self.block_rows)

    @cached_property
    def block_smooth(self) -> Floats:
        """By block: the share that was right, with half a row more on either side. A block of five right rows
        is not certain to be right, so its variance must not be 0.
        """
        return (self.block_right + 0.5) / (self.block_rows + 1)

    @cached_property
    def smooth(self) -> Floats:
        """C x S: `block_smooth` by cell."""
        return self._by_cell(self.block_smooth)

    def _by_cell(self, of_blocks: Floats) -> Floats:
        if not of_blocks.size:
            return np.zeros(self.blocks.shape)
        return np.where(self.known, of_blocks[np.maximum(self.blocks, 0)], 0.0)

    def by_block(self, of_cells: Floats) -> Floats:
        """Sums over the cells of each block."""
        of = self.blocks[self.known]
        return np.bincount(of, of_cells[self.known], minlength=self.block_rows.size).astype(np.float64)


_fitted: dict[int, Calibrator] = {}
"""By identity: a baseline's summaries live as long as the process, and every window of every rule asks."""


def calibrator_of(labels: Labels) -> Calibrator:
    """`calibrate`, once for each object."""
    found = _fitted.get(id(labels))
    if found is None:
        found = _fitted[id(labels)] = calibrate(labels)
        weakref.finalize(labels, _fitted.pop, id(labels), None)
    return found


def calibrate(labels: Labels) -> Calibrator:
    """From the labelled rows of a reference; one without any gives a calibrator that knows nothing."""
    pairs = {pair: counts for pair, counts in labels.scores.items() if counts.any()}
    classes: list[str | None] = [*sorted({name for pair in pairs for name in pair})]
    if len(classes) == 1:
        classes.append(None)
    place = {name: i for i, name in enumerate(classes)}
    rows, right = np.zeros((len(classes), SCORE_CELLS + 1)), np.zeros((len(classes), SCORE_CELLS + 1))
    confusion = np.zeros((len(classes), len(classes)))
    for (predicted, actual), counts in pairs.items():
        i, j = place[predicted], place[actual]
        rows[i] += counts
        confusion[i, j] = counts.sum()
        if i == j:
            right[i] += counts
    return Calibrator(tuple(classes), rows, *_blocks(rows, right), *_errors(confusion))


def _blocks(rows: Floats, right: Floats) -> tuple[Ints, Floats, Floats, Ints]:
    """The block of each cell; the rows, the right rows and the predicted class of each block.

    A cell without rows is read from the nearest that has some, of two equally near ones from the lower.
    """
    from scipy.optimize import isotonic_regression  # a third of a second to load, and few rules estimate

    blocks = np.full(rows.shape, -1, np.int64)
    sizes: list[float] = []
    hits: list[float] = []
    classes: list[int] = []
    for i in range(len(rows)):
        seen = np.flatnonzero(rows[i, :MISSING])
        if seen.size:
            weights = rows[i, seen]
            fitted = isotonic_regression(right[i, seen] / weights, weights=weights)
            of_seen = np.repeat(np.arange(fitted.blocks.size - 1), np.diff(fitted.blocks))
            nearest = np.searchsorted((seen[:-1] + seen[1:]) / 2, np.arange(SCORE_CELLS))
            blocks[i, :MISSING] = len(sizes) + of_seen[nearest]
            sizes += np.add.reduceat(weights, fitted.blocks[:-1]).tolist()
            hits += np.add.reduceat(right[i, seen], fitted.blocks[:-1]).tolist()
        if rows[i, MISSING]:
            blocks[i, MISSING] = len(sizes)
            sizes.append(float(rows[i, MISSING]))
            hits.append(float(right[i, MISSING]))
        classes += [i] * (len(sizes) - len(classes))
    return blocks, np.array(sizes), np.array(hits), np.array(classes, np.int64)


def _errors(confusion: Floats) -> tuple[Floats, Floats]:
    """What the wrong predictions of each class were, and how many there are of them.

    Each class has as many more errors as _PRIOR_ERRORS, spread as those of all classes are, or where there
    are none, evenly: a class that was never wrong has an opinion too.
    """
    wrong = confusion * (1 - np.eye(len(confusion)))
    pooled = np.tile(wrong.sum(0), (len(wrong), 1)) * (1 - np.eye(len(wrong)))
    pooled[pooled.sum(1) == 0] = 1.0
    np.fill_diagonal(pooled, 0.0)
    errors: Floats = wrong.sum(1)
    shares = wrong + _PRIOR_ERRORS * pooled / np.maximum(pooled.sum(1, keepdims=True), 1e-300)
    return shares / np.maximum(shares.sum(1, keepdims=True), 1e-300), errors


def cell_text(cells: NDArray[np.intp]) -> str:
    """Score cells in words: `a probability of 0.71 to 0.9`."""
    low, high = int(cells.min()) * SCORE_WIDTH, (int(cells.max()) + 1) * SCORE_WIDTH
    return f"a probability of {low:.2g} to {high:.2g}"
