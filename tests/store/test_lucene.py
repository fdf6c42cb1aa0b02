"""Filters: what they mean, and what is said of those that would mean something else elsewhere."""

from pathlib import Path

import pytest

from kedge.config import load_settings
from kedge.errors import BadInput, KedgeError
from kedge.sketch.where import And, Begins, Between, Exists, Is, Not, Or
from kedge.store.lucene import parse_filter

REGION = "segment.region"


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("error.type:timeout", Is("error.type", "timeout")),
        ('segment.region:"eu west"', Is(REGION, "eu west")),
        (r'segment.region:"say \"eu\""', Is(REGION, 'say "eu"')),
        (r"segment.region:a\:b\*", Is(REGION, "a:b*")),
        ('segment.region:"eu*"', Is(REGION, "eu*")),
        ("segment.region:eu*", Begins(REGION, "eu")),
        ("segment.region:*", Exists(REGION)),
        ("latency_ms:*", Exists("latency_ms")),
        ("latency_ms:[* TO *]", Exists("latency_ms")),
        ("latency_ms:[1 TO 2}", Between("latency_ms", 1.0, 2.0)),
        ("latency_ms:>=2", Between("latency_ms", 2.0, None)),
        ('features.num.x:<"-2"', Between("features.num.x", None, -2.0)),
        ("segment.region:(eu OR us)", Or((Is(REGION, "eu"), Is(REGION, "us")))),
        ("NOT segment.region:eu", Not(Is(REGION, "eu"))),
        (
            "segment.region:eu AND (error.type:b OR error.type:a)",
            And((Or((Is("error.type", "a"), Is("error.type", "b"))), Is(REGION, "eu"))),
        ),
    ],
)
def test_what_a_filter_means(text, means):
    assert parse_filter(text) == means


def test_bounds_are_rounded_as_values_are():
    assert parse_filter("latency_ms:>0.1") == Between("latency_ms", 0.10000000894069672, None)
    assert parse_filter("latency_ms:0.1") == Between("latency_ms", 0.10000000149011612, 0.10000000894069672)


def test_order_and_repetition_do_not_make_another_filter():
    one = parse_filter("segment.a:x AND segment.b:y AND segment.a:x")
    assert str(one) == str(parse_filter("(segment.b:y) AND segment.a:x"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("timeout", "at character 1: a value without its field"),
        ("segment.a:x segment.b:y", "write AND or OR between them"),
        ("segment.a:x AND segment.b:y OR segment.c:z", "say with parentheses which binds"),
        ("segment.a:f?o", "at character 11: a wildcard may only stand at the end"),
        ("segment.a:*foo", "a wildcard may only stand at the end"),
        ("segment.a:/x/", "regular expressions are not read"),
        ("segment.a:x~", "about scores and likeness"),
        ("+segment.a:x", "write AND, OR and NOT"),
        ("segment.a:[a TO b]", "segment.a is text, which has no ranges"),
        ("latency_ms:fast", "latency_ms is a number, and fast is none"),
        ("latency_ms:<-1", "quote a negative bound"),
        ("latency:3", "did you mean latency_ms?"),
        ("label.class:x", "label.class comes after a row was counted"),
        ("segment.a:(segment.b:x)", "stands within the parentheses of segment.a"),
        ("segment.a:", "ends too early"),
        ("segment.a:x)", "at character 12: cannot be read from here on"),
        (" ", "is empty"),
        ("segment.a:x" + " OR segment.a:y" * 200, "characters; at most"),
        ("NOT " * 30 + "segment.a:x", "nested more than"),
    ],
)
def test_what_is_wrong_with_a_filter_is_said_with_its_place(text, problem):
    with pytest.raises(BadInput) as caught:
        parse_filter(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        (
            "n: {stat: count, where: 'timeout'}",
            "k.yml:2:20: metrics.n.where: at character 1: a value without",
        ),
        ("n: {stat: sum}", "say of which field"),
        ("n: {stat: sum, field: segment.region}", "segment.region is text: it has no sum, only distinct"),
        ("n: {stat: mean, field: label.value}", '"label.value" is no field'),
        ("n: {stat: count, field: latency_ms}", "count counts rows"),
        ("n: {where: 'segment.a:x'}", "say which stat"),
        ("n: {ratio: [a, b], stat: count}", "a ratio is of two metrics by name"),
        ("n: {ratio: [volume.count, volum.count]}", 'no metric "volum.count" with a stat is defined'),
        ("Bad.Name: {stat: count}", "cannot name a metric"),
    ],
)
def test_what_is_wrong_with_a_metric_is_said_with_its_place(
    tmp_path: Path, metric: str, problem: str
) -> None:
    file = tmp_path / "k.yml"
    file.write_text(f"metrics:\n  {metric}\n")
    with pytest.raises(KedgeError) as caught:
        load_settings(file, {})
    assert problem in str(caught.value)
