"""Version against version: few wrong decisions under any number of looks, and right ones before long."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kedge.analysis import build
from kedge.analysis.additive import additive_metrics
from kedge.analysis.catalogue import lookup
from kedge.analysis.evidence import Rate
from kedge.analysis.intervals import change_interval
from kedge.analysis.metric import Metric
from kedge.analysis.sequential import Average, Pair, Share
from kedge.analysis.versions import Decision, Margin, VersionComparison, compare_versions
from kedge.errors import BadInput
from kedge.sketch import Moments

ALPHA = 0.2
RUNS, LOOKS = 20, 250
NAMES = ("v7", "v6")


def errors(failed: int, of: int) -> Metric:
    return build.rate("errors.rate", failed, of, "no rows")


def judged(
    candidate: Metric, reference: Metric, margin: float, *, relative: bool = False, alpha: float = 0.01
) -> VersionComparison:
    info = lookup(candidate.name)
    return compare_versions(info, candidate, reference, Margin(margin, relative), alpha, names=NAMES)


# --- the false decisions ------------------------------------------------------------------------------------


def shares(rng: np.random.Generator, candidate: float, reference: float) -> Iterator[Pair]:
    """Cumulated counts of a canary with a fifth of the traffic, look after look."""
    k = n = other_k = other_n = 0
    for _ in range(LOOKS):
        k, n = k + int(rng.binomial(50, candidate)), n + 50
        other_k, other_n = other_k + int(rng.binomial(200, reference)), other_n + 200
        yield Pair(Share(k, n), Share(other_k, other_n))


@pytest.mark.parametrize(("rate", "margin"), [(0.001, 0.002), (0.01, 0.01), (0.1, 0.0), (0.5, 0.02)])
def test_where_any_decision_is_wrong_few_are_made_however_often_one_looks(rate: float, margin: float) -> None:
    """A candidate that is worse by just the margin: promote and roll back are both wrong."""
    rng = np.random.default_rng(7)
    wrong = naive = 0
    for _ in range(RUNS):
        run = list(shares(rng, rate + margin, rate))
        wrong += any(pair.log_evidence(margin) >= -math.log(ALPHA) for pair in run)
        naive += any(_usual_test_decides(pair, margin) for pair in run[::5])
    assert wrong <= ALPHA * RUNS
    assert naive > 1.5 * ALPHA * RUNS  # what a test for one look does, looked at 50 times


def _usual_test_decides(pair: Pair, margin: float) -> bool:
    ours, theirs = (
        errors(int(arm.successes), int(arm.trials))
        for arm in (pair.candidate, pair.reference)
        if isinstance(arm, Share)
    )
    interval = change_interval(ours, theirs, ALPHA / 2)
    return interval is not None and not interval[0] <= margin <= interval[1]


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5])
def test_means_of_skewed_rows_are_decided_wrongly_as_seldom(sigma: float) -> None:
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(RUNS):
        ours = theirs = Moments()
        for _ in range(LOOKS):
            ours += Moments.of(rng.lognormal(4, sigma, 20).tolist())
            theirs += Moments.of(rng.lognormal(4, sigma, 80).tolist())
            pair = Pair(Average(ours), Average(theirs))
            settled = pair.candidate.settled and pair.reference.settled
            if settled and pair.log_evidence(0.0) >= -math.log(ALPHA):
                wrong += 1
                break
    assert wrong <= ALPHA * RUNS


# --- the right ones -----------------------------------------------------------------------------------------


def rows_until(rng: np.random.Generator, candidate: float, reference: float, margin: float) -> float:
    """Rows of the candidate until a decision at 99 %; inf where none comes."""
    for pair in shares(rng, candidate, reference):
        if pair.log_evidence(margin) >= math.log(100):
            return pair.candidate.rows
    return math.inf


@pytest.mark.parametrize(
    ("candidate", "reference", "margin", "most"),
    [
        (0.02, 0.01, 0.0, 5_000),
        (0.01, 0.01, 0.01, 6_000),
        (0.05, 0.02, 0.01, 3_000),
        (0.011, 0.001, 0.001, 3_000),
    ],
)
def test_a_difference_is_found_with_a_few_times_the_rows_that_one_look_would_need(
    candidate: float, reference: float, margin: float, most: int
) -> None:
    rng = np.random.default_rng(5)
    assert np.median([rows_until(rng, candidate, reference, margin) for _ in range(15)]) < most


def test_a_candidate_that_is_no_worse_is_promoted() -> None:
    found = judged(errors(200, 20_000), errors(2_010, 200_000), 0.01)
    assert found.decision is Decision.PROMOTE
    assert found.explain().startswith(
        "promote v7: errors.rate is credibly not worse by more than 1 point: 1 %"
    )
    better = judged(errors(20, 20_000), errors(2_010, 200_000), 0.01)
    assert "credibly better" in better.explain()


def test_one_that_is_worse_by_more_than_the_margin_is_rolled_back() -> None:
    found = judged(errors(1_200, 20_000), errors(2_000, 200_000), 0.01)
    assert found.decision is Decision.ROLL_BACK
    assert found.interval is not None
    assert 0.01 < found.interval[0] < 0.05 < found.interval[1]
    assert "credibly worse by more than 1 point" in found.explain()


def test_one_that_is_worse_within_the_margin_is_promoted_and_says_so() -> None:
    found = judged(errors(1_200, 100_000), errors(10_000, 1_000_000), 0.01)
    assert found.decision is Decision.PROMOTE
    assert "a little worse it is" in found.explain()
    assert judged(errors(1_200, 100_000), errors(10_000, 1_000_000), 0.0).decision is Decision.ROLL_BACK


def test_too_little_waits_and_says_how_many_rows_more() -> None:
    found = judged(errors(20, 2_000), errors(200, 20_000), 0.01)
    assert found.decision is Decision.WAIT
    assert found.needs is not None
    assert f"about {found.needs:,} more rows of v7" in found.explain()
    times = 1.03 * (2_000 + found.needs) / 2_000  # whole rows fail, not parts of one
    later = judged(
        errors(round(20 * times), round(2_000 * times)),
        errors(round(200 * times), round(20_000 * times)),
        0.01,
    )
    assert later.decision is Decision.PROMOTE
    near = judged(errors(80, 4_000), errors(400, 40_000), 0.01)
    assert (near.decision, near.needs) == (Decision.WAIT, None)
    assert "no decision is in sight" in near.explain()


def test_no_rows_wait_with_the_reason() -> None:
    found = judged(errors(0, 0), errors(3, 500), 0.01)
    assert (found.decision, found.interval) == (Decision.WAIT, None)
    assert found.explain() == "keep waiting: errors.rate of v7: no rows"


def test_a_mean_with_one_row_that_weighs_too_much_waits() -> None:
    spike = Moments.of([10.0 + i % 3 for i in range(200)] + [5_000.0])
    even = Moments.of([10.0 + i % 7 for i in range(2_000)])
    found = judged(build.mean("latency.mean", spike, ""), build.mean("latency.mean", even, ""), 1.0)
    assert found.decision is Decision.WAIT
    assert "201 rows of v7 do not settle latency.mean" in found.explain()


def test_the_bad_direction_of_the_metric_decides_which_way_is_worse() -> None:
    def accuracy(right: int, of: int) -> Metric:
        return build.rate("performance.accuracy", right, of, "")

    assert judged(accuracy(7_000, 10_000), accuracy(9_000, 10_000), 0.02).decision is Decision.ROLL_BACK
    assert judged(accuracy(9_900, 10_000), accuracy(9_000, 10_000), 0.02).decision is Decision.PROMOTE

    def approved(n: int) -> Metric:
        return build.rate("class.share", n, 10_000, "", labels={"class": "approve"})

    assert judged(approved(6_000), approved(5_000), 0.05).decision is Decision.ROLL_BACK
    assert judged(approved(4_000), approved(5_000), 0.05).decision is Decision.ROLL_BACK
    assert judged(approved(5_010), approved(5_000), 0.05).decision is Decision.PROMOTE


def test_a_relative_margin_is_of_the_reference_with_its_noise() -> None:
    twice = errors(400, 20_000), errors(2_000, 200_000)
    assert judged(*twice, 0.5, relative=True).decision is Decision.ROLL_BACK
    assert judged(*twice, 3.0, relative=True).decision is Decision.PROMOTE
    found = judged(*twice, 0.5, relative=True)
    assert found.change == pytest.approx(1.0)
    assert "+100 %" in found.explain()
    nothing = judged(errors(9, 2_000), errors(0, 20), 0.5, relative=True)
    assert nothing.decision is Decision.WAIT
    assert nothing.detail["interval"][1] > 100  # times a reference of almost nothing


def test_a_margin_that_decides_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="0 or more"):
        judged(errors(1, 10), errors(1, 10), -0.1)
    with pytest.raises(BadInput, match="bad either way"):
        judged(build.rate("class.share", 1, 2, ""), build.rate("class.share", 1, 2, ""), 0.0)
    with pytest.raises(BadInput, match="decides nothing"):
        judged(errors(1, 10), errors(1, 10), 1.0)


def test_what_is_no_share_of_rows_is_not_compared() -> None:
    macro = build.present("performance.recall", 0.8, 500, Rate(0.8 * 312.7, 312.7))
    found = judged(macro, macro, 0.02)
    assert found.decision is Decision.WAIT
    assert "no share or mean of rows" in found.explain()
    assert {"errors.rate", "latency.mean", "performance.recall"} <= set(additive_metrics())
    assert not {"performance.f1", "performance.rmse", "latency.p95", "volume.count"} & set(additive_metrics())


# --- the mathematics ----------------------------------------------------------------------------------------


@given(
    st.integers(0, 300),
    st.integers(1, 3_000),
    st.integers(0, 300),
    st.integers(1, 3_000),
    st.floats(0.001, 0.4),
)
def test_the_least_evidence_on_the_line_is_the_least_beyond_it_too(
    k: int, more: int, other_k: int, other_more: int, beyond: float
) -> None:
    """What refutes a margin refutes every larger difference: so it may be said of `at least`."""
    pair = Pair(Share(k, k + more), Share(other_k, other_k + other_more))
    change = pair.change + beyond
    if change >= 1:
        return
    at_margin = pair.log_evidence(change)
    assume(at_margin > math.log(2))  # with less nothing is ever decided
    reference = np.linspace(0.0, 1.0, 301)
    farther = [float(pair._product(reference, c).min()) for c in np.linspace(change, 1.0, 12)]
    assert at_margin <= min(farther) + 1e-3


@given(st.integers(0, 50), st.integers(1, 500))
def test_the_martingale_of_a_share_keeps_its_mean(k: int, more: int) -> None:
    """At the true rate its expected value after one more row is its value before."""
    n, p = k + more, np.array([0.03, 0.2, 0.7])
    now = np.exp(Share(k, n).log_mixture(p))
    then = p * np.exp(Share(k + 1, n + 1).log_mixture(p)) + (1 - p) * np.exp(Share(k, n + 1).log_mixture(p))
    assert then == pytest.approx(now, rel=1e-6)
    assert np.exp(Share(0, 0).log_mixture(p)) == pytest.approx(np.ones((4, 3)))
