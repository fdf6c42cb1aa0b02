"""What drift rules find: shifts that are credibly more than harmless."""

from dataclasses import replace

import pytest

from kedge.alerting.finding import Finding, Severity, State
from kedge.alerting.inputs import Inputs
from kedge.alerting.lifecycle import NoData
from kedge.analysis.importance import Importance
from kedge.analysis.variation import PREDICTED, AtLength
from kedge.sketch import Core, Labels, PartName, Summary
from kedge.windows import HOUR, Window
from tests.alerting.make import NOW, counted, edges_of, find, predicted, rule, score_cells

EDGES = edges_of("age", "amount", "hour", "rate")
FLAT = (2000, 2000, 2000, 2000, 2000)
BEFORE = counted(EDGES, age=FLAT, amount=FLAT, hour=FLAT, rate=FLAT)
TILTED = (4000, 3000, 1500, 1000, 500)
"""Effect about 0.4 against FLAT."""
LEANING = (2650, 2350, 2000, 1650, 1350)
"""Effect about 0.055: more than 0.05, but not credibly so."""


def by_feature(
    text: str, summary: Summary, reference: Summary | None = BEFORE, varies: AtLength | None = None
) -> dict[str, Finding]:
    inputs = Inputs(
        Window(NOW - HOUR, NOW), summary, reference, EDGES, reference_name="baseline b1", varies=varies
    )
    found = rule(f"kind: drift, by: [feature], {text}").judge_all(inputs, NOW)
    return {labels["feature"]: finding for labels, finding in found}


def share(text: str, summary: Summary, reference: Summary | None = BEFORE) -> Finding:
    return find(f"kind: drift, {text}", summary, reference, edges=EDGES)


def test_the_share_of_drifted_features_breaches_beyond_its_bound() -> None:
    half = counted(EDGES, age=TILTED, amount=TILTED, hour=FLAT, rate=FLAT)
    found = share("share: {medium: 10%, high: 30%}", half)
    assert (found.state, found.severity, found.value, found.n) == (State.BREACH, Severity.HIGH, 0.5, 4)
    assert found.reason == "2 of 4 features drifted from baseline b1: 50 %, over 30 %"
    assert [cause["feature"] for cause in found.causes] == ["age", "amount"]
    assert found.causes[0]["effect"] > 0.3
    at_the_bound = share("share: 50%", half)
    assert (at_the_bound.state, at_the_bound.causes[0]["feature"]) == (State.OK, "age")


def test_a_shift_that_is_not_credibly_more_than_the_tolerance_is_no_drift() -> None:
    leaning = counted(EDGES, age=LEANING, amount=FLAT, hour=FLAT, rate=FLAT)
    assert by_feature("tolerance: 0.05", leaning)["age"].state is State.OK
    assert by_feature("tolerance: 0.02", leaning)["age"].state is State.BREACH


def test_each_feature_has_a_finding_of_its_own_at_info_unless_said() -> None:
    found = by_feature("min_count: 10", counted(EDGES, age=TILTED, amount=FLAT, hour=FLAT, rate=FLAT))
    assert {name: f.state for name, f in found.items()} == {
        "age": State.BREACH,
        "amount": State.OK,
        "hour": State.OK,
        "rate": State.OK,
    }
    age = found["age"]
    assert (age.severity, age.bound, age.n, age.reference_n) == (Severity.INFO, 0.05, 10_000, 10_000)
    assert age.reason.startswith("age against baseline b1 (effect 0.4")
    assert "exceeds the tolerance 0.05" in age.reason
    louder = by_feature("severity: low", counted(EDGES, age=TILTED, amount=FLAT, hour=FLAT, rate=FLAT))
    assert louder["age"].severity is Severity.LOW


def test_a_ladder_of_tolerances_takes_the_highest_that_is_credibly_passed() -> None:
    found = by_feature(
        "tolerance: {low: 0.05, high: 0.1, critical: 1}", counted(EDGES, age=TILTED, amount=FLAT)
    )
    assert (found["age"].severity, found["age"].bound) == (Severity.HIGH, 0.1)


def test_only_the_named_features_are_judged() -> None:
    summary = counted(EDGES, age=TILTED, amount=TILTED, hour=FLAT, rate=FLAT)
    assert set(by_feature("features: [amount, hour]", summary)) == {"amount", "hour"}
    assert share("share: 10%, features: [hour, rate]", summary).state is State.OK


KNOWN = Importance(("hour", "age", "rate", "amount"), "by mean |attribution| in baseline b1")


def test_the_most_important_features_are_judged_and_told() -> None:
    summary = counted(EDGES, age=TILTED, amount=TILTED, hour=FLAT, rate=FLAT)
    inputs = Inputs(Window(NOW - HOUR, NOW), summary, BEFORE, EDGES, importance=KNOWN)
    found = rule("kind: drift, by: [feature], features: {top: 2}").judge_all(inputs, NOW)
    assert {labels["feature"]: one.state for labels, one in found} == {"hour": State.OK, "age": State.BREACH}
    told = "; most important: hour, age (by mean |attribution| in baseline b1)"
    assert all(one.reason.endswith(told) for _, one in found)
    together = find(
        "kind: drift, share: 40%, features: {top: 2}", summary, BEFORE, edges=EDGES, importance=KNOWN
    )
    assert (together.state, together.value, together.n) == (State.BREACH, 0.5, 2)
    assert together.reason.endswith(told)
    by_psi = find(
        "kind: drift, share: 60%, features: {top: 2}, test: psi",
        summary,
        BEFORE,
        edges=EDGES,
        importance=KNOWN,
    )
    assert (by_psi.state, by_psi.value, by_psi.n) == (State.OK, 0.5, 2)


def test_the_most_important_features_are_those_of_a_list_of_their_names() -> None:
    """Rules on one summary share what was worked out of it: not between different features."""
    summary = counted(EDGES, age=TILTED, amount=TILTED, hour=FLAT, rate=FLAT)
    for top in range(1, 5):
        of_top = find(
            f"kind: drift, share: 10%, features: {{top: {top}}}",
            summary,
            BEFORE,
            edges=EDGES,
            importance=KNOWN,
        )
        named = f"features: [{', '.join(KNOWN.features[:top])}]"
        of_names = find(f"kind: drift, share: 10%, {named}", summary, BEFORE, edges=EDGES)
        assert (of_top.state, of_top.value, of_top.n) == (of_names.state, of_names.value, of_names.n)
        assert of_top.reason.startswith(of_names.reason)


def test_without_knowing_which_features_matter_most_nothing_is_guessed() -> None:
    summary = counted(EDGES, age=TILTED, amount=TILTED, hour=TILTED, rate=TILTED)
    for text in ("share: 10%", "by: [feature]"):
        lacking = Importance(lacking="no row of baseline b1 has attributions")
        found = find(
            f"kind: drift, features: {{top: 3}}, {text}", summary, BEFORE, edges=EDGES, importance=lacking
        )
        assert found.state is State.INSUFFICIENT
        assert "(no row of baseline b1 has attributions): log `attributions` and create" in found.reason
        few = find(
            f"kind: drift, features: {{top: 5}}, {text}", summary, BEFORE, edges=EDGES, importance=KNOWN
        )
        assert few.state is State.INSUFFICIENT
        assert "(by mean |attribution| in baseline b1 only 4 have a place)" in few.reason


def test_an_important_feature_that_has_no_reference_is_told_rather_than_passed_over() -> None:
    summary = counted(EDGES, age=FLAT, amount=FLAT, hour=FLAT, rate=FLAT)
    stated = Importance(("age", "amuont"), "by `importance` in kedge.yml")
    inputs = Inputs(Window(NOW - HOUR, NOW), summary, BEFORE, EDGES, importance=stated)
    found = rule("kind: drift, by: [feature], features: {top: 2}").judge_all(inputs, NOW)
    states = {labels["feature"]: one for labels, one in found}
    assert {name: one.state for name, one in states.items()} == {
        "age": State.OK,
        "amuont": State.INSUFFICIENT,
    }
    assert states["amuont"].reason.startswith("it is no feature of the baseline")
    together = find(
        "kind: drift, share: 10%, features: {top: 2}", summary, BEFORE, edges=EDGES, importance=stated
    )
    assert "amuont cannot be judged: no feature of the baseline" in together.reason


def test_few_rows_are_insufficient_and_say_what_they_need() -> None:
    few = counted(
        EDGES, age=(4, 4, 4, 4, 4), amount=(4, 4, 4, 4, 4), hour=(4, 4, 4, 4, 4), rate=(4, 4, 4, 4, 4)
    )
    found = by_feature("min_count: 0", few)["age"]
    assert found.state is State.INSUFFICIENT
    assert "needs n >= " in found.reason
    assert share("share: 30%", few).state is State.INSUFFICIENT


@pytest.mark.parametrize("features", ["[age, hour]", "{top: 2}"])
def test_of_features_that_are_named_any_is_enough(features: str) -> None:
    line = f"kind: drift, severity: high, features: {features}"
    moved = counted(EDGES, age=TILTED, amount=FLAT, hour=FLAT, rate=FLAT)
    found = find(line, moved, BEFORE, edges=EDGES, importance=KNOWN)
    assert (found.state, found.severity) == (State.BREACH, Severity.HIGH)
    calm = find(
        line,
        counted(EDGES, age=FLAT, amount=FLAT, hour=FLAT, rate=FLAT),
        BEFORE,
        edges=EDGES,
        importance=KNOWN,
    )
    assert calm.state is State.OK
    other = counted(EDGES, age=FLAT, amount=FLAT, hour=FLAT, rate=TILTED)
    assert find(line, other, BEFORE, edges=EDGES, importance=KNOWN).state is State.OK


def test_a_share_that_unsure_features_could_lift_over_the_bound_is_insufficient() -> None:
    """Two of four have all rows and stay; two have next to none, and might have drifted."""
    thin = (4, 4, 4, 4, 4)
    found = share("share: 30%", counted(EDGES, age=FLAT, amount=FLAT, hour=thin, rate=thin))
    assert found.state is State.INSUFFICIENT
    assert found.reason.endswith("0 %, within 30 %; 2 more have too few rows to tell")


def test_no_rows_are_no_data_and_no_reference_is_insufficient() -> None:
    empty = Summary.zero(EDGES)
    assert share("share: 30%", empty).state is State.NO_DATA
    assert {f.state for f in by_feature("min_count: 0", empty).values()} == {State.NO_DATA}
    assert share("share: 30%", BEFORE, None).state is State.INSUFFICIENT
    assert by_feature("min_count: 0", BEFORE, None) == {}
    assert find("kind: drift, share: 30%", None, BEFORE).state is State.INCOMPLETE


def test_classes_that_shifted_breach_at_medium_and_far_ones_at_high() -> None:
    before = predicted(approve=90_000, refuse=10_000)
    text = "kind: drift, of: classes"
    assert find(text, predicted(approve=9000, refuse=1000), before).state is State.OK
    moved = find(text, predicted(approve=80_000, refuse=20_000), before)
    far = find(text, predicted(approve=60_000, refuse=40_000), before)
    assert (moved.state, moved.severity) == (State.BREACH, Severity.MEDIUM)
    assert (far.state, far.severity) == (State.BREACH, Severity.HIGH)
    assert far.reason.startswith("the predicted classes against baseline b1 (effect 0.")
    assert "refuse 10 % → 40 %" in far.reason
    assert find(text, predicted(approve=900, refuse=100), predicted()).state is State.INSUFFICIENT


def test_a_class_that_the_reference_never_had_is_a_shift() -> None:
    found = find(
        "kind: drift, of: classes", predicted(yes=900, no=900, maybe=800), predicted(yes=900, no=900)
    )
    assert found.severity is Severity.HIGH


def test_a_drift_rule_reads_cells_or_the_class_counts() -> None:
    assert rule("kind: drift, of: classes").parts == {PartName.CORE}
    assert rule("kind: drift, share: 30%").parts == {PartName.CORE, PartName.CELLS}
    assert rule("kind: drift, share: 30%, no_data: alert").timing.no_data is NoData.ALERT


# --- tests by name ------------------------------------------------------------------------------------------


def test_psi_breaches_above_its_index_and_says_both_figures() -> None:
    tilted = counted(EDGES, age=TILTED, amount=FLAT, hour=FLAT, rate=FLAT)
    found = by_feature("test: psi", tilted)
    assert (found["age"].state, found["age"].severity, found["age"].bound) == (
        State.BREACH,
        Severity.INFO,
        0.2,
    )
    assert found["age"].reason.startswith("age against baseline b1 (n=10,000): PSI 0.")
    assert found["age"].reason.endswith("above 0.2")
    assert found["amount"].state is State.OK
    assert by_feature("test: psi, above: 0.9", tilted)["age"].state is State.OK


def test_chi_square_and_ks_breach_on_what_the_tolerance_test_calls_harmless() -> None:
    leaning = counted(EDGES, age=LEANING, amount=FLAT, hour=FLAT, rate=FLAT)
    for name in ("ks", "chi2"):
        found = by_feature(f"test: {name}, severity: low", leaning)
        assert (found["age"].state, found["age"].severity) == (State.BREACH, Severity.LOW)
        assert found["age"].value is not None
        assert found["age"].value < 0.05
        assert found["amount"].state is State.OK
        assert found["amount"].value == 1.0
    assert by_feature("tolerance: 0.05", leaning)["age"].state is State.OK


def test_a_share_by_a_named_test_counts_the_features_beyond_its_bound() -> None:
    half = counted(EDGES, age=TILTED, amount=TILTED, hour=FLAT, rate=FLAT)
    found = share("share: {medium: 10%, high: 40%}, test: psi", half)
    assert (found.state, found.severity, found.value, found.n) == (State.BREACH, Severity.HIGH, 0.5, 4)
    assert found.reason == ("2 of 4 features drifted from baseline b1 by PSI over ten bins: 50 %, over 40 %")
    assert [cause["feature"] for cause in found.causes] == ["age", "amount"]
    assert share("share: 60%, test: chi2", half).state is State.OK
    assert share("share: 10%, test: chi2, min_count: 5", half).state is State.INSUFFICIENT


def sure(low: int, high: int) -> Summary:
    """Rows of one class, so many less and so many more sure of it."""
    cells = score_cells(high)
    cells[60] = low
    return Summary(Core(rows=low + high, scores={"yes": cells}), None, Labels())


def test_predictions_that_are_less_sure_breach_though_the_classes_are_the_same() -> None:
    before, after = sure(5_000, 5_000), sure(8_000, 2_000)
    assert find("kind: drift, of: classes", after, before).state is State.OK
    found = find("kind: drift, of: predictions", after, before)
    assert (found.state, found.severity) == (State.BREACH, Severity.HIGH)
    assert found.reason.startswith("the predictions against baseline b1 (effect 0.")
    assert "yes at 0.00 to 0.61 50 % → 80 %" in found.reason
    assert find("kind: drift, of: predictions", sure(5_050, 4_950), before).state is State.OK
    assert find("kind: drift, of: predictions", sure(8, 2), before).state is State.INSUFFICIENT
    assert find("kind: drift, of: predictions", Summary.zero(), before).state is State.NO_DATA
    none = find("kind: drift, of: predictions", Summary(Core(rows=5), None, Labels()), Summary(Core()))
    assert (none.state, none.reason) == (State.NO_DATA, "the predictions: no row has a prediction")


def test_a_rule_reads_the_cells_for_the_predictions_of_a_regression() -> None:
    both = {PartName.CORE, PartName.CELLS}
    assert rule("kind: drift, of: predictions").parts == both
    assert rule("metric: prediction.drift, above: 0.1").parts == both


def test_classes_by_a_named_test() -> None:
    before = predicted(approve=90_000, refuse=10_000)
    moved = predicted(approve=8_000, refuse=2_000)
    assert find("kind: drift, of: classes, test: chi2", moved, before).state is State.BREACH
    assert find("kind: drift, of: classes, test: psi", moved, before).state is State.OK
    assert find("kind: drift, of: classes, test: psi", predicted(), before).state is State.NO_DATA


def test_a_named_test_without_rows_or_reference_neither_fires_nor_clears() -> None:
    empty = Summary.zero(EDGES)
    assert {f.state for f in by_feature("test: ks", empty).values()} == {State.NO_DATA}
    assert {f.state for f in by_feature("test: ks", BEFORE, empty).values()} == {State.INSUFFICIENT}
    assert {f.state for f in by_feature("test: ks, min_count: 99999", BEFORE).values()} == {
        State.INSUFFICIENT
    }
    assert share("share: 30%, test: psi", BEFORE, None).state is State.INSUFFICIENT


# --- what is known of how the reference varies --------------------------------------------------------------

CERTAIN = AtLength(phi=dict.fromkeys(EDGES.features, 1.0))


def test_a_restless_feature_is_no_part_of_the_share_and_reaches_info_by_itself() -> None:
    half = counted(EDGES, age=TILTED, amount=TILTED, hour=FLAT, rate=FLAT)
    varies = replace(CERTAIN, normal={"age": 0.5, "amount": 0.01})
    whole = find("kind: drift, share: {medium: 10%, high: 30%}", half, BEFORE, edges=EDGES, varies=varies)
    assert (whole.severity, whole.n, whole.value) == (Severity.HIGH, 3, 1 / 3)
    assert [cause["feature"] for cause in whole.causes] == ["amount"]
    assert whole.reason.endswith("; 1 restless, which normally exceed the tolerance, are left out")
    each = by_feature("severity: high", half, varies=varies)
    assert (each["age"].state, each["age"].severity) == (State.BREACH, Severity.INFO)
    assert "restless: normally exceeds the tolerance" in each["age"].reason
    assert each["amount"].severity is Severity.HIGH
    by_test = by_feature("severity: high, test: psi", half, varies=varies)
    assert (by_test["age"].severity, by_test["amount"].severity) == (Severity.INFO, Severity.HIGH)


def test_a_verdict_on_borrowed_dispersion_reaches_medium_at_most() -> None:
    half = counted(EDGES, age=TILTED, amount=TILTED, hour=FLAT, rate=FLAT)
    borrowed = replace(CERTAIN, borrowed=frozenset(EDGES.features) | {PREDICTED})
    why = "; medium at most: how windows of this length vary is not known from 20 of the reference's own"
    whole = find("kind: drift, share: {medium: 10%, high: 30%}", half, BEFORE, edges=EDGES, varies=borrowed)
    assert (whole.severity, whole.reason.endswith(why)) == (Severity.MEDIUM, True)
    assert by_feature("severity: high", half, varies=borrowed)["age"].severity is Severity.MEDIUM
    assert by_feature("severity: low", half, varies=borrowed)["age"].severity is Severity.LOW
    before, now = predicted(a=900, b=100), predicted(a=400, b=600)
    found = find("kind: drift, of: classes", now, before, varies=borrowed)
    assert (found.severity, found.reason.endswith(why)) == (Severity.MEDIUM, True)
    assert find("kind: drift, of: classes", now, before, varies=CERTAIN).severity is Severity.HIGH


def test_dispersion_takes_rows_from_the_test() -> None:
    tilted = counted(EDGES, age=TILTED, amount=FLAT, hour=FLAT, rate=FLAT)
    wild = replace(CERTAIN, phi={"age": 500.0})
    assert by_feature("severity: low", tilted)["age"].state is State.BREACH
    found = by_feature("severity: low", tilted, varies=wild)["age"]
    assert found.state is State.INSUFFICIENT
    assert "as 500 rows here tell as much as one" in found.reason


def test_bounds_on_drift_metrics_know_of_restless_features_and_borrowed_dispersion() -> None:
    tilted = counted(EDGES, age=TILTED, amount=FLAT, hour=FLAT, rate=FLAT)
    text = "metric: drift.effect, feature: age, above: {low: 0.1, high: 0.2}"
    known = find(text, tilted, BEFORE, edges=EDGES, varies=CERTAIN)
    assert known.severity is Severity.HIGH
    borrowed = replace(CERTAIN, borrowed=frozenset({"age"}))
    assert find(text, tilted, BEFORE, edges=EDGES, varies=borrowed).severity is Severity.MEDIUM
    restless = replace(CERTAIN, normal={"age": 0.5})
    assert find(text, tilted, BEFORE, edges=EDGES, varies=restless).severity is Severity.INFO
