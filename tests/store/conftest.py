"""A set-up store on each of the two servers, under a prefix of its own that is removed at the end."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from kedge.store.elastic import ElasticStore, open_elastic
from kedge.store.elastic.client import Client, Refused
from tests.support.servers import AT_ONCE


@pytest.fixture(scope="module", params=["elasticsearch", "opensearch"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    """To look behind the store."""
    opened = Client(url)
    yield opened
    opened.close()


@pytest.fixture
def bare_prefix(client: Client) -> Iterator[str]:
    """A prefix that nothing has been set up for."""
    name = f"kedge-bare-{uuid4().hex[:10]}"
    yield name
    remove(client, name)


@pytest.fixture(scope="module")
def prefix(client: Client) -> Iterator[str]:
    name = f"kedge-elastic-{uuid4().hex[:10]}"
    yield name
    remove(client, name)


@pytest.fixture(scope="module")
def store(url: str, prefix: str) -> Iterator[ElasticStore]:
    opened = open_elastic(url, prefix=prefix, clock=lambda: 0)
    assert all(check.ok for check in opened.setup())
    yield opened
    opened.close()


def indices(client: Client, prefix: str) -> set[str]:
    listing = client.request("GET", f"/{prefix}-*", params={"filter_path": "*.settings.index.uuid"})
    return set(listing)


def remove(client: Client, prefix: str) -> None:
    names = sorted(indices(client, prefix))
    for start in range(0, len(names), AT_ONCE):
        client.request("DELETE", f"/{','.join(names[start : start + AT_ONCE])}")
    for kind in ("_index_template", "_component_template"):
        try:
            client.request("DELETE", f"/{kind}/{prefix}-*")
        except Refused as refused:
            if refused.status != 404:
                raise
