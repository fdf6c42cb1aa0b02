"""Metrics that users define, and measurements, from rows to alerts: on every store, one life of a model."""

import msgspec
import pytest

from kedge.alerting.finding import Status
from kedge.alerting.loading import RuleBook, parse_rules
from kedge.analysis.catalogue import declare
from kedge.config import Settings
from kedge.pipeline.query import metric_series
from kedge.records import Prediction
from kedge.store.elastic import ElasticStore
from kedge.windows import HOUR, MINUTE, SECOND
from tests.pipeline.world import MODEL, T0, World, prediction, world_on

METRICS = {
    "timeouts": {"stat": "count", "where": "error.type:Timeout AND segment.region:eu"},
    "timeout_rate": {"ratio": ["timeouts", "volume.count"]},
    "slow_p95": {"stat": "p95", "field": "latency_ms", "where": "features.num.amount:>10"},
    "countries": {"stat": "distinct", "field": "features.cat.country"},
    "others": {"stat": "count", "model": "another"},
}
RULES = """
version: 1
defaults: {model: fraud, window: 10m}
rules:
  - {name: many, metric: timeouts, above: 1, by: [segment.plan]}
  - {name: rate, metric: timeout_rate, above: 5%, evidence: point}
  - {name: sure, metric: timeout_rate, above: 5%}
  - {name: dear, metric: business.cost.sum, above: 100}
"""


def with_metrics(**metrics: object) -> Settings:
    found = Settings.model_validate(
        {
            "store": "duckdb::memory:",
            "models": {MODEL: {"bucket": "1m", "baseline": "off"}},
            "metrics": metrics or METRICS,
        }
    )
    declare(one.info for one in found.own_metrics().metrics.values())
    return found


def rows_of(start: int, end: int) -> list[Prediction]:
    """Six a minute, each of which cost 2."""
    return [
        msgspec.structs.replace(prediction(i, T0 + i * 10 * SECOND), business={"cost": 2.0})
        for i in range(start * 6, end * 6)
    ]


def shown(one: World, name: str, by: tuple[str, ...] = ()) -> dict[tuple[str, ...], tuple[object, int]]:
    found = metric_series(one.pipe, MODEL, names=[name], width=HOUR, by=by, now=one.now)
    return {tuple(row["labels"].values()): (row["value"], row["n"]) for row in found}


@pytest.mark.parametrize("where", ["duckdb", "elasticsearch", "opensearch"])
def test_the_same_numbers_and_alerts_on_every_store(request: pytest.FixtureRequest, where: str) -> None:
    given = {"settings": with_metrics(), "book": parse_rules(RULES)}
    assert not given["book"].problems
    with world_on(request, where, **given) as one:
        rows = rows_of(0, 20)
        one.send(rows)
        one.tick(T0 + 22 * MINUTE)
        timed_out = [row for row in rows if row.error_type == "Timeout" and row.segment["region"] == "eu"]
        assert shown(one, "timeouts") == {(): (len(timed_out), len(timed_out))}
        assert shown(one, "timeout_rate") == {(): (len(timed_out) / len(rows), len(rows))}
        by_plan = {
            (plan,): (n, n)
            for plan in ("free", "paid")
            for n in [sum(row.segment["plan"] == plan for row in timed_out)]
        }
        assert shown(one, "timeouts", ("segment.plan",)) == by_plan
        assert shown(one, "countries") == {(): (3, len(rows))}
        assert shown(one, "business.cost.sum") == {(): (240.0, 120)}
        assert shown(one, "business.cost.mean") == {(): (2.0, 120)}
        slow = sorted(row.latency_ms or 0.0 for row in rows if row.num.get("amount", 0.0) > 10)
        [(p95, n)] = shown(one, "slow_p95").values()
        assert n == len(slow)
        assert p95 == pytest.approx(slow[int(0.95 * (n - 1))], rel=0.05)
        assert shown(one, "others") == {}
        firing = {(a.rule, *a.group.values()) for a in one.alerts().values() if a.status is Status.FIRING}
        assert firing == {("many", "free"), ("many", "paid"), ("rate",), ("dear",)}


def test_the_past_of_a_new_metric_is_counted_and_that_of_a_changed_one_anew() -> None:
    one = World(settings=with_metrics(n={"stat": "count"}), book=RuleBook())
    one.send(rows_of(0, 130))
    one.drain(T0 + 3 * HOUR)
    assert [value for value, _ in shown(one, "n").values()]
    mean = {"stat": "mean", "field": "latency_ms"}
    late = with_metrics(n={"stat": "count", "where": "latency_ms:>50"}, m=mean)
    one.settings = one.pipe.settings = late
    assert {
        row["reason"] for row in metric_series(one.pipe, MODEL, names=["n"], width=HOUR, now=one.now)
    } <= {"incomplete"}
    one.drain(T0 + 3 * HOUR)
    rows = rows_of(0, 130)
    found = list(metric_series(one.pipe, MODEL, names=["n", "m"], width=24 * HOUR, now=one.now))
    values = {row["metric"]: row["value"] for row in found}
    slow = [row.latency_ms for row in rows if (row.latency_ms or 0) > 50]
    every = [row.latency_ms for row in rows if row.latency_ms is not None]
    assert values == {"n": len(slow), "m": pytest.approx(sum(every) / len(every))}
    one.settings = one.pipe.settings = with_metrics(m={"stat": "mean", "field": "latency_ms"})
    one.drain(T0 + 3 * HOUR)
    assert len(list(metric_series(one.pipe, MODEL, names=["m"], width=24 * HOUR, now=one.now))) == 1


def test_a_tick_asks_a_cluster_no_more_for_metrics_and_rules_on_them(request: pytest.FixtureRequest) -> None:
    def asked(metrics: dict[str, object], rules: RuleBook) -> int:
        with world_on(request, "elasticsearch", settings=with_metrics(**metrics), book=rules) as one:
            for minute in (0, 2):
                one.send(rows_of(minute, minute + 1))
                assert isinstance(one.store, ElasticStore)
                before = one.store.counters.requests
                one.tick(T0 + (minute + 3) * MINUTE)
            return one.store.counters.requests - before

    few = {"m0": {"stat": "count"}}
    many = {f"m{i}": {"stat": "mean", "field": "latency_ms", "where": f"latency_ms:>{i}"} for i in range(20)}

    def book(n: int) -> RuleBook:
        lines = [f"  - {{name: r{i}, metric: m{i}, window: 2m, above: 1e9}}" for i in range(n)]
        return parse_rules("version: 1\ndefaults: {model: fraud}\nrules:\n" + "\n".join(lines) + "\n")

    with_metrics(**few)
    first = asked(few, book(1))
    with_metrics(**many)
    assert asked(many, book(20)) == first
