"""`kedge rules check` beside a store: one that answers, one that does not, and none."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from kedge.cli import cli
from kedge.cli.rules import stored
from kedge.store.duckdb import open_duckdb
from kedge.store.elastic import open_elastic
from kedge.windows import HOUR, MINUTE
from tests.pipeline.world import T0, prediction, world
from tests.support.servers import remove_all

RULES = """\
version: 1
defaults: {model: fraud, window: 1h}
rules:
- {name: errors, metric: errors.rate, above: 5%}
- name: many
  metric: errors.rate
  above: 5%
  min_count: 500
- {name: slow, model: fruad, metric: latency.p95, above: 1s}
"""
MANY = 'rules/a.yml:8:3: warning: rule "many": min_count 500 is not reached: '
SLOW = 'rules/a.yml:9:16: warning: rule "slow": model fruad has never logged (did you mean "fraud"?)'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a.yml").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    for name in ("KEDGE_STORE", "KEDGE_URL", "KEDGE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def filled(folder: Path) -> Path:
    """The DuckDB file of the folder, with a day of a model's rows."""
    with world(open_store=partial(_file, str(folder / "kedge.duckdb"))) as one:
        fill(one)
    return folder


def _file(path: str, clock: Any) -> Any:
    return open_duckdb(path, clock=clock)


def fill(one: Any) -> None:
    one.send([prediction(i, T0 + i * 10 * MINUTE) for i in range(144)])
    one.drain(T0 + 25 * HOUR)


def check(*args: str, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, ["rules", "check", *args])
    assert done.exit_code == code, done.output
    return done


def rows(done: Result) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in done.stdout.splitlines()]


def test_a_file_of_its_own_is_looked_at(filled: Path) -> None:
    done = check()
    many, slow = done.stderr.splitlines()
    assert many.startswith(MANY)
    assert slow == SLOW
    assert done.stdout.splitlines()[-1] == "3 rules in 1 file, 0 problems, 2 warnings"
    *_, told, last = rows(check("--json"))
    assert last == {
        "rules": 3,
        "tell_nobody": 0,
        "problems": 0,
        "store": "duckdb:kedge.duckdb",
        "not_asked": None,
    }
    first = rows(check("--json"))[0]
    assert (first["file"], first["line"], first["column"]) == ("rules/a.yml", 8, 3)
    assert first["warning"].startswith('rule "many": min_count 500')
    assert told["false_alerts_per_30d"] == 1.0


def test_only_the_files_that_are_named_are_checked(filled: Path) -> None:
    (filled / "rules" / "b.yml").write_text(
        "version: 1\nrules:\n- {name: b, model: frau, metric: errors.rate, window: 1h, above: 5%}\n"
    )
    assert check("rules/b.yml").stderr.count("warning: ") == 1


@pytest.mark.usefixtures("filled")
def test_offline_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("it was asked")

    monkeypatch.setattr(stored, "ask_store", asked)
    done = check("--offline")
    assert done.stderr == ""
    assert rows(check("--offline", "--json"))[-1] == {"rules": 3, "tell_nobody": 0, "problems": 0}
    with pytest.raises(AssertionError, match="it was asked"):
        CliRunner().invoke(cli, ["rules", "check"], catch_exceptions=False)


def test_before_anything_was_stored_there_is_nobody_to_ask_and_no_store_is_made(folder: Path) -> None:
    assert check().stderr == ""
    assert not (folder / "kedge.duckdb").exists()
    last = rows(check("--json"))[-1]
    assert last == {
        "rules": 3,
        "tell_nobody": 0,
        "problems": 0,
        "store": None,
        "not_asked": "kedge.duckdb is not there yet",
    }


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["KEDGE_STORE", "KEDGE_URL"])
def test_one_that_does_not_take_the_connection_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv(name, url)
    (line,) = check().stderr.splitlines()
    assert line.startswith("not checked against the store: ")
    assert url in line


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["KEDGE_STORE", "KEDGE_URL"])
def test_one_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, silent: str, name: str
) -> None:
    monkeypatch.setenv(name, silent)
    began = time.perf_counter()
    (line,) = check().stderr.splitlines()
    assert line.startswith("not checked against the store: ")
    assert time.perf_counter() - began < 2 * stored.REACHED_S + 4


def test_a_file_that_another_process_holds_is_not_waited_for(filled: Path) -> None:
    holds = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holds, str(filled / "kedge.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        (line,) = check().stderr.splitlines()
        assert line.startswith("not checked against the store: kedge.duckdb is open in another kedge")
        other.communicate()


@pytest.mark.usefixtures("filled")
def test_rules_with_a_mistake_are_mended_first() -> None:
    Path("rules/a.yml").write_text(RULES.replace("above: 1s", "abve: 1s"))
    done = check(code=2)
    assert "not checked" not in done.stderr
    assert "min_count" not in done.stderr


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("where", ["elasticsearch", "opensearch"])
def test_a_cluster_is_looked_at_and_nothing_is_set_up_there(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    url, prefix = request.getfixturevalue(f"{where}_url"), f"kedge-check-{time.time_ns()}"
    monkeypatch.setenv("KEDGE_STORE", url)
    monkeypatch.setenv("KEDGE_PREFIX", prefix)
    try:
        (line,) = check().stderr.splitlines()
        assert line.startswith("not checked against the store: ")
        assert "kedge setup" in line
        with world(open_store=lambda clock: open_elastic(url, prefix=prefix, clock=clock)) as one:
            fill(one)
        many, slow = check().stderr.splitlines()
        assert many.startswith(MANY)
        assert slow == SLOW
    finally:
        remove_all(url, prefix)
