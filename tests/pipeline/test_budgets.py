"""Rules are judged at the level of their share of the receiver's budget, which is fixed when rules load."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kedge.alerting.fields import Budget
from kedge.alerting.finding import State, Status
from kedge.alerting.routing import plain_routing
from kedge.pipeline.rulebook import RuleSource
from kedge.windows import MINUTE, SECOND
from tests.pipeline.world import T0, World, prediction, world

HEAD = "version: 1\nrules:\n"
FAILING = '  - {name: failing, model: "*", metric: errors.rate, window: 5m, above: 30%}\n'
"""Eight errors of eight rows are credibly more at the level of 1 per 30d, and not at a twentieth of it."""
OTHERS = "".join(
    f'  - {{name: other-{i}, model: "*", metric: latency.p95, window: 5m, above: {i + 1}s}}\n'
    for i in range(19)
)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[World]:
    with world() as made:
        made.pipe.rules = RuleSource(
            tmp_path, routing=lambda: made.pipe.receivers.tree, kept=made.store.state
        )
        yield made


def minute(one: World, m: int, n: int, *, failed: bool = True) -> None:
    one.send([prediction(m * 100 + i, T0 + m * MINUTE + i * SECOND, failed=failed) for i in range(n)])
    one.tick(T0 + (m + 2) * MINUTE)


def test_a_rule_alone_has_the_whole_budget_and_among_twenty_a_twentieth(one: World, tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(HEAD + FAILING)
    (tmp_path / "b.yml").write_text(HEAD + OTHERS)
    minute(one, 0, 8)
    assert str(one.pipe.rules().by_name["failing"].allowance) == "1 per 600d"
    assert one.notebook.messages == []
    minute(one, 1, 8)
    assert one.alert("failing").status is Status.FIRING, "sixteen of sixteen are enough for it"


def test_a_rule_that_is_added_while_another_fires_leaves_it_firing(one: World, tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(HEAD + FAILING)
    minute(one, 0, 8)
    fired = one.alert("failing")
    assert (fired.status, len(one.notebook.messages)) == (Status.FIRING, 1)
    (tmp_path / "b.yml").write_text(HEAD + OTHERS)
    minute(one, 1, 1)  # nine of nine: chance may be, at the level that it has now
    still = one.alert("failing")
    assert str(one.pipe.rules().by_name["failing"].allowance) == "1 per 600d"
    assert (still.status, still.started, still.signature) == (Status.FIRING, fired.started, fired.signature)
    assert still.finding is not None
    assert "with so few rows that may be chance" in still.finding.reason
    assert still.evaluated_through == fired.evaluated_through + MINUTE
    assert len(one.notebook.messages) == 1
    minute(one, 2, 40, failed=False)
    assert one.alert("failing").status is Status.RESOLVED


def test_late_rows_disprove_nothing_that_fired_at_a_larger_share(one: World, tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(HEAD + FAILING)
    minute(one, 0, 8)
    (tmp_path / "b.yml").write_text(HEAD + OTHERS)
    one.tick(T0 + 3 * MINUTE)
    one.send([prediction(50, T0 + 50 * SECOND, failed=True)])
    one.tick(T0 + 3 * MINUTE + 30 * SECOND)
    one.tick(T0 + 4 * MINUTE)
    now = one.alert("failing")
    assert now.finding is not None
    assert (now.finding.n, now.finding.state) == (9, State.HOLD), "nine of nine would not fire today"
    assert now.status is Status.FIRING, "it did fire, and the late row is no reason that it should not have"
    assert len(one.notebook.messages) == 1


def test_taking_rules_away_gives_the_others_their_shares_back(one: World, tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(HEAD + FAILING)
    (tmp_path / "b.yml").write_text(HEAD + OTHERS)
    assert str(one.pipe.rules().by_name["failing"].allowance) == "1 per 600d"
    (tmp_path / "b.yml").unlink()
    assert str(one.pipe.rules().by_name["failing"].allowance) == "1 per 30d"


def test_rules_of_a_broken_file_that_stay_in_force_keep_their_part(tmp_path: Path) -> None:
    source = RuleSource(tmp_path, routing=lambda: plain_routing("team", ("team",), {"team": Budget(2.0)}))
    (tmp_path / "a.yml").write_text(HEAD + FAILING)
    (tmp_path / "b.yml").write_text(HEAD + OTHERS)
    assert str(source().by_name["failing"].allowance) == "1 per 300d"
    (tmp_path / "b.yml").write_text(HEAD + OTHERS.replace("above", "abve"))
    book = source()
    assert book.kept
    assert {str(rule.allowance) for rule in book.rules} == {"1 per 300d"}


def test_an_edit_of_a_receivers_budget_changes_the_shares_and_nothing_else(tmp_path: Path) -> None:
    budget = 2.0
    source = RuleSource(tmp_path, routing=lambda: plain_routing("team", ("team",), {"team": Budget(budget)}))
    (tmp_path / "a.yml").write_text(HEAD + FAILING)
    (tmp_path / "b.yml").write_text(HEAD + OTHERS)
    before = source()
    assert source() is before
    budget = 40.0
    after = source()
    assert str(after.by_name["failing"].allowance) == "2 per 30d"
    signatures = [{rule.name: rule.signature for rule in book.rules} for book in (before, after)]
    assert signatures[0] == signatures[1]
