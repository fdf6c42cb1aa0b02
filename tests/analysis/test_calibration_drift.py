"""Calibration drift: silent while a score means what it did, whatever scores come; loud once it does not."""

import numpy as np
import pytest

from kedge.analysis.drift import DriftSettings
from kedge.analysis.intervals import interval_at
from kedge.analysis.measure import Context, metric
from kedge.analysis.metric import Verdict
from kedge.sketch import Summary
from tests.analysis.rows import classified, summarised
from tests.analysis.test_ranking import counted

MIXES = {
    "even": lambda g, n: g.random(n),
    "middling": lambda g, n: g.beta(5, 5, n),
    "rare": lambda g, n: g.beta(0.5, 20, n),
    "sharp": lambda g, n: g.beta(0.2, 0.2, n),
}
CURVES = {"right": lambda p: p, "always off": lambda p: 0.6 * p + 0.1}


def window(seed, n, mix="even", curve=CURVES["right"], off=0.0):
    generator = np.random.default_rng(seed)
    scores = MIXES[mix](generator, n)
    return counted(scores, generator.random(n) < np.clip(curve(scores) + off, 0, 1))


def shift(now, then, tolerance=0.05, alpha=0.001):
    context = Context("fraud", then, drift=DriftSettings(tolerance, alpha))
    return metric("calibration.drift", now, context)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize(
    ("mixes", "n", "m"),
    [
        (("even", "even"), 300, 300),
        (("even", "even"), 5_000, 20_000),
        (("rare", "rare"), 300, 3_000),
        (("middling", "even"), 500, 5_000),
        (("middling", "sharp"), 300, 3_000),
    ],
)
def test_the_same_curve_alarms_no_more_often_than_it_may(mixes, n, m, curve):
    """Of 100 windows at alpha 1 %, one is expected at most; chance makes more than 5 of it once in 2,000."""
    now, then = mixes
    alarms = sum(
        shift(
            window(seed, n, now, CURVES[curve]),
            window(seed + 10_000, m, then, CURVES[curve]),
            alpha=0.01,
        ).verdict
        is Verdict.DRIFTED
        for seed in range(100)
    )
    assert alarms <= 5


def test_with_next_to_no_tolerance_it_is_a_test_of_the_same_curve_at_its_level():
    p = [shift(window(s, 1_000), window(s + 9_000, 3_000), 1e-6).detail["p_value"] for s in range(200)]
    assert np.mean(np.array(p) <= 0.05) < 0.1  # 0.05 expected; the standard error is 0.015
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


def test_a_curve_that_moved_has_drifted_and_says_which_way():
    found = [shift(window(s, 4_000, off=-0.25), window(s + 500, 20_000)) for s in range(20)]
    assert all(m.verdict is Verdict.DRIFTED for m in found)
    assert all(-0.25 < m.detail["shift"] < -0.15 for m in found)
    assert all(interval_at(m, 0.001)[0] > 0.05 for m in found)


def test_the_rows_that_a_verdict_needs_are_told():
    then = window(1, 50_000)
    few, many = shift(window(2, 100), then), shift(window(2, 20_000), then)
    assert (few.verdict, many.verdict) == (Verdict.INSUFFICIENT, Verdict.OK)
    assert 100 < few.detail["needs"] < 20_000


def test_where_there_is_nothing_to_compare_the_reason_says_why():
    then, bare = window(1, 1_000), summarised(classified(["ok"], ["ok"]))
    assert shift(bare, then).reason == "no labelled row has a probability"
    assert shift(then, bare).reason == "the reference: no labelled row has a probability"
    assert shift(then, Summary.zero()).reason == "the reference: no labels yet"
    assert shift(window(3, 4), then).reason.startswith("too few labelled rows")
    assert metric("calibration.drift", then, Context("fraud")).reason == "no reference"


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_constant_scores_have_one_bin(score):
    generator = np.random.default_rng(4)
    now, then = (counted(np.full(n, score), generator.random(n) < 0.3) for n in (8_000, 20_000))
    found = shift(now, then)
    assert (found.verdict, found.detail["bins"]) == (Verdict.OK, 1)
    other = counted(np.full(2_000, score), generator.random(2_000) < 0.6)
    assert shift(other, then).verdict is Verdict.DRIFTED
