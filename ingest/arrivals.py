"""What arrived, by model: rows sent twice, and rows of clocks that are ahead; since the start, and by minute
in the store.

Neither can be counted in the store: a duplicate is not stored again, and without scripts the servers tell of
two times of a row only the sum of each, as doubles that lose milliseconds from some 5,000 rows on.
"""

import threading
from collections.abc import Sequence
from operator import attrgetter

import numpy as np

from ingest.ledger import Ledger
from kedge.record_table import PredictionTable
from kedge.records import Prediction
from kedge.store.base import Json
from kedge.windows import MINUTE, Millis

AHEAD = MINUTE
"""Rows that are later than their arrival by more than this are of a wrong clock; clocks in step differ by
seconds."""
MOST_MODELS = 1_000
"""Models that are told apart; those beyond are counted in the total alone."""

_time = attrgetter("timestamp")


class Arrivals:
    """Counters; safe for threads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._total = _none()
        self._models: dict[str, Json] = {}

    def note(self, rows: Sequence[Prediction], duplicates: Sequence[int]) -> None:
        """Rows that were stored, spooled or stored before; `duplicates` are the places of the last."""
        if not rows:
            return
        limit = rows[0].ingested + AHEAD
        ahead = [row for row in rows if row.timestamp > limit] if max(map(_time, rows)) > limit else []
        if not ahead and not duplicates:
            with self._lock:
                self._total["rows"] += len(rows)
            return
        with self._lock:
            self._total["rows"] += len(rows)
            for i in duplicates:
                self._add(rows[i].model, duplicate=1)
            for row in ahead:
                self._add(row.model, ahead=1, by=row.timestamp - row.ingested)
        again = set(duplicates)
        for i in duplicates:
            self._ledger.count(rows[i].model, [(rows[i].timestamp, rows[i].id)], ())
        for i, row in enumerate(rows) if ahead else ():
            if row.timestamp > limit and i not in again:
                self._ledger.count(row.model, (), [(row.timestamp, row.id)])

    def note_table(self, table: PredictionTable, again: Sequence[int]) -> None:
        """`again` are the places of rows that were stored before."""
        late, duplicates = table.timestamps - table.ingested, len(again)
        ahead = int((late > AHEAD).sum())
        if ahead or again:
            stored = late > AHEAD
            stored[list(again)] = False
            told = (
                [(int(table.timestamps[i]), table.ids[i]) for i in places]
                for places in (again, np.flatnonzero(stored).tolist())
            )
            self._ledger.count(table.model, *told)
        with self._lock:
            self._total["rows"] += len(table)
            if ahead or duplicates:
                self._add(table.model, duplicate=duplicates, ahead=ahead, by=int(late.max()))

    def _add(self, model: str, *, duplicate: int = 0, ahead: int = 0, by: Millis = 0) -> None:
        counted = [self._total]
        if model in self._models or len(self._models) < MOST_MODELS:
            counted.append(self._models.setdefault(model, {k: v for k, v in _none().items() if k != "rows"}))
        for counts in counted:
            counts["duplicate"] += duplicate
            counts["ahead"] += ahead
            counts["ahead_ms"] = max(counts["ahead_ms"], by) if ahead else counts["ahead_ms"]

    def counts(self) -> Json:
        """{"rows", "duplicate", "ahead", "ahead_ms" (the farthest), "models": the last three by model}."""
        with self._lock:
            return self._total | {"models": {name: dict(held) for name, held in sorted(self._models.items())}}


def _none() -> Json:
    return {"rows": 0, "duplicate": 0, "ahead": 0, "ahead_ms": 0}
