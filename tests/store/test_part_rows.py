"""A part that was read is kept as it is stored until somebody looks at it."""

import pickle
import zlib

import pytest
from hypothesis import given, settings

from kedge.errors import KedgeError
from kedge.pipeline.sums import Shelf
from kedge.records import Prediction
from kedge.sketch import Core, PartName, pack
from kedge.store.base import PartRow, SummaryKey
from kedge.windows import HOUR
from tests.sketch.strategies import EDGES, rows
from tests.support.oracle import summary_of

KEY = SummaryKey("fraud", (), HOUR, 0, PartName.CORE)


@settings(max_examples=25, deadline=None)
@given(rows)
def test_a_packed_row_is_the_row_of_its_part_here_and_in_another_process(
    held: list[Prediction],
) -> None:
    core = summary_of(held, EDGES).core
    assert core is not None
    data = pack(core)
    packed, plain = PartRow(KEY, 7, data), PartRow(KEY, 7, core)
    handed = pickle.loads(pickle.dumps(packed))
    assert packed == plain == handed
    assert packed.part == core
    assert pickle.loads(pickle.dumps(packed)) == plain, "also once it was looked at"
    assert packed != PartRow(KEY, 8, data)
    assert packed != PartRow(KEY, 7, core + Core(rows=1))


def test_a_row_is_handed_on_as_it_was_stored() -> None:
    data = pack(Core(rows=3))
    assert data in pickle.dumps(PartRow(KEY, 1, data))


def test_a_row_of_a_later_kedge_is_refused_where_it_is_read_and_not_where_it_is_looked_at() -> None:
    with pytest.raises(KedgeError, match="upgrade kedge"):
        PartRow(KEY, 1, b"\xff" + pack(Core())[1:])


def test_what_is_in_no_sum_is_never_unpacked() -> None:
    region = KEY._replace(group=(("segment.region", "eu"),))
    broken = pack(Core())[:2]
    shelf = Shelf(0, HOUR, HOUR)
    shelf.put(PartRow(KEY, 1, pack(Core(rows=3))))
    shelf.put(PartRow(region, 1, broken))
    assert shelf.sums(0, HOUR, ()) == {(): (Core(rows=3), 1)}
    assert shelf.within(0, HOUR, ()) == {0: {(): Core(rows=3)}}
    with pytest.raises(zlib.error):
        shelf.sums(0, HOUR, ("segment.region",))
