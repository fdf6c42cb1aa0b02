"""Redis, from the system's own package, without persistence."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from tests.services import host
from tests.services.base import Service


class Redis(Service):
    name = "redis"
    default_port = 6399
    start_seconds = 30

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @staticmethod
    def answers(url: str) -> bool:
        parts = urlsplit(url)
        try:
            with socket.create_connection(
                (parts.hostname or "127.0.0.1", parts.port or 6379), 2
            ) as connection:
                connection.sendall(b"PING\r\n")
                reply = connection.recv(64)
        except OSError:
            return False
        return reply.startswith((b"+PONG", b"-NOAUTH"))

    @classmethod
    def prepare(cls) -> None:
        host.command("redis-server", "redis-server")

    def launch(self) -> None:
        self.prepare()
        self.folder = host.new_instance(self.name)
        server = host.command("redis-server", "redis-server")
        self._spawn(
            [server, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        )
