"""Absence as negative through the pipeline: series, rules, references, what is stored, as rows grow old."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import ValidationError

from kedge.alerting.loading import parse_rules
from kedge.config import LabelSettings
from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.query import metric_series
from kedge.pipeline.schema import features_of
from kedge.records import Label, Prediction
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, iso
from tests.pipeline.world import MODEL, T0, World, prediction, settings, world

AGE = 3 * DAY
DAYS = 10
NOW = T0 + DAYS * DAY + 2 * HOUR
RULE = """
version: 1
rules:
  - {name: precise, model: "*", metric: performance.precision, window: 1d, below: 90%, evidence: point}
"""


@dataclass
class Reported:
    """Ten days of rows of which only the frauds (every third) ever get a label, six hours late."""

    one: World

    def fraud(self, row: Prediction) -> bool:
        return int(row.id.removeprefix("row-")) % 3 == 0

    def precision(self, window: Window, old: Millis, rows: Iterable[Prediction] | None = None) -> float:
        """Of the rows whose truth is known, those predicted before `old` among them."""
        known = [
            row
            for row in (self.one.rows.values() if rows is None else rows)
            if row.cls == "fraud" and row.timestamp in window and (row.timestamp < old or self.fraud(row))
        ]
        return sum(self.fraud(row) for row in known) / len(known)


@contextmanager
def ten_days() -> Iterator[Reported]:
    made = settings(fraud={"positive_class": "fraud", "bucket": "1h", "labels": {"negative_after": "3d"}})
    with world(settings=made, book=parse_rules(RULE)) as one:
        found = Reported(one)
        for day in range(DAYS):
            rows = [prediction(day * 100 + i, T0 + day * DAY + i * 30 * MINUTE) for i in range(48)]
            one.send(rows)
            late = [(row.id, row.timestamp + 6 * HOUR) for row in rows if found.fraud(row)]
            one.label([Label(id=i, timestamp=at, ingested=at, cls="fraud") for i, at in late if at < NOW])
            if day in (1, DAYS - 1):  # rules begin with the first tick
                one.drain(T0 + (day + 1) * DAY + 2 * HOUR)
        yield found


@pytest.fixture(scope="module")
def reported() -> Iterator[Reported]:
    """Only looked at."""
    with ten_days() as found:
        yield found


def series(one: World, name: str, **asked: Any) -> list[dict[str, Any]]:
    return list(metric_series(one.pipe, MODEL, names=[name], now=one.now, **asked))


def test_rows_that_are_old_enough_count_and_younger_ones_do_not(reported: Reported) -> None:
    """The age is reached two hours into the eighth day, in the midst of a window."""
    found = series(reported.one, "performance.precision")
    days = [Window(T0 + d * DAY, T0 + (d + 1) * DAY) for d in range(DAYS)]
    expected = [reported.precision(day, NOW - AGE) for day in days]
    total = [row for row in found if row["labels"] == {}]
    assert [row["value"] for row in total] == pytest.approx(expected)
    assert [row["reason"] for row in total] == [None] * 7 + ["provisional"] * 3
    assert expected[9] == 1.0  # positives alone


@pytest.mark.parametrize("by", ["version", "segment.plan"])
def test_groups_that_are_not_summarised_agree_with_the_rows(reported: Reported, by: str) -> None:
    found = series(reported.one, "performance.precision", by=[by], width=2 * DAY)
    rows = list(reported.one.rows.values())
    checked = [row for row in found if set(row["labels"]) == {by}]
    assert len(checked) == 12
    for row in checked:
        mine = [r for r in rows if r.dimension(by) == row["labels"][by]]
        start = next(t for t in range(T0 - DAY, T0 + DAYS * DAY, DAY) if iso(t) == row["window_start"])
        window = Window(start, start + 2 * DAY)
        assert row["value"] == pytest.approx(reported.precision(window, NOW - AGE, mine))


def test_a_rule_finds_what_the_series_shows_and_waits_for_the_age(reported: Reported) -> None:
    finding = reported.one.alert("precise").finding
    assert finding is not None
    assert finding.value is not None
    assert finding.window == Window(T0 + 6 * DAY, T0 + 7 * DAY)
    shown = series(reported.one, "performance.precision", start=T0 + 6 * DAY, end=T0 + 7 * DAY)[0]
    assert finding.value == pytest.approx(shown["value"])
    assert finding.value == pytest.approx(reported.precision(Window(*finding.window), NOW))
    assert finding.value < 0.5
    assert reported.one.alert("precise").status == "firing"


def test_coverage_is_of_the_labels_that_came(reported: Reported) -> None:
    found = [r for r in series(reported.one, "label.coverage") if r["labels"] == {}]
    assert found[0]["value"] == pytest.approx(1 / 3, abs=0.01)


def test_what_is_stored_is_of_labelled_rows_and_says_so(reported: Reported) -> None:
    docs = reported.one.store.read_metrics(MODEL, DAY, Window(T0, T0 + DAY))
    (values,) = [d.values for d in docs if d.group == () and not d.feature]
    stored: Any = values["performance.precision"]
    assert stored["value"] == 1.0
    assert stored["reason"] == "of labelled rows; those without a label count as negative from 3d on"


@pytest.fixture
def changing() -> Iterator[Reported]:
    with ten_days() as found:
        yield found


def test_a_baseline_counts_them_where_its_rows_were_old_enough_when_it_was_made(changing: Reported) -> None:
    one, reported = changing.one, changing
    one.book = parse_rules(
        RULE.replace("below: 90%", "compare: {to: baseline}, fall: 5%").replace("precise", "fell")
    )

    def use(start: Millis, end: Millis) -> None:
        base = build_baseline(
            one.store,
            MODEL,
            Window(start, end),
            features_of(one.store.state, MODEL),
            [()],
            source="w",
            now=NOW,
        )
        import_baseline(one.store.state, base, use=True)

    use(T0, T0 + 2 * DAY)
    one.drain(NOW + DAY)
    finding = one.alert("fell").finding
    assert finding is not None
    assert finding.reference == pytest.approx(reported.precision(Window(T0, T0 + 2 * DAY), NOW))
    use(T0 + 8 * DAY, T0 + 10 * DAY)
    one.drain(NOW + 2 * DAY)
    finding = one.alert("fell").finding
    assert finding is not None
    assert finding.state == "insufficient"
    assert "the labels part is not computed" in finding.reason


def test_an_age_beyond_what_maturity_looks_back_on_is_waited_for_too() -> None:
    made = settings(fraud={"positive_class": "fraud", "bucket": "1d", "labels": {"negative_after": "90d"}})
    with world(settings=made, book=parse_rules(RULE)) as one:
        one.send([prediction(i, T0 + i * HOUR) for i in range(24 * 5)])
        one.drain(T0 + 80 * DAY)
        assert {row["reason"] for row in series(one, "performance.ece")} == {"no labels yet"}
        one.label([Label(id="row-00003", timestamp=T0 + DAY, ingested=T0 + DAY, cls="fraud")])
        one.drain(T0 + 80 * DAY + HOUR)
        assert series(one, "performance.accuracy")[0]["reason"] == "provisional"
        one.drain(T0 + 92 * DAY)
        shown = series(one, "performance.accuracy")
        assert [row["reason"] for row in shown] == [None, None, *["no labels yet"] * 3]
        assert [row["n"] for row in shown] == [24, 24, 0, 0, 0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"negative_after": "2h"}, "at least 1d"),
        ({"negative_after": "45d", "mature_after": "30d"}, "mature_after is shorter"),
    ],
)
def test_settings_that_would_judge_too_early_are_refused(given: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        LabelSettings.model_validate(given)
