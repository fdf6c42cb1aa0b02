"""Rows of a request that become columns are stored, and answered for, as if each had gone by itself."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench import rows as generated
from ingest.body import decode
from ingest.enrich import prediction_of
from ingest.lane import Lanes
from ingest.rejection import Rejection
from ingest.service import IngestService
from ingest.wire import PREDICTION, WirePrediction
from ingest.wire_columns import FEWEST, tabled
from kedge.errors import BadInput
from kedge.record_table import PredictionTable
from kedge.records import Prediction
from kedge.store.base import AppendResult
from kedge.store.duckdb import open_duckdb
from kedge.windows import DAY
from tests.ingest.conftest import ALL, NOW
from tests.ingest.test_columnar import rows_in_one_form

Row = dict[str, Any]

NUMBERS = st.one_of(
    st.floats(0, 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-3, 3),
    st.sampled_from(
        [-0.0, 2**53, 2**53 + 1, -(2**63), 2**64, 10**400, 3.41e38, 1e-320, 1 + 1e-7, -1e-7, 1.5]
    ),
)
TEXTS = st.sampled_from(
    ["", "a", "ok", "late", "1", "1.0", "True", "é" * 1_100, "x" * 1_200, "x" * 513, "\ud800"]
)
ODD = st.sampled_from([None, True, False, [1], {"a": 1}, float("nan"), float("inf")])
SCALARS = st.one_of(TEXTS, NUMBERS, ODD)
PROBABILITIES = st.one_of(
    st.floats(0, 1).map(lambda p: {"ok": p, "late": 1 - p}),
    st.floats(0, 1).map(lambda p: {"late": 1 - p, "ok": p}),
    st.floats(0, 1).map(lambda p: {"ok": p}),
    st.tuples(st.floats(0, 0.4), st.floats(0, 0.4), st.permutations(["a", "b", "c"])).map(
        lambda t: dict(zip(t[2], (t[0], t[1], 1 - t[0] - t[1]), strict=True))
    ),
    st.sampled_from(
        [{}, {"ok": None}, {"ok": 0.2, "late": 0.2}, {"1": 0.5, "1.0": 0.5}, {"": 1.0}, {"ok": "x"}]
    ),
    st.dictionaries(st.sampled_from(["ok", "late", "True"]), SCALARS, max_size=3),
)
TIMES = st.sampled_from(
    [
        *(
            NOW,
            NOW / 1_000,
            NOW // 1_000,
            0,
            -1,
            10**30,
            None,
            "",
            "yesterday",
            "2026-11-18",
            "1999-12-31T23:59:59Z",
        ),
        *(
            "2026-11-18T10:00:00Z",
            "2026-11-18 10:00:00",
            "2026-11-18T10:00:00.125+02:00",
            " 2026-11-18T10:00:00Z",
        ),
        *("2026-11-18T10:00:00.0005Z", "2026-11-18T10:00:00.1259Z", "2999-01-01T00:00:00Z"),
    ]
)
LABELS = st.one_of(
    SCALARS,
    st.fixed_dictionaries(
        {}, optional={"class": SCALARS, "value": SCALARS, "timestamp": TIMES, "label": SCALARS}
    ),
)
MEMBERS = st.dictionaries(st.sampled_from(["a", "b.c", " ", 'q"']), SCALARS, max_size=2)
NASTY: dict[str, st.SearchStrategy[Any]] = {
    "timestamp": TIMES,
    "version": SCALARS,
    "class": SCALARS,
    "probability": SCALARS,
    "probabilities": PROBABILITIES,
    "value": SCALARS,
    "entropy": SCALARS,
    "features": st.dictionaries(st.sampled_from(["n0", "n1", "c0", "new", " ", 'q"']), SCALARS, max_size=3),
    "segment": MEMBERS,
    "attributions": MEMBERS,
    "resource": MEMBERS,
    "business": MEMBERS,
    "latency_ms": SCALARS,
    "trace_id": SCALARS,
    "service": SCALARS,
    "host": SCALARS,
    "error": st.one_of(SCALARS, st.fixed_dictionaries({}, optional={"type": SCALARS, "message": SCALARS})),
    "label": LABELS,
    "@timestamp": TIMES,
    "features.num": st.just({"n0": 4}),
    "unknown": st.just(1),
}
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "timestamp": st.sampled_from(["2026-11-18T10:00:00Z", "2026-11-17T10:00:00.125Z", NOW - DAY]),
    "version": st.sampled_from(["7", 7, 7.0, True, "8"]),
    "class": st.sampled_from(["ok", "late"]),
    "probabilities": st.one_of(
        st.floats(0, 1).map(lambda p: {"ok": p, "late": 1 - p}),
        st.floats(0, 1).map(lambda p: {"late": p, "ok": 1 - p}),
        st.tuples(st.floats(0, 0.4), st.floats(0, 0.4), st.permutations(["late", "ok", "c"])).map(
            lambda t: dict(zip(t[2], (t[0], t[1], 1 - t[0] - t[1]), strict=True))
        ),
    ),
    "value": st.floats(-1e4, 1e4),
    "latency_ms": st.floats(0, 1e4),
    "segment": st.sampled_from([{"region": "eu"}, {"region": "us", "tier": 1}, {"tier": True}]),
    "features": st.fixed_dictionaries(
        {"n0": st.floats(-1, 1), "n1": st.integers(-3, 3), "c0": st.sampled_from(["x", "y", True, ""])}
    ),
    "attributions": st.just({"n0": 0.5}),
    "service": st.sampled_from(["s", "t"]),
    "error": st.sampled_from(["broken", {"type": "ValueError"}, {"message": "é"}]),
    "label": st.sampled_from(
        ["ok", "late", {"class": "ok"}, {"class": "late", "timestamp": NOW - 5}, 1, 2.5]
    ),
}


def rows_of(fields: dict[str, st.SearchStrategy[Any]], most: int) -> st.SearchStrategy[Row]:
    chosen = st.lists(st.sampled_from(sorted(fields)), max_size=most, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: fields[name] for name in names}))


@st.composite
def requests(draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[Row]:
    """Mostly rows that are alike, with others among them; ids and models repeat now and then."""
    names = draw(st.lists(st.sampled_from(sorted(PLAIN)), max_size=6, unique=True))
    alike = st.fixed_dictionaries({name: PLAIN[name] for name in names})
    kinds = (
        st.one_of(alike, alike, alike, rows_of(PLAIN, 4), rows_of(NASTY, 3)) if draw(st.booleans()) else alike
    )
    rows = draw(st.lists(kinds, min_size=1, max_size=7))
    models = draw(st.sampled_from([["m"], ["m"], ["m", "m2"], ["é"]]))
    ids = st.one_of(
        st.integers(0, 30), st.integers(0, 30).map(str), st.sampled_from(["a", "é" * 300, "", None])
    )
    varied = draw(st.booleans())
    return [
        {"id": draw(ids) if varied else f"i{i}", "model": models[i % len(models)], "timestamp": NOW - 5} | row
        for i, row in enumerate(rows)
    ]


def body_of(rows: Iterable[Row], lines: bool) -> bytes:
    texts = [json.dumps(row) for row in rows]
    return ("\n".join(texts) if lines else f"[{','.join(texts)}]").encode()


def told(rows: Iterable[tuple[int, Prediction]], rejections: Iterable[Rejection]) -> dict[int, Any]:
    """By index, what became of a row. An id that was not given is of chance."""
    found: dict[int, Any] = {rejection.index: rejection for rejection in rejections}
    for index, row in rows:
        assert index not in found
        [plain] = rows_in_one_form([row])
        found[index] = msgspec.msgpack.encode(plain)
    return found


def by_row(
    rows: Iterable[tuple[int, WirePrediction]], rejections: Iterable[Rejection]
) -> tuple[list[tuple[int, Prediction]], list[Rejection]]:
    made, refused = [], list(rejections)
    for index, wire in rows:
        try:
            made.append((index, prediction_of(wire, NOW)))
        except BadInput as error:
            refused.append(Rejection.of(index, error))
    return made, refused


def in_tables(tables: list[tuple[PredictionTable, list[int]]]) -> list[tuple[int, Prediction]]:
    return [
        (index, row) for table, indices in tables for index, row in zip(indices, table.rows(), strict=True)
    ]


@settings(max_examples=500, deadline=None)
@example(rows=[{"id": "i0", "model": "m", "timestamp": NOW, "attributions": {"a": "\ud800"}}], lines=False)
@given(rows=requests(), lines=st.booleans())
@example([{"id": "a", "model": "m", "probabilities": {"a": 0.1, "b": 0.2, "c": 0.7}}] * 2, True)
def test_rows_become_the_same_by_both_ways(rows: list[Row], lines: bool) -> None:
    rows = [{**row, "id": f"n{i}"} if row["id"] is None else row for i, row in enumerate(rows)]
    body = body_of(rows, lines)
    plainly = decode(body, PREDICTION, lines=lines)
    made, refused = by_row(plainly.rows, plainly.rejections)
    lanes = Lanes()
    lanes.learn([row for _, row in made])
    quick = decode(body, PREDICTION, lines=lines, lanes=lanes)
    tables, others = tabled(quick.rows, NOW, fewest=1)
    rest, also_refused = by_row(others, quick.rejections)
    assert told([*in_tables(tables), *rest], also_refused) == told(made, refused)
    in_columns = {(row.model, row.id) for _, row in in_tables(tables)}
    assert in_columns.isdisjoint((row.model, row.id) for _, row in rest)


class Unlearned(Lanes):
    """Every row takes the plain way."""

    def learn(self, *_: Any) -> None:
        pass


def stored(service: IngestService) -> list[str]:
    found = [doc for model in ("m", "m2", "é") for doc in service._writer.logs.examples(model, ALL, 10_000)]
    return sorted(json.dumps(doc, sort_keys=True) for doc in found)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=requests(), more=requests(), lines=st.booleans())
def test_requests_are_answered_and_stored_the_same_by_both_ways(
    rows: list[Row], more: list[Row], lines: bool
) -> None:
    services = []
    for lanes in (Lanes(), Unlearned()):
        store = open_duckdb(":memory:")
        store.setup()
        services.append(IngestService(store, store.state, lambda: NOW))
        services[-1]._lanes = lanes
    for times, sent in ((1, rows), (2 * FEWEST, rows), (2 * FEWEST, more), (2 * FEWEST, rows)):
        repeated = [
            row | {"id": row["id"] if i % 3 or row["id"] is None else f"{i}-{row['id']}"}
            for i, row in enumerate(sent * (times // len(sent) + 1))
        ]
        repeated = [{**row, "id": f"n{i}"} if row["id"] is None else row for i, row in enumerate(repeated)]
        body = body_of(repeated, lines)
        quick, plain = (msgspec.json.encode(service.predictions(body, lines=lines)) for service in services)
        assert quick == plain
    assert stored(services[0]) == stored(services[1])
    kept = [sorted(row.reason for row in service._writer.logs.rejected(10_000)) for service in services]
    assert kept[0] == kept[1]
    assert services[0].schema("m") == services[1].schema("m")
    for service in services:
        service._writer.logs.close()  # type: ignore[attr-defined]


class Counting:
    """A store that remembers which way rows came."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.ways: list[tuple[str, int]] = []

    def append(self, rows: Any) -> list[AppendResult]:
        self.ways.append(("rows", len(rows)))
        return self._store.append(rows)  # type: ignore[no-any-return]

    def append_table(self, table: PredictionTable) -> list[AppendResult]:
        self.ways.append(("table", len(table)))
        return self._store.append_table(table)  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def counting(store: Any) -> Counting:
    return Counting(store)


@pytest.fixture
def taught(counting: Counting) -> IngestService:
    service = IngestService(counting, counting.state, lambda: NOW)
    service.predictions(body_of([plain_row(-1)], True), lines=True)
    counting.ways.clear()
    return service


def plain_row(i: int, **more: Any) -> Row:
    return {"id": f"r{i}", "model": "m", "timestamp": NOW - 5, "features": {"n": i + 0.5, "c": "x"}} | more


@pytest.mark.parametrize("lines", [True, False])
def test_many_plain_rows_are_written_as_one_table(
    taught: IngestService, counting: Counting, lines: bool
) -> None:
    answer = taught.predictions(body_of([plain_row(i) for i in range(200)], lines), lines=lines)
    assert (answer.accepted, counting.ways) == (200, [("table", 200)])


def test_few_rows_go_one_by_one(taught: IngestService, counting: Counting) -> None:
    taught.predictions(body_of([plain_row(i) for i in range(FEWEST - 1)], True), lines=True)
    assert counting.ways == [("rows", FEWEST - 1)]


def test_a_row_that_is_not_plain_goes_by_itself_and_keeps_its_index(
    taught: IngestService, counting: Counting
) -> None:
    rows = [plain_row(i) for i in range(200)]
    rows[40] = plain_row(40, latency_ms=-1)
    rows[41] = plain_row(41, features={"n": "many"})
    answer = taught.predictions(body_of(rows, True), lines=True)
    assert (answer.accepted, [r.index for r in answer.rejections]) == (199, [40])
    assert counting.ways == [("table", 198), ("rows", 1)]
    counting.ways.clear()
    taught.predictions(body_of([plain_row(i) for i in range(200, 400)], True), lines=True)
    assert counting.ways == [("table", 200)], "one mistyped value must not cost the others their lane"


def test_of_two_rows_with_one_id_the_first_is_stored_whichever_way_it_goes(
    taught: IngestService, counting: Counting
) -> None:
    rows = [plain_row(i) for i in range(200)]
    rows[3] = plain_row(7, features={"n": "first"})
    assert taught.predictions(body_of(rows, True), lines=True).duplicate == 1
    [found] = [d for d in counting.examples("m", ALL, 1_000) if d["event"]["id"] == "r7"]
    assert found["features"]["cat"] == {"n": "first"}


def test_rows_without_id_or_time_get_their_own(taught: IngestService, counting: Counting) -> None:
    rows = [{"model": "m"} | ({"id": f"r{i}"} if i % 2 else {}) for i in range(200)]
    answer = taught.predictions(body_of(rows, True), lines=True)
    assert (answer.accepted, counting.ways) == (200, [("table", 200)])
    assert answer.notice is not None
    assert answer.notice.startswith("100 rows had no id")
    assert "100 rows had no timestamp" in answer.notice
    found = [d["event"]["id"] for d in counting.examples("m", ALL, 1_000)]
    assert sum(id.startswith(f"{NOW:012x}") for id in found) == 100


def test_large_models_beside_each_other_have_a_table_each(counting: Counting) -> None:
    service = IngestService(counting, counting.state, lambda: NOW)
    rows = [plain_row(i, model=f"m{i % 2}") for i in range(400)]
    service.predictions(body_of(rows[:2], True), lines=True)
    counting.ways.clear()
    answer = service.predictions(body_of(rows[2:], True), lines=True)
    assert (answer.accepted, counting.ways) == (398, [("table", 199), ("table", 199)])


@pytest.mark.parametrize(
    "joined",
    [
        b'{"id":"a","model":"m"}\n{"id":"b",\n"model":"m"}\n{"id":"c","model":"m"} {"id":"d","model":"m"}',
        b'{"id":"a","model":"m"},{"id":"b","model":"m"}\n{"id":"c","model":"m"}',
        b'{"id":"a","model":"m"}\r\n{"id":"b","model":"m"}\r\n',
        b'{"id":"a","model":"m"}\n\n \n{"id":"b","model":"m"}\n',
        b'{"id":"a","model":"m"}\n{"id":"b","model":"m"}\n]',
        b'{"id":"a","model":"m"}]\n[{"id":"b","model":"m"}',
        b'{"id":"a","model":"m","host":"}\n{"}\n{"id":"b","model":"m"}',
    ],
)
def test_what_is_one_line_stays_one_line(joined: bytes) -> None:
    lanes = Lanes()
    lanes.learn([prediction_of(WirePrediction(model="m"), NOW)])
    plain = decode(joined, PREDICTION, lines=True)
    quick = decode(joined, PREDICTION, lines=True, lanes=lanes)
    assert quick.rejections == plain.rejections
    assert [(i, row.id, row.model) for i, row in quick.rows] == [
        (i, row.id, row.model) for i, row in plain.rows
    ]


def test_generated_rows_are_all_plain() -> None:
    body = generated.bodies(generated.predictions(200, NOW - 2 * DAY), 200)[0]
    lanes = Lanes()
    lanes.learn(prediction_of(wire, NOW) for _, wire in decode(body, PREDICTION, lines=True).rows)
    tables, others = tabled(decode(body, PREDICTION, lines=True, lanes=lanes).rows, NOW)
    assert [len(table) for table, _ in tables] == [200]
    assert others == []
