"""`*.test.yml`: what was to come is held against what the pipeline's own judging makes of the series."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from kedge.alerting.loading import Problem
from kedge.cli import cli
from kedge.rehearsal.running import Report, Result, junit, run_file

RULES = """
version: 1
defaults: {model: fraud, notify: ml-oncall}
rules:
- name: slow
  metric: latency.p99
  window: 10m
  by: [segment.endpoint]
  for: 10m
  keep_firing: 5m
  above: {medium: 200ms, high: 1s}
- {name: errors, metric: errors.rate, window: 10m, above: 2%}
- {name: many-errors, metric: errors.rate, window: 10m, compare: {to: history, window: 1d}, rise: 3x}
- {name: recall-fell, metric: performance.recall, window: 1h, compare: {to: baseline}, fall: 10%}
- {name: inputs, kind: drift, window: 1h, by: [feature], severity: medium}
- {name: silent, metric: volume.count, window: 5m, below: 1, no_data: alert, notify: other}
"""
HEAD = "rules: [fraud.yml]\ntests:\n"


def write(folder: Path, tests: str, rules: str = RULES) -> Path:
    (folder / "fraud.yml").write_text(rules)
    path = folder / "fraud.test.yml"
    path.write_text(tests)
    return path


def run(folder: Path, tests: str, rules: str = RULES) -> Report:
    report = Report()
    for one in run_file(write(folder, tests, rules), "fraud.test.yml"):
        (report.results if isinstance(one, Result) else report.problems).append(one)  # type: ignore[arg-type]
    return report


def one(folder: Path, story: str, rules: str = RULES) -> Result:
    """The result of a single test, without `name`."""
    report = run(folder, f"{HEAD}- name: it\n{story}", rules)
    assert not report.problems, report.problems
    (result,) = report.results
    assert result.problem is None, result.problem
    return result


def passes(folder: Path, story: str, rules: str = RULES) -> bool:
    result = one(folder, story, rules)
    return not result.failures


SLOW = "  series: [{metric: latency.p99, values: 100 300x5 100x5, n: 500, labels: {segment.endpoint: pay}}]\n"


def test_an_alert_pends_fires_and_resolves_and_each_message_is_known(tmp_path: Path) -> None:
    assert passes(
        tmp_path,
        SLOW
        + """
  expect:
  - {at: 5m, alerts: [], messages: []}
  - {at: 10m, alerts: [{rule: slow, state: pending}], messages: []}
  - at: 20m
    alerts: [{rule: slow, severity: medium, labels: {segment.endpoint: pay}, says: above 200 ms}]
    messages: [{to: ml-oncall, rule: slow, status: firing, severity: medium, says: endpoint=pay}]
  - {at: 1h, alerts: [{rule: slow, state: resolved}], messages: [{to: ml-oncall, status: resolved}]}
  strict: true
""",
    )


@pytest.mark.parametrize(
    ("expected", "diff"),
    [
        ("alerts: []", ["+ slow firing medium segment.endpoint=pay: latency.p99 is 300 ms"]),
        ("alerts: [{rule: slow, state: pending}]", ["- slow pending", "+ slow firing medium"]),
        ("alerts: [{rule: slow, severity: high}]", ["- slow firing high", "+ slow firing medium"]),
        (
            "alerts: [{rule: slow, labels: {segment.endpoint: search}}]",
            ["- slow firing segment.endpoint=search", "+ slow firing"],
        ),
        ("alerts: [{rule: slow, says: nonsense}]", ['- slow firing says "nonsense"', "+ slow firing"]),
        ("alerts: [{rule: slow}, {rule: errors}]", ["  slow firing", "- errors firing", "+ errors inactive"]),
        ("messages: []", ["+ to ml-oncall: slow firing medium"]),
        ("messages: [{to: other, rule: slow}]", ["- to other: slow", "+ to ml-oncall: slow firing"]),
        (
            "messages: [{to: ml-oncall, status: resolved}]",
            ["- to ml-oncall: resolved", "+ to ml-oncall: slow"],
        ),
        ("messages: [{to: ml-oncall}, {to: ml-oncall}]", ["  to ml-oncall: slow", "- to ml-oncall:"]),
    ],
)
def test_what_is_not_as_expected_is_shown_as_a_difference(
    tmp_path: Path, expected: str, diff: list[str]
) -> None:
    result = one(tmp_path, SLOW + f"  expect: [{{at: 30m, {expected}}}]\n")
    ((line, failure),) = result.failures
    assert line == 5
    for wanted in diff:
        assert any(text.startswith(wanted) for text in failure.diff), failure.diff
    assert len([t for t in failure.diff if t[0] != " "]) == len([t for t in diff if t[0] != " "])


def test_rules_that_are_not_named_are_left_alone_unless_strict(tmp_path: Path) -> None:
    story = SLOW + "  expect: [{at: 30m, alerts: [{rule: errors, state: inactive}]}]\n"
    assert passes(tmp_path, story)
    assert not passes(tmp_path, story + "  strict: true\n")


def test_strict_sees_what_fired_and_resolved_between_two_looks(tmp_path: Path) -> None:
    story = SLOW + "  expect: [{at: 1h, alerts: [{rule: errors, state: inactive}]}]\n"
    result = one(tmp_path, story + "  strict: true\n")
    assert [failure.title for _, failure in result.failures] == ["strict: nothing else may fire"]


def test_few_rows_are_no_evidence(tmp_path: Path) -> None:
    def story(n: int) -> str:
        return (
            f"  series: [{{metric: errors.rate, values: 5%x3, n: {n}}}]\n"
            "  expect: [{at: 15m, alerts: [{rule: errors}]}]\n"
        )

    assert not passes(tmp_path, story(20))
    assert passes(tmp_path, story(5_000))


def test_history_lies_before_the_test(tmp_path: Path) -> None:
    assert passes(
        tmp_path,
        """
  interval: 10m
  series:
  - {metric: errors.rate, values: 0.1%x143, n: 2000, from: -1d}
  - {metric: errors.rate, values: 1%x5, n: 2000}
  expect: [{at: 0, alerts: []}, {at: 30m, alerts: [{rule: many-errors, says: the 1d before}]}]
""",
    )


def test_a_baseline_is_what_is_compared_with(tmp_path: Path) -> None:
    assert passes(
        tmp_path,
        """
  interval: 1h
  baseline: [{metric: performance.recall, value: 80%, n: 5000}]
  series: [{metric: performance.recall, values: 80%x2 50%x2, n: 500}]
  expect: [{at: 3h, alerts: []}, {at: 5h, alerts: [{rule: recall-fell}]}]
""",
    )


def test_a_feature_drifts_by_an_effect(tmp_path: Path) -> None:
    assert passes(
        tmp_path,
        """
  interval: 1h
  series: [{drift: age, values: 0x1 0.4x1, n: 5000}, {drift: income, values: 0x3}]
  expect: [{at: 2h, alerts: []}, {at: 4h, alerts: [{rule: inputs, labels: {feature: age}}]}]
""",
    )


def test_a_series_that_ends_is_missing_data(tmp_path: Path) -> None:
    assert passes(
        tmp_path,
        """
  series: [{metric: volume.count, values: 500x3 _x3 500}]
  expect:
  - {at: 20m, alerts: []}
  - {at: 30m, alerts: [{rule: silent}], messages: [{to: other, status: firing}]}
""",
    )


def test_a_whole_number_of_a_hexadecimal_look_is_a_series(tmp_path: Path) -> None:
    """YAML reads 0x3 as 3."""
    assert passes(
        tmp_path,
        "  series: [{metric: errors.rate, values: 0x3, n: 1000}]\n  expect: [{at: 20m, alerts: []}]\n",
    )


def test_rows_without_a_dimension_are_in_no_group_of_it(tmp_path: Path) -> None:
    assert passes(
        tmp_path,
        """
  series: [{metric: latency.p99, values: 900x6, n: 500}]
  expect: [{at: 30m, alerts: [{rule: slow, state: inactive}]}]
  strict: true
""",
    )


def test_messages_go_where_notify_yml_says(tmp_path: Path) -> None:
    """Its secrets are not needed."""
    (tmp_path / "notify.yml").write_text(
        "default: ml-oncall\n"
        'receivers: {ml-oncall: {slack: {channel: "#ml", token_env: NOT_SET}}, console: {terminal: {}}}\n'
    )
    story = f"{HEAD}- name: it\n{SLOW}  expect: [{{at: 30m, messages: [{{to: ml-oncall, rule: slow}}]}}]\n"
    report = run(tmp_path, f"notify: notify.yml\n{story}")
    assert [result.passed for result in report.results] == [True]


BAD = """rules: [fraud.yml, nope.yml]
tests:
- name: x
  interval: 5q
  serie: []
  series:
  - {metric: latency.p98, values: 1}
  - {metric: performance.auc, values: 1}
  - {metric: errors.rate, values: 1y3, labels: {region: eu}}
  - {metric: class.share, values: 1}
  expect: [{at: 5m, alerts: [{rul: slow, state: fring}]}]
"""


def test_every_error_of_a_file_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    found = [str(p).removeprefix("fraud.test.yml:") for p in run(tmp_path, BAD).problems]
    assert found == [
        '4:3: interval: "5q" is not a duration (write 30s, 10m, 24h, 7d)',
        '5:3: unknown field "serie" (did you mean "series"?)',
        '7:5: unknown metric "latency.p98" (did you mean latency.p99 or latency.p95?)',
        next(t for t in found if t.startswith("8:5: no rows can be made with a given performance.auc;")),
        (
            '9:49: "region" is not a dimension (did you mean "segment.region"? Allowed: version, service, '
            "host, segment.NAME)"
        ),
        "10:5: class.share is of one class: write `labels: {class: NAME}`",
        "11:30: needs `rule`",
        '11:31: unknown field "rul" (did you mean "rule"?)',
        '11:42: state: "fring" is not allowed (did you mean "firing"?)',
    ]


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ("[]", "1:1: a test file is a map with `rules:` and `tests:`"),
        ("tests: [", "1:9: "),
        (
            f"rules: [nope.yml]\ntests:\n- name: it\n{SLOW}  expect: [{{at: 5m}}]\n",
            "1:9: there is no file nope.yml",
        ),
        (
            f"{HEAD}- name: it\n{SLOW}  expect: [{{at: 5m, alerts: [{{rule: slw}}]}}]\n",
            '5:31: test "it": there is no rule "slw"',
        ),
        (
            f"{HEAD}- name: it\n{SLOW}  expect: [{{at: 90s}}]\n",
            "3:3: at: a multiple of the bucket, 1m, from 0 on",
        ),
        (f"{HEAD}- name: it\n{SLOW}  expect: [{{at: 5m}}, {{at: 5m}}]\n", "3:3: expect: in order of time"),
        (f"{HEAD}- name: it\n{SLOW}  bucket: 1h\n  interval: 1h\n  expect: [{{at: 1h}}]\n", "5:3: test"),
        (
            f"{HEAD}- name: it\n  series: [{{metric: errors.rate, values: 1%, n: 9}}]\n  expect: [{{at: 0}}]",
            '4:3: test "it": errors.rate of n=9 rows comes out as 0 %, not 1 %: give more rows',
        ),
    ],
)
def test_what_cannot_be_run_is_told_with_its_place(tmp_path: Path, tests: str, said: str) -> None:
    report = run(tmp_path, tests)
    assert [str(p).removeprefix("fraud.test.yml:")[: len(said)] for p in report.broken] == [said]


def test_problems_of_the_rules_are_told_as_their_files_have_them(tmp_path: Path) -> None:
    found = run(
        tmp_path, f"{HEAD}- name: it\n{SLOW}  expect: [{{at: 5m}}]\n", RULES.replace("above: 2%", "abve: 2%")
    )
    assert [type(p) for p in found.problems] == [Problem]
    assert not found.results


def test_the_command_prints_dots_and_differences_and_exits_by_what_was_found(tmp_path: Path) -> None:
    good = f"{HEAD}- name: good\n{SLOW}  expect: [{{at: 30m, alerts: [{{rule: slow}}]}}]\n"
    bad = f"- name: bad\n{SLOW}  expect: [{{at: 30m, alerts: []}}]\n"

    def ran(*more: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["rules", "test", str(tmp_path), *more])
        return done.exit_code, done.output

    write(tmp_path, good)
    code, output = ran()
    assert code == 0
    assert "fraud.test.yml ." in output
    assert "1 passed in" in output
    write(tmp_path, good + bad)
    code, output = ran("--junit", str(tmp_path / "report.xml"))
    assert code == 1
    assert "fraud.test.yml .F" in output
    assert "    + slow firing medium segment.endpoint=pay" in output
    suite = ET.parse(tmp_path / "report.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert [case.find("failure") is not None for case in suite] == [False, True]
    write(tmp_path, good.replace("at: 30m", "at: 30q"))
    assert ran()[0] == 2


def test_a_report_tells_files_that_cannot_be_used(tmp_path: Path) -> None:
    root = ET.fromstring(junit(run(tmp_path, "[]")))
    assert root.find("testsuite/testcase/error") is not None


TODAY = """
version: 1
defaults: {model: fraud, window: today, timezone: Europe/Berlin}
rules:
- {name: many, metric: volume.count, above: 2450}
- {name: fewer, metric: volume.count, compare: {to: same_time}, fall: 30%, evidence: point}
"""


@pytest.mark.parametrize(
    ("midnight", "at", "resolved"),
    [
        ("2026-10-24T22:00:00Z", "25h", "26h"),  # the day of 25 hours, at its end
        ("2026-10-25T23:00:00Z", None, None),  # one of 24
        ("2026-03-28T23:00:00Z", None, None),
    ],
)
def test_the_day_so_far_is_counted_from_local_midnight(
    tmp_path: Path, midnight: str, at: str | None, resolved: str | None
) -> None:
    fires = f"- {{at: {at}, alerts: [{{rule: many}}]}}\n  - {{at: {resolved}, alerts: []}}" if at else ""
    story = f"""
  start: {midnight}
  interval: 1h
  series: [{{metric: volume.count, values: 100x30}}]
  expect:
  - {{at: 22h, alerts: []}}
  {fires}
  strict: true
"""
    assert passes(tmp_path, story, TODAY)


def test_the_day_so_far_is_compared_with_the_same_days_of_the_weeks_before(tmp_path: Path) -> None:
    """After noon a tenth of the usual rows: by 18:00 exactly 30 % of the day so far are lacking."""
    story = """
  start: 2026-06-07T22:00:00Z
  interval: 1h
  series:
  - {metric: volume.count, from: -28d, values: 100x671}
  - {metric: volume.count, values: 100x11 10x11}
  expect:
  - {at: 12h, alerts: []}
  - {at: 18h, alerts: []}
  - {at: 19h, alerts: [{rule: fewer, severity: medium, says: the same time of the last 4 weeks}]}
"""
    assert passes(tmp_path, story, TODAY)
