"""The reader of PromQL: what it understands, and that nothing makes it stumble."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.compat import StringIO

from kedge.errors import BadInput
from kedge.moving.elastalert import import_elastalert
from kedge.moving.fields import Options
from kedge.moving.prometheus import import_prometheus
from kedge.moving.promql import Aggregate, Binary, Call, Node, Number, Selector, parse, parse_duration
from kedge.moving.report import rules_text
from kedge.windows import HOUR, MINUTE, WEEK


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("a > 1", Binary(">", Selector("a"), Number(1))),
        ("a + b * c > -1", None),
        ("rate(a[5m])", Call("rate", (Selector("a", range=5 * MINUTE),))),
        ('a{b="c",d=~`e.*`} offset 1w', Selector("a", (("b", "=", "c"), ("d", "=~", "e.*")), 0, WEEK)),
        ("sum by (x, y) (a)", Aggregate("sum", (Selector("a"),), ("x", "y"))),
        ("sum(a) without (x)", Aggregate("sum", (Selector("a"),), ("x",), without=True)),
        ("a / on (x) group_left (y) b", Binary("/", Selector("a"), Selector("b"), matching=True)),
        ("a == bool 1 # why", Binary("==", Selector("a"), Number(1))),
        ("a:b:rate5m[1h30m]", Selector("a:b:rate5m", range=HOUR + 30 * MINUTE)),
    ],
)
def test_an_expression_is_read_as_prometheus_reads_it(text: str, node: Node | None) -> None:
    if node is None:
        product = Binary("*", Selector("b"), Selector("c"))
        node = Binary(">", Binary("+", Selector("a"), product), Number(-1))
    assert parse(text) == node


def test_and_binds_closer_than_or_and_comparisons_closer_than_both() -> None:
    a, b, c = (Binary(">", Selector(name), Number(1)) for name in "abc")
    assert parse("a > 1 or b > 1 and c > 1") == Binary("or", a, Binary("and", b, c))
    assert parse("a > 1 unless b > 1 and c > 1") == Binary("and", Binary("unless", a, b), c)
    assert parse("2 ^ 3 ^ 2") == Binary("^", Number(2), Binary("^", Number(3), Number(2)))


@pytest.mark.parametrize(
    "text",
    ["", "a >", "a[5m", "a[5]", "sum(", "a{b}", "a{b=c}", "a b", "(a", "a[5m:1m]", "a @ 5", "(" * 99, "$"],
)
def test_what_is_not_understood_is_said(text: str) -> None:
    with pytest.raises(BadInput, match="PromQL"):
        parse(text)


@given(st.text(alphabet='ab1(){}[]<>="~!,:+-*/^ \n#.5mof'))
def test_no_text_makes_the_reader_stumble(text: str) -> None:
    try:
        parse(text)
    except BadInput as e:
        assert e.reason  # noqa: PT017


def test_durations_are_sums() -> None:
    assert parse_duration("1h30m") == HOUR + 30 * MINUTE
    with pytest.raises(BadInput):
        parse_duration("1.5h")


# --- whole files --------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        "fraud",
        "a",
        "5m",
        "error.type",
        "model.name",
        "term",
        "query_string",
        "segment.x",
        "slack",
        "up",
        "",
        "*",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | WORDS
KEYS = st.sampled_from(
    [
        "term",
        "terms",
        "range",
        "bool",
        "must",
        "should",
        "not",
        "exists",
        "field",
        "query",
        "query_string",
        "gte",
        "minutes",
        "hours",
        "error.type",
        "segment.x",
        "severity",
        "summary",
    ]
)
THINGS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(
    [
        "any",
        "frequency",
        "spike",
        "spike_aggregation",
        "flatline",
        "metric_aggregation",
        "percentage_match",
        "cardinality",
        "change",
        "new_term",
        "blacklist",
        "whitelist",
    ]
)
OPTIONS = st.sampled_from(
    [
        "filter",
        "timeframe",
        "num_events",
        "query_key",
        "threshold",
        "spike_height",
        "spike_type",
        "realert",
        "metric_agg_key",
        "metric_agg_type",
        "max_threshold",
        "max_percentage",
        "match_bucket_filter",
        "compare_key",
        "blacklist",
        "whitelist",
        "fields",
        "alert",
        "slack_channel_override",
        "description",
        "cardinality_field",
        "max_cardinality",
        "min_denominator",
        "terms_window_size",
        "buffer_time",
        "name",
    ]
)


def dumped(data: object) -> str:
    out = StringIO()
    YAML(typ="safe").dump(data, out)
    return str(out.getvalue())


@settings(max_examples=150, deadline=None)
@given(TYPES, st.dictionaries(OPTIONS, THINGS, max_size=6))
def test_no_rule_of_elastalert_makes_the_import_stumble(kind: str, options: dict[str, object]) -> None:
    found = import_elastalert({"a.yaml": dumped({"type": kind} | options)}, Options())
    assert len(found) == 1
    assert rules_text(found, "a test", {"model": "*"})


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["alert", "expr", "for", "labels", "annotations"]), THINGS))
def test_no_rule_of_prometheus_makes_the_import_stumble(rule: dict[str, object]) -> None:
    text = dumped({"groups": [{"name": "g", "rules": [{"alert": "a", "expr": "up > 1"} | rule, 5]}]})
    found = import_prometheus({"a.yaml": text}, Options())
    assert rules_text(found, "a test", {"model": "*"})
