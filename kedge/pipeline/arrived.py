"""What gateways counted of rows as they arrived and no stored row tells of: ids sent again, clocks ahead.

Each run of a gateway has documents of its own in `kedge-state`, one a model and UTC day of event time, and
writes what it counted there as a whole, never as an increment. So a write may be repeated, and gateways side
by side add up; a gateway that is killed loses what it had not written yet (see `ingest.ledger`).
"""

import hashlib
from collections.abc import Mapping

from kedge.analysis.arrived import Arrived
from kedge.store.base import DocumentStore, Json
from kedge.windows import Millis, Window

PREFIX = "arrivals:"
Minutes = Mapping[Millis, tuple[int, int]]
"""By start of a minute of event time: rows whose id was there already, and stored rows ahead of the clock."""


def document_name(model: str, day: Millis, writer: str) -> str:
    return f"{_of_model(model)}{day}:{writer}"


def document(model: str, minutes: Mapping[Millis, list[int]], at: Millis) -> Json:
    """`at`: when it was written."""
    return {"model": model, "at": at, "minutes": {str(minute): list(n) for minute, n in minutes.items()}}


def arrivals_of(state: DocumentStore, model: str) -> dict[Millis, tuple[int, int]]:
    """All that is kept of a model (Minutes)."""
    found: dict[Millis, tuple[int, int]] = {}
    for stored in state.find(_of_model(model)).values():
        for minute, (duplicate, ahead) in stored.value["minutes"].items():
            before = found.get(int(minute), (0, 0))
            found[int(minute)] = (before[0] + duplicate, before[1] + ahead)
    return found


def arrived_in(minutes: Minutes, window: Window) -> Arrived:
    held = [n for minute, n in minutes.items() if minute in window]
    return Arrived(sum(duplicate for duplicate, _ in held), sum(ahead for _, ahead in held))


def _of_model(model: str) -> str:
    """Names of models are of any length and hold any character."""
    return f"{PREFIX}{hashlib.sha256(model.encode()).hexdigest()[:24]}:"
