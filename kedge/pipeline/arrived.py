"""What gateways counted of rows as they arrived and no stored row tells of: ids sent again, clocks ahead.

Each run of a gateway has documents of its own in `kedge-state`, one a model and UTC day of event time, and
writes what it counted there as a whole, never as an increment. So a write may be repeated, and gateways side
by side add up; a gateway that is killed loses what it had not written yet (see `ingest.ledger`).
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence

from kedge.analysis.arrived import Arrived
from kedge.store.base import DocumentStore, Json
from kedge.store.flaws import Problem
from kedge.windows import MINUTE, Millis, Window, floor

PREFIX = "arrivals:"
SPAN = 5 * MINUTE
"""Of event time, of which some ids are kept, so that there are some of most windows."""
Minutes = Mapping[Millis, tuple[int, int]]
"""By start of a minute of event time: rows whose id was there already, and stored rows ahead of the clock."""


def document_name(model: str, day: Millis, writer: str) -> str:
    return f"{_of_model(model)}{day}:{writer}"


def document(
    model: str,
    minutes: Mapping[Millis, Sequence[int]],
    examples: Mapping[Millis, Sequence[Collection[str]]],
    at: Millis,
) -> Json:
    """`examples`: by start of a SPAN, event ids of some rows of each kind, in the order of Minutes. `at`:
    when it was written."""
    return {
        "model": model,
        "at": at,
        "minutes": {str(minute): list(n) for minute, n in minutes.items()},
        "examples": {str(start): [list(ids) for ids in kinds] for start, kinds in examples.items()},
    }


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


def ids_in(state: DocumentStore, model: str, window: Window, problem: Problem) -> list[str]:
    """Event ids that gateways kept of the spans that reach into a window; their rows may lie beside it."""
    kind = (Problem.DUPLICATE, Problem.AHEAD).index(problem)
    kept = (stored.value.get("examples", {}) for stored in state.find(_of_model(model)).values())
    within = Window(floor(window.start, SPAN), window.end)
    named = (kinds[kind] for spans in kept for start, kinds in spans.items() if int(start) in within)
    return sorted({id for ids in named for id in ids})


def _of_model(model: str) -> str:
    """Names of models are of any length and hold any character."""
    return f"{PREFIX}{hashlib.sha256(model.encode()).hexdigest()[:24]}:"
