"""The first reference of a model that nobody gave one: of which days it is made, and what it may say."""

from collections.abc import Iterator
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from kedge.alerting.finding import Severity, Status
from kedge.alerting.loading import parse_rules
from kedge.config import Settings
from kedge.errors import BadInput, KedgeError
from kedge.pipeline.baselines import accept_baseline, baseline_in_use, list_baselines, use_baseline
from kedge.pipeline.feed import load_feed
from kedge.pipeline.provisional import DayCounts, acceptable, chosen_days, enough, local_days
from kedge.records import Prediction
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, parse_time
from tests.pipeline.world import MODEL, T0, World, settings, world

RULES = """
version: 1
defaults: {model: "*", window: 1d}
rules:
  - {name: inputs, kind: drift, by: [feature], severity: high}
  - {name: errors, metric: errors.rate, compare: {to: baseline}, rise: 2x, severity: high}
  - {name: failing, metric: errors.rate, above: 20%, severity: high}
"""


def days(*rows: int, **more: object) -> list[DayCounts]:
    return [DayCounts(Window(T0 + i * DAY, T0 + (i + 1) * DAY), n, **more) for i, n in enumerate(rows)]  # type: ignore[arg-type]


# --- which days ---------------------------------------------------------------------------------------------


def test_a_week_of_days_with_enough_rows_is_chosen() -> None:
    week = days(*[2_000] * 7)
    assert chosen_days(week) == [day.window for day in week]
    assert chosen_days(week[:6]) == []


def test_of_more_days_the_newest_are_chosen() -> None:
    many = days(*[2_000] * 20)
    assert chosen_days(many) == [day.window for day in many[-7:]]


def test_little_traffic_takes_more_days() -> None:
    few = days(*[400] * 30)
    chosen = chosen_days(few)
    assert enough(400 * len(chosen))
    assert not enough(400 * (len(chosen) - 1))
    assert chosen == [day.window for day in few[-len(chosen) :]]
    assert chosen_days(few[-20:]) == []


def test_a_reference_is_four_times_what_its_windows_need() -> None:
    assert [enough(rows) for rows in (0, 2_000, 9_500, 10_500)] == [False, False, False, True]


def test_days_with_few_rows_many_errors_or_without_a_feature_are_left_out() -> None:
    usual = {"amount": 1_900, "country": 2_000}
    held = days(*[2_000] * 8, errors=20, present=usual)
    launch = DayCounts(held[0].window, 150, 1, {"amount": 140, "country": 150})
    incident = DayCounts(held[1].window, 2_000, 300, usual)
    broken = DayCounts(held[2].window, 2_000, 20, {"amount": 1_400, "country": 2_000})
    silent = DayCounts(held[3].window)
    good = held[4:]
    assert acceptable([launch, incident, broken, silent, *good]) == good
    assert acceptable([]) == []
    assert acceptable([silent]) == []


def test_a_weekend_with_a_third_of_the_traffic_is_a_part_of_the_week() -> None:
    week = days(2_400, 2_400, 2_400, 2_400, 2_400, 800, 800)
    assert acceptable(week) == week


def test_days_are_those_of_the_time_zone_and_clocks_change() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    start, end = parse_time("2026-03-28T00:00:00Z"), parse_time("2026-03-31T00:00:00Z")
    found = list(local_days(start, end, berlin, MINUTE))
    assert [(w.start, w.length // HOUR) for w in found] == [
        (parse_time("2026-03-28T23:00:00Z"), 23),
        (parse_time("2026-03-29T22:00:00Z"), 24),
    ]
    assert [w.start for w in local_days(start, end, berlin, DAY)] == [start, start + DAY, start + 2 * DAY]


# --- in the tick --------------------------------------------------------------------------------------------


def rows(day: int, *, each: int = 2_000, moved: bool = False, failed: float = 0.01) -> Iterator[Prediction]:
    dice = np.random.default_rng(day)
    amount = dice.normal(3 if moved else 0, 1, each)
    bad = dice.random(each) < failed
    for i in range(each):
        at = T0 + day * DAY + i * DAY // each
        num, error = {"amount": float(amount[i])}, "Timeout" if bad[i] else None
        yield Prediction(
            id=f"{day}-{i}", timestamp=at, ingested=at, model=MODEL, cls="a", num=num, error_type=error
        )


def live(one: World, some: range, **how: object) -> None:
    for day in some:
        one.send(list(rows(day, **how)))  # type: ignore[arg-type]
        one.drain(T0 + (day + 1) * DAY + 2 * MINUTE)


@pytest.fixture
def one() -> Iterator[World]:
    with world(settings=settings(**{MODEL: {"bucket": "1h"}}), book=parse_rules(RULES)) as made:
        yield made


def test_a_model_gets_one_after_its_first_good_week_and_its_past_is_filled(one: World) -> None:
    live(one, range(6))
    assert baseline_in_use(one.store.state, MODEL) is None
    live(one, range(6, 7))
    (row,) = list_baselines(one.store.state, MODEL)
    assert (row["in_use"], row["provisional"], row["rows"]) == (True, True, 14_000)
    assert row["source"].startswith("automatic: 7 days to ")
    assert not load_feed(one.store.state).models[MODEL].history
    one.assert_exact()
    live(one, range(7, 9))
    assert len(list_baselines(one.store.state, MODEL)) == 1
    one.assert_exact()


def test_a_bad_day_is_left_out_of_it(one: World) -> None:
    live(one, range(3))
    live(one, range(3, 4), failed=0.5)
    live(one, range(4, 7))
    assert baseline_in_use(one.store.state, MODEL) is None
    live(one, range(7, 8))
    made = baseline_in_use(one.store.state, MODEL)
    assert made is not None
    assert made.rows == 14_000
    core = made.summaries[()].core
    assert core is not None
    assert core.errors < 250
    assert made.source.endswith(", 1 left out")
    one.assert_exact()


def test_what_compares_with_it_reaches_info_until_it_is_accepted(one: World) -> None:
    live(one, range(7))
    live(one, range(7, 9), moved=True, failed=0.4)
    for alert in (one.alert("inputs", feature="amount"), one.alert("errors")):
        assert (alert.status, alert.severity) == (Status.FIRING, Severity.INFO)
        assert alert.finding is not None
        assert "the baseline is provisional" in alert.finding.reason
        assert "kedge baseline accept fraud" in alert.finding.reason
        assert "provisional baseline " in alert.finding.reason
    assert one.alert("failing").severity is Severity.HIGH
    assert {m.headline.rpartition(" · ")[2] for m in one.notebook.messages} == {"failing"}

    before = baseline_in_use(one.store.state, MODEL)
    assert before is not None
    assert accept_baseline(one.store.state, MODEL) == before.id
    after = baseline_in_use(one.store.state, MODEL)
    assert after is not None
    assert (after.provisional, after.generation) == (False, before.generation)
    live(one, range(9, 10), moved=True, failed=0.4)
    assert one.alert("errors").severity is Severity.HIGH
    assert not list_baselines(one.store.state, MODEL)[0]["provisional"]
    one.assert_exact()


def test_choosing_one_by_name_accepts_it(one: World) -> None:
    with pytest.raises(BadInput, match="no baseline to accept"):
        accept_baseline(one.store.state, MODEL)
    live(one, range(7))
    (row,) = list_baselines(one.store.state, MODEL)
    use_baseline(one.store.state, MODEL, row["id"][:6])
    made = baseline_in_use(one.store.state, MODEL)
    assert made is not None
    assert not made.provisional


def test_two_workers_make_the_same_one(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one.send([row for day in range(7) for row in rows(day)])
    one.now = T0 + 7 * DAY + 2 * MINUTE
    slow, quick = one.worker(), one.worker()
    from kedge.pipeline import provisional

    made: list[str] = []
    build = provisional.build_baseline

    def overtaken(*args: object, **more: object) -> object:
        baseline = build(*args, **more)  # type: ignore[arg-type]
        made.append(baseline.id)
        if len(made) == 1:
            one.pipe = quick
            one.tick()
        return baseline

    monkeypatch.setattr(provisional, "build_baseline", overtaken)
    one.pipe = slow
    one.tick()
    one.drain()
    assert len(made) == 2
    assert len(set(made)) == 1
    assert [row["id"] for row in list_baselines(one.store.state, MODEL)] == [made[0]]
    one.assert_exact()


def test_neither_old_logs_nor_models_that_want_none_get_one() -> None:
    def made(now: Millis, **own: object) -> bool:
        with world(settings=settings(**{MODEL: {"bucket": "1h", **own}})) as one:
            one.send([row for day in range(7) for row in rows(day)])
            one.drain(now)
            return baseline_in_use(one.store.state, MODEL) is not None

    soon = T0 + 7 * DAY + 2 * MINUTE
    assert made(soon)
    assert not made(soon + 3 * DAY)
    assert not made(soon, baseline="off")
    assert not made(soon, baseline=False)
    assert not made(soon, timezone="Europe/Berlin")  # the first and the last of its days are not whole


def test_a_model_with_metrics_of_its_users_gets_one_too() -> None:
    given = settings(**{MODEL: {"bucket": "1h"}}).model_dump(exclude_unset=True)
    own = Settings.model_validate(
        given | {"metrics": {"timeouts": {"where": "error.type:Timeout", "stat": "count"}}}
    )
    with world(settings=own) as one:
        one.send([row for day in range(7) for row in rows(day)])
        one.drain(T0 + 7 * DAY + 2 * MINUTE)
        assert baseline_in_use(one.store.state, MODEL) is not None


def test_a_time_zone_is_checked_when_settings_load() -> None:
    with pytest.raises((KedgeError, ValueError), match='"Berlin" is not the name of a time zone'):
        settings(**{MODEL: {"timezone": "Berlin"}})
