"""The servers that tests run on: whose they are, which process starts them, where their data is."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.services import AskedPool, Pool, PoolServer, ServiceError, host
from tests.services.base import DATA, PID_FILE, is_running, remove_folder
from tests.services.pool import variable
from tests.services.redis_server import Redis


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


@pytest.fixture
def pool(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """Of a run of its own, which was given no Redis, where one can be had."""
    monkeypatch.delenv(variable("redis"), raising=False)
    pool = Pool()
    yield pool
    pool.stop()


def test_processes_that_share_a_run_are_given_the_same_service_and_it_ends_with_the_run(pool: Pool) -> None:
    server = PoolServer(pool)
    asking = [AskedPool(server.address, server.key) for _ in range(4)]
    with ThreadPoolExecutor(len(asking)) as threads:
        urls = set(threads.map(lambda one: one.url("redis"), asking))
    assert len(urls) == 1
    (url,) = urls
    for one in asking:
        one.stop()  # a process that ends leaves the service to the others
    assert Redis.answers(url)
    pool.stop()
    assert not Redis.answers(url)


def test_what_is_expected_starts_before_it_is_asked_for(pool: Pool) -> None:
    server = PoolServer(pool)
    asking = AskedPool(server.address, server.key)
    asking.launch()
    assert not pool.running, "nothing is expected"
    asking.expect("redis")
    asking.launch()
    assert pool.running == {"redis"}
    assert Redis.answers(asking.url("redis"))


def test_why_a_service_cannot_be_had_is_told_to_each_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable("redis"), "redis://127.0.0.1:1/0")
    pool = Pool()
    server = PoolServer(pool)
    for _ in range(2):
        with pytest.raises(ServiceError, match="no healthy redis answers there"):
            AskedPool(server.address, server.key).url("redis")
    assert "redis" in pool.failures, "it is named at the end of the run"


@pytest.fixture
def instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(host, "run_dir", lambda: tmp_path)
    monkeypatch.setattr(host, "MEMORY", tmp_path / "shm")
    (tmp_path / "shm").mkdir()
    return tmp_path / "instances"


def test_data_in_memory_goes_with_its_server_however_that_ended(instances: Path) -> None:
    stopped, killed = (host.new_instance("redis") for _ in range(2))
    for folder in (stopped, killed):
        in_memory = host.folder_in_memory(folder)
        assert in_memory is not None
        (folder / DATA).symlink_to(in_memory)
        (in_memory / "segment").write_text("rows")
    remove_folder(stopped)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        (killed / PID_FILE).write_text(str(ended.pid))
    host.remove_abandoned()
    assert list(host.MEMORY.iterdir()) == list(instances.iterdir()) == []


def test_without_enough_memory_data_stays_on_disk(instances: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "ROOM", 1 << 60)
    assert host.folder_in_memory(host.new_instance("redis")) is None
    monkeypatch.setattr(host, "MEMORY", instances / "no such place")
    assert host.folder_in_memory(host.new_instance("redis")) is None
    assert len(list(instances.iterdir())) == 2
