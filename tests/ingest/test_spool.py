"""The spool's file: order, bounds, and what is found in it after a kill."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from ingest.spool import FILE, Kind, Spool, SpoolBroken, SpoolFull, read_depth
from kedge.cli import cli
from kedge.cli.start import gateways_check
from kedge.config import load_settings
from kedge.errors import KedgeError
from kedge.pipeline.spooled import Gateway
from kedge.records import Label, Prediction
from kedge.store.base import RejectedRow
from kedge.windows import DAY, HOUR
from tests.ingest.conftest import NOW

LIMIT = 1_000_000


def row(id: str, at: int = NOW - HOUR) -> Prediction:
    return Prediction(
        id=id,
        timestamp=at,
        ingested=NOW,
        model="m",
        num={"x": 0.1},
        cat={"c": "é"},
        label=Label(id=id, timestamp=NOW, ingested=NOW, cls="a"),
    )


def drained(spool: Spool) -> list[str]:
    ids = []
    while batch := spool.peek():
        ids += [record.id for record in batch.records]
        spool.drop(batch)
    return ids


def test_what_is_put_comes_out_as_it_was_in_order_one_kind_at_a_time(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=LIMIT)
    label = Label(id="a", timestamp=NOW, ingested=NOW, value=0.5, model="m")
    refused = RejectedRow.of(NOW, "no", b"{}", "m")
    spool.put(Kind.PREDICTIONS, [row("a"), row("b")], NOW)
    spool.put(Kind.PREDICTIONS, [row("c")], NOW)
    spool.put(Kind.LABELS, [label], NOW)
    spool.put(Kind.REJECTED, [refused], NOW)
    spool.put(Kind.PREDICTIONS, [row("d")], NOW)
    taken = []
    while batch := spool.peek():
        taken.append((batch.kind, batch.records))
        spool.drop(batch)
    assert taken == [
        (Kind.PREDICTIONS, [row("a"), row("b"), row("c")]),
        (Kind.LABELS, [label]),
        (Kind.REJECTED, [refused]),
        (Kind.PREDICTIONS, [row("d")]),
    ]
    spool.close()


def test_it_says_how_much_and_how_old_also_to_other_processes(tmp_path: Path) -> None:
    assert read_depth(tmp_path) is None
    spool = Spool(tmp_path, limit=LIMIT)
    assert read_depth(tmp_path) == (0, 0, None, None)
    spool.put(Kind.PREDICTIONS, [row("a", NOW - 5), row("b", NOW - HOUR)], NOW + 1)
    spool.put(Kind.PREDICTIONS, [row("c", NOW - 2 * HOUR)], NOW + 2)
    depth = spool.depth()
    assert (depth.rows, depth.oldest, depth.since) == (3, NOW - 2 * HOUR, NOW + 1)
    assert read_depth(tmp_path) == depth
    drained(spool)
    assert spool.depth() == (0, 0, None, None)
    spool.close()


def test_it_never_holds_more_than_its_limit_and_has_room_again_once_drained(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=20_000, sync="off")
    kept: list[str] = []
    full = False
    while not full and len(kept) < 1_000:
        try:
            spool.put(Kind.PREDICTIONS, [row(f"{len(kept)}")], NOW)
            kept.append(f"{len(kept)}")
        except SpoolFull:
            full = True
    assert 20 < len(kept) < 200
    assert spool.depth().bytes <= 20_000
    assert drained(spool) == kept
    spool.put(Kind.PREDICTIONS, [row("again")], NOW)
    spool.close()


def test_an_emptied_spool_gives_its_disk_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=50_000_000, sync="off")
    spool.put(Kind.PREDICTIONS, [row(f"{i}") for i in range(20_000)], NOW)
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) > 2_000_000
    assert len(drained(spool)) == 20_000
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) < 200_000
    spool.close()


def test_many_threads_put_at_once_and_each_finds_its_rows_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=LIMIT)

    def put(thread: int) -> None:
        for i in range(20):
            spool.put(Kind.PREDICTIONS, [row(f"{thread}-{i}")], NOW)

    threads = [threading.Thread(target=put, args=(t,)) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = drained(spool)
    assert len(ids) == 160
    for thread in range(8):
        assert [i for i in ids if i.startswith(f"{thread}-")] == [f"{thread}-{i}" for i in range(20)]
    spool.close()


def test_text_that_is_no_unicode_is_refused_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=LIMIT)
    with pytest.raises(ValueError, match="surrogates"):
        spool.put(Kind.PREDICTIONS, [row("a"), row("half \ud800")], NOW)
    assert spool.empty
    spool.close()


KILLED = """
import os, sys
from pathlib import Path
from ingest.spool import Kind, Spool
from tests.ingest.test_spool import row, NOW
spool = Spool(Path(sys.argv[1]), limit=10**9)
i = 0
while True:
    spool.put(Kind.PREDICTIONS, [row(f"{i}")], NOW)
    os.write(1, b"%d\\n" % i)
    i += 1
"""


def test_a_killed_process_loses_nothing_that_was_put(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(30)]
    with pytest.raises(SpoolBroken, match=f"in use by another gateway .process {process.pid}"):
        Spool(tmp_path, limit=LIMIT)
    os.kill(process.pid, signal.SIGKILL)
    answered = [*lines, *process.stdout.read().splitlines(keepends=True)]
    process.wait()
    spool = Spool(tmp_path, limit=10**9)
    found = drained(spool)
    assert found == [f"{i}" for i in range(len(found))]
    assert len(found) - len(answered) in (0, 1)
    spool.close()


def test_a_spool_keeps_its_name(tmp_path: Path) -> None:
    first = Spool(tmp_path, limit=LIMIT)
    first.close()
    second = Spool(tmp_path, limit=LIMIT)
    assert second.name == first.name
    second.close()


class TestFilesThatAreNone:
    def test_of_another_program(self, tmp_path: Path) -> None:
        other = sqlite3.connect(tmp_path / FILE)
        other.execute("CREATE TABLE cookies (name)")
        other.close()
        with pytest.raises(SpoolBroken, match="another program's"):
            Spool(tmp_path, limit=LIMIT)

    def test_no_sqlite_at_all(self, tmp_path: Path) -> None:
        (tmp_path / FILE).write_bytes(b"not a database, but long enough to be read as one" * 100)
        with pytest.raises(SpoolBroken, match="is no spool"):
            Spool(tmp_path, limit=LIMIT)

    def test_damaged(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path, limit=LIMIT)
        spool.put(Kind.PREDICTIONS, [row(f"{i}") for i in range(2_000)], NOW)
        spool.close()
        file = tmp_path / FILE
        content = bytearray(file.read_bytes())
        content[4096 * 2 : 4096 * 20] = os.urandom(4096 * 18)
        file.write_bytes(content)
        with pytest.raises(SpoolBroken, match="damaged"):
            Spool(tmp_path, limit=LIMIT)

    def test_of_a_later_kedge(self, tmp_path: Path) -> None:
        Spool(tmp_path, limit=LIMIT).close()
        later = sqlite3.connect(tmp_path / FILE)
        later.execute("PRAGMA user_version = 99")
        later.close()
        with pytest.raises(SpoolBroken, match="later kedge"):
            Spool(tmp_path, limit=LIMIT)

    def test_in_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(SpoolBroken, match="KEDGE_SPOOL"):
            Spool(tmp_path / "file", limit=LIMIT)


@pytest.mark.parametrize(
    ("text", "size"), [("500MB", 500_000_000), ("1.5 GB", 1_500_000_000), ("20k", 20_000), ("0", 0), ("7", 7)]
)
def test_sizes_are_written_as_people_write_them(text: str, size: int) -> None:
    assert load_settings(None, {"KEDGE_SPOOL_LIMIT": text}).spool_limit == size


@pytest.mark.parametrize("text", ["much", "-5MB", "5 PB", "1.2.3GB"])
def test_what_is_no_size_is_told_with_its_place(text: str) -> None:
    with pytest.raises(KedgeError, match="KEDGE_SPOOL_LIMIT: spool_limit"):
        load_settings(None, {"KEDGE_SPOOL_LIMIT": text})


def test_the_doctor_tells_what_waits_though_the_store_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spool = Spool(tmp_path / "spool", limit=LIMIT)
    spool.put(Kind.PREDICTIONS, [row("a"), row("b")], NOW)
    nowhere = {"KEDGE_STORE": "http://127.0.0.1:9", "KEDGE_REDIS": "redis://127.0.0.1:9/0"}
    said = CliRunner().invoke(cli, ["doctor", "--json"], env=nowhere)
    spool.close()
    checks = {line["name"]: line for line in map(json.loads, said.output.splitlines())}
    assert checks["spool"]["ok"] is False
    assert "2 rows" in checks["spool"]["detail"]
    assert said.exit_code == 1


def test_the_doctor_names_a_gateway_that_may_be_cut_off() -> None:
    told = gateways_check([Gateway("gone", None, 0, 0, NOW - DAY), Gateway("here", None, 0, 0, NOW)], NOW)
    assert told.ok
    assert told.detail.endswith("so killed, or cut off and spooling: gone")
