"""How far each rule has been judged on a model.

The alerts cannot tell: a group has none before it appears, and one that a rule no longer yields stays where
it was. A rule's progress is stored before its first alert, and moved on after its last: a worker that dies
between two alerts judges the same steps again, which are no-ops for the alerts that have seen them.
"""

from collections.abc import Mapping

from kedge.store.base import DocumentStore
from kedge.windows import Millis


def judged_through(state: DocumentStore, model: str) -> dict[str, Millis]:
    """By rule: the newest step up to which all its alerts on the model were judged."""
    stored = state.get(f"judged:{model}")
    return dict(stored.value) if stored else {}


def advance(state: DocumentStore, model: str, steps: Mapping[str, Millis]) -> dict[str, Millis]:
    """Move rules on, never back; returns how far all of them are."""
    while True:
        stored = state.get(f"judged:{model}")
        before: dict[str, Millis] = dict(stored.value) if stored else {}
        after = before | {rule: max(step, before.get(rule, step)) for rule, step in steps.items()}
        if after == before or state.swap(f"judged:{model}", after, stored.token if stored else None):
            return after
