"""Rows told apart by a classifier: seldom where nothing changed, also where single features show nothing."""

import numpy as np
import pytest
from scipy.stats import binom, ks_2samp, rankdata
from sklearn.metrics import roc_auc_score

from kedge.analysis.metric import Verdict
from kedge.analysis.multivariate import ALPHA, LEAST_ROWS, Rows, Separation, _area, metric_of, separate


def rows(matrix, categorical=None):
    matrix = np.asarray(matrix, np.float32)
    names = [f"f{i}" for i in range(matrix.shape[1])]
    return Rows(names, categorical or [False] * len(names), matrix)


def normal(draw, n, correlation=0.0, features=2):
    covariance = np.full((features, features), correlation) + (1 - correlation) * np.eye(features)
    return draw.multivariate_normal(np.zeros(features), covariance, n)


def test_without_drift_the_level_is_kept_over_seeds():
    times, called = 100, 0
    for seed in range(times):
        draw = np.random.default_rng(seed)
        found = separate(rows(normal(draw, 250, 0.5)), rows(normal(draw, 250, 0.5)), seed=seed)
        assert isinstance(found, Separation)
        called += found.drifted
    # More would happen once in ten thousand times at the level.
    assert called <= binom.isf(1e-4, times, ALPHA)


def test_a_changed_correlation_is_found_that_no_single_feature_shows():
    draw = np.random.default_rng(7)
    before, after = normal(draw, 2_000), normal(draw, 2_000, 0.8)
    for i in range(2):  # the very same values, in another order
        after[:, i] = np.sort(before[:, i])[rankdata(after[:, i]).astype(int) - 1]
        assert ks_2samp(before[:, i], after[:, i]).statistic == 0
    found = separate(rows(before), rows(after))
    assert isinstance(found, Separation)
    assert found.drifted
    assert found.auc > 0.6
    assert {name for name, _ in found.by} == {"f0", "f1"}
    assert "cannot" not in found.explain()


def test_what_moved_is_named_and_a_missing_value_tells_too():
    draw = np.random.default_rng(8)
    before = np.column_stack([normal(draw, 1_500), draw.integers(0, 4, 1_500)])
    after = np.column_stack([normal(draw, 1_500), draw.integers(0, 4, 1_500)])
    after[:400, 1] = np.nan
    found = separate(rows(before, [False, False, True]), rows(after, [False, False, True]))
    assert isinstance(found, Separation)
    assert found.drifted
    assert found.by[0][0] == "f1"


def test_the_same_rows_give_the_same_answer():
    draw = np.random.default_rng(9)
    a, b = rows(normal(draw, 400)), rows(normal(draw, 400, 0.3))
    assert separate(a, b) == separate(a, b)


def test_too_few_rows_and_no_feature_are_reasons():
    draw = np.random.default_rng(10)
    few = separate(rows(normal(draw, LEAST_ROWS - 1)), rows(normal(draw, 500)))
    assert few == f"too few rows: {LEAST_ROWS - 1}, needs {LEAST_ROWS}"
    assert metric_of(few).verdict is Verdict.INSUFFICIENT
    nothing = Rows([], [], np.zeros((500, 0), np.float32))
    assert separate(nothing, nothing) == "the two have no feature in common"


def test_the_area_and_its_variance_are_those_of_the_rows():
    draw = np.random.default_rng(11)
    new = draw.random(300) < 0.4
    scores = np.round(draw.normal(size=300) + new, 1)
    area, variance, null = _area(scores, new)
    assert area == pytest.approx(roc_auc_score(new, scores), abs=1e-12)
    drawn = []
    for _ in range(400):
        again = draw.random(300) < 0.4
        drawn.append(_area(draw.normal(size=300) + again, again)[0])
    assert variance == pytest.approx(np.var(drawn), rel=0.35)
    assert null > variance  # a larger area varies less
