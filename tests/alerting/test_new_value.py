"""What a rule on new values says of those that are told to it."""

import pytest

from kedge.alerting.finding import Finding, Severity, State
from kedge.alerting.inputs import Appeared, Inputs, NewValue
from kedge.sketch import Core, Summary
from kedge.windows import HOUR, Window
from tests.alerting.make import NOW, rule

NEW = "kind: new_value, field: features.cat.shop"
BAR, CASINO = NewValue("bar", 30, ("e-2", "e-1")), NewValue("casino", 4, ("e-3",))


def found(
    text: str,
    *values: NewValue,
    rows: int = 900,
    own: tuple[str, ...] = (),
    reason: str = "",
    more: bool = False,
) -> list[tuple[dict[str, str], Finding]]:
    inputs = Inputs(
        Window(NOW - HOUR, NOW),
        Summary(Core(rows=rows)),
        appeared=Appeared(values, "baseline b1", more=more, reason=reason),
        own=tuple({"features.cat.shop": name} for name in own),
    )
    return rule(f"{NEW}{text}").judge_all(inputs, NOW)


def one(text: str, *values: NewValue, **more: object) -> Finding:
    ((labels, finding),) = found(text, *values, **more)  # type: ignore[arg-type]
    assert labels == {}
    return finding


def test_new_values_are_named_with_their_rows_and_the_newest_of_them() -> None:
    finding = one("", BAR, CASINO)
    assert (finding.state, finding.severity, finding.n) == (State.BREACH, Severity.MEDIUM, 34)
    assert finding.reason == (
        'features.cat.shop has 2 values that baseline b1 did not have: "bar" (30 rows; e-2, e-1), '
        '"casino" (4 rows; e-3)'
    )


def test_no_new_value_is_ok() -> None:
    assert one("").state is State.OK


@pytest.mark.parametrize(("least", "state"), [(4, State.BREACH), (5, State.INSUFFICIENT)])
def test_a_value_with_too_few_rows_neither_fires_nor_clears(least: int, state: State) -> None:
    assert one(f", min_count: {least}", CASINO).state is state
    assert one(f", min_count: {least}", BAR, CASINO).state is State.BREACH


def test_very_many_values_are_counted_and_a_few_of_them_named() -> None:
    values = [NewValue(f"v{i:03}", 9) for i in range(1_000)]
    reason = one("", *values, more=True).reason
    assert 'has over 1,000 values that baseline b1 did not have: "v000" (9 rows), ' in reason
    assert reason.endswith(" and 995 more")
    assert len(one("", NewValue("x" * 9_000, 1)).reason) < 200


def test_no_rows_are_no_data_and_what_cannot_be_told_is_no_answer() -> None:
    assert one("", rows=0).state is State.NO_DATA
    silent = one("", reason="there are no rows from before, to know values from")
    assert silent.state is State.INSUFFICIENT
    assert silent.reason == "features.cat.shop: there are no rows from before, to know values from"


def states(found: list[tuple[dict[str, str], Finding]]) -> dict[str, State]:
    return {labels["features.cat.shop"]: finding.state for labels, finding in found}


def test_each_value_may_have_an_alert_of_its_own() -> None:
    own = states(found(", by: value", BAR, CASINO, own=("pub",)))
    assert own == {"bar": State.BREACH, "casino": State.BREACH, "pub": State.OK}
    few = states(found(", by: value, min_count: 9", BAR, CASINO, own=("casino",)))
    assert few == {"bar": State.BREACH, "casino": State.INSUFFICIENT}


def test_a_window_without_rows_says_nothing_of_the_values_that_were_told() -> None:
    assert [f.state for _, f in found(", by: value", rows=0, own=("bar",))] == [State.NO_DATA]
    assert found(", by: value", rows=0) == []


def test_no_more_than_twenty_values_begin_to_fire_at_a_step_and_those_that_fire_go_on() -> None:
    values = [NewValue(f"v{i:02}", 9) for i in range(30)]
    names = [labels["features.cat.shop"] for labels, _ in found(", by: value", *values, own=("v29",))]
    assert names == [*(f"v{i:02}" for i in range(20)), "v29"]
