"""A large import: killed in the middle it resumes; every row is stored once, in little memory."""

import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.columns import ColumnMap
from ingest.files import read_columns
from ingest.importing import Stored, stored
from kedge.clock import system_clock
from kedge.config import load_settings
from kedge.errors import KedgeError, StoreUnavailable
from kedge.pipeline.compose import open_store
from kedge.record_table import PredictionTable
from kedge.records import Prediction
from kedge.sketch import Core, PartName
from kedge.store.base import Store, SummaryRequest
from kedge.store.base import Stored as Document
from kedge.windows import DAY, HOUR, Millis, Window, floor
from tests.e2e.harness import ROOT, until
from tests.support.servers import remove_all

ROWS = 150_000
FEATURES = 12
BAD = (7, 80_000, 149_999)
"""Rows whose class is missing although they have a confidence."""


def write(path: Path, rows: int, features: int, start: Millis) -> None:
    """One row group, a row every tenth of a second."""
    rng = np.random.default_rng(3)
    classes = np.where(np.isin(np.arange(rows), BAD), None, "ok")
    columns: dict[str, object] = {
        "timestamp": start + np.arange(rows) * 100,
        "class": pa.array(classes, pa.string()),
        "probability": rng.random(rows),
    }
    columns |= {f"n{i}": rng.normal(size=rows) for i in range(features)}
    columns |= {"c": pa.array(rng.choice(["de", "fr", "nl"], rows))}
    pq.write_table(
        pa.table(columns), path, row_group_size=rows, use_dictionary=["class", "c"], compression="none"
    )


class Place:
    """Where imports of one test go, and what is in there."""

    def __init__(self, folder: Path, store: str) -> None:
        self.folder = folder
        self.own = {"KEDGE_STORE": store, "KEDGE_PREFIX": f"kedge-import-{secrets.token_hex(5)}"}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KEDGE_", "PYTEST_"))}
        self.env = kept | self.own | {"PYTHONPATH": str(ROOT)}

    @property
    def embedded(self) -> bool:
        return self.own["KEDGE_STORE"].startswith("duckdb:")

    def start(self, log: str, *flags: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("wb") as out:
            command = [sys.executable, "-m", "kedge", "import", "rows.parquet", "--model", "m", *flags]
            return subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=out, stderr=out)

    def run(self, log: str, *flags: str) -> str:
        self.start(log, *flags).wait(120)
        return (self.folder / log).read_text()

    def open(self) -> Store:
        settings = load_settings(self.folder / "kedge.yml", self.own)
        if self.embedded:
            settings = settings.model_copy(update={"store": f"duckdb:{self.folder / 'kedge.duckdb'}"})
        return open_store(settings, system_clock, {})

    def size(self) -> int:
        return sum(file.stat().st_size for file in self.folder.glob("kedge.duckdb*"))

    def counted(self, start: Millis) -> int:
        store = self.open()
        try:
            store.changed({})
            window = Window(floor(start, HOUR), floor(start, HOUR) + 6 * HOUR)
            request = SummaryRequest("m", window, HOUR, frozenset({PartName.CORE}))
            return sum(p.part.rows for p in store.summarise(request) if isinstance(p.part, Core))
        finally:
            store.close()


@pytest.fixture(params=["duckdb", "elasticsearch"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    embedded = request.param == "duckdb"
    url = "duckdb:kedge.duckdb" if embedded else request.getfixturevalue("elasticsearch_url")
    (tmp_path / "kedge.yml").write_text("")
    one = Place(tmp_path, url)
    yield one
    if not embedded:
        remove_all(url, one.own["KEDGE_PREFIX"])


def test_an_import_that_was_killed_resumes_and_stores_every_row_once(place: Place) -> None:
    start = floor(system_clock(), DAY) - 10 * DAY
    write(place.folder / "rows.parquet", ROWS, FEATURES, start)
    killed = place.start("killed.log")
    if place.embedded:
        until(lambda: place.size() > 12 * 2**20 or None, "some rows are stored", every_s=0.01)
    else:
        watching = place.open()
        until(
            lambda: any(kept.value["rows"] > 20_000 for kept in states(watching)),
            "some rows are stored",
            every_s=0.02,
        )
        watching.close()
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, (place.folder / "killed.log").read_text()

    said = place.run("resumed.log")
    resumed = re.search(r"resuming at row ([\d,]+)", said)
    assert resumed, said
    assert 0 < int(resumed[1].replace(",", "")) < ROWS
    end = re.search(r"rows.parquet: ([\d,]+) accepted, ([\d,]+) duplicate, (\d+) rejected", said)
    assert end, said
    accepted, duplicate, rejected = (int(count.replace(",", "")) for count in end.groups())
    assert accepted + duplicate == ROWS - len(BAD)
    assert duplicate < 60_000, "of what was under way when it was killed"
    assert rejected == len(BAD)
    assert place.counted(start) == ROWS - len(BAD)

    if place.embedded:
        again = place.run("again.log")
        assert "resuming" not in again
        assert f"0 accepted, {ROWS - len(BAD):,} duplicate, 3 rejected" in again


def states(store: Store) -> list[Document]:
    """How far imports have come; nothing before the first has set the store up."""
    try:
        return list(store.state.find("import:").values())
    except KedgeError:
        return []


class Counting:
    """A door behind which rows are counted."""

    at_once = 2

    def __init__(self, failures: int = 0) -> None:
        self.ids: list[str] = []
        self.failures = failures

    def table(self, table: PredictionTable) -> Stored:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("busy")
        self.ids += table.ids
        return Stored(len(table), 0, 0, [])

    def rows(self, rows: list[Prediction]) -> Stored:
        self.ids += [row.id for row in rows]
        return Stored(len(rows), 0, 0, [])


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", 600_000, 20, system_clock() - DAY)  # one row group of 105 MB
    process = psutil.Process()
    pa.default_memory_pool().release_unused()
    before = peak = process.memory_info().rss
    door = Counting()
    ends, shares = [], []
    for batch, _ in stored(batches(tmp_path, 0), door, lambda pause, why: None):
        ends.append(batch.end)
        shares.append(batch.share)
        door.ids.clear()
        peak = max(peak, process.memory_info().rss)
    assert (ends[-1], shares[-1]) == (600_000, 1.0)
    assert ends == sorted(ends)
    assert peak - before < 180 * 2**20


def batches(folder: Path, start: int) -> Iterator[object]:
    return read_columns(
        folder / "rows.parquet", model="m", now=system_clock(), columns=ColumnMap(), start=start
    )


def test_a_batch_that_the_store_cannot_take_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.importing.PAUSES_S", (0.01, 0.02))
    write(tmp_path / "rows.parquet", 25_000, 1, system_clock() - DAY)
    told: list[str] = []
    door = Counting(failures=2)
    done = list(stored(batches(tmp_path, 0), door, lambda pause, why: told.append(why)))
    assert [batch.end for batch, _ in done] == [5_000, 10_000, 15_000, 20_000, 25_000]
    assert len(set(door.ids)) == len(door.ids) == 25_000 - 1
    assert told == ["busy", "busy"]
    with pytest.raises(StoreUnavailable):
        list(stored(batches(tmp_path, 0), Counting(failures=9), lambda pause, why: None))


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_rows_from_the_middle_are_those_of_the_whole_file(tmp_path: Path, form: str) -> None:
    count = 23_000 if form == "parquet" else 120
    write(tmp_path / "rows.parquet", count, 2, system_clock() - DAY)
    frame = pq.read_table(tmp_path / "rows.parquet").to_pandas()
    path = tmp_path / f"rows.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pandas(frame), path, row_group_size=4_000)
    elif form == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    now = system_clock()

    def ids(start: int) -> list[str]:
        found = read_columns(path, model="m", now=now, start=start)
        return sorted(
            id for b in found for id in (*(b.table.ids if b.table else ()), *(row.id for row in b.rows))
        )

    whole = ids(0)
    start = 17_003 if form == "parquet" else 45
    bad = sum(1 for row in BAD if row < start)
    assert len(whole) == count - sum(1 for row in BAD if row < count)
    assert ids(start) == whole[start - bad :]
    assert ids(count) == []
