"""The quality of the features: missing, unseen, out of range, of the wrong type. Shares of rows, each with
Wilson's interval.

A feature is numeric or categorical. One that came as both has the kind of its edges (else that declared, else
that of most of its values), and its values of the other kind are invalid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kedge.analysis import build
from kedge.analysis.latency import NO_ROWS
from kedge.analysis.metric import Metric
from kedge.sketch import Cells, Core, EdgeSet


class Kind(StrEnum):
    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


@dataclass(frozen=True)
class FeatureCounts:
    """The rows of one feature; missing is what neither side counts."""

    kind: Kind
    rows: int
    present: int
    """Rows with a value of the feature's kind."""
    invalid: int
    """Rows with a value of another kind."""

    @property
    def missing(self) -> int:
        return max(self.rows - self.present - self.invalid, 0)


def feature_names(core: Core, edges: EdgeSet | None, declared: Mapping[str, str]) -> list[str]:
    """Every feature that is known of: on edges, declared, or seen; sorted."""
    held = set(core.numeric) | set(core.present) | set(core.invalid) | set(declared)
    return sorted(held | set(edges.features if edges else ()))


def counts_of(core: Core, feature: str, edges: EdgeSet | None, declared: Mapping[str, str]) -> FeatureCounts:
    numeric = core.numeric[feature].n if feature in core.numeric else 0
    categorical = core.present.get(feature, 0)
    if edges is not None and feature in edges.features:
        kind = Kind.NUMERIC if feature in edges.numeric else Kind.CATEGORICAL
    elif feature in declared:
        kind = Kind(declared[feature])
    else:
        kind = Kind.NUMERIC if numeric >= categorical else Kind.CATEGORICAL
    ours, others = (numeric, categorical) if kind is Kind.NUMERIC else (categorical, numeric)
    return FeatureCounts(kind, core.rows, ours, others + core.invalid.get(feature, 0))


def missing(feature: str, counts: FeatureCounts) -> Metric:
    """Rows without a value, of all rows."""
    return _share("missing", counts.missing, counts.rows, feature)


def invalid(feature: str, counts: FeatureCounts) -> Metric:
    """Rows whose value is of the wrong type, of all rows."""
    return _share("invalid", counts.invalid, counts.rows, feature)


def unseen(feature: str, cells: Cells, edges: EdgeSet) -> Metric:
    """Rows with a category that the reference never had, of all rows."""
    if feature not in edges.categorical:
        return build.absent("quality.unseen", "not for a numeric feature", labels={"feature": feature})
    counts = cells.features[feature][1]
    return _share("unseen", int(counts[-2]), int(counts.sum()), feature)


def out_of_range(feature: str, cells: Cells, edges: EdgeSet) -> Metric:
    """Rows below the least or above the greatest value of the reference, of all rows."""
    if feature not in edges.numeric:
        return build.absent(
            "quality.out_of_range", "not for a categorical feature", labels={"feature": feature}
        )
    counts = cells.features[feature][1]
    return _share("out_of_range", int(counts[0] + counts[-2]), int(counts.sum()), feature)


def _share(name: str, successes: int, rows: int, feature: str) -> Metric:
    return build.rate(f"quality.{name}", successes, rows, NO_ROWS, labels={"feature": feature})
