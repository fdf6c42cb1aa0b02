"""Where the id of a row is kept: OpenSearch, which keeps no source, has it as the document's alone."""

from typing import Any

import orjson
import pytest

from kedge.records import Label, Prediction
from kedge.store.base import Joined, Json, Written
from kedge.store.elastic import ElasticStore, open_elastic
from kedge.store.elastic.client import Client
from kedge.store.elastic.encode import encode
from kedge.store.elastic.templates import STORAGE, Templates
from kedge.store.retention import Retention
from kedge.windows import DAY, Window, parse_time
from tests.support.rows import table_of

T0 = parse_time("2026-03-02T10:00:00Z")
DAYS = Window(T0 - T0 % DAY, T0 - T0 % DAY + DAY)
OLDER = "older"


def row(id: str, model: str, **fields: Any) -> Prediction:
    return Prediction(**{"id": id, "timestamp": T0, "ingested": T0, "model": model, "cls": "a", **fields})


def label(id: str, cls: str, days: int = 1, **fields: Any) -> Label:
    return Label(id=id, timestamp=T0 + days * DAY, ingested=T0 + days * DAY, cls=cls, **fields)


def kept(client: Client, prefix: str, model: str) -> dict[str, Json]:
    """What the server gives of each row, by the id of its document."""
    body = {"query": {"term": {"model.name": model}}, "size": 100}
    hits = client.request("POST", f"/{prefix}-predictions-*/_search", body)["hits"]["hits"]
    return {hit["_id"]: hit["_source"] for hit in hits}


def shown(store: ElasticStore, model: str) -> list[str]:
    store.changed({})
    return sorted(document["event"]["id"] for document in store.examples(model, DAYS, 100))


@pytest.mark.parametrize("way", ["rows", "table"])
def test_a_row_has_its_id_once_where_there_is_no_source(
    store: ElasticStore, client: Client, prefix: str, way: str
) -> None:
    model = f"once by {way}"
    rows = [row(f"{model} {i}", model) for i in range(3)]
    told = store.append(rows) if way == "rows" else store.append_table(table_of(rows))
    assert {r.written for r in told} == {Written.CREATED}
    assert shown(store, model) == [r.id for r in rows]
    beside = not client.server.opensearch
    assert {id: source["event"].get("id") for id, source in kept(client, prefix, model).items()} == {
        r.id: r.id if beside else None for r in rows
    }
    assert {r.written for r in store.append(rows)} == {Written.DUPLICATE}


def test_a_row_under_another_id_than_its_own_keeps_its_own(
    store: ElasticStore, client: Client, prefix: str
) -> None:
    store.append([row("both", "first"), row("both", "second")])
    assert shown(store, "first") == shown(store, "second") == ["both"]
    [(id, source)] = kept(client, prefix, "second").items()
    assert id != "both"
    assert source["event"]["id"] == "both"


def test_rows_are_labelled_by_their_ids_once_and_again(store: ElasticStore) -> None:
    model = "labelled"
    store.append([row("of a", model), row("of b", model), row("of both", model), row("of both", "other")])
    assert shown(store, model) == ["of a", "of b", "of both"]
    first = [label("of a", "b"), label("of b", "a"), label("of both", "b", model=model)]
    assert store.label(first) == [Joined.JOINED] * 3
    assert shown(store, model) == ["of a", "of b", "of both"]
    again = [label("of a", "a", days=2), label("of b", "b", days=0), label("of both", "c", days=2)]
    assert store.label(again) == [Joined.JOINED, Joined.SUPERSEDED, Joined.JOINED]
    store.changed({})
    for name, classes in {model: ["a", "a", "c"], "other": ["c"]}.items():
        found = sorted(store.examples(name, DAYS, 10), key=lambda d: d["event"]["id"])
        assert [d["label"]["class"] for d in found] == classes


def test_rows_of_an_older_kedge_which_have_theirs_twice_are_read_and_labelled_alike(
    store: ElasticStore, client: Client, prefix: str
) -> None:
    store.append([row("new", OLDER)])
    alias = f"{prefix}-predictions-default-2026.03.02"
    client.request("PUT", f"/{alias}/_doc/old", orjson.loads(encode(row("old", OLDER))))
    assert shown(store, OLDER) == ["new", "old"]
    assert store.append([row("old", OLDER)])[0].written is Written.DUPLICATE
    assert store.label([label("old", "a"), label("new", "a")]) == [Joined.JOINED] * 2
    assert store.label([label("old", "b", days=0)]) == [Joined.SUPERSEDED]
    store.changed({})
    found = {d["event"]["id"]: d["outcome"]["correct"] for d in store.examples(OLDER, DAYS, 10)}
    assert found == {"new": True, "old": True}


def test_a_source_that_is_kept_has_the_id_of_its_row(url: str, client: Client, bare_prefix: str) -> None:
    """As where the server cannot put rows together."""
    store = open_elastic(url, prefix=bare_prefix, clock=lambda: T0)
    store.setup()
    templates = Templates(bare_prefix)
    compressed = templates.component(STORAGE)
    [predictions] = [
        t for t in templates.indices(STORAGE, "", Retention()) if t.name.endswith("-predictions")
    ]
    for template in (compressed, predictions):
        client.request("PUT", template.path, template.body)
    store.append([row("kept", "source")])
    assert shown(store, "source") == ["kept"]
    assert kept(client, bare_prefix, "source")["kept"]["event"]["id"] == "kept"
    store.close()
