"""What gateways count of rows as they arrive, kept in every store: added up, and once written neither lost
nor doubled."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from ingest.ledger import MOST_IDS, Ledger
from ingest.service import IngestService
from kedge.errors import StoreUnavailable
from kedge.pipeline.arrived import arrivals_of, arrived_in, ids_in
from kedge.records import Prediction
from kedge.store.base import DocumentStore, Store
from kedge.store.flaws import Flaw, Problem
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, floor
from tests.contract.helpers import settle
from tests.support.rows import SPAN, START, random_rows, table_of

NOW = START + 12 * HOUR


def gateway(store: Store) -> IngestService:
    return IngestService(store, store.state, lambda: NOW)


def rows_of(model: str, count: int, seed: int = 41) -> list[Prediction]:
    rows = random_rows(seed, count, model=model)
    return [msgspec.structs.replace(row, ingested=max(row.timestamp, NOW)) for row in rows]


def ahead(row: Prediction, by: Millis) -> Prediction:
    return msgspec.structs.replace(row, timestamp=NOW + by, ingested=NOW)


def counted(store: Store, model: str, window: Window = SPAN) -> tuple[int, int]:
    found = arrived_in(arrivals_of(store.state, model), window)
    return found.duplicates, found.ahead


def test_rows_sent_again_count_at_the_minute_of_their_event_time(store: Store, model: str) -> None:
    rows, service = rows_of(model, 40), gateway(store)
    service.store_predictions(rows)
    assert counted(store, model) == (0, 0)
    service.store_predictions(rows[:15])
    service.store_predictions([*rows[:5], rows[39], rows[39]])
    service.finish()
    assert counted(store, model) == (22, 0)
    again = [*rows[:15], *rows[:5], rows[39], rows[39]]
    for row in (rows[0], rows[14], rows[39]):
        minute = floor(row.timestamp, MINUTE)
        window = Window(minute, minute + MINUTE)
        assert counted(store, model, window) == (sum(r.timestamp in window for r in again), 0)
    assert counted(store, f"{model} another") == (0, 0)


def test_a_stored_row_that_is_over_a_minute_ahead_counts_once(store: Store, model: str) -> None:
    plain = rows_of(model, 4)
    late = [ahead(plain[0], MINUTE + 1), ahead(plain[1], MINUTE), ahead(plain[2], 3 * DAY), plain[3]]
    service = gateway(store)
    for _ in range(2):
        service.store_predictions(late)
    service.finish()
    assert counted(store, model, Window(START, NOW + 5 * DAY)) == (4, 2)
    assert counted(store, model, Window(NOW, NOW + DAY)) == (2, 1)


def test_columns_count_as_rows_do(store: Store, model: str) -> None:
    rows = rows_of(model, 30)
    rows[3] = msgspec.structs.replace(rows[3], timestamp=NOW + HOUR)
    rows = [msgspec.structs.replace(row, ingested=NOW, label=None) for row in rows]
    service = gateway(store)
    service.store_table(table_of(rows))
    service.store_table(table_of(rows[:12]))
    service.finish()
    assert counted(store, model, Window(START, NOW + DAY)) == (12, 1)


def test_gateways_add_up_and_what_a_killed_one_wrote_is_neither_lost_nor_doubled(
    store: Store, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.ledger.EVERY_S", 600.0)
    rows = rows_of(model, 20)
    one, other = gateway(store), gateway(store)
    one.store_predictions(rows)
    one.store_predictions(rows[:6])  # written at once: it is its first
    other.store_predictions(rows[:7])
    assert counted(store, model) == (13, 0)
    one.store_predictions(rows[:2])  # counted, and not written
    del one
    after = gateway(store)
    after.store_predictions(rows[:3])
    other.store_predictions(rows[:4])
    other.finish()
    other.finish()
    after.finish()
    assert counted(store, model) == (20, 0)


def shown(store: Store, model: str, problem: Problem, window: Window) -> list[str]:
    """The ids of the rows to look at."""
    settle(store)
    ids = tuple(ids_in(store.state, model, window, problem))
    return sorted(row["event"]["id"] for row in store.examples(model, window, 20, Flaw("", problem, ids=ids)))


def test_some_of_the_rows_can_be_looked_at_also_where_models_share_an_id(store: Store, model: str) -> None:
    rows, service = rows_of(model, 40), gateway(store)
    rows[7] = ahead(rows[7], HOUR + MINUTE)
    rival = [msgspec.structs.replace(row, model=f"{model} rival") for row in rows]
    for each in (rows, rows[:3], rival, rival[:2]):
        service.store_predictions(each)
    service.finish()
    every = Window(START, NOW + DAY)
    assert shown(store, model, Problem.DUPLICATE, every) == sorted(row.id for row in rows[:3])
    assert shown(store, f"{model} rival", Problem.DUPLICATE, every) == sorted(row.id for row in rows[:2])
    assert shown(store, model, Problem.AHEAD, every) == [rows[7].id]
    assert shown(store, model, Problem.AHEAD, Window(NOW + HOUR, NOW + 2 * HOUR)) == [rows[7].id]
    assert shown(store, model, Problem.AHEAD, Window(NOW + HOUR, NOW + HOUR + MINUTE)) == []
    found = store.examples(f"{model} rival", every, 20, Flaw("", Problem.DUPLICATE, ids=(rows[0].id,)))
    assert [row["model"]["name"] for row in found] == [f"{model} rival"]


def test_of_many_rows_of_a_few_minutes_the_last_are_kept(store: Store, model: str) -> None:
    rows, service = rows_of(model, 40), gateway(store)
    rows = [ahead(row, 2 * HOUR + i) for i, row in enumerate(rows)]
    service.store_table(table_of([msgspec.structs.replace(row, label=None) for row in rows]))
    service.store_predictions(rows[:9])
    service.store_predictions(rows[:2])
    service.finish()
    every = Window(START, NOW + DAY)
    assert shown(store, model, Problem.AHEAD, every) == sorted(row.id for row in rows[-MOST_IDS:])
    assert set(shown(store, model, Problem.DUPLICATE, every)) == {rows[0].id, rows[1].id}


class Deaf:
    """A state whose answers to writes are lost, after the write or before it."""

    def __init__(self, state: DocumentStore, *, after: bool) -> None:
        self._state, self._after = state, after
        self.deaf = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def swap_many(self, changes: Sequence[Any]) -> list[bool]:
        if self.deaf and not self._after:
            raise StoreUnavailable("cut off")
        done = self._state.swap_many(changes)
        if self.deaf:
            raise StoreUnavailable("no answer")
        return done


@pytest.mark.parametrize("after", [True, False], ids=["after the write", "before it"])
def test_a_write_whose_answer_is_lost_is_made_again_and_doubles_nothing(
    store: Store, model: str, after: bool
) -> None:
    state = Deaf(store.state, after=after)
    ledger = Ledger(state, lambda: NOW)  # type: ignore[arg-type]
    ledger.count(model, [(START, "a"), (START + MINUTE, "b")], [(START, "c")])
    ledger.write(now=True)
    assert counted(store, model) == ((2, 1) if after else (0, 0))
    state.deaf = False
    ledger.count(model, [(START, "a")], [])
    ledger.write(now=True)
    assert counted(store, model) == (3, 1)
    ledger.write(now=True)
    assert counted(store, model) == (3, 1)
