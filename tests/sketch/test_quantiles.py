"""Quantiles of columns and of counted values are numpy's own, to the last bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.sketch import quantiles
from kedge.sketch.quantiles import QUANTILES, of_column, of_counts

SHAPES = {
    "normal": lambda rng, n: rng.normal(3, 2, n),
    "heavy tails": lambda rng, n: rng.standard_cauchy(n),
    "one outlier": lambda rng, n: np.append(rng.normal(0, 1, n - 1), 3e38),
    "both ends of float32": lambda rng, n: rng.choice([-3.4e38, 0.0, 3.4e38], n),
    "few values": lambda rng, n: rng.integers(0, 4, n),
    "nearly constant": lambda rng, n: np.where(rng.random(n) < 0.999, 7.0, rng.normal(0, 1, n)),
    "constant": lambda rng, n: np.full(n, 1.5),
    "in order": lambda rng, n: np.arange(n) / 7,
    "tiny": lambda rng, n: rng.normal(0, 1e-40, n),
    "large offset": lambda rng, n: 1e6 + rng.random(n),
}


def expected(column):
    return np.quantile(column.astype(np.float64), QUANTILES, method="linear")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [1, 2, 999, 20_000, 150_001])
def test_quantiles_of_a_column_are_those_of_numpy(shape, n):
    column = SHAPES[shape](np.random.default_rng(n), n).astype(np.float32)

    assert of_column(column).tolist() == expected(column).tolist()


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=300), st.data()
)
def test_quantiles_of_any_column_are_those_of_numpy_where_only_bins_are_sorted(values, data):
    column = np.array(values, np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(quantiles, "_SORTED_WHOLE", 0)
        patched.setattr(quantiles, "_BINS", data.draw(st.sampled_from([2, 7, 64])))

        assert of_column(column).tolist() == expected(column).tolist()


def test_quantiles_of_counted_values_are_those_of_the_column_they_count():
    column = np.random.default_rng(5).integers(0, 40, 5_001).astype(np.float32)
    values, counts = np.unique(column, return_counts=True)

    assert of_counts(values.astype(np.float64), counts).tolist() == expected(column).tolist()


def test_there_are_no_quantiles_of_nothing():
    assert of_column(np.zeros(0, np.float32)).size == 0
    assert of_counts(np.zeros(0), np.zeros(0, np.int64)).size == 0
