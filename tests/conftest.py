"""Fixtures that give real services by URL, and the closing word on those that could not be had.

Several processes may share the tests of a run (`pytest -n 2`, of pytest-xdist): one deals them out, and
starts the services that the others ask it for.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.services import SERVICES, AskedPool, Pool, PoolServer, ServiceError

POOL = pytest.StashKey[Pool]()
SERVER = pytest.StashKey[PoolServer]()


def pytest_configure(config: pytest.Config) -> None:
    given: dict[str, Any] | None = getattr(config, "workerinput", None)
    if given is None:
        config.stash[POOL] = Pool(in_memory=True)
    else:
        config.stash[POOL] = AskedPool(given["services"], given["services_key"])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process that is about to start, of the kind that runs tests, whom to ask."""
    stash = node.config.stash
    if SERVER not in stash:
        stash[SERVER] = PoolServer(stash[POOL])
    node.workerinput |= {"services": stash[SERVER].address, "services_key": stash[SERVER].key}


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[POOL].stop()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the services that this run will ask for, by fixture or by parameter, beside its first tests."""
    pool = session.config.stash[POOL]
    for item in session.items:
        if isinstance(item, pytest.Function):
            callspec = getattr(item, "callspec", None)
            values = (
                {value for value in callspec.params.values() if isinstance(value, str)} if callspec else set()
            )
            for name in SERVICES:
                if f"{name}_url" in item.fixturenames or name in values:
                    pool.expect(name)
    if not session.config.option.collectonly:
        pool.launch()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Name what was skipped for want of a service: a green run must not hide that it tried little."""
    for name, reason in sorted(config.stash[POOL].failures.items()):
        first, *rest = reason.splitlines()
        terminalreporter.section(f"{name} could not be used; its tests were not run", sep="-", yellow=True)
        terminalreporter.write_line("\n".join([first, *rest]))


def service_url(config: pytest.Config, name: str) -> str:
    """The URL of a running service; without one the test fails under CI=true and is skipped elsewhere."""
    try:
        return config.stash[POOL].url(name)
    except ServiceError as error:
        first = str(error).splitlines()[0]
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"{name} could not start: {error}", pytrace=False)
        pytest.skip(f"{name} could not start: {first}")


@pytest.fixture(scope="session")
def elasticsearch_url(pytestconfig: pytest.Config) -> str:
    """A real Elasticsearch 8.19, started on first use, or the one of KEDGE_TEST_ELASTICSEARCH_URL."""
    return service_url(pytestconfig, "elasticsearch")


@pytest.fixture(scope="session")
def opensearch_url(pytestconfig: pytest.Config) -> str:
    """A real OpenSearch 3.4, started on first use, or the one of KEDGE_TEST_OPENSEARCH_URL."""
    return service_url(pytestconfig, "opensearch")


@pytest.fixture(scope="session")
def redis_url(pytestconfig: pytest.Config) -> str:
    """A real Redis, started on first use, or the one of KEDGE_TEST_REDIS_URL."""
    return service_url(pytestconfig, "redis")
