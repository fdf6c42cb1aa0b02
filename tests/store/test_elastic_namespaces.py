"""Hundreds of models on one cluster: names that clash, field limits, moves to another namespace."""

from collections import Counter
from typing import Any

import pytest

from ingest.service import IngestService
from kedge.records import Prediction
from kedge.sketch import PartName
from kedge.store.base import MetricDoc, SummaryRequest, Written
from kedge.store.elastic import ElasticStore, namespaces, open_elastic
from kedge.store.elastic.client import Client
from kedge.store.elastic.namespaces import Stay, namespace_at
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, parse_time
from tests.support.oracle import answer_to, differences

NOW = parse_time("2026-03-02T10:00:00Z")
TODAY = Window(NOW - NOW % DAY, NOW - NOW % DAY + DAY)


class Clock:
    now: Millis = NOW

    def __call__(self) -> Millis:
        return self.now


def prediction(id: str, model: str, **fields: Any) -> Prediction:
    return Prediction(**{"id": id, "timestamp": NOW, "ingested": NOW, "model": model, **fields})


def wide(id: str, model: str, fields: int, **more: Any) -> Prediction:
    return prediction(id, model, num={f"{model}.{i}": float(i) for i in range(fields)}, **more)


def places(client: Client, prefix: str, model: str) -> dict[str, str]:
    """The rows of a model: their ids, and the aliases they are in."""
    client.refresh(f"{prefix}-predictions-*")
    body = {"query": {"term": {"model.name": model}}, "size": 1_000}
    hits = client.search(f"{prefix}-predictions-*", body).get("hits", {})
    return {
        hit["_id"]: hit["_index"].removeprefix(f"{prefix}-predictions-").removesuffix("-000001")
        for hit in hits["hits"]
    }


def clashing(model: int) -> list[Prediction]:
    """Rows with 30 features: ten that all models share, of a type that varies, and twenty of its own."""
    rows = []
    for i in range(2):
        num = {f"own {model}.{j}": float(i + j) for j in range(20)}
        cat = {}
        for j in range(10):
            if (model + j) % 2:
                num[f"x{j}"] = float(i)
            else:
                cat[f"x{j}"] = f"v{i}"
        rows.append(prediction(f"{model}-{i}", f"clash {model}", num=num, cat=cat, segment={"region": "eu"}))
    return rows


def test_500_models_with_clashing_names_and_types_are_all_stored_and_counted_right(
    url: str, client: Client, bare_prefix: str
) -> None:
    store = open_elastic(url, prefix=bare_prefix, clock=lambda: NOW)
    store.setup()
    service = IngestService(store, store.state, lambda: NOW)
    logs = [clashing(model) for model in range(500)]
    for start in (0, 250):
        rows = [row for rows in logs[start : start + 250] for row in rows]
        answer = service.store_predictions(rows)
        assert (answer.accepted, answer.rejections) == (len(rows), [])
    mappings = client.request("GET", f"/{bare_prefix}-predictions-*/_mapping")
    assert len(mappings) == 3  # 10,010 names find room in three namespaces
    for mapping in mappings.values():
        assert 1_000 < _fields(mapping["mappings"]) < 4_200
    store.changed({})
    for model in (0, 1, 249, 250, 499):
        features = service.schema(f"clash {model}")
        asked = SummaryRequest(
            f"clash {model}",
            TODAY,
            HOUR,
            frozenset({PartName.CORE}),
            groupings=((), ("segment.region",)),
            numeric=features.numeric,
            categorical=features.categorical,
        )
        expected = answer_to(asked, logs[model])
        found = {row.key: row.part for row in store.summarise(asked)}
        assert found.keys() == expected.keys()
        assert [line for key, part in expected.items() for line in differences(part, found[key])] == []
    store.close()


def _fields(mapping: dict[str, Any]) -> int:
    """As the server counts them: fields, objects and fields of fields."""
    return sum(
        1 + _fields(inner) + len(inner.get("fields", ())) for inner in mapping.get("properties", {}).values()
    )


def test_two_gateways_put_a_new_model_in_one_place(
    store: ElasticStore, url: str, client: Client, prefix: str
) -> None:
    other = open_elastic(url, prefix=prefix, clock=lambda: NOW)
    for i, opened in enumerate((store, other)):
        opened.append([prediction(f"shared-{i}", "shared", num={"x": 1.0})])
    assert [r.written for r in other.append([prediction("shared-0", "shared", num={"x": 1.0})])] == [
        Written.DUPLICATE
    ]
    assert set(places(client, prefix, "shared").values()) == {"default-2026.03.02"}
    other.close()


def test_a_model_that_outgrows_its_namespace_moves_at_the_start_of_a_day_and_loses_no_row(
    url: str, client: Client, bare_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces, "ROOM", 60)
    monkeypatch.setattr(namespaces, "MOST", 100)
    clock = Clock()
    store = open_elastic(url, prefix=bare_prefix, clock=clock)
    other = open_elastic(url, prefix=bare_prefix, clock=clock)
    store.setup()
    services = [IngestService(opened, opened.state, clock) for opened in (store, other)]
    assert services[1].store_predictions([wide("a-0", "a", 50), wide("b-0", "b", 10)]).accepted == 2
    # It grows beyond what its namespace may have: there is room on this server all the same, until it moves.
    grown = wide("a-1", "a", 95, timestamp=NOW + MINUTE)
    assert services[0].store_predictions([grown]).accepted == 1
    clock.now = NOW + HOUR  # the other gateway knows of the move long before it happens
    tomorrow = [wide(f"a-{i}", "a", 95, timestamp=TODAY.end + i) for i in (2, 3)]
    assert services[1].store_predictions(tomorrow).accepted == 2
    for service in services:
        repeated = service.store_predictions([grown, *tomorrow, wide("b-0", "b", 10)])
        assert (repeated.accepted, repeated.duplicate) == (0, 4)
    assert places(client, bare_prefix, "a") == {
        "a-0": "default-2026.03.02",
        "a-1": "default-2026.03.02",
        "a-2": "default2-2026.03.03",
        "a-3": "default2-2026.03.03",
    }
    window = Window(TODAY.start, TODAY.end + DAY)
    asked = SummaryRequest("a", window, DAY, frozenset({PartName.CORE}), numeric=("a.0", "a.94"))
    store.changed({})
    expected = answer_to(asked, [wide("a-0", "a", 50), grown, *tomorrow])
    found = {row.key: row.part for row in store.summarise(asked)}
    assert [line for key, part in expected.items() for line in differences(part, found[key])] == []
    for opened in (store, other):
        opened.close()


def test_a_new_day_begins_with_the_fields_that_its_namespace_has(
    store: ElasticStore, client: Client, url: str, prefix: str
) -> None:
    """Else the first row of every model would be an update of the cluster's state, one after the other."""
    opened = open_elastic(url, prefix=prefix, clock=lambda: NOW + 200 * DAY)
    service = IngestService(opened, opened.state, lambda: NOW)
    service.store_predictions([wide(f"early-{m}", f"early {m}", 5) for m in range(3)])
    day = NOW + 200 * DAY
    service.store_predictions([wide("early-next", "early 0", 5, timestamp=day)])
    [mapping] = client.request("GET", f"/{prefix}-predictions-default-2026.09.18/_mapping").values()
    names = Counter(
        name.partition("%")[0]
        for name in mapping["mappings"]["properties"]["features"]["properties"]["num"]["properties"]
    )
    assert {f"early {m}": names[f"early {m}"] for m in range(3)} == {f"early {m}": 5 for m in range(3)}
    opened.close()


def test_a_row_beyond_the_field_limit_says_so_with_the_way_out_and_costs_no_neighbour(
    store: ElasticStore, client: Client, prefix: str
) -> None:
    day = NOW + 30 * DAY
    wanted = [wide("limit-0", "limit", 4_800, timestamp=day)]
    wanted += [prediction("limit-1", "limit", timestamp=day, num={f"more {i}": 1.0 for i in range(300)})]
    wanted += [wide("limit-2", "limit", 4_800, timestamp=day)]
    results = store.append(wanted)
    assert [r.written for r in results] == [Written.CREATED, Written.REJECTED, Written.CREATED]
    assert "Limit of total fields [5000]" in results[1].reason
    assert f"total_fields.limit in the component template {prefix}-settings" in results[1].reason


def test_a_model_with_more_fields_than_an_index_is_refused_before_the_store(store: ElasticStore) -> None:
    service = IngestService(store, store.state, lambda: NOW)
    rows = [
        prediction(f"huge-{i}", "huge", attributions={f"{i}.{j}": 1.0 for j in range(900)}) for i in range(6)
    ]
    answer = service.store_predictions([*rows, prediction("huge-small", "huge")])
    assert (answer.accepted, answer.rejected) == (6, 1)
    assert "and 899 more would be beyond the 4,500 fields of one model" in answer.rejections[0].reason


def test_event_time_decides_where_a_row_is() -> None:
    stays = (Stay(0, "default"), Stay(TODAY.end, "default2"))
    assert namespace_at(stays, TODAY.end - 1) == "default"
    assert namespace_at(stays, TODAY.end) == "default2"
    assert namespace_at(stays, 5) == "default"


def test_metrics_with_more_names_than_an_index_may_have_are_kept_without_their_columns(
    store: ElasticStore,
) -> None:
    """500 models with classes of their own have more `performance.recall{class=…}` than there is room for."""
    window = Window(TODAY.start, TODAY.end)
    docs = [
        MetricDoc(
            "many classes",
            (("segment.region", f"r{i}"),),
            window,
            1,
            {f"performance.recall{{class=c{i}.{j}}}": {"value": 0.5, "n": 9} for j in range(190)},
        )
        for i in range(27)
    ]
    store.write_metrics(docs)
    found = store.read_metrics("many classes", DAY, window)
    assert {doc.group: doc.values for doc in found} == {doc.group: doc.values for doc in docs}
