"""The DuckDB file: what it keeps over a restart and a kill, and who may open it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from kedge.errors import KedgeError, StoreUnavailable
from kedge.records import Label
from kedge.sketch import PartName
from kedge.store.base import Joined, Written
from kedge.store.duckdb import open_duckdb
from kedge.store.duckdb.catalog import FORMAT
from kedge.windows import DAY, HOUR
from tests.contract.helpers import ALL_PARTS, asking, assert_summarises, by_key
from tests.support.rows import EDGES, SPAN, START, labels_for, random_rows, with_labels
from tests.support.stored import stored_parts


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "kedge.duckdb")


def test_everything_is_there_after_a_restart(path: str) -> None:
    rows = random_rows(51, 200, model="m")
    labels = labels_for(rows, 52)
    request = asking("m", groupings=((), ("segment.region",)))
    store = open_duckdb(path)
    store.setup()
    store.append(rows[:150])
    store.label(labels)
    parts = store.summarise(request)
    store.write(parts)
    assert store.state.swap("lease", {"owner": "a"}, None)
    seen = store.changed({}).watermark
    store.close()

    store = open_duckdb(path)
    assert [check for check in store.setup() if check.changed] == []
    assert by_key(store.summarise(request)) == by_key(parts)
    assert by_key(stored_parts(store, "m", HOUR, SPAN, ALL_PARTS, edges=EDGES.hash)) == by_key(parts)
    lease = store.state.get("lease")
    assert lease is not None
    assert lease.value == {"owner": "a"}
    assert store.state.swap("lease", {"owner": "b"}, lease.token)
    assert store.changed(seen).dirty == {}

    assert [r.written for r in store.append(rows[:150])] == [Written.DUPLICATE] * 150
    assert [r.written for r in store.append(rows[150:])] == [Written.CREATED] * 50
    assert store.changed(seen).dirty.keys() == {"m"}
    counts = store.join_pending(START + 300 * DAY, 10_000 * DAY)
    assert counts.joined > 0
    assert counts.waiting == 0
    assert_summarises(store, request, with_labels(rows, labels))
    store.close()


WRITER = """
import sys
from kedge.store.duckdb import open_duckdb
from tests.support.rows import random_rows
from tests.support.stored import stored_parts
store = open_duckdb(sys.argv[1])
store.setup()
token = None
for n in range(1_000_000):
    store.append(random_rows(n, 3, model="m"))
    store.state.swap("n", {"n": n}, token)
    token = store.state.get("n").token
    print(n, flush=True)
"""


def test_what_was_answered_survives_a_kill(path: str) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 12:
                break
        os.kill(process.pid, signal.SIGKILL)
        last = [int(line), *map(int, process.stdout.read().split())][-1]
    store = open_duckdb(path)
    answered = [row for n in range(last + 1) for row in random_rows(n, 3, model="m")]
    assert {r.written for r in store.append(answered)} == {Written.DUPLICATE}
    stored = store.state.get("n")
    assert stored is not None
    assert stored.value["n"] in (last, last + 1)
    store.close()


def test_a_second_process_is_told_whom_to_talk_to(path: str) -> None:
    store = open_duckdb(path)
    attempt = "import sys\nfrom kedge.store.duckdb import open_duckdb\nopen_duckdb(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", attempt, path], capture_output=True, text=True, check=False)
    store.close()
    said = next(line for line in reversed(done.stderr.splitlines()) if "KedgeError" in line)
    assert f"{path} is open in another kedge (process {os.getpid()})" in said
    assert "address of that running server" in said


def test_what_is_no_duckdb_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database")
    with pytest.raises(KedgeError, match="is not a DuckDB file"):
        open_duckdb(str(text))
    with pytest.raises(KedgeError, match="make the folder"):
        open_duckdb(str(tmp_path / "nowhere" / "kedge.duckdb"))


def test_a_file_of_a_later_kedge_is_refused(path: str) -> None:
    store = open_duckdb(path)
    store.setup()
    store._database.writing.execute(f"UPDATE kedge_format SET format = {FORMAT + 1}")
    store.close()
    with pytest.raises(KedgeError, match="upgrade kedge"):
        open_duckdb(path)


def test_before_set_up_every_use_says_what_to_do() -> None:
    store = open_duckdb(":memory:")
    for use in (
        lambda: store.append(random_rows(1, 1, model="m")),
        lambda: store.label([Label(id="a", timestamp=START, ingested=START, cls="x")]),
        lambda: stored_parts(store, "m", HOUR, SPAN, [PartName.CORE]),
        lambda: store.state.swap("a", {}, None),
    ):
        with pytest.raises(KedgeError, match="kedge setup"):
            use()
    assert all(not check.ok and check.remedy for check in store.setup(dry_run=True))
    assert all(check.changed for check in store.setup())
    assert store.label([Label(id="a", timestamp=START, ingested=START, cls="x")]) == [Joined.WAITING]
    store.close()


def test_a_closed_store_says_so() -> None:
    store = open_duckdb(":memory:")
    store.setup()
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.append(random_rows(1, 1, model="m"))
    with pytest.raises(StoreUnavailable, match="closed"):
        store.versions_many(["m"], HOUR, SPAN)
    assert not store.ping().ok


def test_a_day_after_many_others_costs_no_more_to_find_a_label_for(path: str) -> None:
    """Labels come without their prediction's day: no day but the right one may be searched."""
    store = open_duckdb(path)
    store.setup()
    rows = [
        msgspec.structs.replace(row, timestamp=row.timestamp + day * DAY, id=f"{row.id} {day}", label=None)
        for day in range(30)
        for row in random_rows(61, 4, model="m")
    ]
    store.append(rows)
    target = rows[57]
    label = Label(id=target.id, timestamp=START, ingested=START, cls="yes")
    watermark = store.changed({}).watermark
    assert store.label([label]) == [Joined.JOINED]
    assert store.changed(watermark).labelled == {"m": {target.timestamp // 60_000 * 60_000}}
    store.close()
