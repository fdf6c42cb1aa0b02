"""Metrics of what every row has: traffic, errors, latency; and how late the labels come."""

import math

import numpy as np
from numpy.typing import NDArray

from kedge.analysis import build
from kedge.analysis.evidence import Quantile
from kedge.analysis.metric import Metric
from kedge.sketch import DELAY, LATENCY, Core, Counts, Labels, LogScale, Moments

NO_ROWS = "no rows"
NO_LATENCY = "no row has a latency"
NO_LABELS = "no labels yet"

QUANTILES = {"latency.p50": 0.50, "latency.p95": 0.95, "latency.p99": 0.99}


def count(core: Core) -> Metric:
    return build.exact("volume.count", core.rows)


def error_rate(core: Core) -> Metric:
    return build.rate("errors.rate", core.errors, core.rows, NO_ROWS)


def latency_mean(core: Core) -> Metric:
    return build.mean("latency.mean", core.latency_ms, NO_LATENCY)


def latency_quantile(core: Core, name: str) -> Metric:
    """Of the rows with a latency: within 2.5 % of theirs, and never outside their minimum and maximum."""
    found = scale_quantile(name, QUANTILES[name], LATENCY, core.latency, core.latency_ms)
    return found or build.absent(name, NO_LATENCY)


def label_coverage(core: Core, labels: Labels) -> Metric:
    """The rows are counted when they arrive, the labels later: a stale `core` may read as more labels than
    rows.
    """
    return build.rate("label.coverage", min(labels.rows, core.rows), core.rows, NO_ROWS)


def label_delay(labels: Labels) -> Metric:
    """Median delay of the labels that came: of young rows only the quick ones have. `lateness.delay_p50`
    corrects for that.
    """
    name = "label.delay_seen_p50"
    return scale_quantile(name, 0.5, DELAY, labels.delay, None) or build.absent(name, NO_LABELS)


def scale_quantile(
    name: str, q: float, scale: LogScale, counts: Counts, moments: Moments | None
) -> Metric | None:
    """A quantile on a logarithmic scale, with the order-statistic interval; None where nothing was
    counted.
    """
    n = int(counts.sum())
    if not n:
        return None
    value, edges = scale.quantile(counts, q), scale_bounds(scale)
    if moments is not None and moments.n:
        value = min(max(value, moments.low), moments.high)
        edges[-1] = max(edges[-1], moments.high)
    return build.present(name, value, n, Quantile(counts, edges, q))


def scale_bounds(scale: LogScale) -> NDArray[np.float64]:
    """The edges of all cells, *below* from zero and *above* to the end of one cell more."""
    top = float(scale.edges[-1]) * scale.ratio
    return np.concatenate([[0.0], scale.edges.astype(np.float64), [top]])


def linear_quantile(counts: Counts, edges: NDArray[np.float64], q: float) -> float:
    """The q-quantile from counts, its cell taken as filled evenly; nan where nothing was counted."""
    cumulative = np.cumsum(counts)
    n = int(cumulative[-1]) if cumulative.size else 0
    if not n:
        return math.nan
    rank = q * n
    cell = min(int(np.searchsorted(cumulative, rank, side="left")), counts.size - 1)
    before = float(cumulative[cell] - counts[cell])
    share = (rank - before) / float(counts[cell]) if counts[cell] else 0.0
    return float(edges[cell] + share * (edges[cell + 1] - edges[cell]))
