"""Metrics that are a share or a mean of rows: those that add up over groups, and whose counts can be compared
look after look.
"""

from kedge.analysis.catalogue import METRICS, MetricInfo
from kedge.analysis.evidence import Mean, Rate
from kedge.analysis.metric import Metric

AVERAGED = ("precision", "recall")
"""Shares of rows for one class; without a class, averages over classes."""
_DERIVED = ("performance.f1", "performance.auc", "performance.rmse", "_weighted")
"""Made from several shares, from pairs of rows, or a root: no row has a value of them, though their intervals
are a share's."""


def is_additive(info: MetricInfo) -> bool:
    """Whether the metric is a share or a mean over rows (of one class, where AVERAGED)."""
    derived = info.estimated or info.name.endswith(_DERIVED)  # an estimate rests on the reference's rows too
    return info.evidence in ("rate", "mean") and not derived


def additive_metrics() -> list[str]:
    return [name for name, info in METRICS.items() if is_additive(info)]


def adds_up(found: Metric) -> bool:
    """Whether this value is that of a share or a mean over rows: it rests on whole counts, or on moments."""
    match found.evidence:
        case Rate(successes, trials):
            return float(successes).is_integer() and trials == found.n
        case Mean():
            return True
        case _:
            return False
