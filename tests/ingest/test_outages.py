"""A gateway whose Elasticsearch is down, hangs, is too busy, or refuses some of the rows."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from ingest.drain import Drainer
from ingest.service import IngestService
from ingest.spool import Spool
from kedge.pipeline.schema import features_of
from kedge.pipeline.spooled import gateways, spooled_since
from kedge.store.elastic import open_elastic
from kedge.store.elastic.names import Names
from kedge.store.elastic.store import ElasticStore
from kedge.store.elastic.table import CHUNK_ROWS
from kedge.windows import DAY, HOUR
from tests.ingest.conftest import ALL, NOW, Client, client_of
from tests.support.proxy import Proxy
from tests.support.servers import remove_all

WAIT_S = 10.0
"""For an answer: the machine that runs the tests may be slow, and only the test of hanging waits for it."""


def until(done: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def prefix(elasticsearch_url: str) -> Iterator[str]:
    """Of a store that is set up."""
    name = f"kedge-spool-{uuid4().hex[:8]}"
    store = open_elastic(elasticsearch_url, prefix=name, clock=lambda: NOW)
    try:
        store.setup()
        yield name
    finally:
        store.close()
        remove_all(elasticsearch_url, name)


class Gateway:
    """A gateway behind a proxy, as `kedge serve` puts it together."""

    def __init__(self, folder: Path, proxy: Proxy, prefix: str, limit: int, wait_s: float) -> None:
        self.proxy = proxy
        self.spool = Spool(folder, limit=limit)
        self.quick = open_elastic(proxy.url, prefix=prefix, clock=lambda: NOW, timeout=wait_s)
        self.patient = open_elastic(proxy.url, prefix=prefix, clock=lambda: NOW, timeout=WAIT_S)
        self.drainer = Drainer(
            self.spool,
            self.patient,
            lambda: NOW,
            wall=lambda: NOW,
            first_pause_s=0.01,
            longest_pause_s=0.05,
        )
        self.client: Client = client_of(
            IngestService(self.quick, self.quick.state, lambda: NOW, self.drainer)
        )

    def post(self, rows: Any, path: str = "predictions") -> httpx.Response:
        return self.client.post(f"/v1/{path}", json=rows)

    def drained(self) -> None:
        until(lambda: self.spool.empty)


class World:
    """Gateways in front of one Elasticsearch, and what is stored in it."""

    def __init__(self, folder: Path, proxy: Proxy, prefix: str, store: ElasticStore, model: str) -> None:
        self.folder, self.proxy, self.prefix, self.store, self.model = folder, proxy, prefix, store, model

    @contextmanager
    def gateway(self, *, start: bool = True, limit: int = 10**7, wait_s: float = WAIT_S) -> Iterator[Gateway]:
        one = Gateway(self.folder, self.proxy, self.prefix, limit, wait_s)
        if start:
            one.drainer.start()
        try:
            yield one
        finally:
            one.drainer.stop()
            one.quick.close()
            one.patient.close()

    def row(self, id: str, **more: Any) -> dict[str, Any]:
        return {"id": f"{self.model}-{id}", "timestamp": NOW - HOUR, "model": self.model, **more}

    def stored(self) -> Mapping[str, Any]:
        """By id, without the model's name."""
        self.store.changed({})
        found = self.store.examples(self.model, ALL, 10_000)
        assert len({d["event"]["id"] for d in found}) == len(found)
        return {d["event"]["id"].removeprefix(f"{self.model}-"): d for d in found}


@pytest.fixture
def world(elasticsearch_url: str, prefix: str, tmp_path: Path) -> Iterator[World]:
    store = open_elastic(elasticsearch_url, prefix=prefix, clock=lambda: NOW)
    with Proxy(elasticsearch_url).running() as proxy:
        yield World(tmp_path, proxy, prefix, store, f"m{uuid4().hex[:8]}")
    store.close()


def test_rows_go_straight_to_a_store_that_answers(world: World) -> None:
    with world.gateway() as gateway:
        answer = gateway.post([world.row("a"), world.row("b")])
        assert answer.status_code == 200
        assert answer.json() == {"accepted": 2, "duplicate": 0, "rejected": 0, "rejections": []}
        assert gateway.spool.empty


def test_while_it_is_down_rows_and_labels_are_taken_and_drained_in_order_afterwards(world: World) -> None:
    with world.gateway() as gateway:
        world.proxy.down()
        first = gateway.post([world.row("a", features={"x": 1.0}, **{"class": "ok"})])
        assert first.status_code == 202
        assert first.json() == {"accepted": 0, "duplicate": 0, "rejected": 0, "rejections": [], "spooled": 1}
        labelled = gateway.post([{"id": f"{world.model}-a", "label": "ok"}], "labels")
        assert (labelled.status_code, labelled.json()["spooled"]) == (202, 1)
        # The same id with other content: the first one stands, as it would have with the store up.
        gateway.post([world.row("a", features={"x": 2.0}), world.row("b")])
        status = gateway.client.get("/v1/status").json()["spool"]
        assert (status["rows"], status["age_s"]) == (4, 0)
        assert "cannot be reached" in status["error"]
        assert status["oldest"] is not None
        world.proxy.up()
        gateway.drained()
        stored = world.stored()
        assert stored.keys() == {"a", "b"}
        assert stored["a"]["features"]["num"] == {"x": 1.0}
        assert gateway.client.get("/v1/status").json()["spool"]["error"] is None
        assert gateway.drainer.drained["created"] == 2
        assert gateway.drainer.drained["duplicate"] == 1
        assert features_of(world.store.state, world.model).numeric == ("x",)
        assert gateway.post([world.row("c")]).status_code == 200


def test_a_store_that_hangs_does_not_hang_its_clients(world: World) -> None:
    with world.gateway(wait_s=0.5) as gateway:
        world.proxy.judge = lambda path, body: "hang"
        before = time.monotonic()
        assert gateway.post([world.row("a")]).status_code == 202
        assert 0.5 <= time.monotonic() - before < 3
        before = time.monotonic()
        assert gateway.post([world.row("b")]).status_code == 202
        assert time.monotonic() - before < 0.5, "what follows must not wait for the store at all"
        world.proxy.up()
        world.proxy.released.set()
        gateway.drained()
        assert world.stored().keys() == {"a", "b"}


@pytest.mark.parametrize("status", [429, 503])
def test_a_store_that_is_too_busy_gets_its_rows_later(world: World, status: int) -> None:
    with world.gateway() as gateway:
        gateway.post([world.row("a")])
        world.proxy.judge = lambda path, body: status if path.startswith("/_bulk") else None
        for i in range(3):
            assert gateway.post([world.row(f"{i}-{j}") for j in range(150)]).status_code == 202
        until(lambda: gateway.drainer._failures > 12)  # far more than would condemn a row that is at fault
        assert gateway.spool.rows == 450
        world.proxy.up()
        gateway.drained()
        assert len(world.stored()) == 451
        assert gateway.drainer.drained["rejected"] == 0


def test_of_a_large_request_only_what_is_not_written_is_spooled(world: World) -> None:
    bulks = 0

    def judge(path: str, body: bytes) -> int | None:
        nonlocal bulks
        bulks += path.startswith("/_bulk") and b"@timestamp" in body
        return 503 if path.startswith("/_bulk") and bulks > 1 else None

    with world.gateway(start=False) as gateway:
        rows = [world.row(f"{i:04}", features={"n": i}) for i in range(CHUNK_ROWS + 100)]
        gateway.post(rows[:1])
        world.proxy.judge = judge
        answer = gateway.post(rows[1:]).json()
        assert (answer["accepted"], answer["spooled"]) == (CHUNK_ROWS, 99)
        world.proxy.up()
        gateway.drainer.start()
        gateway.drained()
        assert gateway.drainer.drained == {"created": 99}
    assert len(world.stored()) == CHUNK_ROWS + 100


def test_a_full_spool_refuses_with_503_and_keeps_what_it_answered(world: World) -> None:
    with world.gateway(limit=20_000) as gateway:
        world.proxy.down()
        answers = [gateway.post([world.row(f"{i}")]) for i in range(200)]
        codes = [answer.status_code for answer in answers]
        assert set(codes) == {202, 503}
        assert codes == sorted(codes)
        assert int(answers[-1].headers["Retry-After"]) > 0
        assert "full" in answers[-1].json()["error"]
        world.proxy.up()
        gateway.drained()
        assert world.stored().keys() == {f"{i}" for i, code in enumerate(codes) if code == 202}


def test_a_row_that_the_store_refuses_is_kept_with_the_reason_and_its_neighbours_are_stored(
    world: World,
) -> None:
    day = NOW - 3 * DAY
    with world.gateway() as gateway:
        gateway.post([world.row("first", timestamp=day)])
        no_more_fields = {"index.mapping.total_fields.limit": 1}
        alias = Names(world.prefix).predictions(day)
        httpx.put(f"{world.proxy.url}/{alias}/_settings", json=no_more_fields).raise_for_status()
        direct = gateway.post(
            [world.row("a", timestamp=day), world.row("bad", timestamp=day, features={"n": 1})]
        )
        assert direct.status_code == 200
        assert [r["index"] for r in direct.json()["rejections"]] == [1]
        world.proxy.down()
        worse = world.row("worse", timestamp=day, features={"m": 2})
        assert gateway.post([worse, world.row("b", timestamp=day)]).json()["spooled"] == 2
        world.proxy.up()
        gateway.drained()
        assert gateway.drainer.drained == {"created": 1, "rejected": 1}
    assert world.stored().keys() == {"first", "a", "b"}
    kept = {r.event: r for r in world.store.rejected(1_000) if r.model == world.model}
    assert kept.keys() == {f"{world.model}-bad", f"{world.model}-worse"}
    assert all("total fields" in r.reason for r in kept.values())
    assert '"m":2' in kept[worse["id"]].row


def test_a_row_that_makes_the_store_fail_is_found_and_kept_apart(world: World) -> None:
    def judge(path: str, body: bytes) -> int | None:
        return 500 if path.startswith("/_bulk") and b'"poison":' in body and b"@timestamp" in body else None

    with world.gateway(start=False) as gateway:
        world.proxy.down()
        rows = [world.row(f"{i}") for i in range(40)]
        rows[17] = world.row("17", features={"poison": 1.0})
        gateway.post(rows)
        world.proxy.judge = lambda path, body: None if b"rejected" in body else judge(path, body)
        gateway.drainer.start()
        gateway.drained()
        assert world.stored().keys() == {f"{i}" for i in range(40)} - {"17"}
        [kept] = [r for r in world.store.rejected(1_000) if r.model == world.model]
        assert kept.event == f"{world.model}-17"
        assert "500" in kept.reason
        assert "poison" in kept.row


def test_rows_that_are_not_valid_can_be_looked_up_whether_the_store_is_up_or_down(world: World) -> None:
    with world.gateway() as gateway:
        bad = world.row("bad", value="many")
        assert gateway.post([bad, world.row("a")]).status_code == 200
        world.proxy.down()
        assert gateway.post([world.row("worse", value=[]), world.row("b")]).status_code == 202
        world.proxy.up()
        gateway.drained()
        kept = {r.event: r for r in world.store.rejected(1_000) if r.model == world.model}
        assert kept.keys() == {f"{world.model}-bad", f"{world.model}-worse"}
        assert kept[bad["id"]].reason.startswith("value: ")
        assert '"many"' in kept[bad["id"]].row
        assert world.stored().keys() == {"a", "b"}


def test_workers_are_told_of_spooled_rows_before_the_first_of_them_is_written(world: World) -> None:
    with world.gateway(start=False) as gateway:
        world.proxy.down()
        early = NOW - 3 * HOUR
        gateway.post([world.row("a"), world.row("b", timestamp=early)])
        seen: list[object] = []

        def judge(path: str, body: bytes) -> None:
            if path.startswith("/_bulk"):
                seen.append(spooled_since(world.store.state, NOW))

        world.proxy.judge = judge
        gateway.drainer.start()
        gateway.drained()
        assert seen
        assert set(seen) == {early}
        until(lambda: spooled_since(world.store.state, NOW) is None)
        assert [g.rows for g in gateways(world.store.state) if g.name == gateway.spool.name] == [0]
    assert gateway.spool.name not in {g.name for g in gateways(world.store.state)}


def test_nothing_is_written_before_set_up_was_done(world: World) -> None:
    with world.gateway(start=False) as gateway:
        world.proxy.down()
        gateway.drainer._prepare = lambda: gateway.patient.state.find("none")
        gateway.drainer.start()
        assert gateway.post([world.row("a")]).status_code == 202
        world.proxy.up()
        gateway.drained()
        until(lambda: not gateway.drainer.holding)
        assert gateway.post([world.row("b")]).status_code == 200
