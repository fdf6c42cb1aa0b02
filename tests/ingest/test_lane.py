"""Lanes change how fast rows are read, never what becomes of them."""

import json
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench import rows as generated
from ingest.body import Decoded, decode
from ingest.enrich import prediction_of
from ingest.lane import Lanes
from ingest.rejection import Rejection
from ingest.wire import PREDICTION, WirePrediction
from kedge.errors import BadInput
from kedge.records import Prediction
from kedge.store.elastic.encode import encode

NOW = 1_795_100_000_000

numbers = st.sampled_from([0, -0.0, 1, 2.5, 2**53 + 1, 2**64, -(2**63) - 1, 10**400, 3.5e38, -3.4e38, 1e-320])
oddities = st.sampled_from([None, True, False, "", "x" * 1_025, "é" * 1_024, "\ud800", "1", [1], {"a": 1}])
values = numbers | oddities | st.floats() | st.text(max_size=3)
names = st.sampled_from(
    ["n", "c", "back\\slash", "both", "num", "cat", "a.b", "é", 'q"', "\ud800", "", "model"]
)
features = st.dictionaries(names, values, max_size=5) | st.none() | st.just({"num": {"n": 1}})
rows = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "b", 7]), "model": st.sampled_from(["m", "é", "m2", '"', ""])},
    optional={
        "features": features,
        "class": values,
        "version": values,
        "timestamp": st.sampled_from([NOW - 1, "x", None]),
        "probabilities": st.just({"a": 0.25, "b": 0.75}),
        "segment": st.just({"region": "eu", "odd": 7}) | st.dictionaries(names, values, max_size=2),
        "host": st.sampled_from(["", "h", "é", "\ud800", None]),
        "@timestamp": st.just(NOW - 2),
        "unknown": st.just(1),
        "label": st.sampled_from(["a", {"class": "b"}]),
    },
)


def became(decoded: Decoded[WirePrediction]) -> tuple[dict[int, str], set[str], list[Prediction]]:
    """What became of each row: its record or its rejection, as text (which tells 1 from 1.0)."""
    found = {rejection.index: repr(rejection) for rejection in decoded.rejections}
    made = []
    for index, wire in decoded.rows:
        try:
            row = prediction_of(wire, NOW)
        except BadInput as error:
            found[index] = repr(Rejection.of(index, error))
        else:
            made.append(row)
            plain = msgspec.structs.replace(row, num=ordered(row.num), cat=ordered(row.cat))
            found[index] = f"{plain!r}, stored as {stored(row)}"
    return found, decoded.unknown, made


def stored(row: Prediction) -> Any:
    """The document of a row, its names in order."""
    return orjson.dumps(orjson.loads(encode(row)), option=orjson.OPT_SORT_KEYS).replace(b"-0.0", b"0.0")


def ordered(named: dict[str, Any]) -> dict[str, Any]:
    return {name: value + 0.0 if isinstance(value, float) else value for name, value in sorted(named.items())}


@settings(max_examples=300, deadline=None)
@given(st.lists(rows, max_size=4), st.lists(rows, min_size=1, max_size=4), st.booleans())
@example(
    [{"id": "a", "model": "m", "features": {"n": 1}}],
    [{"id": "a", "model": "m", "features": {"n": "x"}}],
    True,
)
def test_a_row_becomes_the_same_with_any_lane(
    before: list[dict[str, Any]], after: list[dict[str, Any]], lines: bool
) -> None:
    lanes = Lanes()
    for rows in (before, after, after):
        if not rows:
            continue
        texts = [json.dumps(row) for row in rows]
        body = ("\n".join(texts) if lines else f"[{','.join(texts)}]").encode()
        plain, plain_unknown, made = became(decode(body, PREDICTION, lines=lines))
        quick, quick_unknown, _ = became(decode(body, PREDICTION, lines=lines, lanes=lanes))
        assert quick == plain
        assert quick_unknown == plain_unknown
        lanes.learn(made)


def taught(*texts: bytes) -> Lanes:
    lanes = Lanes()
    for text in texts:
        lanes.learn(prediction_of(wire, NOW) for _, wire in decode(text, PREDICTION, lines=True).rows)
    return lanes


def test_rows_of_a_known_model_take_its_lane() -> None:
    body = generated.bodies(generated.predictions(20, 1_790_000_000_000), 20)[0]
    assert decode(body, PREDICTION, lines=True, lanes=Lanes()).plain
    assert not decode(body, PREDICTION, lines=True, lanes=taught(body)).plain


def test_models_that_take_turns_each_take_their_lane() -> None:
    body = b"\n".join(b'{"id":"a","model":"m%d","features":{"n%d":1}}' % (i % 2, i % 2) for i in range(6))
    assert not decode(body, PREDICTION, lines=True, lanes=taught(body)).plain


@pytest.mark.parametrize("mistyped", [b'"n/a"', b"[1]", b"1e39"])
def test_one_mistyped_value_leaves_the_others_their_lane(mistyped: bytes) -> None:
    good = b'{"id":"a","model":"m","features":{"n":1,"c":"x"}}'
    bad = good.replace(b":1,", b":%b," % mistyped)
    lanes = taught(b"\n".join([good, good, good, bad]))
    assert decode(bad, PREDICTION, lines=True, lanes=lanes).plain
    assert not decode(good, PREDICTION, lines=True, lanes=lanes).plain


def test_a_feature_that_is_mostly_of_the_other_kind_changes_its_lane() -> None:
    first = b'{"id":"a","model":"m","features":{"n":"n/a"}}'
    later = b'{"id":"a","model":"m","features":{"n":1}}'
    assert not decode(later, PREDICTION, lines=True, lanes=taught(first, later)).plain
