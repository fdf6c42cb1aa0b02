"""Rows that could not be stored are kept with their reasons, and get in nobody's way."""

from kedge.store.base import RejectedRow, Store
from kedge.windows import DAY
from tests.contract.helpers import settle
from tests.support.rows import START

LONG = 40_000


def test_they_are_read_newest_first_and_kept_once_a_day(store: Store, model: str) -> None:
    first = RejectedRow.of(START, "too many fields", b'{"id": "a"}', model, "a")
    second = RejectedRow.of(START + 5, "too many fields", b'{"id": "b"}', model, "b")
    store.reject([first, second, first])
    store.reject([first._replace(at=START + 9), second._replace(at=START + DAY)])
    store.reject([])
    kept = [row for row in store.rejected(10_000) if row.model == model]
    assert kept == [second._replace(at=START + DAY), second, first]
    assert store.rejected(1) != []


def test_any_bytes_can_be_kept(store: Store, model: str) -> None:
    odd = RejectedRow.of(START, "reason " * 1_000, b"\xff" + b"x" * LONG, model, "half \ud800")
    store.reject([odd])
    assert [row for row in store.rejected(10_000) if row.model == model] == [odd]
    assert len(odd.row) < LONG


def test_they_are_no_logs(store: Store, model: str) -> None:
    before = store.changed({})
    store.reject([RejectedRow.of(START, "no", b"{}", model)])
    settle(store)
    assert model not in store.changed(before.watermark).dirty
