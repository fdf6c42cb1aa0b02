"""AUC of a model with more than two classes, from the rows that come in to the rule that fires."""

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kedge.alerting.loading import parse_rules
from kedge.pipeline.query import metric_series
from kedge.records import Label, Prediction
from kedge.windows import DAY, HOUR, MINUTE
from tests.pipeline.world import MODEL, T0, World, prediction, settings, world
from tests.support.oracle import differences

CLASSES = ("cat", "cow", "dog")
RULES = """
version: 1
defaults: {model: "*", window: 1d}
rules:
  - {name: cats, metric: performance.auc, class: cat, below: 70%}
  - {name: cows, metric: performance.auc, class: cow, below: 70%}
  - {name: together, metric: performance.auc, below: 50%}
"""
NOW = T0 + DAY + 3 * HOUR


def animals(count: int) -> Iterator[tuple[Prediction, Label]]:
    """Cats are told from the rest, cows and dogs are one to the model."""
    draw = np.random.default_rng(5)
    for i in range(count):
        truth = CLASSES[i % 3]
        cat = float(draw.beta(4, 2) if truth == "cat" else draw.beta(2, 4))
        cow = (1 - cat) * float(draw.random())
        given = dict(zip(CLASSES, (cat, cow, 1 - cat - cow), strict=True))
        likeliest = max(given, key=lambda name: given[name])
        row = msgspec.structs.replace(
            prediction(i, T0 + i * 2 * MINUTE),
            cls=likeliest,
            probability=given[likeliest],
            probabilities=given,
        )
        at = row.timestamp + 1_000
        yield row, Label(id=row.id, timestamp=at, ingested=at, cls=truth)


@pytest.fixture(scope="module")
def one() -> Iterator[World]:
    made = settings(fraud={"bucket": "1h"})
    with world(settings=made, book=parse_rules(RULES)) as one:
        rows = list(animals(700))
        one.send([row for row, _ in rows])
        one.label([label for _, label in rows])
        one.drain(NOW)
        yield one


def areas(rows: list[Prediction]) -> dict[str, float]:
    truth = [row.label.cls if row.label else None for row in rows]
    return {
        cls: roc_auc_score([t == cls for t in truth], [row.probabilities[cls] for row in rows])
        for cls in CLASSES
    }


def test_days_made_of_hours_have_the_areas_that_scikit_learn_gives_the_rows(one: World) -> None:
    today = [row for row in one.labelled_rows() if row.timestamp < T0 + DAY]
    expected = areas(today)
    found = {
        row["labels"].get("class"): row["value"]
        for row in metric_series(one.pipe, MODEL, names=["performance.auc"], width=DAY, now=one.now)
    }
    assert found.keys() == {None, *CLASSES}
    assert {cls: found[cls] for cls in CLASSES} == pytest.approx(expected, abs=0.02)
    assert found[None] == pytest.approx(np.mean(list(expected.values())), abs=0.02)


def test_a_rule_on_one_class_fires_where_that_class_is_not_told_from_the_rest(one: World) -> None:
    firing = {name: one.alert(name).status.value for name in ("cats", "cows", "together")}
    assert firing["cows"] == "firing"
    assert firing["cats"] == firing["together"] == "inactive"
    finding = one.alert("cows").finding
    assert finding is not None
    assert finding.reason.startswith("performance.auc")


def test_what_is_stored_is_what_a_count_from_scratch_gives(one: World) -> None:
    for tier in (HOUR, DAY):
        stored, expected = one.stored_parts(tier), one.expected_parts(tier)
        assert [line for key, part in stored.items() for line in differences(expected[key], part)] == []
        assert any(getattr(part, "ranks", None) for part in stored.values())


def test_a_model_with_two_classes_asks_for_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with world(book=parse_rules(RULES)) as two:
        asked = []
        whole = two.store.summarise_many

        def noted(requests):  # type: ignore[no-untyped-def]
            asked.extend(requests)
            return whole(requests)

        monkeypatch.setattr(two.store, "summarise_many", noted)
        two.send([prediction(i, T0 + i * MINUTE) for i in range(90)])
        two.drain(T0 + 3 * HOUR)
        assert asked
        assert {request.probabilities for request in asked} == {()}
