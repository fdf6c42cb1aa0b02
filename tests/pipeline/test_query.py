"""The series of a metric as people ask for it: its windows and groups, and what is said of open ones."""

from collections.abc import Iterator
from typing import Any

import pytest

from kedge.errors import BadInput
from kedge.pipeline.query import metric_series
from kedge.windows import DAY, HOUR, MINUTE, SECOND, iso
from tests.pipeline.world import MODEL, T0, World, prediction, truth, world


@pytest.fixture
def one() -> Iterator[World]:
    with world() as made:
        yield made


def series(one: World, name: str = "volume.count", **asked: Any) -> list[dict[str, Any]]:
    return list(metric_series(one.pipe, MODEL, names=[name], now=one.now, **asked))


def minutes(one: World, n: int, *, start: int = 0) -> None:
    for m in range(start, start + n):
        one.send([prediction(m * 10 + i, T0 + m * MINUTE + i * SECOND) for i in range(4)])


def test_windows_tumble_aligned_to_the_epoch_and_hold_what_the_rows_say(one: World) -> None:
    minutes(one, 12)
    one.drain(T0 + HOUR)
    found = series(one, width=5 * MINUTE)
    assert [(row["window_start"], row["value"], row["reason"]) for row in found] == [
        (iso(T0), 20, None),
        (iso(T0 + 5 * MINUTE), 20, None),
        (iso(T0 + 10 * MINUTE), 8, None),
    ]
    assert [row["value"] for row in series(one, width=HOUR)] == [48]
    part = series(one, width=5 * MINUTE, start=T0 + 7 * MINUTE, end=T0 + 10 * MINUTE)
    assert [row["window_start"] for row in part] == [iso(T0 + 5 * MINUTE)]


def test_a_window_that_is_not_over_or_not_summarised_yet_is_incomplete(one: World) -> None:
    minutes(one, 6)
    one.tick(T0 + 7 * MINUTE)
    first, second = series(one, width=5 * MINUTE)
    assert (first["value"], first["reason"]) == (20, None)
    assert (second["value"], second["reason"]) == (4, "incomplete")
    one.tick(T0 + 11 * MINUTE)
    assert [row["reason"] for row in series(one, width=5 * MINUTE)] == [None, None]
    one.send([prediction(900, T0 + MINUTE)])
    one.tick(T0 + MINUTE + 30 * SECOND)  # detected, by a worker whose clock says that it is not due
    assert [row["reason"] for row in series(one, width=5 * MINUTE)] == ["incomplete", None]


def test_label_metrics_of_a_window_that_is_not_mature_are_provisional(one: World) -> None:
    """Labels take an hour here: those of the last hour are mostly to come."""
    minutes(one, 180)
    rows = list(one.rows.values())
    old = [row for row in rows if row.timestamp < T0 + 2 * HOUR]
    some = [row for row in rows if row.timestamp >= T0 + 2 * HOUR][::10]
    one.label([truth(row.id, row.timestamp + HOUR) for row in old])
    one.label([truth(row.id, row.timestamp + MINUTE) for row in some])
    one.drain(T0 + 3 * HOUR + 2 * MINUTE)
    found = series(one, "performance.accuracy", width=HOUR)
    assert [row["reason"] for row in found] == [None, None, "provisional"]
    assert [row["n"] for row in found] == [240, 240, 24]
    assert [row["reason"] for row in series(one, width=HOUR)] == [None, None, None]


def test_a_grouping_that_is_summarised_and_one_that_is_not_agree_with_the_rows(one: World) -> None:
    minutes(one, 10)
    one.drain(T0 + HOUR)
    for name in ("segment.region", "segment.plan", "version"):  # the first is a rule's
        found = {row["labels"][name]: row["value"] for row in series(one, width=DAY, by=[name])}
        rows = list(one.rows.values())
        assert found == {
            v: sum(r.dimension(name) == v for r in rows) for v in {r.dimension(name) for r in rows}
        }
    both = series(one, width=DAY, by=["version", "segment.plan"])
    assert sum(row["value"] for row in both) == len(one.rows)
    assert {tuple(row["labels"]) for row in both} == {("segment.plan", "version")}


def test_a_process_that_only_answers_questions_sees_what_workers_write(one: World) -> None:
    """The API beside Celery workers never ticks: nothing that it read once may stand."""
    minutes(one, 5)
    one.drain(T0 + 10 * MINUTE)
    web, worker = one.pipe, one.worker()
    assert [row["value"] for row in series(one, width=HOUR)] == [20]
    minutes(one, 5, start=5)
    one.pipe = worker
    one.drain(T0 + 20 * MINUTE)
    one.pipe = web
    assert [row["value"] for row in series(one, width=HOUR)] == [40]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"width": 90 * SECOND}, "not a multiple of 1m"),
        ({"width": MINUTE, "start": T0 - 400 * DAY}, "at most"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(
    one: World, asked: dict[str, Any], says: str
) -> None:
    minutes(one, 3)
    one.drain(T0 + HOUR)
    with pytest.raises(BadInput, match=says):
        series(one, **asked)


def test_an_unknown_model_or_metric_is_refused_with_the_known_ones(one: World) -> None:
    minutes(one, 3)
    one.drain(T0 + HOUR)
    with pytest.raises(BadInput, match=f"known: {MODEL}"):
        next(metric_series(one.pipe, "other", now=one.now))
    with pytest.raises(BadInput, match=r"performance\.accuracy"):
        series(one, "performance.acuracy")
