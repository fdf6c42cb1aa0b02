"""What rules compare with besides the baseline: other windows and another version, by plain Python over the
rows as the oracle."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest

from kedge.alerting.finding import Finding, State, Status
from kedge.alerting.loading import RuleBook, parse_rules
from kedge.pipeline.dirty import Done
from kedge.pipeline.evaluate import evaluate_due
from kedge.pipeline.feed import clear, detect, load_feed
from kedge.pipeline.references import weeks_before
from kedge.records import Prediction
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, parse_time
from tests.pipeline.world import MODEL, T0, World, prediction, settings, world

BERLIN = ZoneInfo("Europe/Berlin")
BY_HOUR, BY_MINUTE = (settings(fraud={"bucket": bucket}) for bucket in ("1h", "1m"))


def book(*rules: str) -> RuleBook:
    lines = "\n".join(f"- {{evidence: point, {rule}}}" for rule in rules)
    found = parse_rules(f"version: 1\ndefaults: {{model: fraud}}\nrules:\n{lines}\n")
    assert not found.problems, found.problems
    return found


def hourly(hours: Iterable[Millis], n: int, failed: Callable[[Millis], int]) -> list[Prediction]:
    """n rows of each hour, of which so many failed: a sparse model, with base buckets of an hour."""
    return [
        prediction(hour // HOUR % 10_000 * 9 + i, hour + i * 7 * MINUTE, failed=i < failed(hour))
        for hour in hours
        for i in range(n)
    ]


def rate(rows: Iterable[Prediction]) -> float:
    held = [row.error_type is not None for row in rows]
    return sum(held) / len(held)


def between(one: World, start: Millis, end: Millis) -> list[Prediction]:
    return [row for row in one.rows.values() if start <= row.timestamp < end]


def found(one: World, rule: str, **group: str) -> Finding:
    finding = one.alert(rule, **group).finding
    assert finding is not None
    return finding


# --- the same time of other weeks ---------------------------------------------------------------------------


def test_the_same_time_is_that_of_the_clock_on_the_wall() -> None:
    """Berlin leaves summer time on 25 October 2026: 14:00 there is 12:00 UTC before, and 13:00 after."""
    window = Window(parse_time("2026-10-30T12:00Z"), parse_time("2026-10-30T13:00Z"))
    for weeks in range(1, 5):
        before = weeks_before(window, weeks, BERLIN, MINUTE, exact=True)
        local = [datetime.fromtimestamp(t / 1000, BERLIN) for t in before]
        assert [f"{at:%a %H:%M}" for at in local] == ["Fri 13:00", "Fri 14:00"]
        assert before.length == HOUR
        assert window.start - before.start == weeks * 7 * DAY + HOUR
        assert weeks_before(window, weeks, UTC, MINUTE, exact=True).start == window.start - weeks * 7 * DAY


def test_a_time_that_the_clock_left_out_still_gives_a_window_as_long() -> None:
    """On 29 March 2026 it was never 02:00 to 03:00 in Berlin."""
    window = Window(parse_time("2026-04-05T00:00Z"), parse_time("2026-04-05T01:00Z"))  # 02:00 to 03:00
    before = weeks_before(window, 1, BERLIN, MINUTE, exact=True)
    assert before == (parse_time("2026-03-29T00:00Z"), parse_time("2026-03-29T01:00Z"))


def test_what_is_no_count_is_read_by_whole_hours() -> None:
    window = Window(parse_time("2026-10-30T12:07Z"), parse_time("2026-10-30T12:17Z"))
    wide = weeks_before(window, 1, BERLIN, MINUTE, exact=False)
    assert wide == (parse_time("2026-10-23T11:00Z"), parse_time("2026-10-23T12:00Z"))


def same_time_rows(one: World, at: Window, weeks: Iterable[int]) -> list[list[Prediction]]:
    """By week: the rows whose local date is so many weeks earlier and whose local hour is in the window's."""
    locals_ = [datetime.fromtimestamp(t / 1000, BERLIN) for t in range(at.start, at.end, HOUR)]
    return [
        [
            row
            for row in one.rows.values()
            for local in [datetime.fromtimestamp(row.timestamp / 1000, BERLIN)]
            if any(
                local.date() == then.date() - timedelta(weeks=n) and local.hour == then.hour
                for then in locals_
            )
        ]
        for n in weeks
    ]


SAME = "compare: {to: same_time}, timezone: Europe/Berlin"


def test_same_time_is_the_median_of_four_weeks_across_the_end_of_summer_time() -> None:
    end = parse_time("2026-10-30T13:00Z")
    window = Window(end - 2 * HOUR, end)
    rules = book(
        f"name: failing, metric: errors.rate, window: 2h, {SAME}, change: 5pp",
        f"name: quiet, metric: volume.count, window: 2h, {SAME}, fall: 30%",
    )
    with world(book=rules, settings=BY_HOUR) as one:
        one.now = end + 2 * MINUTE
        hours = range(end - 30 * DAY, end, HOUR)
        one.send(hourly(hours, 5, lambda hour: hour // HOUR * 7 % 23 % 6))
        one.send([prediction(90_000 + n, window.start - n * 7 * DAY + MINUTE) for n in (1, 2)])
        one.drain(one.now)
        weeks = same_time_rows(one, window, range(1, 5))
        rates = sorted(map(rate, weeks))
        shown = found(one, "failing")
        assert len(set(rates)) > 1
        assert shown.reference == pytest.approx((rates[1] + rates[2]) / 2)
        assert shown.reference_n == sum(map(len, weeks))
        assert "the same time of the last 4 weeks (Fri 12:00 to Fri 14:00 Europe/Berlin" in shown.reason
        counts = sorted(map(len, weeks))
        assert found(one, "quiet").reference == (counts[1] + counts[2]) / 2


def test_one_week_alone_is_not_enough_and_no_rows_are_not_no_traffic() -> None:
    """The model began nine days ago: of the four weeks, one is there."""
    rules = book(
        f"name: failing, metric: errors.rate, window: 2h, {SAME}, change: 5pp",
        f"name: quiet, metric: volume.count, window: 2h, {SAME}, change: 5%",
    )
    with world(book=rules, settings=BY_HOUR) as one:
        one.now = T0 + 9 * DAY + 2 * MINUTE
        one.send(hourly(range(T0, T0 + 9 * DAY, HOUR), 3, lambda hour: 1))
        one.drain(one.now)
        for name in ("failing", "quiet"):
            shown = found(one, name)
            assert shown.state is State.INSUFFICIENT
            assert "2 windows are needed, and 1 can be used" in shown.reason


def test_minutes_weeks_back_are_counted_just_as_long_for_counts() -> None:
    """A model with base buckets of a minute and a window of ten: 23:51 to 00:01 of each week."""
    end = T0 + MINUTE
    rules = book("name: quiet, metric: volume.count, window: 10m, compare: {to: same_time}, fall: 3x")
    with world(book=rules, settings=BY_MINUTE) as one:
        one.now = end + MINUTE
        one.send([prediction(9_000, end - 29 * DAY)])
        for n in range(5):
            start = end - n * 7 * DAY - 20 * MINUTE
            one.send([prediction(n * 1_000 + i, start + i * 2_000) for i in range(600 - 30 * n)])
        one.drain(one.now)
        counts = [len(between(one, end - n * 7 * DAY - 10 * MINUTE, end - n * 7 * DAY)) for n in range(5)]
        assert counts == [300, 270, 240, 210, 180]
        shown = found(one, "quiet")
        assert (shown.value, shown.step) == (300, end)
        assert shown.reference == 225


# --- history ------------------------------------------------------------------------------------------------

HISTORY = book(
    "name: failing, metric: errors.rate, window: 2h, compare: {to: history, window: 24h}, rise: 2x"
)


def episode(hour: Millis) -> int:
    """One of six fails; from the 30th to the 33rd hour five do."""
    return 5 if T0 + 30 * HOUR <= hour < T0 + 34 * HOUR else 1


def run(one: World, hours: range, failed: Callable[[Millis], int], every: int = 1) -> None:
    for h in hours:
        at = T0 + h * HOUR
        one.now = max(one.now, at + HOUR)
        one.send(hourly([at], 6, failed))
        if h % every == 0:
            one.tick(at + HOUR + 2 * MINUTE)


def test_history_ends_where_the_window_begins_and_leaves_out_when_the_alert_fired() -> None:
    with world(book=HISTORY, settings=BY_HOUR) as one:
        run(one, range(42), episode)
        fired = [e["step"] for e in one.events() if e["after"] == "firing"]
        resolved = [e["step"] for e in one.events() if e["after"] == "resolved"]
        assert len(fired) == len(resolved) == 1
        shown = found(one, "failing")
        end = shown.window[0]
        left_out = range(fired[0] - HOUR, resolved[0])
        rows = [r for r in between(one, end - 24 * HOUR, end) if r.timestamp not in left_out]
        assert shown.reference == pytest.approx(rate(rows))
        assert shown.reference_n == len(rows) < len(between(one, end - 24 * HOUR, end))
        assert (
            f"the 1d before without {(resolved[0] - fired[0]) // HOUR + 1}h in which it fired" in shown.reason
        )


def test_each_alert_of_a_rule_has_a_history_of_its_own() -> None:
    """Amounts are missing for three hours: what fires for the amount is normal for the country."""
    rules = book(
        "name: gone, metric: quality.missing, by: [feature], window: 2h, "
        "compare: {to: history, window: 24h}, rise: 30pp"
    )
    bad = range(T0 + 10 * HOUR, T0 + 13 * HOUR)
    with world(book=rules, settings=BY_HOUR) as one:
        for h in range(20):
            at = T0 + h * HOUR
            rows = [msgspec.structs.replace(row, num={"amount": 1.0}) for row in hourly([at], 6, lambda _: 0)]
            one.now = max(one.now, at + HOUR)
            one.send([msgspec.structs.replace(r, num={}) if at in bad else r for r in rows])
            one.tick(at + HOUR + 2 * MINUTE)
        fired = [e["group"] for e in one.events() if e["after"] == "firing"]
        assert fired == [{"feature": "amount"}]
        (ended,) = [e["step"] for e in one.events() if e["after"] == "resolved"]
        began = one.alert("gone", feature="amount").fired_before[0][0] - HOUR
        start = found(one, "gone", feature="country").window[0]
        every = between(one, T0, start)
        assert found(one, "gone", feature="country").reference_n == len(every)
        own = [row for row in every if not began <= row.timestamp < ended]
        amount = found(one, "gone", feature="amount")
        assert (amount.reference_n, amount.reference) == (len(own), 0.0)


def test_an_alert_does_not_heal_itself_however_long_it_fires() -> None:
    with world(book=HISTORY, settings=BY_HOUR) as one:
        run(one, range(30 + 36), lambda hour: 5 if hour >= T0 + 30 * HOUR else 1)
        assert one.alert("failing").status is Status.FIRING
        shown = found(one, "failing")
        (fired,) = [e["step"] for e in one.events() if e["after"] == "firing"]
        rows = between(one, fired - HOUR - 24 * HOUR, fired - HOUR)
        assert (shown.reference, shown.reference_n) == (pytest.approx(rate(rows)), len(rows))


def test_when_it_is_judged_changes_nothing_of_what_is_found() -> None:
    def events(every: int) -> list[dict[str, object]]:
        with world(book=HISTORY, settings=BY_HOUR) as one:
            run(one, range(1), episode)
            run(one, range(1, 46), episode, every)
            one.tick(T0 + 46 * HOUR + 2 * MINUTE)
            return one.events()

    assert [e["after"] for e in events(1)] == ["firing", "resolved"]
    assert events(7) == events(1) == events(50)


def test_late_rows_of_the_history_count_from_the_next_step_on() -> None:
    with world(book=HISTORY, settings=BY_HOUR) as one:
        run(one, range(30), lambda hour: 1)
        before = found(one, "failing").reference
        late = [prediction(80_000 + i, T0 + 20 * HOUR + i, failed=True) for i in range(40)]
        one.send(late)
        run(one, range(30, 31), lambda hour: 1)
        shown = found(one, "failing")
        rows = between(one, shown.window[0] - 24 * HOUR, shown.window[0])
        assert {row.id for row in late} <= {row.id for row in rows}
        assert shown.reference == pytest.approx(rate(rows))
        assert shown.reference != before


def test_judging_waits_while_rows_of_the_history_are_not_summarised() -> None:
    with world(book=HISTORY, settings=BY_HOUR) as one:
        run(one, range(30), lambda hour: 1)
        through = one.alert("failing").evaluated_through
        run(one, range(30, 31), lambda hour: 1, every=1_000)
        one.send([prediction(80_000, T0 + 20 * HOUR, failed=True)])
        now = T0 + 31 * HOUR + 2 * MINUTE
        detect(one.pipe, now)
        # As if only the newest hour had been summarised: the late one is still due.
        feed = load_feed(one.store.state).models[MODEL]
        newest = {b: mark for b, mark in feed.dirty.items() if b == T0 + 30 * HOUR}
        assert T0 + 20 * HOUR in feed.dirty
        clear(one.store.state, {MODEL: Done(rows=newest)}, now)
        evaluate_due(one.pipe, one.book, now)
        assert one.alert("failing").evaluated_through == through
        one.tick(now)
        assert one.alert("failing").evaluated_through == through + HOUR


def test_a_history_without_rows_is_insufficient_and_says_so() -> None:
    with world(book=HISTORY, settings=BY_HOUR) as one:
        run(one, range(2), lambda hour: 1)
        shown = found(one, "failing")
        assert shown.state is State.INSUFFICIENT
        assert shown.reason.startswith("errors.rate has nothing to be compared with in the 1d before (")


# --- the window before, and another version -----------------------------------------------------------------


def test_the_window_before_is_just_before() -> None:
    rules = book(
        "name: failing, metric: errors.rate, window: 3h, compare: {to: previous}, rise: 2x",
        "name: quiet, metric: volume.count, window: 3h, compare: {to: previous}, fall: 2x",
    )
    with world(book=rules, settings=BY_HOUR) as one:
        run(one, range(12), lambda hour: hour // HOUR % 5)
        shown = found(one, "failing")
        start, end = shown.window
        rows = between(one, start - 3 * HOUR, start)
        assert shown.reference == pytest.approx(rate(rows))
        assert "the window before (" in shown.reason
        assert found(one, "quiet").reference == len(between(one, start - (end - start), start))


def test_a_version_is_compared_with_a_named_one_in_the_same_window_and_group() -> None:
    rules = book(
        "name: worse, metric: errors.rate, window: 3h, version: serving, by: segment.region, "
        "compare: {to: version, version: v1}, rise: 2x"
    )
    with world(book=rules, settings=BY_HOUR) as one:
        run(one, range(8), lambda hour: 1 + hour // HOUR % 3)
        alerts = [s for s in one.alerts().values() if s.rule == "worse"]
        assert {(a.version, a.group["segment.region"]) for a in alerts} == {("v2", "eu"), ("v2", "us")}
        for alert in alerts:
            shown = alert.finding
            assert shown is not None
            rows = [r for r in between(one, *shown.window) if r.version == "v1"]
            rows = [r for r in rows if r.segment["region"] == alert.group["segment.region"]]
            assert shown.reference == pytest.approx(rate(rows))
            assert f"version v1 in the same window (n={len(rows)})" in shown.reason


def test_a_version_without_rows_is_insufficient() -> None:
    rules = book(
        "name: worse, metric: errors.rate, window: 3h, version: v2, "
        "compare: {to: version, version: v9}, rise: 2x"
    )
    with world(book=rules, settings=BY_HOUR) as one:
        run(one, range(4), lambda hour: 1)
        (alert,) = one.alerts().values()
        assert alert.finding is not None
        assert alert.finding.state is State.INSUFFICIENT
        assert "version v9 in the same window (n=0)" in alert.finding.reason


def test_a_version_that_is_new_is_compared_with_the_history_of_all_versions_and_counts_are_not() -> None:
    of_v7 = "window: 2h, version: v7"
    rules = book(
        f"name: worse, metric: errors.rate, {of_v7}, compare: {{to: history, window: 24h}}, rise: 2x",
        f"name: jumped, metric: errors.rate, {of_v7}, compare: {{to: previous}}, rise: 2x",
        f"name: busier, metric: volume.count, {of_v7}, compare: {{to: previous}}, rise: 2x",
    )
    with world(book=rules, settings=BY_HOUR) as one:
        for h in range(9):
            at = T0 + h * HOUR
            rows = hourly([at], 6, lambda hour: hour // HOUR % 4)
            one.now = max(one.now, at + HOUR)
            one.send([msgspec.structs.replace(row, version="v7") if h >= 7 else row for row in rows])
            one.tick(at + HOUR + 2 * MINUTE)
        start = T0 + 7 * HOUR
        for name, since in (("worse", T0), ("jumped", start - 2 * HOUR)):
            (alert,) = [s for s in one.alerts().values() if s.rule == name]
            shown = alert.finding
            assert shown is not None
            assert shown.window == (start, start + 2 * HOUR)
            assert shown.reference == pytest.approx(rate(between(one, since, start)))
            assert ", of all versions)" in shown.reason
        (alert,) = [s for s in one.alerts().values() if s.rule == "busier"]
        assert alert.finding is not None
        assert (alert.finding.value, alert.finding.reference) == (12, 0)


# --- drift --------------------------------------------------------------------------------------------------


def test_drift_is_measured_against_the_rows_of_those_windows_on_the_baselines_edges() -> None:
    """Amounts rose after the baseline's day and have stayed: drift from it, and none from the day before."""
    drifts = [
        f"name: {name}, kind: drift, window: 6h, by: [feature], features: amount{more}"
        for name, more in (
            ("from-baseline", ""),
            ("from-history", ", compare: {to: history, window: 24h}"),
            ("from-same-time", ", compare: {to: same_time}"),
        )
    ]
    rules = parse_rules(
        "version: 1\ndefaults: {model: fraud}\nrules:\n" + "\n".join(f"- {{{rule}}}" for rule in drifts)
    )

    def rows(hour: Millis) -> list[Prediction]:
        made = [prediction(hour // HOUR % 10_000 * 100 + i, hour + i * 30_000) for i in range(100)]
        late = hour >= T0 + DAY
        return [msgspec.structs.replace(r, num={"amount": float(i) + 60 * late}) for i, r in enumerate(made)]

    with world(book=rules, settings=BY_HOUR) as one:
        one.now = T0 + 16 * DAY
        for hour in range(T0, T0 + 16 * DAY, 4 * HOUR):
            one.send(rows(hour))
        one.use_baseline(Window(T0, T0 + DAY), "the first day")
        one.drain(one.now + 2 * MINUTE)
        states = {s.rule: s.finding for s in one.alerts().values() if s.group == {"feature": "amount"}}
        assert states["from-baseline"].state is State.BREACH  # type: ignore[union-attr]
        shown = states["from-history"]
        assert shown is not None
        assert shown.value == pytest.approx(0, abs=1e-9)
        assert shown.reference_n == len(between(one, shown.window[0] - 24 * HOUR, shown.window[0]))
        assert "amount against the 1d before (" in shown.reason
        weeks = states["from-same-time"]
        assert weeks is not None
        start, end = weeks.window
        then = [between(one, start - n * 7 * DAY, end - n * 7 * DAY) for n in (1, 2)]
        assert weeks.reference_n == sum(map(len, then)) > 0
