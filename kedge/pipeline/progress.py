"""How far each rule has been judged on each model.

The alerts cannot tell: a group has none before it appears, and one that a rule no longer yields stays where
it was. A rule's progress is stored before its first alert, and moved on after its last: a worker that dies
between two alerts judges the same steps again, which are no-ops for the alerts that have seen them.
"""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from kedge.store.base import DocumentStore, Json, Stored
from kedge.windows import Millis


class Reached(NamedTuple):
    """Of one rule on one model."""

    through: Millis
    """The newest step up to which all its alerts were judged."""
    mark: int = 0
    """The feed's mark (dirty.py) that they stand by: what changed in judged windows after it is due to be
    judged again."""


Steps = Mapping[str, Reached]
"""By rule."""


def judged_through(state: DocumentStore, models: Collection[str]) -> dict[str, Steps]:
    """Of each of the models that has any."""
    found = state.get_many([_name(model) for model in models])
    return {model: _steps(stored) for model in models if (stored := found.get(_name(model)))}


def advance(
    state: DocumentStore, steps: Mapping[str, Steps], read: Mapping[str, Steps] | None = None
) -> dict[str, Steps]:
    """Move rules on, never back; returns how far all of them are on each of the models.

    `read`: how far they were when the work began. A mark is not moved past one that another worker has stored
    since: its steps may have been judged by an older feed.
    """

    def moved(model: str, before: dict[str, Reached]) -> dict[str, Reached]:
        return before | {
            rule: _joined(before.get(rule), (read or {}).get(model, {}).get(rule), to)
            for rule, to in steps[model].items()
        }

    return _change(state, [model for model, those in steps.items() if those], moved)


def forget(state: DocumentStore, rules: Mapping[str, Collection[str]]) -> None:
    """Rules that are gone, by model."""

    def without(model: str, before: dict[str, Reached]) -> dict[str, Reached]:
        return {rule: reached for rule, reached in before.items() if rule not in rules[model]}

    _change(state, list(rules), without)


def _joined(stored: Reached | None, read: Reached | None, to: Reached) -> Reached:
    if stored is None:
        return to
    mark = to.mark if read is not None and stored.mark == read.mark else min(stored.mark, to.mark)
    return Reached(max(stored.through, to.through), mark)


def _change(
    state: DocumentStore,
    models: Collection[str],
    change: Callable[[str, dict[str, Reached]], dict[str, Reached]],
) -> dict[str, Steps]:
    done: dict[str, Steps] = {}
    left = list(models)
    while left:
        found = state.get_many([_name(model) for model in left])
        before = {model: _steps(found.get(_name(model))) for model in left}
        after = {model: change(model, before[model]) for model in left}
        moved = [model for model in left if after[model] != before[model]]
        tokens = {model: found[_name(model)].token if _name(model) in found else None for model in moved}
        swaps = [(_name(model), _encoded(after[model]), tokens[model]) for model in moved]
        swapped = state.swap_many(swaps) if swaps else []
        beaten = {model for model, ok in zip(moved, swapped, strict=True) if not ok}
        done |= {model: after[model] for model in left if model not in beaten}
        left = [model for model in left if model in beaten]
    return done


def _name(model: str) -> str:
    return f"judged:{model}"


def _encoded(steps: Steps) -> Json:
    return {rule: list(reached) for rule, reached in steps.items()}


def _steps(stored: Stored | None) -> dict[str, Reached]:
    """As an earlier kedge wrote it, a rule has a step alone."""
    held = stored.value if stored else {}
    return {rule: Reached(*said) if isinstance(said, list) else Reached(said) for rule, said in held.items()}
