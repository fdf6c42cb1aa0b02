"""Users' own metrics: their values, what they rest on, and where there is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.analysis.catalogue import declare, lookup
from kedge.analysis.custom import OwnMetrics, RatioMetric, UserMetric
from kedge.analysis.evidence import Exact, Rate
from kedge.analysis.measure import Context, measure, metric
from kedge.errors import BadInput
from kedge.sketch import Core, Counted, Custom, Distinct, Moments, Summary, Tally, What
from kedge.sketch.where import And, Exists, Is, Not

EU = Is("segment.region", "eu")
TIMEOUT = Is("error.type", "timeout")
BOTH = Counted(What.ROWS, where=And((EU, TIMEOUT)))
IN_EU = Counted(What.ROWS, where=EU)
COST = Counted(What.CELLS, "business.cost")


def of_values(values: list[float]) -> Tally:
    column = np.array(values, np.float32)
    return Tally(len(values), Moments.of(column.tolist()), COST.scale.count(column))


def read(one: UserMetric | RatioMetric, rows: int, **tallies: Tally):
    named = {"both": BOTH, "eu": IN_EU, "cost": COST, "users": Counted(What.DISTINCT, "segment.user")}
    return one.read(Core(rows=rows), Custom({named[name].key: tally for name, tally in tallies.items()}))


def test_a_count_is_exact_and_nothing_that_counts_is_zero():
    found = read(UserMetric("n", "count", BOTH), 10, both=Tally(4))
    assert (found.value, found.n, found.evidence) == (4, 4, Exact(4))
    assert read(UserMetric("n", "count", BOTH), 10).value == 0


def test_a_ratio_of_a_part_to_its_whole_is_a_share_with_an_interval():
    part, whole = UserMetric("part", "count", BOTH), UserMetric("whole", "count", IN_EU)
    found = read(RatioMetric("share", part, whole), 100, both=Tally(5), eu=Tally(50))
    assert (found.value, found.n, found.evidence) == (0.1, 50, Rate(5, 50))
    assert RatioMetric("share", part, whole).info.unit == "ratio"
    of_all = read(RatioMetric("share", part, None), 100, both=Tally(5))
    assert (of_all.value, of_all.evidence) == (0.05, Rate(5, 100))
    assert RatioMetric(
        "r", part, UserMetric("w", "count", Counted(What.ROWS, where=Exists("error.type")))
    ).proportion


@pytest.mark.parametrize(
    ("part", "whole"),
    [(IN_EU, BOTH), (IN_EU, Counted(What.ROWS, where=TIMEOUT)), (BOTH, Counted(What.ROWS, where=Not(EU)))],
)
def test_a_ratio_of_other_counts_is_a_number_without_an_interval(part, whole):
    ratio = RatioMetric("r", UserMetric("a", "count", part), UserMetric("b", "count", whole))
    found = ratio.read(Core(rows=9), Custom({part.key: Tally(6), whole.key: Tally(3)}))
    assert (found.value, found.n, found.interval, ratio.info.unit) == (2.0, 3, None, "")
    assert ratio.read(Core(rows=9), Custom({part.key: Tally(6)})).reason == "b is 0"


def test_sums_and_means_of_no_values():
    assert read(UserMetric("c", "sum", COST), 5).value == 0.0
    assert read(UserMetric("c", "sum", COST), 0).reason == "no rows"
    assert read(UserMetric("c", "mean", COST), 5).reason == "no row that it counts has a business.cost"
    assert read(UserMetric("c", "p95", COST), 5).reason == "no row that it counts has a business.cost"


COSTS = st.lists(st.floats(2**-16, 1e8, width=32), min_size=1, max_size=60)


@given(COSTS, st.sampled_from(["p50", "p95", "p99"]))
def test_a_quantile_is_within_five_percent_of_the_rows_own(values, stat):
    found = read(UserMetric("q", stat, COST), len(values), cost=of_values(values))
    own = float(np.quantile(np.array(values, np.float32).astype(float), int(stat[1:]) / 100))
    assert found.value == pytest.approx(own, rel=0.05)


def test_a_quantile_among_zeros_and_negative_values_is_withheld():
    found = read(UserMetric("q", "p50", COST), 5, cost=of_values([-3.0, 0.0, 0.0, 1.0, 2.0]))
    assert (found.value, found.n) == (None, 5)
    assert "1e-06" in (found.reason or "")
    assert read(UserMetric("q", "p95", COST), 5, cost=of_values([-3.0, 1.0, 1.0, 1.0, 2.0])).value is not None


def test_different_values_beyond_the_most_are_at_least_that():
    users = UserMetric("u", "distinct", Counted(What.DISTINCT, "segment.user"))
    assert read(users, 9, users=Tally(9, distinct=Distinct(frozenset({1, 2})))).value == 2
    many = read(users, 9_000, users=Tally(9_000, distinct=Distinct(more=True)))
    assert (many.value, many.told) == (1_000, "at least 1,000: more are not told apart")


def test_measurements_are_read_from_core_and_own_metrics_only_where_they_are_counted():
    own = OwnMetrics.of([UserMetric("n", "count", BOTH)])
    core = Core(rows=4, measured={"business.cost": Moments.of([1.0, 2.0])})
    names = {m.name for m in measure(Summary(core, None, None, Custom()), Context(own=own))}
    assert {"business.cost.mean", "business.cost.sum", "n"} <= names
    assert "n" not in {m.name for m in measure(Summary(core), Context(own=own))}
    assert metric("business.cost.sum", Summary(core), Context()).value == 3.0
    assert metric("business.gain.sum", Summary(core), Context()).value == 0.0


def test_names_are_known_once_they_are_declared():
    declare([UserMetric("timeouts", "count", BOTH).info])
    try:
        assert lookup("timeouts").unit == "count"
        with pytest.raises(BadInput, match="did you mean timeouts"):
            lookup("timeoutz")
        lacking = metric("timeouts", Summary(Core(rows=1), None, None, Custom()), Context())
        assert lacking.reason == "not defined for this model"
        assert (
            metric("timeouts", Summary(Core(rows=1)), Context()).reason == "the custom part is not computed"
        )
    finally:
        declare([])
    with pytest.raises(BadInput, match="unknown metric"):
        lookup("timeouts")


def test_a_measurement_without_its_stat_says_which_there_are():
    with pytest.raises(BadInput, match=r"business\.cost\.mean or business\.cost\.sum"):
        lookup("business.cost")
