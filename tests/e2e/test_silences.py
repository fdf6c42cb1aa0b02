"""Silences as a person uses them: added, seen on the alerts, ended by hand; wrong ones told in a sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kedge.store.base import Json
from kedge.windows import DAY, MINUTE, iso, parse_time
from tests.e2e.launcher import Done, Launcher

T0 = parse_time("2024-03-05T00:00:00Z")
RULES = """
version: 1
rules:
  - {name: failing, model: fraud, metric: errors.rate, window: 1h, above: 20%, team: risk, evidence: point}
  - {name: busy, model: fraud, metric: volume.count, window: 1h, above: 10, evidence: point}
"""
ROWS = [
    f'{{"id": "r{i}", "timestamp": "{iso(T0 + i * MINUTE)}", "class": "ok", "error.type": "Timeout"}}'
    for i in range(120)
]
Kedge = Callable[..., Done]


@pytest.fixture
def kedge_in(kedge: Launcher, tmp_path: Path) -> Kedge:
    """`kedge` in a folder with two alerts that fire."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "rules.yml").write_text(RULES)

    def run(*args: str, code: int = 0) -> Done:
        done = kedge(args, tmp_path, {"KEDGE_STORE": "duckdb:kedge.duckdb"})
        assert done.code == code, done
        assert "Traceback" not in done.err, done.err
        return done

    (tmp_path / "log.jsonl").write_text("\n".join(ROWS))
    run("import", "log.jsonl", "--model", "fraud")
    run("tick", "--drain", "--now", iso(T0 + 121 * MINUTE))
    return run


def by_rule(done: Done) -> dict[str, Json]:
    return {row["rule"]: row for row in done.rows}


def test_from_adding_a_silence_to_ending_it(kedge_in: Kedge) -> None:
    assert by_rule(kedge_in("alerts", "--json")).keys() == {"failing", "busy"}
    asked = ("team=risk", "severity<=medium", "--for", "2h", "--reason", "backfill", "--author", "kim")
    made = kedge_in("silence", "add", *asked, "--json").row
    assert (made["state"], made["author"], made["reason"]) == ("active", "kim", "backfill")
    assert made["match"] == {"team": "risk", "severity": "<= medium"}
    assert made["covers"] == 1

    alerts = by_rule(kedge_in("alerts", "--json"))
    assert alerts["failing"]["silenced"] == {name: made[name] for name in ("id", "author", "reason", "ends")}
    assert "silenced" not in alerts["busy"]
    assert alerts["failing"]["state"] == "firing"
    assert "firing (silenced)" in kedge_in("alerts").out

    assert kedge_in("silence", "list", "--json").rows == [{k: v for k, v in made.items() if k != "covers"}]
    assert "team = risk, severity <= medium" in kedge_in("silence").out
    assert kedge_in("silence", "expire", made["id"][:4], "--json").row["state"] == "expired"
    assert kedge_in("silence", "list", "--json").rows == []
    assert [row["state"] for row in kedge_in("silence", "list", "--all", "--json").rows] == ["expired"]
    assert "silenced" not in by_rule(kedge_in("alerts", "--json"))["failing"]


def test_what_is_no_silence_ends_with_two_and_a_sentence(kedge_in: Kedge) -> None:
    day = iso(T0 + DAY)
    for args, says in (
        (["add", "model=fraud", "--reason", "x"], "say how long"),
        (["add", "model=fraud", "--reason", "x", "--for", "1h", "--until", day], "say how long"),
        (["add", "model=fraud", "--reason", "x", "--until", day], "must end after it begins"),
        (["add", "model=fraud", "--reason", " ", "--for", "1h"], "an author and a reason"),
        (["add", "model=fraud", "--for", "1h"], "--reason"),
        (["add", "--reason", "x", "--for", "1h"], "CONDITIONS"),
        (["add", "fraud", "--reason", "x", "--for", "1h"], "is no condition"),
        (["add", "severity>=hihg", "--reason", "x", "--for", "1h"], 'did you mean "high"'),
        (["add", "model=a", "model=b", "--reason", "x", "--for", "1h"], "given twice"),
        (["add", "model=fraud", "--reason", "x", "--for", "soon"], "is not a duration"),
        (["expire", "beef"], "no silences begin with"),
    ):
        assert says in kedge_in("silence", *args, code=2).err
    assert kedge_in("silence").out == "no silences\n"


ROUTES = """
receivers:
  team: {terminal: {}}
  pager: {terminal: {}}
route:
  receiver: team
  group_by: [model]
  group_wait: 0
  routes:
    - {match: {team: risk}, receiver: pager, continue: true}
    - {receiver: team}
"""


def test_a_tick_tells_groups_by_the_tree_of_notify_yml(kedge: Launcher, tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "rules.yml").write_text(RULES)
    (tmp_path / "notify.yml").write_text(ROUTES)
    env = {"KEDGE_STORE": "duckdb:kedge.duckdb"}
    assert "3 routes" in kedge(["doctor"], tmp_path, env).out
    (tmp_path / "log.jsonl").write_text("\n".join(ROWS))
    kedge(["import", "log.jsonl", "--model", "fraud"], tmp_path, env)
    done = kedge(["tick", "--drain", "--now", iso(T0 + 121 * MINUTE)], tmp_path, env)
    assert done.code == 0, done
    assert "MEDIUM · 2 firing · model=fraud" in done.out
    # The pager is told of the one rule that is its team's, the team of both: a line each, and each by itself.
    assert done.out.count("MEDIUM · fraud · failing") == 3
    assert done.out.count("MEDIUM · fraud · busy") == 2
