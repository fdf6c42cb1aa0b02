"""Labels in the pipeline: those that wait are joined, and what is said of how late they come."""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.context import groupings_of
from kedge.pipeline.query import metric_series
from kedge.pipeline.schema import features_of
from kedge.records import Prediction
from kedge.store.base import MetricDoc
from kedge.windows import DAY, HOUR, MINUTE, SECOND, Millis, Window, iso
from tests.pipeline.world import MODEL, T0, World, prediction, truth, world


@pytest.fixture
def one() -> Iterator[World]:
    with world() as made:
        yield made


def test_a_drain_goes_on_until_no_waiting_label_is_left(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [prediction(i, T0 + i * SECOND) for i in range(25)]
    one.label([truth(row.id, T0) for row in rows])
    one.send(rows)
    monkeypatch.setattr(one.store, "join_pending", partial(one.store.join_pending, limit=10))
    reports = one.drain(T0 + 2 * HOUR)
    assert [r.labels.joined for r in reports][:4] == [10, 10, 5, 0][: len(reports)]
    assert reports[-1].labels.waiting == 0
    found = metric_series(one.pipe, MODEL, names=["performance.accuracy"], width=DAY, now=one.now)
    assert [row["n"] for row in found] == [25]


def asked(one: World, *names: str, **given: Any) -> list[dict[str, Any]]:
    return list(metric_series(one.pipe, MODEL, names=names, now=one.now, **given))


def labelled_late(one: World, days: int, mean: Millis, now: Millis) -> dict[str, Millis]:
    """Rows every three minutes, their labels exponentially late; those of them that have come by `now`."""
    dice = random.Random(5)
    rows = [prediction(i, T0 + i * 3 * MINUTE) for i in range(days * 480)]
    late = {row.id: round(dice.expovariate(1 / mean)) for row in rows}
    come = {row.id: late[row.id] for row in rows if row.timestamp + late[row.id] <= now}
    one.send(rows)
    one.label([truth(id, one.rows[id].timestamp + delay) for id, delay in come.items()])
    one.drain(now)
    return come


def plain_median(rows: Sequence[Prediction], come: dict[str, Millis], now: Millis) -> Millis | None:
    """The product-limit estimate, row by row."""
    ends = sorted((come.get(r.id, now - r.timestamp), r.id not in come) for r in rows)
    waiting = 1.0
    for i, (age, unlabelled) in enumerate(ends):
        if not unlabelled:
            waiting *= 1 - 1 / (len(ends) - i)
        if waiting <= 0.5:
            return age
    return None


@pytest.mark.parametrize("by", [(), ("segment.region",)])
def test_the_median_delay_is_that_of_all_rows_not_of_the_labels_that_were_quick(
    one: World, by: tuple[str, ...]
) -> None:
    now = T0 + 4 * DAY + 5 * MINUTE
    come = labelled_late(one, 4, DAY, now)
    found = asked(one, "label.delay_p50", width=2 * DAY, by=by)
    seen = asked(one, "label.delay_seen_p50", width=2 * DAY, by=by)
    assert len(found) == len(seen) >= (4 if by else 2)
    naively = []
    for row, naive in zip(found, seen, strict=True):
        rows = [
            r
            for r in one.rows.values()
            if row["window_start"] <= iso(r.timestamp) < row["window_end"]
            and all(r.dimension(name) == row["labels"][name] for name in by)
        ]
        true = plain_median(rows, come, now)
        if true is None:
            assert row["value"] is None
            assert row["reason"]
            continue
        assert row["n"] == sum(r.id in come for r in rows)
        assert row["value"] == pytest.approx(true, rel=0.2)
        naively.append(naive["value"] / row["value"])
    assert min(naively) < 0.9


def test_by_a_dimension_that_is_not_summarised_a_young_window_has_no_median_rather_than_a_wrong_one(
    one: World,
) -> None:
    """Its rows are taken as of one age: an old window's are nearly so."""
    now = T0 + 4 * DAY + 5 * MINUTE
    come = labelled_late(one, 4, DAY, now)
    found = asked(one, "label.delay_p50", width=DAY, by=("segment.plan",))
    assert [row["reason"] for row in found] == [None] * 6 + ["told once the window is 1d old"] * 2
    for row in found[:6]:
        rows = [
            r
            for r in one.rows.values()
            if row["window_start"] <= iso(r.timestamp) < row["window_end"]
            and r.segment["plan"] == row["labels"]["segment.plan"]
        ]
        assert row["value"] == pytest.approx(plain_median(rows, come, now), rel=0.2)


def test_coverage_by_age_and_maturity_of_each_day(one: World) -> None:
    now = T0 + 9 * DAY + 5 * MINUTE
    come = labelled_late(one, 9, 4 * HOUR, now)
    ages = {"1h": HOUR, "1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
    found = [row for row in asked(one, "label.coverage", width=DAY) if "age" in row["labels"]]
    assert len(found) == 9 * len(ages)
    for row in found:
        age = ages[row["labels"]["age"]]
        rows = [r for r in one.rows.values() if row["window_start"] <= iso(r.timestamp) < row["window_end"]]
        end = max(r.timestamp for r in rows) + 3 * MINUTE
        assert row["n"] == 480
        if end + age > now:
            assert (row["value"], row["reason"]) == (None, f"not all rows are {row['labels']['age']} old")
        else:
            share = sum(come.get(r.id, 10 * age) <= age for r in rows) / 480
            assert row["value"] == pytest.approx(share, abs=0.02)
    mature = [row["value"] for row in asked(one, "label.maturity", width=DAY)]
    assert mature[:-1] == [1] * 8
    # The 95th percentile of the delay is twelve hours: the last half a day, to an hour or two.
    assert mature[-1] == pytest.approx(0.5, abs=0.15)


def test_what_depends_on_the_clock_is_not_stored(one: World) -> None:
    labelled_late(one, 2, HOUR, T0 + 2 * DAY)
    docs = one.store.read_metrics(MODEL, DAY, Window(T0 - DAY, T0 + 3 * DAY))
    names = {name for doc in docs for name in doc.values if name.startswith("label.")}
    assert names == {"label.coverage", "label.delay_seen_p50"}


def test_a_label_changes_the_metrics_of_its_hour_and_leaves_the_rows_of_features_alone(
    one: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [prediction(i, T0 + i * 10 * SECOND) for i in range(300)]
    one.send(rows)
    baseline = build_baseline(
        one.store,
        MODEL,
        Window(T0, T0 + HOUR),
        features_of(one.store.state, MODEL),
        groupings_of(one.pipe, one.book, MODEL),
        source="an hour",
        now=one.now,
    )
    import_baseline(one.store.state, baseline, use=True)
    one.drain(T0 + 3 * HOUR)
    written: list[MetricDoc] = []
    write = one.store.write_metrics

    def noted(docs: Sequence[MetricDoc]) -> None:
        written.extend(docs)
        write(docs)

    monkeypatch.setattr(one.store, "write_metrics", noted)
    one.label([truth(row.id, T0 + HOUR) for row in rows[:20]])
    one.tick(T0 + 3 * HOUR + MINUTE)
    assert written
    assert {doc.feature for doc in written} == {""}
    one.send([prediction(i, T0 + i * SECOND) for i in range(300, 310)])
    one.drain(T0 + 4 * HOUR)
    assert {doc.feature for doc in written if doc.window.length == HOUR} >= {"", "amount", "country"}
    one.assert_exact()
