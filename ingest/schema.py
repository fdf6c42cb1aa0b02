"""Which features each model has, and of which kind: sets that only grow, changed by compare-and-set.

A name is registered *before* a row that carries it is written, so a summary, which asks the store for the
names registered, never misses a feature that is stored.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from kedge.errors import StoreUnavailable
from kedge.pipeline.schema import Features, document_name, features_of
from kedge.records import Prediction
from kedge.store.base import DocumentStore, Json

MAX_NAMES = 2_000
"""Feature names of one model, over all its rows."""
_ATTEMPTS = 50


class _Known(NamedTuple):
    """The same as sets, for look-up."""

    numeric: frozenset[str] = frozenset()
    categorical: frozenset[str] = frozenset()
    invalid: frozenset[str] = frozenset()

    def covers(self, row: Prediction) -> bool:
        return (
            self.numeric.issuperset(row.num)
            and self.categorical.issuperset(row.cat)
            and self.invalid.issuperset(row.invalid)
        )

    def with_row(self, row: Prediction) -> "_Known":
        return _Known(
            self.numeric.union(row.num), self.categorical.union(row.cat), self.invalid.union(row.invalid)
        )

    @property
    def names(self) -> frozenset[str]:
        return self.numeric | self.categorical | self.invalid

    def document(self) -> Json:
        return {kind: sorted(names) for kind, names in self._asdict().items()}

    @classmethod
    def of(cls, document: Json) -> "_Known":
        return cls(*(frozenset(document.get(kind, ())) for kind in cls._fields))


class SchemaRegistry:
    """The schemas of all models, cached: rows without new names cost a set comparison and no request.

    Any number of registries may share one state; each sees what the others add as soon as it adds something
    itself, or on `read`. Safe for threads.
    """

    def __init__(self, state: DocumentStore) -> None:
        self._state = state
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
        refused: dict[int, str] = {}
        for model, indices in new.items():
            with self._lock:
                refused.update(self._extend(model, {index: rows[index] for index in indices}))
        return refused

    def _extend(self, model: str, rows: Mapping[int, Prediction]) -> dict[int, str]:
        for _ in range(_ATTEMPTS):
            stored = self._state.get(document_name(model))
            before = _Known.of(stored.value) if stored else _Known()
            after, refused = _extended(before, rows)
            if (stored and after == before) or self._state.swap(
                document_name(model), after.document(), stored.token if stored else None
            ):
                self._known[model] = after
                return refused
        raise StoreUnavailable(f'the schema of model "{model}" is being changed by many at once')


def _extended(known: _Known, rows: Mapping[int, Prediction]) -> tuple[_Known, dict[int, str]]:
    """The schema with the rows' names, as far as there is room, and the rows that there is no room for."""
    refused = {}
    for index, row in rows.items():
        if known.covers(row):
            continue
        wider = known.with_row(row)
        if len(wider.names) > MAX_NAMES:
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
