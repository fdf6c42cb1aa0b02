"""Fixed scales: where a value falls, and how near a quantile read from cells is to that of the rows."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.sketch import DELAY, LATENCY, SCORE_CELLS, score_cell


@pytest.mark.parametrize("q", [0.0, 0.1, 0.5, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("n", [1, 2, 20, 100, 10_000])
def test_latency_quantiles_are_within_two_and_a_half_percent_of_the_rows(n, q):
    values = np.random.default_rng(n).lognormal(4, 1.5, n).astype(np.float32)
    assert LATENCY.quantile(LATENCY.count(values), q) == pytest.approx(np.quantile(values, q), rel=0.025)


@given(st.lists(st.floats(0.125, 500_000, width=32), min_size=1, max_size=40), st.floats(0, 1))
def test_so_they_are_for_any_values_on_the_scale(values, q):
    assert LATENCY.quantile(LATENCY.count(values), q) == pytest.approx(np.quantile(values, q), rel=0.025)


def test_the_scales_reach_as_far_as_they_say():
    assert LATENCY.edges[0] == np.float32(0.1)
    assert LATENCY.edges[-1] > 10 * 60_000
    assert DELAY.edges[0] == 1_000
    assert DELAY.edges[-1] / 86_400_000 > 400


def test_cells_are_half_open():
    counts = LATENCY.count(
        [LATENCY.edges[0], LATENCY.edges[1], np.nextafter(LATENCY.edges[1], np.float32(0))]
    )
    assert counts[:3].tolist() == [0, 2, 1]


def test_values_off_the_scale_are_counted_and_read_as_its_ends():
    counts = LATENCY.count([0.0, 1e9])
    assert (counts[0], counts[-1]) == (1, 1)
    assert LATENCY.quantile(counts, 0) == pytest.approx(0.1)
    assert LATENCY.quantile(counts, 1) == pytest.approx(LATENCY.edges[-1])


def test_a_quantile_of_nothing_is_no_number():
    assert math.isnan(LATENCY.quantile(LATENCY.zero(), 0.5))


@pytest.mark.parametrize(("p", "cell"), [(0.0, 0), (0.0099, 0), (0.01, 0), (0.5, 50), (0.999, 99), (1.0, 99)])
def test_scores_fall_into_hundredths(p, cell):
    # float32(0.01) is just under 0.01: every store rounds first, so all agree.
    assert score_cell(p) == cell


@given(st.floats(0, 1))
def test_every_score_has_a_cell_that_holds_it(p):
    cell = score_cell(p)
    assert 0 <= cell < SCORE_CELLS
    assert cell / 100 - 1e-7 <= p <= (cell + 1) / 100 + 1e-7
