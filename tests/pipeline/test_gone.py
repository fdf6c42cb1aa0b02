"""Alerts that nobody judges any more, rule files that break, and workers that start while they are broken."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kedge.alerting.finding import AlertState, Status
from kedge.alerting.loading import parse_rules
from kedge.notify.base import Message
from kedge.pipeline.progress import judged_through
from kedge.pipeline.rulebook import RuleSource
from kedge.windows import DAY, HOUR, MINUTE, SECOND
from tests.pipeline.world import MODEL, T0, Crash, World, crash_at, prediction, world

HEAD = "version: 1\nrules:\n"
FAILING = """\
  - {name: failing, model: "*", metric: errors.rate, window: 5m, above: 30%, evidence: point}
"""
BY_REGION = """\
  - name: failing
    model: "*"
    metric: errors.rate
    window: 5m
    above: 30%
    evidence: point
    by: segment.region
"""
COUNT = """\
  - {name: count, model: "*", metric: volume.count, window: 5m, below: 1, evidence: point}
"""


@pytest.fixture
def one() -> Iterator[World]:
    with world(book=parse_rules(HEAD + FAILING + COUNT, "rules/fraud.yml")) as made:
        yield made


def minute(one: World, m: int, *, failed: bool = True) -> None:
    one.send([prediction(m * 100 + i, T0 + m * MINUTE + i * SECOND, failed=failed) for i in range(8)])
    one.tick(T0 + (m + 2) * MINUTE)


def messages(one: World, rule: str = "failing") -> list[Message]:
    return [m for m in one.notebook.messages if rule in m.headline]


def of(one: World, rule: str) -> list[AlertState]:
    return [state for state in one.alerts().values() if state.rule == rule]


# --- rules that are gone ------------------------------------------------------------------------------------


def test_the_alerts_of_a_rule_that_is_gone_are_ended_once_and_say_so(one: World) -> None:
    minute(one, 0)
    assert one.alert("failing").status is Status.FIRING
    one.book = parse_rules(HEAD + COUNT, "rules/fraud.yml")
    for m in (1, 2):
        minute(one, m)
    assert one.alert("failing").status is Status.RESOLVED
    fired, ended = messages(one)
    assert "the rule is gone from rules/fraud.yml" in ended.lines
    assert ended.incident == fired.incident
    assert judged_through(one.store.state, [MODEL])[MODEL].keys() == {"count"}


def test_the_last_rule_of_all_may_go(one: World) -> None:
    minute(one, 0)
    one.book = parse_rules("version: 1")
    minute(one, 1)
    assert one.alert("failing").status is Status.RESOLVED


def test_a_rule_that_is_renamed_says_what_it_does(one: World) -> None:
    minute(one, 0)
    one.book = parse_rules(HEAD + FAILING.replace("failing", "erring") + COUNT, "rules/fraud.yml")
    minute(one, 1)
    ended = messages(one)[-1]
    assert 'the rule is gone from rules/fraud.yml: "erring" judges the same, and begins anew' in ended.lines
    assert one.alert("erring").status is Status.FIRING


def test_a_rule_that_comes_back_begins_anew(one: World) -> None:
    whole = one.book
    minute(one, 0)
    one.book = parse_rules(HEAD + COUNT)
    minute(one, 1)
    one.book = whole
    minute(one, 2)
    assert one.alert("failing").status is Status.FIRING
    assert len(messages(one)) == 3


def test_a_rule_that_no_longer_watches_a_model_ends_its_alerts_there(one: World) -> None:
    minute(one, 0)
    one.book = parse_rules(HEAD + FAILING.replace('"*"', "other") + COUNT)
    minute(one, 1)
    assert f"the rule no longer watches {MODEL}" in messages(one)[-1].lines


def test_nothing_is_ended_while_a_file_is_broken_of_which_no_good_version_is_known(one: World) -> None:
    minute(one, 0)
    one.book = parse_rules(HEAD + FAILING.replace("above", "abve") + COUNT, "rules/fraud.yml")
    minute(one, 1)
    assert one.alert("failing").status is Status.FIRING
    one.book = parse_rules(HEAD + COUNT, "rules/fraud.yml")
    minute(one, 2)
    assert one.alert("failing").status is Status.RESOLVED


@pytest.mark.parametrize("after", range(0, 24, 3))
def test_a_worker_that_dies_as_it_ends_alerts_ends_them_once(after: int) -> None:
    with world(book=parse_rules(HEAD + FAILING + COUNT)) as one:
        minute(one, 0)
        one.book = parse_rules(HEAD + COUNT)
        try:
            with crash_at(after=after):
                minute(one, 1)
        except Crash:
            one.restart()
        minute(one, 2)
        assert len(messages(one)) == 2


# --- what a rule no longer looks at -------------------------------------------------------------------------


def test_an_alert_of_labels_that_the_rule_no_longer_has_is_ended(one: World) -> None:
    one.book = parse_rules(HEAD + BY_REGION)
    minute(one, 0)
    assert {s.status for s in of(one, "failing")} == {Status.FIRING}
    one.book = parse_rules(HEAD + FAILING)
    minute(one, 1)
    stands = {tuple(s.group.values()): s.status for s in of(one, "failing")}
    assert stands == {(): Status.FIRING, ("eu",): Status.RESOLVED, ("us",): Status.RESOLVED}
    assert any("the rule no longer looks at segment.region=eu" in m.lines for m in messages(one))


def test_an_alert_of_a_version_that_the_rule_no_longer_names_is_ended(one: World) -> None:
    one.book = parse_rules(HEAD + FAILING.replace("window", "version: v1, window"))
    minute(one, 0)
    one.book = parse_rules(HEAD + FAILING.replace("window", "version: v2, window"))
    minute(one, 1)
    assert {s.version: s.status for s in of(one, "failing")} == {"v1": Status.RESOLVED, "v2": Status.FIRING}


def test_a_group_without_rows_is_one_without_data_and_stands(one: World) -> None:
    one.book = parse_rules(HEAD + BY_REGION)
    minute(one, 0)
    for m in range(1, 9):
        at = T0 + m * MINUTE
        one.send([prediction(m * 100 + i, at + i * SECOND, failed=False) for i in (1, 2, 3)])  # eu alone
        one.tick(at + 2 * MINUTE)
    assert {s.group["segment.region"]: s.status for s in of(one, "failing")} == {
        "eu": Status.RESOLVED,
        "us": Status.FIRING,
    }


def feature_alert(one: World, no_data: str) -> AlertState:
    """Of a feature that is missing in half of the rows, and from then on in none: for it is in no row."""
    text = (
        '  - {name: gone, model: "*", metric: quality.missing, by: feature, window: 2h, above: 30%, '
        f"evidence: point, no_data: {no_data}}}\n"
    )
    one.book = parse_rules(HEAD + text)
    assert not one.book.problems
    for h in range(5):
        at = T0 + h * HOUR
        rows = [prediction(h * 100 + i, at + i * MINUTE) for i in range(12)]
        num = [{"amount": 1.0} if h == 0 and i % 2 else {} for i in range(12)]
        one.send([msgspec.structs.replace(r, num=n) for r, n in zip(rows, num, strict=True)])
        one.tick(at + HOUR + 2 * MINUTE)
    return one.alert("gone", feature="amount")


def test_a_feature_that_is_in_no_row_is_one_without_data(one: World) -> None:
    state = feature_alert(one, "keep")
    assert state.status is Status.FIRING, "which is no recovery"
    assert state.finding is not None
    assert state.finding.reason == "its rule found nothing to say of it"


@pytest.mark.parametrize(("no_data", "status"), [("ok", Status.RESOLVED), ("alert", Status.NO_DATA)])
def test_and_means_what_the_rule_says_of_it(one: World, no_data: str, status: Status) -> None:
    assert feature_alert(one, no_data).status is status


def test_it_is_ended_after_a_week_of_which_there_is_nothing_to_say(one: World) -> None:
    since = feature_alert(one, "keep").no_data_since
    assert since is not None
    one.send([prediction(9_009, since + 7 * DAY - HOUR)])
    one.drain(since + 7 * DAY)
    assert one.alert("gone", feature="amount").status is Status.FIRING
    one.send([prediction(9_020, since + 7 * DAY)])
    one.drain(since + 7 * DAY + HOUR)
    assert one.alert("gone", feature="amount").status is Status.RESOLVED
    assert "nothing was found of feature=amount for 7d" in messages(one, "gone")[-1].lines


# --- files that break ---------------------------------------------------------------------------------------


def from_files(one: World, folder: Path) -> None:
    """Judge by the files of a folder from now on, as a worker that starts now."""
    one.restart()
    one.pipe.rules = RuleSource(folder, routing=lambda: one.pipe.receivers.tree, kept=one.store.state)


def test_a_worker_that_starts_while_a_file_is_broken_goes_on_with_its_last_good_version(
    one: World, tmp_path: Path
) -> None:
    file = tmp_path / "fraud.yml"
    file.write_text(HEAD + FAILING + COUNT)
    from_files(one, tmp_path)
    minute(one, 0)
    file.write_text(HEAD + FAILING.replace("above", "abve"))
    from_files(one, tmp_path)
    minute(one, 1)
    assert {rule.name for rule in one.pipe.rules().rules} == {"failing", "count"}
    assert one.alert("failing").status is Status.FIRING
    assert one.alert("failing").evaluated_through == T0 + 2 * MINUTE, "it is judged on"


def test_a_broken_file_is_an_alert_of_its_own(one: World, tmp_path: Path) -> None:
    file = tmp_path / "fraud.yml"
    file.write_text(HEAD + FAILING + COUNT)
    from_files(one, tmp_path)
    minute(one, 0)
    file.write_text(HEAD + FAILING.replace("above", "abve"))
    for m in (1, 2):
        minute(one, m)
        from_files(one, tmp_path)
    fired = messages(one, "broken")
    assert len(fired) == 1, "told once, whoever starts"
    assert fired[0].headline == f"HIGH · kedge · file={file} · kedge.rules broken"
    assert any('unknown field "abve"' in line and "last good version" in line for line in fired[0].lines)
    assert fired[0].footer == f"{file}:3:66"
    file.write_text(HEAD + FAILING + COUNT)
    minute(one, 3)
    good = messages(one, "broken")[-1]
    assert good.headline.startswith("RESOLVED")
    assert good.incident == fired[0].incident
    file.unlink()
    minute(one, 4)
    assert len(messages(one, "broken")) == 2


def test_a_file_that_is_deleted_is_no_longer_known(one: World, tmp_path: Path) -> None:
    file = tmp_path / "fraud.yml"
    file.write_text(HEAD + FAILING)
    source = RuleSource(tmp_path, routing=lambda: one.pipe.receivers.tree, kept=one.store.state)
    assert source().rules
    file.unlink()
    assert not source().rules
    file.write_text("rules: [")
    assert not RuleSource(tmp_path, routing=lambda: one.pipe.receivers.tree, kept=one.store.state)().rules


def test_a_folder_that_is_not_there_ends_nothing(one: World, tmp_path: Path) -> None:
    """A volume that is not mounted is no decision to watch nothing."""
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "fraud.yml").write_text(HEAD + FAILING)
    from_files(one, folder)
    minute(one, 0)
    (folder / "fraud.yml").rename(tmp_path / "fraud.yml")
    folder.rmdir()
    from_files(one, folder)
    minute(one, 1)
    assert one.alert("failing").status is Status.FIRING
    assert "there is no folder" in one.pipe.rules().problems[0].text
    folder.mkdir()
    minute(one, 2)
    assert one.alert("failing").status is Status.RESOLVED
