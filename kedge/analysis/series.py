"""A metric over time: its values in windows of one length, and what is usual at a time of the week. Pure.

What is usual is a median over other days or weeks, of every point *without the point itself*: so a past point
is held against what the others say of it, as the newest one is, and the past residuals tell how large the
newest may be (Barber, Candès, Ramdas and Tibshirani, "Predictive inference with the jackknife+", 2021).
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kedge.windows import DAY, WEEK, Millis

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Season = Literal["none", "day", "week"]

LEAST_CYCLES = 3
"""Days, or weeks, that must have been seen at a time of theirs before it counts as a usual one."""
BETTER = 0.95
"""A season is assumed where it leaves at most this share of the error that is left without it."""
_TO_SD = 1.4826
"""Of a median absolute deviation, for normal values."""


@dataclass(frozen=True, eq=False)
class Series:
    """Values of one or more metrics in past windows of the same length, oldest first."""

    starts: Ints
    """Shape (n,): where each window begins, in `Millis` of the rule's local time, so that slots of the week
    keep to the clock on the wall."""
    values: Floats
    """Shape (n, metrics); nan where a window has none."""
    counts: Ints
    """Shape (n, metrics): what each value rests on."""
    window: Millis
    """How long a window is."""
    now: Millis
    """Where the window that is judged begins, local time."""
    firing: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """Shape (n,): the alert fired there, or was about to; no reference."""
    ongoing: bool = False
    """It still fires."""
    left_out: int = 0
    """Windows of the time looked back at that are not summarised."""

    @property
    def quiet(self) -> NDArray[np.bool_]:
        """Shape (n,): where nothing fired."""
        return ~self.firing if len(self.firing) else np.ones(len(self.starts), np.bool_)


@dataclass(frozen=True, eq=False)
class Usual:
    """What is usual, and how far the past was from it."""

    season: Season
    centre: float
    """Of the newest point."""
    residuals: Floats
    """Shape (n,), of the past points, each without itself; nan where nothing can be said of one."""
    cycles: int
    """Days or weeks that the centre is the median of; points, without a season."""


def usual(
    starts: Ints, values: Floats, now: Millis, window: Millis, *, seasons: tuple[Season, ...] | None = None
) -> Usual:
    """The centre of the point that begins at `now`, and the residuals of those before it.

    Args:
        starts: shape (n,), local `Millis`, one a window at most.
        values: shape (n,), no nan; n at least 2.
        seasons: which to choose among; the simplest first. By default all that windows of that length can
            have. A season needs LEAST_CYCLES values at the newest point's slot, and pays by its error.
    """
    if seasons is None:
        seasons = tuple(s for s, length in _LENGTHS.items() if not length or window < length)
    found: list[Usual] = []
    for season in seasons:
        slots, cycle = _placed(starts, season, window)
        (slot,), _ = _placed(np.array([now]), season, window)
        held = slots == slot
        if season != "none" and held.sum() < LEAST_CYCLES:
            continue
        residuals = values - _others(slots, cycle, values)
        found.append(Usual(season, float(np.median(values[held])), residuals, int(held.sum())))
    if not found:
        return usual(starts, values, now, window, seasons=("none",))
    shared = np.all([np.isfinite(one.residuals) for one in found], axis=0)
    if not shared.any():
        return found[0]
    errors = [float(np.mean(np.abs(one.residuals[shared]))) for one in found]
    best = 0
    for i in range(1, len(found)):
        if errors[i] < BETTER * errors[best]:
            best = i
    return found[best]


def centres_at(starts: Ints, values: Floats, at: Ints, window: Millis, season: Season) -> Floats:
    """What is usual at other times by the same points: the medians of their slots; nan where a slot is empty.
    Shape of `at`."""
    slots, _ = _placed(starts, season, window)
    wanted, _ = _placed(at, season, window)
    found = np.full(len(at), np.nan)
    for slot in np.unique(wanted):
        held = values[slots == slot]
        if len(held):
            found[wanted == slot] = np.median(held)
    return found


_LENGTHS: dict[Season, Millis] = {"none": 0, "day": DAY, "week": WEEK}


def _placed(starts: Ints, season: Season, window: Millis) -> tuple[Ints, Ints]:
    """Each point's slot within its cycle, and which cycle it is."""
    length = _LENGTHS[season]
    if not length:
        return np.zeros(len(starts), np.int64), np.arange(len(starts), dtype=np.int64)
    return (starts % length) // window, starts // length


def _others(slots: Ints, cycles: Ints, values: Floats) -> Floats:
    """The median of each point's slot without the point; nan where it is alone. Shape (n,)."""
    _, column = np.unique(slots, return_inverse=True)
    _, row = np.unique(cycles, return_inverse=True)
    if column.max() == 0:
        return leave_one_out_median(values[:, None])[:, 0]
    grid = np.full((row.max() + 1, column.max() + 1), np.nan)
    grid[row, column] = values  # where the clock was put back two points share a place: the later one counts
    return leave_one_out_median(grid)[row, column]


def leave_one_out_median(values: Floats) -> Floats:
    """For each value the median of the others in its column; nan where there are none.

    Args:
        values: shape (rows, columns); nan is no value.

    Returns:
        Shape (rows, columns). Without a value m of k sorted ones, the others move up behind it, so their
        median is one of the middle values, or a mean of two: no median is computed twice.
    """
    order = np.argsort(values, axis=0, kind="stable")  # nan last
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(len(values))[:, None], order.shape), axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    k = np.isfinite(values).sum(axis=0)[None, :]
    lower, upper = (k - 2) // 2, (k - 1) // 2

    def taken(at: NDArray[np.intp]) -> Floats:
        shifted = np.clip(at + (ranks <= at), 0, len(values) - 1)
        return np.take_along_axis(ordered, shifted, axis=0)

    found = (taken(np.broadcast_to(lower, ranks.shape)) + taken(np.broadcast_to(upper, ranks.shape))) / 2
    return np.where(np.isfinite(values) & (k > 1), found, np.nan)


def spread(residuals: Floats) -> float:
    """A standard deviation that outliers do not move, from residuals without nan; of so many equal values
    that their median deviation is 0, the mean one's. 0 for constants."""
    size = np.abs(residuals)
    robust = _TO_SD * float(np.median(size))
    return robust if robust > 0 else float(np.mean(size)) * 1.2533


def autocorrelation(values: Floats, lags: int) -> Floats:
    """Of evenly spaced values without nan, at the lags 1 to `lags`; zeros for constants. Shape (lags,)."""
    centred = values - values.mean()
    total = float(centred @ centred)
    if total <= 0:
        return np.zeros(lags)
    return np.array([float(centred[lag:] @ centred[:-lag]) / total for lag in range(1, lags + 1)])
