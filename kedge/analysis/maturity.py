"""When a cohort's labels are in: the label delay by Kaplan-Meier, and how far labels have matured.

Labels are counted by the prediction's time. Of young cohorts only the quick labels are there, so the delays
that were observed are truncated: a true 95th percentile of 21 days looks like 5 days on day 7. The unlabelled
rows say what is missing; they are censored at their age.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kedge.sketch import DELAY, Counts
from kedge.windows import Millis

COVERAGE = 0.95
"""The share of the labels expected at which a cohort is mature, and the quantile of the delay at which it
must be.
"""
FOLLOW_UP = 2.0
"""A curve that is said to have levelled off must have been watched for this many times its quantile."""
_EDGES = DELAY.edges.astype(np.float64)


class BucketLabels(NamedTuple):
    """The rows predicted in [start, end), and the labels that they have so far."""

    start: Millis
    end: Millis
    rows: int
    labelled: int
    delay: Counts
    """Of those labels, on the DELAY scale."""


def labelled_by(buckets: Sequence[BucketLabels], now: Millis) -> tuple[NDArray[np.float64], Millis]:
    """The share of rows that get their label within each edge of the DELAY scale, and how long rows were
    watched.

    The product-limit estimate on grouped times (Kaplan and Meier 1958; rows that leave within a cell count
    half, as in a life table). nan beyond the age of the oldest rows: nothing is known there. Shape: the
    edges.
    """
    events, leaving, watched = DELAY.zero(), np.zeros(DELAY.size), 0
    for bucket in buckets:
        age = now - (bucket.start + bucket.end) // 2
        if not bucket.rows or age <= 0:
            continue
        events = events + bucket.delay
        leaving[np.searchsorted(_EDGES, age, side="right")] += max(bucket.rows - int(bucket.delay.sum()), 0)
        watched = max(watched, age)
    at_risk = (events + leaving)[::-1].cumsum()[::-1]
    exposed = at_risk - leaving / 2
    hazard = np.divide(events, exposed, out=np.zeros(DELAY.size), where=exposed > 0)
    by_edge = 1 - np.cumprod(1 - np.minimum(hazard, 1.0))[:-1]
    return np.where(watched >= _EDGES, by_edge, np.nan), watched


def delay_quantile(
    buckets: Sequence[BucketLabels], now: Millis, expected: float = 1.0, q: float = COVERAGE
) -> Millis | None:
    """The age at which a cohort has the share `q` of the labels that it will ever get; None while that is
    unknown.

    Known once `q` of the `expected` share of all rows is reached; or, where fewer rows are ever labelled,
    once the curve has levelled off: its own q-quantile must be at most half the time that rows were watched,
    else the level may be mere truncation. The answer is the upper edge of a cell, so at most 20 % late, never
    early.
    """
    share, watched = labelled_by(buckets, now)
    known = share[~np.isnan(share)]
    if not known.size or known[-1] <= 0:
        return None
    reached = np.flatnonzero(known >= q * expected)
    if reached.size:
        return int(np.ceil(_EDGES[reached[0]]))
    levelled = float(_EDGES[np.flatnonzero(known >= q * known[-1])[0]])
    return int(np.ceil(levelled)) if levelled * FOLLOW_UP <= watched else None


def mature_through(
    buckets: Sequence[BucketLabels],
    now: Millis,
    *,
    expected: float = 1.0,
    coverage: float = COVERAGE,
    after: Millis | None = None,
    by_delay: bool = True,
) -> Millis:
    """The end of the newest bucket that is mature with all before it; label metrics end there. 0 without
    buckets.

    Mature: it has the share `coverage` of the labels `expected` of its rows, or is older than the 95th
    percentile of the label delay (not where `by_delay` is False: where absence means something, all labels
    that will come do not make a cohort whole), or than `after` where that is configured, or has no rows.
    `buckets` in order of time; gaps are buckets without rows. Where the first is not mature, its start.
    """
    if not buckets:
        return 0
    delay = delay_quantile(buckets, now, expected, coverage) if by_delay else None
    limits = [limit for limit in (delay, after) if limit is not None]
    oldest_needed = min(limits) if limits else None
    through = buckets[0].start
    for bucket in buckets:
        complete = bucket.labelled >= coverage * expected * bucket.rows
        old = oldest_needed is not None and now - bucket.end >= oldest_needed
        if not (complete or old):
            break
        through = bucket.end
    return through
