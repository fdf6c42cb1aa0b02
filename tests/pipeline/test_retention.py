"""The worker raises the floors, drops what is past them, and seals what is about to be."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.retention import RetentionFloor
from ingest.service import IngestService
from kedge.alerting.loading import parse_rules
from kedge.config import Settings, load_settings
from kedge.errors import KedgeError, StoreUnavailable
from kedge.notify.receivers import Receivers
from kedge.pipeline.context import Pipeline
from kedge.pipeline.retention import read_floors, retire, sealed_before
from kedge.records import Prediction
from kedge.store.duckdb import DuckStore, open_duckdb
from kedge.store.retention import Floors, Retention
from kedge.windows import DAY, HOUR, Millis, Window, parse_time

NOW = parse_time("2026-03-20T15:00:00Z")
TODAY = parse_time("2026-03-20")
ALL = Window(NOW - 100 * DAY, NOW + DAY)


@pytest.fixture
def store() -> Iterator[DuckStore]:
    opened = open_duckdb(":memory:")
    opened.setup()
    yield opened
    opened.close()


def pipeline(store: DuckStore, **retention: str) -> Pipeline:
    settings = Settings.model_validate({"store": "duckdb::memory:", "retention": retention})
    return Pipeline(store, settings, lambda: parse_rules(""), Receivers({}, ""), "worker")


def row(t: Millis) -> Prediction:
    return Prediction(id=f"r{t}", timestamp=t, ingested=NOW, model="m")


def test_the_worker_drops_days_past_their_retention_and_the_gateway_refuses_their_rows(
    store: DuckStore,
) -> None:
    pipe = pipeline(store, predictions="5d")
    service = IngestService(store, store.state, lambda: NOW)
    service.store_predictions([row(NOW - d * DAY) for d in range(10)])
    found = retire(pipe, NOW)
    assert found.floors.predictions == TODAY - 5 * DAY
    assert len(found.dropped) == 4
    assert len(store.examples("m", ALL, 100)) == 6
    answer = IngestService(store, store.state, lambda: NOW).store_predictions(
        [row(NOW - 7 * DAY), row(NOW - 5 * DAY - HOUR), row(NOW - 8 * DAY)]
    )
    assert (answer.accepted, answer.rejected) == (1, 2)
    assert [r.index for r in answer.rejections] == [0, 2]
    assert answer.rejections[0].field == "timestamp"
    assert answer.rejections[0].reason.startswith(
        "is older than predictions are kept: those before 2026-03-15"
    )


def test_killed_between_the_floor_and_the_drop_the_next_tick_drops(
    store: DuckStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(store, predictions="5d")
    store.append([row(NOW - d * DAY) for d in range(10)])
    with monkeypatch.context() as patched:
        patched.setattr(store, "retire", _dies)
        with pytest.raises(StoreUnavailable):
            retire(pipe, NOW)
    assert read_floors(store.state).predictions == TODAY - 5 * DAY  # known before anything is dropped
    assert len(retire(pipe, NOW).dropped) == 4


def _dies(floors: Floors) -> None:
    raise StoreUnavailable("gone")


def test_with_nothing_to_do_it_looks_again_after_an_hour(
    store: DuckStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(store, predictions="5d")
    retire(pipe, NOW)
    asked: list[Floors] = []
    real = store.retire
    monkeypatch.setattr(store, "retire", lambda floors: (asked.append(floors), real(floors))[1])
    for minutes in (0, 1, 59):
        retire(pipe, NOW + minutes * 60_000)
    assert asked == []
    retire(pipe, NOW + HOUR)
    assert len(asked) == 1


def test_a_floor_never_falls_even_if_more_is_to_be_kept(store: DuckStore) -> None:
    retire(pipeline(store, predictions="5d"), NOW)
    found = retire(pipeline(store, predictions="90d"), NOW)
    assert found.floors.predictions == TODAY - 5 * DAY


def test_embedded_nothing_is_dropped_unless_asked_for(store: DuckStore) -> None:
    assert retire(pipeline(store), NOW).floors == Floors()
    assert store.state.find("retention") == {}


def test_on_a_server_minutes_hours_and_rejected_rows_are_dropped_by_default() -> None:
    cluster = Settings(store="http://localhost:9200")
    assert cluster.kept == Retention(rejected=30 * DAY, minutes=8 * DAY, hours=400 * DAY)
    off = Settings.model_validate(
        {"store": "http://localhost:9200", "retention": {"minutes": "off", "days": "3000d"}}
    )
    assert off.kept == Retention(rejected=30 * DAY, hours=400 * DAY, days=3000 * DAY)


def test_a_retention_that_cannot_be_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "kedge.yml"
    file.write_text("retention:\n  predictions: 12h\n")
    with pytest.raises(KedgeError, match=r"kedge\.yml:2:3: .*at least 2d"):
        load_settings(file, {})


@given(st.integers(2 * DAY, 400 * DAY), st.integers(0, DAY))
def test_a_bucket_is_sealed_a_day_before_its_logs_can_be_dropped(kept: Millis, ahead: Millis) -> None:
    """What is not sealed by this worker's clock is still there, whatever one ahead by up to a day drops."""
    retention = Retention(predictions=kept)
    floors = retention.floors(NOW)
    sealed = sealed_before(floors, retention, NOW)
    assert sealed == floors.predictions + DAY
    theirs = retention.floors(NOW + ahead)
    assert theirs.predictions <= sealed
    assert sealed_before(floors.raised(theirs), retention, NOW) >= theirs.predictions + DAY


def test_nothing_is_sealed_where_logs_are_kept_for_ever() -> None:
    assert sealed_before(Floors(), Retention(minutes=8 * DAY), NOW) == 0


def test_the_gateway_keeps_the_floor_it_knew_while_the_store_is_away(
    store: DuckStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    retire(pipeline(store, predictions="5d"), NOW)
    clock = [0.0]
    floor = RetentionFloor(store.state, lambda: clock[0])
    assert floor() == TODAY - 5 * DAY
    retire(pipeline(store, predictions="5d"), NOW + DAY)
    clock[0] = 59.0
    assert floor() == TODAY - 5 * DAY
    clock[0] = 61.0
    assert floor() == TODAY - 4 * DAY
    monkeypatch.setattr(store.state, "get", _dies)
    clock[0] = 200.0
    assert floor() == TODAY - 4 * DAY
