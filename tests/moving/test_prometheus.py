"""Alerting rules of Prometheus, and what they become."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.alerting.loading import parse_rules
from kedge.errors import BadInput
from kedge.moving.fields import Options, parse_vocabulary
from kedge.moving.prometheus import import_prometheus
from kedge.moving.report import Translated, Verdict, rules_text

MAPS = [
    'req_total{code=~"5.."}=errors.rate',
    "failed_total=errors.rate",
    "req_total=volume.count",
    "lat_seconds=latency",
    "acc=performance.accuracy",
    "zone=segment.region",
]
FRAUD = Options("fraud", parse_vocabulary(MAPS))
POINT = {"evidence": "point", "no_data": "ok"}


def moved(expr: str, options: Options = FRAUD, more: str = "") -> Translated:
    text = f"groups:\n- name: g\n  rules:\n  - alert: a\n    expr: |-\n      {expr}\n{more}"
    (found,) = import_prometheus({"alerts.yml": text}, options)
    return found


@pytest.mark.parametrize(
    ("expr", "ours"),
    [
        (
            "histogram_quantile(0.99, sum by (le, endpoint) (rate(lat_seconds_bucket[5m]))) > 0.5",
            {"metric": "latency.p99", "window": "5m", "above": "500ms", **POINT, "by": ["segment.endpoint"]},
        ),
        (
            "sum(rate(lat_seconds_sum[10m])) / sum(rate(lat_seconds_count[10m])) > 0.2",
            {"metric": "latency.mean", "window": "10m", "above": "200ms", **POINT},
        ),
        (
            'sum(rate(req_total{code=~"5.."}[5m])) by (zone) / sum(rate(req_total[5m])) by (zone) > 0.05',
            {"metric": "errors.rate", "window": "5m", "above": "5%", **POINT, "by": ["segment.region"]},
        ),
        (
            "100 * sum(increase(failed_total[1h])) / sum(increase(req_total[1h])) > 5",
            {"metric": "errors.rate", "window": "1h", "above": "5%", **POINT},
        ),
        ("sum(rate(req_total[10m])) < 0.1", {"metric": "volume.count", "window": "10m", "below": 60}),
        ("sum(increase(req_total[1h])) >= 100", {"metric": "volume.count", "window": "1h", "above": 99}),
        ("sum(increase(req_total[1h])) == 0", {"metric": "volume.count", "window": "1h", "below": 1}),
        ("100 < sum(increase(req_total[1h]))", {"metric": "volume.count", "window": "1h", "above": 100}),
        (
            "sum by (instance) (increase(req_total[5m])) > 1e3",
            {"metric": "volume.count", "window": "5m", "above": 1000, "by": ["host"]},
        ),
        (
            "avg(avg_over_time(acc[1d])) < 0.9",
            {"metric": "performance.accuracy", "window": "1d", "below": "90%", **POINT},
        ),
        (
            "sum(rate(req_total[1h])) > 2 * sum(rate(req_total[1h] offset 1h))",
            {"metric": "volume.count", "window": "1h", "compare": {"to": "previous"}, "rise": "2x"},
        ),
        ('absent(req_total{model="fraud"})', {"kind": "absence", "window": "5m"}),
        ("absent_over_time(req_total[30m]) == 1", {"kind": "absence", "window": "30m"}),
    ],
)
def test_what_a_rule_reads_is_the_same(expr: str, ours: dict[str, Any]) -> None:
    found = moved(expr)
    assert found.verdict is Verdict.EQUAL, (found.differs, found.why)
    assert found.rules == [{"name": "a"} | ours]


@pytest.mark.parametrize(
    ("expr", "ours", "said"),
    [
        (
            "sum(rate(req_total[1h])) / sum(rate(req_total[1h] offset 1w)) < 0.5",
            {"metric": "volume.count", "window": "1h", "compare": {"to": "same_time"}, "fall": "2x"},
            "median of the last four weeks",
        ),
        (
            "avg(acc) < 0.9",
            {"metric": "performance.accuracy", "window": "5m", "below": "90%", **POINT},
            "without a range",
        ),
        (
            "avg_over_time(acc[1h]) <= 0.9",
            {"metric": "performance.accuracy", "window": "1h", "below": "90%", **POINT},
            "at exactly 90%",
        ),
        (
            'sum(rate(req_total{job="scorer"}[5m])) > 10',
            {"metric": "volume.count", "window": "5m", "above": 3000},
            'job="scorer" is left out',
        ),
        (
            "predict_linear(lat_seconds[1d], 4 * 3600) > 1",
            {"kind": "trend", "metric": "latency.mean", "over": "1d", "reaches": "1000ms", "within": "4h"},
            "the slope is no chance",
        ),
        (
            "max by (version) (avg_over_time(acc[1h])) < 0.5",
            {
                "metric": "performance.accuracy",
                "window": "1h",
                "below": "50%",
                **POINT,
                "by": ["version"],
            },
            "max over series",
        ),
    ],
)
def test_what_differs_is_said(expr: str, ours: dict[str, Any], said: str) -> None:
    found = moved(expr)
    assert found.verdict is Verdict.DIFFERS
    assert found.rules == [{"name": "a"} | ours]
    assert any(said in text for text in found.differs), found.differs


@pytest.mark.parametrize(
    ("expr", "why", "instead"),
    [
        ("foo > 1", "which metric of kedge's foo is", "--map foo=errors.rate"),
        ("topk(3, acc) > 1", "topk over series", "by"),
        ('avg(acc{zone="eu"}) < 0.9', "a part of the rows", "by: [segment.zone]"),
        ("sum by (zone) (increase(failed_total[5m])) / sum(increase(req_total[5m])) > 0.1", "same rows", ""),
        ("acc", "no comparison", "bound"),
        ("sum(rate(failed_total[5m])) > 3", "what errors.rate is the share of", "divide"),
        ("max_over_time(acc[1h]) > 0.5", "a single sample", "keep_firing"),
        ("sum(rate(req_total[5m])) != 0", "asks for one value", "above"),
        ("histogram_quantile(0.9, rate(lat_seconds_bucket[5m])) > 1", "the quantile 0.9", "latency.p95"),
        ("absent(up)", "was scraped", "kind: absence"),
        ("rate(foo[5m:1m]) > 1", "subqueries", "reference"),
        ("sum(acc) > 2", "a share, and 2 is beyond 1", "divide"),
        ("acc > bar > ", "PromQL: expected", ""),
        ("avg(acc) > avg(acc offset 1d)", "mostly fire", "rise"),
        ("vector(1)", "no comparison", ""),
        ("sum(rate(req_total[5m])) > 2 * sum(rate(req_total[5m] offset 1d))", "grows with the window", ""),
    ],
)
def test_what_cannot_be_told_says_why_and_what_to_use(expr: str, why: str, instead: str) -> None:
    found = moved(expr)
    assert found.verdict is Verdict.NOT_POSSIBLE
    assert why in found.why
    assert instead in found.instead


def test_conditions_that_are_joined_become_parts_of_a_composite() -> None:
    found = moved(
        "(sum(rate(req_total[5m])) > 1 and avg_over_time(acc[5m]) < 0.9) unless sum(rate(req_total[1h])) < 1",
        more="    for: 10m\n    labels: {severity: critical}\n",
    )
    *parts, whole = found.rules
    assert [part["severity"] for part in parts] == ["info"] * 3
    assert whole == {
        "name": "a",
        "kind": "composite",
        "all": [{"all": ["a-part", "a-part-2"]}],
        "none": ["a-part-3"],
        "for": "10m",
        "severity": "critical",
    }
    assert not parse_rules(rules_text([found], "a test", FRAUD.defaults)).problems


def test_what_stands_around_an_expression_comes_over() -> None:
    found = moved(
        "sum(rate(req_total[5m])) > 1",
        more=(
            "    for: 10m\n    keep_firing_for: 2h\n"
            "    labels: {severity: warning, team: risk, tier: gold, who: '{{ $labels.x }}'}\n"
            "    annotations: {summary: Busy, description: 'at {{ $value }}', runbook_url: 'https://x.y/z', "
            "dashboard: q}\n"
        ),
    )
    (rule,) = found.rules
    assert {k: rule[k] for k in list(rule)[4:]} == {
        "for": "10m",
        "keep_firing": "2h",
        "severity": "medium",
        "team": "risk",
        "labels": {"tier": "gold"},
        "runbook": "https://x.y/z",
        "description": "Busy",
    }
    assert "severity warning is medium" in found.differs
    assert any("templates" in said for said in found.differs)
    assert any("dashboard" in said for said in found.lost)


def test_recordings_are_left_out_and_manifests_of_the_operator_are_read() -> None:
    text = (
        "kind: PrometheusRule\nspec:\n  groups:\n  - name: g\n    labels: {team: risk}\n    rules:\n"
        "    - {record: 'a:b', expr: 'sum(x)'}\n"
        "    - {alert: b, expr: 'sum(rate(req_total[5m])) > 1'}\n"
    )
    recorded, alert = import_prometheus({"m.yml": text}, FRAUD)
    assert "recording rule" in recorded.why
    assert (alert.place, alert.rules[0]["team"]) == ("m.yml:8", "risk")
    (broken,) = import_prometheus({"m.yml": "rules: []"}, FRAUD)
    assert "has `groups:`" in broken.why


def test_every_rule_that_comes_of_it_is_accepted() -> None:
    texts = [
        "sum(rate(req_total[5m])) > 1",
        "avg_over_time(acc[1h]) < 0.9",
        "absent(req_total)",
        "predict_linear(acc[2d], 3600) < 0.5",
    ]
    rules = "".join(f"  - {{alert: r{i}, expr: '{expr}'}}\n" for i, expr in enumerate(texts))
    found = import_prometheus({"a.yml": f"groups:\n- name: g\n  rules:\n{rules}"}, FRAUD)
    book = parse_rules(rules_text(found, "a test", FRAUD.defaults))
    assert not book.problems
    assert len(book.rules) == len(texts)


@pytest.mark.parametrize("pair", ["a", "=errors.rate", "a=", "a=nothing", "a=segment."])
def test_a_mapping_to_nothing_is_refused(pair: str) -> None:
    with pytest.raises(BadInput, match="THEIRS=OURS"):
        parse_vocabulary([pair])
