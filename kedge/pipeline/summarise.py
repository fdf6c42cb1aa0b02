"""From dirty buckets to written summaries and metrics: the part of a tick that reads logs, each once."""

from dataclasses import dataclass, replace

from kedge.alerting.loading import RuleBook
from kedge.pipeline.baselines import Baseline, baseline_in_use
from kedge.pipeline.context import Pipeline, groupings_of, settings_of
from kedge.pipeline.faults import reach
from kedge.pipeline.feed import Dirty, Feed, ModelFeed, clear_dirty, due, load_feed, mark_dirty, runs_of
from kedge.pipeline.measure import write_metrics
from kedge.pipeline.schema import features_of
from kedge.pipeline.summaries import roll_up
from kedge.sketch import PartName
from kedge.store.base import Grouping, PartRow, SummaryRequest
from kedge.windows import HOUR, Millis, Window, ceil, floor, tiers_from

SEPARATOR = "|"
"""Between what `ModelFeed.computed` names: the groupings, then the hash of the edges."""
RUN_BUCKETS = 1440
"""Buckets of one request at most: a day of minutes. Stores cut it further where their limits ask for it."""
TICK_BUCKETS = 20_000
"""Buckets of one tick at most, newest first, so that a backfill does not hold up the judging of what is
live.
"""


@dataclass(frozen=True)
class SummariseCounts:
    """What a tick's summarising did."""

    buckets: int = 0
    written: int = 0
    refused: int = 0
    """Writes that a newer version stood against: another worker was faster."""
    left: int = 0
    """Buckets that are due and were left for the next tick."""


@dataclass(frozen=True)
class _Plan:
    """How one model is summarised at present."""

    model: str
    base: Millis
    groupings: tuple[Grouping, ...]
    baseline: Baseline | None
    epoch: int

    @property
    def edges_hash(self) -> str:
        return self.baseline.edges.hash if self.baseline else ""

    @property
    def computed(self) -> str:
        """Names what its summaries hold; a change makes its whole history due again."""
        return SEPARATOR.join(["+".join(g) for g in self.groupings] + [self.edges_hash])


def summarise_due(pipe: Pipeline, book: RuleBook, now: Millis) -> SummariseCounts:
    """Summarise every bucket that is due, newest first; write base, coarser tiers and metrics, then clear the
    marks.

    Killed anywhere, it starts over from the marks: what was written already is written again, or skipped,
    alike.
    """
    feed = load_feed(pipe.store.state)
    counts = SummariseCounts()
    for name in sorted(feed.models):
        plan = _plan(pipe, book, feed, name)
        model = feed.models[name]
        if model.computed != plan.computed:
            model = _adopt(pipe, plan, model)
        waiting = due(model, now, settings_of(pipe, name).lag)
        for run in runs_of(waiting, plan.base, RUN_BUCKETS):
            done: Dirty = {b: waiting[b] for b in range(run.start, run.end, plan.base)}
            if counts.buckets + len(done) > TICK_BUCKETS and counts.buckets:
                counts = replace(counts, left=counts.left + len(done))
                continue
            written, refused = _summarise_run(pipe, plan, run)
            clear_dirty(pipe.store.state, name, done)
            reach("summarise:cleared")
            counts = replace(
                counts,
                buckets=counts.buckets + len(done),
                written=counts.written + written,
                refused=counts.refused + refused,
            )
    return counts


def _plan(pipe: Pipeline, book: RuleBook, feed: Feed, model: str) -> _Plan:
    return _Plan(
        model,
        feed.models[model].base,
        groupings_of(pipe, book, model),
        baseline_in_use(pipe.store.state, model),
        feed.epoch,
    )


def _adopt(pipe: Pipeline, plan: _Plan, model: ModelFeed) -> ModelFeed:
    """Groupings or edges are new: what is missing of the past becomes due.

    Where some are merely no longer wanted (a rule is gone, or its file is broken), nothing is missing.
    """
    *held, edges = model.computed.split(SEPARATOR)
    *wanted, wanted_edges = plan.computed.split(SEPARATOR)
    nothing_new = edges == wanted_edges and set(wanted) <= set(held)
    history = Window(0, 0) if nothing_new else Window(model.first, model.last + model.base)
    feed = mark_dirty(pipe.store.state, plan.model, history, computed=plan.computed)
    return feed.models[plan.model]


def _summarise_run(pipe: Pipeline, plan: _Plan, run: Window) -> tuple[int, int]:
    rows = _count(pipe, plan, run)
    reach("summarise:counted")
    written, refused = _write(pipe, plan, run, plan.base, rows)
    reach("summarise:base-written")
    finer = plan.base
    by_tier = {plan.base: rows}
    for tier in tiers_from(plan.base)[1:]:
        whole = Window(floor(run.start, tier), ceil(run.end, tier))
        children = pipe.store.read(plan.model, finer, whole, tuple(PartName), edges=plan.edges_hash)
        by_tier[tier] = roll_up(children, tier)
        w, r = _write(pipe, plan, whole, tier, by_tier[tier])
        written, refused = written + w, refused + r
        finer = tier
        reach("summarise:tier-written" if tier == HOUR else "summarise:day-written")
    settings = settings_of(pipe, plan.model)
    # Of what this worker counted, even where a newer write stood against it: stale metrics are refused too.
    for tier, found in by_tier.items():
        write_metrics(pipe.store, pipe.metrics, plan.model, tier, found, plan.baseline, settings)
    reach("summarise:metrics-written")
    return written, refused


def _count(pipe: Pipeline, plan: _Plan, run: Window) -> list[PartRow]:
    """Ask the store for the parts of a run; again where a new feature was logged in between.

    A feature's name is recorded before its first row is written. So if the names are the same before and
    after, no row that was counted had a name that was not asked for.
    """
    features = features_of(pipe.store.state, plan.model)
    while True:
        request = SummaryRequest(
            model=plan.model,
            window=run,
            bucket=plan.base,
            parts=frozenset(PartName) if plan.baseline else frozenset({PartName.CORE, PartName.LABELS}),
            groupings=plan.groupings,
            edges=plan.baseline.edges if plan.baseline else None,
            numeric=features.numeric,
            categorical=features.categorical,
            invalid=features.invalid,
            epoch=plan.epoch,
        )
        rows = pipe.store.summarise(request)
        after = features_of(pipe.store.state, plan.model)
        if after == features:
            return rows
        features = after


def _write(pipe: Pipeline, plan: _Plan, window: Window, tier: Millis, rows: list[PartRow]) -> tuple[int, int]:
    """Write the parts whose fingerprint moved; returns how many were written and how many refused."""
    if not rows:
        return 0, 0
    stored = pipe.store.versions(plan.model, tier, window)
    fresh = [row for row in rows if stored.get(row.key) != row.version]
    accepted = pipe.store.write(fresh) if fresh else []
    pipe.reader.remember(row for row, ok in zip(fresh, accepted, strict=True) if ok)
    return sum(accepted), len(accepted) - sum(accepted)
