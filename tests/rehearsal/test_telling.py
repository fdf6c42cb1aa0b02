"""Messages of a test go the way that notify.yml says: routes, groups, mute times, and silences."""

from pathlib import Path

import pytest

from tests.rehearsal.test_cases import HEAD, run

RULES = """
version: 1
defaults: {model: fraud, window: 10m}
rules:
- {name: slow, metric: latency.p99, above: {medium: 200ms, high: 1s}, team: search}
- {name: errors, metric: errors.rate, above: 2%}
"""
NOTIFY = """
default: day
receivers:
  day: {terminal: {}}
  night: {terminal: {}}
  search: {terminal: {}}
route:
  receiver: day
  group_by: [model]
  group_wait: 5m
  group_interval: 10m
  repeat_interval: 1h
  routes:
  - {match: {team: search}, receiver: search, mute_times: [nights]}
time_intervals:
  nights: [{times: ["00:00-06:00"]}]
"""
SLOW = "  - {metric: latency.p99, values: 100ms 300msx30, n: 500}\n"
BAD = SLOW + "  - {metric: errors.rate, values: 0% 10%x30, n: 500}\n"


def passes(folder: Path, story: str) -> bool:
    (folder / "notify.yml").write_text(NOTIFY)
    text = HEAD.replace("tests:", "notify: notify.yml\ntests:") + f"- name: it\n{story}"
    report = run(folder, text, RULES)
    assert not report.problems, report.problems
    (result,) = report.results
    assert result.problem is None, result.problem
    assert not result.failures, result.failures
    return True


def test_a_group_waits_before_its_first_message_and_repeats_in_its_time(tmp_path: Path) -> None:
    story = f"""  start: 2026-01-05T12:00:00Z
  series:
{BAD}  expect:
  - {{at: 10m, messages: []}}
  - {{at: 15m, messages: [{{to: day, rule: errors, status: firing}}, {{to: search, rule: slow}}]}}
  - {{at: 1h, messages: []}}
  - {{at: 90m, messages: [{{to: day, rule: errors}}, {{to: search, rule: slow}}]}}
"""
    assert passes(tmp_path, story)


def test_nothing_is_told_in_a_mute_time_and_what_still_fires_after_it_is(tmp_path: Path) -> None:
    story = f"""  start: 2026-01-05T05:00:00Z
  series:
{SLOW}  expect:
  - {{at: 55m, alerts: [{{rule: slow}}], messages: []}}
  - {{at: 80m, messages: [{{to: search, rule: slow, status: firing}}]}}
"""
    assert passes(tmp_path, story)


@pytest.mark.parametrize("notify", [True, False])
def test_a_silence_keeps_an_alert_from_being_told_until_it_is_over(tmp_path: Path, notify: bool) -> None:
    story = f"""  start: 2026-01-05T12:00:00Z
  silences: [{{match: {{rule: slow}}, to: 40m}}]
  series:
{SLOW}  expect:
  - {{at: 35m, alerts: [{{rule: slow}}], messages: []}}
  - {{at: 55m, messages: [{{to: {"search" if notify else "default"}, rule: slow, status: firing}}]}}
"""
    if notify:
        assert passes(tmp_path, story)
        return
    report = run(tmp_path, f"{HEAD}- name: it\n{story}", RULES)
    assert [(result.problem, result.failures) for result in report.results] == [(None, [])]


def test_a_silence_that_cannot_be_is_told_with_its_place(tmp_path: Path) -> None:
    story = """- name: it
  silences:
  - {match: {rule: slow}, from: 1h, to: 40m}
  series: [{metric: latency.p99, values: 1ms}]
  expect: [{at: 5m, alerts: []}]
"""
    (problem,) = run(tmp_path, HEAD + story, RULES).problems
    assert str(problem) == "fraud.test.yml:5:5: to: a silence is over after it begins"
