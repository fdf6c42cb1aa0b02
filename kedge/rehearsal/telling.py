"""Who would be told of what: the one place where a rehearsal meets routing and delivery."""

from dataclasses import dataclass

import msgspec

from kedge.alerting.finding import Transition
from kedge.notify.base import Message
from kedge.notify.message import compose
from kedge.pipeline.context import Pipeline
from kedge.pipeline.deliver import project
from kedge.rehearsal.stage import Stage
from kedge.windows import Millis

_SEEN = "rehearsed"
"""Marks a row of the outbox that was looked at: nothing is ever sent."""


@dataclass(frozen=True)
class Sent:
    """A message on its way to a receiver."""

    at: Millis
    """When it was queued."""
    to: str
    transition: Transition
    message: Message


def told(pipe: Pipeline, stage: Stage, now: Millis) -> list[Sent]:
    """What the pipeline's own routing makes of the transitions decided since it was asked last, at `now`; in
    order of the steps. What it has queued is taken as sent."""
    project(pipe.store, pipe.receivers, now)
    found = []
    for name, row in stage.outbox.find().items():
        if row.value.get(_SEEN):
            continue
        stage.outbox.swap(name, {**row.value, _SEEN: True}, row.token)
        transition = msgspec.convert(row.value["transition"], Transition)
        message = compose(transition, links=pipe.receivers.links)
        found.append(Sent(now, row.value["receiver"], transition, message))
    return sorted(found, key=lambda sent: (sent.transition.step, sent.to, sent.transition.rule))
