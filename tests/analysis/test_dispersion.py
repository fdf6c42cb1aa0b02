"""Rows that depend on each other: how phi is estimated, and that dividing by it keeps alpha."""

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from kedge.analysis.dispersion import dispersion, for_length
from kedge.analysis.drift import DriftSettings, shifts
from kedge.analysis.metric import Verdict
from kedge.errors import BadInput
from kedge.windows import DAY, HOUR

CELLS = 20
FLAT = np.full(CELLS, 1 / CELLS)


def clustered(rng, shares, rows, size, together=4):
    """Rows that come four equal ones at a time."""
    return together * rng.multinomial(rows // together, shares, size=size)


def following(rng, rows, size, rho, shift=0.0):
    """Counts of an autocorrelated normal over cells of equal share, moved by `shift` standard deviations."""
    noise = rng.normal(size=(*np.atleast_1d(size), rows + 200)) * np.sqrt(1 - rho**2)
    values = lfilter([1.0], [1.0, -rho], noise, axis=-1)[..., 200:] + shift
    cells = np.minimum((ndtr(values) * CELLS).astype(np.int64), CELLS - 1)
    flat = cells.reshape(-1, rows)
    at = flat + CELLS * np.arange(len(flat))[:, None]
    return np.bincount(at.ravel(), minlength=CELLS * len(flat)).reshape(*cells.shape[:-1], CELLS)


def tilted(effect):
    """FLAT moved to and fro by a true effect of that size."""
    low, high = 0.0, 0.05
    for _ in range(60):
        middle = (low + high) / 2
        q = FLAT + np.where(np.arange(CELLS) % 2, 1, -1) * middle
        low, high = (middle, high) if 2 * np.sum((FLAT - q) ** 2 / (FLAT + q)) < effect else (low, middle)
    return q


def mean_shift(effect):
    """The shift of a normal, in standard deviations, that has this effect over cells of equal share."""
    edges = ndtri(np.arange(1, CELLS) / CELLS)
    low, high = 0.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        q = np.diff([0, *ndtr(edges - middle), 1])
        low, high = (middle, high) if 2 * np.sum((FLAT - q) ** 2 / (FLAT + q)) < effect else (low, middle)
    return middle


def alarms(reference, window, phi, alpha):
    """The share of features that drifted at tolerance 0.05."""
    names = [f"f{i}" for i in range(len(window))]
    settings = DriftSettings(0.05, alpha, dict(zip(names, phi, strict=True)))
    found = shifts(names, reference, window, [[""] * CELLS] * len(names), [False] * len(names), settings)
    return np.mean([d.verdict is Verdict.DRIFTED for d in found])


# --- the estimate -------------------------------------------------------------------------------------------


def test_the_mean_is_pearsons_chi_square_over_its_degrees_of_freedom():
    windows = np.random.default_rng(1).multinomial(400, [0.4, 0.3, 0.2, 0.1], size=30)
    table = stats.chi2_contingency(windows, correction=False)
    assert dispersion([windows]).mean == pytest.approx([table.statistic / table.dof])


def test_independent_rows_have_a_phi_of_one():
    windows = np.random.default_rng(2).multinomial(1_000, FLAT, size=(300, 100))
    found = dispersion(windows)
    assert found.mean.mean() == pytest.approx(1.0, abs=0.01)
    assert np.median(found.phi) < 1.03
    assert found.phi.min() == 1.0


def test_clusters_of_four_equal_rows_have_a_phi_of_four():
    found = dispersion(clustered(np.random.default_rng(3), FLAT, 1_000, (300, 60)))
    assert found.mean.mean() == pytest.approx(4.0, rel=0.02)
    assert np.median(found.phi) == pytest.approx(4.0, rel=0.03)


@pytest.mark.parametrize("rho", [0.8, 0.9])
def test_values_that_follow_each_other_have_that_of_the_direction_in_which_they_move_together(rho):
    """The variance of the mean of such a series is (1 + rho) / (1 - rho) times that of independent values;
    the mean over twenty cells hardly shows it."""
    found = dispersion(following(np.random.default_rng(4), 1_000, (40, 60), rho))
    expected = (1 + rho) / (1 - rho)
    assert np.median(found.phi) == pytest.approx(expected, rel=0.2)
    assert found.mean.mean() < 0.4 * expected


def test_windows_of_unequal_length_and_empty_ones_change_nothing():
    rng = np.random.default_rng(5)
    rows = rng.integers(200, 5_000, size=80)
    windows = np.array([clustered(rng, FLAT, n, 200) for n in rows]).swapaxes(0, 1)
    holes = np.concatenate([windows, np.zeros((200, 10, CELLS), np.int64)], axis=1)
    assert dispersion(windows).mean.mean() == pytest.approx(4.0, rel=0.02)
    assert dispersion(holes).phi == pytest.approx(dispersion(windows).phi)
    assert (dispersion(holes).windows == 80).all()


def test_features_with_fewer_cells_are_as_if_they_were_alone():
    rng = np.random.default_rng(6)
    narrow, wide = rng.multinomial(500, [0.7, 0.3], size=30), rng.multinomial(500, FLAT, size=30)
    together = np.stack([np.pad(narrow, ((0, 0), (0, CELLS - 2))), wide])
    found = dispersion(together)
    assert found.mean == pytest.approx([dispersion([narrow]).mean[0], dispersion([wide]).mean[0]])
    assert found.phi == pytest.approx([dispersion([narrow]).phi[0], dispersion([wide]).phi[0]])


def test_many_cells_of_next_to_no_rows_are_no_dispersion():
    """One row in a cell where a hundredth was expected is a hundredfold variance, and no news."""
    shares = np.array([0.97, *[0.03 / 40] * 40])
    found = dispersion(np.random.default_rng(7).multinomial(200, shares, size=(300, 25)))
    assert np.quantile(found.phi, 0.95) < 1.9


@pytest.mark.parametrize(
    "windows",
    [np.zeros((1, 30, 4)), [[[5, 5]]], [[[7, 0]] * 30], np.zeros((1, 0, 3))],
    ids=["empty", "one", "constant", "none"],
)
def test_nothing_to_estimate_from_is_one(windows):
    found = dispersion(windows)
    assert (found.phi.tolist(), found.mean.tolist()) == ([1.0], [1.0])


# --- which length -------------------------------------------------------------------------------------------


def test_a_length_with_twenty_windows_has_its_own_phi():
    rng = np.random.default_rng(8)
    known = {
        HOUR: dispersion(clustered(rng, FLAT, 400, (1, 200))),
        DAY: dispersion(rng.multinomial(9_600, FLAT, size=(1, 20))),
    }
    chosen = for_length(DAY, known)
    assert (chosen.phi.tolist(), chosen.borrowed.tolist()) == (known[DAY].phi.tolist(), [False])


def test_one_with_fewer_borrows_from_the_longest_that_has_twenty():
    rng = np.random.default_rng(9)
    known = {
        HOUR: dispersion(clustered(rng, FLAT, 400, (2, 200))),
        6 * HOUR: dispersion(clustered(rng, FLAT, 2_400, (2, 33), together=8)),
        DAY: dispersion(rng.multinomial(9_600, FLAT, size=(2, 19))),
    }
    for length in (DAY, 7 * DAY):
        chosen = for_length(length, known)
        assert chosen.phi.tolist() == known[6 * HOUR].phi.tolist()
        assert chosen.borrowed.all()


def test_where_no_length_has_twenty_phi_is_one_and_marked():
    few = dispersion(clustered(np.random.default_rng(10), FLAT, 400, (1, 19)))
    chosen = for_length(DAY, {DAY: few})
    assert (chosen.phi.tolist(), chosen.borrowed.tolist()) == ([1.0], [True])
    with pytest.raises(ValueError, match="no window length"):
        for_length(DAY, {})


def test_each_feature_borrows_by_itself():
    windows = clustered(np.random.default_rng(11), FLAT, 400, (2, 25))
    windows[1, 10:] = 0
    chosen = for_length(DAY, {DAY: dispersion(windows)})
    assert chosen.borrowed.tolist() == [False, True]
    assert chosen.phi[0] > 3
    assert chosen.phi[1] == 1


# --- what dividing by it keeps ------------------------------------------------------------------------------


def test_clusters_alarm_at_most_alpha_once_both_sides_are_divided():
    rng = np.random.default_rng(12)
    # An effect at the tolerance is the worst of what is harmless.
    phi = dispersion(clustered(rng, FLAT, 2_000, (1_000, 30))).phi
    reference = clustered(rng, FLAT, 20_000, 1_000)
    window = clustered(rng, tilted(0.05), 2_000, 1_000)
    assert alarms(reference, window, np.ones(1_000), 0.01) > 0.1
    assert alarms(reference, window, phi, 0.01) <= 0.02


@pytest.mark.parametrize("rho", [0.8, 0.95])
def test_a_harmless_shift_of_values_that_follow_each_other_alarms_at_most_alpha(rho):
    """The mean over cells alone does not keep it: the shift lies along the one direction that varies most."""
    rng = np.random.default_rng(13)
    features, rows = 400, 1_000
    shift = mean_shift(0.05)
    found = dispersion(following(rng, rows, (features, 30), rho))
    reference = following(rng, 10 * rows, features, rho)
    window = following(rng, rows, features, rho, shift)
    assert alarms(reference, window, np.maximum(found.mean, 1), 0.01) > 0.05
    assert alarms(reference, window, found.phi, 0.01) <= 0.01 + 3 * np.sqrt(0.01 / features)


def test_the_effect_is_reported_undivided_and_rows_needed_are_those_of_the_test():
    reference, window = np.full(CELLS, 5_000), np.full(CELLS, 100)
    plain, divided = (
        shifts(["f"], [reference], [window], [[""] * CELLS], [False], DriftSettings(phi=phi))[0]
        for phi in ({}, {"f": 4.0})
    )
    assert divided.effect == plain.effect
    assert divided.psi == plain.psi
    assert divided.effective == plain.effective / 4
    assert divided.needs > 4 * plain.needs
    assert divided.alarm_from > plain.alarm_from
    assert "as 4 rows here tell as much as one" in divided.explain()
    assert (divided.detail["phi"], plain.detail["phi"]) == (4.0, 1.0)


@pytest.mark.parametrize(("phi", "said"), [(1.04, None), (1.3, "as 1.3 rows"), (512.0, "as 510 rows")])
def test_how_many_rows_tell_as_much_as_one_is_told_in_plain_numbers(phi: float, said: str | None) -> None:
    counts = [np.full(CELLS, 5_000)], [np.full(CELLS, 100)]
    (found,) = shifts(["f"], *counts, [[""] * CELLS], [False], DriftSettings(phi={"f": phi}))
    assert ("rows here" in found.explain()) is (said is not None)
    assert said is None or said in found.explain()


def test_the_p_value_is_that_of_the_noncentral_chi_square_with_both_sides_divided():
    window = np.array([140, 60] * 10)
    found = shifts(
        ["f"], [np.full(CELLS, 500)], [window], [[""] * CELLS], [False], DriftSettings(phi={"f": 3.0})
    )[0]
    rows = 10_000 * 2_000 / 12_000
    few = 1 + (30 + CELLS) / (rows / 3)
    tail = stats.ncx2.sf(found.effect * rows / 3, 19, 0.05 * rows / 3)
    assert found.p_value == pytest.approx(tail * few, rel=1e-6)


def test_a_borrowed_phi_is_marked():
    found = shifts(
        ["f", "g"],
        [np.full(CELLS, 500)] * 2,
        [np.full(CELLS, 50)] * 2,
        [[""] * CELLS] * 2,
        [False] * 2,
        DriftSettings(phi={"f": 2.0}, borrowed=frozenset({"f"})),
    )
    assert [d.borrowed for d in found] == [True, False]


@pytest.mark.parametrize("phi", [0.5, 0.0, float("nan"), float("inf")])
def test_a_phi_that_makes_no_sense_is_refused(phi):
    with pytest.raises(BadInput, match="dispersion of f"):
        DriftSettings(phi={"f": phi})
