"""How late the labels of a window come: metrics that need to know what time it is, so they are computed when
somebody asks and never stored.
"""

from collections.abc import Sequence

import numpy as np

from kedge.analysis import build
from kedge.analysis.maturity import BucketLabels, delay_quantile, labelled_by
from kedge.analysis.metric import Metric
from kedge.sketch import DELAY, Core, Counts, Labels
from kedge.windows import DAY, HOUR, Millis, Window, format_duration

AGES: tuple[Millis, ...] = (HOUR, DAY, 7 * DAY, 30 * DAY)
"""At which `label.coverage{age=…}` is told."""
_EDGES = DELAY.edges.astype(np.float64)


def coverage_by_age(core: Core, labels: Labels, window: Window, now: Millis) -> list[Metric]:
    """The share of a window's rows that had their label within each age of AGES; absent where not all of
    its rows have reached that age."""
    found = []
    for age in AGES:
        said = {"age": format_duration(age)}
        if now - window.end < age:
            reason = f"not all rows are {said['age']} old"
            found.append(build.absent("label.coverage", reason, n=core.rows, labels=said))
            continue
        within = min(round(labelled_within(labels.delay, age)), core.rows)
        found.append(build.rate("label.coverage", within, core.rows, "no rows", labels=said))
    return found


def labelled_within(delay: Counts, age: Millis) -> float:
    """How many labels came within an age: exact but for the cell of the DELAY scale that the age lies in,
    20 % wide, whose labels are taken as spread evenly."""
    cell = int(np.searchsorted(_EDGES, age, side="right"))
    if cell == 0:
        return 0.0
    if cell == DELAY.size - 1:
        return float(delay[:-1].sum())
    share = (age - _EDGES[cell - 1]) / (_EDGES[cell] - _EDGES[cell - 1])
    return float(delay[:cell].sum() + share * delay[cell])


def delay_p50(cohorts: Sequence[BucketLabels], now: Millis, expected: float) -> Metric:
    """Half of the labels that a window's rows will get come within this time: by Kaplan-Meier, with the
    unlabelled rows taken into account; to a cell of the DELAY scale, 20 % wide.

    Of all labels that will come, the curve tells the number once it has levelled off, that is once its 95th
    percentile is known; until then it is the share `expected` of the rows.
    """
    name, n = "label.delay_p50", sum(cohort.labelled for cohort in cohorts)
    if not n:
        return build.absent(name, "no labels yet")
    share, _ = labelled_by(cohorts, now)
    known = share[~np.isnan(share)]
    levelled = delay_quantile(cohorts, now, expected) is not None
    half = (float(known[-1]) if levelled else expected) / 2
    reached = np.flatnonzero(known >= half)
    if not reached.size:
        return build.absent(name, "too many labels are still to come", n=n)
    cell = int(reached[0])
    if cell == 0:
        return build.present(name, DELAY.low, n, None)
    part = (half - known[cell - 1]) / (known[cell] - known[cell - 1])
    return build.present(name, float(_EDGES[cell - 1] + part * (_EDGES[cell] - _EDGES[cell - 1])), n, None)


def maturity(cohorts: Sequence[BucketLabels], mature_through: Millis) -> Metric:
    """The share of a window's rows that lie before the end of the newest mature bucket."""
    rows = sum(cohort.rows for cohort in cohorts)
    mature = sum(cohort.rows for cohort in cohorts if cohort.end <= mature_through)
    if not rows:
        return build.absent("label.maturity", "no rows")
    return build.present("label.maturity", mature / rows, rows, None)
