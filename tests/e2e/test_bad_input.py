"""Bad input over a socket, to a real gateway process: a clear answer each time, and nothing valid is lost."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from kedge.windows import DAY, iso
from tests.e2e.harness import Stack, stack
from tests.e2e.launcher import Launcher
from tests.pipeline.world import RULES

GOOD = {"model": "m", "class": "yes", "features": {"age": 41}}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("gateway"), "duckdb:kedge.duckdb", every="1h") as one:
        one.write(RULES)
        one.serve()
        yield one


def send(one: Stack, body: bytes, kind: str = "application/json", **headers: str) -> httpx.Response:
    return httpx.post(
        f"{one.address}/v1/predictions", content=body, headers={"Content-Type": kind, **headers}, timeout=60
    )


NOW = int(time.time() * 1000)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b'{"model": "m", "class": ', 400, "line"),
        (b"", 400, "empty"),
        (b"\xff\xfe\x00not text", 400, ""),
        (b'{"model": "m\xff"}', 400, "UTF-8"),
        (b'"just text"', 400, "expected an object"),
        (b"[" * 100_000, 400, ""),
        (b'{"class": "yes"}', 422, "model"),
        (b'{"model": 7, "class": "yes"}', 422, "model"),
        (b'{"model": "m", "class": "yes", "probability": "high"}', 422, "probability"),
        (b'{"model": "m", "class": "yes", "probability": 1.5}', 422, "probability"),
        (b'{"model": "m", "class": "yes", "probability": NaN}', 422, "nan is not a probability"),
        (json.dumps(GOOD | {"timestamp": "1999-12-31T23:59:59Z"}).encode(), 422, "2000"),
        (json.dumps(GOOD | {"timestamp": iso(NOW + 366 * DAY)}).encode(), 422, "timestamp"),
        (json.dumps(GOOD | {"features": {f"f{i}": i for i in range(10_000)}}).encode(), 422, "features"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_what_cannot_be_taken_is_answered_with_the_reason(
    gateway: Stack, body: bytes, status: int, says: str
) -> None:
    answer = send(gateway, body)
    assert answer.status_code == status, answer.text
    told = answer.json()
    text = told.get("error") or " ".join(f"{r['field']} {r['reason']}" for r in told["rejections"])
    assert text
    assert says in text


def test_a_body_of_fifty_megabytes_is_refused_and_its_sender_told(gateway: Stack) -> None:
    row = json.dumps(GOOD).encode() + b"\n"
    answer = send(gateway, row * (50 * 2**20 // len(row)), "application/x-ndjson")
    assert answer.status_code == 413
    assert "32" in answer.json()["error"]


def test_valid_rows_beside_bad_ones_are_stored(gateway: Stack, kedge: Launcher) -> None:
    """One batch with everything that can be wrong with a row; then the store is asked what it has."""
    good = [GOOD | {"model": "mixed", "id": f"g{i}", "timestamp": NOW - 5 * DAY + i} for i in range(5)]
    bad = [
        {"model": "mixed", "id": "no class", "probability": 2},
        {"model": "mixed", "class": "yes", "timestamp": "soon"},
        {"model": "mixed", "class": "yes", "timestamp": "1999-01-01"},
        {"model": "mixed", "class": ["yes"]},
        {"class": "yes"},
        ["not", "an", "object"],
    ]
    lines = [json.dumps(row).encode() for row in (*good, good[0], *bad)]
    lines += [b'{"model": "mixed", "class": "\xff\xfe"}', b'{"model": "mixed", ', b""]
    answer = send(gateway, b"\n".join(lines), "application/x-ndjson")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["accepted"], told["duplicate"]) == (5, 1)
    assert told["rejected"] == len(bad) + 2
    assert {r["index"] for r in told["rejections"]} == set(range(6, 6 + len(bad) + 2))
    assert all(r["reason"] for r in told["rejections"])

    # An infinite feature is missing, a nested one is invalid: neither costs its row.
    odd = GOOD | {"model": "mixed", "id": "odd", "timestamp": NOW - 5 * DAY, "features": {"a": 1e39, "b": {}}}
    assert send(gateway, json.dumps(odd).encode()).json()["accepted"] == 1

    assert kedge(["tick", "--drain"], gateway.folder, gateway.own_env).code == 0
    counted = kedge(
        ["metrics", "mixed", "--metric", "volume.count", "--json"], gateway.folder, gateway.own_env
    )
    assert sum(row["value"] for row in counted.rows) == 6


def test_the_process_is_still_the_same_after_all_that(gateway: Stack) -> None:
    assert [process.code for process in gateway.processes] == [None]
    assert httpx.get(f"{gateway.address}/healthz", timeout=30).json()["ok"]
    assert "Traceback" not in gateway.processes[0].text()
