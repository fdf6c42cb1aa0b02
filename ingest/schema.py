"""Which features and other fields each model has, and of which kind: sets that only grow, changed by
compare-and-set.

A name is registered *before* a row that carries it is written, so a summary, which asks the store for the
names registered, never misses a feature that is stored, and the store has room for it.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from kedge.errors import StoreUnavailable
from kedge.pipeline.schema import Features, document_name, features_of
from kedge.records import OPEN_MAPS, OpenField, Prediction
from kedge.store.base import DocumentStore, Json

MAX_NAMES = 2_000
"""Feature names of one model, over all its rows."""
MAX_FIELDS = 4_500
"""All fields of one model whose names are its own: an index may have 5,000 in all."""
_ATTEMPTS = 50

Reserve = Callable[[Mapping[str, Collection[OpenField]]], None]
"""`LogStore.reserve`."""


class _Known(NamedTuple):
    """The same as sets, for look-up."""

    numeric: frozenset[str] = frozenset()
    categorical: frozenset[str] = frozenset()
    invalid: frozenset[str] = frozenset()
    probabilities: frozenset[str] = frozenset()
    segment: frozenset[str] = frozenset()
    attributions: frozenset[str] = frozenset()
    resource: frozenset[str] = frozenset()
    business: frozenset[str] = frozenset()

    def covers(self, row: Prediction) -> bool:
        return (
            self.numeric.issuperset(row.num)
            and self.categorical.issuperset(row.cat)
            and (not row.probabilities or self.probabilities.issuperset(row.probabilities))
            and (not row.segment or self.segment.issuperset(row.segment))
            and (not row.invalid or self.invalid.issuperset(row.invalid))
            and (not row.attributions or self.attributions.issuperset(row.attributions))
            and (not row.resource or self.resource.issuperset(row.resource))
            and (not row.business or self.business.issuperset(row.business))
        )

    def with_row(self, row: Prediction) -> "_Known":
        of_row: list[Iterable[str]] = [row.num, row.cat, row.invalid, row.probabilities]
        of_row += [row.segment, row.attributions, row.resource, row.business]
        return _Known(*(held.union(new) for held, new in zip(self, of_row, strict=True)))

    @property
    def names(self) -> frozenset[str]:
        return self.numeric | self.categorical | self.invalid

    @property
    def fields(self) -> list[OpenField]:
        """Those that the store has, by their places there."""
        kinds = {"num": "numeric", "cat": "categorical"}
        held = self._asdict()
        return [
            (path, name)
            for path, attribute in OPEN_MAPS.items()
            for name in held[kinds.get(attribute, attribute)]
        ]

    def document(self) -> Json:
        return {kind: sorted(names) for kind, names in self._asdict().items() if names}

    @classmethod
    def of(cls, document: Json) -> "_Known":
        return cls(*(frozenset(document.get(kind, ())) for kind in cls._fields))


class SchemaRegistry:
    """The schemas of all models, cached: rows without new names cost a set comparison and no request.

    Any number of registries may share one state; each sees what the others add as soon as it adds something
    itself, or on `read`. Safe for threads.
    """

    def __init__(self, state: DocumentStore, reserve: Reserve | None = None) -> None:
        self._state = state
        self._reserve = reserve
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def read(self, model: str) -> Features:
        """What is registered now, sorted; nothing for a model that was never seen."""
        return features_of(self._state, model)

    def register(self, rows: Sequence[Prediction]) -> dict[int, str]:
        """Register the features of rows about to be written.

        Returns the reason for each row that must not be, by index. Raises StoreUnavailable; then none may.
        """
        new: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            known = self._known.get(row.model)
            if known is None or not known.covers(row):
                new.setdefault(row.model, []).append(index)
        if not new:
            return {}
        with self._lock:
            return self._extend(
                {model: {index: rows[index] for index in indices} for model, indices in new.items()}
            )

    def _extend(self, new: Mapping[str, Mapping[int, Prediction]]) -> dict[int, str]:
        """Register the rows of each model; all models in the same few requests."""
        refused: dict[int, str] = {}
        left = dict(new)
        for _ in range(_ATTEMPTS):
            stored = self._state.get_many([document_name(model) for model in left])
            changed: dict[str, _Known] = {}
            for model, rows in list(left.items()):
                held = stored.get(document_name(model))
                before = _Known.of(held.value) if held else _Known()
                after, reasons = _extended(before, rows)
                refused.update(reasons)
                if held and after == before:
                    self._known[model] = after
                    del left[model]
                else:
                    changed[model] = after
            if not changed:
                return refused
            if self._reserve:
                self._reserve({model: known.fields for model, known in changed.items()})
            swaps = []
            for model, known in changed.items():
                held = stored.get(document_name(model))
                swaps.append((document_name(model), known.document(), held.token if held else None))
            for (model, known), written in zip(changed.items(), self._state.swap_many(swaps), strict=True):
                if written:
                    self._known[model] = known
                    del left[model]
            if not left:
                return refused
        raise StoreUnavailable(f'the schema of model "{min(left)}" is being changed by many at once')


def _extended(known: _Known, rows: Mapping[int, Prediction]) -> tuple[_Known, dict[int, str]]:
    """The schema with the rows' names, as far as there is room, and the rows that there is no room for."""
    refused = {}
    for index, row in rows.items():
        if known.covers(row):
            continue
        wider = known.with_row(row)
        if len(wider.fields) > MAX_FIELDS:
            more = {name for _, name in set(wider.fields) - set(known.fields)}
            refused[index] = f"{_listed(more)} would be beyond the {MAX_FIELDS:,} fields of one model"
        elif len(wider.names) > MAX_NAMES:
            refused[index] = (
                f"{_listed(wider.names - known.names)} would be beyond "
                f"the {MAX_NAMES:,} feature names of one model"
            )
        else:
            known = wider
    return known, refused


def _listed(names: Iterable[str]) -> str:
    first, *rest = sorted(names)
    return f'"{first}"' + (f" and {len(rest)} more" if rest else "")
