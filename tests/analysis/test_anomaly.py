"""Anomalies of a series: false alarms at the stated rate, whatever the series is like, and shifts found."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.series import HISTORY, MONTH, T0, Kind, daily, episodes, heavy, looked, wandering, weekly, white
from kedge.analysis import anomaly
from kedge.analysis.anomaly import Method, run_length_bound
from kedge.analysis.series import leave_one_out_median, usual
from kedge.windows import HOUR


@pytest.mark.parametrize(
    ("kind", "method"),
    [(white, "auto"), (wandering, "auto"), (daily, "auto"), (wandering, "ewma"), (wandering, "cusum")],
)
def test_false_alarms_stay_within_the_budget(kind: Kind, method: Method) -> None:
    """A year of windows of six hours, at one alarm in each month."""
    window, fired = 6 * HOUR, 0
    for seed in range(2):
        values = kind(np.random.default_rng(seed), (HISTORY + 6 * MONTH) // window, window)
        fired += episodes(values, window, method)
    assert fired <= 12


@pytest.mark.parametrize("kind", [white, wandering, daily, weekly, heavy])
def test_a_shift_that_no_history_explains_is_found(kind: Kind) -> None:
    """Of seven standard deviations; of heavy tails, more."""
    size = 30 if kind is heavy else 7
    found = 0
    for seed in range(20):
        values = kind(np.random.default_rng(seed), 28 * 24 + 1, HOUR)
        values[-1] += size
        found += looked(values).unusual
        values[-1] -= 2 * size
        assert not looked(values).unusual, "the direction is up"
    assert found >= 19


def test_charts_find_small_shifts_that_last_which_one_look_does_not() -> None:
    """One and a half standard deviations for two days."""
    found = dict.fromkeys(("auto", "ewma", "cusum"), 0)
    for method in found:
        for seed in range(20):
            values = white(np.random.default_rng(seed), 28 * 24 + 48, HOUR)
            values[-48:] += 1.5
            reached = (
                looked(values[t - 28 * 24 : t + 1], method=method) for t in range(28 * 24, len(values), 3)
            )
            found[method] += any(seen.unusual for seen in reached)  # type: ignore[arg-type]
    assert found["cusum"] >= 19
    assert found["ewma"] >= 19
    assert found["auto"] < 19


def test_a_sum_finds_a_shift_of_what_wanders_and_comes_down_again() -> None:
    """Where neighbours resemble each other sums run far without a shift, and the bound is far, too."""
    found = 0
    for seed in range(10):
        values = wandering(np.random.default_rng(seed), 28 * 24 + 48, HOUR)
        values[-48:] += 3
        n = 28 * 24
        scores = [looked(values[t - n : t + 1], method="cusum") for t in range(n, len(values), 3)]
        found += any(seen.unusual for seen in scores)
    assert found >= 9
    firing = np.zeros(28 * 24, np.bool_)
    firing[-400:] = True
    long = white(np.random.default_rng(1), 28 * 24 + 1, HOUR)
    long[-401:] += 3
    seen = looked(long, method="cusum", firing=firing, ongoing=True)
    assert seen.score == pytest.approx(anomaly.CUSUM_MOST * seen.bound)


# --- seasons ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "season"), [(white, "none"), (daily, "day"), (weekly, "week")])
def test_the_season_is_the_one_that_the_history_shows(kind: Kind, season: str) -> None:
    seen = looked(kind(np.random.default_rng(1), 28 * 24 + 1, HOUR))
    assert seen.season == season
    assert looked(kind(np.random.default_rng(1), 28 * 24 + 1, HOUR), method="robust_z").season == "none"


def test_a_season_that_was_not_seen_often_enough_is_not_assumed() -> None:
    values = weekly(np.random.default_rng(1), 13 * 24 + 1, HOUR)
    assert looked(values).season == "day"


def test_residuals_are_against_the_median_of_the_same_hour_of_the_other_days() -> None:
    values = daily(np.random.default_rng(5), 10 * 24, HOUR)
    starts = T0 + np.arange(len(values)) * HOUR
    found = usual(starts, values, T0 + len(values) * HOUR, HOUR, seasons=("day",))
    table = values.reshape(10, 24)
    for day, hour in ((0, 0), (4, 13), (9, 23)):
        others = np.delete(table[:, hour], day)
        assert found.residuals[day * 24 + hour] == pytest.approx(table[day, hour] - np.median(others))
    assert found.centre == pytest.approx(np.median(table[:, 0]))


@given(st.lists(st.lists(st.one_of(st.integers(-5, 5), st.none()), min_size=3, max_size=3), max_size=9))
def test_a_median_without_each_value_is_that_of_the_others(rows: list[list[int | None]]) -> None:
    values = np.array([[np.nan if v is None else v for v in row] for row in rows], np.float64).reshape(-1, 3)
    found = leave_one_out_median(values)
    for i, j in np.ndindex(values.shape):
        others = np.delete(values[:, j], i)
        others = others[np.isfinite(others)]
        if np.isnan(values[i, j]) or not len(others):
            assert np.isnan(found[i, j])
        else:
            assert found[i, j] == np.median(others)


# --- the bound ----------------------------------------------------------------------------------------------


def test_the_bound_of_a_long_history_is_a_rank_of_block_maxima() -> None:
    values = heavy(np.random.default_rng(2), 200 * 24 + 1, HOUR)
    seen = looked(values, method="robust_z")
    n = len(values) - 1
    residuals = values[:-1] - np.array([np.median(np.delete(values[:-1], i)) for i in range(n)])
    maxima = np.sort([residuals[n - 48 * (b + 1) : n - 48 * b].max() for b in range(n // 48)])[::-1]
    k = math.floor(2 / 30 * (len(maxima) + 1))
    assert (seen.short, seen.blocks) == (False, 100)
    assert seen.bound == pytest.approx(maxima[k - 1])


def test_a_short_history_is_held_against_a_prediction_interval_and_says_so() -> None:
    values = white(np.random.default_rng(2), 6 * 24 + 1, HOUR)
    seen = looked(values, method="robust_z")
    assert seen.short
    residuals = values[:-1] - np.median(values[:-1])
    r = max(float(np.corrcoef(residuals[1:], residuals[:-1])[0, 1]), 0.0)
    n = len(residuals) * (1 - r) / (1 + r)
    predicted = stats.t.isf(HOUR / MONTH, n - 1) * residuals.std(ddof=1) * math.sqrt(1 + 1 / n)
    assert seen.bound == pytest.approx(predicted, rel=0.03)
    assert seen.bound > residuals.max()


def test_a_run_length_is_that_of_sums_of_independent_normal_values() -> None:
    """300 looks on average: simulated runs of the sums themselves."""
    bound = run_length_bound(300)
    rng, lengths = np.random.default_rng(4), []
    for _ in range(400):
        at, n = 0.0, 0
        while at <= bound:
            at, n = max(at + rng.standard_normal() - anomaly.CUSUM_SLACK, 0.0), n + 1
        lengths.append(n)
    assert np.mean(lengths) == pytest.approx(300, rel=0.12)
    assert run_length_bound(300, both=True) > bound


def test_what_fired_is_no_reference_but_the_bound_does_not_sink_for_it() -> None:
    values = white(np.random.default_rng(3), 28 * 24 + 1, HOUR)
    plain = looked(values)
    firing = np.zeros(28 * 24, np.bool_)
    firing[300:330] = True
    shifted = values.copy()
    shifted[300:330] += 1_000
    hidden = looked(shifted, firing=firing)
    assert hidden.metrics[0].centre == pytest.approx(plain.metrics[0].centre, abs=0.05)
    assert plain.bound < hidden.bound <= anomaly.WINSOR * plain.bound * 1.05
    firing[330:] = True
    going_on = looked(shifted, firing=firing, ongoing=True)
    assert going_on.bound < hidden.bound, "an episode that goes on does not raise its own bound"


def test_a_constant_history_makes_any_change_unusual_and_none_otherwise() -> None:
    values = np.full(28 * 24 + 1, 5.0)
    assert not looked(values, direction="both").unusual
    values[-1] = 5.001
    assert looked(values, direction="both").unusual
    for method in ("ewma", "cusum"):
        assert not looked(np.full(28 * 24 + 1, 5.0), method=method).unusual  # type: ignore[arg-type]


@settings(max_examples=30)
@given(st.floats(1e-3, 1e3), st.floats(-100, 100), st.integers(0, 50))
def test_another_unit_changes_nothing_but_the_numbers(scale: float, shift: float, seed: int) -> None:
    values = daily(np.random.default_rng(seed), 14 * 24 + 1, HOUR)
    one, other = looked(values), looked(values * scale + shift)
    assert one.season == other.season
    assert other.bound == pytest.approx(one.bound * scale, rel=1e-6, abs=1e-9)
    assert other.bands == pytest.approx(one.bands * scale + shift, rel=1e-6, abs=1e-6)


def test_what_goes_up_in_one_direction_goes_down_in_the_other() -> None:
    values = wandering(np.random.default_rng(6), 28 * 24 + 1, HOUR)
    for method in ("auto", "robust_z", "ewma", "cusum"):
        up = looked(values, method=method, direction="up")  # type: ignore[arg-type]
        down = looked(-values, method=method, direction="down")  # type: ignore[arg-type]
        assert (up.score, up.bound) == pytest.approx((down.score, down.bound))


# --- several metrics ----------------------------------------------------------------------------------------


def test_a_forest_finds_what_is_odd_in_several_metrics_at_once() -> None:
    """Three standard deviations in each of three: none is odd by itself."""
    values = np.random.default_rng(7).standard_normal((28 * 24 + 1, 3))
    calm = looked(values, method="isolation_forest", direction="both")
    assert (calm.unusual, calm.short) == (False, False)
    values[-1] = (3.0, -3.0, 3.0)
    assert looked(values, method="isolation_forest", direction="both").unusual
    assert not any(looked(column, direction="both").unusual for column in values.T)


def test_a_forest_is_the_same_every_time() -> None:
    pair = np.random.default_rng(8).standard_normal((15 * 24 + 1, 2))
    one, other = (looked(pair, method="isolation_forest", direction="both") for _ in range(2))
    assert (one.score, one.bound) == (other.score, other.bound)
