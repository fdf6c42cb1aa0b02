"""`GET /metrics` tells how kedge itself does, with the numbers of status, doctor and the list of alerts."""

import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from msgspec import structs
from prometheus_client.parser import text_string_to_metric_families

from ingest.auth import new_key
from ingest.drain import Drainer
from ingest.rejection import REASONS
from ingest.service import IngestService
from ingest.spool import Spool
from kedge.alerting.loading import RuleBook, parse_rules
from kedge.cli.app import build_app
from kedge.clock import Clock
from kedge.config import Settings
from kedge.errors import StoreUnavailable
from kedge.notify.base import Message, NotifyError, Receipt
from kedge.notify.receivers import Receivers
from kedge.pipeline import own as own_module
from kedge.pipeline.compose import open_pipeline
from kedge.pipeline.context import Pipeline
from kedge.pipeline.feed import detect
from kedge.pipeline.lease import acquire
from kedge.pipeline.query import alert_rows
from kedge.pipeline.spooled import Gateway, tell
from kedge.pipeline.tick import LEASE
from kedge.records import Label
from kedge.store.base import Store
from kedge.store.elastic import ElasticStore, open_elastic
from kedge.web.own import OWN, SERVER
from kedge.windows import DAY, HOUR, MINUTE, SECOND
from tests.pipeline.world import MODEL, T0, World, prediction, settings
from tests.support.servers import remove_all
from workers.embedded import Scheduler

GOOD = "version: 1\nrules:\n- {name: slow, model: fraud, metric: latency.p95, window: 10m, above: 200ms}\n"
BAD = GOOD.replace("above", "abve")
Series = Mapping[str, Mapping[tuple[str, ...], float]]
"""By name (a counter's with `_total`), then by the values of its labels as they are listed in OWN."""


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application behind a real server, on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", 0, log_level="warning", lifespan="off"))
    server.config.load()
    socket = server.config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def scraped(url: str, **headers: str) -> Series:
    """What one scrape says; every series of it must be of a metric that is listed, with its labels."""
    answer = httpx.get(f"{url}/metrics", headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            assert set(sample.labels) == set(OWN[sample.name].labels)
            labels = tuple(sample.labels[name] for name in OWN[sample.name].labels)
            assert labels not in found.get(sample.name, {})
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def of_pipe(pipe: Pipeline, now: int, **parts: Any) -> Series:
    with served(build_app(pipe, lambda: now, **parts)) as url:
        return scraped(url)


def fires(one: World) -> None:
    """The rules begin with a model's first row; then more rows a minute come than `busy` allows."""
    one.send([prediction(0, T0)])
    one.tick(T0 + 2 * MINUTE, lease=LEASE)
    one.send([prediction(1 + i, T0 + 2 * MINUTE + 2 * i * SECOND) for i in range(120)])
    one.tick(T0 + 6 * MINUTE, lease=LEASE)


@pytest.fixture
def one() -> Iterator[World]:
    made = World(sole_writer=True)
    yield made
    made.close()


@pytest.fixture
def clustered(elasticsearch_url: str) -> Iterator[World]:
    prefix = f"kedge-own-{secrets.token_hex(5)}"

    def opened(clock: Clock) -> Store:
        return open_elastic(elasticsearch_url, prefix=prefix, clock=clock)

    made = World(book=RuleBook(), open_store=opened)
    try:
        yield made
    finally:
        made.close()
        remove_all(elasticsearch_url, prefix)


def test_a_broken_rule_file_shows_while_it_is_broken_and_not_after(tmp_path: Path) -> None:
    file = tmp_path / "fraud.yml"
    file.write_text(GOOD)
    pipe = open_pipeline(
        Settings.model_validate({"store": "duckdb::memory:", "rules": str(tmp_path)}), lambda: T0
    )
    pipe.store.setup()
    try:
        with served(build_app(pipe, lambda: T0)) as url:
            well = scraped(url)
            assert (well["kedge_rules"][()], well["kedge_rule_problems"][()]) == (1, 0)
            assert "kedge_rule_file_broken" not in well
            file.write_text(BAD)
            broken = scraped(url)
            assert broken["kedge_rule_file_broken"] == {(str(file),): 1}
            assert broken["kedge_rule_problems"][()] == len(pipe.rules().problems) > 0
            assert broken["kedge_rules"][()] == 1, "its last good version stays in force"
            file.write_text(GOOD + "# mended\n")
            mended = scraped(url)
            assert mended["kedge_rule_problems"][()] == 0
            assert "kedge_rule_file_broken" not in mended
    finally:
        pipe.store.close()


def test_a_model_is_behind_from_the_end_of_its_oldest_bucket_that_is_due(one: World) -> None:
    lag = one.settings.of_model(MODEL).lag
    one.send([prediction(i, T0 + i * MINUTE) for i in range(10)])
    one.drain(T0 + 10 * MINUTE + lag)
    well = of_pipe(one.pipe, one.now)
    assert well["kedge_model_summaries_behind_seconds"] == {(MODEL,): 0}
    assert well["kedge_model_judging_behind_seconds"] == {(MODEL,): 0}
    assert well["kedge_model_buckets_due"] == {(MODEL,): 0}
    assert well["kedge_models"][()] == 1
    later = of_pipe(one.pipe, one.now + HOUR)
    assert later["kedge_model_summaries_behind_seconds"] == {(MODEL,): 3600}, (
        "no tick has read the logs since"
    )
    # The step that ends a minute after the last that was judged has been due for the rest of the hour.
    assert later["kedge_model_judging_behind_seconds"] == {(MODEL,): 3540}
    one.send([prediction(100, T0 + 3 * MINUTE)])
    detect(one.pipe, one.now)  # and the tick was killed before it summarised
    late = of_pipe(one.pipe, one.now)
    assert late["kedge_model_summaries_behind_seconds"] == {(MODEL,): 360}, "bucket 3 was over at minute 4"
    assert late["kedge_model_buckets_due"] == {(MODEL,): 1}


def test_models_beyond_the_cap_are_told_as_one_with_the_worst_of_each(
    one: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [prediction(i, T0) for i in range(4)]
    names = ("a", "b", "c", "d")
    service = IngestService(one.store, one.store.state, lambda: T0)
    service.store_predictions([structs.replace(r, model=m) for r, m in zip(rows, names, strict=True)])
    detect(one.pipe, T0 + HOUR)
    monkeypatch.setattr(own_module, "MOST_MODELS", 2)
    held = own_module.own(one.pipe, one.book, T0 + HOUR)
    assert list(held.behind) == ["a", "b", "(other)"]
    assert held.behind["(other)"].summaries_s == held.behind["a"].summaries_s > 0
    assert held.behind["(other)"].buckets == 2


def test_alerts_are_those_of_the_list_by_state_and_severity(one: World) -> None:
    fires(one)
    found = of_pipe(one.pipe, one.now)["kedge_alerts"]
    listed = alert_rows(one.pipe, every=True)
    for state in ("firing", "pending", "inactive", "resolved"):
        of_state = [row for row in listed if row["state"] == state]
        assert sum(n for (told, _), n in found.items() if told == state) == len(of_state)
    fire = [row["severity"] for row in listed if row["state"] == "firing"]
    assert fire, "the rules of this world fire on so many rows"
    assert {severity for (state, severity) in found if state == "firing"} == set(fire)


class Unreachable:
    """A receiver that is down, or refuses for good."""

    def __init__(self, *, for_good: bool) -> None:
        self.for_good = for_good

    def send(self, message: Message, *, thread: dict[str, str] | None = None, again: bool = False) -> Receipt:
        raise NotifyError("no", permanent=self.for_good)


@pytest.mark.parametrize(("for_good", "state"), [(False, "waiting"), (True, "failed")])
def test_messages_that_wait_and_that_failed_are_told_by_receiver(
    one: World, for_good: bool, state: str
) -> None:
    one.pipe.receivers = Receivers({"pager": Unreachable(for_good=for_good)}, "pager")
    fires(one)
    found = of_pipe(one.pipe, one.now)["kedge_outbox_messages"]
    rows = list(one.store.outbox.find().values())
    assert found["pager", state] == len(rows) > 0
    assert sum(found.values()) == len(rows)


def test_labels_that_wait_and_that_were_given_up_are_told(one: World) -> None:
    one.label([Label(id=f"nobody-{i}", timestamp=T0, ingested=T0, model=MODEL, cls="ok") for i in range(3)])
    one.tick(T0 + MINUTE)
    assert of_pipe(one.pipe, one.now)["kedge_labels_waiting"] == {(): 3}
    one.tick(T0 + 400 * DAY)
    after = of_pipe(one.pipe, one.now)
    assert after["kedge_labels_waiting"] == {(): 0}
    assert after["kedge_labels_expired_total"] == {(MODEL,): 3}


@pytest.mark.parametrize("sole_writer", [True, False], ids=["in the process that ticks", "by another worker"])
def test_the_end_and_the_length_of_the_last_tick_are_told(sole_writer: bool) -> None:
    one = World(sole_writer=sole_writer)
    try:
        assert "kedge_tick_end_timestamp_seconds" not in of_pipe(one.pipe, T0)
        report = one.tick(T0 + MINUTE, lease=LEASE)
        seen_by = one.pipe if sole_writer else one.worker()
        told = of_pipe(seen_by, one.now)
        assert told["kedge_tick_end_timestamp_seconds"] == {(): (T0 + MINUTE) / 1000}
        assert told["kedge_tick_duration_seconds"][()] == pytest.approx(report.seconds, abs=0.001)
        assert told["kedge_logs_read_timestamp_seconds"] == {(): (T0 + MINUTE) / 1000}
        one.tick(T0 + 2 * MINUTE, lease=LEASE)
        assert (
            of_pipe(seen_by, one.now)["kedge_tick_end_timestamp_seconds"][()]
            > told["kedge_tick_end_timestamp_seconds"][()]
        )
    finally:
        one.close()


def test_what_the_last_tick_left_is_told_while_the_next_one_runs(one: World) -> None:
    one.pipe.sole_writer = False
    one.tick(T0 + MINUTE, lease=LEASE)
    assert acquire(one.store.state, "tick", "another", T0 + 2 * MINUTE, LEASE)
    assert of_pipe(one.pipe, one.now)["kedge_tick_end_timestamp_seconds"] == {(): (T0 + MINUTE) / 1000}


def test_a_tick_that_fails_is_told_until_one_ends_where_the_process_ticks(one: World) -> None:
    trouble: list[str] = []

    def rules() -> RuleBook:
        if trouble:
            raise StoreUnavailable(trouble[0])
        return one.book

    one.pipe.rules = rules
    scheduler = Scheduler(one.pipe, lambda: T0 + MINUTE, 0.02)

    def failing(url: str, told: float) -> bool:
        return any(scraped(url)["kedge_tick_failing"] == {(): told} or time.sleep(0.05) for _ in range(200))

    assert "kedge_tick_failing" not in of_pipe(one.pipe, T0), "it does not tick"
    scheduler.start()
    try:
        with served(build_app(one.pipe, lambda: T0, scheduler=scheduler)) as url:
            assert failing(url, 0)
            trouble.append("the disk is full")
            assert failing(url, 1)
            trouble.clear()
            assert failing(url, 0)
    finally:
        scheduler.stop()


def test_gateways_that_fell_silent_are_told_with_what_they_hold(one: World) -> None:
    tell(one.store.state, Gateway("well", None, 0, 0, one.now))
    tell(one.store.state, Gateway("gone", T0, 70, 7000, one.now - DAY))
    found = of_pipe(one.pipe, one.now)
    assert found["kedge_gateways_silent"] == {(): 1}
    assert found["kedge_gateways_spooled_rows"] == {(): 70}


def test_the_gateway_tells_what_arrived_and_why_rows_were_refused_and_asks_no_store(one: World) -> None:
    row = {"id": "a", "timestamp": T0, "model": "m", "features": {"secret-name": 1}}
    bad = [
        row | {"id": "b", "latency_ms": "fast"},
        row | {"id": "c", "segment": {"tell-nobody": [1]}, "probability": 7},
        "text",
    ]
    with served(build_app(one.pipe, lambda: T0, read=False)) as url:
        httpx.post(f"{url}/v1/predictions", json=[row, *bad]).raise_for_status()
        httpx.post(f"{url}/v1/predictions", json=[row]).raise_for_status()
        status = httpx.get(f"{url}/v1/status").json()
        one.store.close()
        found = scraped(url)
    assert not set(found) & {metric.name for metric in SERVER}
    assert found["kedge_gateway_rows_total"] == {(): status["arrived"]["rows"]} == {(): 2}
    assert found["kedge_gateway_duplicate_rows_total"] == {(): 1}
    assert found["kedge_gateway_ahead_rows_total"] == {(): 0}
    reasons = {reason: n for (reason,), n in found["kedge_gateway_rejected_rows_total"].items()}
    assert reasons == status["rejected"]["reasons"]
    assert sum(reasons.values()) == status["rejected"]["rows"] == 3
    assert reasons["latency_ms"] == reasons["row"] == 1
    assert set(reasons) <= set(REASONS), "a client must not be able to make series"
    assert "kedge_gateway_spool_rows" not in found, "there is none over DuckDB"


def test_rows_older_than_what_is_kept_are_counted_and_kept_with_their_reason() -> None:
    kept = Settings.model_validate({"store": "duckdb::memory:", "retention": {"predictions": "30d"}})
    one = World(settings=kept, sole_writer=True)
    try:
        one.tick(T0 + DAY)
        service = IngestService(one.store, one.store.state, lambda: one.now)
        answer = service.store_predictions([prediction(1, T0 - 90 * DAY), prediction(2, T0 + DAY)])
        assert (answer.accepted, answer.rejected) == (1, 1)
        assert service.status()["rejected"] == {"rows": 1, "kept": 1, "reasons": {"retention": 1}}
        assert [r.event for r in one.store.rejected()] == ["row-00001"]
    finally:
        one.close()


def test_the_spool_tells_its_rows_its_size_and_how_long_the_first_has_waited(
    one: World, tmp_path: Path
) -> None:
    now = [T0]
    spool = Spool(tmp_path, limit=10**6)
    drainer = Drainer(spool, one.store, lambda: T0, wall=lambda: now[0], prepare=lambda: None)
    service = IngestService(one.store, one.store.state, lambda: T0, drainer)
    app = build_app(one.pipe, lambda: T0, read=False, service=service, drainer=drainer)
    try:
        with served(app) as url:
            assert scraped(url)["kedge_gateway_spool_oldest_age_seconds"] == {(): 0}
            rows = [{"id": str(i), "timestamp": T0, "model": "m"} for i in range(5)]
            assert httpx.post(f"{url}/v1/predictions", json=rows).status_code == 202
            now[0] += 42 * SECOND
            held = scraped(url)
            assert held["kedge_gateway_spool_rows"] == {(): 5}
            assert held["kedge_gateway_spool_bytes"][()] == spool.depth().bytes > 0
            assert held["kedge_gateway_spool_limit_bytes"] == {(): 10**6}
            assert held["kedge_gateway_spool_oldest_age_seconds"] == {(): 42}
    finally:
        spool.close()


def test_a_key_is_needed_where_reads_need_one(one: World) -> None:
    key = new_key()
    one.pipe.settings = one.settings.model_copy(update={"keys": (key.hash,)})
    for parts in ({}, {"read": False}, {"ingest": False}):
        with served(build_app(one.pipe, lambda: T0, **parts)) as url:
            assert httpx.get(f"{url}/metrics").status_code == 401
            assert scraped(url, authorization=f"Bearer {key.plain}")


def test_without_the_store_the_rest_is_told_and_that_it_is_gone() -> None:
    gone = open_elastic("http://127.0.0.1:9", prefix="kedge-own-gone", clock=lambda: T0)
    book = parse_rules(GOOD)
    pipe = Pipeline(gone, settings(), lambda: book, Receivers({}, ""), "worker")
    try:
        found = of_pipe(pipe, T0)
    finally:
        gone.close()
    assert found["kedge_store_up"] == {(): 0}
    assert found["kedge_rules"] == {(): 1}
    assert found["kedge_gateway_rows_total"] == {(): 0}
    assert "kedge_models" not in found


def test_servers_of_one_process_share_no_numbers(one: World) -> None:
    with served(build_app(one.pipe, lambda: T0)) as first, served(build_app(one.pipe, lambda: T0)) as second:
        httpx.post(f"{first}/v1/predictions", json={"id": "a", "timestamp": T0, "model": "m"})
        assert scraped(first)["kedge_gateway_rows_total"] == {(): 1}
        assert scraped(second)["kedge_gateway_rows_total"] == {(): 0}


def test_a_scrape_asks_a_cluster_ten_times_however_much_there_is(clustered: World) -> None:
    one = clustered
    assert isinstance(one.store, ElasticStore)

    def requests() -> int:
        before = one.store.counters.requests
        own_module.own(one.pipe, one.book, one.now)
        return one.store.counters.requests - before

    one.send([prediction(0, T0)])
    one.tick(T0 + 2 * MINUTE, lease=LEASE)
    few = requests()
    rules = [
        f"- {{name: r{i}, metric: volume.count, window: 2m, by: segment.region, above: 1, evidence: point}}\n"
        for i in range(20)
    ]
    one.book = parse_rules("version: 1\ndefaults: {model: '*'}\nrules:\n" + "".join(rules))
    one.tick(T0 + 2 * MINUTE, lease=LEASE)
    one.send([prediction(1 + i, T0 + 2 * MINUTE + 2 * i * SECOND) for i in range(120)])
    one.tick(T0 + 6 * MINUTE, lease=LEASE)
    many = requests()
    found = of_pipe(one.pipe, one.now)
    listed = [(row["state"], row["severity"]) for row in alert_rows(one.pipe, every=True)]
    assert len(listed) == 40
    assert found["kedge_alerts"] == {pair: listed.count(pair) for pair in set(listed)}
    assert found["kedge_outbox_messages"]["notebook", "waiting"] == 0
    assert found["kedge_store_up"] == {(): 1}
    assert found["kedge_model_judging_behind_seconds"] == {(MODEL,): 0}
    assert found["kedge_tick_end_timestamp_seconds"] == {(): one.now / 1000}
    assert (few, many) == (10, 10)
