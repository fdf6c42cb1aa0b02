"""The values of a field are counted alike in every store, by plain Python over the same rows."""

from collections import defaultdict
from collections.abc import Sequence

import pytest

from kedge.records import Prediction
from kedge.store.base import Store
from kedge.store.values import EXAMPLES, MOST_VALUES, ValueCount, ValueQuery
from kedge.windows import DAY, HOUR, Window
from tests.contract.helpers import append
from tests.support.rows import SPAN, START, random_rows

Rows = Sequence[Prediction]
MODEL = "rows with values"
FIELDS = (
    "features.cat.merchant_type",
    "features.cat.a.b",
    "features.cat.země",
    "features.cat.mixed",
    "prediction.class",
    "segment.region",
    "version",
    "service",
    "host",
)


@pytest.fixture(scope="module")
def rows(store: Store) -> Rows:
    found = random_rows(23, 400, model=MODEL)
    append(store, found)
    return found


def value_of(row: Prediction, field: str) -> str | None:
    if field.startswith("features.cat."):
        return row.cat.get(field.removeprefix("features.cat."))
    if field.startswith("segment."):
        return row.segment.get(field.removeprefix("segment."))
    own = {"prediction.class": row.cls, "version": row.version, "service": row.service, "host": row.host}
    return own[field] or None


def counted(rows: Rows, query: ValueQuery) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for row in rows:
        value = value_of(row, query.field)
        within = all(value_of(row, name) == wanted for name, wanted in query.group)
        if value is not None and row.timestamp in query.window and within and query.wanted(value):
            found[value] += 1
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


@pytest.mark.parametrize("field", FIELDS)
def test_values_are_counted_as_the_rows_have_them(store: Store, rows: Rows, field: str) -> None:
    query = ValueQuery(MODEL, SPAN, field)
    expected = counted(rows, query)
    assert expected, "a field that no row has shows nothing"
    assert [(v.value, v.rows) for v in store.values(query)] == list(expected.items())
    part = ValueQuery(MODEL, Window(START + HOUR, START + 4 * HOUR), field)
    assert {v.value: v.rows for v in store.values(part)} == counted(rows, part)


def test_some_values_can_be_left_out_or_asked_for_alone(store: Store, rows: Rows) -> None:
    field = "features.cat.merchant_type"
    first, second, *_ = counted(rows, ValueQuery(MODEL, SPAN, field))
    for more in (
        {"without": [first]},
        {"among": [second, "never heard of"]},
        {"without": [first], "among": [first, second]},
        {"among": []},
    ):
        query = ValueQuery(MODEL, SPAN, field, **more)  # type: ignore[arg-type]
        assert {v.value: v.rows for v in store.values(query)} == counted(rows, query), more


def test_the_values_of_a_group_are_those_of_its_rows(store: Store, rows: Rows) -> None:
    version = next(row.version for row in rows if row.version)
    region = next(row.segment["region"] for row in rows if row.version == version and "region" in row.segment)
    for group in ((("version", version),), (("segment.region", region), ("version", version))):
        query = ValueQuery(MODEL, SPAN, "features.cat.merchant_type", group)
        assert {v.value: v.rows for v in store.values(query)} == counted(rows, query)
    nobody = ValueQuery(MODEL, SPAN, "features.cat.merchant_type", (("segment.unheard", "of"),))
    assert store.values(nobody) == []


def test_the_newest_rows_of_each_value_are_named(store: Store, rows: Rows) -> None:
    times = {row.id: row.timestamp for row in rows}
    for found in store.values(ValueQuery(MODEL, SPAN, "segment.region", examples=True)):
        having = sorted(
            (r.timestamp for r in rows if r.segment.get("region") == found.value and r.timestamp in SPAN),
            reverse=True,
        )
        assert [times[row_id] for row_id in found.examples] == having[:EXAMPLES]


def test_a_field_or_a_model_that_never_was_has_no_values(store: Store, rows: Rows) -> None:
    assert store.values(ValueQuery(MODEL, SPAN, "features.cat.never logged")) == []
    assert store.values(ValueQuery(MODEL, SPAN, "segment.never logged")) == []
    assert store.values(ValueQuery("no such model", SPAN, "version")) == []
    assert store.values(ValueQuery(MODEL, Window(START - DAY, START - HOUR), "version")) == []


def test_of_very_many_values_the_commonest_are_listed(store: Store, model: str) -> None:
    rows = [
        Prediction(
            id=f"{i}", timestamp=START + i, ingested=START, model=model, cat={"user": f"u{i % 1_100:04}"}
        )
        for i in range(1_150)
    ]
    append(store, rows)
    found = store.values(ValueQuery(model, SPAN, "features.cat.user"))
    assert len(found) == MOST_VALUES
    assert found[:50] == [ValueCount(f"u{i:04}", 2) for i in range(50)]
