"""The change feed misses nothing, and tells minutes in which rows arrived from those in which labels came."""

import random
import threading
from collections.abc import Sequence

import msgspec

from kedge.records import Label, Prediction
from kedge.store.base import Changes, Joined, Store, Written
from kedge.windows import DAY, HOUR, MINUTE, Millis, floor
from tests.contract.helpers import append
from tests.support.rows import START, random_label, random_rows


def minutes(rows: Sequence[Prediction]) -> set[Millis]:
    return {floor(row.timestamp, MINUTE) for row in rows}


def told(changes: Changes, model: str) -> tuple[set[Millis], set[Millis]]:
    """The minutes with new rows, and those with new labels."""
    return changes.dirty.get(model, set()), set(changes.labelled.get(model, set()))


def label_of(row: Prediction, **fields: object) -> Label:
    plain = Label(id=row.id, timestamp=row.timestamp + HOUR, ingested=row.timestamp + HOUR, cls="yes")
    return msgspec.structs.replace(plain, **fields)


def test_the_feed_names_every_minute_in_which_rows_arrived_once(store: Store, model: str) -> None:
    before = store.changed({}).watermark
    rows = random_rows(5, 50, model=model, labelled=0)
    append(store, rows)
    first = store.changed(before)
    assert told(first, model) == (minutes(rows), set())
    assert told(store.changed(first.watermark), model) == (set(), set())
    assert store.changed({}).dirty[model] == minutes(rows)
    assert not first.replaced


def test_a_label_on_an_old_row_is_told_as_a_label_alone_and_so_is_its_correction(
    store: Store, model: str
) -> None:
    rows = random_rows(5, 50, model=model, labelled=0)
    append(store, rows)
    seen = store.changed({}).watermark
    for step in range(3):
        assert store.label([label_of(rows[7], cls=str(step), timestamp=START + step)]) == [Joined.JOINED]
        changes = store.changed(seen)
        assert told(changes, model) == (set(), minutes([rows[7]]))
        seen = changes.watermark
    assert told(store.changed({}), model) == (minutes(rows), minutes([rows[7]]))


def test_a_row_that_comes_with_its_label_is_told_as_both_and_its_correction_as_a_label(
    store: Store, model: str
) -> None:
    before = store.changed({}).watermark
    [row, other] = random_rows(5, 2, model=model, labelled=0)
    append(store, [msgspec.structs.replace(row, label=label_of(row)), other])
    first = store.changed(before)
    assert told(first, model) == (minutes([row, other]), minutes([row]))
    assert store.label([label_of(row, timestamp=row.timestamp + DAY)]) == [Joined.JOINED]
    assert told(store.changed(first.watermark), model) == (set(), minutes([row]))


def test_a_row_that_is_labelled_before_the_feed_has_seen_it_is_told_as_both(store: Store, model: str) -> None:
    [old, late] = random_rows(5, 2, model=model, labelled=0)
    append(store, [old])
    seen = store.changed({}).watermark
    append(store, [late])  # made visible by a reader with a watermark of its own
    for step in range(2):
        assert store.label([label_of(late, timestamp=late.timestamp + step)]) == [Joined.JOINED]
    assert told(store.changed(seen), model) == (minutes([late]), minutes([late]))


def test_any_run_of_rows_labels_and_reads_is_told_as_it_was(store: Store, model: str) -> None:
    """Against an account kept beside it; of three readers with watermarks of their own each is told right."""
    r = random.Random(6)
    waiting = random_rows(6, 90, model=model, labelled=0.2)
    r.shuffle(waiting)
    here: list[Prediction] = []
    held: dict[str, Label] = {}
    readers = [store.changed({}).watermark] * 3
    arrived: list[set[Millis]] = [set(), set(), set()]
    labelled: list[set[Millis]] = [set(), set(), set()]
    for _ in range(30):
        match r.choice(("rows", "rows", "labels", "labels", "read")):
            case "rows":
                some = [waiting.pop() for _ in range(min(r.randrange(1, 7), len(waiting)))]
                again = r.sample(here, min(2, len(here)))
                results = store.append([*some, *again])
                assert [(x.written, x.reason) for x in results[: len(some)]] == [(Written.CREATED, "")] * len(
                    some
                )
                here += some
                held |= {row.id: row.label for row in some if row.label is not None}
                for who in range(3):
                    arrived[who] |= minutes(some)
                    labelled[who] |= minutes([row for row in some if row.label is not None])
                store.changed({})  # labels join what is visible
            case "labels":
                for row in r.sample(here, min(4, len(here))):
                    label = random_label(r, row, ("yes", "no"))
                    wins = row.id not in held or label.rank > held[row.id].rank
                    assert store.label([label]) == [Joined.JOINED if wins else Joined.SUPERSEDED]
                    store.changed({})
                    if wins:
                        held[row.id] = label
                        for who in range(3):
                            labelled[who] |= minutes([row])
            case "read":
                who = r.randrange(3)
                changes = store.changed(readers[who])
                assert told(changes, model) == (arrived[who], labelled[who])
                readers[who], arrived[who], labelled[who] = changes.watermark, set(), set()
    for who in range(3):
        assert told(store.changed(readers[who]), model) == (arrived[who], labelled[who])


def test_the_feed_misses_nothing_while_others_write(store: Store, model: str) -> None:
    rows = random_rows(7, 240, model=model, labelled=0)
    before = store.changed({}).watermark

    def write(mine: Sequence[Prediction]) -> None:
        for start in range(0, len(mine), 20):
            store.append(mine[start : start + 20])

    threads = [threading.Thread(target=write, args=(rows[i::3],)) for i in range(3)]
    for thread in threads:
        thread.start()
    dirty: set[Millis] = set()
    changes = Changes(before, {})
    while any(thread.is_alive() for thread in threads):
        changes = store.changed(changes.watermark)
        dirty |= changes.dirty.get(model, set())
    for thread in threads:
        thread.join()
    changes = store.changed(changes.watermark)
    dirty |= changes.dirty.get(model, set())
    assert dirty == minutes(rows)
    assert model not in store.changed(changes.watermark).dirty
