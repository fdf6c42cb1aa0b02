"""Predictions as stored documents: the quick ways give what the plain way gives."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kedge.records import FLOAT32_MAX, Prediction
from kedge.store.elastic.encode import encode
from kedge.store.elastic.names import escape
from kedge.store.elastic.operations import Operation

# Names that must be escaped, and ones that look as if they were.
names = st.sampled_from(["a", "a.b", "a%2Eb", "%", "", " ", "n 1", "é", "*", "c.d"]) | st.text(max_size=4)
floats = st.floats() | st.sampled_from([FLOAT32_MAX, -FLOAT32_MAX, 3.41e38, 1e308, 0.0])
numbers = st.dictionaries(names, floats, max_size=4)
texts = st.dictionaries(names, st.text(max_size=5), max_size=4)


def fits(values: dict[str, float]) -> dict[str, float]:
    return {escape(k): v for k, v in values.items() if abs(v) < 3.4028235677973366e38}


def named(values: dict[str, Any]) -> dict[str, Any]:
    return {escape(k): v for k, v in values.items()}


@given(numbers, texts, texts, numbers, numbers)
def test_numbers_that_no_float32_holds_are_left_out_and_every_name_is_escaped(
    num: dict[str, float],
    cat: dict[str, str],
    segment: dict[str, str],
    business: dict[str, float],
    attributions: dict[str, float],
) -> None:
    row = Prediction(
        id="a",
        timestamp=1,
        ingested=2,
        model="m",
        num=num,
        cat=cat,
        segment=segment,
        business=business,
        attributions=attributions,
    )
    document = json.loads(encode(row))
    features = document.get("features", {})
    assert features.get("num", {}) == fits(num)
    assert features.get("cat", {}) == named(cat)
    assert document.get("segment", {}) == named(segment)
    assert document.get("business", {}) == fits(business)
    assert document.get("attributions", {}) == fits(attributions)


@given(st.text(min_size=1), st.text(min_size=1))
def test_the_head_of_a_row_is_that_of_any_operation(alias: str, id: str) -> None:
    lines = Operation.create(alias, id, b"{}").lines.split(b"\n")
    plain = Operation.of("create", b"{}", _index=alias, _id=id).lines.split(b"\n")
    assert [json.loads(line) for line in lines[:2]] == [json.loads(line) for line in plain[:2]]
    assert lines[2:] == [b""]
