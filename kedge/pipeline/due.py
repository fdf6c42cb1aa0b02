"""What of a model is to be summarised at a tier now, and in which runs of buckets. Pure.

Rows are counted in the logs once, at the base tier; coarser tiers add up. Labels are counted at `label_tier`,
when the bucket is over; coarser tiers add up. What is older than a tier's retention is counted straight at
the next one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from zlib import crc32

from kedge.pipeline.dirty import Dirty, Done, ModelFeed, Stale, label_tier, runs_of
from kedge.pipeline.models import ModelState
from kedge.sketch import PartName
from kedge.store.base import Grouping
from kedge.windows import DAY, MINUTE, Millis, Window, floor, tiers_from

RUN_BUCKETS = 1440
"""Buckets of one request at most: a day of minutes. Stores cut it further where their limits ask for it."""
LABELS_WAIT: Millis = 5 * MINUTE
LABELS_WAIT_SHARE = 24
"""Under load, labels of a bucket are counted again at most every five minutes, and at most every 24th of its
age: labels that trickle in for days would otherwise have every hour of those days counted at every tick."""
LABELS_AT_ONCE = 2_000
"""Buckets with changed labels that one tick takes without anybody having to wait."""


@dataclass(frozen=True)
class Plan:
    """How one model is summarised at present."""

    model: str
    feed: ModelFeed
    state: ModelState
    groupings: tuple[Grouping, ...]
    epoch: int
    floors: Mapping[Millis, Millis] = field(default_factory=dict)
    """By tier: where its retention begins. Older buckets are not kept at that tier."""
    turn: bool = False
    """It is the model's turn (has_turn): labels that would have to be counted before its next one are."""

    @property
    def base(self) -> Millis:
        return self.feed.base

    @property
    def edges_hash(self) -> str:
        return self.state.baseline.edges.hash if self.state.baseline else ""

    @property
    def rows_parts(self) -> frozenset[PartName]:
        parts = frozenset({PartName.CORE, PartName.CELLS} if self.state.baseline else {PartName.CORE})
        return parts | self.state.settings.own.parts

    def tier_of(self, bucket: Millis) -> Millis:
        """The finest tier that is kept there."""
        return next(t for t in tiers_from(self.base) if t == DAY or bucket >= self.floors.get(t, bucket))

    def over(self, bucket: Millis, tier: Millis, now: Millis) -> bool:
        return bucket + tier + self.state.settings.lag <= now


@dataclass(frozen=True)
class Run:
    """Neighbouring buckets of one model and tier that are summarised in the same way."""

    plan: Plan
    tier: Millis
    window: Window
    rows: bool
    """Core and cells are due,"""
    labels: bool
    """and so is the labels part."""
    counted: bool
    """Rows are counted in the logs, not added up from the finer tier."""
    done: Done
    """What is off the list once this run is written."""

    @property
    def buckets(self) -> int:
        return self.window.length // self.tier


def runs_at(plan: Plan, tier: Millis, now: Millis, *, patient: bool, history: bool = False) -> list[Run]:
    """What is due at `tier`: of what is live, or of `history`. Newest first."""
    if tier < plan.base:
        return []
    rows = _rows_due(plan, tier, now, history=history)
    labels = {} if history else labels_due(plan, tier, now, patient=patient)
    kinds: dict[tuple[bool, bool, bool], list[Millis]] = defaultdict(list)
    for bucket in rows.keys() | labels.keys():
        counted = tier == plan.tier_of(bucket)
        kinds[bucket in rows, bucket in labels, counted].append(bucket)
    runs = []
    for (has_rows, has_labels, counted), buckets in kinds.items():
        for window in runs_of(buckets, tier, RUN_BUCKETS):
            inside = range(window.start, window.end, tier)
            done = Done(
                rows=_merged(rows[b].rows for b in inside if b in rows),
                history=_merged(rows[b].history for b in inside if b in rows),
                tier=tier if counted else 0,
                pending=_merged_tiers(rows[b].pending for b in inside if b in rows),
                labels=_merged_tiers(labels[b] for b in inside if b in labels),
            )
            runs.append(Run(plan, tier, window, has_rows, has_labels, counted, done))
    return sorted(runs, key=lambda run: -run.window.start)


def _rows_due(plan: Plan, tier: Millis, now: Millis, *, history: bool) -> dict[Millis, Done]:
    """The buckets of a tier whose rows are due, with the marks that go with each."""
    feed = plan.feed
    found: dict[Millis, Done] = {}

    def at(bucket: Millis) -> Done:
        empty = Done({}, {}, pending={t: {} for t in tiers_from(plan.base)[1:]})
        return found.setdefault(bucket, empty)

    for b, mark in (feed.history if history else feed.dirty).items():
        bucket = floor(b, tier)
        if plan.tier_of(b) != tier or not plan.over(bucket, tier, now):
            continue
        done = at(bucket)
        if not history:
            done.rows[b] = mark
        if b in feed.history:
            done.history[b] = feed.history[b]
    if tier == plan.base:
        return found
    below = {t: held for t, held in feed.pending.items() if t < tier}
    unread = {floor(b, tier) for held in (feed.dirty, feed.history, *below.values()) for b in held}
    for finer, held in feed.pending.items():
        for b, mark in held.items():
            bucket = floor(b, tier)
            if finer > tier or not plan.over(bucket, tier, now):
                continue
            direct = plan.tier_of(bucket) == tier
            if bucket in found or (not history and (direct or (finer == tier and bucket not in unread))):
                at(bucket).pending[finer][b] = mark
    return found


def labels_due(plan: Plan, tier: Millis, now: Millis, *, patient: bool) -> dict[Millis, dict[Millis, Dirty]]:
    """The buckets of a tier whose labels are due, with the marks that go with each, by tier."""
    if tier < label_tier(plan.base):
        return {}
    found: dict[Millis, dict[Millis, Dirty]] = {}
    for finer, held in plan.feed.labels.items():
        for b, stale in held.items():
            bucket = floor(b, tier)
            kept = max(plan.tier_of(bucket), label_tier(plan.base))
            if max(finer, kept) != tier or not plan.over(bucket, tier, now):
                continue
            if patient and not _waited(stale, b, now, turn=plan.turn):
                continue
            found.setdefault(bucket, {}).setdefault(finer, {})[b] = stale.mark
    return found


def _waited(stale: Stale, bucket: Millis, now: Millis, *, turn: bool) -> bool:
    longest = max(LABELS_WAIT, (now - bucket) // LABELS_WAIT_SHARE)
    waited = now - stale.since
    return stale.since == 0 or waited >= longest or (turn and waited > longest - LABELS_WAIT)


def has_turn(model: str, now: Millis) -> bool:
    """Whether one model of many has its minute of every five, the same on every worker.

    Labels come for all models at once: without turns all would be due in one tick, and none in the next. And
    what a model has due is counted together, hours beside each other in one search.
    """
    return now // MINUTE % (LABELS_WAIT // MINUTE) == crc32(model.encode()) % (LABELS_WAIT // MINUTE)


def _merged(maps: Iterable[Dirty]) -> Dirty:
    merged: Dirty = {}
    for each in maps:
        merged |= each
    return merged


def _merged_tiers(maps: Iterable[Mapping[Millis, Dirty]]) -> dict[Millis, Dirty]:
    merged: dict[Millis, Dirty] = {}
    for each in maps:
        for tier, marks in each.items():
            merged.setdefault(tier, {}).update(marks)
    return merged


def batches(runs: Iterable[Run], most_runs: int, most_buckets: int) -> Iterator[list[Run]]:
    """Runs that are worked on together, in order."""
    batch: list[Run] = []
    buckets = 0
    for run in runs:
        if batch and (len(batch) == most_runs or buckets + run.buckets > most_buckets):
            yield batch
            batch, buckets = [], 0
        batch.append(run)
        buckets += run.buckets
    if batch:
        yield batch
