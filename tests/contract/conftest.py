"""Every test here runs on every store.

One store serves the whole run, since a server takes seconds to be set up; tests stay apart by the names of
their models and documents.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from kedge.store.base import Store
from kedge.store.duckdb import open_duckdb
from tests.conftest import service_url
from tests.support.rows import START
from tests.support.servers import remove_all

STORES = ("memory", "file", "elasticsearch", "opensearch")
_numbers = count(1)


@pytest.fixture(scope="session")
def stores(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Store]]:
    """Each of the stores, set up when it is first asked for."""
    with ExitStack() as opened:

        @cache
        def one(where: str) -> Store:
            return opened.enter_context(opened_store(where, pytestconfig, tmp_path_factory))

        yield one


@pytest.fixture(scope="session", params=STORES)
def store(request: pytest.FixtureRequest, stores: Callable[[str], Store]) -> Store:
    """A store that has been set up. It stays open while another has its turn: files may alternate."""
    return stores(request.param)


@contextmanager
def opened_store(
    where: str, config: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    if where in ("memory", "file"):
        folder: Path = tmp_path_factory.mktemp("duckdb")
        duck = open_duckdb(":memory:" if where == "memory" else str(folder / "kedge.duckdb"))
        duck.setup()
        yield duck
        duck.close()
        return
    from kedge.store.elastic import open_elastic

    url = service_url(config, where)
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
