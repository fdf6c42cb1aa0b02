"""Features that exceed the tolerance in normal times."""

import numpy as np
import pytest

from kedge.analysis.drift import DriftSettings, shifts
from kedge.analysis.drift_metrics import drift_share
from kedge.analysis.restless import left_out_effects, restless

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
    drifts = shifts(names, reference, window, [["a", "b", "c", "d"]] * 3, [False] * 3, DriftSettings())
    everything, without = drift_share(drifts, 0.001), drift_share(drifts, 0.001, restless={"season"})
    assert (everything.value, everything.n) == (pytest.approx(2 / 3), 3)
    assert (without.value, without.n) == (0.5, 2)
    assert (without.detail["drifted"], without.detail["restless"]) == (["moves"], ["season"])
    none = drift_share(drifts, 0.001, restless=names)
    assert (none.value, none.reason) == (None, "every feature exceeds the tolerance in normal times")
