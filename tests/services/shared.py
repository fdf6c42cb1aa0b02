"""One pool for all the processes of a run: one of them starts the services, the others ask it for them."""

from __future__ import annotations

import secrets
import threading
from multiprocessing.connection import Client, Connection, Listener

from tests.services.base import ServiceError
from tests.services.pool import Pool

Asked = tuple[str | None, set[str]]
"""The service whose URL is wanted, and all that will be: those start beside it. None: start them, no more."""
Answer = tuple[bool, str]
"""Whether there is such a service, and its URL or why not."""


class PoolServer:
    """Answers for a pool, one question after the other.

    In one thread, which lives as long as this process: the servers are tied by the death signal to the thread
    that launched them.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.key = secrets.token_bytes(16)
        self._listener = Listener(family="AF_UNIX", backlog=16, authkey=self.key)
        threading.Thread(target=self._serve, name="services", daemon=True).start()

    @property
    def address(self) -> str:
        return str(self._listener.address)

    def _serve(self) -> None:
        while True:
            try:
                with self._listener.accept() as connection:
                    self._answer(connection)
            except (OSError, EOFError):  # whoever asked has ended
                continue

    def _answer(self, connection: Connection) -> None:
        wanted, expected = connection.recv()
        for name in expected:
            self._pool.expect(name)
        self._pool.launch()
        if wanted is None:
            connection.send((True, ""))
            return
        try:
            connection.send((True, self._pool.url(wanted)))
        except ServiceError as error:
            connection.send((False, str(error)))


class AskedPool(Pool):
    """A pool whose services another process starts, and stops."""

    def __init__(self, address: str, key: bytes) -> None:
        super().__init__()
        self._address = address
        self._key = key

    def launch(self) -> None:
        if self.expected:
            self._ask(None)

    def _found(self, name: str) -> str:
        there, text = self._ask(name)
        if not there:
            raise ServiceError(text)
        return text

    def _ask(self, name: str | None) -> Answer:
        asked: Asked = (name, self.expected)
        with Client(self._address, family="AF_UNIX", authkey=self._key) as connection:
            connection.send(asked)
            there, text = connection.recv()
            return bool(there), str(text)
