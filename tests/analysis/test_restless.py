"""Features that exceed the tolerance in normal times."""

import numpy as np
import pytest

from kedge.analysis.drift import DriftSettings, shifts
from kedge.analysis.drift_metrics import drift_metric, drift_share
from kedge.analysis.restless import left_out_effects, normal_effect, restless

CALM, MOVED = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])


def windows_of(rng, rows, days):
    """A feature's windows, each drawn from shares of its own."""
    return np.array([rng.multinomial(rows, shares) for shares in days])


def test_the_effect_of_a_window_is_the_lower_limit_of_its_shift_against_all_others():
    windows = np.array([[400, 600], [500, 500], [450, 550]])
    reference, window = windows[1:].sum(0), windows[0]
    settings = DriftSettings(alpha=0.05)
    one = shifts(["f"], [reference], [window], [["a", "b"]], [False], settings)[0]
    assert left_out_effects([windows])[0][0] == pytest.approx(one.low, rel=0.05)
    many = left_out_effects([windows * 10_000])[0][0]
    assert many == pytest.approx(one.effect, rel=0.01)


def test_one_that_wanders_is_restless_and_one_that_stays_is_not():
    rng = np.random.default_rng(1)
    stays = windows_of(rng, 2_000, [CALM] * 28)
    wanders = windows_of(rng, 2_000, [CALM + (MOVED - CALM) * i / 27 for i in range(28)])
    assert restless(left_out_effects([stays, wanders]), 0.05).tolist() == [False, True]


def test_two_days_of_the_week_make_it_restless_and_one_holiday_does_not():
    rng = np.random.default_rng(2)
    weekends = windows_of(rng, 2_000, [MOVED if i % 7 > 4 else CALM for i in range(28)])
    holiday = windows_of(rng, 2_000, [MOVED if i == 9 else CALM for i in range(28)])
    assert restless(left_out_effects([weekends, holiday]), 0.05).tolist() == [True, False]


def test_few_rows_alone_make_none_restless():
    rng = np.random.default_rng(3)
    windows = rng.multinomial(100, np.full(22, 1 / 22), size=(200, 30))
    assert restless(left_out_effects(windows), 0.05).mean() == 0


def test_windows_without_rows_say_nothing():
    rng = np.random.default_rng(4)
    wanders = windows_of(rng, 2_000, [CALM, MOVED] * 10)
    holes = np.concatenate([wanders, np.zeros((60, 4), np.int64)])
    effects = left_out_effects([holes, np.zeros_like(holes)])
    assert np.isnan(effects[0, 20:]).all()
    assert np.isnan(effects[1]).all()
    assert restless(effects, 0.05).tolist() == [True, False]


def test_restless_features_never_count_in_the_share():
    names = ["calm", "moves", "season"]
    reference = [np.round(10_000 * CALM).astype(np.int64)] * 3
    window = [np.round(5_000 * shares).astype(np.int64) for shares in (CALM, MOVED, MOVED)]
    cells, ordered = [["a", "b", "c", "d"]] * 3, [False] * 3

    def share(*unruly):
        settings = DriftSettings(restless=frozenset(unruly))
        return drift_share(shifts(names, reference, window, cells, ordered, settings), 0.001)

    everything, without = share(), share("season")
    assert (everything.value, everything.n) == (pytest.approx(2 / 3), 3)
    assert (without.value, without.n) == (0.5, 2)
    assert (without.detail["drifted"], without.detail["restless"]) == (["moves"], ["season"])
    none = share(*names)
    assert (none.value, none.reason) == (None, "every feature exceeds the tolerance in normal times")


def test_a_restless_feature_is_shown_with_its_verdict_and_says_so():
    reference, window = [np.round(10_000 * CALM).astype(np.int64)], [np.round(5_000 * MOVED).astype(np.int64)]
    settings = DriftSettings(restless=frozenset({"season"}))
    found = drift_metric(
        "drift.psi", shifts(["season"], reference, window, [list("abcd")], [False], settings)[0]
    )
    assert (found.verdict, found.reason) == ("drifted", "restless: normally exceeds the tolerance")
    assert found.detail["restless"] is True
    assert found.detail["explanation"].endswith("; restless: normally exceeds the tolerance")


def test_the_normal_effect_is_what_decides_at_any_tolerance():
    effects = np.random.default_rng(5).exponential(0.1, (40, 23))
    effects[:20, :4] = np.nan
    for tolerance in (0.01, 0.05, 0.1, 0.3):
        beyond = (effects > tolerance).sum(1) > 0.25 * (~np.isnan(effects)).sum(1)
        assert (restless(effects, tolerance) == beyond).all()
    assert (normal_effect(np.full((2, 3), np.nan)) == 0).all()
