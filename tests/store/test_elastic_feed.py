"""What the change feed of a search server believes about when a row arrived."""

from copy import deepcopy
from typing import Any

import pytest

from kedge.records import Label, Prediction
from kedge.store.base import Changes, Joined, Written
from kedge.store.elastic import ElasticStore
from kedge.store.elastic.client import Client, Refused
from kedge.windows import DAY, MINUTE, Millis, parse_time

T0 = parse_time("2026-03-02T10:00:00Z")


def rows(model: str, day: int, count: int) -> list[Prediction]:
    """One a minute."""
    return [
        Prediction(
            id=f"{model}-{i}", timestamp=T0 + day * DAY + i * MINUTE, ingested=T0, model=model, cls="a"
        )
        for i in range(count)
    ]


def stored(store: ElasticStore, written: list[Prediction]) -> None:
    assert {r.written for r in store.append(written)} == {Written.CREATED}
    store.changed({})


def label(store: ElasticStore, row: Prediction, time: Millis = T0) -> None:
    assert store.label([Label(id=row.id, timestamp=time, ingested=T0, cls="b")]) == [Joined.JOINED]


def told(changes: Changes, model: str) -> tuple[set[Millis], set[Millis]]:
    return changes.dirty.get(model, set()), set(changes.labelled.get(model, set()))


def test_rows_copied_from_another_index_are_told_as_arrived_whenever_they_come(
    store: ElasticStore, client: Client, prefix: str
) -> None:
    """They bring the sequence numbers of the old index: small ones, which the new one has long passed."""
    written = rows("copied", 10, 8)
    stored(store, written)
    for row in written:
        label(store, row)
    store.changed({})
    old, new = (f"{prefix}-predictions-default-2026.03.12-00000{n}" for n in (1, 2))
    hits: list[Any] = client.search(old, {"size": 100, "sort": [{"@timestamp": "asc"}]})["hits"]["hits"]
    client.request("DELETE", f"/{old}")
    client.request("PUT", f"/{new}", {"aliases": {old.removesuffix("-000001"): {}}})
    seen: Any = {}
    for start in (0, 6):  # the feed is read while the copy is under way
        for hit in hits[start : start + 6]:
            client.request("PUT", f"/{new}/_doc/{hit['_id']}", hit["_source"])
        changes = store.changed(seen)
        minutes = {row.timestamp for row in written[start : start + 6]}
        assert told(changes, "copied") == (minutes, minutes)
        seen = changes.watermark
    label(store, written[7], T0 + 1)
    fresh = store.changed(seen)
    assert written[7].timestamp in fresh.labelled["copied"]
    label(store, written[7], T0 + 2)
    assert told(store.changed(fresh.watermark), "copied")[1] == {written[7].timestamp}


@pytest.mark.parametrize("may_be_widened", [True, False])
def test_labels_join_rows_of_an_index_that_an_older_template_made(
    store: ElasticStore, client: Client, prefix: str, may_be_widened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its strict mapping has no `label.row`. Where it cannot be given one, labels are told as rows too."""
    model = f"old template {may_be_widened}"
    path = f"/_component_template/{prefix}-predictions-mappings"
    newest = client.request("GET", path)["component_templates"][0]["component_template"]
    older = deepcopy(newest)
    del older["template"]["mappings"]["properties"]["label"]["properties"]["row"]
    client.request("PUT", path, older)
    written = rows(model, 20 + may_be_widened, 3)
    stored(store, written)
    client.request("PUT", path, newest)
    seen = store.changed({}).watermark
    if not may_be_widened:
        ask = Client.request

        def refusing(self: Client, method: str, path: str, *args: Any, **more: Any) -> Any:
            if path.endswith("/_mapping"):
                raise Refused("no privilege", 403, "security_exception", "no privilege")
            return ask(self, method, path, *args, **more)

        monkeypatch.setattr(Client, "request", refusing)
    label(store, written[1])
    minute = {written[1].timestamp}
    assert told(store.changed(seen), model) == (set() if may_be_widened else minute, minute)
