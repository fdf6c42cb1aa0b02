"""Elasticsearch's filters as the text of a `where`."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.moving.fields import Vocabulary
from kedge.moving.filters import read_filter
from kedge.moving.report import NotPossible

NAMES = Vocabulary({"status": "segment.status", "took": "latency_ms"})


@pytest.mark.parametrize(
    ("theirs", "where"),
    [
        ([], ""),
        ([{"term": {"error.type": "timeout"}}], "error.type:timeout"),
        ([{"term": {"error.type.keyword": {"value": "read timeout"}}}], 'error.type:"read timeout"'),
        ([{"terms": {"status": ["a", "b"]}}], "segment.status:(a OR b)"),
        ([{"range": {"took": {"gte": 200, "lt": 900}}}], "(latency_ms:>=200 AND latency_ms:<900)"),
        ([{"exists": {"field": "error.type"}}], "error.type:*"),
        ([{"prefix": {"error.type": "time"}}], "error.type:time*"),
        ([{"not": {"term": {"status": "ok"}}}], "NOT segment.status:ok"),
        (
            [{"bool": {"should": [{"term": {"status": "a"}}, {"term": {"status": "b"}}]}}],
            "(segment.status:a OR segment.status:b)",
        ),
        (
            [
                {
                    "bool": {
                        "must": [{"term": {"status": "a"}}],
                        "must_not": {"exists": {"field": "error.type"}},
                    }
                }
            ],
            "(segment.status:a AND NOT error.type:*)",
        ),
        (
            [{"query": {"query_string": {"query": "_exists_:error.type && !status:ok"}}}],
            "(error.type:* AND NOT segment.status:ok)",
        ),
        (
            [{"query_string": {"query": "status:(a OR b) AND took:>200"}}],
            "segment.status:(a OR b) AND latency_ms:>200",
        ),
        ([{"query_string": {"query": "*"}}], ""),
        (
            [{"query_string": {"query": "(status:a OR status:b) AND took:[1 TO 5]"}}],
            "((segment.status:a OR segment.status:b) AND latency_ms:[1 TO 5])",
        ),
    ],
)
def test_what_means_the_same_comes_over(theirs: list[Any], where: str) -> None:
    assert read_filter(theirs, NAMES).where == where


def test_two_terms_side_by_side_are_an_or_as_in_their_language() -> None:
    found = read_filter([{"query_string": {"query": "status:a status:b -status:c"}}], NAMES)
    assert found.where == "(segment.status:a OR segment.status:b OR NOT segment.status:c)"


def test_the_model_and_its_version_are_no_part_of_the_where() -> None:
    found = read_filter([{"query_string": {"query": "model.name:fraud AND status:a"}}], NAMES)
    assert (found.model, found.where) == ("fraud", "segment.status:a")
    with pytest.raises(NotPossible, match="several models"):
        read_filter([{"terms": {"model.name": ["a", "b"]}}], NAMES)


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        ({"query_string": {"query": "status:/a.b/"}}, "regular expression"),
        ({"query_string": {"query": "status:tiemout~1"}}, "fuzzy"),
        ({"query_string": {"query": "status:*out"}}, "before its end"),
        ({"query_string": {"query": "timeout AND status:a"}}, "no field by name"),
        ({"wildcard": {"status": "a?c"}}, "before its end"),
        ({"match": {"status": "two words"}}, "analyzer"),
        ({"term": {"client.ip": "::1"}}, "no field client.ip"),
        ({"geo_distance": {"x": 1}}, "geo_distance"),
        ({"bool": {"must": [{"term": {"status": "a"}}], "boost": 2}}, "boost"),
        ({"a": 1, "b": 2}, "one entry"),
    ],
)
def test_what_means_something_else_does_not(theirs: Any, why: str) -> None:
    with pytest.raises(NotPossible, match=why):
        read_filter([theirs], NAMES)
