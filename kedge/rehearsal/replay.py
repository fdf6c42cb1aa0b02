"""History, played through the judging as it would have been: the steps in order, labels as they came in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

import msgspec
import numpy as np

from kedge.alerting.finding import Transition
from kedge.alerting.loading import RuleBook
from kedge.alerting.rule import Rule
from kedge.analysis.maturity import BucketLabels
from kedge.errors import BadInput
from kedge.notify.receivers import Receivers
from kedge.pipeline.context import Pipeline
from kedge.pipeline.dirty import Feed, ModelFeed
from kedge.pipeline.evaluate import evaluate_due
from kedge.pipeline.feed import FEED, load_feed
from kedge.pipeline.progress import Reached, advance, judged_through
from kedge.pipeline.reader import SummaryReader
from kedge.pipeline.recount import recount
from kedge.pipeline.retention import read_floors
from kedge.pipeline.summarise import SEPARATOR
from kedge.pipeline.tiers import tier_floors
from kedge.rehearsal.stage import Stage
from kedge.rehearsal.telling import Sent, Teller
from kedge.sketch import DELAY
from kedge.store.base import Store
from kedge.windows import DAY, HOUR, MINUTE, Millis, Span, Window, ceil, floor, format_duration, iso

CHUNK = DAY
"""How much is judged at once. Each step is judged as it is in any order of ticks, so this changes nothing of
what is found: only how often progress is told, and to how much it is known when labels had come."""
_EDGES = DELAY.edges.astype(np.float64)


@dataclass(frozen=True)
class Replayed:
    """What the rules would have done."""

    window: Window
    transitions: tuple[Transition, ...]
    """In order of the steps."""
    messages: tuple[Sent, ...]
    judged: Mapping[tuple[str, str], Window]
    """By rule and model: from when to when it was judged."""
    steps: int
    notes: tuple[str, ...]
    """What could not be judged, and why."""


class AsOf(SummaryReader):
    """Reads what is stored now as it was then: labels that came later had not come."""

    now: Millis = 0
    floors: Mapping[Millis, Millis] = {}
    """Of what is kept today, not then."""

    def begin(self, feed: Feed, floors: Mapping[Millis, Millis]) -> None:
        super().begin(feed, self.floors)

    def cohorts(self, model: str, span: Span) -> list[BucketLabels]:
        return [as_of(cohort, self.now) for cohort in super().cohorts(model, span)]


def as_of(cohort: BucketLabels, now: Millis) -> BucketLabels:
    """The labels that a cohort had: those whose delay is surely less than its age."""
    age = now - (cohort.start + cohort.end) // 2
    came = int(np.searchsorted(_EDGES, age, side="right"))
    delay = cohort.delay.copy()
    delay[came:] = 0
    later = int(cohort.delay.sum()) - int(delay.sum())
    return cohort._replace(labelled=max(cohort.labelled - later, 0), delay=delay)


class Replay:
    """One run of a book of rules over a time of a store's history. The store is only read."""

    def __init__(self, pipe: Pipeline, book: RuleBook, window: Window, receivers: Receivers | None = None):
        self._real = pipe
        self.window = window
        self.notes: list[str] = []
        self._feed = load_feed(pipe.store.state)
        self._floors = _kept(pipe)
        self._stage = Stage(pipe.store, pipe.store, pipe.store.state)
        self._book = self._usable(book)
        # All that judging asks of a store is on the stage; what else a Store can do shows there as a fault.
        store = cast(Store, self._stage)
        self._pipe = Pipeline(
            store, pipe.settings, lambda: self._book, receivers or pipe.receivers, "rehearsal", True
        )
        self._reader = AsOf(store, lambda asks: recount(pipe.store, pipe.settings, asks), keep=True)
        self._reader.floors = self._floors
        self._pipe.reader = self._reader
        self.steps = 0
        self._teller = Teller(self._pipe, self._stage)
        self._sent: list[Sent] = []

    def run(self) -> Iterator[float]:
        """Judge everything; yields the share that is done. Then ask for `found`."""
        start, end = self.window
        self._begin()
        now = start
        while True:
            self._judge(now)
            yield (now - start) / max(end - start, 1)
            if now >= end:
                return
            now = min(floor(now, CHUNK) + CHUNK, end)

    def _begin(self) -> None:
        """Every rule begins at its first step in the time, or at the first that its model has."""
        first: dict[str, dict[str, Reached]] = {}
        for model, known in self._feed.models.items():
            steps = first.setdefault(model, {})
            for rule in self._book.of_model(model):
                if rule.window >= known.base:
                    width = rule.step(known.base)
                    steps[rule.name] = Reached(self._first_step(known, width) - width, self._feed.mark)
        advance(self._stage.state, first)

    def _first_step(self, known: ModelFeed, width: Millis) -> Millis:
        """Steps are of what is before them: the first is after the start."""
        return max(floor(self.window.start, width) + width, ceil(known.first + 1, width))

    def _judge(self, now: Millis) -> None:
        self._set_feed(now)
        held: tuple[str, ...] = ()
        while True:
            counts = evaluate_due(self._pipe, self._book, now)
            self.steps += counts.steps
            held = counts.held
            if not counts.left:
                break
        for reason in held:
            if reason not in self.notes:
                self.notes.append(reason)
        self._sent += self._teller.told(now)

    def _set_feed(self, now: Millis) -> None:
        """The feed as it would have been at `now` if all had come in time."""
        models = {
            name: replace(known, last=min(known.last, floor(now, known.base) - known.base))
            for name, known in self._feed.models.items()
            if known.first + known.base <= now and self._book.of_model(name)
        }
        self._reader.now = now
        most = max((self._pipe.settings.of_model(name).lag for name in models), default=0)
        feed = Feed({}, now + most, self._feed.epoch, self._feed.mark, models)
        stored = self._stage.state.get(FEED)
        self._stage.state.swap(FEED, feed.encode(), stored.token if stored else None)

    # --- what can be judged ---------------------------------------------------------------------------------

    def _usable(self, book: RuleBook) -> RuleBook:
        """The rules whose past is summarised; the others are told of."""
        kept: list[Rule] = []
        for rule in book.rules:
            of_models = [(n, m) for n, m in sorted(self._feed.models.items()) if rule.model in ("*", n)]
            if not of_models:
                self.notes.append(f'{rule.place}: rule "{rule.name}": no model {rule.model} has logged')
                continue
            reasons = [reason for name, known in of_models if (reason := self._lacking(rule, name, known))]
            self.notes += reasons
            if len(reasons) < len(of_models):
                kept.append(rule)
        return RuleBook(tuple(kept))

    def _lacking(self, rule: Rule, model: str, known: ModelFeed) -> str:
        where = f'{rule.place}: rule "{rule.name}" on {model}'
        *groupings, _ = known.computed.split(SEPARATOR)
        wanted = "+".join(rule.grouping)
        if wanted not in groupings:
            by = " and ".join(rule.grouping)
            return (
                f"{where}: the past is not summarised by {by} (save the rule, then kedge summarise {model})"
            )
        if rule.window < known.base:
            return ""  # the judging itself says so
        step = rule.step(known.base)
        tier = MINUTE if step % HOUR else HOUR if step % DAY else DAY
        kept_from = max((self._floors.get(t, 0) for t in (tier,) if t >= known.base), default=0)
        if kept_from > self.window.start:
            return (
                f"{where}: is judged every {format_duration(step)}, and as fine summaries are kept from "
                f"{iso(kept_from)}"
            )
        return ""

    # --- what was found -------------------------------------------------------------------------------------

    def found(self) -> Replayed:
        events = [msgspec.convert(s.value, Transition) for s in self._stage.events.find().values()]
        models = [name for name in self._feed.models if self._book.of_model(name)]
        judged: dict[tuple[str, str], Window] = {}
        for model, steps in judged_through(self._stage.state, models).items():
            known = self._feed.models[model]
            for name, (through, _) in steps.items():
                rule = self._book.by_name.get(name)
                if rule is None:
                    continue
                step = rule.step(known.base)
                start = self._first_step(known, step)
                judged[name, model] = Window(min(start, through + step) - step, through)
                if through + step <= min(self.window.end, known.last + known.base):
                    self.notes.append(
                        f'{rule.place}: rule "{name}" on {model} was judged to {iso(through)}: the rest is '
                        f"not summarised (kedge tick --drain, kedge summarise {model}), or waits for labels"
                    )
        return Replayed(
            self.window,
            tuple(sorted(events, key=lambda t: (t.step, t.rule, t.alert, t.decided))),
            tuple(self._sent),
            judged,
            self.steps,
            tuple(dict.fromkeys(self.notes)),
        )


def check_window(pipe: Pipeline, window: Window) -> None:
    """Raises BadInput for a time that ends before it begins, or has nothing of any model."""
    if window.length <= 0:
        raise BadInput(f"the time ends ({iso(window.end)}) before it begins ({iso(window.start)})")
    models = load_feed(pipe.store.state).models.values()
    if not models:
        raise BadInput(
            "no model has been summarised: there is no history to go by (kedge import, kedge tick)"
        )
    first, last = min(m.first for m in models), max(m.last + m.base for m in models)
    if window.end <= first or window.start >= last:
        raise BadInput(f"nothing was logged then: what is summarised is from {iso(first)} to {iso(last)}")


def _kept(pipe: Pipeline) -> dict[Millis, Millis]:
    """By tier: from where on its summaries are kept today."""
    stored = read_floors(pipe.store.state).tiers
    by_age = tier_floors(pipe.settings, pipe.wall())
    return {tier: max(stored.get(tier, 0), by_age.get(tier, 0)) for tier in (MINUTE, HOUR, DAY)}
