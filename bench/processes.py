"""Whole kedge processes over a store, with a prefix of their own that is removed again."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from kedge.clock import system_clock
from kedge.store.elastic import ElasticStore, open_elastic
from kedge.store.elastic.client import Client, Refused
from tests.services.base import end_group
from tests.services.host import free_port

START_S = 120.0


class NotReady(RuntimeError):
    """A process ended, or did not become ready in time; the text holds the end of its log."""


class Kedge:
    """Commands of kedge as processes in one folder, all with the same environment."""

    def __init__(self, folder: Path, url: str, prefix: str, **variables: str) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("KEDGE_", "SLACK_"))}
        self.folder, self.prefix = folder, prefix
        self.env = clean | {"KEDGE_STORE": url, "KEDGE_PREFIX": prefix} | variables
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *args: str, **variables: str) -> psutil.Process:
        """A command that stays."""
        log = self.folder / f"{args[0]}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "kedge", *args],
                cwd=self.folder,
                env=self.env | variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._processes.append(process)
        return psutil.Process(process.pid)

    def run(self, *args: str) -> None:
        """A command that ends; raises NotReady where it fails."""
        command = [sys.executable, "-m", "kedge", *args]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        if done.returncode:
            raise NotReady(f"kedge {' '.join(args)}: {(done.stdout + done.stderr)[-2000:]}")

    def gateway(self, *args: str) -> tuple[str, psutil.Process]:
        """A running gateway: its address and its process."""
        address = f"http://127.0.0.1:{(port := free_port())}"
        process = self.start("serve", "--gateway", *args, KEDGE_PORT=str(port))
        self.until(lambda: _answers(f"{address}/healthz"), "serve")
        return address, process

    def until(self, ready: Callable[[], bool], name: str, seconds: float = START_S) -> None:
        """Wait for something; raises NotReady with the end of a process's log."""
        deadline = time.monotonic() + seconds
        while not ready():
            ended = any(p.poll() is not None for p in self._processes)
            if ended or time.monotonic() > deadline:
                log = self.folder / f"{name}.log"
                tail = log.read_text()[-2000:] if log.exists() else "(no log)"
                raise NotReady(f"kedge {name} {'ended' if ended else 'is not ready'}:\n{tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        for process in reversed(self._processes):
            end_group(process.pid, process)
        self._processes.clear()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


@contextmanager
def kedge_on(url: str, **variables: str) -> Iterator[tuple[Kedge, ElasticStore, Client]]:
    """kedge set up under a fresh prefix; ended, and its indices and templates removed, afterwards."""
    prefix = f"bench-{secrets.token_hex(4)}"
    client = Client(url)
    store = open_elastic(url, prefix=prefix, clock=system_clock)
    with tempfile.TemporaryDirectory(prefix="kedge-bench-") as folder:
        kedge = Kedge(Path(folder), url, prefix, **variables)
        try:
            kedge.run("setup")
            yield kedge, store, client
        finally:
            kedge.stop()
            _remove(client, prefix)
            store.close()
            client.close()


def _remove(client: Client, prefix: str) -> None:
    found = client.request("GET", f"/{prefix}-*", params={"filter_path": "*.settings.index.uuid"})
    for index in found:
        client.request("DELETE", f"/{index}")
    for kind in ("_index_template", "_component_template"):
        try:
            client.request("DELETE", f"/{kind}/{prefix}-*")
        except Refused as refused:
            if refused.status != 404:
                raise
