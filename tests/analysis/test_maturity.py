"""When labels are in: the delay by Kaplan-Meier, and the newest cohort that may be judged."""

from itertools import pairwise

import numpy as np
import pytest

from kedge.analysis.maturity import BucketLabels, delay_quantile, labelled_by, mature_through
from kedge.sketch import DELAY
from kedge.windows import DAY, HOUR, MINUTE


def buckets(days, *, mean_delay, rows=400, ever=1.0, width=DAY, now=None, seed=0):
    """Cohorts of `days`; of each, the labels that have come by `now` (the end of the last), exponentially
    late."""
    generator = np.random.default_rng(seed)
    now = days * width if now is None else now
    held = []
    for i in range(days):
        made = generator.uniform(i * width, (i + 1) * width, rows)
        delay = generator.exponential(mean_delay, rows)
        known = (made + delay <= now) & (generator.random(rows) < ever)
        held.append(
            BucketLabels(i * width, (i + 1) * width, rows, int(known.sum()), DELAY.count(delay[known]))
        )
    return held


def observed_p95(held):
    return DELAY.quantile(sum(b.delay for b in held), 0.95)


def test_young_cohorts_truncate_the_delays_observed_and_the_estimate_is_not_fooled():
    """The trap: a true 95th percentile of 21 days looks like 5 days on day 7."""
    held = buckets(7, mean_delay=7 * DAY)
    assert observed_p95(held) < 6.5 * DAY
    assert delay_quantile(held, 7 * DAY) is None


def test_once_rows_are_old_enough_the_estimate_is_the_true_quantile_to_a_cell():
    held = buckets(60, mean_delay=7 * DAY)
    assert delay_quantile(held, 60 * DAY) == pytest.approx(7 * DAY * np.log(20), rel=0.2)


def test_the_curve_is_the_true_one_while_the_observed_share_is_not():
    held = buckets(14, mean_delay=7 * DAY, rows=3_000)
    share, watched = labelled_by(held, 14 * DAY)
    days = DELAY.edges / DAY
    for edge in np.flatnonzero((days > 1) & (days < 11)):
        assert share[edge] == pytest.approx(1 - np.exp(-days[edge] / 7), abs=0.03)
    assert np.isnan(share[days * DAY > watched]).all()


def test_where_only_some_rows_are_ever_labelled_the_delay_is_that_of_those():
    held = buckets(90, mean_delay=5 * DAY, ever=0.3)
    true = 5 * DAY * np.log(20)
    assert delay_quantile(held, 90 * DAY, expected=1.0) == pytest.approx(true, rel=0.25)
    assert delay_quantile(held, 90 * DAY, expected=0.3) == pytest.approx(true, rel=0.25)


def test_without_labels_or_rows_the_delay_is_unknown():
    assert delay_quantile([], 0) is None
    assert delay_quantile([BucketLabels(0, DAY, 50, 0, DELAY.zero())], 9 * DAY) is None


# --- the newest mature cohort ---------------------------------------------------------------------------


def cohort(i, rows, labelled, delay_ms=1_000.0):
    return BucketLabels(i * HOUR, (i + 1) * HOUR, rows, labelled, DELAY.count([delay_ms] * labelled))


def test_labels_that_come_at_once_are_mature_at_once():
    held = [cohort(i, 100, 100) for i in range(5)]
    assert mature_through(held, 5 * HOUR) == 5 * HOUR


def test_maturity_stops_at_the_first_cohort_that_still_waits():
    # Four cohorts are labelled after two hours; the fifth is too young.
    held = [cohort(i, 100, 100 if i < 4 else 20, 2 * HOUR) for i in range(6)]
    assert mature_through(held, 6 * HOUR) == 4 * HOUR


def test_a_cohort_that_lost_labels_is_mature_once_it_is_older_than_the_delay():
    held = [cohort(i, 100, 50 if i == 3 else 100, 10 * MINUTE) for i in range(48)]
    assert mature_through(held, 48 * HOUR) == 48 * HOUR
    assert mature_through(held[:4], 4 * HOUR) == 3 * HOUR


def test_empty_cohorts_and_gaps_hold_nothing_up():
    held = [cohort(0, 100, 99), cohort(1, 0, 0), cohort(5, 100, 97), cohort(6, 0, 0)]
    assert mature_through(held, 7 * HOUR) == 7 * HOUR


def test_only_the_labels_expected_are_waited_for():
    held = [cohort(i, 100, 30) for i in range(3)]
    assert mature_through(held, 3 * HOUR, expected=0.3) == 3 * HOUR
    # With all expected, a cohort waits until it is older than labels take.
    assert mature_through(held, 3 * HOUR, expected=1.0) == 2 * HOUR


def test_a_configured_age_makes_mature_whatever_the_labels_say():
    held = [cohort(i, 100, 0) for i in range(10)]
    assert mature_through(held, 10 * HOUR) == 0
    assert mature_through(held, 10 * HOUR, after=4 * HOUR) == 6 * HOUR


def test_where_the_first_cohort_waits_nothing_is_mature():
    held = [cohort(i, 100, 0) for i in range(3, 5)]
    assert mature_through(held, 5 * HOUR) == 3 * HOUR
    assert mature_through([], 5 * HOUR) == 0


def test_maturity_never_runs_back_as_time_goes_by():
    """The same cohorts, seen later and later: what was mature stays so."""
    reached = []
    for now in range(10, 80, 5):
        held = buckets(now, mean_delay=4 * DAY, rows=300, now=now * DAY, seed=4)
        reached.append(mature_through(held, now * DAY))
    assert reached[-1] >= 60 * DAY
    assert all(b >= a - DAY for a, b in pairwise(reached))
