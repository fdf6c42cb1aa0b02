"""A backtest finds what the ticks found, stores nothing, and tells what an edit would change."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from kedge.alerting.finding import Transition
from kedge.alerting.loading import RuleBook, parse_rules
from kedge.analysis.maturity import BucketLabels
from kedge.cli import cli
from kedge.errors import BadInput, KedgeError
from kedge.rehearsal.backtest import Asked, backtest, differences, reports_of
from kedge.rehearsal.judging import as_of
from kedge.rehearsal.replay import Replay, Replayed
from kedge.sketch import DELAY
from kedge.store.duckdb import open_duckdb
from kedge.web.api import BacktestBody, backtest_of
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, iso
from tests.pipeline.world import MODEL, T0, World, prediction, settings, truth, world

RULES = """
version: 1
defaults: {model: "*"}
rules:
- {name: busy, metric: volume.count, window: 5m, above: {medium: 30, high: 60}, for: 2m, keep_firing: 3m}
- {name: failing, metric: errors.rate, window: 5m, by: [segment.region], above: 30%, evidence: point}
- {name: odd, metric: errors.rate, window: 5m, compare: {to: history, window: 1h}, rise: 2x, evidence: point}
- {name: silent, metric: volume.count, window: 2m, below: 1, no_data: alert, for: 3m}
- {name: wrong, metric: performance.accuracy, window: 10m, below: 70%, evidence: point, min_count: 5}
"""
SPAN = Window(T0, T0 + 2 * HOUR)


def history(one: World) -> None:
    """Two hours: a burst, errors, a silence, labels twenty minutes late; a tick every ten minutes."""
    i = 0
    rows: dict[Millis, list[Any]] = {}
    for minute in range(120):
        at = T0 + minute * MINUTE
        count = 15 if 40 <= minute < 60 else 0 if 100 <= minute < 110 else 4
        rows[at] = [
            prediction(i + k, at + k * 3_000, failed=(k % 2 == 0) if 70 <= minute < 80 else None)
            for k in range(count)
        ]
        i += count
    for minute in range(121):
        at = T0 + minute * MINUTE
        if at in rows:
            one.send(rows[at])
        late = rows.get(at - 20 * MINUTE, [])
        one.label([truth(r.id, at, right=not 30 <= minute < 60) for r in late])
        if minute % 10 == 0:
            one.tick(at + 30_000)
    one.drain(SPAN.end + MINUTE)


@pytest.fixture(scope="module")
def lived() -> Iterator[World]:
    book = parse_rules(RULES)
    with world(
        book=book, settings=settings(fraud={"bucket": "1m", "labels": {"mature_after": "30m"}})
    ) as one:
        history(one)
        yield one


def replay(one: World, book: RuleBook | None = None, window: Window = SPAN) -> Replayed:
    run = Replay(one.pipe, book or one.book, window)
    shares = list(run.run())
    assert shares == sorted(shares)
    assert shares[-1] == 1
    return run.found()


def test_two_processes_find_what_one_finds(lived: World) -> None:
    """Rules on summaries and on labels, composites with their parts, and one that cannot be judged."""
    text = f"""{RULES}
- {{name: both, kind: composite, all: [busy, failing], mute_parts: true}}
- {{name: any, kind: composite, any: [odd, silent]}}
- {{name: fast, metric: latency.p95, window: 10m, above: 1ms}}
- {{name: lacking, metric: errors.rate, window: 5m, by: [segment.nobody], above: 1%}}
"""
    book = parse_rules(text)
    book.raise_for_problems()
    one, two = (Replay(lived.pipe, book, SPAN, processes=n) for n in (1, 2))
    assert list(one.run()) == list(two.run())
    alone, shared = one.found(), two.found()
    assert {t.rule for t in alone.transitions} >= {"busy", "failing", "odd", "silent", "wrong"}
    assert shared == alone


def test_a_process_that_fails_ends_the_backtest_with_its_error(
    lived: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise KedgeError("the store is away")

    monkeypatch.setattr(lived.store, "read_many", broken)
    with pytest.raises(KedgeError, match="the store is away"):
        list(Replay(lived.pipe, lived.book, SPAN, processes=2).run())
    assert multiprocessing.active_children() == []


def order(transition: Transition) -> tuple[Any, ...]:
    return (transition.step, transition.alert, transition.id)


def test_a_backtest_finds_what_the_ticks_found(lived: World) -> None:
    """Every transition, at its step, with what was seen, though it judges hours at once."""
    events = lived.events()
    assert {e["rule"] for e in events} == {"busy", "failing", "odd", "silent", "wrong"}
    came = [msgspec.convert({**event, "decided": 0}, Transition) for event in events]
    found = [msgspec.structs.replace(t, decided=0) for t in replay(lived).transitions]
    assert sorted(found, key=order) == sorted(came, key=order)


def test_messages_are_those_that_were_sent(lived: World) -> None:
    """The ticks' own were delivered into the notebook."""
    sent = [(m.to, told.id) for m in replay(lived).messages for told in m.transitions]
    assert sorted(sent) == sorted(("notebook", m.transition) for m in lived.notebook.messages)


def test_nothing_is_stored(lived: World) -> None:
    def everything() -> list[Any]:
        stores = (lived.store.state, lived.store.alerts, lived.store.events, lived.store.outbox)
        return [{name: s.value for name, s in store.find().items()} for store in stores]

    before = everything()
    replay(lived)
    assert everything() == before


def test_a_rule_that_is_new_is_judged_over_all_of_the_past(lived: World) -> None:
    book = parse_rules(RULES.replace("name: busy", "name: busier"))
    reports = reports_of(book, replay(lived, book))
    assert reports["busier"].judged == SPAN.length
    (episode,) = reports["busier"].episodes
    assert (episode.severity.word, episode.end is not None) == ("high", True)
    assert reports["busier"].per_month == pytest.approx(30 * 24 / 2)
    assert "█" in reports["busier"].timeline(SPAN)
    assert reports["busier"].messages["notebook"] >= 2


def test_a_part_of_the_past_is_judged_alone(lived: World) -> None:
    found = replay(lived, window=Window(T0 + 90 * MINUTE, T0 + 2 * HOUR))
    assert "silent" in {t.rule for t in found.transitions}
    assert "busy" not in {t.rule for t in found.transitions}
    assert {w.length for (name, _), w in found.judged.items() if name == "busy"} == {30 * MINUTE}


def test_an_edit_is_held_against_what_was(lived: World) -> None:
    gone = RULES.replace("- {name: odd", "- {name: strange")
    edited = parse_rules(gone.replace("medium: 30, high: 60", "medium: 1000"))
    was, is_ = (reports_of(book, replay(lived, book)) for book in (lived.book, edited))
    by_name = {d.name: d for d in differences(is_, was)}
    assert (len(by_name["busy"].added), len(by_name["busy"].removed)) == (0, 1)
    assert by_name["busy"].messages < 0
    assert by_name["failing"].is_none
    assert by_name["strange"].old is None
    assert by_name["odd"].new is None


def test_a_grouping_that_the_past_does_not_have_is_told(lived: World) -> None:
    book = parse_rules(RULES.replace("segment.region", "segment.plan"))
    found = replay(lived, book)
    assert any("the past is not summarised by segment.plan" in note for note in found.notes)
    assert ("failing", MODEL) not in found.judged


def test_what_is_not_summarised_yet_is_told(lived: World) -> None:
    found = replay(lived, window=Window(T0, T0 + 2 * DAY))
    assert all(w.end <= T0 + 2 * DAY for w in found.judged.values())


@pytest.mark.parametrize(
    ("window", "said"),
    [
        (Window(T0 + HOUR, T0), "before it begins"),
        (Window(T0 - 2 * DAY, T0 - DAY), "nothing was logged then: what is summarised is from"),
    ],
)
def test_a_time_without_history_is_refused(lived: World, window: Window, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        next(iter(backtest(lived.pipe, Asked(lived.book, window))))


def test_a_rule_that_is_tried_alone_has_its_share_among_all(lived: World) -> None:
    more = "".join(f"- {{name: slow-{i}, metric: latency.p95, window: 5m, above: {i}s}}\n" for i in (1, 2, 3))
    body = BacktestBody(
        start=iso(SPAN.start), end=iso(SPAN.end), files={"a.yml": RULES + more}, rules=["slow-2", "busy"]
    )
    *_, last = backtest_of(lived.pipe, body, SPAN.end)
    assert {row["rule"]: row["budget"] for row in last["result"]["rules"]} == {
        "busy": None,
        "slow-2": "1 per 90d",
    }


def test_labels_count_from_when_they_came() -> None:
    """Half of them within a minute, half after two hours."""
    delay = DELAY.count([30_000.0] * 50 + [2.0 * HOUR] * 50)
    cohort = BucketLabels(T0, T0 + HOUR, 100, 100, delay)
    assert as_of(cohort, T0 + HOUR).labelled == 50
    assert as_of(cohort, T0 + 4 * HOUR).labelled == 100
    assert int(np.sum(as_of(cohort, T0 + HOUR).delay)) == 50
    assert int(cohort.delay.sum()) == 100


def test_the_command_prints_a_timeline_and_what_changes(tmp_path: Path) -> None:
    """In process, on a DuckDB file."""
    file = tmp_path / "kedge.duckdb"
    book = parse_rules(RULES)
    given = settings(fraud={"bucket": "1m", "labels": {"mature_after": "30m"}})
    with world(
        book=book, settings=given, open_store=lambda clock: open_duckdb(str(file), clock=clock)
    ) as one:
        history(one)
    (tmp_path / "kedge.yml").write_text(
        f"store: duckdb:{file}\nmodels: {{fraud: {{bucket: 1m, labels: {{mature_after: 30m}}}}}}\n"
    )
    (tmp_path / "now.yml").write_text(RULES)
    (tmp_path / "main.yml").write_text(RULES.replace("medium: 30, high: 60", "medium: 1000"))

    def ran(*more: str) -> tuple[int, str]:
        arguments = ["--config", str(tmp_path / "kedge.yml"), "rules", "backtest", str(tmp_path / "now.yml")]
        span = ["--from", "2026-09-21T00:00:00Z", "--to", "2026-09-21T02:00:00Z"]
        done = CliRunner().invoke(cli, [*arguments, *span, *more], catch_exceptions=False)
        return done.exit_code, done.output

    code, output = ran("--against", str(tmp_path / "main.yml"))
    assert code == 0
    assert "busy     ····" in output
    assert "1 alert, firing" in output
    assert "in 30 d (keeps no budget)" in output
    assert "busy: 1 alerts more, 0 fewer, +" in output
    assert "volume.count is" in output
    code, output = ran("--rule", "busy", "--json")
    (row,) = [msgspec.json.decode(line) for line in output.splitlines() if line.startswith("{")]
    assert (row["rule"], row["alerts"], row["judged_s"]) == ("busy", 1, 2 * 3_600)
