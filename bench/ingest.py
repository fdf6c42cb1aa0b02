"""Rows a second from HTTP to searchable, beside raw `_bulk` of the same documents in the same run."""

import http.client
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil

from bench import rows as generated
from bench.meter import Meter, Spent, busy, cpu_of, server_process, usual
from bench.processes import kedge_on
from bench.targets import at_least
from kedge.clock import system_clock
from kedge.store.elastic import ElasticStore
from kedge.store.elastic.client import Client
from kedge.store.elastic.encode import encode
from kedge.store.elastic.names import Names
from kedge.store.elastic.operations import Operation
from kedge.windows import DAY, floor

BATCH = 1_000
TARGET = 0.7


@dataclass(frozen=True)
class Round:
    """One measured run of one side."""

    rows: int
    seconds: float
    """From the first request to all rows visible to a search."""
    posting_s: float
    """Of these, until the last answer."""
    spent: Spent

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


def post_all(
    url: str, path: str, bodies: Sequence[bytes], connections: int, check: Callable[[Any], None]
) -> float:
    """Post every body over persistent connections; returns the seconds. Raises what one of them raised."""
    work = iter(bodies)
    turn = threading.Lock()
    failures: list[BaseException] = []
    where = urlsplit(url)

    def client() -> None:
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=120)
        try:
            while not failures:
                with turn:
                    body = next(work, None)
                if body is None:
                    return
                connection.request("POST", path, body, {"Content-Type": "application/x-ndjson"})
                answer = connection.getresponse()
                content = answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{path}: {answer.status} {content[:300]!r}")
                check(msgspec.json.decode(content))
        except Exception as error:  # noqa: BLE001 -- raised again by the caller
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=client, daemon=True) for _ in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - started


def until_visible(client: Client, index: str, count: int, seconds: float = 60.0) -> None:
    """Wait until a search finds `count` rows; raises RuntimeError where it finds more, or does not."""
    deadline = time.monotonic() + seconds
    while True:
        client.request("POST", f"/{index}/_refresh")
        found = client.request("GET", f"/{index}/_count")["count"]
        if found == count:
            return
        if found > count or time.monotonic() > deadline:
            raise RuntimeError(f"{found:,} rows are visible in {index}, {count:,} were sent")
        time.sleep(0.01)


def _all_accepted(answer: Any) -> None:
    if answer["accepted"] != BATCH:
        raise RuntimeError(f"not all rows were accepted: {answer}")


def _all_created(answer: Any) -> None:
    if answer["errors"]:
        raise RuntimeError("the server refused rows of a bulk request")


def measure(url: str, *, count: int = 40_000, rounds: int = 6, connections: int = 4) -> dict[str, object]:
    """Both sides in turn, `rounds` times each, each time into a fresh index of the same template.

    Each begins every second pair, and each has one round before those that count: a server that has just
    started takes rows three times as slowly.
    """
    server = server_process(url)
    with kedge_on(url) as (kedge, store, client):
        address, process = kedge.gateway()
        names = Names(kedge.prefix)
        days = itertools.count(floor(system_clock(), DAY) - 40 * DAY, DAY)
        through = _Gateway(address, process, server, client, names, connections)
        beside = Raw(url, store, client, names, connections, server)
        ours: list[Round] = []
        raw: list[Round] = []
        for i in range(-1, rounds):
            for side, kept in ((through, ours), (beside, raw))[:: 1 if i % 2 else -1]:
                kept.append(side.round(next(days), count, seed=i % 100))
        del ours[0], raw[0]
        size = client.request("GET", f"/{kedge.prefix}-predictions-*/_stats/store,docs")["_all"]["primaries"]
        title = str(client.server)
        worker = process.memory_info().rss
    rate, bulk = (statistics.median(r.rate for r in side) for side in (ours, raw))
    # Pairs, because what else the machine does changes from minute to minute.
    ratios = [own.rate / other.rate for own, other in zip(ours, raw, strict=True)]
    own, other = (usual([(r.spent, r.rows) for r in side]) for side in (ours, raw))
    return {
        "server": title,
        "rows_per_round": count,
        "rounds": rounds,
        "connections": connections,
        "batch": BATCH,
        "features": generated.NUMERIC + generated.CATEGORICAL,
        "gateway_rows_per_s": round(rate),
        "gateway_rounds": [round(r.rate) for r in ours],
        "bulk_rows_per_s": round(bulk),
        "bulk_rounds": [round(r.rate) for r in raw],
        "ratio": at_least(statistics.median(ratios), TARGET),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "per_row": own,
        "per_row_raw": other,
        # What this machine could reach at most, were no core ever idle.
        "bound": round(busy(other) / busy(own), 2),
        "gateway_rss_mb": round(worker / 2**20),
        "bytes_per_row_stored": round(size["store"]["size_in_bytes"] / size["docs"]["count"]),
    }


@dataclass(frozen=True)
class _Gateway:
    """Through kedge."""

    address: str
    process: psutil.Process
    server: psutil.Process
    client: Client
    names: Names
    connections: int

    def round(self, day: int, count: int, *, seed: int) -> Round:
        bodies = generated.bodies(generated.predictions(count, day, seed=seed), BATCH)
        meter, started = Meter(self.server, lambda: cpu_of(self.process)), time.perf_counter()
        posting = post_all(self.address, "/v1/predictions", bodies, self.connections, _all_accepted)
        spent = meter.spent()
        until_visible(self.client, self.names.predictions(day), count)
        return Round(count, time.perf_counter() - started, posting, spent)


@dataclass(frozen=True)
class Raw:
    """Straight to the server, encoded beforehand: the least that anything in front of it could cost."""

    url: str
    store: ElasticStore
    client: Client
    names: Names
    connections: int
    server: psutil.Process

    def round(self, day: int, count: int, *, seed: int) -> Round:
        alias = self.names.predictions(day)
        first, *rest = generated.records(generated.predictions(count, day, seed=seed))
        self.store.append([first])  # makes the index, by the template
        operations = [Operation.of("create", encode(row), _index=alias, _id=row.id).lines for row in rest]
        bodies = [b"".join(operations[i : i + BATCH]) for i in range(0, len(operations), BATCH)]
        path = "/_bulk?filter_path=errors,items.*.error&require_alias=true"
        meter, started = Meter(self.server), time.perf_counter()
        posting = post_all(self.url, path, bodies, self.connections, _all_created)
        spent = meter.spent()
        until_visible(self.client, alias, count)
        return Round(count, time.perf_counter() - started, posting, spent)
