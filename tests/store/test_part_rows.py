"""A part that was read is kept as it is stored until somebody looks at it."""

import pickle

import pytest
from hypothesis import given, settings

from kedge.errors import KedgeError
from kedge.sketch import Core, PartName, Summary, pack
from kedge.store.base import PartRow, SummaryKey
from kedge.windows import HOUR
from tests.sketch.strategies import rows

KEY = SummaryKey("fraud", (), HOUR, 0, PartName.CORE)


@settings(max_examples=25, deadline=None)
@given(rows)
def test_a_packed_row_is_the_row_of_its_part_here_and_in_another_process(summary: Summary) -> None:
    assert summary.core is not None
    data = pack(summary.core)
    packed, plain = PartRow(KEY, 7, data), PartRow(KEY, 7, summary.core)
    handed = pickle.loads(pickle.dumps(packed))
    assert packed == plain == handed
    assert packed.part == summary.core
    assert pickle.loads(pickle.dumps(packed)) == plain, "also once it was looked at"
    assert packed != PartRow(KEY, 8, data)
    assert packed != PartRow(KEY, 7, summary.core + Core(rows=1))


def test_a_row_is_handed_on_as_it_was_stored() -> None:
    data = pack(Core(rows=3))
    assert data in pickle.dumps(PartRow(KEY, 1, data))


def test_a_row_of_a_later_kedge_is_refused_where_it_is_read_and_not_where_it_is_looked_at() -> None:
    with pytest.raises(KedgeError, match="upgrade kedge"):
        PartRow(KEY, 1, b"\xff" + pack(Core())[1:])
