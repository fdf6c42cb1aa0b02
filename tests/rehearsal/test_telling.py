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


# --- acknowledgements ---------------------------------------------------------------------------------------

ESCALATED = NOTIFY.replace("  routes:", "  escalate: {after: 30m, to: night}\n  routes:").replace(
    ", mute_times: [nights]", ""
)
"""It fires at 6m, is told at 11m (a group waits 5m), and escalated at 41m."""
FIRES = """  - {at: 15m, messages: [{to: search, rule: slow, status: firing}]}
  - {at: 40m, messages: []}
"""


def escalates(folder: Path, story: str, notify: str = ESCALATED) -> tuple[str, ...]:
    """What was not as expected, by title and difference."""
    (folder / "notify.yml").write_text(notify)
    text = HEAD.replace("tests:", "notify: notify.yml\ntests:") + f"- name: it\n{story}"
    report = run(folder, text, RULES)
    assert not report.broken, report.broken
    (result,) = report.results
    return tuple(line for _, f in result.failures for line in (f.title, *f.diff))


def test_what_nobody_acknowledges_goes_to_the_next_receiver(tmp_path: Path) -> None:
    story = f"""  series:
{SLOW}  expect:
{FIRES}  - at: 50m
    messages: [{{to: night, rule: slow, status: firing, says: Nobody has acknowledged it}}]
"""
    assert escalates(tmp_path, story) == ()


@pytest.mark.parametrize("at", ["20m", "22m", "40m", "41m"])
def test_what_is_acknowledged_in_time_goes_to_nobody_else(tmp_path: Path, at: str) -> None:
    story = f"""  acks: [{{match: {{rule: slow}}, at: {at}, by: kim}}]
  series:
{SLOW}  expect:
  - {{at: 15m, alerts: [{{rule: slow}}], messages: [{{to: search, rule: slow, status: firing}}]}}
  - at: 2h
    alerts: [{{rule: slow, state: acknowledged}}]
    messages: [{{to: search, rule: slow, status: acknowledged, says: acknowledged by kim}}]
  strict: true
"""
    assert escalates(tmp_path, story) == ()


def test_an_acknowledgement_that_comes_too_late_takes_nothing_back(tmp_path: Path) -> None:
    story = f"""  acks: [{{match: {{team: search}}, at: 50m}}]
  series:
{SLOW}  expect:
{FIRES}  - {{at: 45m, messages: [{{to: night, rule: slow, status: firing}}]}}
  - {{at: 65m, messages: [{{to: search, status: acknowledged}}, {{to: night, status: acknowledged}}]}}
"""
    assert escalates(tmp_path, story) == ()


def test_of_two_alerts_the_one_that_is_not_acknowledged_escalates(tmp_path: Path) -> None:
    both = SLOW + "  - {metric: errors.rate, values: 0% 10%x30, n: 500}\n"
    notify = ESCALATED.replace("{match: {team: search}, receiver: search}", "{match: {team: nobody}}")
    story = f"""  acks: [{{match: {{rule: [slow, absent]}}, at: 20m}}]
  series:
{both}  expect:
  - {{at: 40m, alerts: [{{rule: slow, state: acknowledged}}, {{rule: errors}}]}}
  - {{at: 45m, messages: [{{to: night, rule: errors, says: errors}}]}}
"""
    assert escalates(tmp_path, story, notify) == ()


def test_without_routes_an_acknowledgement_is_told_at_once(tmp_path: Path) -> None:
    story = f"""  acks: [{{match: {{rule: slow}}, at: 5m}}, {{match: {{rule: slow}}, at: 20m}}]
  series:
{SLOW}  expect:
  - at: 5m
    messages: []
  - at: 20m
    messages:
    - {{to: default, rule: slow, status: firing}}
    - {{to: default, status: acknowledged, says: somebody}}
"""
    report = run(tmp_path, f"{HEAD}- name: it\n{story}", RULES)
    ((line, failure),) = report.results[0].failures
    assert (line, failure.title, failure.diff) == (4, "acks at 5m", ("- what has rule = slow fires",))


def test_an_acknowledgement_of_nothing_is_a_failure_that_shows_what_there_was(tmp_path: Path) -> None:
    story = f"""  acks: [{{match: {{rule: errors}}, at: 20m}}]
  series:
{SLOW}  expect: [{{at: 20m}}]
"""
    title, wanted, there = escalates(tmp_path, story)
    assert (title, wanted) == ("acks at 20m", "- what has rule = errors fires")
    assert there.startswith("+ slow firing medium: ")


@pytest.mark.parametrize(
    ("ack", "said"),
    [
        ("{at: 5m}", "4:10: needs `match`"),
        ("{match: {rule: slow}}", "4:10: needs `at`"),
        ("{match: {rule: slow}, at: soon}", '4:32: at: "soon" is not a duration (write 30s, 10m, 24h, 7d)'),
        ("{match: {Rule!: slow}, at: 5m}", '4:10: "Rule!" is no name of a label'),
        ("{match: {severity: loud}, at: 5m}", "4:10: severity: "),
        (
            "{match: {rule: slow}, at: 5m, buy: kim}",
            '4:40: unknown field "buy" (did you mean "by"?)',
        ),
        ("{match: {rule: slow}, at: -5m}", "3:3: at: a multiple of the bucket, 1m, from 0 on"),
        ("{match: {rule: slow}, at: 30s}", "3:3: at: a multiple of the bucket, 1m, from 0 on"),
        (
            "{match: {rule: slow}, at: 3h}",
            "3:3: acks: nothing is expected after the last of them: write an `expect` for it",
        ),
    ],
)
def test_an_acknowledgement_that_cannot_be_is_told_with_its_place(
    tmp_path: Path, ack: str, said: str
) -> None:
    story = f"- name: it\n  acks: [{ack}]\n  series:\n{SLOW}  expect: [{{at: 1h}}]\n"
    (problem,) = run(tmp_path, HEAD + story, RULES).broken
    assert str(problem).removeprefix("fraud.test.yml:").startswith(said)


def test_an_unknown_field_of_a_silence_is_told_with_the_fields_of_silences(tmp_path: Path) -> None:
    story = "- name: it\n  silences: [{match: {rule: slow}, too: 5m}]\n  series:\n" + SLOW
    found = run(tmp_path, HEAD + story + "  expect: [{at: 1h}]\n", RULES).problems
    assert 'fraud.test.yml:4:36: unknown field "too" (did you mean "to"?)' in map(str, found)


def test_an_acknowledgement_within_a_bucket_of_the_model_is_told_with_its_place(tmp_path: Path) -> None:
    story = """- name: it
  interval: 1h
  acks: [{match: {rule: daily}, at: 90m}]
  series: [{metric: errors.rate, values: 10%x5, n: 500}]
  expect: [{at: 4h}]
"""
    rules = RULES.replace("window: 10m", "window: 4h").replace("name: errors", "name: daily")
    (problem,) = run(tmp_path, HEAD + story, rules).broken
    assert str(problem) == 'fraud.test.yml:5:33: test "it": at: a multiple of the bucket, 1h'


@pytest.mark.parametrize(("at", "escalated"), [("94m", False), ("100m", True)])
def test_an_acknowledgement_counts_from_its_own_time_though_the_rule_was_judged_long_before(
    tmp_path: Path, at: str, escalated: bool
) -> None:
    """It is judged at each hour, fires at 1h, is told at 65m, and escalated at 95m."""
    (tmp_path / "notify.yml").write_text(ESCALATED)
    rules = RULES.replace("window: 10m", "window: 1d").replace("name: errors", "name: daily")
    night = "{to: night, rule: daily, status: firing}, {to: night, status: acknowledged}, "
    story = f"""- name: it
  interval: 1h
  bucket: 1m
  acks: [{{match: {{rule: daily}}, at: {at}}}]
  series: [{{metric: errors.rate, values: 10%x5, n: 6000}}]
  expect:
  - {{at: 70m, messages: [{{to: day, rule: daily, status: firing}}]}}
  - {{at: 2h, messages: [{night if escalated else ""}{{to: day, status: acknowledged}}]}}
"""
    report = run(tmp_path, HEAD.replace("tests:", "notify: notify.yml\ntests:") + story, rules)
    assert not report.broken, report.broken
    assert [line for _, f in report.results[0].failures for line in f.diff] == []
