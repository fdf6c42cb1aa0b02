"""What `kedge rules check` warns of, and what it says that each receiver may expect."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

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
    "{name: d, metric: errors.rate, above: {medium: 8%, high: 9%}}\n"
    "{name: e, metric: volume.count, below: 1, notify: x}\n"
    "{name: f, metric: latency.p95, above: 1s, notify: x}"
)
NOTIFY = """\
receivers:
  x: {terminal: {}, budget: 3 per 30d}
  y: {terminal: {}}
  pager: {terminal: {}, budget: 1 per 90d}
route: {receiver: y, routes: [{match: {severity: high}, receiver: pager}]}
"""


def checked(folder: Path, *more: str) -> Result:
    """What `kedge rules check` says in a folder with a file of these rules."""
    lines = "\n".join(f"- {line}" for line in BUDGETS.splitlines())
    (folder / "a.yml").write_text(f"version: 1\ndefaults: {{model: fraud, window: 1h}}\nrules:\n{lines}\n")
    (folder / "kedge.yml").write_text(f"store: 'duckdb::memory:'\nnotify: {folder / 'notify.yml'}\n")
    return CliRunner().invoke(
        cli, ["--config", str(folder / "kedge.yml"), "rules", "check", str(folder / "a.yml"), *more]
    )


def test_the_command_tells_what_each_receiver_may_expect(tmp_path: Path) -> None:
    (tmp_path / "notify.yml").write_text(NOTIFY)
    assert checked(tmp_path).stdout.splitlines() == [
        "pager: 1 rule, 0.333 false alerts in 30 d at most (1 shares its budget of 1 per 90d)",
        (
            "x: 4 rules, 4 false alerts in 30 d at most (2 share its budget of 3 per 30d, 3 per 60d each; "
            "1 with a budget of its own; 1 that keeps none)"
        ),
        "y: 1 rule, 0.333 false alerts in 30 d at most (1 with its share of another receiver's)",
        "and 1 that tells nobody (info)",
        "6 rules in 1 file, 0 problems",
    ]
    rows = [msgspec.json.decode(line) for line in checked(tmp_path, "--json").stdout.splitlines()]
    assert rows[1:2] + rows[-1:] == [
        {
            "receiver": "x",
            "budget": "3 per 30d",
            "rules": 4,
            "sharing": 2,
            "share": "3 per 60d",
            "own_budget": 1,
            "no_budget": 1,
            "false_alerts_per_30d": 4.0,
        },
        {"rules": 6, "tell_nobody": 1, "problems": 0, "store": None, "not_asked": "it is in memory alone"},
    ]


def test_without_a_file_one_receiver_is_told_of_all_as_it_will_be(tmp_path: Path) -> None:
    assert checked(tmp_path).stdout.splitlines()[0] == (
        "the default receiver: 5 rules, 2 false alerts in 30 d at most (3 share its budget of 1 per 30d, "
        "1 per 90d each; 1 with a budget of its own; 1 that keeps none)"
    )


def test_a_file_of_receivers_that_is_wrong_fails_no_rule_and_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "notify.yml").write_text(NOTIFY.replace("3 per 30d", "often"))
    done = checked(tmp_path)
    assert (done.exit_code, done.stdout) == (0, "6 rules in 1 file, 0 problems\n")
    assert 'notify.yml:2:21: receivers.x.budget: "often" is not a budget (write 1 per 30d)' in done.stderr
    assert "what receivers may expect is not known until that is mended" in done.stderr
