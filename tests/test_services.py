"""The servers that tests run on: whose they are, seen from a checkout beside the one that started them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.base import is_running


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that works in a folder of its own, under main/instances/redis-k3v9."""
    folder = tmp_path / "main" / "instances" / "redis-k3v9"
    folder.mkdir(parents=True)
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], cwd=folder)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def test_a_server_is_known_through_a_link_to_the_folder_it_runs_in(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    (tmp_path / "other").symlink_to(tmp_path / "main")
    assert is_running(sleeper.pid, tmp_path / "main" / "instances" / "redis-k3v9")
    assert is_running(sleeper.pid, tmp_path / "other" / "instances" / "redis-k3v9")
    assert not is_running(sleeper.pid, tmp_path / "main" / "instances" / "redis-0000"), (
        "its number used again"
    )
