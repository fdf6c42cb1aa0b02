"""What a tick asks of the store grows with the buckets that are due, never with rules or window lengths."""

import secrets
from collections.abc import Iterator

import pytest

from kedge.alerting.loading import RuleBook, parse_rules
from kedge.clock import Clock
from kedge.store.base import Store
from kedge.store.elastic import ElasticStore, open_elastic
from kedge.windows import HOUR, MINUTE, SECOND
from tests.pipeline.world import T0, World, prediction, settings
from tests.support.servers import remove_all

WINDOWS = ("2m", "10m", "30m", "1h", "6h", "1d")
NAMES = ("volume.count", "errors.rate", "latency.p95", "confidence.mean")


def book(rules: int) -> RuleBook:
    lines = [
        f"  - {{name: r{i}, metric: {NAMES[i % 4]}, window: {WINDOWS[i % 6]}, above: 1e6, evidence: point}}"
        for i in range(rules)
    ]
    return parse_rules("version: 1\ndefaults: {model: '*'}\nrules:\n" + "\n".join(lines) + "\n")


COMPARED = (
    "{to: same_time}",
    "{to: history, window: 24h}",
    "{to: history, window: 30d}",
    "{to: previous}",
    "{to: version, version: v1}",
)


def comparing(rules: int) -> RuleBook:
    lines = [
        f"  - {{name: r{i}, metric: {NAMES[1 + i % 3]}, window: {WINDOWS[i % 6]}, by: version, "
        f"compare: {COMPARED[i % 5]}, rise: 9x}}"
        for i in range(rules)
    ]
    return parse_rules("version: 1\ndefaults: {model: '*'}\nrules:\n" + "\n".join(lines) + "\n")


@pytest.fixture
def one(elasticsearch_url: str) -> Iterator[World]:
    prefix = f"kedge-requests-{secrets.token_hex(5)}"

    def opened(clock: Clock) -> Store:
        return open_elastic(elasticsearch_url, prefix=prefix, clock=clock)

    made = World(book=book(1), open_store=opened)
    try:
        yield made
    finally:
        made.close()
        remove_all(elasticsearch_url, prefix)


def requests_of_a_tick(one: World, minute: int) -> int:
    at = T0 + minute * MINUTE
    one.send([prediction(minute * 10 + i, at + i * SECOND) for i in range(6)])
    assert isinstance(one.store, ElasticStore)
    before = one.store.counters.requests
    report = one.tick(at + 2 * MINUTE)
    assert report.summaries.buckets
    return one.store.counters.requests - before


def test_twenty_rules_of_six_window_lengths_ask_the_store_no_more_than_one(one: World) -> None:
    for minute in range(4):  # rules begin, windows fill
        requests_of_a_tick(one, minute)
    few = requests_of_a_tick(one, 4)
    one.book = book(20)
    for minute in range(5, 9):
        requests_of_a_tick(one, minute)
    many = requests_of_a_tick(one, 9)
    assert many <= few + 2, "one more search a tier that no rule read before"


def test_what_rules_compare_with_costs_no_request_a_rule(one: World) -> None:
    """Twenty rules of six window lengths that look back an hour or a month, against one."""
    one.settings = settings(fraud={"bucket": "1m"})
    one.restart()
    one.now = T0 + HOUR
    one.send([prediction(50_000 + i, T0 - i * 6 * HOUR) for i in range(4 * 33)])
    one.drain(one.now)
    one.book = comparing(1)
    for minute in range(60, 63):
        requests_of_a_tick(one, minute)
    few = requests_of_a_tick(one, 63)
    one.book = comparing(20)
    for minute in range(64, 67):
        requests_of_a_tick(one, minute)
    many = requests_of_a_tick(one, 67)
    assert all(state.finding for state in one.alerts().values())
    assert many <= few + 2


KINDS = (
    "kind: anomaly, history: 7d",
    "kind: anomaly, history: 28d, by: version",
    "kind: trend, over: 2d, reaches: 99%, within: 1h",
    "kind: trend, over: 30d, reaches: 99%, within: 1h",
)


def in_series(rules: int) -> RuleBook:
    names = ("errors.rate", "confidence.mean")
    windows = ("1h", "2h", "4h")
    lines = [
        f"  - {{name: r{i}, metric: {names[i // 4 % 2]}, window: {windows[i % 3]}, {KINDS[i % 4]}}}"
        for i in range(rules)
    ]
    found = parse_rules("version: 1\ndefaults: {model: '*'}\nrules:\n" + "\n".join(lines) + "\n")
    assert not found.problems
    return found


def test_a_month_of_history_costs_no_more_requests_than_a_week_and_twenty_rules_no_more_than_one(
    one: World,
) -> None:
    one.settings = settings(fraud={"bucket": "1h"})
    one.restart()
    one.now = T0 + HOUR
    one.send([prediction(50_000 + i, T0 - i * 6 * HOUR) for i in range(4 * 33)])
    one.drain(one.now)
    one.book = in_series(1)
    for hour in (4, 8, 12):  # all windows end at such an hour
        requests_of_a_tick(one, hour * 60 - 1)
    few = requests_of_a_tick(one, 16 * 60 - 1)
    one.book = in_series(20)
    for hour in (20, 24, 28):
        requests_of_a_tick(one, hour * 60 - 1)
    many = requests_of_a_tick(one, 32 * 60 - 1)
    assert {state.rule for state in one.alerts().values()} == {rule.name for rule in one.book.rules}
    assert all(state.finding for state in one.alerts().values())
    assert many <= few + 2


def test_a_worker_that_missed_an_hour_asks_for_it_at_once(one: World) -> None:
    for minute in range(3):
        requests_of_a_tick(one, minute)
    usual = requests_of_a_tick(one, 3)
    one.send([prediction(1000 + m, T0 + m * MINUTE) for m in range(4, 50)])
    one.now = T0 + HOUR - 2 * MINUTE
    assert requests_of_a_tick(one, 58) <= 3 * usual
