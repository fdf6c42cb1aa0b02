"""What rules find in a series: an odd value fires, and says against what; a trend fires in time."""

from dataclasses import replace

import numpy as np
import pytest

from kedge.alerting.fields import Budget, Share
from kedge.alerting.finding import Finding, Severity, State
from kedge.alerting.inputs import Inputs
from kedge.alerting.loading import parse_rules
from kedge.alerting.rule import Rule
from kedge.analysis.series import Series
from kedge.sketch import Core, Labels, Moments, PartName, Summary
from kedge.windows import DAY, HOUR, WEEK, Millis, Window
from tests.alerting.make import rule, served

MONDAY: Millis = 1_789_948_800_000
"""A Monday, midnight UTC."""
assert (MONDAY // DAY + 4) % 7 == 1


def found(
    it: Rule, values: list[float] | np.ndarray, newest: Summary, fired: int = 0, **more: object
) -> Finding:  # type: ignore[type-arg]
    """On windows that end on that Monday at 14:00, of which the last so many fired, and the newest one."""
    window = it.window
    now = MONDAY + 14 * HOUR
    columns = np.asarray(values, np.float64)
    columns = columns if columns.ndim == 2 else columns[:, None]
    starts = now - window * np.arange(len(columns), 0, -1)
    firing = np.arange(len(columns)) >= len(columns) - fired
    series = Series(starts, columns, np.full(columns.shape, 100), window, now, firing, ongoing=fired > 0)
    inputs = Inputs(Window(now, now + window), newest, series=series)
    ((labels, finding),) = it.judge_all(replace(inputs, **more), now + window)  # type: ignore[arg-type]
    assert labels == {}
    return finding


def slow(ms: float, n: int = 100) -> Summary:
    return served([ms] * n)


# --- anomaly ------------------------------------------------------------------------------------------------

ODD = "kind: anomaly, metric: latency.mean, direction: up, history: 28d"


def weeks(level: float = 200.0, n: int = 28 * 24) -> np.ndarray:  # type: ignore[type-arg]
    """28 days of hours: calm at weekends, busy at noon on workdays."""
    rng = np.random.default_rng(1)
    at = MONDAY + 14 * HOUR - HOUR * np.arange(n, 0, -1)
    hour, workday = at % DAY // HOUR, (at // DAY + 3) % 7 < 5
    return level * (1 + np.where(workday & (hour > 8) & (hour < 18), 1.0, 0.0)) * rng.lognormal(0, 0.05, n)


def test_an_odd_value_fires_with_what_is_usual_at_that_time_of_the_week() -> None:
    odd = found(rule(f"{ODD}, severity: high"), weeks(), slow(560))
    assert (odd.state, odd.severity, odd.value) == (State.BREACH, Severity.HIGH, pytest.approx(560))
    assert odd.usual is not None
    low, high = odd.usual
    assert 340 < low < 400 < high < 460 < (odd.bound or 0) < 560
    assert odd.reason.startswith("latency.mean is 560 ms (n=100); usual on Mondays at 14:00: ")
    assert "(4 weeks, limit " in odd.reason
    assert odd.clears.startswith("back between ")


def test_what_is_usual_then_is_ok_though_it_would_be_odd_at_night() -> None:
    assert found(rule(ODD), weeks(), slow(400)).state is State.OK
    assert found(rule(ODD), weeks(), slow(150)).state is State.OK, "the direction is up"
    assert found(rule(ODD.replace("up", "both")), weeks(), slow(150)).state is State.BREACH
    assert found(rule(ODD.replace("up", "down")), weeks(), slow(150)).state is State.BREACH


def test_between_the_bound_and_what_is_usual_it_neither_fires_nor_clears() -> None:
    held = found(rule(ODD), weeks(), slow(560))
    assert held.usual is not None
    assert held.bound is not None
    between = found(rule(ODD), weeks(), slow((held.usual[1] + held.bound) / 2))
    assert (between.state, between.severity) == (State.HOLD, None)


def test_a_surely_unusual_change_that_is_small_is_not_told() -> None:
    calm = 200 + np.random.default_rng(2).normal(0, 0.5, 28 * 24)
    small = found(rule(ODD), calm, slow(210))
    assert small.state is State.OK
    assert "unusual, but by less than 10%" in small.reason
    assert found(rule(f"{ODD}, at_least: 5ms"), calm, slow(210)).state is State.BREACH


def test_a_rule_over_more_groups_must_be_surer_and_says_what_history_would_do() -> None:
    it = rule(f"{ODD}, severity: high")
    one = found(it, weeks(), slow(560), groups=1)
    many = found(it, weeks(), slow(900), groups=10)
    assert (one.severity, many.severity) == (Severity.HIGH, Severity.MEDIUM)
    assert "too short for this budget; `history: 298d` would do, or `budget: 10 per 30d`" in many.reason
    enough = found(rule(f"{ODD}, severity: high, budget: 10 per 30d"), weeks(), slow(900), groups=10)
    assert (enough.severity, "too short" in enough.reason) == (Severity.HIGH, False)
    assert (many.bound or 0) > (one.bound or 0)


def test_too_little_history_or_too_few_rows_are_insufficient() -> None:
    short = found(rule(ODD), weeks(n=5 * 24), slow(900))
    assert short.state is State.INSUFFICIENT
    assert "needs a history of 7d with 84 windows: it begins 5d ago, and 120 windows" in short.reason
    few = found(rule(f"{ODD}, min_count: 500"), weeks(), slow(900))
    assert (few.state, "under min_count 500" in few.reason) == (State.INSUFFICIENT, True)
    assert found(rule(ODD), weeks(), Summary(Core(), None, Labels())).state is State.NO_DATA


def test_counts_are_whole_and_never_usual_below_nothing() -> None:
    it = rule("kind: anomaly, metric: volume.count, direction: down")
    counts = np.random.default_rng(3).poisson(30, 28 * 24).astype(float)
    gone = found(it, counts, Summary(Core(), None, Labels()))
    assert (gone.state, gone.value) == (State.BREACH, 0)
    assert gone.usual is not None
    assert gone.usual[0] >= 0


@pytest.mark.parametrize(("method", "word"), [("ewma", "weighted mean"), ("cusum", "run length 720 windows")])
def test_charts_say_what_they_add_up(method: str, word: str) -> None:
    level = 200 * np.random.default_rng(4).lognormal(0, 0.05, 28 * 24)
    level[-8:] *= 1.12
    creeping = found(rule(f"{ODD}, method: {method}"), level, slow(226), 8)
    assert creeping.state is State.BREACH
    assert word in creeping.reason
    assert creeping.bound is None
    assert found(rule(ODD), level, slow(226), 8).state is not State.BREACH


def test_several_metrics_are_told_with_the_oddest_first() -> None:
    it = rule("kind: anomaly, metrics: [latency.mean, volume.count], method: isolation_forest")
    rng = np.random.default_rng(5)
    past = np.column_stack([200 * rng.lognormal(0, 0.05, 28 * 24), rng.poisson(100, 28 * 24)])
    odd = found(it, past, slow(600, 60))
    assert odd.state is State.BREACH
    assert [cause["name"] for cause in odd.causes] == ["latency.mean", "volume.count"]
    assert "600 ms (usual " in odd.causes[0]["text"]
    assert found(it, past, slow(200, 100)).state is State.OK
    assert it.parts == frozenset({PartName.CORE})


def test_a_rule_asks_for_its_history_and_when_it_fired() -> None:
    it = rule("kind: anomaly, metric: performance.recall, class: fraud, window: 1d, history: 56d")
    assert it.label_based
    assert it.step(HOUR) == DAY
    assert it.timing.remember == 56 * DAY + DAY + 2 * DAY
    assert rule(ODD.replace("28d", "8w")).timing.remember > 8 * WEEK


def test_a_budget_that_the_history_cannot_keep_is_warned_of_where_it_costs_something() -> None:
    assert rule(f"{ODD}, severity: high").warnings == ()
    short = "kind: anomaly, metric: latency.mean, history: 7d"
    assert rule(short).warnings == (), "medium is what it reaches"
    (warning,) = rule(f"{short}, severity: high").warnings
    assert (
        "cannot show what happens 1 per 30d, so it reaches `medium` at most: write `history: 28d`" in warning
    )
    assert warning.endswith("or `budget: 1 per 8d`")
    for way_out in ("budget: 1 per 8d", "budget: 10 per 30d"):
        assert rule(f"{short}, severity: high, {way_out}").warnings == ()
    forest = "kind: anomaly, metrics: [latency.mean, errors.rate], method: isolation_forest, history: 14d"
    (warning,) = rule(forest).warnings
    assert "nothing is judged" in warning


def test_a_share_that_the_history_cannot_show_is_told_with_both_ways_out() -> None:
    shared = rule(f"{ODD}, severity: high").with_share(Share(Budget().split(20), "team", 20))
    (warning,) = shared.warnings
    assert "a history of 28d cannot show what happens 1 per 600d" in warning
    assert warning.endswith("write `history: 598d`, or `budget: 1 per 30d`")
    odd = found(shared, weeks(), slow(900))
    assert odd.severity is Severity.MEDIUM
    assert odd.reason.endswith("`history: 598d` would do, or `budget: 1 per 30d`")
    stated = rule(f"{ODD}, severity: high, budget: 1 per 30d")
    assert stated.warnings == ()
    assert found(stated, weeks(), slow(900)).severity is Severity.HIGH
    longer = ODD.replace("28d", "598d")
    assert rule(f"{longer}, severity: high, budget: 1 per 600d").warnings == ()


# --- trend --------------------------------------------------------------------------------------------------

CLIMB = "kind: trend, metric: latency.mean, over: 7d, window: 6h, reaches: 500ms, within: 3d"


def line(start: float, a_day: float, noise: float = 4.0) -> np.ndarray:  # type: ignore[type-arg]
    """27 points, a quarter of a day each; the newest comes after them."""
    return start + a_day / 4 * np.arange(27) + np.random.default_rng(6).normal(0, noise, 27)


def test_a_credible_climb_fires_when_the_bound_is_near() -> None:
    near = found(rule(f"{CLIMB}, severity: high"), line(310, 20), slow(445))
    assert (near.state, near.severity, near.bound) == (State.BREACH, Severity.HIGH, 500)
    assert near.reason.startswith("latency.mean climbs 19.3 ms a day (95 %: ")
    assert " and reaches 500 ms in 2.8d (" in near.reason
    assert "once it no longer climbs, or takes more than 3.8d to 500 ms" in near.clears
    far = found(rule(CLIMB), line(200, 20), slow(335))
    assert far.state is State.OK
    assert "reaches 500 ms in 8.5d" in far.reason


def test_a_fall_towards_the_bound_of_a_metric_that_should_be_high() -> None:
    it = rule("kind: trend, metric: confidence.mean, over: 7d, window: 6h, reaches: 70%, within: 3d")
    sure = Summary(Core(rows=100, confidence=Moments.of([0.75] * 50 + [0.77] * 50)), None, Labels())
    falling = found(it, line(0.97, -0.03, 0.004), sure)
    assert falling.state is State.BREACH
    assert falling.reason.startswith("confidence.mean falls 3")
    assert "points a day" in falling.reason
    assert found(it, line(0.76, 0.0, 0.004), sure).state is State.OK


def test_what_may_be_chance_does_not_fire() -> None:
    noisy = found(rule(CLIMB), line(460, 1.0, 30), slow(465))
    assert noisy.state is not State.BREACH
    assert "may be chance" in noisy.reason


def test_a_line_that_is_past_the_bound_and_climbs_on_fires() -> None:
    past = found(rule(CLIMB), line(400, 20), slow(535))
    assert past.state is State.BREACH
    assert "past 500 ms" in past.reason


def test_too_few_points_are_insufficient() -> None:
    few = found(rule(CLIMB), line(300, 20)[:9], slow(435))
    assert few.state is State.INSUFFICIENT
    assert "needs 14 of 28 windows of 6h to show a trend: there are 10" in few.reason


def test_points_are_a_24th_of_the_time_unless_said() -> None:
    for over, window in (("7d", 6 * HOUR), ("1d", HOUR), ("30d", DAY)):
        fields = f"name: it, model: fraud, kind: trend, metric: latency.p95, over: {over}, reaches: 1s"
        (it,) = parse_rules(f"version: 1\nrules:\n- {{{fields}, within: 3d}}\n").rules
        assert it.window == window
