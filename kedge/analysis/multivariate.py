"""Whether rows can be told from others by all their features together: a classifier two-sample test.

A classifier learns to tell reference rows from current ones on half of the rows and is asked about the other
half, and the other way round. If nothing changed it cannot do better than chance on rows that it has not
seen, whatever it learned: so the false-alarm rate does not depend on the classifier, only its power does
(Lopez-Paz and Oquab, 2017). It sees what tests of single features cannot: a changed relation between features
whose own distributions stayed. Pure: seeded, on arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kedge.analysis.metric import Metric, Verdict

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

NAME = "drift.multivariate"
ROWS = 5_000
"""Of each side, where nobody says otherwise: the area is then known within about 0.015."""
LEAST_ROWS = 200
ALPHA = 0.01
"""The share of comparisons without any drift that are called drifted, at most."""
TOLD = 5
"""Features that are told to separate the two."""
_MOST_FEATURES = 50
"""Whose importance is measured: those that the classifier splits on are few, and each costs a prediction."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Some rows as a matrix, shape (rows, features): numbers and, of categorical features, the number of the
    category below 255; nan where missing.
    """

    names: Sequence[str]
    categorical: Sequence[bool]
    matrix: NDArray[np.float32]


@dataclass(frozen=True)
class Separation:
    """What a classifier makes of the two sides."""

    auc: float
    """The chance that it takes the current one of two rows, one of each side, for the more current."""
    stderr: float
    p_value: float
    rows: tuple[int, int]
    by: Sequence[tuple[str, float]]
    """Features with what the area loses when each is shuffled, the most first; those that lose nothing are
    left out."""

    @property
    def drifted(self) -> bool:
        return self.p_value <= ALPHA

    @property
    def metric(self) -> Metric:
        half = 1.96 * self.stderr
        return Metric(
            NAME,
            self.auc,
            sum(self.rows),
            stderr=self.stderr,
            interval=(self.auc - half, min(self.auc + half, 1.0)),
            verdict=Verdict.DRIFTED if self.drifted else Verdict.OK,
            detail={"p_value": self.p_value, "rows": list(self.rows), "by": dict(self.by)},
        )

    def explain(self) -> str:
        if not self.drifted:
            return f"a classifier cannot tell the rows apart: AUC {self.auc:.3f}, chance is 0.5"
        by = ", ".join(f"{name} ({loss:.3f})" for name, loss in self.by[:TOLD])
        return f"a classifier tells the rows apart: AUC {self.auc:.3f}, chance is 0.5; by {by}"


def metric_of(found: Separation | str) -> Metric:
    """With the reason where it is one."""
    if isinstance(found, Separation):
        return found.metric
    return Metric(NAME, None, 0, verdict=Verdict.INSUFFICIENT, reason=found)


def separate(reference: Rows, current: Rows, *, seed: int = 0) -> Separation | str:
    """Or the reason why there is nothing to say. Both sides have the same features.

    The area is the mean of two halves'. They are not independent (each half's rows taught the other's
    classifier), so its variance is taken as the mean of theirs, which it cannot exceed.
    """
    sizes = len(reference.matrix), len(current.matrix)
    if min(sizes) < LEAST_ROWS:
        return f"too few rows: {min(sizes):,}, needs {LEAST_ROWS}"
    if not reference.names:
        return "the two have no feature in common"
    draw = np.random.default_rng(seed)
    matrix = np.concatenate([reference.matrix, current.matrix])
    new = np.repeat([False, True], sizes)
    half = np.concatenate([draw.permutation(n) % 2 for n in sizes])
    from threadpoolctl import threadpool_limits

    # On busy cores many threads took far longer than one.
    with threadpool_limits(1, user_api="openmp"):
        return _separated(reference, sizes, matrix, new, half, draw, seed)


def _separated(
    reference: Rows,
    sizes: tuple[int, int],
    matrix: NDArray[np.float32],
    new: NDArray[np.bool_],
    half: NDArray[np.integer[Any]],
    draw: np.random.Generator,
    seed: int,
) -> Separation:
    from sklearn.ensemble import HistGradientBoostingClassifier  # a second to load, and few ask

    areas, variances, nulls = [], [], []
    losses = np.zeros(len(reference.names))
    for held in (0, 1):
        learned, asked = half != held, half == held
        model = HistGradientBoostingClassifier(
            max_iter=60,
            max_leaf_nodes=15,
            min_samples_leaf=20,
            early_stopping=False,
            categorical_features=list(reference.categorical),
            random_state=seed,
        ).fit(matrix[learned], new[learned])
        rows, truth = matrix[asked], new[asked]
        area, variance, null = _area(model.predict_proba(rows)[:, 1], truth)
        areas.append(area)
        variances.append(variance)
        nulls.append(null)
        losses += _losses(model, rows, truth, area, draw) / 2
    auc = float(np.mean(areas))
    return Separation(
        auc,
        float(np.sqrt(np.mean(variances))),
        float(special.ndtr(-(auc - 0.5) / np.sqrt(np.mean(nulls)))),
        sizes,
        [
            (reference.names[i], float(losses[i]))
            for i in np.argsort(-losses, kind="stable").tolist()
            if losses[i] > 0
        ],
    )


def _area(scores: Floats, new: NDArray[np.bool_]) -> tuple[float, float, float]:
    """The area under the ROC curve, its variance by DeLong, DeLong and Clarke-Pearson (1988), and what the
    variance is where both sides are alike (Mann and Whitney, 1947; with ties it is less).
    """
    from scipy.stats import rankdata

    n1, n0 = int(new.sum()), int((~new).sum())
    ranks = rankdata(scores)
    above = (ranks[new] - rankdata(scores[new])) / n0
    below = 1 - (ranks[~new] - rankdata(scores[~new])) / n1
    variance = above.var(ddof=1) / n1 + below.var(ddof=1) / n0
    return float(above.mean()), float(variance), (n1 + n0 + 1) / (12 * n1 * n0)


def _losses(
    model: "HistGradientBoostingClassifier",
    rows: NDArray[np.float32],
    new: NDArray[np.bool_],
    area: float,
    draw: np.random.Generator,
) -> Floats:
    """What the area loses when a feature's values change rows, by feature: of those features that, alone
    shuffled, change the answer for any of a few rows, at most _MOST_FEATURES.
    """
    losses = np.zeros(rows.shape[1])
    some = rows[draw.permutation(len(rows))[:200]]
    before = model.decision_function(some)
    moved = np.zeros(rows.shape[1])
    for i in range(rows.shape[1]):
        shuffled = some.copy()
        shuffled[:, i] = draw.permutation(shuffled[:, i])
        moved[i] = np.abs(model.decision_function(shuffled) - before).mean()
    for i in np.argsort(-moved, kind="stable")[:_MOST_FEATURES].tolist():
        if not moved[i]:
            break
        shuffled = rows.copy()
        shuffled[:, i] = draw.permutation(shuffled[:, i])
        losses[i] = area - _area(model.predict_proba(shuffled)[:, 1], new)[0]
    return losses
