"""Labels that waited too long for their prediction: counted once, kept as rejected rows, then given up.

Three steps, and a worker may be killed between any two of them. So what a batch is made of is written with
its counts, by one compare-and-set; whoever comes next goes on with that batch, and counts none of it again.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from kedge.records import Label
from kedge.store.base import OTHER, DocumentStore, Json, RejectedRow
from kedge.windows import Millis, format_duration, iso

DOCUMENT = "labels"
"""The state document: {"expired": {model: {"count", "last"}}, "batch": {"keys": {key: ingested}, "at",
"reason"}}; the model is "" where the label names none."""
MOST_MODELS = 1_000
"""Names counted apart: what a label names is what a client wrote. The rest is OTHER."""


class Held(NamedTuple):
    """A pending label. The key is its store's, the same for the same label sent again."""

    key: str
    label: Label


class Waiting(Protocol):
    """The pending labels of a store."""

    def held(self, batch: Mapping[str, Millis]) -> list[Held]:
        """Those that wait now, of these keys and times of arrival: the same label sent anew is another."""
        ...

    def forget(self, batch: Collection[Held]) -> None:
        """Delete them; no other, and none that was sent anew."""
        ...


class Rejecting(Protocol):
    def __call__(self, rows: Sequence[RejectedRow]) -> None: ...


class Expired(NamedTuple):
    """The labels of one model that were given up since the beginning."""

    model: str
    """Empty: those that named none."""
    labels: int
    last: Millis
    """When the newest were given up."""


def expired_labels(state: DocumentStore) -> list[Expired]:
    """The counts by model, in the order of their names."""
    stored = state.get(DOCUMENT)
    counts: Json = stored.value.get("expired", {}) if stored else {}
    return [Expired(model, said["count"], said["last"]) for model, said in sorted(counts.items())]


class Expiry:
    """Gives up labels of one store."""

    def __init__(self, state: DocumentStore, waiting: Waiting, reject: Rejecting) -> None:
        self._state = state
        self._waiting = waiting
        self._reject = reject

    def resume(self) -> None:
        """Go on where a worker was killed."""
        while (stored := self._state.get(DOCUMENT)) and stored.value.get("batch"):
            self._settle(stored.value, stored.token)

    def give_up(self, labels: Collection[Held], now: Millis, expiry: Millis) -> int:
        """Count these, keep them as rejected rows, and delete them; how many were counted here.

        One that another worker has counted, or joined, is not there any more: what waits is looked at
        between the reading of the counts and their compare-and-set.
        """
        keys = {held.key: held.label.ingested for held in labels}
        reason = f"label expired: no prediction of its id came within {format_duration(expiry)}"
        counted = 0
        while True:
            self.resume()
            stored = self._state.get(DOCUMENT)
            value = stored.value if stored else {}
            if value.get("batch"):
                continue
            found = self._waiting.held(keys)
            if not found:
                return counted
            batch = {"keys": {h.key: h.label.ingested for h in found}, "at": now, "reason": reason}
            counts = _added(value.get("expired", {}), found, now)
            changed = value | {"expired": counts, "batch": batch}
            if self._state.swap(DOCUMENT, changed, stored.token if stored else None):
                counted += len(found)

    def _settle(self, value: Json, token: object) -> None:
        batch = value["batch"]
        while found := self._waiting.held(batch["keys"]):
            # With the batch's time, not the clock's: repeated, it is the same rejected row of the same day.
            self._reject([_rejected(held.label, batch["at"], batch["reason"]) for held in found])
            self._waiting.forget(found)
        self._state.swap(DOCUMENT, {name: v for name, v in value.items() if name != "batch"}, token)


def _added(counts: Mapping[str, Json], found: Sequence[Held], now: Millis) -> Json:
    added = dict(counts)
    for held in found:
        model = held.label.model or ""
        if model and model not in added and len(added) >= MOST_MODELS:
            model = OTHER
        before = added.get(model, {"count": 0, "last": now})
        added[model] = {"count": before["count"] + 1, "last": max(before["last"], now)}
    return added


def _rejected(label: Label, at: Millis, reason: str) -> RejectedRow:
    """As it could be sent again."""
    value = label.value if label.value is not None and math.isfinite(label.value) else None
    row: Json = {"id": label.id, "timestamp": iso(label.timestamp)}
    row |= {"class": label.cls, "value": value, "model": label.model}
    row = {name: said for name, said in row.items() if said is not None}
    return RejectedRow.of(at, reason, msgspec.json.encode(row), label.model or "", label.id)
