"""History, played through the judging as it would have been: the steps in order, labels as they came in."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from kedge.alerting.finding import Transition
from kedge.alerting.loading import RuleBook
from kedge.alerting.rule import Rule
from kedge.errors import BadInput
from kedge.notify.receivers import Receivers
from kedge.pipeline.context import Pipeline
from kedge.pipeline.dirty import ModelFeed
from kedge.pipeline.feed import load_feed
from kedge.pipeline.progress import advance
from kedge.pipeline.reader import Ask
from kedge.pipeline.recount import recount
from kedge.pipeline.retention import read_floors
from kedge.pipeline.summarise import computed_in
from kedge.pipeline.tiers import tier_floors
from kedge.rehearsal.judging import Chunk, Judging, Task, first_step
from kedge.rehearsal.shares import WORTH, Shares, steps_of
from kedge.rehearsal.stage import Stage
from kedge.rehearsal.telling import Sent, Teller
from kedge.store.base import PartRow
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, format_duration, iso


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


class Replay:
    """One run of a book of rules over a time of a store's history. The store is only read."""

    def __init__(
        self,
        pipe: Pipeline,
        book: RuleBook,
        window: Window,
        receivers: Receivers | None = None,
        *,
        processes: int | None = None,
    ) -> None:
        """`processes`: how many judge; by default as many as there are processors, where there is enough to
        do for that. What is found is the same."""
        self._real = pipe
        self.window = window
        self.notes: list[str] = []
        self._feed = load_feed(pipe.store.state)
        self._floors = _kept(pipe)
        self._stage = Stage(pipe.store, pipe.store, pipe.store.state)
        self._book = self._usable(book)
        self._task = Task(pipe.settings, self._book, self._feed, self._floors, window)
        self._judging = Judging(self._task, self._stage, self._count, receivers or pipe.current_receivers())
        self._processes = processes
        self.steps = 0
        self._teller = Teller(self._judging.pipe, self._stage)
        self._sent: list[Sent] = []

    def _count(self, asks: Sequence[Ask]) -> list[list[PartRow]]:
        return recount(self._real.store, self._real.settings, asks)

    def run(self) -> Iterator[float]:
        """Judge everything; yields the share that is done. Then ask for `found`."""
        start, end = self.window
        self._judging.begin()
        for now, chunk in zip(self._task.chunks, self._chunks(), strict=True):
            self._take(chunk, now)
            yield (now - start) / max(end - start, 1)

    def _chunks(self) -> Iterator[Chunk]:
        processes = self._processes
        if processes is None:
            processes = (os.cpu_count() or 1) if steps_of(self._task) >= WORTH else 1
        if processes < 2 or len(self._book.rules) < 2:
            yield from map(self._judging.judge, self._task.chunks)
            return
        shares = Shares(self._task, self._real.store, self._count, processes)
        yield from shares.run()
        advance(self._stage.state, shares.progress)

    def _take(self, chunk: Chunk, now: Millis) -> None:
        self.steps += chunk.steps
        self.notes += [reason for reason in sorted(chunk.held) if reason not in self.notes]
        for transition in chunk.transitions:
            self._stage.events.swap(transition["id"], transition, None)
        self._sent += self._teller.told(now)

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
                kept.append(rule.uncorrected())  # all that came is there from the start
        return RuleBook(tuple(kept))

    def _lacking(self, rule: Rule, model: str, known: ModelFeed) -> str:
        where = f'{rule.place}: rule "{rule.name}" on {model}'
        if rule.grouping not in computed_in(known.computed).groupings:
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
        judged: dict[tuple[str, str], Window] = {}
        for model, steps in self._judging.reached().items():
            known = self._feed.models[model]
            for name, (through, _) in steps.items():
                rule = self._book.by_name.get(name)
                if rule is None:
                    continue
                step = rule.step(known.base)
                start = first_step(self.window, known, step)
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
