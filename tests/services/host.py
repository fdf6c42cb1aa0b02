"""What the machine gives: the cache folder, packages, a Java, an unprivileged user, free ports."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.services.base import PID_FILE, ServiceError, is_running, remove_folder

ROOT = Path(__file__).resolve().parents[2]


def say(text: str) -> None:
    """One line of progress, apart from what a command prints as its result."""
    print(f"services: {text}", file=sys.stderr, flush=True)


def cache_dir() -> Path:
    """Where downloads and running services live: `.cache/services`, or `services` under `KEDGE_CACHE`."""
    base = os.environ.get("KEDGE_CACHE")
    path = (Path(base).resolve() if base else ROOT / ".cache") / "services"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock among all runs that share the cache, so that two never download or unpack the same."""
    with (cache_dir() / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ------------------------------------------------------------------------------------------ packages


@cache
def apt_install(*packages: str) -> None:
    """Install Debian packages where we may; raise `ServiceError` with the command to run where not."""
    wanted = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ServiceError(f"{wanted} is not installed; install it (on Debian: apt-get install {wanted})")
    say(f"installing {wanted} …")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    with locked("apt"):
        subprocess.run(["apt-get", "update", "--quiet"], env=env, capture_output=True, check=False)
        done = subprocess.run(install, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-4:])
        raise ServiceError(f"apt-get install {wanted} failed:\n{last}")


def command(name: str, package: str) -> str:
    """The path of a program, installed from its Debian package where it is missing."""
    if (found := shutil.which(name)) is None:
        apt_install(package)
        found = shutil.which(name)
    if found is None:
        raise ServiceError(f"{package} was installed but brought no {name}")
    return found


# ------------------------------------------------------------------------------------------ Java


def _java_version(home: Path) -> int | None:
    """The feature version of the JDK in `home` (17 for "17.0.15"), None where there is none."""
    if not (home / "bin/java").exists():
        return None
    release = home / "release"
    text = release.read_text() if release.exists() else ""
    if not (match := re.search(r'JAVA_VERSION="(\d+)', text)):
        out = subprocess.run([home / "bin/java", "-version"], capture_output=True, text=True, check=False)
        match = re.search(r'version "(\d+)', out.stderr)
    return int(match[1]) if match else None


def _find_java(minimum: int, variable: str) -> Path | None:
    named = [Path(value) for key in (variable, "JAVA_HOME") if (value := os.environ.get(key))]
    on_path = shutil.which("java")
    around = [
        *sorted(Path("/usr/lib/jvm").glob("*")),
        *([Path(on_path).resolve().parents[1]] if on_path else []),
    ]
    for home in named:
        if (_java_version(home) or 0) >= minimum:
            return home
    fit = [(version, home) for home in around if (version := _java_version(home) or 0) >= minimum]
    # The oldest that will do: servers are tested on the Java of their day, not on tomorrow's.
    return min(fit)[1] if fit else None


def java_home(minimum: int, variable: str) -> Path:
    """A Java of at least `minimum`: what `variable` or JAVA_HOME names, else the oldest fit one installed."""
    if (home := _find_java(minimum, variable)) is None:
        problem = f"no Java {minimum} or newer found (set {variable})"
        for version in (release for release in (17, 21, 25) if release >= minimum):
            try:
                apt_install(f"openjdk-{version}-jre-headless")
                break
            except ServiceError as error:
                problem = f"{problem}; {error}"
        if (home := _find_java(minimum, variable)) is None:
            raise ServiceError(problem)
    return home


# ------------------------------------------------------------------------------------------ users


def service_user() -> pwd.struct_passwd | None:
    """The user to run servers as that refuse root: None when we are not root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


@cache
def run_dir() -> Path:
    """Where servers are unpacked and run: in the cache, or under /var/tmp if `nobody` may not enter there."""
    path, user = cache_dir(), service_user()
    if user is not None:
        reach = subprocess.run(
            ["test", "-x", str(path)], user=user.pw_uid, group=user.pw_gid, extra_groups=[], check=False
        )
        if reach.returncode:
            path = Path("/var/tmp/kedge-services")  # one for all checkouts, and root's own
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    return path


def new_instance(name: str) -> Path:
    """An empty folder for one server; those that killed runs left behind are removed on the way."""
    remove_abandoned()
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_instances()))


def remove_abandoned() -> None:
    """Remove the folders of servers that ended without doing so."""
    for old in _instances().iterdir():
        pid = old / PID_FILE
        with contextlib.suppress(OSError):
            if pid.exists():
                abandoned = not is_running(int(pid.read_text()), old)
            else:  # between mkdtemp and launch, in another run
                abandoned = time.time() - old.stat().st_mtime > 600
            if abandoned:
                remove_folder(old)


def _instances() -> Path:
    path = run_dir() / "instances"
    path.mkdir(mode=0o755, exist_ok=True)
    return path


# ------------------------------------------------------------------------------------------ memory

MEMORY = Path("/dev/shm")
ROOM = 2 << 30
"""Bytes that must be free there for each server: the tests of a whole run take a small part of it."""
SPARE = 4 << 30
"""Bytes of memory that must be left to everything else."""


def folder_in_memory(instance: Path) -> Path | None:
    """An empty folder whose files are held in memory, None where there is too little (or no such place)."""
    try:
        available = int(re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) * 1024
        if min(shutil.disk_usage(MEMORY).free, available - SPARE) < ROOM:
            return None
        path = MEMORY / f"kedge-{instance.name}"
        path.mkdir(mode=0o755)
    except (OSError, TypeError):
        return None
    return path
