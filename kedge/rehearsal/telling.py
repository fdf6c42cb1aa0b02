"""Who would be told of what: the one place where a rehearsal meets routing and delivery."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from kedge.alerting.dispatch import Dispatcher
from kedge.alerting.finding import Status, Transition
from kedge.alerting.grouping import Notification
from kedge.alerting.silences import Silence
from kedge.notify.base import Message
from kedge.notify.group_message import compose_group
from kedge.notify.message import compose
from kedge.pipeline.context import Pipeline
from kedge.pipeline.deliver import project
from kedge.rehearsal.stage import Stage
from kedge.windows import Millis


@dataclass(frozen=True)
class Sent:
    """A message on its way to a receiver."""

    at: Millis
    """When it was queued: the step that decided it, or where a timer of its group ran out."""
    to: str
    transitions: tuple[Transition, ...]
    """What it tells, worst first: one, or those of a group."""
    message: Message

    @property
    def rules(self) -> frozenset[str]:
        return frozenset(transition.rule for transition in self.transitions)


@dataclass
class Teller:
    """Makes messages of what is decided, as the pipeline does it, with the steps as its clock."""

    pipe: Pipeline
    stage: Stage
    silences: tuple[Silence, ...] = ()
    _dispatcher: Dispatcher | None = field(init=False)
    _seen: set[str] = field(default_factory=set)
    _heard: Millis = 0
    """Up to when it was asked."""

    def __post_init__(self) -> None:
        receivers = self.pipe.receivers
        routing = receivers.routing
        if routing is None and self.silences:
            routing = receivers.tree
        self._dispatcher = Dispatcher(routing) if routing is not None else None

    def told(self, now: Millis) -> list[Sent]:
        """Of the transitions decided since it was asked last, up to `now`; in order. Where there are routes,
        also what their timers bring until then."""
        project(self.pipe.store, self.pipe.receivers, now)
        fresh = [
            msgspec.convert(stored.value, Transition)
            for id, stored in self.stage.events.find().items()
            if id not in self._seen
        ]
        self._seen |= {transition.id for transition in fresh}
        fresh.sort(key=lambda t: (t.step, t.rule, t.alert, t.decided, t.after is Status.ACKNOWLEDGED))
        if self._dispatcher is None:
            return list(self._straight(fresh))
        return list(self._routed(self._dispatcher, fresh, now))

    def _straight(self, fresh: Iterable[Transition]) -> Iterator[Sent]:
        receivers = self.pipe.receivers
        for transition in fresh:
            for to in receivers.route(transition):
                yield Sent(transition.step, to, (transition,), compose(transition, links=receivers.links))

    def _routed(self, dispatcher: Dispatcher, fresh: list[Transition], now: Millis) -> Iterator[Sent]:
        heard = self._heard
        # Who acknowledges does so between steps: it is of the step before, of which was told already.
        times = {t.id: t.step if heard < t.step <= now else now for t in fresh}
        steps = {*times.values(), now}
        steps |= {silence.ends for silence in self.silences if self._heard < silence.ends <= now}
        self._heard = now
        for step in sorted(steps):
            # Without routes nothing waits but for the end of a silence.
            while self.pipe.receivers.routing and (due := dispatcher.next) is not None and due < step:
                yield from self._sent(due, dispatcher.step(due, (), self.silences))
            at_once = [t for t in fresh if times[t.id] == step]
            yield from self._sent(step, dispatcher.step(step, at_once, self.silences))

    def _sent(self, at: Millis, told: Iterable[Notification]) -> Iterator[Sent]:
        for one in told:
            message = compose_group(one, links=self.pipe.receivers.links)
            yield Sent(at, one.receiver, (*one.firing, *one.resolved), message)
