"""The dirty set: what changed and is therefore due, and how processing takes it off again. Pure.

Each bucket that is due carries a *mark*, the number of the change that touched it last. Whoever has
processed a bucket takes it off only if its mark is still the one that was read before, so nothing that
arrives meanwhile is forgotten, and taking a bucket off marks the coarser one that is made of it in the same
swap.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

from kedge.sketch import PartName
from kedge.store.base import Changes, Json
from kedge.windows import HOUR, MINUTE, SECOND, Millis, Window, floor, tiers_from

Dirty = dict[Millis, int]
"""Bucket start -> mark: the number of the change that touched it last."""


_DEFINED = frozenset({PartName.CELLS, PartName.CUSTOM})
"""Parts that are computed anew for all history where what they are computed on changes."""
LATE_RUNS = 4
"""Late changes of rows, and of labels, that are told apart; older ones count as one that reaches over all."""


class Late(NamedTuple):
    """A change of what may have been judged: windows that reach into it are judged again."""

    mark: int
    start: Millis
    end: Millis


LABEL_CHANGES = 8
"""Changes of labels that are remembered of a model."""


class Stale(NamedTuple):
    """A bucket whose labels changed since they were summarised."""

    mark: int
    since: Millis
    """When the oldest of the changes was read; 0: the bucket was not long over then, and may never have been
    summarised: its finer buckets are read instead."""


def _stale(mark: int, end: Millis, now: Millis, *, made: bool = False) -> Stale:
    """`made`: the bucket is known to have been summarised since it was over."""
    return Stale(mark, now - now % SECOND if made or end + HOUR <= now else 0)


def label_tier(base: Millis) -> Millis:
    """The finest tier at which labels are stored: they trickle in for days, minute by minute of the past."""
    return max(base, HOUR)


@dataclass(frozen=True)
class ModelFeed:
    """What the feed knows of one model."""

    base: Millis
    """Width of its base bucket; fixed when the model is first seen."""
    first: Millis
    last: Millis
    """Starts of the oldest and newest base bucket that ever had rows."""
    dirty: Dirty = field(default_factory=dict)
    """Base buckets in which rows arrived."""
    computed: str = ""
    """Which groupings and edges its summaries hold; where that changes, all its buckets are due again."""
    history: Dirty = field(default_factory=dict)
    """Base buckets that lack what `computed` names; summarised after what is live."""
    pending: Mapping[Millis, Dirty] = field(default_factory=dict)
    """By tier coarser than the base: buckets whose children changed since they were rolled up, open ones
    included."""
    labels: Mapping[Millis, dict[Millis, Stale]] = field(default_factory=dict)
    """By tier from `label_tier`: buckets whose labels changed."""
    labels_made: Mapping[Millis, Millis] = field(default_factory=dict)
    """By tier from `label_tier`: the newest bucket whose labels were summarised once it was over."""
    label_changes: tuple[tuple[int, Millis], ...] = ()
    """Of the last changes of labels, each one's mark and the earliest minute it touched: what was counted of
    later minutes before it no longer stands."""
    late_rows: tuple[Late, ...] = ()
    """Where rows arrived in buckets that may have been judged, oldest first."""
    late_labels: tuple[Late, ...] = ()
    """Where labels were summarised anew, or changed that are counted when they are asked for."""
    turn: int = 0
    """Counts the times that somebody processed buckets of the model: what others cached is then outdated."""

    def incomplete_in(self, window: Window, parts: frozenset[PartName] = frozenset()) -> bool:
        """Whether rows of a window are not summarised yet, or not on the edges and groupings in use."""
        if self.dirty and any(window.start <= b < window.end for b in self.dirty):
            return True
        if not self.history or not _DEFINED & parts:
            return False
        return any(window.start <= b < window.end for b in self.history)

    def changed_since(self, mark: int, *, labels: bool) -> list[Window]:
        """Where what was judged at `mark` may have changed since."""
        log = self.late_rows + (self.late_labels if labels else ())
        return [Window(late.start, late.end) for late in log if late.mark > mark]

    def labels_stand_until(self, mark: int) -> Millis | None:
        """Up to where labels that were counted at `mark` still stand; None: everywhere."""
        since = [minute for at, minute in self.label_changes if at > mark]
        if len(since) == LABEL_CHANGES:  # and there may have been more
            return 0
        return min(since, default=None)

    def missing(self, part: PartName) -> Callable[[Millis, Millis], bool]:
        """Which coarse buckets of a part cannot be read yet (windows.tile)."""
        if part is PartName.LABELS:
            unmade = {(tier, b) for tier, held in self.labels.items() for b, s in held.items() if not s.since}
            # Coarser ones alone: the first hour of a day that is not over is no part of what the day lacks.
            unmade |= {(t, floor(b, t)) for tier, b in unmade for t in tiers_from(self.base) if t > tier}
        else:
            unmade = {(tier, b) for tier, held in self.pending.items() for b in held}
            unmade |= {
                (tier, floor(b, tier))
                for finer in (self.dirty, self.history, self.pending.get(HOUR, {}))
                for b in finer
                for tier in tiers_from(self.base)[1:]
            }
        return lambda tier, start: (tier, start) in unmade

    @property
    def nothing_due(self) -> bool:
        return not (self.dirty or self.history or any(self.pending.values()) or any(self.labels.values()))


@dataclass(frozen=True)
class Feed:
    """The state of change detection."""

    watermark: Json = field(default_factory=dict)
    read_at: Millis = 0
    """When the watermark was read: rows that were stored before it are in the dirty set, or summarised."""
    epoch: int = 1
    mark: int = 0
    models: dict[str, ModelFeed] = field(default_factory=dict)
    spooled: Millis | None = None
    """The earliest event time of which a gateway held rows when the watermark was read: what was still on the
    way then is in no summary, however empty the spools are now."""

    def encode(self, models: Json | None = None) -> Json:
        """As JSON; `models`: its models', where they are at hand."""
        if models is None:
            models = {name: encode_model(m) for name, m in self.models.items()}
        return {
            "watermark": self.watermark,
            "read_at": self.read_at,
            "epoch": self.epoch,
            "mark": self.mark,
            "models": models,
            "spooled": self.spooled,
        }

    @classmethod
    def decode(cls, value: Json, models: dict[str, ModelFeed] | None = None) -> "Feed":
        """From its JSON; `models`: its models, where they are at hand."""
        if models is None:
            models = {name: decode_model(m) for name, m in value["models"].items()}
        return cls(
            value["watermark"],
            value["read_at"],
            value["epoch"],
            value["mark"],
            models,
            value.get("spooled"),
        )


def encode_model(m: ModelFeed) -> Json:
    found: Json = {
        "base": m.base,
        "first": m.first,
        "last": m.last,
        "computed": m.computed,
        "dirty": _runs(m.dirty, m.base),
        "history": _runs(m.history, m.base),
        "pending": {str(tier): _runs(held, tier) for tier, held in m.pending.items() if held},
        "labels": {str(tier): _packed(held, tier) for tier, held in m.labels.items() if held},
        "labels_made": {str(tier): bucket for tier, bucket in m.labels_made.items()},
        "label_changes": [list(change) for change in m.label_changes],
        "late_rows": [_short(late) for late in m.late_rows],
        "late_labels": [_short(late) for late in m.late_labels],
        "turn": m.turn,
    }
    return {name: value for name, value in found.items() if value not in ([], {}, 0, "")}


def decode_model(m: Json) -> ModelFeed:
    base = m["base"]
    return ModelFeed(
        base,
        m.get("first", 0),
        m.get("last", 0),
        {b: mark for b, (mark,) in _unrun(m.get("dirty", ()), base)},
        m.get("computed", ""),
        {b: mark for b, (mark,) in _unrun(m.get("history", ()), base)},
        {
            int(tier): {b: mark for b, (mark,) in _unrun(runs, int(tier))}
            for tier, runs in m.get("pending", {}).items()
        },
        {int(tier): _unpacked(packed, int(tier)) for tier, packed in m.get("labels", {}).items()},
        {int(tier): bucket for tier, bucket in m.get("labels_made", {}).items()},
        tuple((mark, minute) for mark, minute in m.get("label_changes", ())),
        tuple(_long(late) for late in m.get("late_rows", ())),
        tuple(_long(late) for late in m.get("late_labels", ())),
        m.get("turn", 0),
    )


def _short(late: Late) -> list[int]:
    """In minutes: the document holds hundreds of models'."""
    return [late.mark, late.start // MINUTE, (late.end - late.start) // MINUTE]


def _long(said: list[int]) -> Late:
    mark, start, length = said
    return Late(mark, start * MINUTE, (start + length) * MINUTE)


def _noted(log: tuple[Late, ...], mark: int, spans: Iterable[Window]) -> tuple[Late, ...]:
    """The log with one more change that reaches over all of `spans`."""
    held = list(spans)
    if not held:
        return log
    log = (*log, Late(mark, min(s.start for s in held), max(s.end for s in held)))
    if len(log) > LATE_RUNS:
        (_, a, b), (newer, c, d), *others = log
        log = (Late(newer, min(a, c), max(b, d)), *others)
    return log


def _runs(dirty: Mapping[Millis, Any], width: Millis) -> list[list[int]]:
    """Neighbouring buckets with one mark as [start, count, mark]: years of history are a few numbers."""
    runs: list[list[int]] = []
    for bucket, entry in sorted(dirty.items()):
        said = list(entry) if isinstance(entry, tuple) else [entry]
        if runs and bucket == runs[-1][0] + runs[-1][1] * width and said == runs[-1][2:]:
            runs[-1][1] += 1
        else:
            runs.append([bucket, 1, *said])
    return runs


def _unrun(runs: Iterable[list[int]], width: Millis) -> Iterator[tuple[Millis, list[int]]]:
    for start, count, *entry in runs:
        for i in range(count):
            yield start + i * width, entry


def _packed(stale: Mapping[Millis, Stale], tier: Millis) -> list[list[int]]:
    """Labels that trickle in leave dozens of buckets with moments of their own, of hundreds of models. So all
    numbers are small: [first bucket, newest mark, newest moment], then for each mark and moment how much
    older they are (moments in seconds), and its runs: buckets between, and buckets in."""
    first = min(stale)
    mark, since = max(s.mark for s in stale.values()), max(s.since for s in stale.values())
    alike: dict[Stale, list[int]] = {}
    ends: dict[Stale, Millis] = {}
    for bucket in sorted(stale):
        entry = stale[bucket]
        runs = alike.get(entry)
        if runs is None:
            runs = alike[entry] = [mark - entry.mark, (since - entry.since) // SECOND]
            ends[entry] = first
        between = (bucket - ends[entry]) // tier
        if between or len(runs) == 2:
            runs += (between, 1)
        else:
            runs[-1] += 1
        ends[entry] = bucket + tier
    return [[first, mark, since], *alike.values()]


def _unpacked(packed: list[list[int]], tier: Millis) -> dict[Millis, Stale]:
    if len(packed[0]) == 4:  # as an earlier kedge wrote it: [start, count, mark, since] each
        return {bucket: Stale(*entry) for bucket, entry in _unrun(packed, tier)}
    (first, mark, since), *alike = packed
    found: dict[Millis, Stale] = {}
    for older, seconds, *runs in alike:
        entry = Stale(mark - older, since - seconds * SECOND)
        bucket = first
        for between, count in zip(runs[::2], runs[1::2], strict=True):
            bucket += between * tier
            for _ in range(count):
                found[bucket] = entry
                bucket += tier
    return found


def absorb(
    feed: Feed,
    changes: Changes,
    now: Millis,
    base_of: Callable[[str, set[Millis]], Millis],
    spooled: Millis | None = None,
    lag_of: Callable[[str], Millis] = lambda model: 0,
) -> Feed:
    """The feed after `changes` that were read at `now`, when gateways held rows from `spooled` on; `base_of`
    says the base bucket of a new model, `lag_of` how long its buckets wait for stragglers.
    """
    mark = feed.mark + 1
    read_at = max(now, feed.read_at)
    models = dict(feed.models)
    for name in changes.dirty.keys() | changes.labelled.keys():
        arrived, labelled = changes.dirty.get(name, set()), changes.labelled.get(name, set())
        if not (minutes := arrived | labelled):
            continue
        known = models.get(name)
        if known is None:
            base = base_of(name, minutes)
            known = ModelFeed(base, floor(min(minutes), base), floor(max(minutes), base))
        base = known.base
        tier = label_tier(base)
        held = known.labels.get(tier, {})
        stale = {}
        for bucket in {floor(minute, tier) for minute in labelled}:
            made = known.labels_made.get(tier) == bucket
            stale[bucket] = (
                held[bucket]._replace(mark=mark)
                if bucket in held
                else _stale(mark, bucket + tier, read_at, made=made)
            )
        # Nobody can have judged past what was complete when the feed was read last.
        complete = floor(feed.read_at - lag_of(name), base)
        late = [Window(b, b + base) for b in {floor(m, base) for m in arrived} if b + base <= complete]
        # What is not summarised yet is counted whenever it is asked for; the rest is noted by `cleared`.
        at_once = [Window(m, m + MINUTE) for m in labelled if not stale[floor(m, tier)].since]
        models[name] = replace(
            known,
            first=min(known.first, floor(min(minutes), base)),
            last=max(known.last, floor(max(minutes), base)),
            dirty=known.dirty | dict.fromkeys({floor(minute, base) for minute in arrived}, mark),
            labels={**known.labels, tier: held | stale} if stale else known.labels,
            label_changes=(*known.label_changes, (mark, min(labelled)))[-LABEL_CHANGES:]
            if labelled
            else known.label_changes,
            late_rows=_noted(known.late_rows, mark, late),
            late_labels=_noted(known.late_labels, mark, at_once),
        )
    epoch = feed.epoch + 1 if changes.replaced else feed.epoch
    return Feed(changes.watermark, read_at, epoch, mark, models, spooled)


def adopted(feed: Feed, wanted: Mapping[str, tuple[str | None, Window]]) -> Feed:
    """What the summaries of models shall hold from now on (None: as before), with the buckets of a window
    due again for it, as far as the model has logs there."""
    mark = feed.mark + 1
    models = dict(feed.models)
    for name, (computed, window) in wanted.items():
        known = models.get(name)
        if known is None:
            continue
        start = max(floor(window.start, known.base), known.first)
        stop = min(window.end, known.last + known.base)
        tier = label_tier(known.base)
        held = known.labels.get(tier, {})
        again = {
            b: held[b]._replace(mark=mark) if b in held else _stale(mark, b + tier, feed.read_at)
            for b in range(floor(start, tier), stop, tier)
        }
        models[name] = replace(
            known,
            history=known.history | dict.fromkeys(range(start, stop, known.base), mark),
            labels={**known.labels, tier: held | again} if again else known.labels,
            computed=known.computed if computed is None else computed,
        )
    return replace(feed, mark=mark, models=models)


@dataclass(frozen=True)
class Done:
    """Buckets of one model that were processed, with the marks that they had before."""

    rows: Dirty = field(default_factory=dict)
    """Base buckets that were `dirty`."""
    history: Dirty = field(default_factory=dict)
    tier: Millis = 0
    """The tier that their rows were summarised at, where it is not the base: they were too old for that."""
    pending: Mapping[Millis, Dirty] = field(default_factory=dict)
    labels: Mapping[Millis, Dirty] = field(default_factory=dict)

    def joined(self, other: "Done") -> "Done":
        """Of the same model and tier."""

        def merged(a: Mapping[Millis, Dirty], b: Mapping[Millis, Dirty]) -> dict[Millis, Dirty]:
            return {tier: a.get(tier, {}) | b.get(tier, {}) for tier in a.keys() | b.keys()}

        return Done(
            self.rows | other.rows,
            self.history | other.history,
            max(self.tier, other.tier),
            merged(self.pending, other.pending),
            merged(self.labels, other.labels),
        )


def cleared(feed: Feed, done: Mapping[str, Done], now: Millis) -> Feed:
    mark = feed.mark + 1
    models = dict(feed.models)
    for name, did in done.items():
        known = models.get(name)
        if known is None:
            continue
        tiers = tiers_from(known.base)
        pending = {tier: dict(known.pending.get(tier, {})) for tier in tiers[1:]}
        stale = {tier: dict(known.labels.get(tier, {})) for tier in tiers if tier >= label_tier(known.base)}
        for tier, marks in did.pending.items():
            for b, seen in marks.items():
                if pending[tier].get(b) == seen:
                    del pending[tier][b]
        anew = []
        for tier, marks in did.labels.items():
            for b, seen in marks.items():
                if b in stale[tier] and stale[tier][b].since:
                    anew.append(Window(b, b + tier))
                if b in stale[tier] and stale[tier][b].mark == seen:
                    del stale[tier][b]
        # What was made anew is a changed child of the next tier, whether or not it was touched again since.
        for tier, coarser in pairwise(tiers):
            children = dict(did.pending.get(tier, {}))
            if tier == max(did.tier, known.base):
                children |= did.rows | did.history
            pending[coarser] |= dict.fromkeys({floor(b, coarser) for b in children}, mark)
            for b in {floor(b, coarser) for b in did.labels.get(tier, {})}:
                before, made = stale[coarser].get(b), known.labels_made.get(coarser) == b
                stale[coarser][b] = (
                    before._replace(mark=mark) if before else _stale(mark, b + coarser, now, made=made)
                )
        models[name] = replace(
            known,
            dirty={b: m for b, m in known.dirty.items() if did.rows.get(b) != m},
            history={b: m for b, m in known.history.items() if did.history.get(b) != m},
            pending={tier: held for tier, held in pending.items() if held},
            labels={tier: held for tier, held in stale.items() if held},
            labels_made=dict(known.labels_made)
            | {
                tier: max(known.labels_made.get(tier, 0), *marks)
                for tier, marks in did.labels.items()
                if marks
            },
            late_labels=_noted(known.late_labels, mark, anew),
            turn=known.turn + 1,
        )
    return replace(feed, mark=mark, models=models)


def without_sealed(feed: Feed, before: Millis) -> tuple[Feed, int]:
    """The feed without what would have to be counted in logs from before `before`, which may be gone; and how
    many buckets were given up: rows and labels that came for them stay out of the summaries."""
    models = dict(feed.models)
    given_up = 0
    for name, known in feed.models.items():
        tier = label_tier(known.base)
        labels = {b: stale for b, stale in known.labels.get(tier, {}).items() if b >= before}
        kept = replace(
            known,
            dirty={b: mark for b, mark in known.dirty.items() if b >= before},
            history={b: mark for b, mark in known.history.items() if b >= before},
            labels={t: held for t, held in {**known.labels, tier: labels}.items() if held},
        )
        lost = {floor(b, tier) for b in known.dirty.keys() - kept.dirty.keys()}
        lost |= known.labels.get(tier, {}).keys() - labels.keys()
        given_up += len(lost)
        models[name] = kept
    return replace(feed, models=models), given_up


def runs_of(buckets: Iterable[Millis], width: Millis, longest: int) -> list[Window]:
    """Neighbouring buckets as windows of at most `longest` buckets, newest first."""
    windows: list[Window] = []
    for bucket in sorted(buckets):
        if windows and windows[-1].end == bucket and windows[-1].length < longest * width:
            windows[-1] = Window(windows[-1].start, bucket + width)
        else:
            windows.append(Window(bucket, bucket + width))
    return windows[::-1]
