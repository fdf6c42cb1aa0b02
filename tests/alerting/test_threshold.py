"""What threshold rules find: strictly beyond a bound, with evidence, on enough rows."""

import math

import numpy as np
import pytest

from kedge.alerting.finding import Severity, State
from kedge.alerting.inputs import Against
from kedge.alerting.rule import Rule
from kedge.errors import BadInput
from kedge.sketch import SCORE_CELLS, Core, Counts, Labels, Moments, PartName, Summary
from kedge.windows import DAY, HOUR, MINUTE
from tests.alerting.make import find, labelled, predicted, rule, rules, score_cells, served

ACCURACY = "metric: performance.accuracy"


def volume(n: int) -> Summary:
    return predicted(yes=n)


@pytest.mark.parametrize(
    ("bounds", "rows", "state", "severity"),
    [
        ("above: 100", 100, State.OK, None),
        ("above: 100", 101, State.BREACH, Severity.MEDIUM),
        ("below: 100", 100, State.OK, None),
        ("below: 100", 99, State.BREACH, Severity.MEDIUM),
        ("above: {low: 100, critical: 300}", 101, State.BREACH, Severity.LOW),
        ("above: {low: 100, critical: 300}", 300, State.BREACH, Severity.LOW),
        ("above: {low: 100, critical: 300}", 301, State.BREACH, Severity.CRITICAL),
        ("below: {medium: 100, high: 50}", 49, State.BREACH, Severity.HIGH),
        ("above: 100, severity: info", 101, State.BREACH, Severity.INFO),
    ],
)
def test_a_bound_is_breached_only_beyond_it(
    bounds: str, rows: int, state: State, severity: Severity | None
) -> None:
    found = find(f"metric: volume.count, {bounds}", volume(rows))
    assert (found.state, found.severity) == (state, severity)


@pytest.mark.parametrize(
    ("rows", "state", "holding"),
    [
        (301, State.BREACH, Severity.HIGH),
        (260, State.BREACH, Severity.HIGH),
        (240, State.BREACH, Severity.MEDIUM),
        (101, State.BREACH, Severity.MEDIUM),
        (100, State.HOLD, Severity.MEDIUM),
        (51, State.HOLD, Severity.MEDIUM),
        (50, State.OK, None),
    ],
)
def test_clear_is_the_hysteresis_of_every_rung(rows: int, state: State, holding: Severity | None) -> None:
    """Bounds 100 and 300 with `clear: 50`: the upper rung leaves at 250."""
    found = find("metric: volume.count, above: {medium: 100, high: 300}, clear: 50", volume(rows))
    assert (found.state, found.holding) == (state, holding)


def test_no_rows_are_no_traffic_and_no_data_for_all_else() -> None:
    silent = find("metric: volume.count, below: 1", Summary.zero())
    assert (silent.state, silent.value) == (State.BREACH, 0)
    assert silent.reason == "volume.count is 0 (n=0), below 1"
    assert find(f"{ACCURACY}, below: 90%", Summary.zero()).state is State.NO_DATA
    assert find("metric: latency.p95, above: 100ms", volume(5)).state is State.NO_DATA


def test_a_window_that_is_not_summarised_is_incomplete() -> None:
    assert find(f"{ACCURACY}, below: 90%", None).state is State.INCOMPLETE
    assert find(f"{ACCURACY}, below: 90%", labelled(1, 100), complete=False).state is State.INCOMPLETE


def test_fewer_than_min_count_is_insufficient_whatever_the_value() -> None:
    found = find(f"{ACCURACY}, below: 90%, min_count: 200", labelled(0, 199))
    assert found.state is State.INSUFFICIENT
    assert found.reason == (
        "performance.accuracy rests on n=199, under min_count 200 (of labelled rows with a predicted class)"
    )
    assert find(f"{ACCURACY}, below: 90%, min_count: 200", labelled(0, 200)).state is State.BREACH


# --- evidence -----------------------------------------------------------------------------------------------


def test_a_rate_breaches_only_where_chance_is_no_explanation() -> None:
    few, many = labelled(17, 20), labelled(850, 1000)
    unsure = find(f"{ACCURACY}, below: 90%", few)
    assert (unsure.state, unsure.holding) == (State.HOLD, Severity.MEDIUM)
    assert unsure.reason.endswith("; it is below 90 %, but with so few rows that may be chance")
    assert find(f"{ACCURACY}, below: 90%", many).state is State.BREACH
    assert find(f"{ACCURACY}, below: 90%, evidence: point", few).state is State.BREACH


def test_each_rung_needs_its_own_evidence() -> None:
    found = find(f"{ACCURACY}, below: {{medium: 90%, high: 80%}}", labelled(790, 1000))
    assert (found.severity, found.holding, found.bound) == (Severity.MEDIUM, Severity.HIGH, 0.9)


def test_the_budget_says_how_much_evidence() -> None:
    """One look in an hour at one group: alpha is the budget over 720 looks, or over 72,000 for 100 groups."""
    rows = labelled(868, 1000)
    hourly = {"every": HOUR}
    assert find(f"{ACCURACY}, below: 90%", rows, **hourly).state is State.BREACH
    assert find(f"{ACCURACY}, below: 90%", rows, groups=100, **hourly).state is State.HOLD
    assert (
        find(f"{ACCURACY}, below: 90%, budget: 100 per 30d", rows, groups=100, **hourly).state is State.BREACH
    )


def test_a_quantile_breaches_by_its_order_statistics() -> None:
    slow_tail = served([50.0] * 94 + [300.0] * 6)
    assert find("metric: latency.p95, above: 100ms, evidence: point", slow_tail).state is State.BREACH
    assert find("metric: latency.p95, above: 100ms", slow_tail).state is State.HOLD
    assert (
        find("metric: latency.p95, above: 100ms", served([50.0] * 800 + [300.0] * 200)).state is State.BREACH
    )


# --- against a reference ------------------------------------------------------------------------------------

FELL = f"{ACCURACY}, compare: {{to: baseline}}, fall: {{medium: 5%, high: 10%}}, clear: 3%"


@pytest.mark.parametrize(
    ("right", "state", "severity"),
    [
        (7000, State.BREACH, Severity.HIGH),
        (7201, State.BREACH, Severity.MEDIUM),
        (7500, State.BREACH, Severity.MEDIUM),
        (7700, State.HOLD, None),
        (7770, State.OK, None),
        (9000, State.OK, None),
    ],
)
def test_a_relative_fall_from_the_baseline(right: int, state: State, severity: Severity | None) -> None:
    found = find(FELL, labelled(right, 10_000), labelled(80_000, 100_000))
    assert (found.state, found.severity) == (state, severity)


def test_a_fall_is_told_with_all_its_numbers() -> None:
    found = find(FELL, labelled(6800, 10_000), labelled(80_000, 100_000))
    assert found.reason == (
        "performance.accuracy is 68 % (n=10,000; 95 %: 67.08 % to 68.91 %), was 80 % (n=100,000; baseline "
        "b1): "
        "−15 % (limit −10 %)"
    )
    assert (found.change, found.clears) == ("−15 % (limit −10 %)", "at a fall of 3 % or less")
    assert found.bound == pytest.approx(0.72)
    assert (found.reference, found.reference_n, found.unit) == (0.8, 100_000, "ratio")


def test_a_change_within_the_noise_of_both_sides_only_holds() -> None:
    assert find(FELL, labelled(15, 20), labelled(17, 20)).state is State.HOLD
    assert find(FELL, labelled(7500, 10_000), labelled(17, 20)).state is State.HOLD


def test_without_a_reference_nothing_is_judged() -> None:
    found = find(FELL, labelled(10, 1000))
    assert found.state is State.INSUFFICIENT
    assert found.reason == (
        "performance.accuracy has nothing to be compared with: create a baseline (`kedge baseline create`)"
    )
    assert find(FELL, labelled(10, 1000), labelled(0, 0)).state is State.INSUFFICIENT


@pytest.mark.parametrize(
    ("bounds", "before", "after", "state"),
    [
        ("rise: 3x", 100, 300, State.OK),
        ("rise: 3x", 100, 301, State.BREACH),
        ("fall: 2x", 100, 50, State.OK),
        ("fall: 2x", 100, 49, State.BREACH),
        ("fall: 2x", 100, 0, State.BREACH),
        ("rise: 3x", 0, 0, State.OK),
        ("rise: 3x", 0, 5, State.BREACH),
        ("rise: 50%", 0, 0, State.OK),
        ("change: 50%", 100, 150, State.OK),
        ("change: 50%", 100, 151, State.BREACH),
        ("change: 50%", 100, 49, State.BREACH),
        ("rise: 20ms", 100, 120, State.OK),
        ("rise: 20ms", 100, 121, State.BREACH),
        ("rise: 20ms", 100, 60, State.OK),
        ("fall: 20ms", 100, 150, State.OK),
    ],
)
def test_scales_of_change(bounds: str, before: int, after: int, state: State) -> None:
    text = f"metric: latency.mean, compare: {{to: baseline}}, evidence: point, {bounds}"
    found = find(text, served([float(after)] * 9), served([float(before)] * 9))
    assert found.state is state
    assert found.bound is not None
    assert math.isfinite(found.bound)


def test_points_are_of_the_share_itself() -> None:
    text = "metric: class.share, class: yes, compare: {to: baseline}, change: 5pp"
    before = predicted(yes=5_000, no=5_000)
    assert find(text, predicted(yes=5_500, no=4_500), before).state is State.OK
    moved = find(text, predicted(yes=4_300, no=5_700), before)
    assert (moved.state, moved.change) == (State.BREACH, "−7 points (limit −5 points)")
    assert moved.bound == pytest.approx(0.45)


def test_a_metric_of_features_gives_an_alert_to_each() -> None:
    watching = rule("metric: quality.missing, by: [feature], above: 10%")
    assert (watching.fans_out, watching.grouping) == (True, ())


def of_features(**ages: float) -> Summary:
    """100 rows, each feature with values spread over so much."""
    held = {name: Moments.of(spread * i for i in range(100)) for name, spread in ages.items()}
    return Summary(Core(rows=100, numeric=held), None, None)


def test_features_that_went_are_named_in_the_finding() -> None:
    before, after = of_features(age=1.0, height=1.0, weight=1.0), of_features(age=1.0)
    gone = find("metric: quality.disappeared, above: 0, severity: high", after, before)
    assert (gone.state, gone.severity, gone.value) == (State.BREACH, Severity.HIGH, 2)
    assert gone.reason == "quality.disappeared is 2 (n=3), above 0: height, weight"
    assert find("metric: quality.disappeared, above: 0", before, before).state is State.OK


def explained(**sizes: float) -> Summary:
    """100 rows, each feature with attributions from none to twice so much."""
    held = {name: Moments.of(size * i / 50 for i in range(100)) for name, size in sizes.items()}
    return Summary(Core(rows=100, attributions=held), None, None)


def test_a_feature_that_contributes_more_than_it_did_is_found() -> None:
    before, after = explained(age=1.0, shop=4.0), explained(age=20.0, shop=4.0)
    shifted = find("metric: attribution.shift, feature: age, above: 1", after, before)
    assert (shifted.state, shifted.value) == (State.BREACH, pytest.approx(19.0))
    assert find("metric: attribution.shift, feature: shop, above: 1", after, before).state is State.OK
    order = find("metric: attribution.rank_shift, above: 0.1", after, before)
    assert order.state is State.BREACH
    assert order.reason.endswith("above 0.1: age 2 → 1, shop 1 → 2")


def test_what_too_few_rows_cannot_tell_is_no_recovery() -> None:
    few = Summary(Core(rows=1), None, None)
    rare = Summary(Core(rows=100, numeric={"age": Moments.of([1.0] * 40)}), None, None)
    assert find("metric: quality.disappeared, above: 0", few, rare).state is State.INSUFFICIENT


# --- what the pipeline asks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "grouping"),
    [
        ("by: [segment.region, service]", ("segment.region", "service")),
        ("by: segment.region, version: serving", ("segment.region", "version")),
        ("version: v7", ("version",)),
        ("by: [model.version]", ("version",)),
    ],
)
def test_the_grouping_holds_what_a_rule_splits_by(text: str, grouping: tuple[str, ...]) -> None:
    assert rule(f"metric: volume.count, below: 1, {text}").grouping == grouping


def test_a_rule_steps_by_its_window_and_refuses_one_that_is_shorter_than_the_bucket() -> None:
    daily = rule("metric: volume.count, below: 1, window: 24h")
    assert daily.step(MINUTE) == HOUR
    assert daily.step(DAY) == DAY
    with pytest.raises(
        BadInput, match='rule "it": window 10m is shorter than the base bucket of the model, 1h'
    ):
        rule("metric: volume.count, below: 1, window: 10m").step(HOUR)


def test_rules_on_labels_say_so() -> None:
    fell = rule(FELL)
    assert (fell.label_based, fell.parts, fell.compares) == (True, frozenset({PartName.LABELS}), True)
    assert not rule("metric: label.coverage, below: 50%").label_based


def test_the_signature_is_of_what_is_judged_and_not_of_texts_or_timing() -> None:
    def signature(text: str) -> str:
        watching: Rule = rule(f"metric: volume.count, {text}")
        return watching.signature

    one = signature("below: 1")
    assert signature("below: 1, for: 5m, notify: ops, description: silence") == one
    assert signature("below: {medium: 1}") != signature("below: {high: 1}") != one
    assert signature("below: 2") != one


# --- estimates without labels ---------------------------------------------------------------------------

ASSUMES = "; assumes that labels still follow from the inputs as they did in the reference"
LABELLED = labelled(9_000, 10_000)


def unlabelled(n: int, cell: int = 90) -> Summary:
    counts = np.zeros(SCORE_CELLS + 1, np.int64)
    counts[cell] = n
    return Summary(Core(rows=n, scores={"yes": counts}), None, Labels())


def test_an_estimate_is_judged_by_its_interval_and_says_what_it_assumes() -> None:
    found = find("metric: estimated.accuracy, below: 95%", unlabelled(5_000), LABELLED)
    assert (found.state, found.severity, found.n) == (State.BREACH, Severity.MEDIUM, 5_000)
    assert found.value == pytest.approx(0.9)
    assert found.reason.startswith("estimated.accuracy is 90 % (n=5,000; 95 %: ")
    assert found.reason.endswith(f", below 95 %{ASSUMES}")
    few = find("metric: estimated.accuracy, below: 95%", unlabelled(5_000), labelled(18, 20))
    assert few.state is State.HOLD
    assert few.reason.endswith(f"with so few rows that may be chance{ASSUMES}")


def test_an_estimate_can_be_compared_with_what_the_baseline_was() -> None:
    text = "metric: estimated.accuracy, compare: {to: baseline}, fall: 5%"
    cells = {90: (9_500, 500), 60: (600, 400)}
    pairs: dict[tuple[str, str], Counts] = {("yes", a): score_cells(0) for a in ("yes", "no")}
    for cell, (right, wrong) in cells.items():
        pairs["yes", "yes"][cell], pairs["yes", "no"][cell] = right, wrong
    core = Core(rows=11_000, scores={"yes": pairs["yes", "yes"] + pairs["yes", "no"]})
    reference = Summary(core, None, Labels(rows=11_000, scores=pairs))
    fallen = find(text, unlabelled(5_000, cell=60), reference)
    assert (fallen.state, fallen.value) == (State.BREACH, pytest.approx(0.6))
    assert fallen.reference == pytest.approx(10_100 / 11_000)
    assert find(text, unlabelled(5_000, cell=90), reference).state is State.OK


def test_a_withheld_estimate_is_no_recovery() -> None:
    text = "metric: estimated.accuracy, below: 95%, no_data: ok"
    withheld = find(text, unlabelled(500, cell=10), LABELLED)
    assert withheld.state is State.INSUFFICIENT
    assert "100% of the rows lie where the reference has too few labelled rows" in withheld.reason
    assert find(text, Summary.zero(), LABELLED).state is State.NO_DATA
    alone = find(text, unlabelled(500))
    assert alone.state is State.INSUFFICIENT
    assert alone.reason == (
        "estimated.accuracy has nothing to learn from: create a baseline (`kedge baseline create`)"
    )


@pytest.mark.parametrize("severity", ["high", "critical"])
def test_an_estimate_alone_reaches_medium_at_most(severity: str) -> None:
    for bounds in (f"below: {{low: 90%, {severity}: 50%}}", f"below: 90%, severity: {severity}"):
        (problem,) = rules("{name: it, metric: estimated.accuracy, " + bounds + "}").problems
        assert (problem.file, problem.line) == ("rules/a.yml", 4)
        assert "estimated.* alone reaches at most medium: " in problem.text
    assert rule("metric: estimated.accuracy, below: {low: 90%, medium: 50%}").lowest is Severity.LOW


# --- against other windows ------------------------------------------------------------------------------

FOUR = f"{ACCURACY}, compare: {{to: same_time}}, fall: 5%"


def weeks(*rights: int, of: int = 10_000) -> Against:
    return Against("the last 4 weeks", tuple(labelled(right, of) for right in rights), 2)


def test_the_median_of_the_weeks_is_what_a_metric_is_compared_with() -> None:
    found = find(FOUR, labelled(7_000, 10_000), against=weeks(8_000, 9_900, 1_000, 8_200))
    assert (found.reference, found.reference_n) == (pytest.approx(0.81), 40_000)
    assert found.state is State.BREACH
    assert "was 81 % (n=40,000; the last 4 weeks): −13.58 %" in found.reason
    assert find(FOUR, labelled(7_900, 10_000), against=weeks(8_000, 9_900, 1_000, 8_200)).state is State.OK


def test_weeks_without_data_do_not_count_and_one_alone_is_insufficient() -> None:
    two = Against("the weeks", (labelled(0, 0), labelled(8_000, 10_000), labelled(8_200, 10_000)), 2)
    assert find(FOUR, labelled(7_000, 10_000), against=two).reference == pytest.approx(0.81)
    one = Against("the weeks", (labelled(0, 0), labelled(8_000, 10_000)), 2)
    found = find(FOUR, labelled(7_000, 10_000), against=one)
    assert found.state is State.INSUFFICIENT
    assert found.reason == (
        "performance.accuracy has nothing to be compared with in the weeks: 2 windows are needed, and 1 can "
        "be used (no labels yet)"
    )


def test_the_noise_of_the_weeks_enters_the_interval() -> None:
    """A fall of a third on many rows, against weeks of a few rows or of many."""
    assert find(FOUR, labelled(6_000, 10_000), against=weeks(18, 18, 18, 18, of=20)).state is State.HOLD
    assert (
        find(FOUR, labelled(6_000, 10_000), against=weeks(900, 900, 900, 900, of=1_000)).state is State.BREACH
    )


def test_what_is_compared_with_another_window_needs_no_baseline() -> None:
    text = f"{ACCURACY}, compare: {{to: history, window: 7d}}, fall: 5%"
    before = Against("the 7d before", (labelled(9_000, 10_000),))
    assert find(text, labelled(7_000, 10_000), against=before).state is State.BREACH
    ignored = find(text, labelled(9_000, 10_000), labelled(1_000, 10_000), against=before)
    assert (ignored.state, ignored.reference) == (State.OK, 0.9)


def test_an_estimate_learns_from_the_baseline_whatever_it_is_compared_with() -> None:
    text = "metric: estimated.accuracy, compare: {to: history}, fall: 1%"
    before = Against("the 30d before", (unlabelled(5_000, cell=90),))
    found = find(text, unlabelled(5_000), LABELLED, against=before)
    assert (found.value, found.reference) == (pytest.approx(0.9), pytest.approx(0.9))
    assert "nothing to learn from" in find(text, unlabelled(5_000), against=before).reason
