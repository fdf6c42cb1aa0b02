"""A rule that is drafted is one that loads."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from kedge.alerting.draft import Draft, appended, worse
from kedge.alerting.loading import load_rules, parse_rules
from kedge.cli import cli


@pytest.mark.parametrize(
    "draft",
    [
        Draft("slow", "fraud", "latency.p95", "above", "200ms", for_="10m", by=("segment.endpoint",)),
        Draft("recall", "*", "performance.recall", "fall", "10%", label="yes, it is", notify="ml-oncall"),
        Draft("missing", "1.0", "quality.missing", "above", "5%", label="age", severity="high"),
        Draft("quiet", "fraud", "volume.count", "below", "1"),
    ],
)
def test_every_draft_loads_alone_and_after_others(draft: Draft) -> None:
    alone = appended("", draft.text())
    assert parse_rules(alone).problems == ()
    twice = appended(alone, draft.text().replace(f"name: {draft.name}", "name: another"))
    book = parse_rules(twice)
    assert (len(book.rules), book.problems) == (2, ())
    assert twice.startswith(alone)


def test_the_bad_side_of_a_metric_is_proposed() -> None:
    assert (worse("performance.recall"), worse("latency.p95")) == ("below", "above")


FLAGS = ["--name", "slow", "--model", "fraud", "--metric", "latency.p95", "--side", "above", "--bound"]


def test_the_command_appends_and_never_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "rules" / "fraud.yml"

    def ran(*more: str, answers: str = "") -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["rules", "new", str(file), *more], input=answers)
        return done.exit_code, done.output

    assert ran(*FLAGS, "200ms")[0] == 0
    first = file.read_text()
    assert ran(answers="errors.rate\n\nfraud\n\n2%\n")[0] == 0
    assert file.read_text().startswith(first)
    assert [rule.name for rule in load_rules([file]).rules] == ["slow", "errors-rate"]
    before = file.read_text()
    code, output = ran(*FLAGS, "200ms")
    assert code == 2
    assert "names are unique" in output
    code, output = ran("--name", "odd", *FLAGS[2:], "5pp")
    assert code == 2
    assert "goes with rise, fall or change" in output
    assert file.read_text() == before


def test_a_file_whose_rules_are_not_last_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "fraud.yml"
    file.write_text("rules: []\nversion: 1\n")
    done = CliRunner().invoke(cli, ["rules", "new", str(file), *FLAGS, "200ms"])
    assert done.exit_code == 2
    assert "fraud.yml" in done.output
    assert file.read_text() == "rules: []\nversion: 1\n"
