"""Drift: read-outs against scipy on the same rows, and verdicts that keep their promises."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from kedge.analysis import noncentral
from kedge.analysis.divergence import effect_terms, effective_cells, rare_together
from kedge.analysis.drift import (
    DriftSettings,
    benjamini_hochberg,
    drift,
    shift_of_counts,
    shifts,
)
from kedge.analysis.measure import Context, metric
from kedge.analysis.metric import Verdict
from kedge.analysis.resemblance import tolerance_test
from kedge.errors import BadInput
from kedge.sketch import Cells, EdgeSet, NumericEdges
from tests.analysis.rows import edges_of, featured, summarised

GENERATOR = np.random.default_rng(11)


def compared(reference, window, settings=None):
    """Two histograms as one feature's drift."""
    a, b = np.asarray(reference, np.int64), np.asarray(window, np.int64)
    names = [f"c{i}" for i in range(a.size)]
    return shifts(["f"], [a], [b], [names], [True], settings or DriftSettings())[0]


@pytest.fixture(scope="module")
def moved():
    """Two sets of rows: one numeric feature shifted, one category changed, one that did not move."""
    n, m = 2_000, 3_000
    before = featured(
        {"x": GENERATOR.normal(size=m), "still": GENERATOR.normal(size=m)},
        {"shop": GENERATOR.choice(["a", "b", "c"], m, p=[0.6, 0.3, 0.1])},
    )
    after = featured(
        {"x": GENERATOR.normal(0.5, 1, size=n), "still": GENERATOR.normal(size=n)},
        {"shop": GENERATOR.choice(["a", "b", "new"], n, p=[0.5, 0.2, 0.3])},
    )
    edges = edges_of(before)
    return before, after, edges, summarised(before, edges), summarised(after, edges)


# --- read-outs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(100, 80), (10_000, 50), (3, 4)])
@pytest.mark.parametrize("k", [2, 5, 22])
def test_chi_square_is_that_of_the_contingency_table(sizes, k):
    a, b = (GENERATOR.multinomial(n, GENERATOR.dirichlet(np.ones(k))) for n in sizes)
    table = np.array([a, b])[:, (a + b) > 0]
    found = compared(a, b)
    if table.shape[1] > 1:
        expected = stats.chi2_contingency(table, correction=False)
        assert found.chi2 == pytest.approx(expected.statistic)
        assert found.cells - 1 == expected.dof
        assert found.cramers_v == pytest.approx(stats.contingency.association(table, "cramer"))


def test_effect_psi_and_js_are_the_formulas_they_are_said_to_be():
    a, b = np.array([50, 30, 20, 0, 0]), np.array([20, 10, 60, 5, 0])
    p, q = a / a.sum(), b / b.sum()
    sp, sq = (a + 0.5) / (a.sum() + 2.5), (b + 0.5) / (b.sum() + 2.5)
    found = compared(a, b)
    held = p + q > 0
    assert found.effect == pytest.approx(2 * np.sum((p - q)[held] ** 2 / (p + q)[held]))
    assert found.psi == pytest.approx(np.sum((sq - sp) * np.log(sq / sp)))
    assert found.js == pytest.approx(jensenshannon(sp, sq, base=2))
    assert found.psi_expected == pytest.approx(4 * (1 / 100 + 1 / 95))


def test_a_summary_against_itself_has_not_moved(moved):
    _, _, edges, reference, _ = moved
    for found in drift(reference.cells, reference.cells, edges):
        assert (found.effect, found.psi, found.low) == (0, 0, 0)
        assert (found.js, found.chi2) == pytest.approx((0, 0), abs=1e-7)
        assert found.verdict is not Verdict.DRIFTED


def test_ks_of_the_rows_lies_between_the_bounds_from_cells(moved):
    before, after, edges, reference, window = moved
    for found in drift(reference.cells, window.cells, edges, features=["x", "still"]):
        columns = ([row.num[found.feature] for row in rows] for rows in (before, after))
        rows = stats.ks_2samp(*columns).statistic
        assert found.ks - 1e-6 <= rows <= found.ks_most + 1e-6


def test_wasserstein_is_near_that_of_the_rows(moved):
    before, after, edges, reference, window = moved
    a, b = ([row.num["x"] for row in rows] for rows in (before, after))
    found = metric("drift.wasserstein", window, Context(reference=reference, edges=edges), feature="x")
    assert found.value == pytest.approx(stats.wasserstein_distance(a, b) / stats.iqr(a), rel=0.03)


def test_one_stray_row_in_an_empty_cell_does_not_blow_the_effect_up():
    reference = [1_000] * 10 + [0]
    found = compared(reference, [100] * 10 + [1])
    assert found.effect < 0.01
    assert found.verdict is not Verdict.DRIFTED


# --- verdicts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "start"), [(200, 0.34), (1_000, 0.13), (5_000, 0.08)])
def test_alarms_start_where_the_documentation_says(n, start):
    found = compared([10**6] * 22, GENERATOR.multinomial(n, [1 / 22] * 22))
    assert found.alarm_from == pytest.approx(start, rel=0.06)


def test_the_p_value_is_that_of_the_noncentral_chi_square_corrected_for_few_rows():
    found = compared([500] * 10, [60, 40] * 5)
    effective = found.n * found.m / (found.n + found.m)
    expected = stats.ncx2.sf(found.effect * effective, 9, 0.05 * effective) * (1 + (30 + 10) / effective)
    assert found.p_value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n", [300, 3_000, 30_000, 3_000_000])
def test_low_end_start_of_alarms_and_verdict_say_the_same(n):
    for tilt in np.linspace(0.0, 0.9, 19):
        shares = (1 + tilt * np.linspace(-1, 1, 20)) / 20
        found = compared([50_000] * 20, np.round(n * shares))
        drifted = found.verdict is Verdict.DRIFTED
        assert drifted == (found.low > found.tolerance) == (found.effect > found.alarm_from)
        assert found.interval[0] >= found.low - 1e-9
        assert found.interval[0] <= found.interval[1]


def test_a_harmless_shift_alarms_less_often_than_alpha_at_any_size():
    settings = DriftSettings(tolerance=0.05, alpha=0.05)
    p = np.full(20, 0.05)
    tilt = np.where(np.arange(20) % 2, 1, -1) * 0.05
    # Scaled so that the true effect is just the tolerance: the worst case of what counts as harmless.
    for _ in range(50):
        effect = 2 * np.sum(tilt**2 / (2 * p + tilt))
        tilt *= np.sqrt(0.05 / effect)
    for n in (150, 1_500, 15_000):
        a = GENERATOR.multinomial(20 * n, p, size=400)
        b = GENERATOR.multinomial(n, p + tilt, size=400)
        found = shifts([str(i) for i in range(400)], a, b, [[""] * 20] * 400, [False] * 400, settings)
        alarms = sum(d.verdict is Verdict.DRIFTED for d in found)
        assert alarms <= 0.05 * 400 + 3 * np.sqrt(0.05 * 0.95 * 400)


def test_a_hundred_rows_alarm_at_most_alpha_too():
    """The asymptotic test alone reaches 1.6 % here."""
    rng = np.random.default_rng(3)
    p = np.full(50, 0.02)
    low, high = 0.0, 0.2
    for _ in range(50):
        gain = (low + high) / 2
        q = np.array([0.02 + gain, *[(0.98 - gain) / 49] * 49])
        low, high = (gain, high) if 2 * np.sum((p - q) ** 2 / (p + q)) < 0.05 else (low, gain)
    a, b = rng.multinomial(50_000, p, size=20_000), rng.multinomial(100, q, size=20_000)
    found = tolerance_test(
        effect_terms(a * 1.0, b * 1.0).sum(1), ((a + b) > 0).sum(1), np.full(20_000, 5e6 / 50_100), 0.05, 0.01
    )
    assert np.mean(found.p_value <= 0.01) <= 0.01 + 2.5 * np.sqrt(0.01 / 20_000)


def test_without_any_drift_nothing_alarms():
    p = GENERATOR.dirichlet(np.ones(22))
    a = GENERATOR.multinomial(20_000, p, size=500)
    b = GENERATOR.multinomial(1_000, p, size=500)
    found = shifts([str(i) for i in range(500)], a, b, [[""] * 22] * 500, [True] * 500, DriftSettings())
    assert not any(d.verdict is Verdict.DRIFTED for d in found)


def test_a_long_tail_of_values_that_the_reference_has_not_seen_is_no_drift():
    """Of 300 values by Zipf's law, 1,000 rows miss some; each window of the same world has rows of those."""
    shares = np.arange(1.0, 301) ** -1.1
    shares /= shares.sum()
    values = [f"v{i:03}" for i in range(300)]
    drifted = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        before = featured({}, {"shop": rng.choice(values, 1_000, p=shares)})
        edges = edges_of(before)
        after = featured({}, {"shop": rng.choice(values, 500, p=shares)})
        found = drift(summarised(before, edges).cells, summarised(after, edges).cells, edges)[0]
        drifted += found.verdict is Verdict.DRIFTED
    assert drifted == 0


def by_zipf(values, power=1.1):
    shares = np.arange(1.0, values + 1) ** -power
    return shares / shares.sum()


def moved_to_the_tolerance(shares, tilt):
    """Along the tilt, as far as is harmless: D = 0.05."""
    tilt = tilt - (shares * tilt).sum(-1, keepdims=True)
    low, high = np.zeros((len(shares), 1)), 1 / np.abs(tilt).max(-1, keepdims=True)
    for _ in range(40):
        step = (low + high) / 2
        far = effect_terms(shares, shares * (1 + step * tilt)).sum(-1, keepdims=True) > 0.05
        low, high = np.where(far, low, step), np.where(far, step, high)
    return shares * (1 + low * tilt)


def alarms_at_one_percent(a, b):
    m, n = a.sum(1), b.sum(1)
    effect, cells = effect_terms(a * 1.0, b * 1.0).sum(1), effective_cells(a * 1.0, b * 1.0)
    return np.mean(tolerance_test(effect, cells, n * m / (n + m), 0.05, 0.01).p_value <= 0.01)


def commonest_of(rng, m, times, shares, chosen=50):
    """References whose commonest values have cells, counts and true shares: values, *other*, *unseen*,
    *missing*."""
    counts = rng.multinomial(m, shares, size=times)
    order = np.argsort(-counts, axis=1, kind="stable")
    counts, true = np.take_along_axis(counts, order, 1), shares[order]
    none = np.zeros((times, 1))
    found = []
    for part, seen in ((counts, True), (true, counts[:, chosen:] > 0)):
        rest = part[:, chosen:]
        other = np.where(seen, rest, 0).sum(1, keepdims=True)
        found.append(np.hstack([part[:, :chosen], other, rest.sum(1, keepdims=True) - other, none]))
    return found[0].astype(np.int64), found[1]


def test_values_chosen_by_the_reference_alarm_at_most_alpha_at_a_harmless_shift_to_the_others():
    """Their shares in it are too high by having been chosen. Uncorrected it was 3.6 %."""
    rng = np.random.default_rng(4)
    a, true = commonest_of(rng, 1_000, 20_000, by_zipf(300))
    b = rng.multinomial(500, moved_to_the_tolerance(true, np.cumsum(true, 1) - true / 2))
    assert alarms_at_one_percent(*rare_together(a, b)) <= 0.01 + 2.5 * np.sqrt(0.01 / 20_000)


@pytest.mark.parametrize("shares", [by_zipf(300), np.full(100, 0.01)], ids=["a long tail", "all alike"])
def test_values_chosen_by_the_reference_lose_the_rows_that_they_have_by_luck(shares):
    a, true = commonest_of(np.random.default_rng(5), 5_000, 2_000, shares)
    fair, _ = rare_together(a, a)
    lucky = (a[:, :50].sum(1) - 5_000 * true[:, :50].sum(1)).mean()
    left = (fair[:, :50].sum(1) - 5_000 * true[:, :50].sum(1)).mean()
    assert lucky > 35
    assert abs(left) < lucky / 4
    assert (fair.sum(1) == 5_000).all()


def test_a_reference_that_did_not_choose_the_values_keeps_its_counts():
    rows = np.array([[900, 300, 200, 210, 400, 0, 0]])
    assert rare_together(rows, rows)[0].tolist() == rows.tolist()


def test_values_that_are_all_well_known_keep_their_counts():
    rows = np.array([[900, 500, 490, 480, 0, 0, 10]])
    assert rare_together(rows, rows)[0].tolist() == rows.tolist()


def test_a_harmless_loss_of_many_rare_values_to_common_ones_alarms_at_most_alpha():
    """By the number of occupied cells it was 1.9 %: the noise of cells that lost rows is larger."""
    rng = np.random.default_rng(6)
    p = np.tile(by_zipf(50), (20_000, 1))
    q = moved_to_the_tolerance(p[:1], 0.5 - np.cumsum(p[:1], 1))
    a, b = rng.multinomial(50_000, p), rng.multinomial(500, q[0], size=20_000)
    assert alarms_at_one_percent(a, b) <= 0.01 + 2.5 * np.sqrt(0.01 / 20_000)


def test_cells_count_for_more_only_where_the_many_rare_ones_lose():
    shares = by_zipf(20)[None]
    p, tilt = 1e6 * shares, np.cumsum(shares, 1)
    gained, lost = (1e4 * moved_to_the_tolerance(shares, way * tilt) for way in (1, -1))
    assert effective_cells(p, gained).tolist() == [20]
    assert effective_cells(p, lost).tolist() == [22]
    assert effective_cells(p, p).tolist() == [20]
    assert effective_cells(p, 0 * p).tolist() == [20]


def test_a_new_value_is_found_among_the_rare_ones_and_named_as_such():
    rng = np.random.default_rng(1)
    values = [f"v{i:03}" for i in range(100)]
    before = featured({}, {"shop": rng.choice(values, 4_000)})
    edges = edges_of(before)
    after = featured({}, {"shop": ["new"] * 400 + rng.choice(values, 600).tolist()})
    found = drift(summarised(before, edges).cells, summarised(after, edges).cells, edges)[0]
    assert found.verdict is Verdict.DRIFTED
    assert found.moved[0].name == "rare or unseen"
    few = edges_of(featured({}, {"shop": ["a", "b"] * 1_000}))
    before, after = (featured({}, {"shop": ["a", "b"] * 500 + ["new"] * n}) for n in (0, 400))
    found = drift(summarised(before, few).cells, summarised(after, few).cells, few)[0]
    assert found.moved[0].name == "unseen"


def test_the_rows_said_to_be_needed_find_twice_the_tolerance_four_times_in_five():
    settings = DriftSettings(tolerance=0.05, alpha=0.01)
    p = np.full(20, 0.05)
    tilt = np.where(np.arange(20) % 2, 1, -1) * 0.05
    for _ in range(50):
        tilt *= np.sqrt(0.10 / (2 * np.sum(tilt**2 / (2 * p + tilt))))
    needed = compared([5_000] * 20, [50] * 20, settings).needs
    a = GENERATOR.multinomial(100_000, p, size=300)
    b = GENERATOR.multinomial(needed, p + tilt, size=300)
    found = shifts([str(i) for i in range(300)], a, b, [[""] * 20] * 300, [False] * 300, settings)
    power = sum(d.verdict is Verdict.DRIFTED for d in found) / 300
    assert 0.72 <= power <= 0.95


def test_significant_is_drifted_at_any_n_and_too_few_rows_are_insufficient():
    small = compared([10_000] * 10, [200] + [0] * 9)
    few = compared([10_000] * 10, [20] * 10)
    enough = compared([10_000] * 10, [1_000] * 10)
    assert (small.n, small.verdict) == (200, Verdict.DRIFTED)
    assert few.verdict is Verdict.INSUFFICIENT
    assert few.n < few.needs
    assert enough.verdict is Verdict.OK


def test_explanations_can_be_checked():
    drifted = compared([10_000] * 10, [200] + [0] * 9)
    few = compared([10_000] * 10, [20] * 10)
    enough = compared([10_000] * 10, [1_000] * 10)
    tiny = compared([10] * 10, [10_000] * 10)
    assert drifted.explain().startswith(
        f"low end {drifted.low:.2f} exceeds the tolerance 0.05; at this n alarms start"
    )
    assert "c0 10 % → 100 %" in drifted.explain()
    assert f"200, needs n >= {few.needs:,}" in few.explain()
    assert "within the tolerance 0.05" in enough.explain()
    assert "the reference of 100 rows is too small" in tiny.explain()


@pytest.mark.parametrize(
    ("reference", "window", "reason"),
    [
        ([0, 0], [5, 5], "no rows in the reference"),
        ([5, 5], [0, 0], "no rows in the window"),
        ([0, 0], [0, 0], "no rows in the window"),
    ],
)
def test_no_rows_are_insufficient_and_say_so(reference, window, reason):
    found = compared(reference, window)
    assert (found.verdict, found.explain()) == (Verdict.INSUFFICIENT, reason)


def test_a_constant_feature_has_nothing_to_test_and_is_ok_with_enough_rows():
    found = compared([0, 9_000, 0, 0], [0, 9_000, 0, 0])
    assert (found.effect, found.cells, found.alarm_from) == (0.0, 1, None)
    assert found.verdict is Verdict.OK


def test_a_category_or_class_that_one_side_has_not_seen_is_a_cell():
    found = shift_of_counts("class", {"a": 9_000, "b": 1_000}, {"a": 800, "c": 200}, DriftSettings())
    assert found.cells == 3
    assert found.verdict is Verdict.DRIFTED
    assert {c.name for c in found.moved} >= {"b", "c"}


def test_features_on_other_edges_are_left_out():
    a, b = NumericEdges((0.0, 1.0)), NumericEdges((0.0, 2.0))
    held = EdgeSet({"same": a, "changed": a, "gone": a})
    window = EdgeSet({"same": a, "changed": b})
    assert [d.feature for d in drift(Cells.zero(held), Cells.zero(window), held)] == ["same"]


@pytest.mark.parametrize("bad", [{"tolerance": 0}, {"tolerance": 5}, {"alpha": 0}, {"alpha": 0.6}])
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(BadInput):
        DriftSettings(**bad)


# --- many features at once ------------------------------------------------------------------------------


def test_benjamini_hochberg_equals_scipy():
    for seed in range(20):
        p = np.random.default_rng(seed).beta(0.4, 2, 30)
        assert (benjamini_hochberg(p, 0.05) == (stats.false_discovery_control(p) <= 0.05)).all()
    assert benjamini_hochberg([], 0.05).size == 0
    assert benjamini_hochberg([0.001, 0.9], 0.01).tolist() == [True, False]


def test_the_share_counts_the_features_that_moved(moved):
    _, _, edges, reference, window = moved
    found = metric("drift.share", window, Context(reference=reference, edges=edges))
    assert (found.value, found.n) == (pytest.approx(2 / 3), 3)
    assert found.detail["drifted"] == ["shop", "x"]


def test_one_feature_that_drifts_beyond_doubt_in_few_rows_is_not_all_of_them():
    a = {f"f{i}": GENERATOR.normal(size=4_000) for i in range(4)}
    b = {f"f{i}": GENERATOR.normal(5 * (i == 0), 1, size=100) for i in range(4)}
    before, after = featured(a), featured(b)
    edges = edges_of(before)
    found = metric(
        "drift.share", summarised(after, edges), Context(reference=summarised(before, edges), edges=edges)
    )
    assert (found.value, found.interval) == (0.25, (0.25, 1.0))


def test_vectorised_over_features_is_one_at_a_time(moved):
    _, _, edges, reference, window = moved
    together = drift(reference.cells, window.cells, edges)
    alone = [drift(reference.cells, window.cells, edges, features=[f])[0] for f in edges.features]
    assert [d.feature for d in together] == [d.feature for d in alone]
    for a, b in zip(together, alone, strict=True):
        assert (a.effect, a.psi, a.js, a.chi2, a.ks) == pytest.approx((b.effect, b.psi, b.js, b.chi2, b.ks))
        assert (a.p_value, a.low, a.alarm_from) == pytest.approx((b.p_value, b.low, b.alarm_from))
        assert a.verdict is b.verdict


# --- the distribution underneath ------------------------------------------------------------------------


@pytest.mark.parametrize("nc", [0.0, 1.0, 50.0, 900.0])
@pytest.mark.parametrize("df", [1, 5, 22, 60])
def test_the_tail_is_scipys_and_its_inverses_invert_it(df, nc):
    for p in (0.5, 1e-3, 1e-7):
        x = stats.ncx2.isf(p, df, nc) if nc else stats.chi2.isf(p, df)
        assert noncentral.sf(x, df, nc) == pytest.approx(p, rel=1e-6)
        assert noncentral.isf(p, df, nc) == pytest.approx(x, rel=2e-3)
        assert noncentral.noncentrality(x, df, p) == pytest.approx(nc, abs=0.5, rel=1e-3)


@pytest.mark.parametrize("nc", [1_100.0, 1e5, 1e7])
def test_beyond_a_thousand_sankarans_approximation_is_near_enough(nc):
    for p in (0.5, 1e-3, 1e-6):
        x = stats.ncx2.isf(p, 22, nc)
        assert noncentral.sf(x, 22, nc) == pytest.approx(p, rel=3e-3)
        assert noncentral.isf(p, 22, nc) == pytest.approx(x, rel=1e-4)


def test_a_tail_too_small_for_one_minus_the_distribution_keeps_its_digits():
    assert noncentral.sf(1_000.0, 20, 50.0) == pytest.approx(stats.ncx2.sf(1_000.0, 20, 50.0), rel=1e-6)
