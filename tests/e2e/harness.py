"""kedge as it is deployed: its processes, a store, Redis, and a stand-in Slack that they post to.

Every process is started with its own log, and ended by its id. What a test waits for is polled with a
deadline; the logs of a stack are shown when its test fails.
"""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from kedge.clock import Clock, rehearsal_clock
from kedge.config import Settings, load_settings
from kedge.pipeline.compose import open_store
from kedge.store.base import Json, Store
from kedge.windows import MINUTE, Millis, floor
from tests.support.servers import remove_all
from tests.support.slack_server import TOKEN, SlackServer

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
"""A process on a busy machine takes its time to import what it needs."""

T = TypeVar("T")


def until(ask: Callable[[], T | None], what: str, within_s: float = 60.0, every_s: float = 0.1) -> T:
    """Ask until the answer is true, and give it; fail with `what` once the time is over."""
    deadline = time.monotonic() + within_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(every_s)
    return answer


class Process:
    """One running `kedge`."""

    def __init__(self, args: Sequence[str], folder: Path, env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kedge", *args],
                cwd=folder,
                env=env,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended; negative is a signal, None while it runs."""
        return self._process.poll()

    @property
    def stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """What the log says, once it says so."""

        def seen() -> re.Match[str] | None:
            assert self.code is None, f"it ended with {self.code}:\n{self.text()}"
            return re.search(pattern, self.text())

        return until(seen, f"{pattern} in {self.log.name}", START_S)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> None:
        """SIGTERM, then SIGKILL."""
        if self.code is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@dataclass
class Stack:
    """The processes of one installation, apart from any other by prefix, folder and queue."""

    folder: Path
    store: str
    slack: SlackServer
    redis: str = ""
    clock: str = ""
    every: str = "2s"
    webhook: bool = False
    prefix: str = field(default_factory=lambda: f"kedge-e2e-{secrets.token_hex(5)}")
    processes: list[Process] = field(default_factory=list)
    address: str = ""
    _opened: Store | None = None

    @property
    def now(self) -> Clock:
        """The time that its processes tell."""
        return rehearsal_clock(self.clock)

    @property
    def env(self) -> dict[str, str]:
        """Of its processes: nothing of kedge's from outside."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KEDGE_", "SLACK_", "PYTEST_"))}
        return kept | self.own_env

    @property
    def own_env(self) -> dict[str, str]:
        slack = (
            {"SLACK_WEBHOOK_URL": self.slack.webhook_url}
            if self.webhook
            else {"SLACK_BOT_TOKEN": TOKEN, "SLACK_CHANNEL": "#ml", "SLACK_API_URL": self.slack.api_url}
        )
        return slack | {
            "KEDGE_STORE": self.store,
            "KEDGE_REDIS": self.redis,
            "KEDGE_PREFIX": self.prefix,
            "KEDGE_CLOCK": self.clock,
            "KEDGE_EVERY": self.every,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.folder),
        }

    def write(self, rules: str, settings: str = "") -> None:
        """Its rules and its kedge.yml."""
        (self.folder / "rules").mkdir(exist_ok=True)
        (self.folder / "rules" / "rules.yml").write_text(rules)
        (self.folder / "kedge.yml").write_text(settings)

    # --- processes

    def start(self, *args: str, **env: str) -> Process:
        log = self.folder / f"{len(self.processes)}-{args[0]}.log"
        process = Process(args, self.folder, self.env | env, log)
        self.processes.append(process)
        return process

    def serve(self, *flags: str) -> Process:
        """A gateway with `--gateway`; gateway, API and scheduler in one without."""
        server = self.start("serve", "--port", "0", *flags)
        self.address = server.wait_for(r"listens on (http://[\d.:]+)")[1]
        return server

    def worker(self, **env: str) -> Process:
        worker = self.start("worker", "--pool", "solo", **env)
        worker.wait_for(r"kedge@\S+ ready")
        return worker

    def beat(self) -> Process:
        beat = self.start("beat")
        beat.wait_for("Sending due task")
        return beat

    def end(self) -> None:
        for process in reversed(self.processes):
            process.end()
        if self._opened is not None:
            self._opened.close()
        if not self.store.startswith("duckdb:"):
            remove_all(self.store, self.prefix)

    def logs(self) -> str:
        return "\n".join(
            f"--- {p.log.name} (pid {p.pid}, {'runs' if p.code is None else p.code})\n{p.text()[-6000:]}"
            for p in self.processes
        )

    # --- what goes in, and what came of it

    def post(self, path: str, rows: Iterable[Json]) -> Json:
        """NDJSON to the gateway; the answer."""
        body = b"\n".join(msgspec.json.encode(row) for row in rows)
        answer = httpx.post(
            self.address + path, content=body, headers={"Content-Type": "application/x-ndjson"}, timeout=60
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    @property
    def settings(self) -> Settings:
        return load_settings(self.folder / "kedge.yml", self.own_env)

    @property
    def opened(self) -> Store:
        """Its store, read from here; a DuckDB file only once its server has ended."""
        if self._opened is None:
            where = self.settings
            if where.embedded:
                path = self.folder / where.store.removeprefix("duckdb:")
                where = where.model_copy(update={"store": f"duckdb:{path}"})
            self._opened = open_store(where, self.now, {})
        return self._opened

    def events(self) -> list[Json]:
        """All transitions so far, in order of their steps."""
        if self.store.startswith("duckdb:") and self._opened is None:
            with httpx.Client(base_url=self.address, timeout=60) as api:
                alerts = api.get("/v1/alerts", params={"every": True}).json()
                histories = [api.get(f"/v1/alerts/{alert['id']}").json()["history"] for alert in alerts]
            found = [event for history in histories for event in history]
        else:
            found = [stored.value for stored in self.opened.events.find().values()]
        return sorted(found, key=lambda e: (e["step"], e["decided"], e["id"]))

    def told(self) -> list[str | None]:
        """The transitions that the channel was told of, one a post."""
        return [post.transition for post in self.slack.posts]


RUNNING: list[Stack] = []


@contextmanager
def stack(folder: Path, store: str, **given: Any) -> Iterator[Stack]:
    """A stack whose processes end with the block. conftest shows their logs when a test fails before."""
    with SlackServer() as slack:
        one = Stack(folder, store, slack, **given)
        RUNNING.append(one)
        try:
            yield one
        finally:
            RUNNING.remove(one)
            one.end()


def broker(redis_url: str, number: int) -> str:
    """A database of its own on the Redis server."""
    return f"{redis_url.rpartition('/')[0]}/{number}"


def minute_of(t: Millis) -> Millis:
    return floor(t, MINUTE)
