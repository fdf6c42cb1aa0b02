"""A metric by its one name, or by what it is of and a stat."""

import pytest

from kedge.alerting.advice import advice
from kedge.alerting.loading import parse_rules
from kedge.alerting.metric_name import FAMILIES, STATS, name_of, stats_of
from kedge.alerting.threshold import ThresholdRule
from kedge.analysis.catalogue import METRICS, declare, lookup
from kedge.analysis.custom import UserMetric, kept_for
from kedge.errors import BadInput
from kedge.sketch import Counted
from tests.alerting.make import rule, rules


@pytest.mark.parametrize("name", [m for m in METRICS if m.rpartition(".")[2] in STATS])
def test_every_metric_that_ends_with_a_stat_can_be_written_with_it(name: str) -> None:
    family, _, stat = name.rpartition(".")
    assert family in FAMILIES
    assert name_of(family, stat) == name


@pytest.mark.parametrize("name", [*FAMILIES, "business.cost", "resource.gpu.ms"])
def test_every_stat_that_is_offered_is_one_of_a_metric(name: str) -> None:
    assert stats_of(name)
    for stat in stats_of(name):
        assert lookup(name_of(name, stat)).name == f"{name}.{stat}"


@pytest.mark.parametrize(
    "rest",
    [
        "metric: business.cost{}, above: 5",
        "kind: trend, metric: business.cost{}, reaches: 5, within: 1d",
        "kind: anomaly, metric: business.cost{}",
    ],
)
def test_both_ways_to_write_it_are_the_same_rule(rest: str) -> None:
    """An alert keeps its state when somebody writes its metric the other way."""
    named, apart = rule(rest.format(".sum")), rule(rest.format(", stat: sum"))
    assert named == apart
    assert named.signature == apart.signature


def test_who_asks_for_the_same_in_both_ways_is_told() -> None:
    book = rules(
        "{name: a, metric: business.cost.sum, above: 5}\n"
        "{name: b, metric: business.cost, stat: sum, above: 5}"
    )
    assert [text for _, text in advice(book.rules)] == [
        'asks the same as rule "a" at rules/a.yml:4: both will fire'
    ]


def test_a_bound_is_of_the_unit_of_the_metric_that_the_stat_makes() -> None:
    found = rule("metric: latency, stat: p95, above: 1s")
    assert isinstance(found, ThresholdRule)
    assert (found.metric, found.condition.rungs[0][1]) == ("latency.p95", 1000)


def test_a_metric_of_ones_own_has_its_stat_already() -> None:
    declare([UserMetric("cost", "sum", Counted(kept_for("sum"), "business.cost", None)).info])
    try:
        with pytest.raises(BadInput, match="cost is one number by itself: leave out `stat`"):
            name_of("cost", "sum")
    finally:
        declare(())


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("stat: sum, above: 5", ["needs `metric`"]),
        (
            "metric: business.cost, stat: 5, above: 5",
            ['stat: business.cost has no stat "5" (allowed: mean, sum)'],
        ),
        (
            "metric: latency, stat: sum, above: 5ms",
            ['stat: latency has no stat "sum" (allowed: mean, p50, p95, p99)'],
        ),
        ("metric: laten, stat: p95, above: 5ms", ['metric: unknown metric "laten" (did you mean']),
        ("kind: drift, stat: sum, share: 10%", ['"stat" is a field of kind threshold and']),
    ],
)
def test_each_mistake_is_told_once_and_at_its_own_place(written: str, said: list[str]) -> None:
    problems = parse_rules(f"version: 1\nrules:\n- {{name: a, model: m, window: 1h, {written}}}").problems
    assert len(problems) == len(said)
    for problem, text in zip(problems, said, strict=True):
        assert text in problem.text
