"""One tick of the pipeline over many models on Elasticsearch: in the first hour, in the tenth, with labels.

Time is the rows' own: a minute of every model is written, then `tick` runs at that minute's end plus the
lag, so nothing waits for the clock on the wall. Two histories are measured, each under a prefix of its own:

- *first*: half an hour of history, so that windows of rules have something to read. The tick that meets all
  models as new is shown apart.
- *tenth*: three days and nine and a half hours of history. Its rows are just those whose labels come during
  the measurement, and five a minute and model in the last hour; the hours and days that are over, and the
  minutes of the last hour, are summarised from them by the store, in wide windows at once. What is missing
  against that many hours of ticks are older minutes, which no window of the rules reads, and the other rows
  of the past, which no tick reads.

Then labels come in each minute: `labels` a model, for predictions of an exponential age with a mean of a day.
Joining them is the gateway's work and is timed beside the tick.
"""

import cProfile
import io
import pstats
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench.crank import LAG, pipeline
from bench.fleet import Event, Fleet, append, join, minute_of, reference_of
from bench.processes import kedge_on
from ingest.schema import SchemaRegistry
from kedge.alerting.loading import load_rules
from kedge.clock import system_clock
from kedge.pipeline.baselines import Baseline, import_baseline
from kedge.pipeline.compose import rules_folder
from kedge.pipeline.context import Pipeline
from kedge.pipeline.tick import drain, tick
from kedge.sketch import AnyPart, Cells, Core, Labels, PartName
from kedge.sketch.parts import same
from kedge.store.base import PartRow, SummaryQuery, SummaryRequest
from kedge.store.elastic import ElasticStore
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, floor

TARGET_S = 15.0
WARM_ROWS = 5
"""Rows a model and minute in the hour before the tenth hour's measured minutes."""


@dataclass(frozen=True)
class Plan:
    """What is measured; `python -m bench tick` has an option for each."""

    models: int = 500
    rows: int = 100
    """A model and minute."""
    minutes: int = 2
    """Measured ticks of each history, without labels."""
    label_minutes: int = 10
    """Measured ticks with labels: those of the last hours are due every fifth minute, so twice."""
    labels: int = 100
    """A model and minute; 0 leaves this out."""
    days: int = 3
    """Of history before the tenth hour's day."""
    stages: tuple[str, ...] = ("first", "tenth")
    profile: bool = False


@dataclass
class Ticks:
    """The ticks of one stage."""

    seconds: list[float] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    verbs: dict[str, int] = field(default_factory=dict)
    buckets: int = 0
    left: int = 0
    profile: cProfile.Profile = field(default_factory=cProfile.Profile)

    def figures(self, target: float = TARGET_S) -> dict[str, Any]:
        return {
            "tick_s": round(float(np.median(self.seconds)), 2),
            "longest_s": round(max(self.seconds), 2),
            "ticks_s": [round(s, 2) for s in self.seconds],
            "target_s": f"under {target:g}",
            "met": max(self.seconds) < target,
            "requests": self.requests,
            "requests_of_the_last": dict(sorted(self.verbs.items(), key=lambda kv: -kv[1])),
            "buckets": self.buckets,
            "left_for_later": self.left,
        }


@dataclass(frozen=True)
class _World:
    """One prefix with its models, their baselines and the ready-made rules."""

    plan: Plan
    fleet: Fleet
    store: ElasticStore
    reference: Baseline
    say: Callable[[str], None]

    def pipe(self, *, judging: bool) -> Pipeline:
        return pipeline(self.store, load_rules([rules_folder()]) if judging else None)

    def begin(self, start: Millis) -> None:
        """Models as they are once they have logged and have a reference."""
        SchemaRegistry(self.store.state).register(list(self.fleet.rows([Event(start, 0)])))
        for name in self.fleet.names:
            import_baseline(self.store.state, replace(self.reference, model=name), use=True)

    def ticks(
        self, pipe: Pipeline, start: Millis, count: int, *, labels: Sequence[Sequence[Event]] = ()
    ) -> tuple[Ticks, list[float]]:
        """Write `count` minutes, each followed by its tick. Returns those, and the labels joined a second."""
        done, joins = Ticks(), []
        for i in range(count):
            minute = start + i * MINUTE
            began = time.perf_counter()
            rows = append(self.store, self.fleet.rows(minute_of(minute, self.plan.rows)))
            wrote = time.perf_counter() - began
            text = f"  {rows:,} rows in {wrote:.1f} s"
            if labels:
                began = time.perf_counter()
                joined = join(self.store, self.fleet.labels(labels[i], minute))
                joins.append(joined / (time.perf_counter() - began))
                text += f", {joined:,} labels at {joins[-1]:,.0f}/s"
            self.tick(pipe, minute + MINUTE + LAG, done)
            self.say(f"{text}, tick {done.seconds[-1]:.2f} s, {done.requests[-1]:,} requests")
        return done, joins

    def tick(self, pipe: Pipeline, now: Millis, done: Ticks) -> None:
        before, verbs = self.store.counters.requests, dict(self.store.counters.by_verb)
        if self.plan.profile:
            done.profile.enable()
        began = time.perf_counter()
        report = tick(pipe, now)
        done.seconds.append(time.perf_counter() - began)
        done.profile.disable()
        if report.skipped or report.problems:
            raise RuntimeError(f"a tick did not run: {report}")
        done.requests.append(self.store.counters.requests - before)
        after = self.store.counters.by_verb
        done.verbs = {verb: n - verbs.get(verb, 0) for verb, n in after.items() if n > verbs.get(verb, 0)}
        done.buckets += report.summaries.buckets
        done.left = report.summaries.left

    def history(self, start: Millis, now: Millis, events: Sequence[Event]) -> float:
        """The rows of `events` and of the last hour before `now`, and their summaries; nothing is due
        after. Returns the seconds of the tick that meets the models."""
        append(self.store, self.fleet.rows(minute_of(start, 1)))
        pipe = self.pipe(judging=False)
        met = tick(pipe, start + MINUTE + LAG).seconds  # what their summaries hold is known from here on
        drain(pipe, now)
        minutes = Window(max(start + MINUTE, now - HOUR), now)
        hour = [e for m in range(*minutes, MINUTE) for e in minute_of(m, WARM_ROWS)]
        self.say(f"  {(len(events) + len(hour)) * self.plan.models:,} rows of history")
        append(self.store, self.fleet.rows(events))
        append(self.store, self.fleet.rows(hour))
        stored = self.store.state.get("feed")
        assert stored is not None
        feed = stored.value
        feed["watermark"] = self.store.changed(feed["watermark"]).watermark
        feed["read_at"] = now
        for model in feed["models"].values():
            model["last"] = now - MINUTE
        self.store.state.swap("feed", feed, stored.token)
        written = 0
        for bucket, window in (
            (MINUTE, minutes),
            (HOUR, Window(start, floor(now, HOUR))),
            (DAY, Window(start, floor(now, DAY))),
        ):
            if window.start >= window.end:
                continue
            parts = self._of_one(bucket, window)
            for name in self.fleet.names:
                copies = [PartRow(row.key._replace(model=name), row.version, row.part) for row in parts]
                if not all(self.store.write(copies)):
                    raise RuntimeError("a summary of the history was refused")
                written += len(copies)
        self.say(f"  {written:,} summaries of history")
        self._check(minutes)
        return met

    def _of_one(self, bucket: Millis, window: Window, model: str = "") -> list[PartRow]:
        features = self.fleet.features
        return self.store.summarise(
            SummaryRequest(
                model=model or self.fleet.names[0],
                window=window,
                bucket=bucket,
                parts=frozenset(PartName),
                edges=self.reference.edges,
                numeric=features.numeric,
                categorical=features.categorical,
            )
        )

    def _check(self, window: Window) -> None:
        """The last model's summaries are what was copied from the first."""
        name = self.fleet.names[-1]
        counted = {row.key: _counts(row.part) for row in self._of_one(MINUTE, window, name)}
        query = SummaryQuery(name, MINUTE, window, frozenset(PartName), edges=self.reference.edges.hash)
        stored = self.store.read_many([query])[0]
        if not same({row.key: _counts(row.part) for row in stored}, counted):
            raise RuntimeError("the models' histories are not alike")


def measure(url: str, plan: Plan | None = None, say: Callable[[str], None] = print) -> dict[str, object]:
    """The stages of `plan`, each from empty indices; cleaned up afterwards."""
    plan = plan or Plan()
    fleet = Fleet(plan.models)
    reference = reference_of(fleet)
    day = floor(system_clock(), DAY) - 2 * DAY
    figures: dict[str, Any] = {
        "models": plan.models,
        "features": fleet.numeric + fleet.categorical,
        "rows_a_model_and_minute": plan.rows,
        "rules": len(load_rules([rules_folder()]).rules),
    }
    if "first" in plan.stages:
        with kedge_on(url) as (_, store, client):
            figures["server"] = str(client.server)
            world = _World(plan, fleet, store, reference, say)
            say("first hour")
            world.begin(day)
            now = day + 30 * MINUTE
            met = world.history(day, now, [])
            pipe = world.pipe(judging=True)
            world.ticks(pipe, now, 1)  # a fresh worker
            first, _ = world.ticks(pipe, now + MINUTE, plan.minutes)
            figures["first_hour"] = {"models_new_s": round(met, 2)} | first.figures()
            _profiled(plan, first, "first hour")
    if "tenth" in plan.stages:
        with kedge_on(url) as (_, store, client):
            figures["server"] = str(client.server)
            figures |= _tenth(_World(plan, fleet, store, reference, say), day)
    if "first_hour" in figures and "tenth_hour" in figures:
        ratio = figures["tenth_hour"]["tick_s"] / figures["first_hour"]["tick_s"]
        figures["tenth_over_first"] = round(ratio, 2)
        figures["flat_target"] = "about 1; at most 1.25 counts as flat"
        figures["flat_met"] = ratio <= 1.25
    return figures


def _tenth(world: _World, day: Millis) -> dict[str, Any]:
    plan = world.plan
    start, now = day - plan.days * DAY, day + 9 * HOUR + 30 * MINUTE
    labelled = now + (1 + plan.minutes) * MINUTE  # when labels begin to come
    rng = np.random.default_rng(1)
    batches = [
        _ages(rng, labelled + i * MINUTE, plan.labels, Window(start, now))
        for i in range(1 + plan.label_minutes if plan.labels else 0)
    ]
    world.say("tenth hour")
    world.begin(start)
    world.history(start, now, sorted((e for b in batches for e in b), key=lambda e: e.timestamp))
    pipe = world.pipe(judging=True)
    world.ticks(pipe, now, 1)  # a fresh worker
    tenth, _ = world.ticks(pipe, now + MINUTE, plan.minutes)
    _profiled(plan, tenth, "tenth hour")
    found: dict[str, Any] = {"history_days": plan.days, "tenth_hour": tenth.figures()}
    if batches:
        world.say("with labels")
        world.ticks(pipe, labelled, 1, labels=batches[:1])
        late, joins = world.ticks(pipe, labelled + MINUTE, plan.label_minutes, labels=batches[1:])
        _profiled(plan, late, "with labels")
        found["with_labels"] = {"labels_a_model_and_minute": plan.labels} | late.figures()
        found["with_labels"]["joined_per_s"] = round(float(np.median(joins)))
    return found


def _ages(rng: np.random.Generator, at: Millis, count: int, within: Window) -> list[Event]:
    """The predictions whose labels come at `at`: exponential ages, a day on average, cut to the history."""
    ages = rng.exponential(DAY, count)
    times = np.clip((at - ages).astype(np.int64), within.start + MINUTE, within.end - HOUR - 1)
    tag = at // MINUTE % 10_000 * 1_000
    return [Event(int(t), tag + 100_000 + i) for i, t in enumerate(times)]


def _counts(part: AnyPart) -> tuple[Any, ...]:
    """What of a part is exact: sums are taken in the order of a server's segments, and differ in the last
    digit."""
    match part:
        case Core():
            return part.rows, part.errors, part.latency, part.scores, part.present, part.invalid
        case Cells():
            return (part.features,)
        case Labels():
            return part.rows, part.scores, part.delay


def _profiled(plan: Plan, done: Ticks, title: str, lines: int = 45) -> None:
    if not plan.profile:
        return
    for order in ("cumulative", "tottime"):
        out = io.StringIO()
        pstats.Stats(done.profile, stream=out).sort_stats(order).print_stats(lines)
        print(f"--- {title}, by {order}\n{out.getvalue()}")
