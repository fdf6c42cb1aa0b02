"""Users' own metrics: every store counts the rows that plain Python finds, for filters of any shape."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kedge.records import Prediction
from kedge.sketch import Core, Counted, Custom, Distinct, Moments, PartName, Tally, What, definitions_key
from kedge.sketch.custom import MOST_DISTINCT, hash_of, no_cells
from kedge.sketch.custom_tally import number_text
from kedge.store.base import Group, PartRow, Store, SummaryKey, SummaryRequest
from kedge.store.lucene import parse_filter
from kedge.windows import DAY, HOUR, Millis, Window, floor
from tests.contract.helpers import append, by_key
from tests.support.filters import NUMBERS, TEXTS, Filter, filters, float32
from tests.support.oracle import differences
from tests.support.rows import SPAN, START, random_rows
from tests.support.stored import stored_parts

MODEL = "with metrics of its own"
GROUPINGS = ((), ("segment.region",))
CUSTOM = frozenset({PartName.CUSTOM})


@pytest.fixture(scope="module")
def rows(store: Store) -> list[Prediction]:
    made = random_rows(6, 300, model=MODEL)
    append(store, made)
    return made


def asking(counted: Sequence[Counted], model: str = MODEL, bucket: Millis = HOUR) -> SummaryRequest:
    window = Window(floor(SPAN.start, bucket), SPAN.end) if bucket < DAY else Window(0, 30_000 * DAY)
    return SummaryRequest(model, window, bucket, CUSTOM, GROUPINGS, custom=tuple(counted))


def expected(
    request: SummaryRequest, rows: Sequence[Prediction], tally: Callable[[Counted, list[Prediction]], Tally]
) -> dict[SummaryKey, Custom]:
    """By bucket and group: what each of the definitions counts there."""
    held: dict[tuple[Millis, Group], list[Prediction]] = {}
    for row in rows:
        groups: list[Group] = [()]
        if "region" in row.segment:
            groups.append((("segment.region", row.segment["region"]),))
        for group in groups:
            held.setdefault((floor(row.timestamp, request.bucket), group), []).append(row)
    key = definitions_key(request.custom)
    return {
        SummaryKey(request.model, group, request.bucket, start, PartName.CUSTOM, key): Custom(
            {one.key: found for one in request.custom if (found := tally(one, members)).rows}
        )
        for (start, group), members in held.items()
    }


def wrong(found: Sequence[PartRow], wanted: dict[SummaryKey, Custom]) -> dict[str, list[str]]:
    keyed = by_key(found)
    assert keyed.keys() == wanted.keys()
    lines: dict[str, list[str]] = {}
    for key, part in wanted.items():
        got = keyed[key].part
        assert isinstance(got, Custom)
        assert got.tallies.keys() == part.tallies.keys(), key
        for name, tally in part.tallies.items():
            if unlike := differences(tally, got.tallies[name]):
                lines[f"{key} {name}"] = unlike
    return lines


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(filters(), min_size=12, max_size=12))
def test_a_filter_finds_the_rows_that_plain_python_finds(
    store: Store, rows: list[Prediction], made: list[Filter]
) -> None:
    counted = [Counted(What.ROWS, where=parse_filter(one.text)) for one in made]
    wants = {one.key: of.wants for one, of in zip(counted, made, strict=True)}

    def tally(one: Counted, members: list[Prediction]) -> Tally:
        return Tally(sum(map(wants[one.key], members)))

    request = asking(list({one.key: one for one in counted}.values()))
    assert wrong(store.summarise(request), expected(request, rows, tally)) == {}


def of_field(one: Counted, members: list[Prediction], keep: Callable[[Prediction], bool]) -> Tally:
    """What is counted of a field, in plain Python."""
    kept = [row for row in members if keep(row)]
    if one.what is What.DISTINCT:
        if one.field in TEXTS:
            texts = {text for row in kept if (text := TEXTS[one.field](row)) is not None}
        else:
            texts = {number_text(v) for row in kept if (v := float32(NUMBERS[one.field](row))) is not None}
        return Tally(len(kept), Moments.ZERO, no_cells(), Distinct(frozenset(map(hash_of, texts))))
    values = [v for row in kept if (v := float32(NUMBERS[one.field](row))) is not None]
    cells = one.scale.count(np.array(values, np.float32)) if one.what is What.CELLS else no_cells()
    return Tally(len(kept), Moments.of(values), cells)


@pytest.mark.parametrize("what", [What.VALUES, What.CELLS, What.DISTINCT])
@pytest.mark.parametrize("bucket", [HOUR, DAY])
def test_sums_cells_and_different_values_are_those_of_plain_python(
    store: Store, rows: list[Prediction], what: What, bucket: Millis
) -> None:
    fields = [name for name in NUMBERS if name != "business.cost"]
    if what is What.DISTINCT:
        fields += TEXTS
    keep = {"": lambda row: True, "host.name:a": lambda row: row.host == "a"}
    counted = [Counted(what, f, parse_filter(w) if w else None) for f in fields for w in keep]
    wants = {one.key: keep["host.name:a" if one.where else ""] for one in counted}
    request = asking(counted, bucket=bucket)
    found = store.summarise(request)
    assert wrong(found, expected(request, rows, lambda one, m: of_field(one, m, wants[one.key]))) == {}


def test_measurements_of_doubles_agree_to_seven_digits(store: Store, rows: list[Prediction]) -> None:
    cost = Counted(What.CELLS, "business.cost")
    core = frozenset({PartName.CORE, PartName.CUSTOM})
    names = ("business.cost", "resource.gpu.share", "resource.never")
    request = SummaryRequest(MODEL, Window(0, 30_000 * DAY), DAY, core, measured=names, custom=(cost,))
    for row in store.summarise(request):
        members = [one for one in rows if floor(one.timestamp, DAY) == row.key.bucket]
        costs = Moments.of(float32(one.business["cost"]) or 0.0 for one in members)
        if isinstance(row.part, Core):
            assert row.part.measured.keys() == set(names[:2])
            assert row.part.measured["business.cost"].total == pytest.approx(costs.total, rel=1e-6)
            shares = Moments.of(float32(one.resource["gpu.share"]) or 0.0 for one in members)
            assert row.part.measured["resource.gpu.share"].total == pytest.approx(shares.total, rel=1e-9)
        elif isinstance(row.part, Custom):
            tally = row.part.tallies[cost.key]
            assert tally.values.mean == pytest.approx(costs.mean, rel=1e-6)
            assert (tally.cells == cost.scale.count([one.business["cost"] for one in members])).all()


def test_more_different_values_than_are_told_apart_are_told_as_more(store: Store, model: str) -> None:
    made = [
        Prediction(id=f"{model} {i}", timestamp=START, ingested=START, model=model, cat={"user": f"u{i}"})
        for i in range(MOST_DISTINCT + 1)
    ]
    append(store, made[:-1])
    users = Counted(What.DISTINCT, "features.cat.user")
    request = SummaryRequest(model, SPAN, HOUR, CUSTOM, custom=(users,))
    [row] = store.summarise(request)
    assert isinstance(row.part, Custom)
    exact = row.part.tallies[users.key].distinct
    assert (len(exact.hashes), exact.more) == (MOST_DISTINCT, False)
    append(store, made[-1:])
    [row] = store.summarise(request)
    assert isinstance(row.part, Custom)
    assert row.part.tallies[users.key].distinct == Distinct(more=True)


def test_what_no_row_counts_for_is_computed_and_empty(store: Store, rows: list[Prediction]) -> None:
    request = asking([Counted(What.ROWS, where=parse_filter("segment.region:nowhere"))])
    found = store.summarise(request)
    assert {row.part == Custom() for row in found} == {True}
    assert {row.key.bucket for row in found} == {floor(row.timestamp, HOUR) for row in rows}


def test_parts_are_read_back_on_their_own_definitions_alone(store: Store, model: str) -> None:
    made = random_rows(7, 20, model=model)
    append(store, made)
    first, second = (
        SummaryRequest(
            model, SPAN, HOUR, CUSTOM, custom=(Counted(What.ROWS, where=parse_filter(f"host.name:{h}")),)
        )
        for h in "ab"
    )
    computed = {
        definitions_key(request.custom): by_key(store.summarise(request)) for request in (first, second)
    }
    for of in computed.values():
        assert all(store.write(list(of.values())))
    for key, of in computed.items():
        read = by_key(stored_parts(store, model, HOUR, SPAN, CUSTOM, edges=key))
        assert {k: row.part for k, row in read.items()} == {k: row.part for k, row in of.items()}
