"""`kedge rules import`: what is written, what is said, and what is never written over."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from kedge.alerting.loading import load_rules
from kedge.cli import cli

FREQUENCY = "name: many\ntype: frequency\nnum_events: 50\ntimeframe: {minutes: 10}\nalert: [debug]\n"
ALERTS = """groups:
- name: g
  rules:
  - {alert: busy, expr: 'sum(rate(req_total[5m])) > 1'}
  - {alert: other, expr: 'foo > 1'}
"""


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["rules", "import", *map(str, words)])


def test_the_rules_go_to_standard_output_and_the_report_beside_them(tmp_path: Path) -> None:
    (tmp_path / "many.yaml").write_text(FREQUENCY)
    done = run("elastalert", tmp_path, "--model", "fraud")
    assert done.exit_code == 0
    assert done.stdout.startswith("# Translated from rules of ElastAlert2.")
    assert "- name: many\n  metric: volume.count\n" in done.stdout
    assert "1 equal, 0 differs, 0 not possible" in done.stderr
    assert "spike of 0 over 0 never fires" in done.stderr


def test_a_file_is_written_once_and_what_is_impossible_is_found(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(ALERTS)
    out = tmp_path / "rules" / "moved.yml"
    words = ("prometheus", tmp_path / "alerts.yml", "--map", "req_total=volume.count", "--out", out)
    done = run(*words)
    assert done.exit_code == 1
    assert "1 not possible" in done.stdout
    assert "--map foo=errors.rate" in done.stdout
    book = load_rules([out])
    assert not book.problems
    assert [rule.name for rule in book.rules] == ["busy"]
    again = run(*words)
    assert again.exit_code == 2
    assert "is not written over" in again.stderr


def test_json_is_an_object_a_rule(tmp_path: Path) -> None:
    text = FREQUENCY + "filter: [{term: {error.type: timeout}}]\nrealert: {hours: 1}\n"
    (tmp_path / "many.yaml").write_text(text)
    done = run("elastalert", tmp_path, "--model", "fraud", "--json")
    (line,) = done.stdout.splitlines()
    said = json.loads(line)
    assert said["verdict"] == "differs"
    assert said["rules"] == ["many"]
    assert said["needs_metrics"] == {"many_rows": {"where": "error.type:timeout", "stat": "count"}}
    assert said["commented_out"] is True
    assert said["equal"] == ["fires with 50 events in 10m: `above: 49`"]
    assert "repeat_interval: 1h" in said["differs"][0]


def test_labels_in_brackets_are_shown(tmp_path: Path) -> None:
    (tmp_path / "many.yaml").write_text(FREQUENCY + "query_key: segment.country\n")
    assert "by: [segment.country]" in run("elastalert", tmp_path, "--model", "fraud").stderr


def test_a_mapping_that_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "many.yaml").write_text(FREQUENCY)
    done = run("elastalert", tmp_path, "--map", "country=nothing")
    assert done.exit_code != 0
    assert "THEIRS=OURS" in str(done.exception)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there are no rules" in run("elastalert", empty).stderr
