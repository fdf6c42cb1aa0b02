"""Which values of a field are new: asked of the logs, once a step, and only where summaries do not say no."""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from kedge.alerting.inputs import Appeared, NewValue
from kedge.alerting.new_value import CLASS, HISTORY, NewValueRule
from kedge.pipeline.baselines import Baseline
from kedge.sketch import CategoricalEdges, Summary
from kedge.sketch.edges import KNOWN_VALUES
from kedge.store.base import OTHER, Group, LogStore
from kedge.store.values import MOST_VALUES, ValueQuery
from kedge.windows import DAY, Millis, Window, floor, format_duration

_FIELDS = 1_000


@dataclass
class ValueMemory:
    """Where values were seen, so that the long history of a field is not asked for them at every step."""

    _seen: OrderedDict[tuple[str, str], dict[str, Window]] = field(default_factory=OrderedDict)
    """By model and field: for each value a time within which it had rows."""

    def known(self, model: str, name: str, history: Window) -> set[str]:
        """Values that had rows in this history."""
        held = self._seen.get((model, name), {})
        return {v for v, seen in held.items() if history.start <= seen.start and seen.end <= history.end}

    def saw(self, model: str, name: str, values: Collection[str], within: Window) -> None:
        held = self._seen.setdefault((model, name), {})
        self._seen.move_to_end((model, name))
        if len(self._seen) > _FIELDS:
            self._seen.popitem(last=False)
        if len(held) > 10 * MOST_VALUES:
            held.clear()
        held |= dict.fromkeys(values, within)


@dataclass(frozen=True)
class Novelty:
    """Tells a rule's new values from the logs."""

    logs: LogStore
    memory: ValueMemory

    def appeared(
        self,
        rule: NewValueRule,
        model: str,
        window: Window,
        group: Group,
        summary: Summary,
        baseline: Baseline | None,
        first: Millis,
    ) -> Appeared:
        """What is new in the rows of a group; `first` is since when the model has rows."""
        if any(value == OTHER for _, value in group):
            return Appeared((), "", reason="these are rows of many groups, which nobody can ask for")
        if rule.history is None and baseline is not None:
            known = _known_to(baseline, rule)
            if known is not None:
                if not _may_have_new(rule, summary, known):
                    return Appeared((), baseline.title)
                return self._counted(rule, model, window, group, known, baseline.title)
        return self._against_history(rule, model, window, group, first)

    def _counted(
        self,
        rule: NewValueRule,
        model: str,
        window: Window,
        group: Group,
        known: Collection[str],
        known_by: str,
        among: Collection[str] | None = None,
    ) -> Appeared:
        query = ValueQuery(model, window, rule.field, group, without=known, among=among, examples=True)
        found = tuple(NewValue(v.value, v.rows, v.examples) for v in self.logs.values(query))
        return Appeared(found, known_by, more=len(found) >= MOST_VALUES)

    def _against_history(
        self, rule: NewValueRule, model: str, window: Window, group: Group, first: Millis
    ) -> Appeared:
        length = rule.history or HISTORY
        known_by = f"the {format_duration(length)} before"
        history = Window(floor(max(window.start - length, 0), DAY), window.start)
        if first > window.start - window.length:
            return Appeared((), known_by, reason="there are no rows from before, to know values from")
        held = [v.value for v in self.logs.values(ValueQuery(model, window, rule.field, group))]
        if len(held) >= MOST_VALUES:
            many = f"it has over {MOST_VALUES:,} values in one window: new ones say nothing"
            return Appeared((), known_by, reason=many)
        unknown = sorted(set(held) - self.memory.known(model, rule.field, history))
        if unknown:
            earlier = ValueQuery(model, history, rule.field, among=unknown)
            seen = {v.value for v in self.logs.values(earlier)}
            self.memory.saw(model, rule.field, seen, history)
            unknown = [value for value in unknown if value not in seen]
        if not unknown:
            return Appeared((), known_by)
        return self._counted(rule, model, window, group, (), known_by, among=unknown)


def _known_to(baseline: Baseline, rule: NewValueRule) -> Collection[str] | None:
    """The values that a baseline has seen; None where it does not know them, or not all of them."""
    if rule.field == CLASS:
        total = baseline.summaries.get(())
        return total.core.classes if total is not None and total.core is not None else None
    edges = baseline.edges.features.get(rule.feature or "")
    if not isinstance(edges, CategoricalEdges):
        return None
    known = (*edges.values, *edges.others)
    return known if len(known) < KNOWN_VALUES else None


def _may_have_new(rule: NewValueRule, summary: Summary, known: Collection[str]) -> bool:
    """What the summary of the window says, before the logs are asked."""
    if rule.field == CLASS:
        classes: Mapping[str, int] = summary.core.classes if summary.core is not None else {}
        return not classes.keys() <= set(known)
    counted = summary.cells.features.get(rule.feature or "") if summary.cells is not None else None
    return counted is None or bool(counted[1][-2])
