"""The points of a series that a worker keeps: the newest of each group, until what they are of changes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kedge.pipeline.points import PointMemory, Ring
from kedge.windows import DAY, HOUR

EU, US = (("region", "eu"),), (("region", "us"),)


def hours(*numbers: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(numbers, np.int64) * HOUR


def test_what_was_put_is_known_until_a_newer_one_takes_its_place() -> None:
    ring = Ring(HOUR, 3, 1)
    for hour in range(4):
        ring.put(hour * HOUR, {EU: ((10.0 + hour, hour),)})
    assert ring.unknown(hours(0, 1, 2, 3)).tolist() == [0]
    assert ring.rows(EU, hours(1, 2, 3)).tolist() == [[11.0, 1], [12.0, 2], [13.0, 3]]


def test_a_group_without_rows_in_a_window_is_not_there_even_if_it_was() -> None:
    ring = Ring(HOUR, 3, 1)
    ring.put(0, {EU: ((1.0, 5),), US: ((2.0, 5),)})
    ring.put(3 * HOUR, {EU: ((3.0, 5),)})
    assert ring.rows(US, hours(3))[0, 1] == -1
    assert ring.rows((("region", "new"),), hours(3))[0, 1] == -1


@given(st.permutations(range(6)), st.permutations([EU, US]))
def test_neither_the_order_of_windows_nor_that_of_groups_matters(
    order: list[int], groups: list[tuple]
) -> None:  # type: ignore[type-arg]
    ring = Ring(HOUR, 6, 2)
    for hour in order:
        ring.put(hour * HOUR, {g: ((float(hour), 1), (len(g[0][1]), hour)) for g in groups})
    assert ring.rows(US, hours(*range(6)))[:, 0].tolist() == list(range(6))
    assert ring.rows(EU, hours(*range(6)))[:, 3].tolist() == list(range(6))


def test_windows_that_overlap_what_was_written_are_forgotten_and_no_others() -> None:
    memory = PointMemory()
    ring = memory.ring("fraud", "rule", 2 * HOUR, 24, 1)
    other = memory.ring("other", "rule", 2 * HOUR, 24, 1)
    for held in (ring, other):
        for start in range(0, 24, 2):
            held.put(start * HOUR, {(): ((1.0, 1),)})
    memory.changed([("fraud", HOUR, 5 * HOUR)])
    assert ring.unknown(hours(*range(0, 24, 2))).tolist() == [4 * HOUR]
    assert not len(other.unknown(hours(*range(0, 24, 2))))
    memory.changed([("fraud", DAY, 0)])
    assert len(ring.unknown(hours(*range(0, 24, 2)))) == 12


def test_a_model_that_is_dropped_begins_anew_and_what_it_follows_from_tells_series_apart() -> None:
    memory = PointMemory()
    memory.ring("fraud", "rule", HOUR, 24, 1).put(0, {(): ((1.0, 1),)})
    assert not len(memory.ring("fraud", "rule", HOUR, 24, 1).unknown(hours(0)))
    assert len(memory.ring("fraud", "edited", HOUR, 24, 1).unknown(hours(0)))
    memory.drop("fraud")
    assert len(memory.ring("fraud", "rule", HOUR, 24, 1).unknown(hours(0)))
