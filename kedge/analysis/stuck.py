"""For how long a numeric feature has held one and the same value, up to the end of a window.

A window's summary knows its least and its greatest value, so it tells a feature that froze before the window
began (`quality.constant`). One that froze half an hour ago varied in the same window earlier on: that takes
the window's buckets apart. Each keeps its own least and greatest value, so the run of equal values at the end
is known to the bucket, without a row being read.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from kedge.analysis import build
from kedge.analysis.drift import DriftSettings
from kedge.analysis.evidence import Lasting
from kedge.analysis.intervals import wilson_of
from kedge.analysis.metric import Metric, Verdict
from kedge.sketch import Core, Counts, Moments
from kedge.windows import Millis, format_duration

STUCK = "quality.stuck"


@dataclass(frozen=True)
class Run:
    """Equal values of one feature in the newest buckets of a window that have any."""

    start: Millis
    """Of the oldest of those buckets."""
    end: Millis
    """Of the window."""
    n: int
    """Rows with the value."""
    value: float
    broken: bool = False
    """It varied before; else all of the window is of this value."""

    @property
    def length(self) -> Millis:
        return self.end - self.start


class Runs:
    """The runs of some features, from the buckets of a window, told of the newest first."""

    def __init__(self, features: Iterable[str], end: Millis) -> None:
        self._end = end
        self._open: dict[str, Run | None] = dict.fromkeys(features)
        self._over: dict[str, Run] = {}

    @property
    def going(self) -> bool:
        """Whether an older bucket can make any of them longer."""
        return bool(self._open)

    def before(self, start: Millis, core: Core) -> None:
        """The next older bucket; one without a feature's values neither ends its run nor makes it longer."""
        for feature, run in list(self._open.items()):
            held = core.numeric.get(feature, Moments.ZERO)
            if not held.n:
                continue
            if held.low != held.high or (run is not None and run.value != held.low):
                del self._open[feature]
                was = run or Run(self._end, self._end, 0, math.nan)
                self._over[feature] = Run(was.start, was.end, was.n, was.value, broken=True)
            else:
                self._open[feature] = Run(start, self._end, (run.n if run else 0) + held.n, held.low)

    @property
    def found(self) -> dict[str, Run]:
        """By feature, those that have values."""
        return self._over | {name: run for name, run in self._open.items() if run is not None}


def stuck(
    feature: str, run: Run | None, counts: Counts, moments: tuple[Moments, Moments], of: DriftSettings
) -> Metric:
    """How long the run is, in ms, where the reference varied and chance is no explanation; else 0.

    `counts` are the reference's by cell, `moments` those of (reference, window). That n values of the
    reference's distribution all fall in one cell has at most the chance p^(n-1), p being the share of its
    commonest cell; of dependent rows only 1 / phi count. Values that may be equal by chance are those of a
    feature that varies, as long as the window holds others; where it does not they are too few to tell.
    """
    labels = {"feature": feature}
    m = int(counts[:-1].sum())  # the last are the missing ones
    if run is None or not m:
        side = "reference" if run else "window"
        return build.absent(STUCK, f"no values in the {side}", labels=labels)
    before, now = moments
    calm = build.present(STUCK, 0.0, now.n, Lasting(0.0, 1.0), labels=labels)
    if not run.n or before.low == before.high:
        return calm
    share = wilson_of(float(counts[:-1].max()), m)[1]
    chance = share ** ((run.n - 1) / of.phi.get(feature, 1.0))
    told = f"every value of the last {format_duration(run.length)} is {run.value:g}"
    if chance < of.alpha:
        length = float(run.length)
        return build.present(
            STUCK, length, run.n, Lasting(length, chance), labels=labels, detail={"told": told}
        )
    if run.broken:
        return calm
    reason = f"{told} (n={run.n:,}), which may be chance"
    return Metric(STUCK, None, run.n, labels, verdict=Verdict.INSUFFICIENT, reason=reason)
