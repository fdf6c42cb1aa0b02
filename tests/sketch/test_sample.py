"""A sample of rows in pieces: of the wanted size, seeded, even over the rows, and true to their values."""

import numpy as np

from kedge.record_table import PredictionTable, Texts
from kedge.sketch import CategoricalEdges, EdgeSet, NumericEdges
from kedge.sketch.columns import Columns
from kedge.sketch.sample import Sample

EDGES = EdgeSet(
    {
        "i": NumericEdges((0.0, 1.0)),
        "c": CategoricalEdges(("a", "b"), ("rare",)),
        "gone": NumericEdges((0.0, 1.0)),
    }
)


def piece(first: int, rows: int) -> Columns:
    at = np.arange(first, first + rows)
    return Columns.of_table(
        PredictionTable(
            model="m",
            ingested=0,
            ids=[""] * rows,
            timestamps=np.zeros(rows, np.int64),
            num={"i": at.astype(float), "stranger": at.astype(float)},
            cat={"c": Texts((at % 5 - 1).astype(np.int32), ["a", "b", "rare", "new"])},
        )
    )


def drawn(size: int, pieces: list[Columns], seed: int = 0) -> np.ndarray:
    sample = Sample(EDGES, size, seed)
    for each in pieces:
        sample.add(each)
    assert sample.rows == sum(each.count for each in pieces)
    return sample.matrix


def test_a_sample_has_its_size_and_each_row_once_with_its_values() -> None:
    pieces = [piece(first, 700) for first in range(0, 70_000, 700)]
    matrix = drawn(5_000, pieces)
    assert matrix.shape == (5_000, 3)
    assert len(np.unique(matrix[:, 0])) == 5_000
    # Its cell of a, b, other and unseen; none is missing.
    expected = np.array([np.nan, 0, 1, 2, 3])[matrix[:, 0].astype(int) % 5]
    np.testing.assert_array_equal(matrix[:, 1], expected.astype(np.float32))
    assert np.isnan(matrix[:, 2]).all()
    tenths = np.bincount((matrix[:, 0] // 7_000).astype(int))
    assert (np.abs(tenths - 500) < 5 * np.sqrt(500)).all()


def test_the_same_rows_and_seed_give_the_same_sample_and_other_seeds_others() -> None:
    pieces = [piece(0, 3_000), piece(3_000, 3_000)]
    assert np.array_equal(drawn(100, pieces), drawn(100, pieces), equal_nan=True)
    assert not np.array_equal(drawn(100, pieces), drawn(100, pieces, seed=1), equal_nan=True)


def test_of_fewer_rows_than_wanted_all_are_kept() -> None:
    assert sorted(drawn(100, [piece(0, 30), piece(30, 20)])[:, 0].tolist()) == list(range(50))
