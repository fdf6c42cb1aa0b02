"""Rules of ElastAlert2, and what they become."""

from __future__ import annotations

from typing import Any

import pytest
from ruamel.yaml import YAML

from kedge.alerting.loading import parse_rules
from kedge.moving.elastalert import import_elastalert
from kedge.moving.fields import Options, parse_vocabulary
from kedge.moving.report import Translated, Verdict, metrics_text, rules_text

FRAUD = Options("fraud")


def moved(text: str, options: Options = FRAUD, **more: str) -> Translated:
    (found,) = import_elastalert({"rule.yaml": text, **more}, options)
    return found


def rule_of(text: str, options: Options = FRAUD) -> dict[str, Any]:
    (rule,) = moved(text, options).rules
    return rule


COUNT = "type: frequency\nname: many\nnum_events: 50\ntimeframe: {minutes: 10}\n"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (COUNT, {"metric": "volume.count", "window": "10m", "above": 49}),
        (
            COUNT + "query_key: segment.country.keyword",
            {"metric": "volume.count", "window": "10m", "above": 49, "by": ["segment.country"]},
        ),
        (
            "type: flatline\nname: x\nthreshold: 1\ntimeframe: {hours: 1}",
            {"kind": "absence", "window": "1h"},
        ),
        (
            "type: flatline\nname: x\nthreshold: 20\ntimeframe: {hours: 1}",
            {"metric": "volume.count", "window": "1h", "below": 20},
        ),
        (
            "type: spike\nname: x\nspike_height: 3\nspike_type: up\ntimeframe: {hours: 1}\nthreshold_cur: 9",
            {
                "metric": "volume.count",
                "window": "1h",
                "compare": {"to": "previous"},
                "rise": "3x",
                "min_count": 9,
            },
        ),
        (
            (
                "type: metric_aggregation\nname: x\nmetric_agg_key: event.duration\nmetric_agg_type: avg\n"
                "max_threshold: 250000000\nbuffer_time: {minutes: 5}"
            ),
            {"metric": "latency.mean", "evidence": "point", "window": "5m", "above": "250ms"},
        ),
        (
            (
                "type: metric_aggregation\nname: x\nmetric_agg_key: latency_ms\n"
                "metric_agg_type: percentiles\n"
                "percentile_range: 99\nmax_threshold: 250\nbuffer_time: {minutes: 5}\nmin_doc_count: 30"
            ),
            {
                "metric": "latency.p99",
                "evidence": "point",
                "window": "5m",
                "above": "250ms",
                "min_count": 30,
            },
        ),
        (
            (
                "type: percentage_match\nname: x\nmatch_bucket_filter: [{exists: {field: error.type}}]\n"
                "max_percentage: 5\nmin_denominator: 100\nbuffer_time: {minutes: 15}"
            ),
            {
                "metric": "errors.rate",
                "min_count": 100,
                "evidence": "point",
                "window": "15m",
                "above": "5%",
            },
        ),
        (
            (
                "type: percentage_match\nname: x\n"
                "match_bucket_filter: [{term: {prediction.class: approve}}]\n"
                "min_percentage: 40\nbuffer_time: {minutes: 15}"
            ),
            {
                "metric": "class.share",
                "class": "approve",
                "evidence": "point",
                "window": "15m",
                "below": "40%",
            },
        ),
        (
            "type: new_term\nname: x\nfields: [segment.country]\nterms_window_size: {days: 60}",
            {
                "kind": "new_value",
                "field": "segment.country",
                "history": "60d",
                "window": "1h",
                "by": ["value"],
            },
        ),
        (
            "type: change\nname: x\nquery_key: service.name\ncompare_key: model.version\nignore_null: true",
            {
                "kind": "new_value",
                "field": "version",
                "history": "30d",
                "window": "1h",
                "by": ["value", "service"],
            },
        ),
        (
            "type: blacklist\nname: x\ncompare_key: prediction.class\nblacklist: [fraud]",
            {"metric": "class.share", "class": "fraud", "evidence": "point", "window": "5m", "above": 0},
        ),
        ("type: any\nname: x", {"metric": "volume.count", "window": "5m", "above": 0}),
    ],
)
def test_what_is_counted_anyway_needs_no_metric(theirs: str, ours: dict[str, Any]) -> None:
    rule = rule_of(theirs)
    assert {k: v for k, v in rule.items() if k != "name"} == ours


@pytest.mark.parametrize(
    ("theirs", "metrics", "rule"),
    [
        (
            COUNT + "filter: [{query: {query_string: {query: 'error.type:timeout AND segment.region:eu'}}}]",
            {"many_rows": {"where": "error.type:timeout AND segment.region:eu", "stat": "count"}},
            {"metric": "many_rows", "window": "10m", "above": 49},
        ),
        (
            (
                "type: cardinality\nname: x\ncardinality_field: segment.country\nmax_cardinality: 30\n"
                "timeframe: {hours: 1}"
            ),
            {"x_values": {"stat": "distinct", "field": "segment.country"}},
            {"metric": "x_values", "window": "1h", "above": 30},
        ),
        (
            (
                "type: metric_aggregation\nname: x\nmetric_agg_key: cost\nmetric_agg_type: sum\n"
                "max_threshold: 500\nbuffer_time: {days: 1}\nfilter: [{term: {segment.plan: free}}]"
            ),
            {"x_sum": {"where": "segment.plan:free", "stat": "sum", "field": "business.cost"}},
            {"metric": "x_sum", "evidence": "point", "window": "1d", "above": 500},
        ),
        (
            (
                "type: percentage_match\nname: x\nmatch_bucket_filter: [{term: {error.type: timeout}}]\n"
                "filter: [{term: {segment.region: eu}}]\nmax_percentage: 5\nbuffer_time: {minutes: 15}"
            ),
            {
                "x_matched": {"where": "segment.region:eu AND error.type:timeout", "stat": "count"},
                "x_rows": {"where": "segment.region:eu", "stat": "count"},
                "x_share": {"ratio": ["x_matched", "x_rows"]},
            },
            {"metric": "x_share", "evidence": "point", "window": "15m", "above": "5%"},
        ),
        (
            "type: whitelist\nname: x\ncompare_key: segment.region\nwhitelist: [eu, us]\nignore_null: true",
            {"x_rows": {"where": "NOT segment.region:(eu OR us) AND segment.region:*", "stat": "count"}},
            {"metric": "x_rows", "window": "5m", "above": 0},
        ),
    ],
)
def test_a_filter_becomes_a_metric_of_its_own(
    theirs: str, metrics: dict[str, Any], rule: dict[str, Any]
) -> None:
    found = moved(theirs, Options("fraud", parse_vocabulary(["cost=business.cost"])))
    assert found.metrics == metrics
    assert [{k: v for k, v in r.items() if k != "name"} for r in found.rules] == [rule]
    snippet = YAML(typ="safe").load(metrics_text([found]))
    assert snippet == {"metrics": metrics}


@pytest.mark.parametrize(
    ("theirs", "why", "instead"),
    [
        ("type: my.module.Rule\nname: x", "code of your own", "drift, anomaly and trend"),
        (
            "type: change\nname: x\nquery_key: user.id\ncompare_key: segment.country\nignore_null: true",
            "rows are counted, not followed",
            "new_value",
        ),
        (COUNT + "filter: [{query_string: {query: 'timeout'}}]", "text in no field", "where"),
        (COUNT + "filter: [{term: {label.class: fraud}}]", "comes after a row was counted", "performance"),
        (COUNT + "filter: [{script: {script: x}}]", "a filter of kind script", "where"),
        (COUNT + "query_key: client.ip", "client.ip is no dimension", "--map client.ip=segment.ip"),
        (COUNT + "is_enabled: false", "switched off", "switch it on"),
        ("type: new_term\nname: x\nfields: [[a, b]]", "new as a pair", "one segment"),
        (
            (
                "type: metric_aggregation\nname: x\nmetric_agg_key: latency_ms\nmetric_agg_type: max\n"
                "max_threshold: 9"
            ),
            "is one row",
            "percentile",
        ),
        ("type: spike\nname: x\nspike_height: 1\nspike_type: up\ntimeframe: {hours: 1}", "more than 1", ""),
        ("type: frequency\nname: x\nnum_events: 5\ntimeframe: 10", "no length of time", "minutes: 10"),
        (
            'type: blacklist\nname: x\ncompare_key: error.type\nblacklist: ["!file /etc/list"]',
            "in another file",
            "entries",
        ),
    ],
)
def test_what_cannot_be_told_says_why_and_what_to_use(theirs: str, why: str, instead: str) -> None:
    found = moved(theirs)
    assert found.verdict is Verdict.NOT_POSSIBLE
    assert found.rules == []
    assert why in found.why
    assert instead in found.instead


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("realert: {hours: 1}", "repeat_interval: 1h"),
        ("aggregation: {minutes: 5}", "group_wait"),
        ("alert: [email, slack]", "email"),
        ("alert_text: hello", "messages are kedge's own"),
        ("exponential_realert: {hours: 4}", "exponential_realert: no counterpart"),
    ],
)
def test_what_differs_is_said(more: str, said: str) -> None:
    found = moved(COUNT + more)
    assert found.verdict is Verdict.DIFFERS
    assert any(said in text for text in (*found.differs, *found.lost))
    assert moved(COUNT + "alert: [debug]\nindex: logs-*\nes_host: x\nes_port: 9200").verdict is Verdict.EQUAL


def test_all_models_at_once_are_a_difference_unless_it_splits_by_them() -> None:
    assert "each model" in moved(COUNT, Options()).differs[0]
    assert moved(COUNT + "query_key: model.name", Options()).verdict is Verdict.EQUAL
    only = moved(COUNT + "filter: [{term: {model.name: churn}}, {term: {model.version: v2}}]", Options())
    assert only.verdict is Verdict.EQUAL
    assert (only.rules[0]["model"], only.rules[0]["version"]) == ("churn", "v2")


def test_the_tools_own_configuration_gives_what_a_rule_leaves_out() -> None:
    text = (
        "type: percentage_match\nname: x\nmatch_bucket_filter: [{exists: {field: error.type}}]\n"
        "max_percentage: 5"
    )
    config = "rules_folder: rules\nrun_every: {minutes: 1}\nbuffer_time: {minutes: 45}"
    assert moved(text, **{"config.yaml": config}).rules[0]["window"] == "45m"
    alone = moved(text)
    assert alone.rules[0]["window"] == "15m"
    assert any("buffer_time" in said for said in alone.differs)


def test_metrics_of_two_rules_have_names_of_their_own() -> None:
    text = COUNT.replace("many", "5 xx") + "filter: [{term: {segment.region: %s}}]"
    first, second = import_elastalert({"a.yaml": text % "eu", "b.yaml": text % "us"}, FRAUD)
    assert first.metrics == {"m_5_xx_rows": {"where": "segment.region:eu", "stat": "count"}}
    assert second.metrics == {"m_5_xx_rows_2": {"where": "segment.region:us", "stat": "count"}}


def test_two_bounds_are_two_rules_and_no_name_is_taken_twice() -> None:
    text = (
        "type: metric_aggregation\nname: lat ency\nmetric_agg_key: latency_ms\nmetric_agg_type: avg\n"
        "max_threshold: 9\nmin_threshold: 1\nbuffer_time: {minutes: 5}"
    )
    first, second = import_elastalert({"a.yaml": text, "b.yaml": text}, FRAUD)
    names = [rule["name"] for one in (first, second) for rule in one.rules]
    assert names == ["lat-ency-high", "lat-ency-low", "lat-ency-high-2", "lat-ency-low-2"]


def test_a_file_that_is_no_yaml_is_told_of_and_costs_no_other() -> None:
    broken, fine = import_elastalert({"a.yaml": "type: [", "b.yaml": COUNT}, FRAUD)
    assert broken.verdict is Verdict.NOT_POSSIBLE
    assert "a.yaml:1" in broken.why
    assert fine.verdict is Verdict.EQUAL


def test_the_file_is_accepted_and_rules_that_wait_for_metrics_are_comments_in_it() -> None:
    files = {
        "a.yaml": COUNT + 'description: "a: b # c"',
        "b.yaml": COUNT.replace("many", "few") + "filter: [{term: {error.type: timeout}}]",
        "c.yaml": "type: nothing\nname: c",
    }
    found = import_elastalert(files, FRAUD)
    text = rules_text(found, "a test", FRAUD.defaults)
    book = parse_rules(text)
    assert not book.problems
    assert [rule.name for rule in book.rules] == ["many"]
    assert book.rules[0].description == "a: b # c"
    assert "# - name: few" in text
    assert "#   metric: few_rows" in text
