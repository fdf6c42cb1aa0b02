"""How late labels come, beside the same in plain arithmetic over the single delays."""

import numpy as np
import pytest

from kedge.analysis.catalogue import AGED, check_name, lookup
from kedge.analysis.lateness import AGES, coverage_by_age, delay_p50, labelled_within, maturity
from kedge.analysis.maturity import BucketLabels
from kedge.errors import BadInput
from kedge.sketch import DELAY, Core, Labels
from kedge.windows import DAY, HOUR, MINUTE, Window

WINDOW = Window(0, DAY)


def coverage(delays, rows, *, now):
    labels = Labels(rows=len(delays), delay=DELAY.count(delays))
    return {m.labels["age"]: m for m in coverage_by_age(Core(rows=rows), labels, WINDOW, now)}


def test_coverage_by_age_is_the_share_of_rows_labelled_by_then():
    delays = [10 * MINUTE] * 30 + [5 * HOUR] * 20 + [3 * DAY] * 15 + [20 * DAY] * 5 + [60 * DAY] * 2
    found = coverage(delays, 100, now=200 * DAY)
    assert {age: m.value for age, m in found.items()} == {"1h": 0.3, "1d": 0.5, "7d": 0.65, "30d": 0.7}
    assert {m.n for m in found.values()} == {100}
    assert all(m.interval[0] < m.value < m.interval[1] for m in found.values())


def test_only_labels_in_the_cell_of_the_age_itself_are_in_doubt():
    delays = np.random.default_rng(3).exponential(2 * DAY, 20_000)
    counts = DELAY.count(delays)
    for age in AGES:
        surely, perhaps = (delays <= age / 1.2).sum(), (delays <= age * 1.2).sum()
        assert surely <= labelled_within(counts, age) <= perhaps
        assert labelled_within(counts, age) == pytest.approx((delays <= age).sum(), rel=0.02)
    assert labelled_within(DELAY.count([0.0, -5_000.0]), HOUR) == 2


def test_an_age_that_not_all_rows_have_reached_has_no_value_and_says_so():
    found = coverage([MINUTE] * 5, 10, now=2 * DAY)
    assert (found["1h"].value, found["1d"].value) == (0.5, 0.5)
    assert (found["7d"].value, found["7d"].reason) == (None, "not all rows are 7d old")
    assert coverage([MINUTE], 10, now=2 * DAY - 1)["1d"].value is None


def cohorts(days, mean_delay, seed=0, rows=2_000):
    """What is known at the end of the last day; and the delays seen."""
    dice, now, held, seen = np.random.default_rng(seed), days * DAY, [], []
    for hour in range(days * 24):
        made = dice.uniform(hour * HOUR, (hour + 1) * HOUR, rows // 24)
        delay = dice.exponential(mean_delay, made.size)
        known = delay[made + delay <= now]
        seen += known.tolist()
        held.append(BucketLabels(hour * HOUR, (hour + 1) * HOUR, made.size, known.size, DELAY.count(known)))
    return held, seen


def test_the_median_delay_takes_the_labels_still_to_come_into_account():
    held, seen = cohorts(10, 5 * DAY)
    true = 5 * DAY * np.log(2)
    assert np.median(seen) < 0.75 * true
    found = delay_p50(held, 10 * DAY, 1.0)
    assert found.value == pytest.approx(true, rel=0.1)
    assert found.n == len(seen)


def test_where_few_rows_ever_get_a_label_the_median_is_of_those_that_do():
    delay = np.random.default_rng(1).exponential(HOUR, 600)
    held = [
        BucketLabels(i * HOUR, (i + 1) * HOUR, 100, 6, DELAY.count(delay[6 * i : 6 * i + 6]))
        for i in range(100)
    ]
    assert delay_p50(held, 140 * HOUR, 1.0).value == pytest.approx(np.median(delay), rel=0.1)


def test_while_the_median_cannot_be_known_it_is_not_told():
    held, seen = cohorts(2, 30 * DAY)
    found = delay_p50(held, 2 * DAY, 1.0)
    assert (found.value, found.n, found.reason) == (None, len(seen), "too many labels are still to come")
    assert delay_p50([BucketLabels(0, DAY, 5, 0, DELAY.zero())], 9 * DAY, 1.0).reason == "no labels yet"


def test_maturity_is_the_share_of_rows_in_mature_buckets():
    held = [BucketLabels(i * HOUR, (i + 1) * HOUR, rows, 0, DELAY.zero()) for i, rows in enumerate((1, 2, 5))]
    assert [maturity(held, t * HOUR).value for t in range(4)] == [0, 1 / 8, 3 / 8, 1]
    assert maturity([], 0).value is None


@pytest.mark.parametrize("name", AGED)
def test_what_changes_by_the_clock_alone_can_be_asked_for_but_not_watched(name):
    check_name(name)
    with pytest.raises(BadInput, match="no rule can watch it"):
        lookup(name)
