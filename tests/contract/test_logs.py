"""Rows are stored once each, whatever is sent twice, and the feed misses none."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from kedge.records import Label, Prediction
from kedge.sketch import CategoricalEdges, NumericEdges, PartName
from kedge.store.base import Joined, Store, Written
from kedge.store.flaws import Flaw, Problem
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, floor, iso
from tests.contract.helpers import ALL_PARTS, append, asking, assert_summarises, by_key, settle
from tests.support.rows import EDGES, SPAN, START, random_rows, table_of


def minutes(rows: Sequence[Prediction]) -> set[Millis]:
    return {floor(row.timestamp, MINUTE) for row in rows}


def test_each_row_is_answered_in_order_and_a_repeat_changes_nothing(store: Store, model: str) -> None:
    rows = random_rows(1, 30, model=model)
    assert [r.written for r in store.append(rows[:20])] == [Written.CREATED] * 20
    again = store.append([rows[25], *rows[:3], rows[26], rows[26]])
    assert [r.written for r in again] == [
        Written.CREATED,
        *[Written.DUPLICATE] * 3,
        Written.CREATED,
        Written.DUPLICATE,
    ]
    settle(store)
    assert_summarises(store, asking(model), [*rows[:20], rows[25], rows[26]])


def test_a_repeat_with_other_content_does_not_replace_what_is_stored(store: Store, model: str) -> None:
    [row] = random_rows(2, 1, model=model, labelled=1)
    append(store, [row])
    other = msgspec.structs.replace(row, cls="other", num={"age": 1.0}, label=None)
    assert [r.written for r in store.append([other])] == [Written.DUPLICATE]
    settle(store)
    assert_summarises(store, asking(model), [row])


def test_one_bad_row_costs_no_other(store: Store, model: str) -> None:
    rows = random_rows(3, 3, model=model)
    bad = msgspec.structs.replace(rows[1], cat={"merchant_type": "half a pair: \ud800"})
    results = store.append([rows[0], bad, rows[2]])
    assert [r.written for r in results] == [Written.CREATED, Written.REJECTED, Written.CREATED]
    assert results[1].reason
    settle(store)
    assert_summarises(store, asking(model), [rows[0], rows[2]])


def table_rows(seed: int, count: int, model: str) -> list[Prediction]:
    """Rows that a table can hold."""
    rows = random_rows(seed, count, model=model, labelled=0.5)
    first = rows[0].ingested
    return [
        msgspec.structs.replace(
            row,
            ingested=first,
            invalid=(),
            label=row.label and msgspec.structs.replace(row.label, ingested=first),
        )
        for row in rows
    ]


def test_a_table_is_stored_as_its_rows_are(store: Store, model: str) -> None:
    rows = table_rows(21, 300, model)
    assert [r.written for r in store.append_table(table_of(rows))] == [Written.CREATED] * 300
    settle(store)
    assert_summarises(store, asking(model), rows)
    twins = [msgspec.structs.replace(row, model=f"{model} by rows", id=f"{row.id} too") for row in rows]
    append(store, twins)
    by_table, by_rows = store.examples(model, SPAN, 300), store.examples(f"{model} by rows", SPAN, 300)
    assert len(by_table) == 300
    for document in by_rows:
        document["model"]["name"] = model
        document["event"]["id"] = document["event"]["id"].removesuffix(" too")
    by_id = {document["event"]["id"]: document for document in by_rows}
    assert {document["event"]["id"]: document for document in by_table} == by_id


def test_a_table_tells_of_each_row_whether_it_was_there(store: Store, model: str) -> None:
    rows = table_rows(22, 40, model)
    append(store, rows[10:20])
    answered = [r.written for r in store.append_table(table_of([*rows[:30], rows[3], *rows[30:]]))]
    there = [*range(10, 20), 30]
    assert answered == [Written.DUPLICATE if i in there else Written.CREATED for i in range(41)]
    assert {r.written for r in store.append_table(table_of(rows))} == {Written.DUPLICATE}
    settle(store)
    assert_summarises(store, asking(model), rows)


def test_no_rows_are_no_work(store: Store) -> None:
    assert store.append([]) == []
    assert store.label([]) == []


def test_a_label_that_comes_with_its_row_is_joined_at_once(store: Store, model: str) -> None:
    rows = random_rows(4, 40, model=model, labelled=1)
    append(store, rows)
    found = assert_summarises(store, asking(model, parts=frozenset({PartName.LABELS})), rows)
    assert sum(row.part.rows for row in found.values()) == 40


def test_a_duplicate_or_superseded_write_touches_nothing(store: Store, model: str) -> None:
    rows = random_rows(6, 5, model=model, labelled=0)
    append(store, rows)
    label = Label(id=rows[0].id, timestamp=START + DAY, ingested=START, cls="yes")
    assert store.label([label]) == [Joined.JOINED]
    seen = store.changed({}).watermark
    store.append(rows)
    older = msgspec.structs.replace(label, timestamp=START)
    assert store.label([label, older]) == [Joined.SUPERSEDED, Joined.SUPERSEDED]
    touched = store.changed(seen)
    assert model not in touched.dirty
    assert model not in touched.labelled


def test_core_and_cells_count_rows_in_their_version_and_labels_grow_with_each_change(
    store: Store, model: str
) -> None:
    hour = Window(START, START + HOUR)
    rows = random_rows(8, 20, model=model, labelled=0, window=hour)
    append(store, rows[:12])
    request = asking(model, window=hour)
    first = by_key(store.summarise(request))
    assert {key.part: row.version for key, row in first.items()} == {
        PartName.CORE: (1 << 56) + 12,
        PartName.CELLS: (1 << 56) + 12,
    }
    assert by_key(store.summarise(request)).keys() == first.keys()
    append(store, rows[12:])
    assert {row.version for row in store.summarise(request)} == {(1 << 56) + 20}

    seen = [1 << 56]
    for step, cls in enumerate(("yes", "no", "no", "yes")):
        store.label([Label(id=rows[3].id, timestamp=START + step, ingested=START, cls=cls)])
        settle(store)
        [labels] = [row for row in store.summarise(request) if row.key.part is PartName.LABELS]
        seen.append(labels.version)
    assert seen == sorted(set(seen)), "each correction gives a higher version"

    store.label([Label(id=rows[4].id, timestamp=START, ingested=START, cls="yes")])
    settle(store)
    [labels] = [row for row in store.summarise(request) if row.key.part is PartName.LABELS]
    assert labels.version > seen[-1]

    next_epoch = replace(request, epoch=2)
    assert min(row.version for row in store.summarise(next_epoch)) >= 2 << 56


def test_examples_are_the_newest_rows_as_documents(store: Store, model: str) -> None:
    rows = random_rows(9, 30, model=model, labelled=1)
    append(store, rows)
    window = Window(START + HOUR, START + 4 * HOUR)
    inside = sorted((row.timestamp for row in rows if row.timestamp in window), reverse=True)
    found = store.examples(model, window, limit=7)
    assert [document["@timestamp"] for document in found] == [iso(t) for t in inside[:7]]
    newest = next(row for row in rows if row.id == found[0]["event"]["id"])
    document = found[0]
    assert document["model"] == (
        {"name": model, "version": newest.version} if newest.version else {"name": model}
    )
    assert set(document.get("features", {}).get("num", {})) == set(newest.num)
    assert document.get("features", {}).get("cat", {}) == newest.cat
    assert document.get("segment", {}) == newest.segment
    assert document["event"]["outcome"] == ("failure" if newest.failed else "success")
    assert newest.label is not None
    assert document["label"]["timestamp"] == iso(newest.label.timestamp)
    assert document["label"]["delay_ms"] == newest.label.timestamp - newest.timestamp
    assert store.examples(model, Window(START - DAY, START - HOUR)) == []
    assert store.examples("no such model", window) == []


Rows = Sequence[Prediction]


@pytest.fixture(scope="module")
def flawed_rows(store: Store) -> Rows:
    rows = random_rows(17, 200, model="flawed rows")
    append(store, rows)
    return rows


def is_flawed(row: Prediction, flaw: Flaw) -> bool:
    """As the metrics of quality count it."""
    name = flaw.feature
    number, text = float(np.float32(row.num.get(name, np.nan))), row.cat.get(name)
    match flaw.problem:
        case Problem.MISSING:
            return not np.isfinite(number) and text is None and name not in row.invalid
        case Problem.INVALID:
            return name in row.invalid or (text is not None if flaw.numeric else bool(np.isfinite(number)))
        case Problem.UNSEEN:
            return text is not None and text not in flaw.known
        case Problem.OUT_OF_RANGE:
            low, high = flaw.bounds
            return bool(np.isfinite(number)) and not low <= number < high
        case Problem.PRESENT:
            return bool(np.isfinite(number)) if flaw.numeric else text is not None
        case Problem.CELL if flaw.numeric:
            low, high = flaw.bounds
            return bool(low <= number < high)
        case Problem.CELL:
            return text in flaw.known


@pytest.mark.parametrize(
    "flaw",
    [
        Flaw("age", Problem.MISSING),
        Flaw("age", Problem.INVALID),
        Flaw("merchant_type", Problem.INVALID, numeric=False),
        Flaw("mixed", Problem.INVALID),
        Flaw("mixed", Problem.INVALID, numeric=False),
        Flaw("země", Problem.MISSING, numeric=False),
        Flaw("a.b", Problem.UNSEEN, numeric=False, edges=CategoricalEdges(("x",), ("never",))),
        Flaw("merchant_type", Problem.UNSEEN, numeric=False, edges=EDGES.features["merchant_type"]),
        Flaw("amount", Problem.OUT_OF_RANGE, edges=NumericEdges(EDGES.features["amount"].edges[2:5])),
        Flaw("größe.über.null", Problem.OUT_OF_RANGE, edges=NumericEdges((0.0, 1.0))),
        Flaw("größe.über.null", Problem.OUT_OF_RANGE, edges=NumericEdges((-1.0, 0.0))),
        Flaw("tiny", Problem.OUT_OF_RANGE, edges=NumericEdges(EDGES.features["tiny"].edges[:2])),
        Flaw("age", Problem.PRESENT),
        Flaw("merchant_type", Problem.PRESENT, numeric=False),
        Flaw("amount", Problem.CELL, edges=NumericEdges(EDGES.features["amount"].edges[2:4])),
        Flaw("größe.über.null", Problem.CELL, edges=NumericEdges((0.0, 1.0))),
        Flaw("merchant_type", Problem.CELL, numeric=False, edges=CategoricalEdges((), ("shop", "casino"))),
        Flaw("never logged", Problem.PRESENT),
        Flaw("never logged", Problem.CELL, edges=NumericEdges((0.0, 1.0))),
        Flaw("never logged", Problem.MISSING),
        Flaw("never logged", Problem.UNSEEN, numeric=False, edges=CategoricalEdges(("x",))),
        Flaw("never logged", Problem.OUT_OF_RANGE, edges=NumericEdges((0.0, 1.0))),
    ],
    ids=lambda flaw: f"{flaw.problem} {flaw.feature} {'num' if flaw.numeric else 'cat'}",
)
def test_rows_with_a_flaw_are_those_that_the_metrics_count(
    store: Store, flawed_rows: Rows, flaw: Flaw
) -> None:
    expected = {row.id for row in flawed_rows if is_flawed(row, flaw)}
    found = store.examples(flawed_rows[0].model, SPAN, 1_000, flaw)
    assert {document["event"]["id"] for document in found} == expected
    assert bool(expected) is not (flaw.feature == "never logged" and flaw.problem is not Problem.MISSING)
    few = store.examples(flawed_rows[0].model, SPAN, 3, flaw)
    assert [d["@timestamp"] for d in few] == [d["@timestamp"] for d in found[:3]]


def dimension_of(row: Prediction, name: str) -> str | None:
    if name.startswith("segment."):
        return row.segment.get(name.removeprefix("segment."))
    return getattr(row, name) or None


@pytest.mark.parametrize(
    "flaw",
    [
        Flaw("age", Problem.PRESENT),
        Flaw("amount", Problem.OUT_OF_RANGE, edges=NumericEdges(EDGES.features["amount"].edges[2:5])),
        Flaw("merchant_type", Problem.UNSEEN, numeric=False, edges=CategoricalEdges(("shop",))),
    ],
    ids=lambda flaw: str(flaw.problem),
)
def test_rows_with_a_flaw_can_be_those_of_one_group(store: Store, flawed_rows: Rows, flaw: Flaw) -> None:
    for names in (("version",), ("segment.plan.tier", "version"), ("service", "host"), ("segment.none",)):
        some = next((r for r in flawed_rows if all(dimension_of(r, n) for n in names)), flawed_rows[0])
        group = tuple((name, dimension_of(some, name) or "nobody") for name in names)
        expected = {
            row.id
            for row in flawed_rows
            if is_flawed(row, flaw) and all(dimension_of(row, name) == value for name, value in group)
        }
        found = store.examples(flawed_rows[0].model, SPAN, 1_000, replace(flaw, group=group))
        assert {document["event"]["id"] for document in found} == expected, group


def test_what_was_never_seen_is_empty(store: Store) -> None:
    assert store.summarise(asking("no such model", parts=ALL_PARTS)) == []
    assert dict(store.edges("no such model", Window(START, START + HOUR), ["x"], ["y"]).features) == {}
