"""The rules in rules/examples do what they say: their own tests run here, and one that needs real rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from kedge.alerting.finding import Status
from kedge.alerting.loading import load_rules
from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.context import groupings_of
from kedge.pipeline.schema import features_of
from kedge.rehearsal.running import Result, run_file
from kedge.windows import HOUR, MINUTE, Window
from tests.pipeline.world import MODEL, T0, World, prediction, settings, world

RULES = Path(__file__).resolve().parents[2] / "rules"
EXAMPLES = RULES / "examples"
FILES = sorted(f for f in EXAMPLES.glob("*.yml") if not f.name.endswith(".test.yml"))
TESTS = sorted(EXAMPLES.glob("*.test.yml"))
ON_ROWS = {"new-category.yml", "cost-over-budget.yml"}
"""New values and measurements are of rows, which a test file cannot make: tested below."""


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_example_is_accepted_without_a_warning(file: Path) -> None:
    book = load_rules([file])
    assert book.rules
    assert (book.problems, book.warnings) == ((), ())


def test_every_example_has_tests_and_the_names_of_its_rules_are_its_own() -> None:
    tested = {f.name.removesuffix(".test.yml") + ".yml" for f in TESTS} | ON_ROWS
    assert {f.name for f in FILES} == tested
    assert not load_rules([EXAMPLES]).problems


@pytest.mark.parametrize("file", TESTS, ids=lambda f: f.name.removesuffix(".test.yml"))
def test_an_example_passes_its_own_tests(file: Path) -> None:
    results = list(run_file(file, file.name))
    assert results
    for result in results:
        assert isinstance(result, Result), str(result)
        assert result.problem is None, str(result.problem)
        assert result.failures == [], f"{result.name}: {result.failures}"


def test_examples_are_no_rules_of_a_new_folder_and_may_be_copied_into_it() -> None:
    ready_made, examples = load_rules([RULES]), load_rules([EXAMPLES])
    assert ready_made.rules
    assert ready_made.by_name.keys().isdisjoint(examples.by_name)
    assert not load_rules([RULES, EXAMPLES]).problems


def send(one: World, hour: int, new: int) -> None:
    """Thirty rows of an hour, the first `new` of them of a type that was never there, and a tick."""
    rows = []
    for i in range(30):
        row = prediction(hour * 100 + i, T0 + hour * HOUR + i * MINUTE)
        rows.append(replace(row, cat={"merchant_type": "crypto" if i < new else "grocer"}))
    one.send(rows)
    one.tick(T0 + (hour + 1) * HOUR + 5 * MINUTE)


def test_a_new_category_fires_with_enough_rows_of_it() -> None:
    book = load_rules([EXAMPLES / "new-category.yml"])
    with world(book=book, settings=settings(fraud={"bucket": "1h", "baseline": "off"})) as one:
        for hour in range(3):
            send(one, hour, 0)
        made = build_baseline(
            one.store,
            MODEL,
            Window(T0, T0 + 3 * HOUR),
            features_of(one.store.state, MODEL),
            groupings_of(one.pipe, one.book, MODEL),
            source="the first hours",
            now=one.now,
        )
        import_baseline(one.store.state, made, use=True)
        send(one, 3, 15)
        assert one.alert("new-merchant-type").status is Status.INACTIVE
        send(one, 4, 10)
        alert = one.alert("new-merchant-type")
        assert alert.status is Status.FIRING
        assert alert.finding is not None
        assert '"crypto" (25 rows' in alert.finding.reason


def test_the_cost_of_a_day_is_told_in_the_hour_that_passes_the_budget_team_by_team() -> None:
    book = load_rules([EXAMPLES / "cost-over-budget.yml"])
    midnight = T0 + 22 * HOUR  # in Berlin, in summer
    with world(book=book, settings=settings(assistant={"bucket": "1h", "baseline": "off"})) as one:
        for hour in range(-3, 25):
            rows = [
                replace(
                    prediction((hour + 3) * 10 + i, midnight + hour * HOUR + i * MINUTE),
                    model="assistant",
                    segment={"team": "search" if i % 2 else "ads"},
                    business={"token_cost": 9.0 if i % 2 else 1.0},
                )
                for i in range(6)
            ]
            one.send(rows)
            one.tick(midnight + (hour + 1) * HOUR + 5 * MINUTE)
            if hour == 23:
                search = one.alert("cost-over-budget", **{"segment.team": "search"})
                assert search.status is Status.FIRING
                assert search.finding is not None
                assert (search.finding.value, search.finding.n) == (24 * 3 * 9.0, 24 * 3)
        # 19 hours of 27 are over 500; what came before midnight was another day's.
        changes = [(e["step"], e["group"]["segment.team"], e["after"]) for e in one.events()]
        assert changes == [
            (midnight + 19 * HOUR, "search", "firing"),
            (midnight + 25 * HOUR, "search", "resolved"),
        ]
