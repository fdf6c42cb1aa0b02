"""SIGKILL between any two steps of a tick: started again, kedge ends as if nothing had happened.

Each tick is a process of its own, on a DuckDB file; test_workers shows the same of workers over a cluster.
What happened is read back from the file: summaries, metrics, alerts, events, and what Slack was told.
"""

import shutil
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kedge.alerting.finding import AlertState
from kedge.pipeline.faults import POINTS, VARIABLE
from kedge.sketch import PartName
from kedge.store.base import Json, Store
from kedge.store.duckdb import open_duckdb
from kedge.windows import DAY, MINUTE, SECOND, TIERS, Millis, Window, iso, parse_time
from tests.e2e.harness import Stack, stack
from tests.e2e.launcher import Done, Launcher
from tests.pipeline.world import RULES, assert_same
from tests.support.stored import stored_parts

T0 = parse_time("2024-03-05T23:57:00Z")
"""An hour and a day end on the way."""
CASES = [(point, False) for point in POINTS] + [
    (point, True) for point in ("deliver:attempting", "deliver:sent", "deliver:threaded", "deliver:recorded")
]
"""Every point with a bot; a webhook, which cannot be asked what arrived, where it makes a difference."""
RULE_NAMES = ("busy", "failing", "wrong")
BEGUN, BROKEN, MENDED = T0 + 3 * MINUTE, T0 + 5 * MINUTE, T0 + 9 * MINUTE
"""When the ticks are: the rules have begun, the model is broken (here the worker dies), it is mended."""


def row(i: int, at: Millis, *, broken: bool) -> Json:
    return {
        "id": f"row-{i}",
        "timestamp": iso(at),
        "class": "fraud" if i % 3 else "ok",
        "probability": 0.7,
        "label": ("ok" if i % 3 else "fraud") if broken else ("fraud" if i % 3 else "ok"),
        "amount": i * 1.5,
        "country": "de" if i % 2 else "fr",
        "segment.region": "eu" if i % 2 else "us",
        "error.type": "Timeout" if broken else "",
    }


def rows_of(minutes: range) -> list[Json]:
    """Four rows a minute; fifteen, wrong and failing ones, in minutes 2 and 3."""
    return [
        row(m * 20 + i, T0 + m * MINUTE + i * SECOND, broken=m in (2, 3))
        for m in minutes
        for i in range(15 if m in (2, 3) else 4)
    ]


def tick(kedge: Launcher, one: Stack, now: Millis, **env: str) -> Done:
    return kedge(["tick", "--drain", "--now", iso(now), "--json"], one.folder, one.own_env | env)


@pytest.fixture(scope="module")
def begun(kedge: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything is imported, and the rules have begun on good traffic."""
    folder = tmp_path_factory.mktemp("begun")
    with stack(folder, "duckdb:kedge.duckdb") as one:
        one.write(RULES)
        lines = [msgspec.json.encode(r) for r in rows_of(range(7))]
        (folder / "log.jsonl").write_bytes(b"\n".join(lines))
        loaded = kedge(["import", "log.jsonl", "--model", "fraud", "--json"], folder, one.own_env)
        assert loaded.code == 0, loaded
        assert loaded.row["accepted"] == len(lines)
        assert tick(kedge, one, BEGUN).row["steps"] > 0
        assert one.told() == []
    return folder


def state_of(one: Stack) -> Mapping[str, Any]:
    """Everything that must be the same however often a worker died."""
    store: Store = open_duckdb(str(one.folder / "kedge.duckdb"))
    try:
        span = Window(T0 - DAY, T0 + DAY)
        return {
            "summaries": {
                row.key: row.part
                for tier in TIERS.values()
                for row in stored_parts(store, "fraud", tier, span, PartName)
            },
            "metrics": {
                (doc.window, doc.group, doc.feature): doc.values
                for tier in TIERS.values()
                for doc in store.read_metrics("fraud", tier, span)
            },
            "alerts": {
                name: msgspec.to_builtins(msgspec.convert(stored.value, AlertState))
                for name, stored in store.alerts.find().items()
            },
            "events": {
                name: {k: v for k, v in stored.value.items() if k != "decided"}
                for name, stored in store.events.find().items()
            },
            "outbox": Counter(stored.value["status"] for stored in store.outbox.find().values()),
        }
    finally:
        store.close()


@pytest.fixture(scope="module")
def undisturbed(
    kedge: Launcher, begun: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Mapping[str, Any], list[str | None]]:
    folder = tmp_path_factory.mktemp("undisturbed") / "here"
    shutil.copytree(begun, folder)
    with stack(folder, "duckdb:kedge.duckdb") as one:
        for now in (BROKEN, MENDED):
            assert tick(kedge, one, now).code == 0
        state, told = state_of(one), one.told()
    moves = Counter((event["rule"], event["before"], event["after"]) for event in state["events"].values())
    begin = [moves[rule, "inactive", "firing"] + moves[rule, "pending", "firing"] for rule in RULE_NAMES]
    end = [moves[rule, "firing", "resolved"] for rule in RULE_NAMES]
    assert begin == end == [1, 2, 1], moves  # one of the rules fires in two regions
    assert len(told) == len(set(told)) >= 8
    return state, told


@pytest.mark.parametrize(("point", "webhook"), CASES)
def test_a_tick_that_is_killed_anywhere_is_made_up_for(
    kedge: Launcher,
    begun: Path,
    undisturbed: tuple[Mapping[str, Any], list[str | None]],
    tmp_path: Path,
    point: str,
    webhook: bool,
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(begun, folder)
    with stack(folder, "duckdb:kedge.duckdb", webhook=webhook) as one:
        assert tick(kedge, one, BROKEN, **{VARIABLE: point}).code == -signal.SIGKILL
        assert tick(kedge, one, MENDED).code == 0
        state, posts = state_of(one), one.slack.posts
    expected, told = undisturbed
    for what, wanted in expected.items():
        assert_same(state[what], wanted, what)
    if not webhook:
        assert Counter(p.transition for p in posts) == Counter(told)
    else:  # between the webhook's answer and its record, the one place where a post may come twice
        assert len(posts) == len(told) + (point in ("deliver:sent", "deliver:threaded"))
