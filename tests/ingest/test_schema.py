"""Feature names are registered before they are stored, whoever else is registering."""

import threading
from collections.abc import Collection, Sequence
from typing import Any

import pytest

from ingest.schema import MAX_NAMES, SchemaRegistry
from kedge.errors import StoreUnavailable
from kedge.pipeline.schema import Features
from kedge.records import Prediction
from kedge.store.base import Json, Stored
from kedge.store.duckdb import DuckStore
from tests.ingest.conftest import NOW


def prediction(model: str = "m", **parts: Any) -> Prediction:
    return Prediction(id="a", timestamp=NOW, ingested=NOW, model=model, **parts)


class _Counting:
    """A document store that counts what it is asked."""

    def __init__(self, store: DuckStore, *, refuse: bool = False) -> None:
        self._state = store.state
        self._refuse = refuse
        self.requests = 0

    def get(self, name: str) -> Stored | None:
        self.requests += 1
        return self._state.get(name)

    def swap(self, name: str, value: Json, token: Any | None) -> bool:
        self.requests += 1
        return not self._refuse and self._state.swap(name, value, token)

    def get_many(self, names: Collection[str]) -> dict[str, Stored]:
        self.requests += 1
        return self._state.get_many(names)

    def swap_many(self, changes: Sequence[tuple[str, Json, Any | None]]) -> list[bool]:
        self.requests += 1
        return [False] * len(changes) if self._refuse else self._state.swap_many(changes)

    def find(self, prefix: str = "") -> dict[str, Stored]:
        return self._state.find(prefix)

    def delete(self, name: str, token: Any) -> bool:
        return self._state.delete(name, token)


def test_names_are_kept_by_kind_and_sorted(store: DuckStore) -> None:
    registry = SchemaRegistry(store.state)
    assert registry.read("m") == Features()
    registry.register([prediction(num={"b": 1.0, "a": 2.0}), prediction(cat={"b": "x"}, invalid=("c",))])
    registry.register([prediction("other", num={"z": 1.0})])
    assert registry.read("m") == Features(("a", "b"), ("b",), ("c",))
    assert registry.read("other") == Features(("z",))


def test_known_names_cost_no_request(store: DuckStore) -> None:
    state = _Counting(store)
    registry = SchemaRegistry(state)
    registry.register([prediction(num={"a": 1.0})])
    before = state.requests
    assert registry.register([prediction(num={"a": 1.0}), prediction()]) == {}
    assert state.requests == before


def test_registries_of_several_gateways_add_up(store: DuckStore) -> None:
    registries = [SchemaRegistry(store.state) for _ in range(4)]

    def register(i: int) -> None:
        for j in range(10):
            assert registries[i].register([prediction(num={f"f{i}-{j}": 1.0})]) == {}

    threads = [threading.Thread(target=register, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registries[0].read("m").numeric) == 40


def test_rows_beyond_the_limit_are_refused_and_others_are_not(store: DuckStore) -> None:
    registry = SchemaRegistry(store.state)
    full = prediction(num={f"f{i}": 1.0 for i in range(MAX_NAMES)})
    refused = registry.register([full, prediction(cat={"one": "more"}), prediction(cat={"f1": "x"})])
    assert refused == {1: '"one" would be beyond the 2,000 feature names of one model'}
    assert registry.read("m").categorical == ("f1",)


def test_a_state_that_never_stands_still_is_an_outage(store: DuckStore) -> None:
    registry = SchemaRegistry(_Counting(store, refuse=True))
    with pytest.raises(StoreUnavailable):
        registry.register([prediction(num={"a": 1.0})])
