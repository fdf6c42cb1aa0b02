"""The main job: good traffic posts nothing, a broken model fires in time, recovery resolves.

With real processes. Time runs faster than on the wall: every process is given the same rehearsal clock.
Traffic follows it as a service's would: rows carry the time at which they are sent, their labels come right
after.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kedge.store.base import Json
from kedge.windows import MINUTE, SECOND, Millis, iso
from tests.e2e.harness import Stack, broker, minute_of, stack

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


WHERE = ("elasticsearch", "opensearch", "embedded")


@contextmanager
def installation(where: str, folder: Path, url: str, redis: str) -> Iterator[Stack]:
    """Three processes over a cluster and Redis, or one on a file."""
    given = {"clock": f"{time.time_ns() // 1_000_000}:{SPEED}", "every": f"{EVERY // SECOND}s"}
    if where == "embedded":
        with stack(folder, "duckdb:kedge.duckdb", **given) as one:
            one.write(RULES)
            one.serve()
            yield one
        return
    with stack(folder, url, redis=redis, **given) as one:
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


@dataclass(frozen=True)
class Story:
    """What happened, and what was said of it."""

    breaks: Millis
    recovers: Millis
    told_while_good: list[str | None]
    told: list[str | None]
    events: list[Json]
    logs: str


def live(where: str, folder: Path, url: str, redis: str) -> Story:
    """Good traffic, two minutes of a broken model, and good traffic again until all is told, and after."""
    with installation(where, folder, url, redis) as one:
        traffic = Traffic(one)
        breaks = minute_of(one.now()) + 3 * MINUTE
        traffic.run(breaks, broken=False)
        told_while_good = one.told()
        recovers = breaks + 2 * MINUTE
        traffic.run(recovers, broken=True)
        deadline = one.now() + 20 * MINUTE
        while len(one.told()) < 2 and one.now() < deadline:
            traffic.run(one.now() + MINUTE, broken=False)
        traffic.run(one.now() + 2 * MINUTE, broken=False)  # ticks in which nothing more may be told
        return Story(breaks, recovers, told_while_good, one.told(), one.events(), one.logs())


@pytest.fixture(scope="module")
def stories(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Story]]:
    """The stories of all installations that this run asks for, lived side by side: they mostly wait."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    wanted = {item.callspec.params.get("where") for item in items if item.module is request.module}
    running: dict[str, Future[Story]] = {}
    missing: dict[str, BaseException] = {}
    with ThreadPoolExecutor(len(WHERE)) as pool:
        for number, where in enumerate(WHERE, 9):
            if where not in wanted:
                continue
            url = redis = ""
            if where != "embedded":
                try:
                    url = request.getfixturevalue(f"{where}_url")
                    redis = broker(request.getfixturevalue("redis_url"), number)
                except (pytest.skip.Exception, pytest.fail.Exception) as absent:
                    missing[where] = absent
                    continue
            running[where] = pool.submit(live, where, tmp_path_factory.mktemp(where), url, redis)

        def story(where: str) -> Story:
            if where in missing:
                raise missing[where]
            return running[where].result()

        yield story


@pytest.mark.parametrize("where", WHERE)
def test_a_broken_model_is_told_once_and_in_time_and_so_is_its_recovery(
    stories: Callable[[str], Story], where: str
) -> None:
    story = stories(where)
    print(story.logs)
    assert story.told_while_good == []
    decided = [event for event in story.events if event["after"] != "pending"]
    assert [(e["rule"], e["before"], e["after"]) for e in decided] == [
        ("wrong", "inactive", "firing"),
        ("wrong", "firing", "resolved"),
    ]
    assert story.told == [event["id"] for event in decided]
    for event, began in zip(decided, (story.breaks, story.recovers), strict=True):
        assert event["step"] == began + MINUTE, f"{event['after']} at {iso(event['step'])}, not {iso(began)}"
        waited = event["decided"] - event["step"] - LAG
        assert waited <= 2 * EVERY * SPEED, f"{event['after']} came {waited / SECOND:g} s after its lag"
