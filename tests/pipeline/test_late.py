"""Rows and labels that come after their windows were judged: alerts are put right, and what is over pages no
one."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from kedge.alerting.finding import Status
from kedge.alerting.loading import parse_rules
from kedge.pipeline.rulebook import RuleSource
from kedge.store.elastic import open_elastic
from kedge.windows import DAY, HOUR, MINUTE, SECOND
from tests.pipeline.world import T0, Crash, World, crash_at, prediction, truth, world
from tests.support.servers import remove_all

BOOK = """
version: 1
defaults: {model: "*", window: 5m}
rules:
  - {name: failing, metric: errors.rate, above: 30%, evidence: point}
  - {name: few, metric: volume.count, below: 10, evidence: point}
  - {name: wrong, metric: performance.accuracy, below: 60%, window: 2h, evidence: point}
"""


@pytest.fixture
def one() -> Iterator[World]:
    with world(book=parse_rules(BOOK)) as made:
        yield made


def rows(one: World, m: int, n: int, *, failed: bool, first: int = 0) -> None:
    one.send([prediction(m * 100 + first + i, T0 + m * MINUTE + i * SECOND, failed=failed) for i in range(n)])


def history(one: World) -> list[tuple[str, str | None]]:
    """Of the rule "failing": what it changed to, and how an episode ended where no step ended it."""
    events = [stored.value for stored in one.store.events.find().values()]
    mine = sorted(
        (e["step"], e["decided"], e["after"], e.get("ends")) for e in events if e["rule"] == "failing"
    )
    return [(after, ends) for _, _, after, ends in mine]


def minutes(one: World, upto: int, *, failing: tuple[int, ...] = ()) -> None:
    for m in range(upto):
        rows(one, m, 4, failed=m in failing)
        one.tick(T0 + (m + 2) * MINUTE)


def test_late_rows_disprove_an_alert(one: World) -> None:
    minutes(one, 8, failing=(6, 7))
    assert one.alert("failing").status is Status.FIRING
    rows(one, 6, 40, failed=False, first=10)
    one.tick(T0 + 10 * MINUTE)
    assert one.alert("failing").status is Status.RESOLVED
    message = one.notebook.messages[-1]
    assert message.headline.startswith("RESOLVED (DISPROVED)")
    assert any("disproved by late rows or labels" in line for line in message.lines)
    assert history(one) == [("firing", None), ("resolved", "disproved")]
    first = next(m for m in one.notebook.messages if "failing" in m.headline)
    assert message.incident == first.incident, "one thread"


def test_late_rows_fire_if_the_newest_step_breaches_with_them(one: World) -> None:
    minutes(one, 8)
    rows(one, 7, 30, failed=True, first=10)
    one.tick(T0 + 9 * MINUTE + 30 * SECOND)  # no new step: but late rows, and the model's turn
    one.drain()
    state = one.alert("failing")
    assert (state.status, state.evaluated_through) == (Status.FIRING, T0 + 8 * MINUTE)


def test_late_rows_of_steps_that_are_over_page_no_one(one: World) -> None:
    minutes(one, 20)
    rows(one, 10, 60, failed=True, first=10)
    report = one.tick(T0 + 22 * MINUTE)
    assert report.alerts.corrected == 0, "they are older than the window"
    rows(one, 16, 60, failed=True, first=10)
    report = one.tick(T0 + 23 * MINUTE)
    assert report.alerts.corrected > 0, "and the newest step, which is judged now, is not among them"
    assert one.alert("failing").status is Status.INACTIVE
    assert history(one) == []
    one.assert_exact()


def test_a_silence_that_was_none_is_taken_back(one: World) -> None:
    minutes(one, 6)
    one.tick(T0 + 13 * MINUTE)
    assert one.alert("few").status is Status.FIRING
    for m in range(6, 12):
        rows(one, m, 4, failed=False)
    one.tick(T0 + 13 * MINUTE + SECOND)
    one.drain()
    assert one.alert("few").status is Status.RESOLVED


def test_late_labels_disprove_an_alert(one: World) -> None:
    """Labels of the first hours are all but complete, and wrong; the rest of them come later, and right."""
    sent = [prediction(i, T0 + i * 2 * MINUTE) for i in range(120)]
    one.send(sent)
    one.label([truth(r.id, r.timestamp + SECOND, right=False) for r in sent[:116]])
    one.tick(T0 + 4 * HOUR + 2 * MINUTE)
    assert one.alert("wrong").status is Status.FIRING
    one.label([truth(r.id, r.timestamp + HOUR, right=True) for r in sent])
    one.drain(T0 + 4 * HOUR + 3 * MINUTE)
    assert one.alert("wrong").status is Status.RESOLVED
    assert one.notebook.messages[-1].headline.startswith("RESOLVED (DISPROVED)")


@pytest.mark.parametrize("server", ["elasticsearch", "opensearch"])
def test_on_a_server_alerts_are_put_right_and_broken_files_told_all_the_same(
    server: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url, prefix = request.getfixturevalue(f"{server}_url"), f"kedge-late-{secrets.token_hex(5)}"
    file = tmp_path / "rules.yml"
    file.write_text(BOOK)
    try:
        with world(open_store=lambda clock: open_elastic(url, prefix=prefix, clock=clock)) as one:
            one.pipe.rules = RuleSource(
                tmp_path, routing=lambda: one.pipe.receivers.tree, kept=one.store.state
            )
            minutes(one, 8, failing=(6, 7))
            assert one.alert("failing").status is Status.FIRING
            rows(one, 6, 40, failed=False, first=10)
            file.write_text(BOOK.replace("above", "abve"))
            one.restart()
            one.pipe.rules = RuleSource(
                tmp_path, routing=lambda: one.pipe.receivers.tree, kept=one.store.state
            )
            one.tick(T0 + 10 * MINUTE)
            assert history(one) == [("firing", None), ("resolved", "disproved")]
            assert one.alert("kedge.rules-broken", file=str(file)).status is Status.FIRING
    finally:
        remove_all(url, prefix)


@pytest.mark.parametrize("after", range(12))
def test_a_correction_is_made_once_however_often_its_worker_dies(after: int) -> None:
    with world(book=parse_rules(BOOK)) as one:
        minutes(one, 8, failing=(6, 7))
        rows(one, 6, 40, failed=False, first=10)
        for _ in range(2):
            try:
                with crash_at(after=after):
                    one.tick(T0 + 10 * MINUTE)
            except Crash:
                one.restart()
        one.tick(T0 + 11 * MINUTE)
        assert history(one) == [("firing", None), ("resolved", "disproved")]
        assert len([m for m in one.notebook.messages if "failing" in m.headline]) == 2


def test_a_step_that_a_slower_worker_judged_by_an_older_feed_is_judged_again(one: World) -> None:
    """A has read the feed; late rows come, B counts and corrects them; then A judges by what it has read."""
    minutes(one, 8, failing=(6, 7))
    slow, quick = one.worker(), one.worker()
    woke: list[int] = []

    def overtake(point: str) -> None:
        if point == "evaluate:folded" and not woke:
            woke.append(1)
            rows(one, 7, 60, failed=False, first=10)
            one.pipe = quick
            one.tick(T0 + 10 * MINUTE + SECOND)
            one.pipe = slow

    rows(one, 8, 4, failed=True)
    one.pipe = slow
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kedge.pipeline.changes.reach", overtake)
        one.tick(T0 + 10 * MINUTE)
    assert woke
    one.drain(T0 + 10 * MINUTE + 2 * SECOND)
    assert one.alert("failing").status is Status.RESOLVED
    one.assert_exact()


def test_only_steps_whose_windows_changed_are_judged_again(one: World) -> None:
    minutes(one, 8)
    judged = one.alert("failing")
    rows(one, 7, 1, failed=False, first=10)
    rows(one, 8, 1, failed=False)
    assert judged.past is not None
    report = one.tick(T0 + 10 * MINUTE)
    assert report.alerts.corrected == 2, "of two rules on rows, the one step that reaches into minute 7"


def test_where_nothing_is_late_no_step_is_judged_again(one: World) -> None:
    for m in range(8):
        rows(one, m, 4, failed=False)
        report = one.tick(T0 + (m + 2) * MINUTE)
        assert report.alerts.corrected == 0


def test_an_import_of_old_rows_makes_no_step_be_judged_again(one: World) -> None:
    minutes(one, 3)
    one.send([prediction(9_000 + i, T0 - 2 * DAY + i * SECOND, failed=True) for i in range(50)])
    report = one.tick(T0 + 5 * MINUTE)
    assert report.alerts.corrected == 0
    assert history(one) == []
