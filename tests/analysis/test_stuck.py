"""For how long a feature has held one value: from buckets as from rows, and only beyond chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.analysis.drift import DriftSettings
from kedge.analysis.intervals import interval_at
from kedge.analysis.measure import Context, measure, metric
from kedge.analysis.metric import Metric, Verdict
from kedge.analysis.stuck import STUCK, Run, Runs
from kedge.errors import BadInput
from kedge.sketch import Core, Moments
from kedge.windows import MINUTE
from tests.analysis.rows import edges_of, featured, summarised

SPREAD = featured({"age": np.arange(1_000.0)}, {"shop": ["a", "b"] * 500})
END = 100 * MINUTE


def run(minutes: int, n: int, value: float = 7.0, *, broken: bool = True) -> Run:
    return Run(END - minutes * MINUTE, END, n, value, broken)


def found(runs: dict[str, Run] | None, feature: str = "age", before=SPREAD, **more) -> Metric:
    edges = edges_of(before)
    context = Context(reference=summarised(before, edges), edges=edges, runs=runs, **more)
    return metric(STUCK, summarised(featured({"age": np.arange(60.0)}), edges), context, feature=feature)


@given(st.lists(st.lists(st.sampled_from([1.0, 2.0, None]), max_size=4), min_size=1, max_size=8))
def test_a_run_of_buckets_is_that_of_the_rows_by_whole_buckets(buckets: list[list[float | None]]) -> None:
    runs = Runs(["x", "none"], len(buckets) * MINUTE)
    for i in reversed(range(len(buckets))):
        values = [v for v in buckets[i] if v is not None]
        runs.before(i * MINUTE, Core(numeric={"x": Moments.of(values)} if values else {}))
    held = [(i, v) for i, bucket in enumerate(buckets) for v in bucket if v is not None]
    got = runs.found.get("x")
    assert (got is None) is not bool(held)
    assert "none" not in runs.found
    if got is None:
        return
    last = held[-1][1]
    varied = {i for i, v in held if v != last}
    since = [(i, v) for i, v in held if i > max(varied, default=-1)]
    assert got.n == len(since)
    assert got.broken is bool(varied)
    assert got.length == (len(buckets) * MINUTE - since[0][0] * MINUTE if since else 0)


def test_a_feature_that_froze_tells_for_how_long_and_at_which_value() -> None:
    frozen = found({"age": run(30, 40)})
    assert (frozen.value, frozen.n) == (30 * MINUTE, 40)
    assert frozen.told == "every value of the last 30m is 7"
    assert frozen.interval == (30 * MINUTE, 30 * MINUTE)


def test_a_feature_that_varied_up_to_the_end_is_not_stuck() -> None:
    calm = found({"age": Run(END, END, 0, float("nan"), broken=True)})
    assert (calm.value, calm.n, calm.told) == (0.0, 60, None)


def test_equal_values_that_may_be_chance_count_for_nothing_where_the_window_holds_others() -> None:
    needed = next(n for n in range(1, 50) if found({"age": run(5, n)}).value)
    assert 3 < needed < 10
    assert found({"age": run(5, needed - 1)}).value == 0.0
    tight = found({"age": run(5, needed)})
    assert interval_at(tight, 1e-9) == (0.0, 5 * MINUTE)


def test_a_window_of_too_few_rows_is_insufficient() -> None:
    few = found({"age": run(5, 2, broken=False)})
    assert (few.value, few.verdict) == (None, Verdict.INSUFFICIENT)
    assert few.reason == "every value of the last 5m is 7 (n=2), which may be chance"


def test_rows_that_depend_on_each_other_prove_less() -> None:
    assert found({"age": run(5, 20)}).value
    assert found({"age": run(5, 20)}, drift=DriftSettings(phi={"age": 15.0})).value == 0.0


def test_a_feature_that_never_varied_is_not_stuck() -> None:
    flat = featured({"age": [3.0] * 100})
    assert found({"age": run(60, 500, 3.0, broken=False)}, before=flat).value == 0.0


@pytest.mark.parametrize(
    ("runs", "feature", "reason"),
    [
        (None, "age", "the newest buckets were not read apart"),
        ({}, "age", "no values in the window"),
        ({}, "shop", "not for a categorical feature"),
        ({}, "size", "the reference has no such feature"),
    ],
)
def test_what_cannot_be_told_says_why(runs: dict[str, Run] | None, feature: str, reason: str) -> None:
    nothing = found(runs, feature)
    assert (nothing.value, nothing.reason) == (None, reason)


def test_it_is_told_of_numeric_features_where_buckets_were_read_apart() -> None:
    edges = edges_of(SPREAD)
    summary = summarised(SPREAD, edges)
    for runs, told in (({"age": run(5, 9)}, [{"feature": "age"}]), (None, [])):
        context = Context(reference=summary, edges=edges, runs=runs)
        assert [m.labels for m in measure(summary, context) if m.name == STUCK] == told
    with pytest.raises(BadInput, match="of one feature"):
        metric(STUCK, summary, Context(edges=edges))
