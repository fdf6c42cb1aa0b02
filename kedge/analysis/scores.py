"""Labelled rows by score and truth: what ranking and calibration are read from.

A row's score is in one of 100 cells, taken as its middle: at most half a cell (0.005) off. Summaries hold the
probability of the *predicted* class; of two classes the other one has the rest, so that a row predicted
negative with probability p has the score 1 - p for the positive.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from kedge.sketch import SCORE_CELLS, SCORE_WIDTH, Counts, Labels, Summary

MIDDLES = (np.arange(SCORE_CELLS) + 0.5) * SCORE_WIDTH
HALF_CELL = SCORE_WIDTH / 2
NO_SCORES = "no labelled row has a probability"


class Scored(NamedTuple):
    """Labelled rows with a probability, by score cell. Shape of both: (SCORE_CELLS,)."""

    hits: Counts
    """Those for which what the score speaks of came true: the row is positive, or its prediction right."""
    misses: Counts

    @property
    def n(self) -> int:
        return int(self.hits.sum() + self.misses.sum())


def by_positive(labels: Labels, positive: str) -> Scored:
    """By the score of the positive class, of a model with two classes.

    Cells are half-open, [lo, hi); the mirror image of one is (1 - hi, 1 - lo], so that a score just on an
    edge counts in the cell below it where the row was predicted negative: 0.5 in [0.49, 0.5) and not in
    [0.5, 0.51). The last cell holds 1 as well, and its image 0.
    """
    hits, misses = _none(), _none()
    for (predicted, actual), cells in labels.scores.items():
        scores = cells[:SCORE_CELLS] if predicted == positive else cells[SCORE_CELLS - 1 :: -1]
        side = hits if actual == positive else misses
        side += scores
    return Scored(hits, misses)


def by_confidence(labels: Labels) -> Scored:
    """By the probability of the predicted class, of a model with any number of classes."""
    hits, misses = _none(), _none()
    for (predicted, actual), cells in labels.scores.items():
        side = hits if predicted == actual else misses
        side += cells[:SCORE_CELLS]
    return Scored(hits, misses)


def by_truth(labels: Labels) -> dict[str, int]:
    """Labelled rows with a probability by their label's class."""
    held: dict[str, int] = {}
    for (_, actual), cells in labels.scores.items():
        held[actual] = held.get(actual, 0) + int(cells[:SCORE_CELLS].sum())
    return held


def _none() -> Counts:
    return np.zeros(SCORE_CELLS, np.int64)


def known_classes(summaries: Iterable[Summary]) -> tuple[str, ...]:
    """The classes that were predicted or true in any of them, by name."""
    found: set[str] = set()
    for summary in summaries:
        if summary.core is not None:
            found.update(name for name, cells in summary.core.scores.items() if cells.any())
        if summary.labels is not None:
            found.update(
                name for pair, cells in summary.labels.scores.items() if cells.any() for name in pair
            )
    return tuple(sorted(found))


def not_binary(positive: str | None, classes: Iterable[str]) -> str | None:
    """The reason why a score of the positive class cannot be told, where there are not just two classes.

    One class alone is no reason: the other may be yet to come.
    """
    held = sorted(set(classes))
    if len(held) > 2:
        shown = ", ".join(held[:4]) + (", …" if len(held) > 4 else "")
        return (
            f"{len(held)} classes ({shown}): a row's probability is known of the predicted class only, "
            "and leaves that of one other open"
        )
    if positive is not None and len(held) == 2 and positive not in held:
        return f'the positive class "{positive}" is neither of {held[0]} and {held[1]}'
    return None
