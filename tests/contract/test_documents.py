"""Documents change by compare-and-set alone: of those who try at once, one wins."""

import threading
from uuid import uuid4

import pytest

from kedge.store.base import DocumentStore, Store


@pytest.fixture(params=["state", "alerts", "events", "outbox"])
def documents(store: Store, request: pytest.FixtureRequest) -> DocumentStore:
    collection: DocumentStore = getattr(store, request.param)
    return collection


@pytest.fixture
def name() -> str:
    return f"lease/tick: “{uuid4().hex}”"


def test_a_document_lives_from_swap_to_swap(documents: DocumentStore, name: str) -> None:
    assert documents.get(name) is None
    assert documents.swap(name, {"n": 1, "deep": {"list": [1, None, "ä", 2.5]}}, None)
    first = documents.get(name)
    assert first is not None
    assert first.value == {"n": 1, "deep": {"list": [1, None, "ä", 2.5]}}
    assert documents.swap(name, {"n": 2}, first.token)
    second = documents.get(name)
    assert second is not None
    assert second.value == {"n": 2}


def test_a_swap_needs_the_token_of_what_stands(documents: DocumentStore, name: str) -> None:
    assert documents.swap(name, {"n": 1}, None)
    first = documents.get(name)
    assert first is not None
    assert not documents.swap(name, {"n": 9}, None), "there is one already"
    assert documents.swap(name, {"n": 2}, first.token)
    assert not documents.swap(name, {"n": 9}, first.token), "it has changed since"
    assert not documents.delete(name, first.token)
    standing = documents.get(name)
    assert standing is not None
    assert standing.value == {"n": 2}


def test_a_deleted_document_is_gone_and_may_come_again(documents: DocumentStore, name: str) -> None:
    assert documents.swap(name, {"n": 1}, None)
    first = documents.get(name)
    assert first is not None
    assert documents.delete(name, first.token)
    assert documents.get(name) is None
    assert name not in documents.find(name)
    assert not documents.delete(name, first.token)
    assert not documents.swap(name, {"n": 2}, first.token), "its token died with it"
    assert documents.swap(name, {"n": 3}, None)
    again = documents.get(name)
    assert again is not None
    assert again.value == {"n": 3}
    assert not documents.swap(name, {"n": 4}, first.token)


def test_find_sees_every_earlier_swap_under_its_prefix(documents: DocumentStore) -> None:
    mine = f"receiver {uuid4().hex}/"
    names = [f"{mine}{suffix}" for suffix in ("b", "a", "a*", "a/c", "ä", "%")]
    for i, each in enumerate(names):
        assert documents.swap(each, {"i": i}, None)
    assert documents.swap(mine.removesuffix("/"), {"i": -1}, None)
    found = documents.find(mine)
    assert {each: stored.value for each, stored in found.items()} == {
        n: {"i": i} for i, n in enumerate(names)
    }
    assert sorted(documents.find(f"{mine}a")) == sorted(n for n in names if n.startswith(f"{mine}a"))
    assert found.keys() <= documents.find().keys()
    assert documents.swap(names[0], {"i": 100}, found[names[0]].token), "a found token is good for a swap"


def test_what_is_read_can_be_changed_without_changing_what_is_stored(
    documents: DocumentStore, name: str
) -> None:
    value = {"list": [1]}
    assert documents.swap(name, value, None)
    value["list"].append(2)
    read = documents.get(name)
    assert read is not None
    read.value["list"].append(3)
    again = documents.get(name)
    assert again is not None
    assert again.value == {"list": [1]}


def test_many_are_read_at_once_and_those_that_are_not_there_are_left_out(
    documents: DocumentStore, name: str
) -> None:
    long = f"{name} " + "ž" * 400
    assert documents.get_many([]) == {}
    assert documents.swap_many([(name, {"n": 1}, None), (long, {"n": 2}, None)]) == [True, True]
    found = documents.get_many([long, f"{name} never", name, name])
    assert {each: stored.value for each, stored in found.items()} == {name: {"n": 1}, long: {"n": 2}}
    assert found[name] == documents.get(name)
    assert documents.find(long).keys() == {long}, "a name longer than an id may be is kept whole"


def test_of_many_swaps_the_stale_one_fails_alone_and_answers_keep_their_order(
    documents: DocumentStore, name: str
) -> None:
    names = [f"{name} {i}" for i in range(5)]
    assert documents.swap_many([]) == []
    assert documents.swap_many([(each, {"n": 0}, None) for each in names[:4]]) == [True] * 4
    tokens = {each: stored.token for each, stored in documents.get_many(names).items()}
    assert documents.swap(names[1], {"n": 9}, tokens[names[1]])
    changes = [(each, {"n": i}, tokens.get(each)) for i, each in enumerate(names)]
    assert documents.swap_many([*changes, (names[2], {"n": -1}, None)]) == [
        True,
        False,
        True,
        True,
        True,
        False,
    ]
    found = documents.get_many(names)
    assert [found[each].value["n"] for each in names] == [0, 9, 2, 3, 4]
    again = [(each, {"n": 7}, found[each].token) for each in names]
    assert documents.swap_many(again) == [True] * 5, "a token that was read with others is good for a swap"


def test_of_two_swaps_of_one_document_in_a_call_the_first_wins(documents: DocumentStore, name: str) -> None:
    assert documents.swap_many([(name, {"n": 1}, None), (name, {"n": 2}, None)]) == [True, False]
    first = documents.get_many([name])[name]
    assert first.value == {"n": 1}
    assert documents.swap_many([(name, {"n": 3}, first.token), (name, {"n": 4}, first.token)]) == [
        True,
        False,
    ]
    assert documents.get_many([name])[name].value == {"n": 3}


def test_of_threads_that_create_at_once_one_wins(documents: DocumentStore, name: str) -> None:
    won: list[int] = []
    start = threading.Barrier(6)

    def create(i: int) -> None:
        start.wait()
        if documents.swap(name, {"owner": i}, None):
            won.append(i)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    standing = documents.get(name)
    assert standing is not None
    assert won == [standing.value["owner"]]


def test_threads_that_count_together_lose_no_count(documents: DocumentStore, name: str) -> None:
    assert documents.swap(name, {"n": 0}, None)

    def count() -> None:
        for _ in range(5):
            while True:
                stored = documents.get(name)
                assert stored is not None
                if documents.swap(name, {"n": stored.value["n"] + 1}, stored.token):
                    break

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    standing = documents.get(name)
    assert standing is not None
    assert standing.value == {"n": 20}


def test_alerts_are_found_by_their_rules_and_by_what_is_to_be_told(store: Store) -> None:
    mine = uuid4().hex[:12]

    def alert(number: int, rule: str, *outgoing: str) -> str:
        name = f"{mine}-{number}"
        state = {"rule": f"{mine}-{rule}", "model": "m", "outgoing": [{"id": each} for each in outgoing]}
        assert store.alerts.swap(name, state, None)
        return name

    first, second, third = alert(1, "slow"), alert(2, "slow", "t1"), alert(3, "wrong", "t2", "t3")
    assert list(store.alerts.of_rules([f"{mine}-slow"])) == [first, second]
    assert list(store.alerts.of_rules([f"{mine}-slow", f"{mine}-wrong"])) == [first, second, third]
    assert store.alerts.of_rules([]) == store.alerts.of_rules([f"{mine}-other"]) == {}
    assert [name for name in store.alerts.outgoing() if name.startswith(mine)] == [second, third]
    told = store.alerts.outgoing()[second]
    assert store.alerts.swap(second, told.value | {"outgoing": []}, told.token)
    assert [name for name in store.alerts.outgoing() if name.startswith(mine)] == [third]
    assert store.alerts.of_rules([f"{mine}-slow"])[second].value["outgoing"] == []


def test_alerts_are_counted_by_status_and_severity(store: Store) -> None:
    mine = uuid4().hex[:12]
    alerts = [
        ("firing", 4),
        ("firing", 4),
        ("firing", 2),
        ("pending", None),
        (None, None),
        ("resolved", None),
    ]
    before = store.alerts.tally()
    for i, (status, severity) in enumerate(alerts):
        state = {"rule": "r", "model": "m", "status": status, "severity": severity}
        held = {name: value for name, value in state.items() if value is not None}
        assert store.alerts.swap(f"{mine}-{i}", held, None)
    after = store.alerts.tally()
    added = {kind: count - before.get(kind, 0) for kind, count in after.items()}
    assert {kind: count for kind, count in added.items() if count} == {
        ("firing", "high"): 2,
        ("firing", "low"): 1,
        ("pending", ""): 1,
        ("resolved", ""): 1,
        ("", ""): 1,
    }


def test_alerts_that_people_were_told_of_are_found(store: Store) -> None:
    mine = uuid4().hex[:12]
    for status in ("inactive", "pending", "firing", "acknowledged", "resolved", "no_data"):
        assert store.alerts.swap(f"{mine}-{status}", {"rule": "r", "model": "m", "status": status}, None)
    assert store.alerts.swap(f"{mine}-quiet", {"rule": "r", "model": "m"}, None)
    found = [name.removeprefix(f"{mine}-") for name in store.alerts.live() if name.startswith(mine)]
    assert sorted(found) == ["acknowledged", "firing", "no_data"]
    over = store.alerts.live()[f"{mine}-firing"]
    assert store.alerts.swap(f"{mine}-firing", over.value | {"status": "resolved"}, over.token)
    assert f"{mine}-firing" not in store.alerts.live()
