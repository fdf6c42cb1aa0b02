"""A first reference for models that nobody gave one: made by the tick from a week of their own logs, and
provisional until a person accepts it (STATISTICS.md "Baselines").

Which days it is made of is decided by pure functions over the days' counts, so that two workers that look on
the same day make the same baseline, known by the same id.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from kedge.alerting.loading import RuleBook
from kedge.analysis.drift import ALPHA, TOLERANCE
from kedge.analysis.resemblance import rows_needed
from kedge.config import ModelSettings
from kedge.errors import BadInput
from kedge.pipeline.baselines import build_baseline, propose_baseline
from kedge.pipeline.context import Pipeline, groupings_with, settings_with
from kedge.pipeline.dirty import ModelFeed
from kedge.pipeline.feed import load_feed
from kedge.pipeline.groups import CappedLogs
from kedge.pipeline.schema import features_of
from kedge.pipeline.summarise import computed_in
from kedge.sketch import Core, PartName
from kedge.sketch.parts import add_maps
from kedge.store.base import Json
from kedge.windows import DAY, HOUR, Millis, Window, floor, iso

DAYS = 7
"""So that each day of the week has its part."""
LOOK_BACK = 60
"""Days that are looked at: those of little traffic need more than a week."""
TIMES_NEEDED = 4
"""The reference has at least this many times the rows that a window needs."""
CELLS = 22
"""Of a numeric feature: 20, *missing* and one beyond. Windows need as many rows as such a feature does; a
feature of two values would need hardly fewer."""
SHORTEST_DAY = 22 * HOUR
SILENT = 2 * DAY
"""A model without rows for so long is not live: an import of old logs makes no reference by itself."""
FEW = 0.1
"""A day with fewer rows than this share of the median day is no sample of the traffic."""
ERRORS_TIMES, ERRORS_MORE = 3.0, 0.02
"""A day whose error rate is above this many times the median day's, and this much more, had an incident."""
MISSING_MORE = 0.2
"""A day on which a feature lacks so much more often than on the median day did not log as usual."""


@dataclass(frozen=True)
class DayCounts:
    """One local day of a model."""

    window: Window
    rows: int = 0
    errors: int = 0
    present: Mapping[str, int] = field(default_factory=dict)
    """By feature: rows that have a number or a text there."""

    @classmethod
    def of(cls, window: Window, core: Core | None) -> "DayCounts":
        if core is None:
            return cls(window)
        present = add_maps({name: moments.n for name, moments in core.numeric.items()}, core.present)
        return cls(window, core.rows, core.errors, present)

    @property
    def error_rate(self) -> float:
        return self.errors / self.rows if self.rows else 0.0

    def lacks(self, feature: str) -> float:
        return 1 - self.present.get(feature, 0) / self.rows if self.rows else 0.0


def acceptable(days: Sequence[DayCounts]) -> list[DayCounts]:
    """Those of the days that are like most of them: in traffic, errors and features that are there."""
    some = [day for day in days if day.rows]
    if not some:
        return []
    rows = statistics.median(day.rows for day in some)
    full = [day for day in some if day.rows >= FEW * rows]
    errors = statistics.median(day.error_rate for day in full)
    names = sorted({name for day in full for name in day.present})
    usual = {name: statistics.median(day.lacks(name) for day in full) for name in names}
    return [
        day
        for day in full
        if day.error_rate <= ERRORS_TIMES * errors + ERRORS_MORE
        and all(day.lacks(name) <= usual[name] + MISSING_MORE for name in names)
    ]


def chosen_days(days: Sequence[DayCounts]) -> list[Window]:
    """The newest seven acceptable days, and older ones as far as their rows are needed; none where there are
    too few of either."""
    good = acceptable(days)[::-1]
    for number in range(DAYS, len(good) + 1):
        if enough(sum(day.rows for day in good[:number])):
            return [day.window for day in good[:number]][::-1]
    return []


def enough(rows: int) -> bool:
    """Whether a reference of so many rows is `TIMES_NEEDED` times what a window needs to be judged."""
    (needed,) = rows_needed(TOLERANCE, ALPHA, np.array([CELLS]), np.array([float(rows)]))
    return needed is not None and rows >= TIMES_NEEDED * needed


def local_days(start: Millis, end: Millis, zone: ZoneInfo, base: Millis) -> Iterator[Window]:
    """The whole days of a time zone within [start, end), as buckets of `base` can tell them apart."""
    day = datetime.fromtimestamp(start / 1000, zone).replace(hour=0, minute=0, second=0, microsecond=0)

    def begin(at: datetime) -> Millis:
        return floor(round(at.timestamp() * 1000), base)

    while begin(day + timedelta(days=1)) <= end:
        window = Window(begin(day), begin(day + timedelta(days=1)))
        if window.start >= start:
            yield window
        day += timedelta(days=1)


def may_have_one(known: ModelFeed, settings: ModelSettings, complete: Millis) -> bool:
    """Whether a model without a baseline wants one, is live and has logged for a week."""
    # A model has a baseline once its summaries are to hold cells (summarise.computed_by).
    without = known.computed != "" and not computed_in(known.computed).edges
    live = known.last + known.base >= complete - SILENT
    return settings.baseline == "auto" and without and live and known.first <= complete - DAYS * DAY


def days_to_look_at(known: ModelFeed, settings: ModelSettings, complete: Millis) -> list[Window]:
    """The last whole local days of a model; [] where it has fewer than seven."""
    oldest = max(known.first, floor(complete, known.base) - (LOOK_BACK + 1) * DAY)
    days = list(local_days(oldest, complete, ZoneInfo(settings.timezone), known.base))[-LOOK_BACK:]
    return days if len(days) >= DAYS else []


def propose_baselines(pipe: Pipeline, book: RuleBook) -> tuple[str, ...]:
    """Give the models that have none a provisional baseline, where a week of good days is there; their names.

    A model is looked at once a local day: what was decided is kept in `kedge-state`.
    """
    feed = load_feed(pipe.store.state)
    own = {name: pipe.settings.of_model(name) for name in sorted(feed.models)}
    complete = {name: feed.read_at - own[name].lag for name in own}
    names = [name for name in own if may_have_one(feed.models[name], own[name], complete[name])]
    if not names:
        return ()
    looked = pipe.store.state.get_many([_looked_name(name) for name in names])
    made = []
    for name in names:
        before = looked.get(_looked_name(name))
        if before is not None and complete[name] < before.value["through"] + SHORTEST_DAY:
            continue
        days = days_to_look_at(feed.models[name], own[name], complete[name])
        if not days or (before is not None and before.value["through"] >= days[-1].end):
            continue
        if any(feed.models[name].incomplete_in(day) for day in days):
            continue  # at the next tick
        if _propose(pipe, book, name, feed.models[name], days):
            made.append(name)
        else:
            looks: Json = {"through": days[-1].end}
            pipe.store.state.swap(_looked_name(name), looks, before.token if before else None)
    return tuple(made)


def _looked_name(model: str) -> str:
    return f"baseline-look:{model}"


def _propose(pipe: Pipeline, book: RuleBook, model: str, known: ModelFeed, days: Sequence[Window]) -> bool:
    kept = pipe.settings.kept.predictions
    feed = load_feed(pipe.store.state)
    oldest = 0 if kept is None else feed.read_at - kept + DAY  # logs are about to be dropped before
    reader = pipe.reading(feed)
    counts = []
    for day in days:
        if day.start >= oldest:
            summary = reader.window(model, known.base, day, frozenset({PartName.CORE}), ()).get(())
            counts.append(DayCounts.of(day, summary.core if summary else None))
    chosen = chosen_days(counts)
    if not chosen:
        return False
    settings = settings_with(pipe.settings, model, pipe.store.state.get(f"model:{model}"))
    window = Window(chosen[0].start, chosen[-1].end)
    left_out = window.length // DAY - len(chosen)
    source = f"automatic: {len(chosen)} days to {iso(window.end)}"
    try:
        baseline = build_baseline(
            CappedLogs(pipe.store, settings.max_groups),
            model,
            window,
            features_of(pipe.store.state, model),
            groupings_with(settings, book, model),
            source=f"{source}, {left_out} left out" if left_out > 0 else source,
            now=feed.read_at,
            days=chosen,
        )
    except BadInput:
        return False  # its logs are not there any more
    return propose_baseline(pipe.store.state, baseline)
