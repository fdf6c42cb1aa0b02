import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from ingest.auth import Keys
from ingest.gateway import gateway_router
from ingest.service import IngestService
from kedge.store.duckdb import DuckStore, open_duckdb
from kedge.windows import DAY, Millis, Window

NOW: Millis = 1_795_100_000_000
ALL = Window(NOW - 400 * DAY, NOW + DAY)


class Client:
    """Posts to an application in this process, as from the address `peer`."""

    def __init__(self, app: FastAPI, peer: str) -> None:
        self._app = app
        self._peer = peer

    def get(self, path: str) -> httpx.Response:
        return self._send("GET", path)

    def post(self, path: str, **request: Any) -> httpx.Response:
        return self._send("POST", path, **request)

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, client=(self._peer, 50_000))
            async with httpx.AsyncClient(transport=transport, base_url="http://kedge") as client:
                return await client.request(method, path, **request)

        return asyncio.run(send())


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
def client(service: IngestService) -> Client:
    return client_of(service)


def client_of(service: IngestService, keys: Keys | None = None, peer: str = "127.0.0.1") -> Client:
    app = FastAPI()
    app.include_router(gateway_router(service, keys or Keys()))
    return Client(app, peer)


def stored_ids(store: DuckStore, model: str = "m") -> set[Any]:
    return {document["event"]["id"] for document in store.examples(model, ALL, 100_000)}
