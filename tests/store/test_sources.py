"""Logs that others write are counted as if kedge had written them: an OpenSearch data stream with ECS fields,
and an Elasticsearch index that a plain `_bulk` script fills under default dynamic mapping."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from kedge.pipeline.schema import Features, features_of
from kedge.records import Prediction
from kedge.sketch import SCORE_CELLS, CategoricalEdges, EdgeSet, NumericEdges, PartName, score_cell
from kedge.store.base import PartRow, SummaryKey, SummaryRequest
from kedge.store.elastic import ElasticStore, open_elastic
from kedge.store.elastic.client import Client
from kedge.store.elastic.foreign import ForeignField
from kedge.store.flaws import Flaw, Problem
from kedge.store.sources import Mapped, Source
from kedge.store.values import ValueQuery
from kedge.windows import HOUR
from tests.store.conftest import remove
from tests.store.foreign_logs import (
    BULK_SCRIPT,
    CLASSES,
    ECS_STREAM,
    SPAN,
    START,
    Kind,
    Logger,
    ecs_source,
    labelled_at_random,
    minutes,
    rows_of,
)
from tests.support.oracle import answer_to, differences

EDGES = EdgeSet(
    {
        "age": NumericEdges((18.0, 30.0, 45.0, 60.0)),
        "card.amount": NumericEdges(tuple(float(np.float32(v)) for v in (0.1, 0.25, 1 / 3, 2.5))),
        "merchant": CategoricalEdges(("shop",), ("pub",)),
        "night": CategoricalEdges(("true",), ()),
        "nowhere": NumericEdges((0.0, 1.0)),
    }
)
Setting = tuple[str, Kind]


@pytest.fixture(scope="module", params=["stream on OpenSearch", "index on Elasticsearch"])
def setting(request: pytest.FixtureRequest) -> Setting:
    if request.param == "stream on OpenSearch":
        return request.getfixturevalue("opensearch_url"), ECS_STREAM
    return request.getfixturevalue("elasticsearch_url"), BULK_SCRIPT


@pytest.fixture(scope="module")
def client(setting: Setting) -> Iterator[Client]:
    opened = Client(setting[0])
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def prefix(client: Client) -> Iterator[str]:
    name = f"kedge-sources-{uuid4().hex[:10]}"
    yield name
    remove(client, name)


@pytest.fixture(scope="module", autouse=True)
def _set_up(setting: Setting, prefix: str) -> None:
    opened = open_elastic(setting[0], prefix=prefix, clock=lambda: START)
    assert all(check.ok for check in opened.setup())
    opened.close()


@pytest.fixture
def logger(setting: Setting) -> Iterator[Logger]:
    somebody = Logger(setting[0], f"logs-ml-{uuid4().hex[:10]}", setting[1])
    yield somebody
    somebody.close()


@pytest.fixture
def models() -> tuple[str, str]:
    """Names that no other test uses."""
    return (f"fraud {uuid4().hex[:6]}", f"churn {uuid4().hex[:6]}")


def reading(setting: Setting, prefix: str, *sources: Source) -> ElasticStore:
    return open_elastic(setting[0], prefix=prefix, clock=lambda: START, sources=sources)


@pytest.fixture
def store(setting: Setting, prefix: str, logger: Logger) -> Iterator[ElasticStore]:
    """Reads what the logger logs."""
    opened = reading(setting, prefix, source_of(logger))
    yield opened
    opened.close()


def source_of(logger: Logger) -> Source:
    source = logger.kind.source(logger.index)
    if logger.kind is BULK_SCRIPT:  # a star stands for what is left of the name
        fields = source.fields | {
            "features.num.age": Mapped("in_age"),
            "features.cat.merchant": Mapped("in_merchant"),
            "features.cat.night": Mapped("in_night"),
        }
        return replace(source, fields=fields)
    return source


def asking(model: str) -> SummaryRequest:
    return SummaryRequest(
        model=model,
        window=SPAN,
        bucket=HOUR,
        parts=frozenset(PartName),
        groupings=((), ("version",), ("segment.region", "version")),
        edges=EDGES,
        numeric=("age", "card.amount", "nowhere"),
        categorical=("merchant", "night"),
    )


def assert_counts(store: ElasticStore, model: str, rows: Sequence[Prediction]) -> dict[SummaryKey, PartRow]:
    """The answer is the oracle's, to the last row."""
    request = asking(model)
    expected = answer_to(request, rows)
    found = {row.key: row for row in store.summarise(request)}
    assert found.keys() == expected.keys()
    wrong = {key: lines for key, part in expected.items() if (lines := differences(part, found[key].part))}
    assert wrong == {}
    return found


def test_foreign_rows_count_as_the_rows_themselves_say(
    store: ElasticStore, logger: Logger, models: tuple[str, str]
) -> None:
    rows = rows_of(600, models)
    logger.log(rows[:400])
    if logger.kind.stream:
        logger.roll_over()
    logger.log(rows[400:])
    changes = store.changed({})
    for model in models:
        own = [row for row in rows if row.model == model]
        assert changes.dirty[model] == changes.labelled[model] == minutes(own)
        assert_counts(store, model, own)
        assert features_of(store.state, model) == Features(("age", "card.amount"), ("merchant", "night"))
    again = store.changed(changes.watermark)
    assert not {*models} & {*again.dirty, *again.labelled}


def test_labels_that_come_late_move_the_labels_part(
    store: ElasticStore, logger: Logger, models: tuple[str, str]
) -> None:
    model = models[0]
    rows = rows_of(200, [model], labelled=0.2)
    logger.log(rows)
    watermark = store.changed({}).watermark
    before = assert_counts(store, model, rows)
    r = random.Random(7)
    late = [labelled_at_random(r, row) for row in rows[:40]]
    logger.rewrite(late)
    changes = store.changed(watermark)
    assert changes.labelled[model] == minutes(late)
    after = assert_counts(store, model, [*late, *rows[40:]])
    moved = {key for key in after if key not in before or after[key].version > before[key].version}
    buckets = {row.timestamp // HOUR * HOUR for row in late}
    assert {key.bucket for key in moved if key.part is PartName.LABELS} == buckets


def test_what_is_written_into_a_row_later_is_told_by_the_version(
    store: ElasticStore, logger: Logger, models: tuple[str, str]
) -> None:
    """Loggers that write the request first, and the response into the same document."""
    model = models[0]
    rows = rows_of(20, [model], labelled=0.0)
    requests = [msgspec.structs.replace(row, cls=None, probability=None, latency_ms=None) for row in rows]
    logger.log(requests)
    watermark = store.changed({}).watermark
    before = assert_counts(store, model, requests)
    logger.rewrite(rows)
    # A write that changes nothing is none: such rows failed without having taken any time.
    answered = [row for row, request in zip(rows, requests, strict=True) if row != request]
    assert store.changed(watermark).dirty[model] == minutes(answered)
    after = assert_counts(store, model, rows)
    totals = {
        key
        for key in before
        if not key.group and key.bucket in {r.timestamp // HOUR * HOUR for r in answered}
    }
    assert totals
    assert all(after[key].version > before[key].version for key in totals)


def test_a_feature_that_is_new_is_learned_and_counted(
    store: ElasticStore, logger: Logger, models: tuple[str, str]
) -> None:
    plain = [msgspec.structs.replace(row, num={}) for row in rows_of(30, models[:1])]
    logger.log(plain)
    watermark = store.changed({}).watermark
    assert features_of(store.state, models[0]).numeric == ()
    logger.log(rows_of(30, models[:1], seed=2))
    store.changed(watermark)
    assert features_of(store.state, models[0]).numeric == ("age", "card.amount")


def test_rows_of_one_model_here_and_there_add_up(
    store: ElasticStore, logger: Logger, models: tuple[str, str]
) -> None:
    model = models[0]
    here, there = rows_of(80, [model], seed=3, labelled=0.5), rows_of(120, [model], seed=4, labelled=0.5)
    store.append(here)
    alone = {row.key: row.version for row in (store.changed({}), store.summarise(asking(model)))[1]}
    logger.log(there)
    changes = store.changed({})
    assert changes.dirty[model] == minutes([*here, *there])
    both = assert_counts(store, model, [*here, *there])
    assert all(both[key].version > version for key, version in alone.items())
    shown = store.examples(model, SPAN, limit=500)
    assert {row["event"]["id"] for row in shown} == {row.id for row in [*here, *there]}


def test_edges_are_taken_where_the_rows_are(
    store: ElasticStore, logger: Logger, models: tuple[str, str]
) -> None:
    rows = rows_of(300, models[:1])
    logger.log(rows)
    store.changed({})
    edges = store.edges(models[0], SPAN, ["age"], ["merchant", "night"])
    ages = [row.num["age"] for row in rows if "age" in row.num]
    age = edges.numeric["age"].edges
    assert age[0] == min(ages)
    assert age[-1] == np.nextafter(np.float32(max(ages)), np.float32(np.inf))
    assert {*edges.categorical["merchant"].values} == {"shop", "pub", "casino"}
    assert {*edges.categorical["night"].values} == {"true", "false"}


def test_examples_come_under_kedges_names(
    store: ElasticStore, logger: Logger, models: tuple[str, str]
) -> None:
    row = next(r for r in rows_of(50, models[:1]) if r.label and r.latency_ms and r.num and r.cls)
    logger.log([row])
    store.changed({})
    (shown,) = store.examples(row.model, SPAN)
    assert row.label is not None
    assert shown["event"]["id"] == row.id
    assert shown["prediction"]["class"] == row.cls
    assert shown["label"]["class"] == row.label.cls
    assert shown["latency_ms"] == pytest.approx(row.latency_ms, rel=1e-6)
    assert shown["features"]["num"] == pytest.approx(row.num, rel=1e-6)


def test_examples_of_a_flaw_are_found_by_their_own_fields(
    store: ElasticStore, logger: Logger, models: tuple[str, str]
) -> None:
    rows = rows_of(120, models[:1])
    logger.log(rows)
    store.changed({})

    def found(flaw: Flaw) -> set[str]:
        return {row["event"]["id"] for row in store.examples(models[0], SPAN, 500, flaw)}

    old = Flaw("age", Problem.OUT_OF_RANGE, edges=NumericEdges((20.0, 40.0)))
    assert found(old) == {r.id for r in rows if "age" in r.num and not 20 <= r.num["age"] < 40}
    pubs = Flaw("merchant", Problem.UNSEEN, numeric=False, edges=CategoricalEdges(("shop",), ("casino",)))
    assert found(pubs) == {r.id for r in rows if r.cat.get("merchant") == "pub"}
    assert found(Flaw("age", Problem.MISSING)) == {r.id for r in rows if "age" not in r.num}
    assert found(old)
    assert found(pubs)


def test_values_are_counted_by_their_own_fields_and_with_those_that_kedge_stored(
    store: ElasticStore, logger: Logger, models: tuple[str, str]
) -> None:
    model = models[0]
    here, there = rows_of(40, [model], seed=3), rows_of(120, [model], seed=4)
    store.append(here)
    logger.log(there)
    store.changed({})
    rows = [*here, *there]
    times = {row.id: row.timestamp for row in rows}
    eu = [row for row in rows if row.segment.get("region") == "eu"]
    for field, group, expected in (
        ("features.cat.merchant", (), Counter(r.cat["merchant"] for r in rows)),
        ("features.cat.night", (), Counter(r.cat["night"] for r in rows)),
        ("prediction.class", (), Counter(r.cls for r in rows if r.cls)),
        ("version", (), Counter(r.version for r in rows)),
        ("version", (("segment.region", "eu"),), Counter(r.version for r in eu)),
    ):
        found = store.values(ValueQuery(model, SPAN, field, group, examples=True))
        assert {v.value: v.rows for v in found} == expected, field
        assert all(times[row_id] in SPAN for v in found for row_id in v.examples)
        first, *_ = sorted(expected)
        rest = store.values(ValueQuery(model, SPAN, field, group, without=[first]))
        assert {v.value for v in rest} == expected.keys() - {first}
        assert [v.value for v in store.values(ValueQuery(model, SPAN, field, group, among=[first]))] == [
            first
        ]


def test_a_mapping_that_is_edited_is_read_anew(
    setting: Setting, prefix: str, logger: Logger, models: tuple[str, str]
) -> None:
    rows = rows_of(60, models[:1], labelled=1.0)
    logger.log(rows)
    source = source_of(logger)
    unlabelled = replace(source, fields={n: f for n, f in source.fields.items() if n != "label.class"})
    first, second = reading(setting, prefix, unlabelled), reading(setting, prefix, source)
    try:
        before = first.changed({})
        assert models[0] not in before.labelled
        after = second.changed(before.watermark)
        assert after.replaced
        assert after.labelled[models[0]] == minutes(rows)
    finally:
        first.close()
        second.close()


def test_a_source_that_cannot_be_read_says_so_and_costs_no_other(
    setting: Setting, prefix: str, logger: Logger, models: tuple[str, str]
) -> None:
    rows = rows_of(40, models[:1])
    logger.log(rows)
    good = source_of(logger)
    timeless = replace(good, fields=good.fields | {"timestamp": good.fields["prediction.class"]}, filter="*")
    nowhere = ecs_source("no-such-index", model="m")
    store = reading(setting, prefix, timeless, nowhere, good)
    try:
        assert store.changed({}).dirty[models[0]] == minutes(rows)
        assert_counts(store, models[0], rows)
        bad, missing, fine = store.sources()
        assert not bad.ok
        assert "timestamp" in bad.detail
        assert "not a date" in bad.detail
        assert (missing.ok, missing.detail) == (False, "no index of that name")
        assert fine.ok, fine
        for family in ("latency", "errors", "AUC and calibration", "drift and quality of 4 features"):
            assert family in fine.detail
    finally:
        store.close()


def test_text_that_cannot_be_counted_by_is_named_with_its_remedy(
    setting: Setting, prefix: str, client: Client
) -> None:
    index = f"plain-{uuid4().hex[:10]}"
    properties = {"at": {"type": "date"}, "answer": {"type": "text"}}
    client.request("PUT", f"/{index}", {"mappings": {"properties": properties}})
    source = Source(index, {"timestamp": Mapped("at"), "prediction.class": Mapped("answer")}, model="m")
    store = reading(setting, prefix, source)
    try:
        (check,) = store.sources()
        assert not check.ok
        assert "prediction.class (their answer): is text" in check.remedy
        assert "answer.keyword" in check.remedy
        assert "gives volume" in check.detail
    finally:
        store.close()
        client.request("DELETE", f"/{index}")


def test_a_filter_and_a_model_that_is_named_split_an_index(
    setting: Setting, prefix: str, logger: Logger, models: tuple[str, str]
) -> None:
    rows = rows_of(100, models)
    logger.log(rows)
    source = source_of(logger)
    field = source.fields["prediction.class"].field
    fields = {name: mapped for name, mapped in source.fields.items() if name != "model.name"}
    parts = {
        cls: replace(source, fields=fields, model=f"{models[0]} {cls}", filter=f"{field}:{cls}")
        for cls in CLASSES
    }
    store = reading(setting, prefix, *parts.values())
    try:
        changes = store.changed({})
        for cls, part in parts.items():
            chosen = [msgspec.structs.replace(row, model=part.model) for row in rows if row.cls == cls]
            assert changes.dirty[part.model] == minutes(chosen)
            assert_counts(store, part.model, chosen)
    finally:
        store.close()


def test_their_numbers_fall_in_the_cells_of_their_float32() -> None:
    """Doubles are compared with where rounding to float32 passes an edge."""
    r = random.Random(3)
    some = {0.0, 0.1, 1 / 3, 1e-45, 3e38, *(r.gauss(0, 9) for _ in range(200))}
    edges = [float(np.float32(value)) for value in sorted(some)]
    for edge, least in zip(edges, ForeignField("x").edges(edges), strict=True):
        near = (np.nextafter(least, -np.inf), least, np.nextafter(least, np.inf))
        for value in (*near, edge, edge * 1.0000001):
            assert (value >= least) == (np.float32(value) >= np.float32(edge)), (edge, value)


def test_their_scores_fall_in_the_cells_of_their_float32() -> None:
    r = random.Random(4)
    ranges = ForeignField("x").scores()["range"]["ranges"]
    assert len(ranges) == SCORE_CELLS
    for p in [i / 100 for i in range(101)] + [r.random() for _ in range(1000)]:
        (cell,) = [i for i, c in enumerate(ranges) if c["from"] <= p < c.get("to", 2)]
        assert cell == score_cell(p), p
