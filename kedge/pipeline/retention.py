"""Retention by the worker: raise the floors, then drop what lies before them.

The floors rise in `kedge-state` first, by compare-and-set, so that nobody takes rows for, or makes anew, what
is dropped right after. Killed in between, the next tick drops it; done twice, the second finds nothing.
Where the server drops by itself (ILM, ISM), only the floors rise.
"""

from typing import NamedTuple

from kedge.pipeline.context import Pipeline
from kedge.store.base import DocumentStore, Json
from kedge.store.retention import DOCUMENT, Floors, Retention
from kedge.store.retention import sealed_before as sealed_before
from kedge.windows import HOUR, Millis

SWEEP = HOUR
"""How often it is looked for what may have come back: an index made by a writer that had read the floor just
before it rose."""


class Retired(NamedTuple):
    """What `retire` found and did."""

    floors: Floors
    retention: Retention
    """The settings', or the server's where its policy drops earlier."""
    dropped: tuple[str, ...] = ()

    def sealed_before(self, now: Millis) -> Millis:
        """Buckets that begin before this are counted no more."""
        return sealed_before(self.floors, self.retention, now)


def read_floors(state: DocumentStore) -> Floors:
    """The retention floors as they stand."""
    stored = state.get(DOCUMENT)
    return Floors.of(stored.value["floors"]) if stored else Floors()


def retire(pipe: Pipeline, now: Millis) -> Retired:
    """Raise the floors to where they belong at `now`, and drop what is past them. Once a tick: one request
    where there is nothing to do."""
    while True:
        stored = pipe.store.state.get(DOCUMENT)
        document: Json = stored.value if stored else {}
        held = Floors.of(document.get("floors", {}))
        retention = pipe.settings.kept.at_most(document.get("managed", {}))
        floors = held.raised(retention.floors(now))
        if not any(floors):
            return Retired(floors, retention)
        if floors == held:
            break
        if pipe.store.state.swap(
            DOCUMENT, document | {"floors": floors._asdict()}, stored.token if stored else None
        ):
            break
    if document.get("done") == floors._asdict() and abs(now - document.get("swept", 0)) < SWEEP:
        return Retired(floors, retention)
    swept = pipe.store.retire(floors)
    while stored := pipe.store.state.get(DOCUMENT):
        done = {"done": floors._asdict(), "swept": now, "managed": dict(swept.managed)}
        if pipe.store.state.swap(DOCUMENT, stored.value | done, stored.token):
            break
    return Retired(floors, retention.at_most(swept.managed), swept.dropped)
