"""Whole days are dropped once, and stay away."""

from collections.abc import Iterator
from itertools import count

import pytest

from kedge.records import Prediction
from kedge.sketch import Core, PartName
from kedge.store.base import AppendResult, MetricDoc, PartRow, RejectedRow, Store, SummaryKey, Written
from kedge.store.retention import DOCUMENT, Floors
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, iso, parse_time
from tests.contract.conftest import STORES, opened_store
from tests.contract.helpers import settle
from tests.support.stored import stored_parts

_bases = count(parse_time("2010-01-01"), 100 * DAY)


@pytest.fixture(scope="module", params=STORES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One of its own: a floor never falls, and other tests log rows of the past."""
    with opened_store(request.param, request.config, tmp_path_factory) as opened:
        yield opened


@pytest.fixture
def days() -> list[Millis]:
    """Four days in a row, later than those of the tests before."""
    base = next(_bases)
    return [base + i * DAY for i in range(4)]


def row(id: str, model: str, t: Millis) -> Prediction:
    return Prediction(id=id, timestamp=t, ingested=t, model=model, num={"x": 1.0})


def part(model: str, tier: Millis, bucket: Millis) -> PartRow:
    return PartRow(SummaryKey(model, (), tier, bucket, PartName.CORE), 1, Core())


def metric(model: str, width: Millis, start: Millis) -> MetricDoc:
    return MetricDoc(model, (), Window(start, start + width), 1, {"volume.count": {"value": 1.0, "n": 1}})


def raise_floors(store: Store, floors: Floors) -> None:
    """As the worker does: first in the state, where every writer looks."""
    stored = store.state.get(DOCUMENT)
    assert store.state.swap(DOCUMENT, {"floors": floors._asdict()}, stored.token if stored else None)


def test_days_before_the_floor_are_dropped_whole_and_do_not_come_back(
    store: Store, model: str, days: list[Millis]
) -> None:
    rows = [row(f"{model} {i}", model, t + HOUR) for i, t in enumerate(days)]
    assert {r.written for r in store.append(rows)} == {Written.CREATED}
    settle(store)
    floors = Floors(predictions=days[2])
    raise_floors(store, floors)
    assert len(store.retire(floors).dropped) >= 2
    assert store.retire(floors).dropped == ()
    late = row("late", model, days[1] + HOUR)
    results: list[AppendResult] = store.append([late, row("in time", model, days[2])])
    assert [r.written for r in results] == [Written.REJECTED, Written.CREATED]
    assert f"is older than predictions are kept: those before {iso(days[2])}" in results[0].reason
    settle(store)
    window = Window(days[0], days[3] + DAY)
    kept = {document["event"]["id"] for document in store.examples(model, window, 10)}
    assert kept == {f"{model} 2", f"{model} 3", "in time"}
    assert store.retire(floors).dropped == ()


def test_what_comes_after_a_drop_is_still_told_by_the_feed(
    store: Store, model: str, days: list[Millis]
) -> None:
    store.append([row("first", model, days[0])])
    seen = store.changed({}).watermark
    floors = Floors(predictions=days[2])
    raise_floors(store, floors)
    store.retire(floors)
    assert store.changed(seen).dirty == {}
    store.append([row("next", model, days[3] + MINUTE)])
    assert store.changed(seen).dirty == {model: {days[3] + MINUTE}}


def test_each_tier_of_summaries_and_metrics_has_a_floor_of_its_own(
    store: Store, model: str, days: list[Millis]
) -> None:
    january, march = days[0], days[0] + 65 * DAY  # hours are in indices of a month
    store.write([part(model, tier, t) for tier in (MINUTE, HOUR, DAY) for t in (january, march)])
    store.write_metrics([metric(model, width, t) for width in (MINUTE, HOUR, DAY) for t in (january, march)])
    floors = Floors(minutes=march + DAY, hours=march)
    raise_floors(store, floors)
    store.retire(floors)
    year = Window(january, march + DAY)
    left = {
        tier: [r.key.bucket for r in stored_parts(store, model, tier, year, [PartName.CORE])]
        for tier in (MINUTE, HOUR, DAY)
    }
    assert left == {MINUTE: [], HOUR: [march], DAY: [january, march]}
    shown = {
        width: [d.window.start for d in store.read_metrics(model, width, year)]
        for width in (MINUTE, HOUR, DAY)
    }
    assert shown == left


def test_rejected_rows_are_dropped_by_the_day_of_their_arrival(
    store: Store, model: str, days: list[Millis]
) -> None:
    store.reject([RejectedRow(t + HOUR, "too odd", f"{model} {t}", model, "") for t in days])
    floors = Floors(rejected=days[2])
    raise_floors(store, floors)
    store.retire(floors)
    assert {r.at for r in store.rejected(100) if r.model == model} == {t + HOUR for t in days[2:]}
