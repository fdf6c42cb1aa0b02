"""What a comparison of versions finds: roll back fires, promote says so, and too little waits."""

from dataclasses import replace

import pytest

from kedge.alerting.finding import Finding, Severity, State
from kedge.alerting.inputs import Inputs
from kedge.sketch import Core, Labels, Moments, PartName, Summary
from kedge.windows import DAY, HOUR, MINUTE, Window
from tests.alerting.make import NOW, labelled, rule

CANARY = "kind: versions, metric: errors.rate, candidate: v7, reference: v6, margin: 1pp, window: 7d"


def served(failed: int, of: int) -> Summary:
    return Summary(Core(rows=of, errors=failed), None, Labels())


def found(text: str, candidate: Summary, reference: Summary | None, **more: object) -> Finding:
    inputs = Inputs(Window(NOW - DAY, NOW), candidate, reference)
    ((labels, finding),) = rule(text).judge_all(replace(inputs, **more), NOW)  # type: ignore[arg-type]
    assert labels == {}
    return finding


def test_a_candidate_that_is_credibly_worse_fires_at_the_severity_of_the_rule() -> None:
    bad = found(f"{CANARY}, severity: high", served(300, 5_000), served(200, 20_000))
    assert (bad.state, bad.severity) == (State.BREACH, Severity.HIGH)
    assert (bad.value, bad.reference, bad.n, bad.reference_n) == (0.06, 0.01, 5_000, 20_000)
    assert bad.bound == pytest.approx(0.02)
    assert bad.reason.startswith("roll back v7: errors.rate is credibly worse by more than 1 point: 6 %")
    assert bad.change.startswith("+5 points (+")
    assert bad.change.endswith("limit +1 point)")


def test_one_that_is_credibly_no_worse_is_ok_and_says_promote() -> None:
    good = found(CANARY, served(100, 10_000), served(400, 40_000))
    assert good.state is State.OK
    assert good.reason.startswith("promote v7")


def test_until_then_it_neither_fires_nor_clears_and_says_what_is_lacking() -> None:
    early = found(CANARY, served(3, 100), served(40, 4_000))
    assert early.state is State.INSUFFICIENT
    assert early.reason.startswith("keep waiting")
    assert found(CANARY, served(0, 0), served(40, 4_000)).state is State.NO_DATA
    assert found(CANARY, served(30, 500), None).state is State.INSUFFICIENT
    over = found(CANARY, served(3, 100), served(40, 4_000), window=Window(NOW - 9 * DAY, NOW - 2 * DAY))
    assert over.reason.endswith("7d are over: a longer `window` counts on")
    few = found(f"{CANARY}, min_count: 6000", served(300, 5_000), served(200, 20_000))
    assert few.state is State.INSUFFICIENT
    assert "under min_count 6,000" in few.reason


def test_a_candidate_that_was_rolled_back_clears_the_alert() -> None:
    gone = found(CANARY, served(300, 5_000), served(200, 20_000), live=False)
    assert gone.state is State.OK
    assert gone.reason.startswith("v7 gets no traffic any more")


def test_a_candidate_of_unknown_start_asks_for_since() -> None:
    old = found(CANARY, served(300, 5_000), served(200, 20_000), window=Window(NOW, NOW))
    assert old.state is State.INSUFFICIENT
    assert "`since`" in old.reason
    assert "14d" in old.reason


def test_performance_needs_one_class_unless_the_model_declares_it() -> None:
    recall = "kind: versions, metric: performance.recall, candidate: v7, margin: 5pp"
    worse, better = labelled(500, 2_000), labelled(9_000, 10_000)
    averaged = found(recall, worse, better)
    assert (averaged.state, "name one with `class`" in averaged.reason) == (State.INSUFFICIENT, True)
    accuracy = found(recall.replace("recall", "accuracy"), worse, better)
    assert (accuracy.state, accuracy.bound) == (State.BREACH, pytest.approx(0.85))
    precision = found(recall.replace("recall", "precision"), worse, better, positive_class="yes")
    assert precision.state is State.BREACH
    assert "of all others" in precision.reason


def test_means_are_compared_with_a_margin_of_their_own_or_of_the_reference() -> None:
    def slow(mean: float, n: int) -> Summary:
        latencies = Moments.of([mean + i % 21 - 10 for i in range(n)])
        return Summary(Core(rows=n, latency_ms=latencies), None, Labels())

    for margin in ("10ms", "10%"):
        text = f"kind: versions, metric: latency.mean, candidate: v7, margin: {margin}"
        assert found(text, slow(125, 2_000), slow(100, 9_000)).state is State.BREACH
        assert found(text, slow(102, 2_000), slow(100, 9_000)).state is State.OK


def test_all_looks_share_one_probability_of_error() -> None:
    it = rule(CANARY)
    inputs = Inputs(Window(NOW - DAY, NOW), None, every=MINUTE)
    assert it.alpha(inputs) == 0.01
    assert it.alpha(replace(inputs, groups=50)) == pytest.approx(7 / 30 / 50)
    assert it.step(MINUTE) == 15 * MINUTE
    assert it.step(HOUR) == HOUR
    assert it.grouping == ("version",)
    assert it.parts == frozenset({PartName.CORE})
    assert it.reach(NOW) == 14 * DAY
