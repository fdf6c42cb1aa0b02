"""Which steps are judged, and by whom: new rules, new groups, old rows, workers that die or fall behind."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

from kedge.alerting.finding import Status
from kedge.alerting.loading import parse_rules
from kedge.alerting.routing import plain_routing
from kedge.errors import StoreUnavailable
from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.context import groupings_of
from kedge.pipeline.feed import load_feed
from kedge.pipeline.query import metric_series
from kedge.pipeline.reader import Ask
from kedge.pipeline.rulebook import RuleSource
from kedge.pipeline.schema import features_of
from kedge.pipeline.spooled import Gateway, tell
from kedge.sketch import PartName
from kedge.store.base import Changes, Json, PartRow, Stored, SummaryQuery
from kedge.windows import DAY, HOUR, MINUTE, SECOND, Window
from tests.pipeline.world import BY_PLAN, MODEL, RULES, T0, Crash, World, crash_at, prediction, truth, world

QUIET = """
version: 1
rules:
  - {name: silent, model: "*", metric: volume.count, window: 10m, below: 1, evidence: point}
  - {name: wrong, model: "*", metric: performance.accuracy, window: 10m, below: 60%, evidence: point}
"""


@pytest.fixture
def one() -> Iterator[World]:
    with world() as made:
        yield made


def minute(
    one: World, m: int, n: int = 5, *, failed: bool = False, right: bool = True, delay: int = SECOND
) -> None:
    """Rows and labels of minute m, and the tick that judges it."""
    rows = [prediction(m * 100 + i, T0 + m * MINUTE + i * SECOND, failed=failed) for i in range(n)]
    one.send(rows)
    one.label([truth(r.id, r.timestamp + delay, right=right) for r in rows])
    one.tick(T0 + (m + 2) * MINUTE)


# --- which steps --------------------------------------------------------------------------------------------


def test_an_import_of_old_rows_pages_no_one(one: World) -> None:
    one.book = parse_rules(QUIET)
    rows = [prediction(i, T0 + i * 10 * SECOND) for i in range(60)]
    one.send(rows)
    one.label([truth(r.id, r.timestamp + SECOND, right=False) for r in rows])
    one.drain(T0 + 5 * DAY)
    one.drain(T0 + 6 * DAY)
    one.assert_exact()
    assert one.alerts() == {}
    assert one.notebook.messages == []


def test_old_rows_of_a_model_that_is_watched_page_no_one_either(one: World) -> None:
    for m in range(3):
        minute(one, m)
    bad = [prediction(9_000 + i, T0 - 2 * DAY + i * SECOND, failed=True) for i in range(50)]
    one.send(bad)
    one.label([truth(r.id, r.timestamp + SECOND, right=False) for r in bad])
    minute(one, 3)
    one.assert_exact()
    assert one.notebook.messages == []


def test_a_new_rule_starts_at_the_last_step(one: World) -> None:
    for m in range(4):
        minute(one, m, failed=True)
    one.book = parse_rules(BY_PLAN)
    minute(one, 4)
    steps = {s.evaluated_through for s in one.alerts().values() if s.rule == "failing-plan"}
    assert steps == {T0 + 5 * MINUTE}
    fired = [e for e in one.events() if e["rule"] == "failing-plan"]
    assert {e["step"] for e in fired} == {T0 + 5 * MINUTE}


def test_an_outage_caught_up_later_fires_where_it_should_have(one: World) -> None:
    minute(one, 0)
    for m in range(1, 6):
        bad = m in (2, 3)
        one.send([prediction(m * 100 + i, T0 + m * MINUTE + i * SECOND) for i in range(30 if bad else 4)])
    one.drain(T0 + 8 * MINUTE)
    transitions = [(e["step"], e["after"]) for e in one.events() if e["rule"] == "busy"]
    assert transitions == [(T0 + 3 * MINUTE, "firing"), (T0 + 6 * MINUTE, "resolved")]


def test_drain_catches_up_however_many_steps_are_behind(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kedge.pipeline.evaluate.STEPS_A_TICK", 10)
    minute(one, 0)
    one.send([prediction(500, T0 + 58 * MINUTE)])
    one.drain(T0 + HOUR)
    assert one.alert("busy").evaluated_through == T0 + 59 * MINUTE


def test_judging_waits_for_a_window_that_is_not_summarised_yet(one: World) -> None:
    minute(one, 0)
    one.send([prediction(100 + i, T0 + MINUTE + i * SECOND) for i in range(30)])
    one.tick(T0 + 2 * MINUTE + 30 * SECOND)  # ended, but its lag is not over
    assert one.alert("busy").evaluated_through == T0 + MINUTE
    one.tick(T0 + 3 * MINUTE)
    assert one.alert("busy").status is Status.FIRING


def test_a_rule_on_labels_waits_for_the_labels(one: World) -> None:
    for m in range(3):
        minute(one, m, delay=2 * MINUTE)
    late = [prediction(300 + i, T0 + 3 * MINUTE + i * SECOND) for i in range(20)]
    one.send(late)
    one.tick(T0 + 5 * MINUTE)
    assert one.alert("wrong").evaluated_through == T0 + 3 * MINUTE
    assert one.alert("busy").evaluated_through == T0 + 4 * MINUTE
    one.label([truth(r.id, r.timestamp + 2 * MINUTE, right=False) for r in late])
    one.tick(T0 + 6 * MINUTE)
    assert one.alert("wrong").status is Status.FIRING


def test_a_window_shorter_than_the_base_bucket_is_told_and_not_judged(one: World) -> None:
    one.send([prediction(i, T0 + i * 10 * MINUTE) for i in range(20)])  # sparse: an hour
    report = one.tick(T0 + 5 * HOUR)
    assert any("shorter than the base bucket" in reason and "busy" in reason for reason in report.alerts.held)
    assert one.alerts() == {}


# --- new groups ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", range(6))
def test_groups_that_appear_together_are_all_judged_though_the_worker_dies_between_them(after: int) -> None:
    """Two plans appear in one step and breach in it. The first one's state must not hide the other's step."""
    with world(book=parse_rules(BY_PLAN)) as one:
        one.send([prediction(i, T0 + i * SECOND, failed=True) for i in range(12)])
        try:
            with crash_at("evaluate:swapped", after=after):
                one.tick(T0 + 2 * MINUTE)
        except Crash:
            one.restart()
        one.send([prediction(100 + i, T0 + MINUTE + i * SECOND, failed=False) for i in range(60)])
        one.tick(T0 + 3 * MINUTE)
        for plan in ("free", "paid"):
            fired = [
                e for e in one.events() if e["group"] == {"segment.plan": plan} and e["after"] == "firing"
            ]
            assert [e["step"] for e in fired] == [T0 + MINUTE], plan


def test_a_group_that_falls_silent_is_judged_on(one: World) -> None:
    for m in range(2):
        minute(one, m, n=12, failed=True)
    assert one.alert("failing", **{"segment.region": "us"}).status is Status.FIRING
    for m in range(2, 6):
        at = T0 + m * MINUTE
        one.send([prediction(m * 100 + i, at + i * SECOND, failed=False) for i in (1, 2, 3)])  # eu alone
        one.tick(at + 2 * MINUTE)
    silent = one.alert("failing", **{"segment.region": "us"})
    assert silent.evaluated_through == T0 + 6 * MINUTE
    assert silent.status is Status.FIRING  # no data is no recovery


# --- the past becomes due -----------------------------------------------------------------------------------


def _due(one: World) -> int:
    return len(load_feed(one.store.state).models[MODEL].dirty)


def test_a_new_grouping_makes_the_past_due_again(one: World) -> None:
    for m in range(5):
        minute(one, m)
    one.book = parse_rules(RULES + BY_PLAN.partition("rules:")[2])
    report = one.tick(T0 + 10 * MINUTE)
    assert report.summaries.buckets == 5
    assert _due(one) == 0
    one.assert_exact()
    assert any(key.grouping == ("segment.plan",) for key in one.stored_parts(MINUTE))


def test_a_grouping_that_is_no_longer_wanted_makes_nothing_due(one: World) -> None:
    for m in range(5):
        minute(one, m)
    one.book = parse_rules(QUIET)
    assert one.tick(T0 + 10 * MINUTE).summaries.buckets == 0
    minute(one, 5)
    one.book = parse_rules(RULES)
    one.tick(T0 + 11 * MINUTE)
    one.assert_exact()  # what was not counted in between is counted now


def test_a_new_baseline_makes_the_past_due_again(one: World) -> None:
    for m in range(5):
        minute(one, m)
    baseline = build_baseline(
        one.store,
        MODEL,
        Window(T0, T0 + 2 * MINUTE),
        features_of(one.store.state, MODEL),
        groupings_of(one.pipe, one.book, MODEL),
        source="two minutes",
        now=one.now,
    )
    import_baseline(one.store.state, baseline, use=True)
    assert one.tick(T0 + 10 * MINUTE).summaries.buckets == 5
    one.assert_exact()
    cells = [k for k in one.stored_parts(MINUTE) if k.part is PartName.CELLS]
    assert {k.edges for k in cells} == {baseline.edges.hash}


# --- several workers ----------------------------------------------------------------------------------------


def test_what_a_stalled_worker_counted_is_refused_once_another_counted_more(one: World) -> None:
    """A counts; newer rows arrive, B counts and writes them; A wakes and writes."""
    one.send([prediction(i, T0 + i * SECOND) for i in range(5)])
    stalled, other = one.worker(), one.worker()
    woke: list[int] = []

    def overtake(point: str) -> None:
        if point == "summarise:counted" and not woke:
            woke.append(1)
            one.send([prediction(10 + i, T0 + 30 * SECOND + i * SECOND) for i in range(7)])
            one.pipe = other
            one.tick(T0 + 2 * MINUTE + SECOND)
            one.assert_exact()
            one.pipe = stalled

    one.pipe = stalled
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kedge.pipeline.summarise.reach", overtake)
        report = one.tick(T0 + 2 * MINUTE)
    assert woke
    assert report.summaries.refused > 0
    one.assert_exact()
    assert _due(one) == 0
    (total,) = [p for k, p in one.stored_parts(MINUTE).items() if k.part is PartName.CORE and not k.group]
    assert getattr(total, "rows", None) == 12


def test_a_lease_spares_a_second_worker_the_work_until_it_expires(one: World) -> None:
    one.send([prediction(i, T0) for i in range(5)])
    with pytest.raises(Crash), crash_at("summarise:counted"):
        one.tick(T0 + 2 * MINUTE, lease=2 * MINUTE)
    # The crash of a test runs `finally`; a killed process does not.
    stored = one.store.state.get("lease:tick")
    assert stored is not None
    one.store.state.swap("lease:tick", stored.value | {"until": T0 + 4 * MINUTE}, stored.token)
    one.restart()
    assert one.tick(T0 + 3 * MINUTE, lease=2 * MINUTE).skipped
    assert not one.tick(T0 + 4 * MINUTE, lease=2 * MINUTE).skipped
    one.assert_exact()


def test_a_lease_from_a_clock_that_ran_ahead_does_not_stop_everything(one: World) -> None:
    with pytest.raises(Crash), crash_at("tick:labels-joined"):
        one.tick(T0 + DAY, lease=2 * MINUTE)
    stored = one.store.state.get("lease:tick")
    assert stored is not None
    one.store.state.swap("lease:tick", stored.value | {"until": T0 + DAY + 2 * MINUTE}, stored.token)
    one.restart()
    assert not one.tick(T0, lease=2 * MINUTE).skipped


def test_the_successor_of_an_embedded_worker_waits_for_no_lease() -> None:
    """Nobody else can hold the store: another holder of a lease is a dead one."""
    with world(sole_writer=True) as one:
        minute(one, 0)
        one.send([prediction(100 + i, T0 + MINUTE + i * SECOND) for i in range(30)])
        with pytest.raises(Crash), crash_at("deliver:attempting"):
            one.tick(T0 + 3 * MINUTE)
        one.restart()
        one.tick(T0 + 3 * MINUTE)
        assert [m.headline for m in one.notebook.messages] != []


# --- rule files ---------------------------------------------------------------------------------------------


def test_a_rule_file_that_is_broken_keeps_its_last_good_version(tmp_path: Path) -> None:
    file, other = tmp_path / "a.yml", tmp_path / "b.yml"
    file.write_text(QUIET)
    other.write_text(BY_PLAN)
    source = RuleSource(tmp_path, routing=lambda: plain_routing("", ()))
    assert {r.name for r in source().rules} == {"silent", "wrong", "failing-plan"}
    file.write_text(QUIET.replace("below: 1", "belw: 1"))
    book = source()
    assert {r.name for r in book.rules} == {"silent", "wrong", "failing-plan"}
    assert ["a.yml" in str(p) and "belw" in str(p) for p in book.problems] == [True]
    other.unlink()
    assert {r.name for r in source().rules} == {"silent", "wrong"}
    file.write_text(QUIET.replace("silent", "mute"))
    book = source()
    assert {r.name for r in book.rules} == {"mute", "wrong"}
    assert not book.problems


def test_the_same_files_are_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(QUIET)
    source = RuleSource(tmp_path, routing=lambda: plain_routing("", ()))
    assert source() is source()


def test_a_window_that_a_gateway_still_holds_rows_for_is_not_judged(one: World) -> None:
    """Its spool is drained later; until then nobody knows whether what is stored is all."""
    minute(one, 0)
    held = T0 + MINUTE + 30 * SECOND
    tell(one.store.state, Gateway("north", held, 40, 9_000, T0 + 2 * MINUTE))
    minute(one, 1)
    minute(one, 2)
    assert one.alert("busy").evaluated_through == T0 + MINUTE
    found = metric_series(one.pipe, MODEL, names=["volume.count"], width=MINUTE, now=one.now)
    assert [row["reason"] for row in found] == [None, "incomplete", "incomplete"]
    tell(one.store.state, Gateway("north", None, 0, 0, T0 + 5 * MINUTE))
    one.tick(T0 + 5 * MINUTE)
    assert one.alert("busy").evaluated_through > T0 + 2 * MINUTE


def test_a_spool_that_empties_after_the_changes_were_read_still_holds_its_windows(
    one: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are stored by then, but in no summary: the next tick finds and counts them."""
    minute(one, 0)
    tell(one.store.state, Gateway("north", T0 + MINUTE, 5, 900, T0 + 2 * MINUTE))
    changed = one.store.changed
    late = [prediction(900 + i, T0 + MINUTE + i * SECOND) for i in range(5)]

    def and_then_emptied(since: Json) -> Changes:
        found = changed(since)
        one.store.append(late)
        tell(one.store.state, Gateway("north", None, 0, 0, T0 + 2 * MINUTE))
        return found

    monkeypatch.setattr(one.store, "changed", and_then_emptied)
    minute(one, 1, n=0)
    assert one.alert("busy").evaluated_through == T0 + MINUTE, "it would have been judged to be silent"
    monkeypatch.setattr(one.store, "changed", changed)
    minute(one, 2)
    assert one.alert("busy").evaluated_through == T0 + 3 * MINUTE
    found = metric_series(one.pipe, MODEL, names=["volume.count"], width=MINUTE, now=one.now)
    assert [row["value"] for row in found] == [5, 5, 5]


def test_alerts_are_read_of_the_rules_that_have_a_step_to_judge(
    one: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installation may have tens of thousands, most of rules that are judged by the hour or the day."""
    one.book = parse_rules(
        QUIET
        + '  - {name: daily, model: "*", metric: errors.rate, window: 24h, above: 90%, evidence: point}\n'
    )
    for m in range(3):
        minute(one, m)
    read: list[set[str]] = []
    of_rules = one.store.alerts.of_rules

    def noted(rules: Collection[str]) -> dict[str, Stored]:
        read.append(set(rules))
        return of_rules(rules)

    monkeypatch.setattr(one.store.alerts, "of_rules", noted)
    minute(one, 3)
    assert read, "something is judged each minute"
    assert all("silent" in rules and "daily" not in rules for rules in read)
    one.tick(T0 + 2 * HOUR)
    assert "daily" in read[-1]


def test_what_a_store_that_failed_did_not_answer_is_asked_for_again(
    one: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker lives on, and so does what it has read."""
    for m in range(3):
        minute(one, m)
    reader, window = one.reading(), Window(T0, T0 + 3 * MINUTE)
    ask = Ask(MODEL, MINUTE, window, PartName.CORE, "", ())

    def fails(_queries: Sequence[SummaryQuery]) -> list[list[PartRow]]:
        raise StoreUnavailable("it is being restarted")

    with monkeypatch.context() as patch:
        patch.setattr(one.store, "read_many", fails)
        with pytest.raises(StoreUnavailable):
            reader.load([ask])
    reader.load([ask])
    assert sorted(reader.parts(MODEL, MINUTE, window, PartName.CORE)) == [T0, T0 + MINUTE, T0 + 2 * MINUTE]
