"""Groups with a cap: the values of a dimension that have groups of their own, and *other* for the rest.

The list of a dimension's values only grows, by compare-and-set, up to the model's `max_groups`. A value is
put on it before the first summary that has it is written; once the list is full, every further value is
counted in OTHER for good. So a group's summaries are the same whoever computes them, and when.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add

from kedge.errors import TooManyGroups
from kedge.sketch import Core, EdgeSet, Moments, NumericEdges
from kedge.store.base import (
    OTHER,
    DocumentStore,
    Group,
    Grouping,
    LogStore,
    PartRow,
    Store,
    Stored,
    SummaryKey,
    SummaryRequest,
    sum_versions,
)
from kedge.windows import Window

Values = Mapping[str, tuple[str, ...]]
"""By dimension: its values with groups of their own, in the order in which they were seen."""


def document_name(model: str) -> str:
    """Of the state document that holds them."""
    return f"groups:{model}"


def values_in(stored: Stored | None) -> dict[str, tuple[str, ...]]:
    return {name: tuple(values) for name, values in stored.value.items()} if stored else {}


def full_dimensions(values: Values, cap: int) -> list[str]:
    """Those whose list is full: their further values are counted as OTHER."""
    return sorted(dimension for dimension, held in values.items() if len(held) >= cap)


def folded_notice(group: Group, cap: int) -> str:
    """What is to be told of a group that stands for many values; empty for any other."""
    folded = [dimension for dimension, value in group if value == OTHER]
    if not folded:
        return ""
    which = " and ".join(folded)
    return f"{OTHER} is every {which} beyond the first {cap:,} (max_groups), judged together"


def summarise_capped(
    logs: LogStore,
    state: DocumentStore,
    requests: Sequence[SummaryRequest],
    caps: Mapping[str, int],
    known: Mapping[str, Values],
) -> list[list[PartRow]]:
    """`LogStore.summarise_many`, its groups folded to at most `caps[model]` values of a dimension and OTHER.

    `known`: by model, the lists as they were read lately; new values are added to what is stored.
    """
    values = {r.model: dict(known.get(r.model, {})) for r in requests}
    while True:
        asked = [replace(r, known=_full(values[r.model], caps[r.model])) for r in requests]
        try:
            answers = logs.summarise_many(asked)
            break
        except TooManyGroups as error:
            grown = False
            for model in {r.model for r in requests if any(error.dimension in g for g in r.groupings)}:
                before = values[model]
                values[model] = register(state, model, {error.dimension: error.values}, caps[model])
                grown |= before != values[model]
            if not grown:
                raise
    folded = []
    for request, rows in zip(requests, answers, strict=True):
        model = request.model
        new = _unknown(rows, values[model])
        if any(len(values[model].get(dimension, ())) < caps[model] for dimension in new):
            values[model] = register(state, model, new, caps[model])
        folded.append(fold(rows, values[model]))
    return folded


class CappedLogs:
    """The logs of a store for one question, their groups capped like those of the summaries."""

    def __init__(self, store: Store, cap: int) -> None:
        self._store = store
        self._cap = cap

    def edges(
        self,
        model: str,
        window: Window,
        numeric: Sequence[str],
        categorical: Sequence[str],
        version: str | None = None,
    ) -> EdgeSet:
        return self._store.edges(model, window, numeric, categorical, version)

    def errors_by_value(
        self, model: str, window: Window, edges: NumericEdges, version: str | None = None
    ) -> list[Moments]:
        return self._store.errors_by_value(model, window, edges, version)

    def summarise(self, request: SummaryRequest) -> list[PartRow]:
        state, model = self._store.state, request.model
        known = {model: values_in(state.get(document_name(model)))}
        return summarise_capped(self._store, state, [request], {model: self._cap}, known)[0]


class VersionLogs:
    """The logs of one version of a model, read as if there were no others."""

    def __init__(self, logs: CappedLogs, version: str) -> None:
        self._logs = logs
        self.version = version

    def edges(
        self, model: str, window: Window, numeric: Sequence[str], categorical: Sequence[str]
    ) -> EdgeSet:
        return self._logs.edges(model, window, numeric, categorical, self.version)

    def errors_by_value(self, model: str, window: Window, edges: NumericEdges) -> list[Moments]:
        return self._logs.errors_by_value(model, window, edges, self.version)

    def summarise(self, request: SummaryRequest) -> list[PartRow]:
        """Each grouping is counted with the version as one more dimension, which is then taken away."""
        apart: dict[Grouping, list[Grouping]] = defaultdict(list)
        for grouping in request.groupings:
            apart[tuple(sorted({*grouping, "version"}))].append(grouping)
        found = []
        for row in self._logs.summarise(replace(request, groupings=tuple(apart))):
            values = dict(row.key.group)
            if values.get("version") != self.version:
                continue
            for grouping in apart[row.key.grouping]:
                group = tuple((name, values[name]) for name in grouping)
                found.append(PartRow(row.key._replace(group=group), row.version, row.part))
        return found


def register(
    state: DocumentStore, model: str, new: Mapping[str, Iterable[str]], cap: int
) -> dict[str, tuple[str, ...]]:
    """Add values to the lists of a model, as far as there is room; the lists as they are then."""
    while True:
        stored = state.get(document_name(model))
        before = values_in(stored)
        after = dict(before)
        for dimension, values in new.items():
            held = dict.fromkeys(after.get(dimension, ()))
            held |= dict.fromkeys(v for v in values if v != OTHER)
            after[dimension] = tuple(held)[: max(cap, len(after.get(dimension, ())))]
        if after == before:
            return after
        document = {dimension: list(values) for dimension, values in after.items()}
        if state.swap(document_name(model), document, stored.token if stored else None):
            return after


def fold(rows: Sequence[PartRow], values: Values) -> list[PartRow]:
    """The rows with the groups of values that are not listed added up as OTHER."""
    listed = {dimension: frozenset(held) for dimension, held in values.items()}

    def folded(group: Group) -> Group:
        return tuple((d, v if v in listed.get(d, ()) else OTHER) for d, v in group)

    sums: dict[SummaryKey, list[PartRow]] = defaultdict(list)
    for row in rows:
        group = row.key.group
        sums[row.key._replace(group=folded(group)) if group else row.key].append(row)
    return [
        PartRow(key, sum_versions(r.version for r in held), reduce(add, (r.part for r in held)))
        for key, held in sums.items()
    ]


def _full(values: Values, cap: int) -> dict[str, frozenset[str]]:
    return {dimension: frozenset(held) for dimension, held in values.items() if len(held) >= cap}


def _unknown(rows: Sequence[PartRow], values: Values) -> dict[str, list[str]]:
    """By dimension: the values that are not listed, most rows first."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        weight = row.part.rows if isinstance(row.part, Core) else 0
        for dimension, value in row.key.group:
            if value != OTHER and value not in values.get(dimension, ()):
                counts[dimension][value] += weight
    return {
        dimension: sorted(found, key=lambda value: (-found[value], value))
        for dimension, found in counts.items()
    }
