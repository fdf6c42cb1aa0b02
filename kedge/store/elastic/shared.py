"""Event ids that several models share: a shadow model scores the request that its rival has scored.

A row's document id is its event id, which finds it again without a search; of two models' rows on one day
only the first can have it. The second is written under its event id and a mark of its model. Which models
have such rows is in the state, so that labels know what to look for; it is written there before the first.
"""

import hashlib
from collections.abc import Collection

from kedge.store.base import Json
from kedge.store.elastic.documents import Documents

ID_BYTES = 512
"""The servers' limit. A longer id would have the whole bulk request refused."""
_NAME = "shared-ids"
_MARK = "\x1f"


def marked_id(event: str, model: str) -> str:
    """The document id of a model's row whose event id is another's too. No plain id is like it: one with the
    mark in it is never written plain (`plain`)."""
    marked = f"{event}{_MARK}{_hash(model)[:16]}"
    return marked if len(marked.encode()) <= ID_BYTES else f"{_MARK}{_hash(event, model)}"


def plain(event: str) -> bool:
    """Whether an event id may be a document id."""
    return _MARK not in event


class SharedIds:
    """The models that have rows under marked ids. Thread-safe; grows only."""

    def __init__(self, state: Documents) -> None:
        self._state = state
        self._known: frozenset[str] = frozenset()

    def record(self, models: Collection[str]) -> None:
        """Before their rows are written."""
        while not self._known.issuperset(models):
            stored = self._state.get(_NAME)
            held: list[str] = stored.value["models"] if stored else []
            wanted: Json = {"models": sorted({*held, *models})}
            if stored and wanted == stored.value:
                self._known |= set(held)
            else:
                self._state.swap(_NAME, wanted, stored.token if stored else None)

    def models(self) -> list[str]:
        """All of them, whoever recorded them."""
        stored = self._state.get(_NAME)
        return stored.value["models"] if stored else []


def _hash(*texts: str) -> str:
    return hashlib.sha256(_MARK.join(texts).encode()).hexdigest()[:32]
