"""The judging of a rehearsal over stored history: the steps in order, labels as they came in."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import numpy as np

from kedge.alerting.loading import RuleBook
from kedge.analysis.maturity import BucketLabels
from kedge.config import Settings
from kedge.notify.receivers import Receivers
from kedge.pipeline.context import Pipeline
from kedge.pipeline.dirty import Feed, ModelFeed
from kedge.pipeline.evaluate import evaluate_due
from kedge.pipeline.feed import FEED
from kedge.pipeline.progress import Reached, Steps, advance, judged_through
from kedge.pipeline.reader import Ask, SummaryReader
from kedge.rehearsal.stage import Stage
from kedge.sketch import DELAY
from kedge.store.base import Json, PartRow, Store
from kedge.windows import DAY, Millis, Span, Window, ceil, floor

CHUNK = DAY
"""How much is judged at once. Each step is judged as it is in any order of ticks, so this changes nothing of
what is found: only how often progress is told, and to how much it is known when labels had come."""
READ = 8 * DAY
"""How much is read at once."""
_EDGES = DELAY.edges.astype(np.float64)


class AsOf(SummaryReader):
    """Reads what is stored now as it was then: labels that came later had not come."""

    now: Millis = 0
    floors: Mapping[Millis, Millis] = {}
    """Of what is kept today, not then."""
    through: Millis = 0
    """Up to when there will be something to read."""

    def begin(self, feed: Feed, floors: Mapping[Millis, Millis]) -> None:
        super().begin(feed, self.floors)

    def load(self, asks: Iterable[Ask]) -> None:
        """Some days at once, as far as they will be asked for: a read costs more than what it reads."""
        super().load(ask._replace(window=self._further(ask.window, ask.tier)) for ask in asks)

    def _further(self, window: Window, tier: Millis) -> Window:
        end = min(ceil(window.end, READ), floor(self.through, tier))
        return Window(window.start, max(window.end, end))

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


@dataclass(frozen=True)
class Task:
    """What is to be judged."""

    settings: Settings
    rules: RuleBook
    feed: Feed
    floors: Mapping[Millis, Millis]
    """By tier: from where on its summaries are kept today."""
    window: Window

    @property
    def chunks(self) -> list[Millis]:
        """The ends of what is judged at once, in order; the first is the start itself."""
        start, end = self.window
        ends = [start]
        while ends[-1] < end:
            ends.append(min(floor(ends[-1], CHUNK) + CHUNK, end))
        return ends


class Chunk(NamedTuple):
    """What judging up to a time came to."""

    steps: int
    held: tuple[str, ...]
    """Rules that cannot be judged, and why."""
    transitions: list[Json]
    """As they are stored."""


class Judging:
    """One task on one stage."""

    def __init__(
        self,
        task: Task,
        stage: Stage,
        count: Callable[[Sequence[Ask]], list[list[PartRow]]],
        receivers: Receivers,
    ) -> None:
        self._task, self._stage = task, stage
        # All that judging asks of a store is on the stage; what else a Store can do shows there as a fault.
        store = cast(Store, stage)
        self.pipe = Pipeline(store, task.settings, lambda: task.rules, receivers, "rehearsal", True)
        self._reader = AsOf(store, count, keep=True)
        self._reader.floors, self._reader.through = task.floors, task.window.end
        self.pipe.reader = self._reader

    def begin(self) -> None:
        """Every rule begins at its first step in the time, or at the first that its model has."""
        feed, book = self._task.feed, self._task.rules
        first: dict[str, dict[str, Reached]] = {}
        for model, known in feed.models.items():
            steps = first.setdefault(model, {})
            for rule in book.of_model(model):
                if rule.window >= known.base:
                    width = rule.step(known.base)
                    steps[rule.name] = Reached(first_step(self._task.window, known, width) - width, feed.mark)
        advance(self._stage.state, first)

    def judge(self, now: Millis) -> Chunk:
        """Everything that is due at `now`."""
        self._set_feed(now)
        steps = 0
        while True:
            counts = evaluate_due(self.pipe, self._task.rules, now)
            steps += counts.steps
            if not counts.left:
                return Chunk(steps, counts.held, self._taken())

    def reached(self) -> dict[str, Steps]:
        """How far each rule was judged, by model."""
        models = [name for name in self._task.feed.models if self._task.rules.of_model(name)]
        return judged_through(self._stage.state, models)

    def _taken(self) -> list[Json]:
        """What alerts have to tell, taken out of them."""
        taken: list[Json] = []
        alerts = self._stage.alerts
        for name, stored in alerts.outgoing().items():
            taken += stored.value["outgoing"]
            alerts.swap(name, {**stored.value, "outgoing": []}, stored.token)
        return taken

    def _set_feed(self, now: Millis) -> None:
        """The feed as it would have been at `now` if all had come in time."""
        feed, settings = self._task.feed, self._task.settings
        models = {
            name: replace(known, last=min(known.last, floor(now, known.base) - known.base))
            for name, known in feed.models.items()
            if known.first + known.base <= now and self._task.rules.of_model(name)
        }
        self._reader.now = now
        most = max((settings.of_model(name).lag for name in models), default=0)
        stored = self._stage.state.get(FEED)
        self._stage.state.swap(
            FEED,
            Feed({}, now + most, feed.epoch, feed.mark, models).encode(),
            stored.token if stored else None,
        )


def first_step(window: Window, known: ModelFeed, width: Millis) -> Millis:
    """Steps are of what is before them: the first is after the start."""
    return max(floor(window.start, width) + width, ceil(known.first + 1, width))
