"""What clients send becomes what kedge stores: names, types, values and what follows from them."""

import json
import math
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.body import MAX_ROWS, Malformed, TooManyRows, decode
from ingest.enrich import label_of, prediction_of
from ingest.rejection import Rejection
from ingest.wire import LABEL, PREDICTION
from kedge.errors import BadInput
from kedge.records import FLOAT32_MAX, Label, Prediction
from kedge.sketch import VALUE
from kedge.windows import DAY, HOUR, iso

NOW = 1_795_100_000_000


def predict(**row: Any) -> Prediction:
    """The one prediction of a body; a refusal is raised."""
    decoded = decode(json.dumps({"model": "m", **row}).encode(), PREDICTION)
    for rejection in decoded.rejections:
        raise BadInput(rejection.reason, rejection.field)
    ((_, wire),) = decoded.rows
    return prediction_of(wire, NOW)


def label(**row: Any) -> Label:
    decoded = decode(json.dumps(row).encode(), LABEL)
    for rejection in decoded.rejections:
        raise BadInput(rejection.reason, rejection.field)
    ((_, wire),) = decoded.rows
    return label_of(wire, NOW)


def refusal(**row: Any) -> tuple[str, str]:
    with pytest.raises(BadInput) as caught:
        predict(**row)
    return caught.value.place, caught.value.reason


class TestNames:
    FRIENDLY: ClassVar[dict[str, Any]] = {
        "id": "a1",
        "timestamp": "2026-11-18T10:00:00Z",
        "model": "fraud",
        "version": "7",
        "class": "fraud",
        "probabilities": {"fraud": 0.75, "ok": 0.25},
        "features": {"age": 41, "country": "DE"},
        "segment": {"region": "eu"},
        "latency_ms": 12.5,
        "trace_id": "t",
        "service": "s",
        "host": "h",
        "error": {"type": "Timeout", "message": "slow"},
        "label": {"class": "ok", "timestamp": "2026-11-18T11:00:00Z"},
    }
    NESTED: ClassVar[dict[str, Any]] = {
        "@timestamp": "2026-11-18T10:00:00Z",
        "event": {"id": "a1", "ingested": "2026-11-18T10:00:01Z", "outcome": "failure"},
        "model": {"name": "fraud", "version": "7"},
        "prediction": {"class": "fraud", "probabilities": {"fraud": 0.75, "ok": 0.25}},
        "features": {"num": {"age": 41.0}, "cat": {"country": "DE"}},
        "segment": {"region": "eu"},
        "latency_ms": 12.5,
        "trace": {"id": "t"},
        "service": {"name": "s"},
        "host": {"name": "h"},
        "error": {"type": "Timeout", "message": "slow"},
        "label": {"class": "ok", "timestamp": "2026-11-18T11:00:00Z", "delay_ms": 3_600_000},
        "outcome": {"correct": False},
    }
    DOTTED: ClassVar[dict[str, Any]] = {
        "@timestamp": "2026-11-18T10:00:00Z",
        "event.id": "a1",
        "model.name": "fraud",
        "model.version": "7",
        "prediction.class": "fraud",
        "prediction.probabilities.fraud": 0.75,
        "prediction.probabilities.ok": 0.25,
        "features.num.age": 41,
        "features.country": "DE",
        "segment.region": "eu",
        "latency_ms": 12.5,
        "trace.id": "t",
        "service.name": "s",
        "host.name": "h",
        "error.type": "Timeout",
        "error.message": "slow",
        "label.class": "ok",
        "label.timestamp": "2026-11-18T11:00:00Z",
        "outcome.correct": False,
    }

    @pytest.mark.parametrize("row", [NESTED, DOTTED], ids=["nested", "dotted"])
    def test_stored_names_mean_what_friendly_ones_mean(self, row: dict[str, Any]) -> None:
        decoded = decode(json.dumps([self.FRIENDLY, row]).encode(), PREDICTION)
        friendly, stored = (prediction_of(wire, NOW) for _, wire in decoded.rows)
        assert stored == friendly
        assert not decoded.unknown

    def test_every_field_arrives(self) -> None:
        row = predict(**self.FRIENDLY)
        assert row == Prediction(
            id="a1",
            timestamp=NOW - NOW % DAY + 10 * HOUR - DAY,
            ingested=NOW,
            model="fraud",
            version="7",
            cls="fraud",
            probability=0.75,
            probabilities={"fraud": 0.75, "ok": 0.25},
            entropy=-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)),
            num={"age": 41.0},
            cat={"country": "DE"},
            segment={"region": "eu"},
            latency_ms=12.5,
            trace="t",
            service="s",
            host="h",
            error_type="Timeout",
            error_message="slow",
            label=Label(id="a1", timestamp=NOW - NOW % DAY + 11 * HOUR - DAY, ingested=NOW, cls="ok"),
        )

    def test_one_field_under_two_names_must_agree(self) -> None:
        assert predict(id="a", **{"event.id": "a"}).id == "a"
        place, reason = refusal(id="a", **{"event.id": "b"})
        assert place == "event.id"
        assert "twice" in reason

    def test_unknown_names_are_left_out_and_told(self) -> None:
        decoded = decode(b'{"model": "m", "probabilty": 0.3, "x": 1}', PREDICTION)
        assert len(decoded.rows) == 1
        assert decoded.unknown == {"probabilty", "x"}

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("", "empty name"),
            ("  ", "empty name"),
            ("a..b", "empty part"),
            (".a", "empty part"),
            ("a. .b", "empty part"),
            ("a\nb", "control character"),
            ("a\x00", "control character"),
            (VALUE, "control character"),
            ("x" * 257, "longer than 256"),
        ],
    )
    def test_a_name_that_would_break_a_mapping_is_refused(self, name: str, words: str) -> None:
        for field in ("features", "segment", "attributions", "business"):
            place, reason = refusal(**{field: {name: 1}})
            assert place.startswith(field)
            assert words in reason

    @pytest.mark.parametrize("name", ["a.b", "_hidden", "größe", "a b", "x" * 256])
    def test_other_names_are_taken(self, name: str) -> None:
        assert predict(features={name: 1.5}).num == {name: 1.5}

    def test_a_model_has_a_name_of_reasonable_length(self) -> None:
        assert refusal(model="") == ("model", "is missing")
        assert refusal(model="m" * 129)[0] == "model"
        assert refusal(model=7) == ("model", "expected text, got a whole number")
        assert predict(model="m" * 128).model == "m" * 128


class TestClasses:
    @pytest.mark.parametrize(
        ("given", "text"),
        [
            (1, "1"),
            (1.0, "1"),
            ("1", "1"),
            ("1.0", "1"),
            (-3.0, "-3"),
            (0.5, "0.5"),
            (True, "true"),
            ("True", "true"),
            (False, "false"),
            ("007", "007"),
            (2**60, str(2**60)),
        ],
    )
    def test_are_text_everywhere(self, given: Any, text: str) -> None:
        assert predict(**{"class": given}).cls == text
        assert label(id="a", **{"class": given}).cls == text

    def test_name_their_probabilities_too(self) -> None:
        row = predict(**{"class": 1.0, "probabilities": {"1.0": 0.8, "0": 0.2}})
        assert (row.cls, row.probability, row.probabilities) == ("1", 0.8, {"1": 0.8, "0": 0.2})

    def test_follow_from_probabilities_ties_by_name(self) -> None:
        assert predict(probabilities={"b": 0.4, "a": 0.4, "c": 0.2}).cls == "a"
        assert predict(probabilities={"b": 0.6, "a": 0.4}).cls == "b"

    def test_an_empty_one_is_refused(self) -> None:
        assert refusal(**{"class": ""}) == ("class", "is empty")

    def test_a_version_stays_as_written(self) -> None:
        assert predict(version="1.0").version == "1.0"
        assert predict(version=7).version == "7"


class TestProbabilities:
    def test_confidence_and_entropy_follow(self) -> None:
        row = predict(probabilities={"a": 0.5, "b": 0.25, "c": 0.25})
        assert row.probability == 0.5
        assert row.entropy == pytest.approx(1.5 * math.log(2), rel=1e-15)

    def test_a_certain_prediction_has_no_entropy(self) -> None:
        entropy = predict(probabilities={"a": 1, "b": 0}).entropy
        assert entropy == 0.0
        assert math.copysign(1, entropy or 0.0) == 1.0

    def test_one_of_a_binary_model_gives_the_other(self) -> None:
        row = predict(**{"class": "ok", "probabilities": {"fraud": 0.25}})
        assert row.probabilities == {"fraud": 0.25, "ok": 0.75}
        assert row.probability == 0.75
        named = predict(**{"class": "fraud", "probabilities": {"fraud": 0.25}})
        assert named.probability == 0.25
        assert named.entropy == row.entropy == pytest.approx(0.5623351446188083)

    def test_one_without_a_class_leaves_the_other_nameless(self) -> None:
        place, reason = refusal(probabilities={"fraud": 0.25})
        assert place == "class"
        assert '"fraud" alone' in reason

    def test_a_confidence_alone_tells_no_entropy(self) -> None:
        row = predict(**{"class": "a", "probability": 0.9})
        assert (row.probability, row.entropy, row.probabilities) == (0.9, None, {})

    @pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, -math.inf])
    def test_outside_0_to_1_is_refused_with_the_field(self, value: float) -> None:
        assert refusal(**{"class": "a", "probability": value})[0] == "probability"
        assert refusal(probabilities={"a": value, "b": 0.5})[0] == "probabilities.a"

    def test_float32_rounding_is_forgiven(self) -> None:
        assert predict(probabilities={"a": 1.0000001, "b": 0.0}).probability == 1.0

    def test_must_sum_to_one_within_rounding(self) -> None:
        assert predict(probabilities={"a": 0.33, "b": 0.33, "c": 0.33}).cls == "a"
        ten = {str(i): 0.096 for i in range(10)}
        assert predict(probabilities=ten).cls == "0"
        place, reason = refusal(probabilities={"a": 0.5, "b": 0.3})
        assert (place, reason[:11]) == ("probabilities", "sum to 0.8,")

    def test_that_of_the_class_must_be_among_them_and_agree(self) -> None:
        assert refusal(**{"class": "z", "probabilities": {"a": 0.5, "b": 0.5}})[0] == "probabilities"
        assert (
            refusal(**{"class": "a", "probability": 0.2, "probabilities": {"a": 0.8, "b": 0.2}})[0]
            == "probability"
        )
        assert refusal(probability=0.9)[0] == "probability"

    def test_one_class_twice_is_refused(self) -> None:
        assert "twice" in refusal(probabilities={"1": 0.5, "1.0": 0.5})[1]


class TestFeatures:
    def test_split_by_the_type_they_came_with(self) -> None:
        row = predict(
            features={"i": 3, "f": 2.5, "s": "x", "b": True, "none": None, "list": [1], "object": {"a": 1}}
        )
        assert row.num == {"i": 3.0, "f": 2.5}
        assert row.cat == {"s": "x", "b": "true"}
        assert row.invalid == ("list", "object")

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3.5e38, -3.5e38, 10**400])
    def test_not_finite_in_float32_is_missing(self, value: float) -> None:
        row = predict(features={"x": value, "y": 1})
        assert row.num == {"y": 1.0}
        assert row.invalid == ()

    def test_the_largest_float32_is_a_value(self) -> None:
        assert predict(features={"x": FLOAT32_MAX}).num == {"x": FLOAT32_MAX}

    def test_long_text_is_cut(self) -> None:
        row = predict(features={"x": "ä" * 2000}, segment={"s": "b" * 2000}, **{"class": "c" * 2000})
        assert row.cat["x"] == "ä" * 1024
        assert row.segment["s"] == "b" * 1024
        assert row.cls == "c" * 1024

    def test_more_than_a_thousand_are_refused(self) -> None:
        assert len(predict(features={f"f{i}": i for i in range(1000)}).num) == 1000
        place, reason = refusal(features={f"f{i}": i for i in range(10_000)})
        assert place == "features"
        assert "10,000" in reason
        assert "1,000" in reason

    def test_a_list_is_no_row_of_features(self) -> None:
        assert refusal(features=[1, 2, 3]) == ("features", "expected an object, got a list")

    def test_half_a_surrogate_pair_is_refused(self) -> None:
        assert refusal(features={"x": "\ud800"})[0] == "features.x"
        assert refusal(id="\udfff")[0] == "id"


class TestNumbers:
    @pytest.mark.parametrize(
        ("row", "place"),
        [
            ({"latency_ms": "12"}, "latency_ms"),
            ({"latency_ms": -1}, "latency_ms"),
            ({"latency_ms": math.nan}, "latency_ms"),
            ({"value": "3.5"}, "value"),
            ({"value": math.inf}, "value"),
            ({"value": 2**53 + 1}, "value"),
            ({"entropy": -0.1}, "entropy"),
            ({"class": "a", "probability": "0.5"}, "probability"),
            ({"probabilities": {"a": "0.5", "b": 0.5}}, "probabilities.a"),
            ({"attributions": {"a": True}}, "attributions.a"),
            ({"segment": {"region": ["eu"]}}, "segment.region"),
            ({"label": {"value": "x"}}, "label.value"),
            ({"class": ["a"]}, "class"),
        ],
    )
    def test_of_the_wrong_type_or_range_are_refused_with_their_path(
        self, row: dict[str, Any], place: str
    ) -> None:
        assert refusal(**row)[0] == place

    def test_reasons_are_sentences(self) -> None:
        assert refusal(latency_ms="12") == ("latency_ms", "expected a number, got text")


class TestTime:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("2026-11-19T01:02:03.456Z", "2026-11-19T01:02:03.456Z"),
            ("2026-11-19T01:02:03+01:00", "2026-11-19T00:02:03Z"),
            ("2026-11-19 01:02:03", "2026-11-19T01:02:03Z"),
            ("2026-11-19", "2026-11-19T00:00:00Z"),
            (1_795_000_000, "2026-11-18T11:06:40Z"),
            (1_795_000_000.25, "2026-11-18T11:06:40.250Z"),
            (1_795_000_000_123, "2026-11-18T11:06:40.123Z"),
            ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00Z"),
        ],
    )
    def test_is_read(self, given: Any, expected: str) -> None:
        assert iso(predict(timestamp=given).timestamp) == expected

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ("1999-12-31T23:59:59Z", "before 2000"),
            (0, "before 2000"),
            (-1e300, "before 2000"),
            (1e300, "ahead"),
            (NOW + HOUR + 1, "ahead"),
            ("2027-12-01", "ahead"),
            ("yesterday", "not a time"),
            ("0001-01-01T00:00:00+23:59", "before 2000"),
            (math.nan, "not finite"),
        ],
    )
    def test_out_of_reach_is_refused(self, given: Any, words: str) -> None:
        place, reason = refusal(timestamp=given)
        assert place == "timestamp"
        assert words in reason

    def test_an_hour_ahead_is_taken(self) -> None:
        assert predict(timestamp=NOW + HOUR).timestamp == NOW + HOUR


class TestIds:
    def test_are_made_in_the_order_of_time(self) -> None:
        ids = [predict(timestamp=NOW - HOUR + i).id for i in range(20)]
        assert ids == sorted(ids)
        assert predict().id != predict().id
        assert int(predict().id[:12], 16) == NOW

    def test_are_text_and_bounded(self) -> None:
        assert predict(id=12345678901234567890).id == "12345678901234567890"
        assert refusal(id="") == ("id", "is empty")
        assert predict(id="é" * 256).id == "é" * 256
        assert refusal(id="é" * 257)[0] == "id"
        assert refusal(id="x" * 513)[0] == "id"


class TestLabels:
    def test_of_a_prediction_are_of_its_kind_and_age(self) -> None:
        own = predict(**{"class": "1", "label": 0, "timestamp": NOW - DAY}).label
        assert own is not None
        assert (own.cls, own.value, own.timestamp) == ("0", None, NOW - DAY)
        regression = predict(value=3.5, label=4).label
        assert regression is not None
        assert (regression.cls, regression.value) == (None, 4.0)

    def test_by_themselves_fit_either_kind_when_bare_numbers(self) -> None:
        assert (label(id=7, label=1).cls, label(id=7, label=1).value) == ("1", 1.0)
        assert (label(id="a", label="late").cls, label(id="a", label="late").value) == ("late", None)
        assert (label(id="a", value=2.5).cls, label(id="a", value=2.5).value) == (None, 2.5)
        assert label(id="a", label=True).value is None

    def test_without_a_time_are_of_now(self) -> None:
        assert label(id="a", label=1).timestamp == NOW
        assert label(id="a", label=1, timestamp=NOW - DAY).timestamp == NOW - DAY

    @pytest.mark.parametrize(
        ("row", "place"),
        [
            ({"label": 1}, "id"),
            ({"id": "a"}, "label"),
            ({"id": "a", "value": math.nan}, "value"),
            ({"id": [], "label": 1}, "id"),
        ],
    )
    def test_lacking_something_are_refused(self, row: dict[str, Any], place: str) -> None:
        with pytest.raises(BadInput) as caught:
            label(**row)
        assert caught.value.place == place

    def test_are_read_from_stored_names_and_whole_predictions(self) -> None:
        expected = Label(id="a", timestamp=NOW - HOUR, ingested=NOW, cls="late", model="m")
        stored = {
            "event": {"id": "a"},
            "model": {"name": "m"},
            "label": {"class": "late", "timestamp": NOW - HOUR},
        }
        assert label(**stored) == expected
        assert label(**stored, **{"@timestamp": NOW - DAY, "prediction": {"class": "ok"}}) == expected
        dotted = {"event.id": "a", "model.name": "m", "label.class": "late", "label.timestamp": NOW - HOUR}
        assert label(**dotted, **{"class": "ok", "timestamp": NOW - DAY}) == expected


class TestBodies:
    def test_an_object_a_list_and_lines_are_the_same(self) -> None:
        row = b'{"model": "m", "id": "a"}'
        for body, lines in (
            (row, False),
            (b" [" + row + b"]", False),
            (row + b"\n", True),
            (b"\xef\xbb\xbf" + row, False),
            (b"[" + row + b"]", True),
        ):
            ((index, wire),) = decode(body, PREDICTION, lines=lines).rows
            assert (index, wire.id) == (0, "a")

    def test_lines_need_not_be_declared(self) -> None:
        body = b'{"model": "m", "id": "a"}\r\n\r\n{"model": "m", "id": "b"}\n'
        assert [wire.id for _, wire in decode(body, PREDICTION).rows] == ["a", "b"]

    def test_malformed_has_a_place(self) -> None:
        with pytest.raises(Malformed) as caught:
            decode(b'[{"model": "m"},\n {"model" "m"}]', PREDICTION)
        assert (caught.value.line, caught.value.column, caught.value.byte) == (2, 11, 27)
        with pytest.raises(Malformed, match="not UTF-8"):
            decode(b'{"model": "\xff"}', PREDICTION)
        with pytest.raises(Malformed, match="nested"):
            decode(b'{"model": ' + b"[" * 100_000, PREDICTION)
        with pytest.raises(Malformed):
            decode(b'"text"', PREDICTION)
        with pytest.raises(BadInput, match="empty"):
            decode(b" \n", PREDICTION)

    def test_a_bad_line_costs_no_other(self) -> None:
        body = b'{"model": "m"}\nnonsense\n{"model": "\xff"}\n{"model": "m"}\n[1]\n'
        decoded = decode(body, PREDICTION, lines=True)
        assert [index for index, _ in decoded.rows] == [0, 3]
        assert [rejection.index for rejection in decoded.rejections] == [1, 2, 4]

    def test_a_bad_row_of_a_list_costs_no_other(self) -> None:
        body = b'[{"model": "m"}, 7, {"model": 1}, {"model": "\xff"}, null, {"model": "m", "id": "b"}]'
        decoded = decode(body, PREDICTION)
        assert [index for index, _ in decoded.rows] == [0, 5]
        assert decoded.rejections[0] == Rejection(1, "", "expected an object, got a whole number")
        assert decoded.rejections[1] == Rejection(2, "model", "expected text, got a whole number")

    def test_what_python_writes_for_nan_is_read(self) -> None:
        body = json.dumps([{"model": "m", "features": {"x": math.nan, "y": math.inf, "z": 1}}]).encode()
        ((_, wire),) = decode(body, PREDICTION).rows
        assert prediction_of(wire, NOW).num == {"z": 1.0}

    def test_numbers_too_large_for_any_type_are_read(self) -> None:
        body = b'{"model": "m", "features": {"x": 1e999, "y": ' + b"9" * 10_000 + b"}}"
        ((_, wire),) = decode(body, PREDICTION).rows
        assert prediction_of(wire, NOW).num == {}

    def test_too_many_rows_are_refused(self) -> None:
        assert decode(b"[" + b"{}," * (MAX_ROWS - 1) + b"{}]", PREDICTION).total == MAX_ROWS
        with pytest.raises(TooManyRows, match="50,001"):
            decode(b"[" + b"{}," * MAX_ROWS + b"{}]", PREDICTION)
        with pytest.raises(TooManyRows):
            decode(b"{}\n" * (MAX_ROWS + 1), PREDICTION, lines=True)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_fields = st.sampled_from(
    [
        *(
            "id",
            "timestamp",
            "@timestamp",
            "model",
            "model.name",
            "version",
            "class",
            "probability",
            "probabilities",
        ),
        *(
            "value",
            "entropy",
            "features",
            "features.num",
            "features.x",
            "segment",
            "segment.a",
            "latency_ms",
            "error",
        ),
        *("event", "prediction", "service", "label", "label.class", "outcome", "attributions", "whatever"),
    ]
)


class TestAnything:
    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.dictionaries(_fields, _json, max_size=6) | _json, max_size=4))
    def test_is_taken_or_refused_and_never_crashes(self, rows: list[Any]) -> None:
        decoded = decode(json.dumps(rows).encode(), PREDICTION)
        assert decoded.total == len(rows)
        for _, wire in decoded.rows:
            try:
                row = prediction_of(wire, NOW)
            except BadInput:
                continue
            self.assert_storable(row)

    @settings(max_examples=200, deadline=None)
    @given(
        st.binary(max_size=40) | st.text(alphabet='[]{}",:\\ \n1eNau', max_size=40).map(str.encode),
        st.booleans(),
    )
    def test_bytes_are_taken_or_refused_and_never_crash(self, body: bytes, lines: bool) -> None:
        for shape in (PREDICTION, LABEL):
            try:
                decoded = decode(body, shape, lines=lines)
            except BadInput:
                continue
            # Every element is a row or a rejection with a reason, none is both or gone.
            indices = [index for index, _ in decoded.rows] + [r.index for r in decoded.rejections]
            assert sorted(indices) == list(range(decoded.total))
            assert all(r.reason for r in decoded.rejections)

    @staticmethod
    def assert_storable(row: Prediction) -> None:
        """What the records promise, whatever came in."""
        msgspec.json.encode(row)
        assert row.model
        assert row.id
        assert all(abs(value) <= FLOAT32_MAX for value in row.num.values())
        assert all(len(value) <= 1024 for value in (*row.cat.values(), *row.segment.values()))
        for number in (row.probability, row.entropy, row.value, row.latency_ms, *row.probabilities.values()):
            assert number is None or math.isfinite(number)
        assert row.probability is None or 0 <= row.probability <= 1
        if row.probabilities:
            assert row.cls is not None
