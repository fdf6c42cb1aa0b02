"""Labels: the highest rank wins in any order of arrival, early ones wait, and old ones are given up."""

import random
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from kedge.records import Label, Prediction
from kedge.sketch import PartName
from kedge.store.base import Joined, PendingCounts, Store, Written
from kedge.store.expiry import expired_labels
from kedge.windows import DAY, HOUR, MINUTE, iso
from tests.contract.helpers import append, asking, assert_summarises, settle
from tests.support.rows import SPAN, START, Kind, labels_for, random_rows, with_labels

LABELS = frozenset({PartName.LABELS})
LATER = START + 200 * DAY


@pytest.fixture(autouse=True)
def nothing_waits(store: Store) -> None:
    """The pending labels are one collection: begin each test without those of the last."""
    store.join_pending(LATER + 1000 * DAY, 0)
    assert store.join_pending(LATER, 0).waiting == 0


def for_model(
    rows: Sequence[Prediction], labels: Sequence[Label], model: str
) -> tuple[list[Prediction], list[Label]]:
    """The same rows and labels under another model's name, with ids of their own."""

    def renamed(id: str) -> str:
        return f"{model}/{id}"

    moved = [
        msgspec.structs.replace(
            row,
            id=renamed(row.id),
            model=model,
            label=None if row.label is None else msgspec.structs.replace(row.label, id=renamed(row.id)),
        )
        for row in rows
    ]
    return moved, [msgspec.structs.replace(label, id=renamed(label.id)) for label in labels]


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_any_order_of_labels_and_rows_ends_the_same(store: Store, model: str, kind: Kind) -> None:
    drawn = random_rows(11, 60, model=model, kind=kind, labelled=0.3)
    said = labels_for(drawn, 12)
    for order in range(2):
        rows, labels = for_model(drawn, said, f"{model} order {order}")
        r = random.Random(order)
        r.shuffle(labels)
        early = r.randrange(len(labels))
        store.label(labels[:early])
        append(store, rows[:30])
        half = early + (len(labels) - early) // 2
        store.label(labels[early:half])
        append(store, rows[30:])
        store.label(labels[half:])
        settle(store)
        counts = store.join_pending(LATER, 10_000 * DAY)
        assert counts.waiting == 0
        settle(store)
        assert_summarises(store, asking(rows[0].model, parts=LABELS), with_labels(rows, labels))


def test_equal_times_are_decided_by_content_and_repeats_are_superseded(store: Store, model: str) -> None:
    [row] = random_rows(13, 1, model=model, labelled=0)
    append(store, [row])
    low = Label(id=row.id, timestamp=START, ingested=START, cls="a")
    high = msgspec.structs.replace(low, cls="b")
    for label, joined in (
        (low, Joined.JOINED),
        (low, Joined.SUPERSEDED),
        (high, Joined.JOINED),
        (low, Joined.SUPERSEDED),
        (msgspec.structs.replace(low, timestamp=START + 1), Joined.JOINED),
        (high, Joined.SUPERSEDED),
    ):
        assert store.label([label]) == [joined]
        settle(store)


def test_of_several_labels_in_one_call_the_best_is_joined(store: Store, model: str) -> None:
    rows = random_rows(14, 2, model=model, labelled=0)
    append(store, rows)
    said = [Label(id=rows[0].id, timestamp=START + i, ingested=START, cls="x") for i in (1, 3, 2)]
    unknown = Label(id=f"{model} unknown", timestamp=START, ingested=START, cls="x")
    assert store.label([*said, unknown]) == [
        Joined.SUPERSEDED,
        Joined.JOINED,
        Joined.SUPERSEDED,
        Joined.WAITING,
    ]
    settle(store)
    assert_summarises(store, asking(model, parts=LABELS), with_labels(rows, said))


def test_a_correction_replaces_every_field_of_the_old_label(store: Store, model: str) -> None:
    [row] = random_rows(15, 1, model=model, kind="regression", labelled=0)
    row = msgspec.structs.replace(
        row, value=3.0, cls="a", probabilities={"a": 0.75, "b": 0.25}, probability=0.75
    )
    append(store, [row])
    number = Label(id=row.id, timestamp=START, ingested=START, value=1.5)
    text = Label(id=row.id, timestamp=START + 1, ingested=START, cls="b")
    for label in (number, text):
        assert store.label([label]) == [Joined.JOINED]
        settle(store)
        assert_summarises(store, asking(model, parts=LABELS), with_labels([row], [label]))


def test_a_label_may_name_its_model_and_then_joins_no_other(store: Store, model: str) -> None:
    [row] = random_rows(16, 1, model=model, labelled=0)
    append(store, [row])
    label = Label(id=row.id, timestamp=START, ingested=START, cls="x", model=f"{model} of someone else")
    assert store.label([label]) == [Joined.WAITING]
    assert store.label([msgspec.structs.replace(label, model=model)]) == [Joined.JOINED]


def test_a_label_waits_for_its_prediction_and_is_joined_later(store: Store, model: str) -> None:
    rows = random_rows(17, 4, model=model, labelled=0)
    labels = [Label(id=row.id, timestamp=START + HOUR, ingested=START, cls="yes") for row in rows]
    assert store.label(labels) == [Joined.WAITING] * 4
    assert store.join_pending(START, DAY) == PendingCounts(0, 0, 4, 0)
    append(store, rows[:3])
    # Tried again within an hour and a day whatever the backoff; the fourth has no prediction still.
    assert store.join_pending(START + 7 * HOUR, DAY) == PendingCounts(3, 0, 1, 0)
    settle(store)
    assert_summarises(store, asking(model, parts=LABELS), with_labels(rows[:3], labels))


def test_a_label_that_waited_too_long_is_counted_out(store: Store, model: str) -> None:
    old = Label(id=f"{model} a", timestamp=START, ingested=START, cls="yes")
    fresh = Label(id=f"{model} b", timestamp=START, ingested=START + DAY, cls="yes")
    store.label([old, fresh])
    assert store.join_pending(START + DAY + MINUTE, DAY) == PendingCounts(0, 0, 1, 1)
    assert store.join_pending(START + 3 * DAY, DAY) == PendingCounts(0, 0, 0, 1)
    assert store.join_pending(START + 4 * DAY, DAY) == PendingCounts(0, 0, 0, 0)


def test_one_call_tries_so_many_and_says_how_many_are_left(store: Store, model: str) -> None:
    """The longest due first; what was tried is not due again, so the next call goes on behind it."""
    rows = random_rows(23, 5, model=model, labelled=0)
    labels = [Label(id=r.id, timestamp=START, ingested=START + i, cls="yes") for i, r in enumerate(rows)]
    store.label(list(reversed(labels)))
    now = START + MINUTE
    assert store.join_pending(now, DAY, limit=2) == PendingCounts(0, 0, 5, 0, left=3)
    append(store, rows)
    assert store.join_pending(now, DAY, limit=2) == PendingCounts(2, 0, 3, 0, left=1)
    settle(store)
    assert_summarises(store, asking(model, parts=LABELS), with_labels(rows, labels[2:4]))
    assert store.join_pending(now, DAY, limit=2) == PendingCounts(1, 0, 2, 0, left=0)
    assert store.join_pending(now + DAY - 2 * MINUTE, DAY) == PendingCounts(2, 0, 0, 0)


def test_labels_that_are_given_up_are_counted_by_model_and_kept_as_rejected_rows(
    store: Store, model: str
) -> None:
    unnamed_before = given_up(store, "")[0]
    named = [Label(id=f"{model} {i}", timestamp=START, ingested=START, value=1.5, model=model) for i in "ab"]
    unnamed = Label(id=f"{model} c", timestamp=START, ingested=START, cls="yes")
    store.label([*named, unnamed])
    now = START + DAY + MINUTE
    assert store.join_pending(now, DAY, limit=2).left == 1
    assert store.join_pending(now, DAY, limit=2) == PendingCounts(0, 0, 0, 1)
    assert given_up(store, model) == (2, now)
    assert given_up(store, "")[0] == unnamed_before + 1
    kept = sorted((r for r in store.rejected(1000) if r.event.startswith(model)), key=lambda r: r.event)
    assert [(r.event, r.model, r.at) for r in kept] == [
        (f"{model} a", model, now),
        (f"{model} b", model, now),
        (f"{model} c", "", now),
    ]
    assert {r.reason for r in kept} == {"label expired: no prediction of its id came within 1d"}
    time = iso(START)
    assert [msgspec.json.decode(r.row) for r in kept[1:]] == [
        {"id": f"{model} b", "timestamp": time, "value": 1.5, "model": model},
        {"id": f"{model} c", "timestamp": time, "class": "yes"},
    ]


class Killed(BaseException):
    """No code of the store catches it."""


@pytest.mark.parametrize("deleted", [False, True])
def test_a_worker_killed_while_it_gives_labels_up_counts_none_twice_and_loses_none(
    store: Store, model: str, monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    """Killed between the count and the deletion, and between the deletion and the end of the batch; then
    the client sends one of the labels again."""
    labels = [
        Label(id=f"{model} {i}", timestamp=START, ingested=START, cls="x", model=model) for i in range(3)
    ]
    store.label(labels)
    pending: Any = store
    forget = pending._labels.forget

    def die(batch: Any) -> None:
        if deleted:
            forget(batch)
        raise Killed

    now = START + DAY + MINUTE
    with monkeypatch.context() as patch:
        patch.setattr(pending._labels, "forget", die)
        with pytest.raises(Killed):
            store.join_pending(now, DAY)
    assert given_up(store, model) == (3, now)
    again = msgspec.structs.replace(labels[0], ingested=now)
    store.label([again])
    # Sent again while it waits still, a label keeps its place; sent after it is gone, it is a new one.
    # The next worker comes a day later: what it goes on with is rejected as of the day of its batch.
    assert store.join_pending(now + DAY, 10 * DAY).waiting == int(deleted)
    assert store.join_pending(now + DAY, 10 * DAY).expired == 0
    assert given_up(store, model) == (3, now)
    assert len([r for r in store.rejected(1000) if r.model == model]) == 3
    assert store.join_pending(now + 3 * DAY, DAY).expired == int(deleted)
    assert given_up(store, model)[0] == 3 + int(deleted)


def test_two_workers_at_once_count_a_label_once(store: Store, model: str) -> None:
    labels = [
        Label(id=f"{model} {i}", timestamp=START, ingested=START, cls="x", model=model) for i in range(200)
    ]
    store.label(labels)
    counts: list[PendingCounts] = []
    threads = [
        threading.Thread(target=lambda: counts.append(store.join_pending(START + 2 * DAY, DAY, limit=150)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts.append(store.join_pending(START + 2 * DAY, DAY))
    assert sum(c.expired for c in counts) == given_up(store, model)[0] == 200
    assert counts[-1].waiting == 0


def given_up(store: Store, model: str) -> tuple[int, int]:
    """How many labels of a model were given up, and when the last."""
    return next(((e.labels, e.last) for e in expired_labels(store.state) if e.model == model), (0, 0))


def test_a_waiting_label_yields_to_a_better_one_that_came_with_the_row(store: Store, model: str) -> None:
    [row] = random_rows(18, 1, model=model, labelled=0)
    better = Label(id=row.id, timestamp=START + DAY, ingested=START, cls="yes")
    assert store.label([msgspec.structs.replace(better, timestamp=START, cls="no")]) == [Joined.WAITING]
    row = msgspec.structs.replace(row, label=better)
    append(store, [row])
    assert store.join_pending(START + 7 * HOUR, DAY) == PendingCounts(0, 1, 0, 0)
    settle(store)
    assert_summarises(store, asking(model, parts=LABELS), [row])


def test_a_label_sent_twice_waits_once(store: Store, model: str) -> None:
    [row] = random_rows(19, 1, model=model, labelled=0)
    label = Label(id=row.id, timestamp=START, ingested=START, cls="yes")
    store.label([label])
    store.label([label])
    append(store, [row])
    counts = store.join_pending(START + 7 * HOUR, DAY)
    assert (counts.joined, counts.superseded, counts.waiting) == (1, 0, 0)


def test_concurrent_writers_of_labels_end_with_the_highest_rank(store: Store, model: str) -> None:
    rows = random_rows(20, 12, model=model, labelled=0)
    append(store, rows)
    labels = labels_for(rows, 21, share=1, most=6)

    def write(mine: Sequence[Label]) -> None:
        for label in mine:
            store.label([label])

    threads = [threading.Thread(target=write, args=(labels[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settle(store)
    assert_summarises(store, asking(model, parts=LABELS), with_labels(rows, labels))


def test_two_models_may_score_the_same_request(store: Store, model: str) -> None:
    """As a shadow model does. Each has its row; a label is for both unless it names one."""
    first = random_rows(22, 6, model=model, labelled=0)
    second = [msgspec.structs.replace(row, model=f"{model} shadow", cls="other") for row in first]
    third = [msgspec.structs.replace(row, model=f"{model} third") for row in first]
    append(store, first)
    assert [r.written for r in store.append([*first[:2], *second, *second[:2], *third])] == [
        *[Written.DUPLICATE] * 2,
        *[Written.CREATED] * 6,
        *[Written.DUPLICATE] * 2,
        *[Written.CREATED] * 6,
    ]
    assert {r.written for r in store.append([*first, *second, *third])} == {Written.DUPLICATE}
    settle(store)
    for rows in (first, second, third):
        found = store.examples(rows[0].model, SPAN)
        assert sorted(d["event"]["id"] for d in found) == [row.id for row in rows]
        assert {d["model"]["name"] for d in found} == {rows[0].model}

    def labels_of(row: Prediction, cls: str, later: int, model: str | None = None) -> Label:
        return Label(id=row.id, timestamp=START + later, ingested=START, cls=cls, model=model)

    for_all = [labels_of(row, "yes", 1) for row in first[:4]]
    for_shadow = [labels_of(row, "no", 2, second[0].model) for row in first[2:]]
    for_first = [labels_of(row, "no", 0, model) for row in first]
    assert store.label([*for_all, *for_shadow]) == [Joined.JOINED] * 8
    settle(store)
    assert store.label(for_first) == [*[Joined.SUPERSEDED] * 4, *[Joined.JOINED] * 2]
    settle(store)
    for rows, labels in (
        (first, [*for_all, *for_first]),
        (second, [*for_all, *for_shadow]),
        (third, for_all),
    ):
        assert_summarises(store, asking(rows[0].model, parts=LABELS), with_labels(rows, labels))
