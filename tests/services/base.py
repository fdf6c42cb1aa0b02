"""A server process: where it runs, when it is healthy, how it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

PID_FILE = "server.pid"
DATA = "data"


class ServiceError(Exception):
    """A service cannot be had here; the text says why and what would help."""


class Service(ABC):
    """One real server of our own, on 127.0.0.1.

    `prepare` fetches what it needs, `launch` returns at once, `wait` returns when it answers, `stop` ends it
    and removes its folder. With `attached` the server ends with this process, however that ends. With
    `in_memory` its data is kept in memory where there is room: no test is about a power cut, and a server
    waits for its disk at every write.
    """

    name: str
    default_port: int
    start_seconds: float = 180

    def __init__(self, port: int | None = None, *, attached: bool = True, in_memory: bool = False) -> None:
        from tests.services.host import free_port

        self.port = port or free_port()
        self.attached = attached
        self.in_memory = in_memory
        self.process: subprocess.Popen[bytes] | None = None
        self.folder: Path | None = None

    # -- what each service says about itself

    @property
    @abstractmethod
    def url(self) -> str: ...

    @classmethod
    @abstractmethod
    def prepare(cls) -> None:
        """Download and install what is missing. Raises ServiceError."""

    @abstractmethod
    def launch(self) -> None:
        """Start the process, without waiting for it."""

    @staticmethod
    @abstractmethod
    def answers(url: str) -> bool:
        """Whether a healthy server of this kind is at `url`. Never raises for one that is not."""

    # -- what they share

    def _spawn(
        self,
        argv: list[str],
        *,
        env: dict[str, str] | None = None,
        user: int | None = None,
        group: int | None = None,
    ) -> None:
        assert self.folder is not None
        if setpriv := shutil.which("setpriv"):
            # The credentials are set here too, since changing them would drop the death signal.
            who = [f"--reuid={user}", f"--regid={group}", "--clear-groups"] if user is not None else []
            death = ["--pdeathsig=TERM"] if self.attached else []
            argv = [setpriv, *who, *death, "--", *argv] if who or death else argv
            user = group = None
        with (self.folder / "output.log").open("wb") as log:
            self.process = subprocess.Popen(
                argv,
                cwd=self.folder,
                env=env,
                user=user,
                group=group,
                extra_groups=[] if user is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for pytest, which then stops us in order
            )
        (self.folder / PID_FILE).write_text(str(self.process.pid))

    def wait(self) -> None:
        """Return when the server is healthy; raise ServiceError with the end of its log when it is not."""
        assert self.process is not None
        deadline = time.monotonic() + self.start_seconds
        while not self.answers(self.url):
            if (code := self.process.poll()) is not None:
                raise ServiceError(f"{self.name} ended with code {code} while starting:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                late = f"{self.name} did not answer at {self.url} in {self.start_seconds:.0f} s"
                raise ServiceError(f"{late}:\n{self.log_tail()}")
            time.sleep(0.2)

    def log_tail(self, lines: int = 25) -> str:
        if self.folder is None or not (log := self.folder / "output.log").exists():
            return "(no log)"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        if self.process is not None:
            end_group(self.process.pid, self.process)
            self.process = None
        if self.folder is not None:
            remove_folder(self.folder)
            self.folder = None


def remove_folder(folder: Path) -> None:
    """Remove a server's folder, and its data where that is a link to elsewhere."""
    if (data := folder / DATA).is_symlink():
        shutil.rmtree(data.resolve(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def is_running(pid: int, folder: Path) -> bool:
    """Whether `pid` is still the server of that folder: pids are used again, folders are not.

    By the folder's name, which is random: a checkout may reach the cache of another through a link, and must
    not take the other's servers for dead ones.
    """
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        cwd = Path(f"/proc/{pid}/cwd").readlink()
        return folder.name.encode() in environ or folder.resolve() in (cwd, *cwd.parents)
    except OSError:
        return False


def _has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"  # a container's first process may never collect it


def end_group(pid: int, process: subprocess.Popen[bytes] | None = None, patience: float = 20) -> None:
    """End a process that leads its own session, with its children: politely, then not."""
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
        try:
            # TERM to the leader alone lets it bring its children down in order.
            os.kill(pid, number) if number == signal.SIGTERM else os.killpg(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process is not None:
                if process.poll() is not None:
                    return
            elif _has_ended(pid):
                return
            time.sleep(0.1)
