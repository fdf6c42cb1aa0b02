"""The main job: good traffic posts nothing, a broken model fires in time, recovery resolves.

With real processes. Time runs faster than on the wall: every process is given the same rehearsal clock.
Traffic follows it as a service's would: rows carry the time at which they are sent, their labels come right
after.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kedge.store.base import Json
from kedge.windows import MINUTE, SECOND, Millis, iso
from tests.e2e.harness import Stack, broker, minute_of, stack, until

SPEED = 20
LAG = MINUTE
EVERY = 3 * SECOND
"""Real time: a minute of the rehearsal."""
RULES = """
version: 1
defaults: {model: churn, window: 1m}
rules:
  - {name: wrong, metric: performance.accuracy, below: 70%, evidence: point, min_count: 5}
  - {name: silent, metric: volume.count, below: 1}
  - {name: slow, metric: latency.p95, above: 100ms, evidence: point}
"""


@pytest.fixture(params=["elasticsearch", "opensearch", "embedded"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    """A whole installation: three processes over a cluster and Redis, or one on a file."""
    where: str = request.param
    given = {"clock": f"{time.time_ns() // 1_000_000}:{SPEED}", "every": f"{EVERY // SECOND}s"}
    if where == "embedded":
        with stack(tmp_path, "duckdb:kedge.duckdb", **given) as one:
            one.write(RULES)
            one.serve()
            yield one
        return
    redis = broker(request.getfixturevalue("redis_url"), 11)
    with stack(tmp_path, request.getfixturevalue(f"{where}_url"), redis=redis, **given) as one:
        one.write(RULES)
        one.worker()  # before anything was set up: order of starting must not matter
        one.serve("--gateway")
        one.beat()
        yield one


class Traffic:
    """A service that logs, and learns the truth at once."""

    def __init__(self, one: Stack) -> None:
        self._one = one
        self._sent = 0
        self._last = one.now()

    def run(self, until_time: Millis, *, broken: bool) -> None:
        """A row for every three seconds of the rehearsal; rows up to `until_time`, not beyond."""
        while self._last < until_time:
            upto = min(self._one.now(), until_time)
            times = range(self._last, upto, 3 * SECOND)
            if times:
                rows = [self._row(t) for t in times]
                answer = self._one.post("/v1/predictions", rows)
                assert answer["accepted"] == len(rows), answer
                labels = [self._label(row, broken=broken) for row in rows]
                answer = self._one.post("/v1/labels", labels)
                assert answer["accepted"] + answer["waiting"] == len(rows), answer
                self._last = times[-1] + 3 * SECOND
            time.sleep(0.15)

    def _row(self, at: Millis) -> Json:
        self._sent += 1
        return {
            "id": f"churn-{self._sent}",
            "timestamp": at,
            "model": "churn",
            "class": "stays",
            "probability": 0.9,
            "features": {"visits": self._sent % 7, "plan": "free"},
            "latency_ms": 12.5,
        }

    @staticmethod
    def _label(row: Json, *, broken: bool) -> Json:
        return {
            "id": row["id"],
            "class": "leaves" if broken else "stays",
            "timestamp": row["timestamp"] + SECOND,
            "model": "churn",
        }


def test_a_broken_model_is_told_once_and_in_time_and_so_is_its_recovery(running: Stack) -> None:
    one = running
    traffic = Traffic(one)
    breaks = minute_of(one.now()) + 3 * MINUTE
    traffic.run(breaks, broken=False)
    assert one.told() == [], "good traffic posted something"

    recovers = breaks + 2 * MINUTE
    traffic.run(recovers, broken=True)
    traffic.run(recovers + 2 * MINUTE, broken=False)
    until(lambda: len(one.told()) >= 2, "both posts", 30)
    traffic.run(one.now() + 3 * MINUTE, broken=False)  # more ticks, in which nothing more may be told

    told = [event for event in one.events() if event["rule"] == "wrong" and event["after"] != "pending"]
    assert [(e["before"], e["after"]) for e in told] == [("inactive", "firing"), ("firing", "resolved")]
    assert one.told() == [e["id"] for e in told], [post.headline for post in one.slack.posts]
    for event, began in zip(told, (breaks, recovers), strict=True):
        assert event["step"] == began + MINUTE, f"{event['after']} at {iso(event['step'])}, not {iso(began)}"
        waited = event["decided"] - event["step"] - LAG
        assert waited <= 2 * EVERY * SPEED, f"{event['after']} came {waited / SECOND:g} s after its lag"
    assert {e["rule"] for e in one.events()} == {"wrong"}
