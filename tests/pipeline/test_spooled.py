"""What gateways hold is known to whoever judges a window."""

from collections.abc import Iterator

import pytest

from kedge.pipeline.spooled import (
    SILENT,
    Gateway,
    forget,
    gateways,
    silent_holders,
    silent_others,
    spooled_since,
    tell,
)
from kedge.store.base import DocumentStore
from kedge.store.duckdb import open_duckdb

NOW = 1_795_100_000_000


@pytest.fixture
def state() -> Iterator[DocumentStore]:
    store = open_duckdb(":memory:")
    store.setup()
    yield store.state
    store.close()


def test_the_earliest_row_of_any_gateway_counts(state: DocumentStore) -> None:
    assert spooled_since(state, NOW) is None
    tell(state, Gateway("a", None, 0, 0, NOW))
    assert spooled_since(state, NOW) is None
    tell(state, Gateway("b", NOW - 500, 3, 99, NOW - 10))
    tell(state, Gateway("c", NOW - 900, 1, 33, NOW - 10))
    assert spooled_since(state, NOW) == NOW - 900
    tell(state, Gateway("c", None, 0, 0, NOW))
    assert spooled_since(state, NOW) == NOW - 500
    forget(state, "b")
    forget(state, "never was")
    assert spooled_since(state, NOW) is None
    assert [g.name for g in gateways(state)] == ["a", "c"]


def test_labels_alone_hold_no_window(state: DocumentStore) -> None:
    tell(state, Gateway("a", None, 7, 700, NOW))
    assert spooled_since(state, NOW) is None


def test_a_gateway_silent_for_a_quarter_of_an_hour_is_not_waited_for_but_shown(state: DocumentStore) -> None:
    tell(state, Gateway("a", NOW - 900, 3, 99, NOW - SILENT))
    assert spooled_since(state, NOW) == NOW - 900
    assert silent_holders(gateways(state), NOW) == []
    assert spooled_since(state, NOW + 1) is None
    assert [g.name for g in silent_holders(gateways(state), NOW + 1)] == ["a"]


def test_a_gateway_that_held_nothing_and_fell_silent_is_shown_as_it_may_hold_rows_by_now(
    state: DocumentStore,
) -> None:
    tell(state, Gateway("a", None, 0, 0, NOW - SILENT))
    tell(state, Gateway("b", NOW - 900, 3, 99, NOW - SILENT))
    assert silent_others(gateways(state), NOW) == []
    assert [g.name for g in silent_others(gateways(state), NOW + 1)] == ["a"]
    forget(state, "a")
    assert silent_others(gateways(state), NOW + 1) == []
