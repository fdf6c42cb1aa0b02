from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from ingest.auth import Keys
from ingest.gateway import gateway_router
from ingest.service import IngestService
from kedge.store.duckdb import DuckStore, open_duckdb
from kedge.windows import DAY, Millis, Window

NOW: Millis = 1_795_100_000_000
ALL = Window(NOW - 400 * DAY, NOW + DAY)
Post = Callable[..., httpx.Response]


@pytest.fixture
def store() -> Iterator[DuckStore]:
    store = open_duckdb(":memory:")
    store.setup()
    yield store
    store.close()


@pytest.fixture
def service(store: DuckStore) -> IngestService:
    return IngestService(store, store.state, lambda: NOW)


@pytest.fixture
def client(service: IngestService) -> Iterator[TestClient]:
    with client_of(service) as client:
        yield client


def client_of(service: IngestService, keys: Keys | None = None, peer: str = "127.0.0.1") -> TestClient:
    app = FastAPI()
    app.include_router(gateway_router(service, keys or Keys()))
    return TestClient(app, client=(peer, 50_000))


def stored_ids(store: DuckStore, model: str = "m") -> set[Any]:
    return {document["event"]["id"] for document in store.examples(model, ALL, 100_000)}
