"""What `kedge rules check` warns of, and what it says that each receiver may expect."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from kedge.alerting.advice import Expected, expected
from kedge.cli import cli
from tests.alerting.make import rules


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("metric: errors.rate, above: 100%", "can never fire medium: errors.rate is never above 100 %"),
        ("metric: performance.accuracy, below: {medium: 50%, high: 0%}", "can never fire high"),
        ("metric: volume.count, below: 0", "volume.count is never below 0"),
        ("metric: errors.rate, compare: {to: baseline}, fall: 100%", "cannot fall by more than 100 %"),
        ("metric: errors.rate, compare: {to: baseline}, rise: 100pp", "cannot move by more than 100 points"),
        (
            "metric: errors.rate, above: 5%, window: 7d, for: 1h",
            "judged every 6h, and waits so long",
        ),
    ],
)
def test_what_is_rarely_meant_is_warned_of(line: str, said: str) -> None:
    (warning,) = rules(f"{{name: it, {line}}}").warnings
    assert said in warning.text
    assert warning.text.startswith('rule "it": ')


@pytest.mark.parametrize(
    "line",
    [
        "metric: errors.rate, above: 99%",
        "metric: performance.r2, below: 0",
        "metric: performance.bias, below: 0",
        "metric: volume.count, below: 1",
        "metric: errors.rate, compare: {to: baseline}, rise: 300%",
        "metric: errors.rate, above: 5%, window: 7d, for: 6h",
        "metric: errors.rate, above: 5%",
    ],
)
def test_what_may_be_meant_is_not(line: str) -> None:
    assert rules(f"{{name: it, {line}}}").warnings == ()


def test_two_rules_that_ask_the_same_are_told() -> None:
    book = rules(
        "{name: a, metric: errors.rate, above: 5%}\n"
        "{name: b, metric: errors.rate, above: 5%, for: 10m, notify: x}\n"
        "{name: c, metric: errors.rate, above: 6%}"
    )
    (warning,) = book.warnings
    assert warning.text == 'rule "b": asks the same as rule "a" at rules/a.yml:4: both will fire'


BUDGETS = (
    "{name: a, metric: errors.rate, above: 5%, notify: x}\n"
    "{name: b, metric: errors.rate, above: 6%, notify: x, budget: 2 per 60d}\n"
    "{name: c, metric: errors.rate, above: 7%, notify: x, severity: info}\n"
    "{name: d, metric: errors.rate, above: 8%, budget: 1 per 10d}\n"
    "{name: e, kind: drift, by: [feature], notify: x}"
)


def test_budgets_add_up_by_receiver_without_those_that_tell_nobody() -> None:
    assert expected(rules(BUDGETS).rules) == [Expected("", 1, 3.0), Expected("x", 2, 2.0)]


def test_the_command_tells_what_receivers_may_expect(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    lines = "\n".join(f"- {line}" for line in BUDGETS.splitlines())
    file.write_text(f"version: 1\ndefaults: {{model: fraud, window: 1h}}\nrules:\n{lines}\n")
    done = CliRunner().invoke(cli, ["rules", "check", str(file)])
    assert "x: 2 rules, 2.0 false alerts in 30 d at most" in done.output
    assert "the default receiver: 1 rule, 3.0 false alerts in 30 d at most" in done.output
    told = CliRunner().invoke(cli, ["rules", "check", str(file), "--json"]).output.splitlines()
    rows = [msgspec.json.decode(line) for line in told]
    assert {"receiver": "x", "rules": 2, "false_alerts_per_30d": 2.0} in rows
