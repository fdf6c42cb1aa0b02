"""The last step in: features registered, rows written, and what the store refuses kept with its reason."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ingest.retention import RetentionFloor
from ingest.schema import SchemaRegistry
from kedge.pipeline.schema import Features
from kedge.record_table import PredictionTable
from kedge.records import Label, Prediction
from kedge.store.base import (
    AppendResult,
    DocumentStore,
    Joined,
    LogStore,
    PartlyAppended,
    RejectedRow,
    Written,
)
from kedge.windows import Millis


class Appended(NamedTuple):
    """What became of rows."""

    results: list[AppendResult | None]
    """One each, in order; None: the store failed before it took the row."""
    beyond: frozenset[int]
    """Rows rejected because their model has no room for their features."""
    failure: PartlyAppended | None = None
    """Why some are not written."""

    @property
    def left(self) -> list[int]:
        return [i for i, result in enumerate(self.results) if result is None]


class LogWriter:
    """Writes to one store. Every method may raise StoreUnavailable; all of it may then be done again."""

    def __init__(self, logs: LogStore, state: DocumentStore) -> None:
        self.logs = logs
        self._schemas = SchemaRegistry(state, logs.reserve)
        self.floor = RetentionFloor(state)
        """Before it predictions are not taken."""

    def schema(self, model: str) -> Features:
        """The features that a model has logged so far."""
        return self._schemas.read(model)

    def predictions(self, rows: Sequence[Prediction]) -> Appended:
        """Register the rows' features, then write them; raises only where none of them is written."""
        refused = self._schemas.register(rows)
        failure: PartlyAppended | None = None
        kept = [row for i, row in enumerate(rows) if i not in refused] if refused else rows
        try:
            written: Sequence[AppendResult | None] = self.logs.append(kept) if kept else []
        except PartlyAppended as error:
            failure, written = error, error.results
        if not refused:
            return Appended(list(written), frozenset(), failure)
        following = iter(written)
        results = [
            AppendResult(Written.REJECTED, refused[i]) if i in refused else next(following)
            for i in range(len(rows))
        ]
        return Appended(results, frozenset(refused), failure)

    def table(self, table: PredictionTable) -> Appended | None:
        """The same for columns; None, and nothing is written, where it must be decided row by row."""
        floor = self.floor()
        if floor and table.timestamps.min(initial=floor) < floor:
            return None
        if self._schemas.register([table.carrier]):
            return None
        try:
            return Appended(list(self.logs.append_table(table)), frozenset())
        except PartlyAppended as error:
            return Appended(error.results, frozenset(), error)

    def labels(self, labels: Sequence[Label]) -> list[Joined]:
        return self.logs.label(labels) if labels else []


def rejected_row(row: Prediction | Label, reason: str, now: Millis) -> RejectedRow:
    """A record that could not be stored, to be kept."""
    try:
        text = msgspec.json.encode(row)
    except (TypeError, ValueError):  # text that is no Unicode
        text = str(row).encode("utf-8", "replace")
    return RejectedRow.of(now, reason, text, row.model or "", row.id)
