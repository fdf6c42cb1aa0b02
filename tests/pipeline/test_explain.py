"""An alert says why: the group that did it, the inputs that moved with it, and what stayed normal."""

import io
import re
from collections.abc import Iterator

import msgspec
import pytest

from kedge.alerting.finding import Status
from kedge.alerting.loading import parse_rules
from kedge.notify.base import Message
from kedge.notify.slack_blocks import payload
from kedge.notify.terminal import Terminal
from kedge.pipeline import changes, explain
from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.context import groupings_of
from kedge.pipeline.schema import features_of
from kedge.records import Prediction
from kedge.windows import MINUTE, SECOND, Window
from tests.pipeline.world import MODEL, T0, World, prediction, settings, world

RISE = """
version: 1
defaults: {model: fraud, window: 10m}
rules:
  - {name: errors-rose, metric: errors.rate, compare: {to: baseline}, rise: 5pp}
"""
BY_PLAN = RISE.replace("rise: 5pp", "rise: 5pp, by: [segment.plan]")
ROWS = 60
"""A minute."""


def minute(one: World, m: int, *, failing: str = "", country: str = "") -> None:
    """Rows of a minute, 1 in 7 failed; in the region that is `failing` all of them; and the tick."""
    rows: list[Prediction] = []
    for i in range(ROWS):
        row = prediction(m * 100 + i, T0 + m * MINUTE + i * SECOND // 2)
        if failing and row.segment["region"] == failing:
            row = msgspec.structs.replace(row, error_type="Timeout")
        if country:
            row = msgspec.structs.replace(row, cat=row.cat | {"country": country})
        rows.append(row)
    one.send(rows)
    one.tick(T0 + (m + 2) * MINUTE)


@pytest.fixture
def one() -> Iterator[World]:
    """Half an hour of normal traffic, of which a baseline was made; groups are summarised, no rule asks."""
    groups = ["segment.region", "segment.plan", ["segment.plan", "segment.region"]]
    with world(book=parse_rules(RISE), settings=settings(fraud={"groups": groups})) as made:
        for m in range(30):
            minute(made, m)
        baseline = build_baseline(
            made.store,
            MODEL,
            Window(T0, T0 + 30 * MINUTE),
            features_of(made.store.state, MODEL),
            groupings_of(made.pipe, made.book, MODEL),
            source="half an hour",
            now=made.now,
        )
        import_baseline(made.store.state, baseline, use=True)
        minute(made, 30)
        assert made.notebook.messages == []
        yield made


def told(one: World, start: str) -> str:
    (line,) = [line for m in one.notebook.messages for line in m.lines if line.startswith(start)]
    return line


def test_the_message_names_the_segment_that_went_bad(one: World) -> None:
    for m in range(31, 41):
        minute(one, m, failing="us")
    assert one.alert("errors-rose").status is Status.FIRING
    moved = told(one, "Moves with it: ")
    assert moved.startswith("Moves with it: region=us 14 % → ")
    assert "of the change)" in moved
    assert "plan=" not in moved.partition(";")[0]
    normal = told(one, "Normal: ").removeprefix("Normal: ").split(", ")
    assert {"latency", "quality"} <= set(normal)
    assert "errors" not in normal
    message: Message = one.notebook.messages[0]
    stream = io.StringIO()
    Terminal(stream).send(message)
    assert "region=us" in stream.getvalue()
    (attachment,) = payload(message)["attachments"]
    assert "Moves with it: region=us" in attachment["blocks"][0]["text"]["text"]
    (cause, *_) = one.events()[0]["finding"]["causes"]
    assert (cause["kind"], cause["name"]) == ("rate", "region=us")
    assert cause["share"] > 0.8


def test_within_a_group_the_cause_is_looked_for_inside_it(one: World) -> None:
    one.book = parse_rules(BY_PLAN)
    minute(one, 31)
    for m in range(32, 42):
        minute(one, m, failing="us")
    # us rows have even numbers, as those of the free plan have.
    assert one.alert("errors-rose", **{"segment.plan": "free"}).status is Status.FIRING
    assert told(one, "Moves with it: ").startswith("Moves with it: region=us ")


def test_bad_values_of_a_feature_are_told_of(one: World) -> None:
    for m in range(31, 41):
        minute(one, m, failing="us", country="xx")
    moved = told(one, "Moves with it: ")
    assert re.search(r"; country \d+ % never seen \(usual 0 %\)", moved)
    assert "plan=free" not in moved  # where region=us says it all
    assert "quality" not in told(one, "Normal: ")


def test_groups_are_read_only_for_what_is_told(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judging reads the total alone; the causes are worked out once, for the transition that fires."""
    asked: list[int] = []

    def count(*args: object) -> object:
        asked.append(1)
        return whole(*args)  # type: ignore[arg-type]

    whole = explain._with_causes
    monkeypatch.setattr(explain, "_with_causes", count)
    for m in range(31, 36):
        minute(one, m)
    assert asked == []
    for m in range(36, 46):
        minute(one, m, failing="us")
    assert one.alert("errors-rose").status is Status.FIRING
    assert asked == [1]
    assert changes.explained is explain.explained


def test_without_a_baseline_there_is_nothing_to_compare_with() -> None:
    book = parse_rules(RISE.replace("compare: {to: baseline}, rise: 5pp", "above: 30%"))
    with world(book=book, settings=settings(fraud={"groups": ["segment.region"]})) as one:
        for m in range(12):
            minute(one, m, failing="eu")
        assert one.alert("errors-rose").status is Status.FIRING
        assert not any(line.startswith(("Moves", "Normal")) for line in one.notebook.messages[0].lines)


HISTORY = "compare: {to: history, window: 20m}, rise: 5pp"


def test_a_rule_on_history_tells_what_moved_against_that_history() -> None:
    """Region eu failed as long as there was a baseline, and for an hour since nothing did."""
    with world(
        book=parse_rules(RISE.replace("compare: {to: baseline}, rise: 5pp", HISTORY)),
        settings=settings(fraud={"groups": ["segment.region"]}),
    ) as one:
        for m in range(12):
            minute(one, m, failing="eu")
        known = features_of(one.store.state, MODEL)
        baseline = build_baseline(
            one.store,
            MODEL,
            Window(T0, T0 + 12 * MINUTE),
            known,
            groupings_of(one.pipe, one.book, MODEL),
            source="bad minutes",
            now=one.now,
        )
        import_baseline(one.store.state, baseline, use=True)
        for m in range(12, 45):
            minute(one, m)
        one.notebook.messages.clear()
        for m in range(45, 52):
            minute(one, m, failing="eu")
        assert one.alert("errors-rose").status is Status.FIRING
        moved = told(one, "Moves with it: ")
        # Against the baseline, in which all of eu failed, no region would have moved.
        assert re.match(r"Moves with it: region=eu 1\d % → ", moved), moved
        assert "latency" in told(one, "Normal: ")


def test_without_a_baseline_the_groups_of_a_history_are_told_all_the_same() -> None:
    with world(
        book=parse_rules(RISE.replace("compare: {to: baseline}, rise: 5pp", HISTORY)),
        settings=settings(fraud={"groups": ["segment.region"]}),
    ) as one:
        for m in range(32):
            minute(one, m)
        for m in range(32, 40):
            minute(one, m, failing="us")
        assert one.alert("errors-rose").status is Status.FIRING
        assert told(one, "Moves with it: ").startswith("Moves with it: region=us 14 % → ")


def test_a_rule_on_another_version_tells_where_the_two_differ() -> None:
    """Version v2 fails in us, v1 nowhere more than usual; both have done so from the first minute on."""
    rule = "compare: {to: version, version: v1}, rise: 5pp, version: v2"
    with world(
        book=parse_rules(RISE.replace("compare: {to: baseline}, rise: 5pp", rule)),
        settings=settings(fraud={"groups": [["segment.region", "version"], "version"]}),
    ) as one:
        for m in range(14):
            rows = [prediction(m * 100 + i, T0 + m * MINUTE + i * SECOND // 2) for i in range(ROWS)]
            one.send(
                [
                    msgspec.structs.replace(row, error_type="Timeout")
                    if row.version == "v2" and row.segment["region"] == "us"
                    else row
                    for row in rows
                ]
            )
            one.tick(T0 + (m + 2) * MINUTE)
        [alert] = [a for a in one.alerts().values() if a.version == "v2"]
        assert alert.status is Status.FIRING
        moved = told(one, "Moves with it: ")
        assert re.match(r"Moves with it: region=us \d+ % → 100 % ", moved), moved
