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
    """Start, find and stop services. One that failed once fails at once when it is asked for again."""

    def __init__(self) -> None:
        self.expected: set[str] = set()
        self.failures: dict[str, str] = {}
        self._running: dict[str, Service] = {}
        self._ready: dict[str, str] = {}

    def expect(self, name: str) -> None:
        """Say that a service will be asked for, so that it can start beside the others."""
        self.expected.add(name)

    def url(self, name: str) -> str:
        """The URL of a healthy service. Raises ServiceError."""
        if name in self.failures:
            raise ServiceError(self.failures[name])
        if name not in self._ready:
            try:
                self._ready[name] = self._given(name) or self._started(name)
            except ServiceError as error:
                self.failures[name] = str(error)
                raise
        return self._ready[name]

    def _given(self, name: str) -> str | None:
        if (url := os.environ.get(variable(name), "").rstrip("/")) and not SERVICES[name].answers(url):
            raise ServiceError(f"{variable(name)}={url}: no healthy {name} answers there")
        return url or None

    def _started(self, name: str) -> str:
        # All that are expected launch together, in this thread: a server that is tied to its parent by the
        # death signal is tied to the thread that launched it.
        for other in sorted({name, *self.expected} - self._running.keys() - self.failures.keys()):
            if other == name or not os.environ.get(variable(other)):
                service = SERVICES[other]()
                try:
                    service.launch()
                except ServiceError as error:
                    self.failures[other] = str(error)
                else:
                    self._running[other] = service
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
        for service in self._running.values():
            service.stop()
        self._running.clear()
        self._ready.clear()
