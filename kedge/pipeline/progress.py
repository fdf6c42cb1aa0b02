"""How far each rule has been judged on each model.

The alerts cannot tell: a group has none before it appears, and one that a rule no longer yields stays where
it was. A rule's progress is stored before its first alert, and moved on after its last: a worker that dies
between two alerts judges the same steps again, which are no-ops for the alerts that have seen them.
"""

from collections.abc import Collection, Mapping

from kedge.store.base import DocumentStore, Stored
from kedge.windows import Millis

Steps = Mapping[str, Millis]
"""By rule: the newest step up to which all its alerts on a model were judged."""


def judged_through(state: DocumentStore, models: Collection[str]) -> dict[str, Steps]:
    """Of each of the models that has any."""
    found = state.get_many([_name(model) for model in models])
    return {model: dict(stored.value) for model in models if (stored := found.get(_name(model)))}


def advance(state: DocumentStore, steps: Mapping[str, Steps]) -> dict[str, Steps]:
    """Move rules on, never back; returns how far all of them are on each of the models."""
    done: dict[str, Steps] = {}
    left = [model for model, moved in steps.items() if moved]
    while left:
        found = state.get_many([_name(model) for model in left])
        before = {model: _steps(found.get(_name(model))) for model in left}
        after = {
            model: before[model]
            | {rule: max(step, before[model].get(rule, step)) for rule, step in steps[model].items()}
            for model in left
        }
        moved = [model for model in left if after[model] != before[model]]
        tokens = {model: found[_name(model)].token if _name(model) in found else None for model in moved}
        swapped = state.swap_many([(_name(m), dict(after[m]), tokens[m]) for m in moved]) if moved else []
        beaten = {model for model, ok in zip(moved, swapped, strict=True) if not ok}
        done |= {model: after[model] for model in left if model not in beaten}
        left = [model for model in left if model in beaten]
    return done


def _name(model: str) -> str:
    return f"judged:{model}"


def _steps(stored: Stored | None) -> dict[str, Millis]:
    return dict(stored.value) if stored else {}
