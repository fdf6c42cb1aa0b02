"""From dirty buckets to written summaries and metrics: the part of a tick that reads logs, each once."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from kedge.alerting.loading import RuleBook
from kedge.pipeline.context import Pipeline, groupings_with
from kedge.pipeline.dirty import Done, Feed, without_sealed
from kedge.pipeline.due import LABELS_AT_ONCE, Plan, Run, batches, has_turn, runs_at
from kedge.pipeline.faults import reach
from kedge.pipeline.feed import adopt, clear, load_feed, update_feed
from kedge.pipeline.groups import summarise_capped
from kedge.pipeline.measure import docs_of
from kedge.pipeline.models import load_models
from kedge.pipeline.schema import Features, document_name, features_in
from kedge.pipeline.summaries import roll_up
from kedge.pipeline.tiers import tier_floors
from kedge.sketch import PartName
from kedge.store.base import Grouping, MetricDoc, PartRow, SummaryKey, SummaryQuery, SummaryRequest
from kedge.windows import HOUR, TIERS, Millis, Window

SEPARATOR = "|"
"""Between what `ModelFeed.computed` names: the groupings, then the hash of the edges."""
_AND_CUSTOM = "~"
"""Between that hash and the key of users' own metrics, where the model has any."""
TICK_BUCKETS = 20_000
"""Buckets of one tick at most, newest first, so that a backfill does not hold up the judging of what is
live.
"""
BATCH_RUNS = 500
BATCH_BUCKETS = 1440
"""What is counted, written and taken off the list together. Each time the dirty set of all models is stored:
a third of a second where labels of hundreds of models trickle in."""
ROLL_UP_SECONDS = 4.0
"""Time that a tick takes for coarser tiers while others wait: at the full hour those of all models are due at
once, and nobody needs them at once, for finer buckets stand in."""


@dataclass(frozen=True)
class SummariseCounts:
    """What a tick's summarising did."""

    buckets: int = 0
    written: int = 0
    refused: int = 0
    """Writes that a newer version stood against: another worker was faster."""
    left: int = 0
    """Buckets that are due and were left for the next tick."""
    sealed: int = 0
    """Buckets (hours, where the base is finer) that rows or labels came for too late: their logs are about to
    be dropped, so they stay as they are."""

    def plus(self, other: "SummariseCounts") -> "SummariseCounts":
        return SummariseCounts(
            self.buckets + other.buckets,
            self.written + other.written,
            self.refused + other.refused,
            self.left + other.left,
            self.sealed + other.sealed,
        )


def summarise_due(
    pipe: Pipeline, book: RuleBook, now: Millis, *, patient: bool = True, sealed: Millis = 0
) -> SummariseCounts:
    """Summarise every bucket that is due, newest first: rows and labels in the logs, coarser tiers by
    addition, history last; write summaries and metrics, then clear the marks.

    Killed anywhere, it starts over from the marks: what was written already is written again, or skipped,
    alike. `patient`: what may wait does so under load; otherwise all is done that is due. Buckets that begin
    before `sealed` are counted no more.
    """
    feed = load_feed(pipe.store.state, pipe.feeds)
    plans = make_plans(pipe, book, feed, now)
    outdated = {
        name: (computed_by(plan), missing_history(plan))
        for name, plan in plans.items()
        if plan.feed.computed != computed_by(plan)
    }
    if outdated:
        feed = adopt(pipe.store.state, outdated, pipe.feeds)
    counts = SummariseCounts()
    open_feed, given_up = without_sealed(feed, sealed)
    if open_feed != feed:
        counts = SummariseCounts(sealed=given_up)
        feed = update_feed(pipe.store.state, lambda f: without_sealed(f, sealed)[0], pipe.feeds)
    changed = sum(len(held) for model in feed.models.values() for held in model.labels.values())
    late = patient and changed > LABELS_AT_ONCE
    passes = (False, True) if any(m.history for m in feed.models.values()) else (False,)
    for history in passes:
        for tier in TIERS.values():
            plans = _refreshed(plans, feed)
            runs = [r for plan in plans.values() for r in runs_at(plan, tier, now, patient=late)]
            if history:
                runs += [r for p in plans.values() for r in runs_at(p, tier, now, patient=late, history=True)]
            runs.sort(key=lambda run: -run.window.start)
            seconds = ROLL_UP_SECONDS if patient and tier > min(TIERS.values()) else None
            feed, done = _work(pipe, runs, feed, now, TICK_BUCKETS - counts.buckets, seconds)
            counts = counts.plus(done)
    return counts


def anything_due(pipe: Pipeline, book: RuleBook, now: Millis) -> bool:
    """Whether another tick at `now` would summarise anything."""
    plans = make_plans(pipe, book, load_feed(pipe.store.state, pipe.feeds), now)
    return any(
        runs_at(plan, tier, now, patient=False, history=history)
        for plan in plans.values()
        if not plan.feed.nothing_due
        for tier in TIERS.values()
        for history in (False, True)
    )


def make_plans(pipe: Pipeline, book: RuleBook, feed: Feed, now: Millis) -> dict[str, Plan]:
    """How each model is summarised at present."""
    floors = tier_floors(pipe.settings, feed.read_at)
    states = load_models(pipe, sorted(feed.models))
    return {
        name: Plan(
            name,
            feed.models[name],
            state,
            groupings_with(state.settings, book, name),
            feed.epoch,
            floors,
            has_turn(name, now),
        )
        for name, state in states.items()
    }


def computed_by(plan: Plan) -> str:
    """Names what a model's summaries hold; a change makes its whole history due again."""
    own = plan.state.settings.own.key
    on = plan.edges_hash + (_AND_CUSTOM + own if own else "")
    return SEPARATOR.join(["+".join(g) for g in plan.groupings] + [on])


class Computed(NamedTuple):
    """What a model's summaries hold."""

    groupings: tuple[Grouping, ...]
    edges: str
    """Their hash; empty: no cells."""
    own: str
    """The key of users' own metrics; empty: none."""


def computed_in(computed: str) -> Computed:
    """What `ModelFeed.computed` names."""
    *groupings, on = computed.split(SEPARATOR)
    edges, _, own = on.partition(_AND_CUSTOM)
    return Computed(tuple(tuple(g.split("+")) if g else () for g in groupings), edges, own)


def missing_history(plan: Plan) -> Window:
    """The time for which groupings, edges or metrics are new.

    Where some are merely no longer wanted (a rule is gone, or its file is broken), nothing is missing.
    """
    held, wanted = computed_in(plan.feed.computed), computed_in(computed_by(plan))
    same = held.edges == wanted.edges and wanted.own in (held.own, "")
    nothing_new = same and set(wanted.groupings) <= set(held.groupings)
    return Window(0, 0) if nothing_new else Window(plan.feed.first, plan.feed.last + plan.base)


def _refreshed(plans: dict[str, Plan], feed: Feed) -> dict[str, Plan]:
    return {
        name: replace(plan, feed=feed.models[name], epoch=feed.epoch)
        for name, plan in plans.items()
        if name in feed.models
    }


def _work(
    pipe: Pipeline, runs: list[Run], feed: Feed, now: Millis, most: int, seconds: float | None
) -> tuple[Feed, SummariseCounts]:
    """Work through runs of one tier, as many as fit; what is over budget is left."""
    counts = SummariseCounts()
    started = time.monotonic()
    for batch in batches(runs, BATCH_RUNS, BATCH_BUCKETS):
        size = sum(run.buckets for run in batch)
        spent = seconds is not None and time.monotonic() - started > seconds
        if (counts.buckets and (spent or counts.buckets + size > most)) or (most <= 0):
            counts = counts.plus(SummariseCounts(left=size))
            continue
        written, refused = _summarise(pipe, batch)
        feed = clear(pipe.store.state, _done(batch), now, pipe.feeds)
        pipe.reader.took_turn(feed, {run.plan.model for run in batch})
        reach("summarise:cleared")
        counts = counts.plus(SummariseCounts(size, written, refused))
    return feed, counts


def _done(batch: Sequence[Run]) -> dict[str, Done]:
    by_model: dict[str, Done] = {}
    for run in batch:
        before = by_model.get(run.plan.model)
        by_model[run.plan.model] = run.done if before is None else before.joined(run.done)
    return by_model


# --- one batch ----------------------------------------------------------------------------------------------


def _summarise(pipe: Pipeline, batch: Sequence[Run]) -> tuple[int, int]:
    """Count or add up, write summaries, then metrics."""
    tier = batch[0].tier
    rows = [*_counted(pipe, batch), *_rolled(pipe, batch)]
    reach("summarise:counted")
    written, refused = _write(pipe, batch, rows)
    if all(run.tier == run.plan.base for run in batch):
        reach("summarise:base-written")
    else:
        reach("summarise:tier-written" if tier == HOUR else "summarise:day-written")
    # Of what this worker counted, even where a newer write stood against it: stale metrics are refused too.
    by_run = _by_run(batch, [*rows, *_beside(pipe, batch)])
    docs: list[MetricDoc] = []
    for run, found in zip(batch, by_run, strict=True):
        plan = run.plan
        docs += docs_of(
            pipe.metrics,
            plan.model,
            tier,
            found,
            plan.state.baseline,
            plan.state.settings,
            plan.base,
            labels_alone=not run.rows,
        )
    if docs:
        pipe.store.write_metrics(docs)
    reach("summarise:metrics-written")
    return written, refused


def _counted(pipe: Pipeline, batch: Sequence[Run]) -> list[PartRow]:
    """Ask the store for parts of the runs that are counted in the logs; again where a new feature was logged
    in between.

    A feature's name is recorded before its first row is written. So if the names are the same before and
    after, no row that was counted had a name that was not asked for.
    """
    asked = [(run, parts) for run in batch if (parts := _counted_parts(run))]
    features = {run.plan.model: run.plan.state.features for run, _ in asked}
    rows: list[PartRow] = []
    while asked:
        requests = [_request(run, parts, features[run.plan.model]) for run, parts in asked]
        answers = summarise_capped(
            pipe.store,
            pipe.store.state,
            requests,
            {run.plan.model: run.plan.state.settings.max_groups for run, _ in asked},
            {run.plan.model: run.plan.state.values for run, _ in asked},
        )
        models = {run.plan.model for run, _ in asked}
        stored = pipe.store.state.get_many([document_name(model) for model in models])
        after = {model: features_in(stored.get(document_name(model))) for model in models}
        changed = {model for model in models if after[model] != features[model]}
        for (run, _), found in zip(asked, answers, strict=True):
            if run.plan.model not in changed:
                rows += found
        asked = [(run, parts) for run, parts in asked if run.plan.model in changed]
        features |= after
    return rows


def _counted_parts(run: Run) -> frozenset[PartName]:
    parts: frozenset[PartName] = frozenset()
    if run.rows and run.counted:
        parts |= run.plan.rows_parts
    if run.labels and (run.counted or run.tier == HOUR):
        parts |= {PartName.LABELS}
    return parts


def _request(run: Run, parts: frozenset[PartName], features: Features) -> SummaryRequest:
    baseline = run.plan.state.baseline
    return SummaryRequest(
        model=run.plan.model,
        window=run.window,
        bucket=run.tier,
        parts=parts,
        groupings=run.plan.groupings,
        edges=baseline.edges if baseline else None,
        numeric=features.numeric,
        categorical=features.categorical,
        invalid=features.invalid,
        attributions=features.attributions,
        measured=features.measured,
        probabilities=features.ranked,
        custom=run.plan.state.settings.own.definitions,
        epoch=run.plan.epoch,
    )


def _rolled(pipe: Pipeline, batch: Sequence[Run]) -> list[PartRow]:
    """The parts that are sums of the finer tier."""
    asked = []
    for run in batch:
        parts = (run.plan.rows_parts if run.rows else frozenset()) | (
            {PartName.LABELS} if run.labels else frozenset()
        )
        parts -= _counted_parts(run)
        if parts:
            finer = max(t for t in TIERS.values() if t < run.tier)
            asked.append((run, _query(run, parts, finer)))
    if not asked:
        return []
    answers = pipe.store.read_many([query for _, query in asked])
    return [
        row for (run, _), children in zip(asked, answers, strict=True) for row in roll_up(children, run.tier)
    ]


def _query(run: Run, parts: frozenset[PartName], tier: Millis) -> SummaryQuery:
    plan = run.plan
    own = plan.state.settings.own.key
    return SummaryQuery(plan.model, tier, run.window, parts, edges=plan.edges_hash, custom=own)


def _beside(pipe: Pipeline, batch: Sequence[Run]) -> list[PartRow]:
    """The stored parts that the metrics of a bucket need beside those that were made anew."""
    asked = []
    for run in batch:
        parts: frozenset[PartName] = frozenset()
        if not run.rows:
            parts |= run.plan.rows_parts
        if not run.labels and run.tier >= HOUR:
            parts |= {PartName.LABELS}
        if parts:
            asked.append(_query(run, parts, run.tier))
    return [row for rows in (pipe.store.read_many(asked) if asked else ()) for row in rows]


def _by_run(batch: Sequence[Run], rows: Iterable[PartRow]) -> list[list[PartRow]]:
    by_bucket: dict[tuple[str, Millis], list[PartRow]] = defaultdict(list)
    for row in rows:
        by_bucket[row.key.model, row.key.bucket].append(row)
    return [
        [
            row
            for bucket in range(run.window.start, run.window.end, run.tier)
            for row in by_bucket.get((run.plan.model, bucket), ())
        ]
        for run in batch
    ]


def _write(pipe: Pipeline, batch: Sequence[Run], rows: list[PartRow]) -> tuple[int, int]:
    """Write the parts whose fingerprint moved; returns how many were written and how many refused."""
    if not rows:
        return 0, 0
    tier = batch[0].tier
    models: dict[Window, set[str]] = defaultdict(set)
    for run in batch:
        models[run.window].add(run.plan.model)
    stored: dict[SummaryKey, int] = {}
    for window, names in models.items():
        stored |= pipe.store.versions_many(names, tier, window)
    fresh = [row for row in rows if stored.get(row.key) != row.version]
    accepted = pipe.store.write(fresh) if fresh else []
    refused = {row.key for row, ok in zip(fresh, accepted, strict=True) if not ok}
    pipe.reader.remember(row for row in rows if row.key not in refused)
    pipe.reader.forget({key.model for key in refused})
    return sum(accepted), len(accepted) - sum(accepted)
