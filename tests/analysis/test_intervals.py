"""Intervals: right against their textbooks, and covering what they claim to cover."""

import numpy as np
import pytest
from scipy import stats

from kedge.analysis import build
from kedge.analysis.evidence import Exact, Mean, Quantile, Rate
from kedge.analysis.intervals import (
    change_interval,
    interval_at,
    mean_interval,
    quantile_ranks,
    wilson,
    wilson_of,
)
from kedge.analysis.measure import Context, metric
from kedge.analysis.metric import Metric
from kedge.sketch import Moments
from tests.analysis.rows import classified, summarised


@pytest.mark.parametrize("alpha", [0.025, 0.001, 1e-6])
def test_wilson_equals_scipy(alpha):
    k, n = np.array([0, 1, 5, 50, 99, 100]), np.full(6, 100)
    lower, upper = wilson(k, n, alpha)
    for i in range(6):
        expected = stats.binomtest(int(k[i]), 100).proportion_ci(1 - 2 * alpha, method="wilson")
        assert (lower[i], upper[i]) == pytest.approx((expected.low, expected.high), abs=1e-9)
        assert wilson_of(k[i], 100, alpha) == pytest.approx((lower[i], upper[i]))


def test_no_trials_know_nothing():
    assert wilson_of(0, 0) == (0.0, 1.0)
    assert [float(end[0]) for end in wilson([0], [0])] == [0.0, 1.0]


def test_the_interval_of_a_mean_is_students():
    values = [1.0, 4.0, 2.0, 8.0]
    m = Moments.of(values)
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert mean_interval(m.mean, m.std, m.n) == pytest.approx(expected)
    assert mean_interval(3.0, float("nan"), 1) is None


@pytest.mark.parametrize("q", [0.1, 0.5, 0.95, 0.99])
@pytest.mark.parametrize("alpha", [0.025, 0.001])
@pytest.mark.parametrize("n", [1, 10, 299, 5_000, 10**8])
def test_ranks_leave_at_most_alpha_on_each_side_and_are_the_nearest_that_do(n, q, alpha):
    lower, upper = quantile_ranks(n, q, alpha)
    below = stats.binom(n, q)
    # X_(lower) lies above the quantile when fewer than `lower` values are below it; X_(upper) the other way.
    assert below.cdf(lower - 1) <= alpha < below.cdf(lower)
    assert below.sf(upper - 1) <= alpha < below.sf(upper - 2)


def test_a_p99_of_ten_rows_is_not_bounded_from_above():
    counts = np.array([0, 10, 0], np.int64)
    low, high = Quantile(counts, np.array([0.0, 1.0, 2.0, 600.0]), 0.99).interval(0.025)
    assert (low, high) == (1.0, 600.0)


def test_quantile_intervals_cover_the_true_quantile():
    generator, true, covered = np.random.default_rng(2), stats.expon.ppf(0.9), 0
    edges = np.linspace(0, 12, 241)
    for _ in range(300):
        counts = np.histogram(generator.exponential(size=200), edges)[0]
        low, high = Quantile(counts, edges, 0.9).interval(0.05)
        covered += low <= true <= high
    assert covered >= 0.88 * 300


def rate(k: int, n: int) -> Metric:
    return Metric("errors.rate", k / n, n, evidence=Rate(k, n))


def test_the_change_of_two_rates_is_newcombes_interval():
    # Newcombe 1998, table II, example (a): 56/70 against 48/80, method 10.
    assert change_interval(rate(56, 70), rate(48, 80), 0.025) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    # example (e): 5/56 against 0/29.
    assert change_interval(rate(5, 56), rate(0, 29), 0.025) == pytest.approx((-0.0381, 0.1926), abs=1e-4)


def test_the_change_of_two_means_is_about_welchs():
    generator = np.random.default_rng(4)
    a, b = generator.normal(10, 2, 300), generator.normal(9, 6, 500)
    ours, theirs = (Metric("m", x.mean(), x.size, evidence=Mean(Moments.of(x))) for x in (a, b))
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert change_interval(ours, theirs, 0.025) == pytest.approx((expected.low, expected.high), rel=0.02)


def test_a_change_has_no_interval_where_a_side_has_none():
    assert change_interval(rate(1, 10), Metric("x", 0.1, 3), 0.01) is None
    assert change_interval(rate(1, 10), Metric("x", None, 0, evidence=Rate(0, 1)), 0.01) is None
    assert interval_at(Metric("x", None, 0), 0.01) is None


def test_a_count_is_exact():
    assert interval_at(Metric("volume.count", 12.0, 12, evidence=Exact(12.0)), 1e-9) == (12.0, 12.0)


def test_the_interval_shown_is_that_at_two_and_a_half_percent_a_side():
    found = metric("performance.accuracy", summarised(classified(["a"] * 9 + ["b"], ["a"] * 10)), Context())
    assert found.interval == interval_at(found, 0.025)
    wider = interval_at(found, 0.001)
    assert wider[0] < found.interval[0] < found.value < found.interval[1] < wider[1]


def test_a_recall_that_truly_is_the_bound_is_called_below_it_about_alpha_of_the_time():
    generator, alpha = np.random.default_rng(8), 0.05
    found = [rate(int(k), 200) for k in generator.binomial(200, 0.8, 2_000)]
    below = sum(interval_at(m, alpha)[1] < 0.8 for m in found)
    assert 0.025 * 2_000 < below < 0.08 * 2_000


def test_a_change_from_the_median_of_four_windows_is_called_at_most_alpha_of_the_time():
    """Nothing changed: rates of one true share, and means of one true mean. Each side at most 5 %."""
    generator = np.random.default_rng(12)
    calls, n = 0, 2_000
    for _ in range(n):
        *weeks, now = (build.rate("r", int(k), 400, "") for k in generator.binomial(400, 0.1, 5))
        low, high = change_interval(now, build.median_of(weeks), 0.05)
        calls += not low <= 0 <= high
    assert calls / n <= 0.10
    means = [build.mean("m", Moments.of(generator.normal(5, 2, 50).tolist()), "") for _ in range(5_000)]
    wrong = sum(
        not (low <= 0 <= high)
        for i in range(0, len(means), 5)
        for low, high in [change_interval(means[i], build.median_of(means[i + 1 : i + 5]), 0.05)]
    )
    assert wrong / (len(means) / 5) <= 0.10


def test_a_median_lies_within_its_interval_and_needs_evidence_of_every_window():
    three = [build.rate("r", k, 100, "") for k in (10, 30, 20)]
    found = build.median_of(three)
    assert (found.value, found.n) == (0.2, 300)
    assert interval_at(found, 0.01) == interval_at(three[2], 0.01)
    assert found.interval[0] < 0.2 < found.interval[1]
    two = build.median_of([*three[:1], build.present("r", 0.5, 10, None)])
    assert (two.value, interval_at(two, 0.01)) == (0.3, None)
