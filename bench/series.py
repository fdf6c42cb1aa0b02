"""How often rules on series are false, and how soon they are right: simulated month after month.

Each month has looks as a rule has them, one a window; what fired is left out of what the next looks are held
against, as the pipeline does, so that a bound that sinks by its own alarms would show.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kedge.analysis.anomaly import Anomaly, Chance, Direction, Method, block_of, judge
from kedge.analysis.series import Floats, Series
from kedge.analysis.trend import trend_of
from kedge.windows import DAY, HOUR, WEEK, Millis

T0: Millis = 1_790_000_000_000 - 1_790_000_000_000 % WEEK
MONTH = 30 * DAY
HISTORY = 28 * DAY
Kind = Callable[[np.random.Generator, int, Millis], Floats]


# --- what series are like: all of variance 1 around their cycle, but for heavy tails -----------------------


def white(rng: np.random.Generator, n: int, window: Millis) -> Floats:
    """Independent normal values."""
    return rng.standard_normal(n)


def wandering(rng: np.random.Generator, n: int, window: Millis) -> Floats:
    """AR(1) with 0.7."""
    noise = rng.standard_normal(n) * math.sqrt(1 - 0.49)
    found = np.empty(n)
    at = float(rng.standard_normal())
    for i, step in enumerate(noise.tolist()):
        at = 0.7 * at + step
        found[i] = at
    return found


def daily(rng: np.random.Generator, n: int, window: Millis) -> Floats:
    """With a daily cycle three times as large as the noise."""
    times = np.arange(n) * window
    return rng.standard_normal(n) + 3 * np.sin(2 * np.pi * (times % DAY) / DAY)


def weekly(rng: np.random.Generator, n: int, window: Millis) -> Floats:
    """And lower at weekends."""
    times = np.arange(n) * window
    return daily(rng, n, window) - 4 * (times // DAY % 7 >= 5)


def heavy(rng: np.random.Generator, n: int, window: Millis) -> Floats:
    """Student's t with three degrees of freedom."""
    return rng.standard_t(3, n)


KINDS: Mapping[str, Kind] = {
    "white noise": white,
    "AR(1) 0.7": wandering,
    "daily cycle": daily,
    "weekly cycle": weekly,
    "Student t(3)": heavy,
}
METHODS: tuple[Method, ...] = ("auto", "robust_z", "ewma", "cusum")


# --- looks --------------------------------------------------------------------------------------------------


def looked(
    values: Floats,
    window: Millis = HOUR,
    method: Method = "auto",
    direction: Direction = "up",
    firing: NDArray[np.bool_] | None = None,
    *,
    ongoing: bool = False,
) -> Anomaly:
    """The last of the values, held against the others, at one alarm in 30 days."""
    columns = values if values.ndim == 2 else values[:, None]
    n = len(values) - 1
    series = Series(
        starts=T0 + np.arange(n, dtype=np.int64) * window,
        values=columns[:-1],
        counts=np.ones_like(columns[:-1], np.int64),
        window=window,
        now=T0 + n * window,
        firing=np.zeros(n, np.bool_) if firing is None else firing,
        ongoing=ongoing,
    )
    chance = Chance(block_of(window) / MONTH, window / MONTH)
    return judge(series, columns[-1], method, direction, chance)


def episodes(values: Floats, window: Millis, method: Method) -> int:
    """How often a rule would have fired after the first HISTORY of the values."""
    n = HISTORY // window
    firing = np.zeros(len(values), np.bool_)
    on, found = False, 0
    for t in range(n, len(values)):
        seen = looked(values[t - n : t + 1], window, method, firing=firing[t - n : t], ongoing=on)
        clears = seen.bands[0, 1] - seen.metrics[0].centre if seen.limits else seen.bound / 2
        found += seen.unusual and not on
        firing[t] = on or seen.unusual
        on = seen.unusual or (on and seen.score > clears)
    return found


def windows_until(kind: Kind, method: Method, shift: float, seed: int, most: int = 96) -> int:
    """Windows of an hour until a shift that stays is found; `most` where it is not."""
    n = HISTORY // HOUR
    values = kind(np.random.default_rng(seed), n + most, HOUR)
    values[n:] += shift
    found = (t - n + 1 for t in range(n, n + most) if looked(values[t - n : t + 1], HOUR, method).unusual)
    return next(found, most)


def trend_alarms(kind: Kind, months: int) -> float:
    """Alarms a month of a rule over 7d, by windows of six hours, whose bound lies three standard deviations
    above the mean and is not to be reached within three days."""
    window, n = 6 * HOUR, 28
    looks, found = MONTH // window, 0
    for month in range(months):
        values, on = kind(np.random.default_rng(month), n + looks, window), False
        for t in range(n, n + looks):
            starts = T0 + np.arange(t - n + 1, t + 1, dtype=np.int64) * window
            trend = trend_of(starts, values[t - n + 1 : t + 1], window)
            soon = trend.reaches(3.0, up=True)[0] <= 3 * DAY
            fires = soon and trend.p_up < window / MONTH
            found += fires and not on
            on = fires or (on and soon)
    return found / months


def measure(say: Callable[[str], None], months: int = 24) -> dict[str, object]:
    """Alarms a month where 1 is the budget, and how soon a lasting shift is found."""
    alarms: dict[str, object] = {}
    for name, kind in KINDS.items():
        say(f"false alarms: {name}")
        size = (HISTORY + months * MONTH) // (6 * HOUR)
        values = kind(np.random.default_rng(1), size, 6 * HOUR)
        alarms[name] = {m: round(episodes(values, 6 * HOUR, m) / months, 2) for m in METHODS}
    soon: dict[str, object] = {}
    for shift in (1.5, 3.0, 6.0):
        say(f"shifts of {shift} sd")
        of = partial(windows_until, white)
        runs = {m: sorted(of(m, shift, seed) for seed in range(20)) for m in METHODS[:1] + METHODS[2:]}
        soon[f"{shift} sd"] = {m: f"{r[10]} ({r[18]})" for m, r in runs.items()}
    say("trends")
    trends = {name: trend_alarms(kind, months) for name, kind in list(KINDS.items())[:3]}
    return {
        "months": months,
        "alarms a month": alarms,
        "windows until a shift is found": soon,
        "alarms of a trend rule a month": trends,
    }
