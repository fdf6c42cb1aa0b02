"""What a baseline keeps of how its own windows vary."""

import numpy as np
import pytest

from kedge.analysis.dispersion import dispersion
from kedge.analysis.restless import left_out_effects, restless
from kedge.analysis.variation import PREDICTED, Variation, Varied, variation_of
from kedge.sketch import SCORE_CELLS, CategoricalEdges, Cells, Core, EdgeSet, Labels, Summary
from kedge.windows import DAY, HOUR, WEEK

EDGES = EdgeSet({"calm": CategoricalEdges(("a", "b", "c")), "hourly": CategoricalEdges(("am", "pm"))})
START = 490_000 * HOUR - 490_000 * HOUR % DAY
NAMES = (*EDGES.features, PREDICTED)


def hours(number, rows=60, seed=0):
    """Each hour's rows: one feature of the same shares always, one that tells the halves of the day apart."""
    rng = np.random.default_rng(seed)
    found = {}
    for i in range(number):
        calm = np.array([*rng.multinomial(rows, (0.5, 0.3, 0.2)), 0, 0, 0], np.int64)
        hourly = np.array([rows if i % 24 < 12 else 0, 0 if i % 24 < 12 else rows, 0, 0, 0], np.int64)
        yes = np.zeros(SCORE_CELLS + 1, np.int64)
        yes[90] = rng.binomial(rows, 0.3)
        no = np.zeros(SCORE_CELLS + 1, np.int64)
        no[90] = rows - yes[90]
        counts = {"calm": calm, "hourly": hourly}
        cells = Cells({name: (EDGES.features[name].hash, counts[name]) for name in counts})
        found[START + i * HOUR] = Summary(Core(rows=rows, scores={"yes": yes, "no": no}), cells, Labels())
    return found


def test_only_lengths_with_twenty_whole_windows_are_known():
    assert set(variation_of(hours(19), HOUR, EDGES).lengths) == set()
    assert set(variation_of(hours(20), HOUR, EDGES).lengths) == {HOUR}
    assert set(variation_of(hours(20 * 24 - 1), HOUR, EDGES).lengths) == {HOUR, 6 * HOUR}
    assert set(variation_of(hours(20 * 24), HOUR, EDGES).lengths) == {HOUR, 6 * HOUR, DAY}
    assert variation_of({}, HOUR, EDGES).lengths == {}


def test_days_make_days_and_weeks():
    days = {START + i * DAY: s for i, s in enumerate(hours(140).values())}
    assert set(variation_of(days, DAY, EDGES).lengths) == {DAY, WEEK}


def test_each_length_has_the_figures_of_its_own_windows():
    summaries = hours(24 * 24)
    found = variation_of(summaries, HOUR, EDGES)
    by_hour = np.array([[s.cells.features[n][1] for s in summaries.values()] for n in ("hourly",)])
    by_day = by_hour.reshape(1, 24, 24, -1).sum(2)
    for length, counts in ((HOUR, by_hour), (DAY, by_day)):
        phi = dispersion(counts).phi[0]
        assert found.lengths[length].phi["hourly"] == pytest.approx(phi, rel=1e-5)
        is_restless = restless(left_out_effects(counts), 0.05)[0]
        assert ("hourly" in found.at(length, NAMES).restless(0.05)) == is_restless
    assert found.at(HOUR, NAMES).restless(0.05) == {"hourly"}
    assert found.at(DAY, NAMES).restless(0.05) == set()
    assert found.lengths[HOUR].phi["calm"] == pytest.approx(1, abs=0.2)
    assert found.lengths[HOUR].phi[PREDICTED] == pytest.approx(1, abs=0.3)
    assert set(found.lengths[HOUR].normal) == {"calm", "hourly"}


def test_hours_without_rows_are_no_windows():
    summaries = hours(24 * 30)
    days_only = {t: s for t, s in summaries.items() if (t - START) % DAY < 12 * HOUR}
    found = variation_of(days_only, HOUR, EDGES)
    assert found.lengths[HOUR].windows == 360
    assert found.lengths[DAY].windows == 29
    assert found.at(HOUR, NAMES).restless(0.05) == set()


def test_another_length_borrows_from_the_longest_and_says_so():
    one = Variation({HOUR: Varied(500, {"f": 2.0}, {"f": 0.5}), DAY: Varied(30, {"f": 7.0}, {"f": 0.01})})
    own, other = one.at(HOUR, ("f", "g")), one.at(3 * HOUR, ("f", "g"))
    assert (own.phi["f"], own.borrowed, own.restless(0.05)) == (2.0, {"g"}, {"f"})
    assert (other.phi["f"], other.borrowed, other.restless(0.05)) == (7.0, {"f", "g"}, set())
    assert one.at(HOUR, ("f",), own=False).borrowed == {"f"}
    unknown = Variation().at(HOUR, ("f",))
    assert (dict(unknown.phi), unknown.borrowed) == ({}, {"f"})
    settings = own.settings(0.2, 0.01)
    assert (settings.tolerance, settings.alpha, settings.restless) == (0.2, 0.01, {"f"})
    assert own.settings(0.6).restless == set()


def test_it_comes_back_from_json():
    found = variation_of(hours(24 * 20), HOUR, EDGES)
    assert Variation.from_json(found.to_json()).lengths == found.lengths
    halves = [Variation({DAY: Varied(30, {n: 2.0}, {n: 0.1})}) for n in ("f", "g")]
    joined = halves[0].joined(halves[1])
    assert joined.lengths == {DAY: Varied(30, {"f": 2.0, "g": 2.0}, {"f": 0.1, "g": 0.1})}
