"""The tests that people know by name, against scipy on the same rows."""

import numpy as np
import pytest
from scipy import stats

from kedge.analysis.plain_tests import chi2, ks, psi
from tests.analysis.rows import edges_of, featured, summarised

RNG = np.random.default_rng(17)


def cells(before, after):
    """Counts of one numeric column over the quantile cells of `before`."""
    rows = featured({"x": before}), featured({"x": after})
    edges = edges_of(rows[0])
    a, b = (summarised(side, edges).cells.features["x"][1].astype(float)[None] for side in rows)
    return a, b, np.array([a.shape[1]])


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.2])
def test_the_p_value_of_ks_is_just_above_that_of_the_rows(shift):
    before, after = RNG.normal(size=4_000), RNG.normal(shift, 1, size=3_000)
    rows = stats.ks_2samp(before, after, method="asymp").pvalue
    found = ks(*cells(before, after))[0]
    assert rows <= found <= max(40 * rows, 0.01) or found == pytest.approx(rows, abs=0.25)


def test_ks_without_drift_alarms_at_most_at_its_level():
    a, b = (RNG.multinomial(n, [0.0, *[0.05] * 20, 0.0, 0.0], size=4_000).astype(float) for n in (5_000, 500))
    p = ks(a, b, np.full(4_000, 23))
    assert 0.02 < np.mean(p < 0.05) <= 0.055


def test_psi_is_over_ten_bins_with_the_outer_cells_in_the_outer_ones():
    before, after = RNG.normal(size=10_000), RNG.normal(0.5, 1, size=5_000)
    a, b, sizes = cells(before, after)
    deciles = np.quantile(before, np.linspace(0, 1, 11)[1:-1])
    p, q = (
        (np.bincount(np.searchsorted(deciles, x, side="right"), minlength=10) + 0.5) / (x.size + 5)
        for x in (before, after)
    )
    assert psi(a, b, sizes, np.array([True]))[0] == pytest.approx(np.sum((q - p) * np.log(q / p)), rel=0.02)


def test_values_outside_the_range_of_the_reference_count():
    before = RNG.uniform(size=5_000)
    far = np.concatenate([RNG.uniform(size=3_000), np.full(2_000, 50.0)])
    a, b, sizes = cells(before, far)
    assert psi(a, b, sizes, np.array([True]))[0] > 0.3
    assert ks(a, b, sizes)[0] < 1e-6
    assert chi2(a, b)[0] < 1e-6


def test_few_distinct_values_are_a_bin_each():
    before, after = RNG.integers(1, 4, size=900).astype(float), RNG.integers(1, 4, size=700).astype(float)
    a, b, sizes = cells(before, after)
    p, q = ((np.bincount(x.astype(int))[1:] + 0.5) / (x.size + 1.5) for x in (before, after))
    assert psi(a, b, sizes, np.array([True]))[0] == pytest.approx(np.sum((q - p) * np.log(q / p)), rel=1e-6)


def test_chi_square_without_drift_alarms_at_its_level_though_the_outer_cells_are_all_but_empty():
    shares = [2e-5, *[(1 - 4e-5) / 20] * 20, 2e-5, 0.0]
    a, b = (RNG.multinomial(n, shares, size=4_000).astype(float) for n in (50_000, 5_000))
    p = chi2(a, b, np.full(4_000, 23), np.ones(4_000, bool))
    assert 0.035 < np.mean(p < 0.05) < 0.065


def test_chi_square_is_the_homogeneity_test_of_scipy():
    a, b = RNG.multinomial(900, [0.5, 0.3, 0.2, 0]), RNG.multinomial(300, [0.4, 0.3, 0.3, 0])
    expected = stats.chi2_contingency(np.array([a, b])[:, :3], correction=False).pvalue
    assert chi2(a[None] * 1.0, b[None] * 1.0) == pytest.approx([expected])


def test_without_rows_on_one_side_nothing_is_said():
    none, some, sizes = np.zeros((1, 5)), np.full((1, 5), 10.0), np.array([5])
    for a, b in ((none, some), (some, none), (none, none)):
        assert (ks(a, b, sizes)[0], chi2(a, b)[0], psi(a, b, sizes, np.array([True]))[0]) == (1.0, 1.0, 0.0)
        assert psi(a, b, sizes, np.array([False]))[0] == 0.0
