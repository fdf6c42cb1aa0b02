"""A metric's value with everything that a reader needs to trust it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kedge.analysis.evidence import Evidence


class Verdict(StrEnum):
    OK = "ok"
    DRIFTED = "drifted"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True)
class Metric:
    """One number: `value` None means too little to say, and `reason` says why."""

    name: str
    value: float | None
    n: int
    """What the value rests on: the metric's own denominator (recall: positives; drift: rows in the
    window).
    """
    labels: dict[str, str] = field(default_factory=dict)
    """`class`, `feature`, `age`; dimensions are added by the caller."""
    stderr: float | None = None
    interval: tuple[float, float] | None = None
    """95 %, two-sided."""
    verdict: Verdict | None = None
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    """What explains the value: for drift the tolerance, the n it needs, the cells that moved."""
    evidence: Evidence | None = field(default=None, repr=False, compare=False)
    """What the value rests on, so that `intervals.interval_at` can give its interval at any level; None: no
    interval.
    """

    @property
    def told(self) -> str | None:
        """Why there is no value, or what the value is of: the features that are meant."""
        return self.reason or self.detail.get("told")

    @property
    def key(self) -> str:
        """`performance.recall{class=fraud}`: the name with its labels, unique within one window and group."""
        if not self.labels:
            return self.name
        return self.name + "{" + ",".join(f"{k}={v}" for k, v in sorted(self.labels.items())) + "}"
