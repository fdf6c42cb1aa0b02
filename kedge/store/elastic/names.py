"""What indices and fields are called: time-named aliases, and open field names escaped where a dot would
nest.

In `features.num.<name>` a dot would make an object of `a` in `a.b`, and a feature called `a` would then
fight with it over what `a` is. Elasticsearch can switch that off (`subobjects: false`), OpenSearch cannot,
so the few characters that bite are written as in a URL: the feature `card.age` is the field
`features.num.card%2Eage`, on both servers.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import unquote

from kedge.store.retention import stream_of
from kedge.windows import DAY, HOUR, TIERS, Millis, Window, format_duration

DEFAULT_NAMESPACE = "default"
_BITES = re.compile(r"[%.*\x00-\x1f]|^\s+$")
_EMPTY = "%"
_MOST_PATTERNS = 45
"""A window of more periods is searched under one wildcard: the servers skip shards by their range of
times."""


@lru_cache(maxsize=100_000)
def escape(name: str) -> str:
    """A name that people chose as one step of a field's path."""
    if not name:
        return _EMPTY
    return _BITES.sub(lambda found: "".join(f"%{byte:02X}" for byte in found.group().encode()), name)


@lru_cache(maxsize=100_000)
def unescape(step: str) -> str:
    """The inverse of `escape`."""
    return "" if step == _EMPTY else unquote(step)


def field_of(dimension: str) -> str:
    """The stored field of a dimension."""
    if dimension.startswith("segment."):
        return f"segment.{escape(dimension.removeprefix('segment.'))}"
    return {"version": "model.version", "service": "service.name", "host": "host.name"}[dimension]


class Names:
    """The names of one installation's aliases; all begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def __call__(self, collection: str) -> str:
        """An alias or template that is not named by time: `kedge-state`."""
        return f"{self.prefix}-{collection}"

    def predictions(self, t: Millis, namespace: str = DEFAULT_NAMESPACE) -> str:
        """The alias of the event time `t` in a namespace (Namespaces)."""
        return f"{self.prefix}-predictions-{namespace}-{_stamp(t, DAY)}"

    def namespace_of(self, alias: str) -> str:
        """The namespace of an alias of predictions."""
        return alias.removeprefix(f"{self.prefix}-predictions-").rpartition("-")[0]

    def rejected(self, t: Millis) -> str:
        """The alias of rows refused on the day of `t`."""
        return f"{self.prefix}-rejected-{_stamp(t, DAY)}"

    @property
    def all_rejected(self) -> str:
        return f"{self.prefix}-rejected-*"

    @property
    def all_predictions(self) -> str:
        return f"{self.prefix}-predictions-*"

    def predictions_over(self, window: Window) -> str:
        """The aliases of a window, of every namespace, as a search path."""
        return _over(f"{self.prefix}-predictions-*-", window, DAY)

    def series(self, collection: str, width: Millis, t: Millis) -> str:
        """The alias of summaries or metrics of one width at `t`: `kedge-summaries-1h-2026.11`.

        A width has indices of its own, because it has a retention of its own.
        """
        return f"{self.prefix}-{collection}-{format_duration(width)}-{_stamp(t, period_of_width(width))}"

    def series_over(self, collection: str, width: Millis, window: Window) -> str:
        return _over(f"{self.prefix}-{collection}-{format_duration(width)}-", window, period_of_width(width))


def first_index(alias: str) -> str:
    """The index created behind a new alias. A reindex may put a later one in its place."""
    return f"{alias}-000001"


def series_of(index: str) -> str:
    """The alias that an index was made for: its name without the generation."""
    return index.rpartition("-")[0]


def period_start(alias: str) -> Millis | None:
    """The start of the period that an alias is named by; None where it is not named by time."""
    stamp = alias.rpartition("-")[2]
    parts = stamp.split(".")
    if not all(part.isdigit() for part in parts) or len(parts[0]) != 4 or len(parts) > 3:
        return None
    year, month, day = (*map(int, parts), 1, 1)[:3]
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1000


def period_of(alias: str) -> Window | None:
    """The day, month or year that an alias is named by; None where it is not named by time."""
    start = period_start(alias)
    if start is None:
        return None
    date = datetime.fromtimestamp(start / 1000, UTC)
    parts = alias.rpartition("-")[2].count(".")
    if parts == 2:
        return Window(start, start + DAY)
    after = (date.year, date.month + 1) if parts == 1 and date.month < 12 else (date.year + 1, 1)
    return Window(start, int(datetime(*after, 1, tzinfo=UTC).timestamp()) * 1000)


def stream_of_alias(prefix: str, alias: str) -> str | None:
    """The stream of an alias that is named by time, which says how long it is kept."""
    found = re.fullmatch(
        re.escape(prefix) + r"-(?:(predictions-.+|rejected)|(?:summaries|metrics)-(\w+))-[0-9.]+", alias
    )
    if found is None:
        return None
    logs, width = found.groups()
    if logs:
        return logs.partition("-")[0]
    return stream_of(TIERS[width]) if width in TIERS else None


def period_of_width(width: Millis) -> Millis:
    """Days of minutes, months of hours, years of days: an index holds some thousand buckets at most."""
    return DAY if width < HOUR else 31 * DAY if width < DAY else 366 * DAY


def _stamp(t: Millis, period: Millis) -> str:
    return _stamp_of_day(t // DAY, period)


@lru_cache(4096)
def _stamp_of_day(day: int, period: Millis) -> str:
    """Asked for every row that is written: strftime would be a twentieth of the gateway's time."""
    form = "%Y.%m.%d" if period == DAY else "%Y.%m" if period == 31 * DAY else "%Y"
    return datetime.fromtimestamp(day * DAY // 1000, UTC).strftime(form)


def _over(stem: str, window: Window, period: Millis) -> str:
    if window.length > _MOST_PATTERNS * period:
        return f"{stem}*"
    # Stepping by a day meets every period, however long its months are; a pattern that matches
    # nothing is no error.
    days = range(window.start - window.start % DAY, max(window.end, window.start + 1), DAY)
    stamps = dict.fromkeys(_stamp(t, period) for t in days)
    return ",".join(f"{stem}{stamp}*" if "*" not in stem else f"{stem}{stamp}" for stamp in stamps)
