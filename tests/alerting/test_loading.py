"""Rule files: what people get wrong, and what they are told."""

import re
from pathlib import Path

import pytest

from kedge.alerting.finding import Severity
from kedge.alerting.kinds import KINDS
from kedge.alerting.loading import RuleBook, load_rules, parse_rules
from kedge.errors import BadInput
from kedge.windows import HOUR, MINUTE
from tests.alerting.make import EXAMPLES, rules

GOOD = "version: 1\nrules:\n- {name: quiet, model: fraud, metric: volume.count, window: 1h, below: 1}\n"
ROOT = EXAMPLES.parents[2]
EXAMPLED = [kind.KIND for kind in KINDS]


def problems(book: RuleBook) -> list[str]:
    return [str(problem) for problem in book.problems]


@pytest.mark.parametrize("kind", EXAMPLED)
def test_every_error_of_a_file_is_told_at_once_with_its_place(kind: str) -> None:
    book = load_rules([EXAMPLES / f"{kind}.bad.yml"])
    told = [re.sub(r"\S*/(?=\w+\.bad\.yml)", "", text) for text in problems(book)]
    assert told == (EXAMPLES / f"{kind}.bad.txt").read_text().splitlines()
    with pytest.raises(BadInput) as raised:
        book.raise_for_problems()
    assert str(raised.value).count("\n") == len(told) - 1


@pytest.mark.parametrize("kind", EXAMPLED)
def test_the_good_examples_load(kind: str) -> None:
    book = load_rules([EXAMPLES / f"{kind}.good.yml"])
    assert problems(book) == []
    others = {"threshold"} if kind == "composite" else set()  # what it is made of
    assert {rule.KIND for rule in book.rules} == {kind} | others


def test_the_ready_made_rules_cover_what_a_team_begins_with() -> None:
    book = load_rules([ROOT / "rules"])
    assert problems(book) == []
    assert {(rule.name, rule.lowest) for rule in book.rules} == {
        ("accuracy-fell", Severity.MEDIUM),
        ("accuracy-low", Severity.MEDIUM),
        ("inputs-drifted", Severity.HIGH),
        ("feature-drifted", Severity.INFO),
        ("classes-shifted", Severity.MEDIUM),
        ("slow", Severity.MEDIUM),
        ("no-traffic", Severity.MEDIUM),
    }
    assert all(rule.model == "*" and rule.description for rule in book.rules)


def test_a_rule_knows_where_it_is_written() -> None:
    (rule,) = parse_rules(GOOD, "rules/fraud.yml").rules
    assert (rule.place, rule.file) == ("rules/fraud.yml:3", "rules/fraud.yml")


def test_defaults_are_taken_unless_a_rule_says_otherwise() -> None:
    book = parse_rules(
        "version: 1\n"
        "defaults: {model: fraud, window: 1h, for: 10m, severity: low}\n"
        "rules:\n"
        "- {name: a, metric: volume.count, below: 1}\n"
        "- {name: b, metric: volume.count, below: 1, for: 0, model: other, severity: high}\n"
    )
    assert [(r.model, r.window, r.for_, r.lowest) for r in book.rules] == [
        ("fraud", HOUR, 10 * MINUTE, Severity.LOW),
        ("other", HOUR, 0, Severity.HIGH),
    ]


def test_a_wrong_default_is_told_once_and_where_it_stands() -> None:
    book = parse_rules(
        "version: 1\n"
        "defaults:\n"
        "  model: fraud\n"
        "  window: soon\n"
        "  metric: errors.rate\n"
        "rules:\n"
        "- {name: a, metric: volume.count, below: 1}\n"
        "- {name: b, metric: volume.count, below: 1}\n"
        "- {name: c, metric: volume.count, below: 1, window: 1h}\n"
    )
    assert problems(book)[0] == (
        'rules.yml:4:3: defaults: window: "soon" is not a duration (write 30s, 10m, 24h, 7d)'
    )
    assert problems(book)[1].startswith('rules.yml:5:3: defaults: unknown field "metric" (')
    assert len(book.problems) == 2
    assert [rule.name for rule in book.rules] == ["c"]


def test_words_that_old_yaml_takes_for_booleans_are_text() -> None:
    book = rules("{name: on, metric: class.share, class: yes, above: 5%, notify: no, model: off}")
    assert problems(book) == []
    assert (book.rules[0].name, book.rules[0].model, book.rules[0].notify) == ("on", "off", "no")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (
            "metric: latency.p95, above: 5%",
            "above: 5% does not fit latency.p95, which is a time: write 200ms or 1.5s",
        ),
        ("metric: latency.p95, above: 3x", "above: 3x compares: it goes with rise, fall or change"),
        ("metric: errors.rate, above: 5pp", "above: 5pp compares: it goes with rise, fall or change"),
        (
            "metric: errors.rate, above: 200ms",
            "above: 200ms does not fit errors.rate, which is a share: write 90% or 0.9",
        ),
        (
            "metric: errors.rate, above: 120%",
            "above: 120% does not fit errors.rate, which lies between 0 and 1",
        ),
        (
            "metric: volume.count, above: 5%",
            "above: 5% does not fit volume.count, which is a plain number: write it without a unit",
        ),
        (
            "metric: errors.rate, above: much",
            'above: "much" is not a number (write 0.9, 90%, 5pp, 3x or 200ms)',
        ),
        (
            "metric: errors.rate, above: .nan",
            'above: "nan" is not a number (write 0.9, 90%, 5pp, 3x or 200ms)',
        ),
        (
            "metric: errors.rate, above: true",
            'above: "True" is not a number (write 0.9, 90%, 5pp, 3x or 200ms)',
        ),
        ("metric: errors.rate, above: {}", "above: an empty ladder: write {medium: …, high: …}"),
        (
            "metric: latency.p95, compare: {to: baseline}, rise: {low: 5%, high: 3x}",
            "rise: 5% and 3x have different units: use one in a ladder",
        ),
        (
            "metric: latency.p95, compare: {to: baseline}, rise: 5pp",
            "rise: 5pp: points are for shares, and latency.p95 is none: write 5% (relative) or 3x",
        ),
        (
            "metric: latency.p95, compare: {to: baseline}, fall: -5%",
            "fall: a fall must be more than 0; the direction is in the field's name",
        ),
        ("metric: errors.rate, above: 5%, clear: 6%", "clear: 6% must be below the lowest bound, 5%"),
        ("metric: performance.f1, below: 0.9, clear: 0.8", "clear: 0.8 must be above the lowest bound, 0.9"),
        (
            "metric: errors.rate, compare: {to: baseline}, rise: 5%, clear: 1pp",
            "clear: 1pp is counted otherwise than the bound: give both in one unit",
        ),
        (
            "metric: volume.count, compare: {to: baseline}, fall: 50%",
            (
                "volume.count grows with the window, and that of a baseline or history is another: use above "
                "or below, or compare to same_time, previous or another version"
            ),
        ),
        (
            "metric: drift.psi, feature: age, compare: {to: baseline}, rise: 50%",
            "drift.psi is a comparison already: bound it with `above`",
        ),
        ("metric: errors.rate, above: 5%, class: a", "class: errors.rate is not of one class: leave it out"),
        ("metric: class.share, above: 5%", "class.share is of one class: write `class: NAME`"),
        (
            "metric: drift.psi, above: 0.2",
            "drift.psi is of one feature: write `feature: NAME` or `by: [feature]`",
        ),
        (
            "metric: errors.rate, above: 5%, by: [feature]",
            "errors.rate is not of one feature: `by: [feature]` does not fit",
        ),
        ("metric: errors.rate, above: 5%, by: [host, host]", "by: names a dimension twice"),
        (
            "metric: errors.rate, above: 5%, window: 10",
            'window: "10" is not a duration: write 30s, 10m, 24h or 7d (did you mean 10m?)',
        ),
        ("metric: errors.rate, above: 5%, window: 0s", "window: a window must be longer than 0"),
        (
            "metric: errors.rate, above: 5%, budget: often",
            'budget: "often" is not a budget (write 1 per 30d)',
        ),
        ("metric: errors.rate, above: 5%, min_count: -1", "min_count: must be greater than or equal to 0"),
        (
            "metric: accuracy, below: 5%",
            'metric: unknown metric "accuracy" (did you mean performance.accuracy or estimated.accuracy?)',
        ),
        (
            "metric: estimated.f1, below: 80%, severity: high",
            (
                "below: estimated.* alone reaches at most medium: it assumes that labels still follow "
                "from the inputs as they did in the reference. Write high on performance.*, which has the "
                "labels"
            ),
        ),
    ],
)
def test_what_makes_no_sense_is_said_with_what_to_write(written: str, told: str) -> None:
    book = rules("{name: it, " + written + "}")
    assert [problem.text for problem in book.problems] == [f'rule "it": {told}']


# --- files that are no rule files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version: 1\nrules:\n\t- {name: a}\n", "3:1: found character '\\t' that cannot start any token"),
        (b"version: 1\nrules: [\xff\xfe]\n", "2:1: not UTF-8"),
        (
            b"version: 1\nrules: []\nrules: []\n",
            '3:1: found duplicate key "rules"',
        ),
        (b"rules: []\n", "1:1: write `version: 1` at the top: the only version there is"),
        (b"version: 2\nrules: []\n", "1:1: write `version: 1` at the top: the only version there is"),
        (b"version: 1\nrule: []\n", '2:1: unknown field "rule" (did you mean "rules"?)'),
        (b"- {name: a}\n", "1:1: a rule file is a map with `version: 1` and `rules:`"),
        (b"version: 1\nrules: {a: 1}\n", "2:1: `rules` is a list: begin each rule with `- name: …`"),
        (b"version: 1\ndefaults: [1]\n", "2:1: `defaults` is a map of fields that the rules share"),
        (b"version: 1\nrules: [{name: [a\n", "3:1: "),
    ],
)
def test_a_broken_file_is_told_and_costs_no_other_file_its_rules(
    tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "broken.yml").write_bytes(content)
    (tmp_path / "good.yaml").write_text(GOOD)
    book = load_rules([tmp_path])
    assert [rule.name for rule in book.rules] == ["quiet"]
    (problem,) = problems(book)
    assert problem.startswith(f"{tmp_path / 'broken.yml'}:{told}")


def test_aliases_without_end_and_huge_files_are_refused(tmp_path: Path) -> None:
    laughs = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    (tmp_path / "laughs.yml").write_text(laughs)
    (tmp_path / "huge.yml").write_text("# " + "x" * 3_000_000)
    (tmp_path / "itself.yml").write_text("version: 1\nrules: &r\n- *r\n")
    (tmp_path / "deep.yml").write_text("version: 1\nrules: " + "[" * 500 + "]" * 500 + "\n")
    book = load_rules([tmp_path])
    assert book.rules == ()
    assert {Path(problem.file).name for problem in book.problems} == {
        "laughs.yml",
        "huge.yml",
        "itself.yml",
        "deep.yml",
    }


def test_an_alias_may_share_a_value() -> None:
    book = parse_rules(
        "version: 1\nrules:\n"
        "- {name: a, model: m, metric: errors.rate, window: &w 1h, above: 5%}\n"
        "- {name: b, model: m, metric: errors.rate, window: *w, above: 6%}\n"
    )
    assert [rule.window for rule in book.rules] == [HOUR, HOUR]


def test_tests_hidden_files_and_subfolders_are_not_rules(tmp_path: Path) -> None:
    (tmp_path / "a.test.yml").write_text("tests: []\n")
    (tmp_path / ".a.yml").write_text("nonsense")
    (tmp_path / "notes.txt").write_text("nonsense")
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "a.yml").write_text(GOOD)
    assert load_rules([tmp_path]) == RuleBook()
    assert len(load_rules([tmp_path, tmp_path / "examples"]).rules) == 1


def test_a_name_is_unique_over_all_files(tmp_path: Path) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text(GOOD)
    book = load_rules([tmp_path])
    assert [rule.place for rule in book.rules] == [f"{tmp_path}/a.yml:3"]
    (problem,) = problems(book)
    assert problem.startswith(f'{tmp_path}/b.yml:3:4: rule "quiet": there is a rule of that name at ')
    assert problem.endswith(f"{tmp_path}/a.yml:3; names are unique over all files")


def test_what_is_allowed_and_rarely_meant_is_a_warning_and_no_problem() -> None:
    book = rules(
        "{name: heals, metric: errors.rate, compare: {to: previous}, rise: 2x}\n"
        "{name: lasts, metric: errors.rate, compare: {to: history}, rise: 2x}"
    )
    assert problems(book) == []
    (warning,) = book.warnings
    assert (warning.file, warning.line) == ("rules/a.yml", 4)
    assert warning.text.startswith('rule "heals": compares with the window just before, ')


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert problems(load_rules([tmp_path / "none.yml"])) == [
        f"{tmp_path}/none.yml:1:1: No such file or directory"
    ]


def test_a_file_that_breaks_keeps_its_last_good_rules_in_force(tmp_path: Path) -> None:
    file, other = tmp_path / "a.yml", tmp_path / "b.yml"
    file.write_text(GOOD)
    other.write_text(GOOD.replace("quiet", "other"))
    before = load_rules([tmp_path])
    file.write_text(GOOD.replace("below", "belo"))
    other.write_text(GOOD.replace("quiet", "renamed"))
    now = load_rules([tmp_path]).keeping(before)
    assert {rule.name for rule in now.rules} == {"quiet", "renamed"}
    assert now.broken == {str(file)}
    file.write_text(GOOD)
    assert load_rules([tmp_path]).keeping(now).problems == ()
