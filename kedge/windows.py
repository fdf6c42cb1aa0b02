"""Time as kedge counts it: integer milliseconds since 1970 in UTC; buckets, tiers, windows, steps. Pure."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

from kedge.errors import BadInput

Millis = int
"""Milliseconds since the epoch in UTC, or a length in milliseconds."""

SECOND: Millis = 1_000
MINUTE: Millis = 60 * SECOND
HOUR: Millis = 60 * MINUTE
DAY: Millis = 24 * HOUR
WEEK: Millis = 7 * DAY

TIERS: dict[str, Millis] = {"1m": MINUTE, "1h": HOUR, "1d": DAY}
"""The widths of summaries. A model's base bucket is one of them; coarser ones follow by addition."""

STEPS: tuple[Millis, ...] = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY)

_UNITS = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


class Window(NamedTuple):
    """A half-open span of time [start, end), in `Millis`."""

    start: Millis
    end: Millis

    @property
    def length(self) -> Millis:
        return self.end - self.start

    def __contains__(self, t: object) -> bool:
        return isinstance(t, int) and self.start <= t < self.end


class Span(NamedTuple):
    """A run of whole buckets of one tier: [start, end) where both are multiples of `tier`."""

    tier: Millis
    start: Millis
    end: Millis


def floor(t: Millis, width: Millis) -> Millis:
    """The start of the bucket of `width` that holds `t`, aligned to the epoch."""
    return t - t % width


def ceil(t: Millis, width: Millis) -> Millis:
    return -(-t // width) * width


@cache
def tiers_from(base: Millis) -> tuple[Millis, ...]:
    """A model's tiers, finest first: its base bucket and the coarser ones."""
    return tuple(t for t in TIERS.values() if t >= base)


@cache
def step_of(window: Millis, base: Millis) -> Millis:
    """How often a rule over `window` is judged: the largest step up to window/24, at least the bucket."""
    fitting = [s for s in STEPS if s <= window / 24]
    return max(fitting[-1] if fitting else base, base)


def snap(window: Window, base: Millis) -> Window:
    """The window, its start moved back to a bucket cheap to read: the day past 2 d, the hour past 2 h."""
    width = DAY if window.length > 2 * DAY else HOUR if window.length > 2 * HOUR else base
    return Window(floor(window.start, max(width, base)), window.end)


def tile(
    window: Window,
    base: Millis,
    missing: Callable[[Millis, Millis], bool] | None = None,
    coarsest: Millis = DAY,
) -> list[Span]:
    """The fewest runs of buckets that cover `window` exactly, coarsest tier inside, finer ones at the edges.

    `window` must be aligned to `base`. `missing(tier, start)` says of a bucket coarser than `base` that it is
    not to be used (it is not rolled up yet): finer ones stand in for it.
    """

    def cover(start: Millis, end: Millis, tiers: tuple[Millis, ...]) -> Iterator[Span]:
        if start >= end:
            return
        tier, finer = tiers[-1], tiers[:-1]
        if not finer:
            yield Span(tier, start, end)
            return
        inner_start, inner_end = ceil(start, tier), floor(end, tier)
        if inner_start >= inner_end:
            yield from cover(start, end, finer)
            return
        yield from cover(start, inner_start, finer)
        gaps = [b for b in range(inner_start, inner_end, tier) if missing(tier, b)] if missing else []
        at = inner_start
        for gap in gaps:
            if at < gap:
                yield Span(tier, at, gap)
            yield from cover(gap, gap + tier, finer)
            at = gap + tier
        if at < inner_end:
            yield Span(tier, at, inner_end)
        yield from cover(inner_end, end, finer)

    if window.start % base or window.end % base:
        raise ValueError(f"window {window} is not aligned to the base bucket of {base} ms")
    tiers = tuple(t for t in tiers_from(base) if t <= max(coarsest, base))
    joined: list[Span] = []
    for span in cover(window.start, window.end, tiers):
        if joined and joined[-1].tier == span.tier and joined[-1].end == span.start:
            joined[-1] = Span(span.tier, joined[-1].start, span.end)
        else:
            joined.append(span)
    return joined


def parse_duration(text: str) -> Millis:
    """`90s`, `10m`, `1h30m`, `7d` as `Millis`; raises BadInput."""
    parts = _DURATION.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text.strip():
        raise BadInput(f'"{text}" is not a duration (write 30s, 10m, 24h, 7d)')
    return round(sum(float(n) * _UNITS[u] for n, u in parts))


def format_duration(length: Millis) -> str:
    """The shortest exact spelling: 5400000 is `90m`, 604800000 is `7d`."""
    for unit in ("d", "h", "m", "s"):
        if length and length % _UNITS[unit] == 0:
            return f"{length // _UNITS[unit]}{unit}"
    return f"{length}ms"


def parse_time(text: str) -> Millis:
    """RFC 3339 (a date alone is midnight UTC; no zone means UTC) as `Millis`; raises BadInput."""
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadInput(f'"{text}" is not a time (write 2026-11-23T14:05:00Z)') from None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return round(parsed.timestamp() * 1000)


def iso(t: Millis) -> str:
    """`2026-11-23T14:05:00Z`, with milliseconds only where there are any."""
    text = datetime.fromtimestamp(t // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{t % 1000:03d}Z" if t % 1000 else f"{text}Z"
