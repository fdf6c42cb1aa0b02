"""Every test here runs on every store.

One store serves the whole run, since a server takes seconds to be set up; tests stay apart by the names of
their models and documents.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from kedge.store.base import Store
from kedge.store.duckdb import open_duckdb
from tests.support.rows import START

STORES = ("memory", "file", "elasticsearch", "opensearch")
_numbers = count(1)


@pytest.fixture(scope="session", params=STORES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that has been set up."""
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
        _delete(url, prefix)


@pytest.fixture
def model() -> str:
    """A model that no other test uses."""
    return f"model {next(_numbers)}"


def _delete(url: str, prefix: str) -> None:
    """Remove every index and template of a prefix. Wildcards may be forbidden for deletion, so one by one."""
    with httpx.Client(base_url=url, timeout=60) as client:
        for listing, place in (
            (f"/_cat/indices/{prefix}*?format=json&h=index&expand_wildcards=all", ""),
            (f"/_index_template/{prefix}*", "_index_template/"),
            (f"/_component_template/{prefix}*", "_component_template/"),
        ):
            found = client.get(listing)
            if found.status_code != 200:
                continue
            content = found.json()
            if isinstance(content, list):
                names = [entry["index"] for entry in content]
            else:
                names = [entry["name"] for entries in content.values() for entry in entries]
            at_once = 1 if place else 50  # OpenSearch takes lists of indices, not of templates
            for start in range(0, len(names), at_once):
                client.delete(f"/{place}{','.join(names[start : start + at_once])}").raise_for_status()
