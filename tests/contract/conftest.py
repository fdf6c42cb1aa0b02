"""Every test here runs on every store.

One store serves the whole run, since a server takes seconds to be set up; tests stay apart by the names of
their models and documents.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from kedge.store.base import Store
from kedge.store.duckdb import open_duckdb
from tests.support.rows import START
from tests.support.servers import remove_all

STORES = ("memory", "file", "elasticsearch", "opensearch")
_numbers = count(1)


@pytest.fixture(scope="session", params=STORES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that has been set up."""
    yield from opened_store(request, tmp_path_factory)


def opened_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    where: str = request.param
    if where in ("memory", "file"):
        folder: Path = tmp_path_factory.mktemp("duckdb")
        opened = open_duckdb(":memory:" if where == "memory" else str(folder / "kedge.duckdb"))
        opened.setup()
        yield opened
        opened.close()
        return
    from kedge.store.elastic import open_elastic

    url = request.getfixturevalue(f"{where}_url")
    prefix = f"kedge-contract-{uuid4().hex[:10]}"
    elastic = open_elastic(url, prefix=prefix, clock=lambda: START)
    try:
        elastic.setup()
        yield elastic
    finally:
        elastic.close()
        remove_all(url, prefix)


@pytest.fixture
def model() -> str:
    """A model that no other test uses."""
    return f"model {next(_numbers)}"
