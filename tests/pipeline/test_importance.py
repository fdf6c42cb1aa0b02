"""Rules on the most important features: which those are, by real rows and by kedge.yml, look after look."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from kedge.alerting.finding import State
from kedge.alerting.loading import parse_rules
from kedge.config import load_settings
from kedge.errors import KedgeError
from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.context import groupings_of
from kedge.pipeline.schema import features_of
from kedge.records import Prediction
from kedge.rehearsal.explain import explain_rule
from kedge.windows import HOUR, MINUTE, Window
from tests.pipeline.world import MODEL, T0, World, prediction, settings, world

RULES = """
version: 1
defaults: {model: fraud, window: 1h}
rules:
- {name: each, kind: drift, by: [feature], features: {top: 2}}
- {name: together, kind: drift, share: 10%, features: {top: 2}}
"""


def rows(hour: int, attributions: Sequence[float]) -> list[Prediction]:
    """120 rows of an hour, that lean on three features with these weights."""
    return [
        replace(
            prediction(hour * 1000 + i, T0 + hour * HOUR + i * MINUTE // 2),
            num={"amount": float(i % 50), "age": float(i % 40), "debt": float(i % 30)},
            cat={},
            attributions={
                name: weight * (-1) ** i
                for name, weight in zip(("age", "amount", "debt"), attributions, strict=False)
            },
        )
        for i in range(120)
    ]


def play(one: World, before: Sequence[float], after: Sequence[float]) -> None:
    """An hour that becomes the baseline, and two that are judged against it."""
    one.send(rows(0, before))
    one.tick(T0 + HOUR + 2 * MINUTE)
    window = Window(T0, T0 + HOUR)
    groupings = groupings_of(one.pipe, one.book, MODEL)
    made = build_baseline(
        one.store, MODEL, window, features_of(one.store.state, MODEL), groupings, source="rows", now=one.now
    )
    import_baseline(one.store.state, made, use=True)
    for hour in (1, 2):
        one.send(rows(hour, after))
        one.drain(T0 + (hour + 1) * HOUR + 2 * MINUTE)


@pytest.fixture
def one() -> Iterator[World]:
    with world(book=parse_rules(RULES), settings=settings(fraud={"bucket": "1m", "baseline": "off"})) as made:
        yield made


def judged(one: World) -> list[str]:
    """The features that have an alert; that of none, from before there was a baseline, stays quiet."""
    return sorted(a.group["feature"] for a in one.alerts().values() if a.rule == "each" and a.group)


def test_the_baselines_explanations_say_which_features_matter_and_windows_do_not(one: World) -> None:
    play(one, before=(0.1, 2.0, 0.5), after=(9.0, 0.0, 0.0))
    assert judged(one) == ["amount", "debt"]
    together = one.alert("together").finding
    assert together is not None
    assert together.n == 2
    assert "most important: amount, debt (by mean |attribution| in baseline " in together.reason
    (row,) = explain_rule(one.pipe, one.book.by_name["each"], one.now)
    assert row["features"] == ["amount", "debt"]
    assert [alert["group"] for alert in row["alerts"]] == [{"feature": "amount"}, {"feature": "debt"}]
    assert row["features_known"].startswith("by mean |attribution| in baseline ")


def test_what_kedge_yml_states_wins_over_explanations() -> None:
    stated = settings(
        fraud={"bucket": "1m", "baseline": "off", "importance": {"debt": 0.1, "age": 0.7, "amount": 0.05}}
    )
    with world(book=parse_rules(RULES), settings=stated) as one:
        play(one, before=(0.1, 2.0, 0.5), after=(0.1, 2.0, 0.5))
        assert judged(one) == ["age", "debt"]
        together = one.alert("together").finding
        assert together is not None
        assert "most important: age, debt (by `importance` in kedge.yml)" in together.reason


def test_without_either_it_says_what_is_lacking_and_the_way_out(one: World) -> None:
    play(one, before=(), after=(1.0, 2.0, 3.0))
    for name in ("each", "together"):
        finding = one.alert(name).finding
        assert finding is not None
        assert finding.state is State.INSUFFICIENT
        assert "the 2 most important features are not known (no row of baseline " in finding.reason
        assert "importance: [amount, age]" in finding.reason
        (row,) = explain_rule(one.pipe, one.book.by_name[name], one.now)
        assert (row["features"], len(row["alerts"])) == ([], 1)
        assert "log `attributions`" in row["features_known"]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("[amount, age]", ("amount", "age")),
        ("{age: 0.1, amount: 3, debt: 0.1}", ("amount", "age", "debt")),
        ("{age: 0, amount: 0.5}", ("amount", "age")),
    ],
)
def test_importance_is_stated_in_order_or_by_numbers(
    tmp_path: Path, written: str, found: tuple[str, ...]
) -> None:
    file = tmp_path / "kedge.yml"
    file.write_text(f"models:\n  fraud:\n    importance: {written}\n")
    assert load_settings(file, {}).of_model("fraud").importance == found


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("amount", "write features, the most important first: [amount, age], or {amount: 0.4, age: 0.1}"),
        ("[amount, 3]", "write features, the most important first"),
        ("[amount, age, amount]", "amount stands in it twice"),
        ("{amount: much}", "amount: much is no importance: a number from 0 on"),
        ("{amount: -0.1}", "amount: -0.1 is no importance"),
        ("{amount: .nan}", "amount: nan is no importance"),
        ("{amount: true}", "amount: True is no importance"),
    ],
)
def test_what_is_wrong_with_an_importance_is_said_with_its_place(
    tmp_path: Path, written: str, said: str
) -> None:
    file = tmp_path / "kedge.yml"
    file.write_text(f"models:\n  fraud:\n    importance: {written}\n")
    with pytest.raises(KedgeError) as caught:
        load_settings(file, {})
    assert f"{file}:3:5: models.fraud.importance: {said}" in str(caught.value)
