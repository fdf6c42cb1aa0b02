"""`kedge notify`: checked without secrets, and asked who would be told."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from kedge.cli.notify import notify
from kedge.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = str(ROOT / "docs" / "examples" / "notify.yml")


def run(*args: str, code: int = 0) -> str:
    done = CliRunner().invoke(notify, args)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def test_a_file_is_checked_without_its_secrets() -> None:
    assert run("check", "--file", EXAMPLE) == "4 receivers, 6 routes, no problems\n"
    assert json.loads(run("check", "--file", EXAMPLE, "--json")) == {
        "receivers": 4,
        "routes": 6,
        "problems": 0,
    }


def test_what_is_wrong_is_told_with_its_place() -> None:
    with pytest.raises(BadInput, match=r'notify.bad.yml:8:3: route.receiver: there is no receiver "teem"'):
        run("check", "--file", str(ROOT / "tests" / "notify" / "examples" / "notify.bad.yml"))


def test_who_would_be_told_is_said_with_the_route_and_the_group() -> None:
    told = run("route", "--file", EXAMPLE, "model=churn", "severity=critical")
    first, second, third = told.splitlines()
    assert first.startswith("pager  (")
    assert "severity = critical; grouped by model=churn)" in first
    assert second == "  after 30m without an acknowledgement: lead"
    assert third.startswith("team  (")
    assert "silent in nights, weekends" in run("route", "--file", EXAMPLE, "team=fraud", "severity=low")
    assert "speaks only in office" in run("route", "--file", EXAMPLE, "model=test-1", "rule=slow")
    row = json.loads(run("route", "--file", EXAMPLE, "--json", "model=churn"))
    assert (row["receiver"], row["group"], row["repeat_interval"]) == ("team", {"model": "churn"}, "12h")
    assert json.loads(run("route", "--file", EXAMPLE, "--json", "--notify", "lead"))["receiver"] == "lead"


def test_a_word_that_is_no_label_is_named() -> None:
    assert '"fraud" is no label' in run("route", "--file", EXAMPLE, "fraud", code=2)


def test_the_schema_is_printed() -> None:
    assert run("schema") == (ROOT / "schema" / "notify.v1.json").read_text("utf-8")
