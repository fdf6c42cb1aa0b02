"""The services of one test run: each started once, on first need."""

from __future__ import annotations

import os

from tests.services.base import Service, ServiceError
from tests.services.redis_server import Redis
from tests.services.search import Elasticsearch, OpenSearch

SERVICES: dict[str, type[Service]] = {kind.name: kind for kind in (Elasticsearch, OpenSearch, Redis)}


def variable(name: str) -> str:
    """The environment variable that gives a running service by URL."""
    return f"KEDGE_TEST_{name.upper()}_URL"


class Pool:
    """Start, find and stop services. One that failed once fails at once when it is asked for again.

    With `in_memory` they keep their data in memory, where there is enough of it.
    """

    def __init__(self, *, in_memory: bool = False) -> None:
        self.in_memory = in_memory
        self.expected: set[str] = set()
        self.failures: dict[str, str] = {}
        self._running: dict[str, Service] = {}
        self._ready: dict[str, str] = {}

    @property
    def running(self) -> set[str]:
        """What this pool has started."""
        return set(self._running)

    def expect(self, name: str) -> None:
        """Say that a service will be asked for."""
        self.expected.add(name)

    def launch(self) -> None:
        """Start all that are expected, without waiting for them."""
        for name in sorted(self.expected - self._running.keys() - self.failures.keys()):
            if not os.environ.get(variable(name)):
                self._launch(name)

    def url(self, name: str) -> str:
        """The URL of a healthy service. Raises ServiceError."""
        if name in self.failures:
            raise ServiceError(self.failures[name])
        if name not in self._ready:
            try:
                self._ready[name] = self._found(name)
            except ServiceError as error:
                self.failures[name] = str(error)
                raise
        return self._ready[name]

    def _found(self, name: str) -> str:
        return self._given(name) or self._started(name)

    def _given(self, name: str) -> str | None:
        if (url := os.environ.get(variable(name), "").rstrip("/")) and not SERVICES[name].answers(url):
            raise ServiceError(f"{variable(name)}={url}: no healthy {name} answers there")
        return url or None

    def _launch(self, name: str) -> None:
        # In the thread that asks, which is to live as long as the run: a server that is tied to its parent by
        # the death signal is tied to the thread that launched it.
        service = SERVICES[name](in_memory=self.in_memory)
        try:
            service.launch()
        except ServiceError as error:
            self.failures[name] = str(error)
            service.stop()
        else:
            self._running[name] = service

    def _started(self, name: str) -> str:
        self.launch()  # of those that are expected, so that they start beside this one
        if name not in self._running and name not in self.failures:
            self._launch(name)
        if name in self.failures:
            raise ServiceError(self.failures[name])
        try:
            self._running[name].wait()
        except ServiceError:
            self._running.pop(name).stop()
            raise
        return self._running[name].url

    def stop(self) -> None:
        """End what this pool started, and nothing else."""
        for service in list(self._running.values()):
            service.stop()
        self._running.clear()
        self._ready.clear()
