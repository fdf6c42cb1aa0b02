"""Rows sent again, and rows of a clock that is ahead, as metrics: in series and in rules."""

import json
from collections.abc import Iterator

import msgspec
import pytest

from kedge.alerting.finding import Status
from kedge.alerting.loading import parse_rules
from kedge.pipeline.query import metric_series
from kedge.windows import HOUR, MINUTE, SECOND, iso
from tests.pipeline.world import MODEL, T0, World, prediction, settings, world

RULES = """
version: 1
defaults: {model: fraud, window: 10m}
rules:
  - {name: sent-twice, metric: quality.duplicates, above: 20%}
  - {name: clock, metric: quality.time_skew, above: 5%}
"""


@pytest.fixture(scope="module")
def one() -> Iterator[World]:
    """Twenty minutes of 30 rows each; of the last ten, every other row came twice, and every third was logged
    two minutes before its time."""
    with world(book=parse_rules(RULES), settings=settings(fraud={"bucket": "1m"})) as made:
        for m in range(20):
            start = T0 + m * MINUTE
            rows = [prediction(m * 100 + i, start + i * 2 * SECOND) for i in range(30)]
            if m >= 10:
                arrival = start - 2 * MINUTE
                made.send([msgspec.structs.replace(row, ingested=arrival) for row in rows[::3]])
                made.send([row for i, row in enumerate(rows) if i % 3])
                made.service.store_predictions(rows[::2])
            else:
                made.send(rows)
            made.service.finish()
            made.tick(start + 2 * MINUTE + SECOND)
        yield made


def series(one: World, name: str, **asked: object) -> list[dict]:
    return list(metric_series(one.pipe, MODEL, names=[name], width=10 * MINUTE, now=one.now, **asked))  # type: ignore[arg-type]


def test_the_share_of_rows_sent_again_is_of_all_that_arrived(one: World) -> None:
    found = series(one, "quality.duplicates")
    assert [(row["value"], row["n"]) for row in found] == [(0.0, 300), (pytest.approx(150 / 450), 450)]


def test_the_share_ahead_of_the_clock_is_of_the_rows_that_are_stored(one: World) -> None:
    found = series(one, "quality.time_skew")
    assert [(row["value"], row["n"]) for row in found] == [(0.0, 300), (pytest.approx(100 / 300), 300)]


def test_of_groups_nothing_is_told(one: World) -> None:
    assert [r for r in series(one, "quality.duplicates", by=["version"]) if r["value"] is not None] == []
    every = metric_series(one.pipe, MODEL, width=HOUR, now=one.now)
    assert {"quality.duplicates", "quality.time_skew"} <= {row["metric"] for row in every}


def test_rules_over_minutes_fire_on_them(one: World) -> None:
    for rule, value in (("sent-twice", 1 / 3), ("clock", 1 / 3)):
        alert = one.alert(rule)
        assert alert.status is Status.FIRING, rule
        assert alert.finding is not None
        assert alert.finding.value == pytest.approx(value, abs=0.02)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("by: [version], above: 1%", "of a model as a whole: leave out `by` and `version`"),
        ("version: serving, above: 1%", "of a model as a whole: leave out `by` and `version`"),
        ("compare: {to: history, window: 1d}, rise: 5pp", "is not kept of other windows: use above or below"),
    ],
)
def test_a_rule_that_asks_for_more_than_is_counted_is_refused(more: str, problem: str) -> None:
    text = f"version: 1\nrules:\n- {{name: a, model: m, metric: quality.duplicates, window: 1h, {more}}}\n"
    [found] = parse_rules(text).problems
    assert problem in str(found)


def test_requests_are_counted_whether_they_go_by_row_or_by_column(one: World) -> None:
    rows = [
        {"model": "wire", "id": str(i), "timestamp": iso(one.now - HOUR + i), "features": {"x": i}}
        for i in range(400)
    ]
    for some in (rows, rows[:300], rows[:2]):
        one.service.predictions(json.dumps(some).encode())
    one.service.finish()
    one.drain(one.now + 5 * MINUTE)
    found = metric_series(one.pipe, "wire", names=["quality.duplicates"], width=HOUR, now=one.now)
    assert sum(row["value"] * row["n"] for row in found) == pytest.approx(302)
