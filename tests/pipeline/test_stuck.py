"""A sensor that froze half an hour ago, inside a day of values that varied."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kedge.alerting.finding import Status
from kedge.alerting.loading import parse_rules
from kedge.notify.formatting import THIN
from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.context import groupings_of
from kedge.pipeline.query import metric_series
from kedge.pipeline.schema import features_of
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window
from tests.pipeline.world import MODEL, T0, World, prediction, settings, world

RULES = """
version: 1
defaults: {model: fraud, window: 24h}
rules:
  - {name: stuck, metric: quality.stuck, by: [feature], above: 30m}
  - {name: stuck-there, metric: quality.stuck, feature: amount, by: [segment.region], above: 2h}
  - {name: constant, metric: quality.constant, by: [feature], above: 0.5}
"""
FROZE: Millis = T0 + 2 * DAY - 41 * MINUTE


def rows(start: Millis, end: Millis, every: Millis) -> list[Any]:
    """Amount holds still from FROZE on, in region us six hours before that already; day varies all along."""
    found = []
    for at in range(start, end, every):
        row = prediction((at - T0) // MINUTE, at)
        since = FROZE - 6 * HOUR if row.segment["region"] == "us" else FROZE
        amount = 12.5 if at >= since else float(at // MINUTE * 7 % 50)
        found.append(msgspec.structs.replace(row, num={"amount": amount, "day": float(at // MINUTE % 31)}))
    return found


@pytest.fixture(scope="module")
def one() -> Iterator[World]:
    with world(book=parse_rules(RULES), settings=settings(fraud={"bucket": "1m"})) as made:
        made.send(rows(T0, T0 + DAY, 6 * MINUTE))
        made.drain(T0 + DAY + 5 * MINUTE)
        known, first = features_of(made.store.state, MODEL), Window(T0, T0 + DAY)
        groupings = groupings_of(made.pipe, made.book, MODEL)
        base = build_baseline(made.store, MODEL, first, known, groupings, source="a day", now=made.now)
        import_baseline(made.store.state, base, use=True)
        made.send(rows(T0 + DAY, T0 + 2 * DAY - 3 * HOUR, 6 * MINUTE))
        made.send(rows(T0 + 2 * DAY - 3 * HOUR, T0 + 2 * DAY, MINUTE))
        made.drain(T0 + 2 * DAY + 5 * MINUTE)
        yield made


def stuck(one: World, **asked: Any) -> dict[tuple[str, str], float | None]:
    found = metric_series(one.pipe, MODEL, names=["quality.stuck"], now=one.now, **asked)
    return {(row["window_end"], row["labels"]["feature"]): row["value"] for row in found}


def test_the_series_tells_for_how_long(one: World) -> None:
    found = stuck(one)
    ends = sorted({end for end, _ in found})
    assert [found[end, "amount"] for end in ends] == [0.0, 41 * MINUTE]
    assert [found[end, "day"] for end in ends] == [0.0, 0.0]
    hours = stuck(one, width=HOUR, start=T0 + 2 * DAY - 2 * HOUR)
    assert sorted(v or 0.0 for (_, feature), v in hours.items() if feature == "amount") == [0.0, 41 * MINUTE]


def test_without_its_name_it_is_told_of_the_newest_window_alone(one: World) -> None:
    every = [row for row in metric_series(one.pipe, MODEL, now=one.now) if row["metric"] == "quality.stuck"]
    assert [(row["labels"]["feature"], row["value"]) for row in every] == [
        ("amount", 41 * MINUTE),
        ("day", 0.0),
    ]


def test_a_rule_over_a_day_fires_on_half_an_hour_where_constant_cannot(one: World) -> None:
    alert = one.alert("stuck", feature="amount")
    assert alert.status is Status.FIRING
    assert alert.finding is not None
    assert alert.finding.value == 41 * MINUTE
    assert "every value of the last 41m is 12.5" in alert.finding.reason
    assert one.alert("stuck", feature="day").status is Status.INACTIVE
    assert one.alert("constant", feature="amount").status is Status.INACTIVE
    [message] = [m for m in one.notebook.messages if m.headline.endswith(" stuck")]
    assert message.lines[0].startswith(f"41.0{THIN}min (n=41), ")


def test_each_group_has_a_run_of_its_own_known_to_the_hour_beyond_two(one: World) -> None:
    frozen, fresh = (one.alert("stuck-there", **{"segment.region": r}) for r in ("us", "eu"))
    assert (frozen.status, fresh.status) == (Status.FIRING, Status.INACTIVE)
    assert frozen.finding is not None
    assert frozen.finding.value == 6 * HOUR  # it was 6 h 41 m: the hour in which it froze held others
