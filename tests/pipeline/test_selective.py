"""Where only some predictions ever get a label, what is said of labels says of which share of them."""

from collections.abc import Iterator

import pytest

from kedge.alerting.loading import parse_rules
from kedge.pipeline.query import metric_series
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window
from tests.pipeline.world import MODEL, T0, World, prediction, settings, truth, world

RULE = """
version: 1
rules:
  - {name: wrong, model: "*", metric: performance.accuracy, window: 1d, below: 90%, evidence: point}
  - {name: failing, model: "*", metric: errors.rate, window: 1d, above: 1%, evidence: point}
"""
NOW = T0 + 3 * DAY + 2 * HOUR
PART = "of the 30 % of predictions that ever get a label"


def three_days(labels: dict[str, str], late: Millis = 1) -> Iterator[World]:
    """Of each day's rows every third gets a label so late, half of them against the prediction."""
    made = settings(fraud={"bucket": "1h", "labels": labels, "positive_class": "fraud"})
    with world(settings=made, book=parse_rules(RULE)) as one:
        for day in range(3):
            rows = [prediction(day * 100 + i, T0 + day * DAY + i * 30 * MINUTE) for i in range(48)]
            one.send(rows)
            given = [(r, i % 2 == 0) for i, r in enumerate(rows) if not i % 3 and r.timestamp + late < NOW]
            one.label([truth(r.id, r.timestamp + late, right=right) for r, right in given])
            one.drain(T0 + (day + 1) * DAY + 2 * HOUR)
        yield one


@pytest.fixture(scope="module")
def selective() -> Iterator[World]:
    yield from three_days({"expected": "30%"})


def reasons(one: World, name: str) -> list[str | None]:
    found = metric_series(one.pipe, MODEL, names=[name], now=one.now)
    return [row["reason"] for row in found if row["labels"] == {} and row["value"] is not None]


def test_values_on_labels_are_marked_and_others_are_not(selective: World) -> None:
    assert reasons(selective, "performance.accuracy") == [PART] * 3
    assert reasons(selective, "errors.rate") == [None] * 3


def test_stored_values_are_marked_too(selective: World) -> None:
    docs = selective.store.read_metrics(MODEL, DAY, Window(T0, T0 + DAY))
    (values,) = [d.values for d in docs if d.group == () and not d.feature]
    assert {values[name]["reason"] for name in ("performance.accuracy", "errors.rate")} == {PART, None}


def test_an_alert_on_labels_says_so_in_its_reason_and_in_its_message(selective: World) -> None:
    alert = selective.alert("wrong")
    assert alert.finding is not None
    assert alert.finding.reason.endswith(f"; {PART}")
    [message] = [m for m in selective.notebook.messages if "wrong" in m.headline]
    assert message.lines[0].startswith("0.47 (n=15; ")
    assert PART in message.lines[0]
    [other] = [m for m in selective.notebook.messages if "failing" in m.headline]
    assert PART not in " ".join(other.lines)


def test_an_unripe_window_is_marked_as_both() -> None:
    for one in three_days({"expected": "30%"}, late=20 * HOUR):
        assert reasons(one, "performance.accuracy") == [PART, PART, f"{PART}; provisional"]


def test_where_absence_is_a_label_values_are_of_all_rows() -> None:
    for one in three_days({"expected": "30%", "negative_after": "1d"}):
        assert not any("ever get a label" in (r or "") for r in reasons(one, "performance.accuracy"))
