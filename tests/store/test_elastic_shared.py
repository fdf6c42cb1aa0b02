"""Document ids of rows whose event id several models share."""

import pytest

from kedge.records import Label, Prediction
from kedge.store.base import Joined, Written
from kedge.store.elastic import ElasticStore, open_elastic
from kedge.store.elastic.shared import marked_id, plain
from kedge.windows import DAY, Window, parse_time

T0 = parse_time("2026-03-02T10:00:00Z")
DAYS = Window(T0 - T0 % DAY, T0 - T0 % DAY + DAY)


def row(id: str, model: str) -> Prediction:
    return Prediction(id=id, timestamp=T0, ingested=T0, model=model, cls="a")


@pytest.mark.parametrize("id", ["e", "x" * 512, "é" * 256, "a\x1fb", "\x1f" * 512])
def test_every_id_can_be_shared_and_labelled(store: ElasticStore, url: str, prefix: str, id: str) -> None:
    models = [f"{n} of {len(id)} {hash(id)}" for n in ("one", "two")]
    for model in (*models, *models):
        store.append([row(id, model)])
    store.changed({})
    for model in models:
        assert [d["event"]["id"] for d in store.examples(model, DAYS)] == [id]
    other = open_elastic(url, prefix=prefix, clock=lambda: 0)  # knows of the models by the state alone
    assert other.label([Label(id=id, timestamp=T0, ingested=T0, cls="a")]) == [Joined.JOINED]
    store.changed({})
    assert [d["label"]["class"] for m in models for d in store.examples(m, DAYS)] == ["a", "a"]
    other.close()


def test_no_id_that_a_client_chose_is_taken_for_a_marked_one(store: ElasticStore) -> None:
    """The id under which a row of `b` would lie beside that of `a`, sent as an id."""
    forged = marked_id("target", "b")
    assert not plain(forged)
    rows = [row(forged, "x"), row("target", "a"), row("target", "b"), row(forged, "b"), row(forged, "y")]
    assert {r.written for r in store.append(rows)} == {Written.CREATED}
    assert {r.written for r in store.append(rows)} == {Written.DUPLICATE}


def test_rows_whose_id_is_their_own_cost_no_look_up(store: ElasticStore) -> None:
    rows = [row(f"own {i}", "own") for i in range(50)]
    store.append(rows[:1])  # creates the index
    before = dict(store.counters.by_verb)
    store.append(rows[1:])
    after = store.counters.by_verb
    assert {verb: n - before.get(verb, 0) for verb, n in after.items() if n != before.get(verb, 0)} == {
        "_bulk": 1
    }
