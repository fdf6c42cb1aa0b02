"""Celery workers over Elasticsearch: killed, doubled or stalled, they end as one that was left alone.

A model is broken for two minutes and mended; a worker judges all of it in one tick, so that whatever
interrupts it interrupts the whole. Time starts where the traffic ends, and runs faster than on the wall.
Every single fault point is tried in test_kill, on a file.
"""

import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kedge.alerting.finding import AlertState
from kedge.pipeline.faults import POINTS, STALL, VARIABLE
from kedge.pipeline.feed import load_feed
from kedge.pipeline.schema import features_of
from kedge.sketch import PartName
from kedge.store.base import Json, Store, SummaryRequest
from kedge.windows import DAY, HOUR, MINUTE, SECOND, TIERS, Millis, Window, floor, iso
from tests.e2e.harness import Stack, broker, stack, until
from tests.e2e.launcher import Launcher
from tests.e2e.test_kill import RULE_NAMES, row
from tests.pipeline.world import RULES, assert_same
from tests.support.stored import stored_parts
from workers.celery_app import TICK, make_app

SPEED = 20
NOW = time.time_ns() // 1_000_000
T0 = floor(NOW, DAY) - 3 * MINUTE
"""Shortly before midnight: an hour and a day end on the way."""
START = (SPEED * NOW - (T0 + 8 * MINUTE)) // (SPEED - 1)
"""Of the clock: it says now that it is eight minutes after T0."""
SPAN = Window(T0 - DAY, T0 + DAY)
POSTS = 8
"""What is told of those minutes, at least: four alerts fire, and resolve."""

Outcome = tuple[Mapping[str, Any], Counter[str | None]]


def rows_of(minutes: range) -> list[Json]:
    return [
        row(m * 20 + i, T0 + m * MINUTE + i * SECOND, broken=m in (2, 3))
        for m in minutes
        for i in range(15 if m in (2, 3) else 4)
    ]


def load(kedge: Launcher, one: Stack, rows: list[Json]) -> None:
    file = one.folder / f"{secrets.token_hex(4)}.jsonl"
    file.write_bytes(b"\n".join(msgspec.json.encode(r) for r in rows))
    done = kedge(["import", file.name, "--model", "fraud", "--json"], one.folder, one.own_env)
    assert done.code == 0, done
    assert done.row["accepted"] == len(rows), done


@pytest.fixture
def redis(redis_url: str) -> str:
    return broker(redis_url, 12)


@contextmanager
def begun(kedge: Launcher, folder: Path, url: str, redis: str) -> Iterator[Stack]:
    """An installation with the traffic stored, whose rules have begun while it was good."""
    with stack(folder, url, redis=redis, clock=f"{START}:{SPEED}", every="1s") as one:
        one.write(RULES)
        load(kedge, one, rows_of(range(7)))
        done = kedge(["tick", "--drain", "--now", iso(T0 + 3 * MINUTE), "--json"], folder, one.own_env)
        assert done.row["steps"] > 0, done
        assert one.told() == []
        yield one


def send_tick(one: Stack) -> None:
    with make_app(one.settings) as app:
        app.send_task(TICK)


def over(tier: Millis) -> Window:
    """The span of the buckets that are over whenever one looks."""
    return SPAN if tier < HOUR else Window(SPAN.start, floor(NOW, DAY))


def state_of(store: Store) -> Mapping[str, Any]:
    """What must be the same however it came about. How far alerts were judged depends on when one looks, and
    so does which of their steps are kept for corrections."""
    return {
        "summaries": {
            row.key: row.part
            for tier in TIERS.values()
            for row in stored_parts(store, "fraud", tier, over(tier), tuple(PartName))
        },
        "metrics": {
            (doc.window, doc.group, doc.feature): doc.values
            for tier in TIERS.values()
            for doc in store.read_metrics("fraud", tier, over(tier))
        },
        "alerts": {
            name: msgspec.to_builtins(
                msgspec.structs.replace(
                    msgspec.convert(stored.value, AlertState), evaluated_through=0, finding=None, past=None
                )
            )
            for name, stored in store.alerts.find().items()
        },
        "events": {
            name: {k: v for k, v in stored.value.items() if k != "decided"}
            for name, stored in store.events.find().items()
        },
        "outbox": Counter(stored.value["status"] for stored in store.outbox.find().values()),
    }


def assert_recounted(store: Store) -> None:
    """The stored minutes, and the hour and day that are over, are what a count from scratch gives, on the
    same store; labels are stored from the hour on."""
    features = features_of(store.state, "fraud")
    for tier in TIERS.values():
        span = over(tier)
        request = SummaryRequest(
            model="fraud",
            window=Window(floor(span.start, tier), floor(span.end, tier)),
            bucket=tier,
            parts=frozenset({PartName.CORE} if tier < HOUR else {PartName.CORE, PartName.LABELS}),
            groupings=((), ("segment.region",)),
            numeric=features.numeric,
            categorical=features.categorical,
            invalid=features.invalid,
            attributions=features.attributions,
            probabilities=features.ranked,
        )
        stored = {r.key: r.part for r in stored_parts(store, "fraud", tier, request.window, tuple(PartName))}
        counted = {r.key: r.part for r in store.summarise(request)}
        assert counted
        assert_same(stored, counted, f"buckets of {tier} ms")


def is_settled(one: Stack) -> bool:
    """Everything is summarised, decided and told."""
    feed = load_feed(one.opened.state)
    resolved = Counter(e["rule"] for e in one.events() if e["after"] == "resolved")
    outbox = [stored.value["status"] for stored in one.opened.outbox.find().values()]
    return (
        not feed.models["fraud"].dirty
        and [resolved[rule] for rule in RULE_NAMES] == [1, 2, 1]
        and len(outbox) >= POSTS
        and set(outbox) == {"sent"}
    )


def settle(one: Stack) -> None:
    """Ticks, one a second as beat sends them, until all is done and the last has ended."""
    deadline, sent = time.monotonic() + 60, float("-inf")
    while not is_settled(one):
        assert time.monotonic() < deadline, "not settled within 60 s"
        if time.monotonic() - sent >= 1:
            send_tick(one)
            sent = time.monotonic()
        time.sleep(0.1)
    if sent > 0:
        state = one.opened.state
        until(lambda: (lease := state.get("lease:tick")) and lease.value["until"] == 0, "the tick to end")


@pytest.fixture(scope="module")
def undisturbed(
    kedge: Launcher, elasticsearch_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    with begun(kedge, tmp_path_factory.mktemp("alone"), elasticsearch_url, broker(redis_url, 12)) as one:
        one.worker()
        settle(one)
        assert_recounted(one.opened)
        return state_of(one.opened), Counter(one.told())


def assert_undisturbed(one: Stack, undisturbed: Outcome) -> None:
    assert_recounted(one.opened)
    expected, told = undisturbed
    state = state_of(one.opened)
    for what, wanted in expected.items():
        assert_same(state[what], wanted, what)
    assert Counter(one.told()) == told


def let_lease_run_out(one: Stack) -> None:
    """A receiver's lease is a minute of the wall clock; a test need not sit through it."""
    for name, stored in one.opened.state.find("lease:receiver:").items():
        one.opened.state.swap(name, stored.value | {"until": 0}, stored.token)


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_is_killed_is_made_up_for(
    kedge: Launcher,
    elasticsearch_url: str,
    redis: str,
    tmp_path: Path,
    undisturbed: Outcome,
    point: str,
) -> None:
    with begun(kedge, tmp_path, elasticsearch_url, redis) as one:
        victim = one.worker(**{VARIABLE: point})
        for _ in range(6):  # a tick that a busy server refused is made up for by the next
            send_tick(one)
            with suppress(AssertionError):
                until(lambda: victim.code, "the worker's death", 15)
                break
        assert victim.code == -signal.SIGKILL
        let_lease_run_out(one)
        one.worker()
        settle(one)
        assert_undisturbed(one, undisturbed)


def test_two_workers_and_two_beats_do_no_harm(
    kedge: Launcher,
    elasticsearch_url: str,
    redis: str,
    tmp_path: Path,
    undisturbed: Outcome,
) -> None:
    with begun(kedge, tmp_path, elasticsearch_url, redis) as one:
        both = [one.start("worker", "--pool", "solo") for _ in range(2)]
        beats = [one.start("beat") for _ in range(2)]
        until(lambda: is_settled(one), "settled", 90, 0.5)
        for worker in both:
            worker.wait_for("tick")
        ticks = sum(worker.text().count("kedge.tick") for worker in both)
        until(lambda: sum(w.text().count("kedge.tick") for w in both) > ticks + 4, "more ticks")
        assert_undisturbed(one, undisturbed)
        assert list(tmp_path.glob("kedge-beat-*"))
        for beat in beats:
            beat.end()
        assert not list(tmp_path.glob("kedge-beat-*")), "beat left its schedule behind"


@pytest.mark.parametrize("point", ["summarise:counted", "deliver:attempting"])
def test_a_worker_that_was_away_for_minutes_and_writes_changes_nothing(
    kedge: Launcher,
    elasticsearch_url: str,
    redis: str,
    tmp_path: Path,
    undisturbed: Outcome,
    point: str,
) -> None:
    """It has counted, folded or taken up a message; another takes over; it wakes and goes on with that."""
    with begun(kedge, tmp_path, elasticsearch_url, redis) as one:
        sleeper = one.worker(**{STALL: point})
        send_tick(one)
        until(lambda: sleeper.stopped, "the worker to stall")
        fell_asleep = one.now()
        until(lambda: one.now() > fell_asleep + 2 * MINUTE, "the tick's lease to run out")
        let_lease_run_out(one)
        late = [row(900 + i, T0 + 5 * MINUTE + i * SECOND, broken=False) for i in range(3)]
        if point == "summarise:counted":
            load(kedge, one, late)  # so that what the sleeper has counted is no longer all there is
        one.worker()
        settle(one)
        told = one.told()
        sleeper.signal(signal.SIGCONT)
        sleeper.wait_for("tick: ")
        assert one.told() == told
        if point == "summarise:counted":
            assert_recounted(one.opened)
        else:
            assert_undisturbed(one, undisturbed)
