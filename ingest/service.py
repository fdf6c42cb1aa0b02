"""Taking predictions and labels: decode, validate, register features, write, or spool what cannot be written.

The gateway puts HTTP in front of it; the demo calls it directly.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from ingest.answers import (
    MAX_LISTED,
    LabelAnswer,
    PredictionAnswer,
    answered,
    listed,
    notice,
    unknown_names,
)
from ingest.arrivals import Arrivals
from ingest.body import decode, rows_at
from ingest.drain import Drainer
from ingest.enrich import label_of, prediction_of
from ingest.keep import Keeper
from ingest.lane import Lanes
from ingest.ledger import Ledger
from ingest.rejection import Rejection
from ingest.spool import Kind
from ingest.wire import LABEL, PREDICTION, Wire
from ingest.wire_columns import Tabled, tabled
from ingest.write import Appended, LogWriter, rejected_row
from kedge.clock import Clock
from kedge.errors import BadInput, KedgeError
from kedge.pipeline.schema import Features
from kedge.record_table import PredictionTable
from kedge.records import Label, Prediction
from kedge.store.base import (
    AppendResult,
    DocumentStore,
    Joined,
    Json,
    LogStore,
    PartlyAppended,
    RejectedRow,
    Written,
)
from kedge.store.retention import too_old
from kedge.windows import Millis


@dataclass
class _Told:
    """What became of a request's predictions so far."""

    rejected: list[Rejection] = field(default_factory=list)
    counts: dict[Written, int] = field(default_factory=lambda: dict.fromkeys(Written, 0))
    spooled: int = 0


Wrote = TypeVar("Wrote", bound=Appended | None)


class IngestService:
    """Writes what clients send. Blocking; safe to call from several threads if its store is."""

    def __init__(
        self, logs: LogStore, state: DocumentStore, clock: Clock, drainer: Drainer | None = None
    ) -> None:
        """`state` keeps the models' schemas (SchemaRegistry). With a `drainer`, rows that the store does not
        take go to its spool; without one, StoreUnavailable is the caller's."""
        self._writer = LogWriter(logs, state)
        self._lanes = Lanes()
        self._clock = clock
        self._drainer = drainer
        self._keeper = Keeper(logs, drainer)
        self._ledger = Ledger(state, clock)
        self._arrivals = Arrivals(self._ledger)

    def schema(self, model: str) -> Features:
        """The features that a model has logged so far."""
        return self._writer.schema(model)

    def predictions(self, body: bytes, *, lines: bool = False) -> PredictionAnswer:
        """Store the predictions of a JSON body (an object, a list, or one object a line).

        Raises BadInput (Malformed, TooManyRows) where the body as a whole cannot be taken, StoreUnavailable,
        and with a spool SpoolFull or SpoolBroken: the same body may then be sent again, rows that have ids
        are not stored twice.
        """
        now = self._clock()
        decoded = decode(body, PREDICTION, lines=lines, lanes=self._lanes)
        # What is held back is spooled row by row.
        tables, others = Tabled([], decoded.rows) if self._holding else tabled(decoded.rows, now)
        indices, rows, rejections = _built(others, decoded.rejections, prediction_of, now)
        if decoded.plain:
            self._lanes.learn(rows, Counter({table.model: len(table) for table, _ in tables}))
        told = _Told(list(rejections))
        for table, at in tables:
            self._store_table(table, at, told)
        if rows:
            self._store_rows(rows, indices, told)
        answer = answered(told.counts, told.rejected, told.spooled)
        answer.notice = notice(decoded)
        self._keep(rejections, body, lines, now)
        return answer

    def labels(self, body: bytes, *, lines: bool = False) -> LabelAnswer:
        """Join the labels of a JSON body to their predictions. Raises like `predictions`."""
        now = self._clock()
        decoded = decode(body, LABEL, lines=lines)
        indices, rows, rejections = _built(decoded.rows, decoded.rejections, label_of, now)
        answer = self.store_labels(rows, rejections, indices)
        answer.notice = unknown_names(decoded.unknown)
        self._keep(rejections, body, lines, now)
        return answer

    def store_predictions(self, rows: Sequence[Prediction]) -> PredictionAnswer:
        """Store rows that are validated already."""
        told = _Told()
        self._store_rows(rows, range(len(rows)), told)
        return answered(told.counts, told.rejected, told.spooled)

    def store_table(self, table: PredictionTable) -> PredictionAnswer:
        """Store a table that is validated already."""
        told = _Told()
        self._store_table(table, range(len(table)), told)
        return answered(told.counts, told.rejected, told.spooled)

    def _store_rows(self, rows: Sequence[Prediction], indices: Sequence[int], told: "_Told") -> None:
        """`indices` are theirs among those that were sent."""
        floor = self._writer.floor.known if self._holding else self._writer.floor()
        if floor and any(row.timestamp < floor for row in rows):
            kept_rows = []
            for index, row in zip(indices, rows, strict=True):
                if row.timestamp < floor:
                    told.rejected.append(Rejection(index, "timestamp", too_old(floor)))
                else:
                    kept_rows.append((index, row))
            old = [row for row in rows if row.timestamp < floor]
            refused = [rejected_row(row, too_old(floor), self._clock()) for row in old]
            self._keeper.keep(refused, {"retention": len(old)})
            indices, rows = [i for i, _ in kept_rows], [row for _, row in kept_rows]
        appended = Appended([None] * len(rows), frozenset())
        if not self._holding:
            appended = self._tried(lambda: self._writer.predictions(rows), len(rows))
        duplicates = self._settle(appended, lambda: rows, indices, told)
        self._arrivals.note(rows, duplicates)
        if not self._holding:
            self._ledger.write()

    def _store_table(self, table: PredictionTable, indices: Sequence[int], told: "_Told") -> None:
        if self._holding:
            self._store_rows(table.rows(), indices, told)
            return
        appended = self._tried(lambda: self._writer.table(table), len(table))
        if appended is None:
            self._store_rows(table.rows(), indices, told)
        else:
            duplicates = self._settle(appended, table.rows, indices, told)
            self._arrivals.note_table(table, duplicates)
            self._ledger.write()

    def _tried(self, write: Callable[[], Wrote], count: int) -> Wrote | Appended:
        """What was written; raises where some was not and there is no spool for it."""
        try:
            appended = write()
        except BadInput:
            raise
        except KedgeError as error:
            if self._drainer is None:
                raise
            nothing: list[AppendResult | None] = [None] * count
            return Appended(nothing, frozenset(), PartlyAppended(str(error), nothing))
        if appended is not None and appended.failure is not None and self._drainer is None:
            raise appended.failure
        return appended

    def _settle(
        self,
        appended: Appended,
        rows_of: Callable[[], Sequence[Prediction]],
        indices: Sequence[int],
        told: "_Told",
    ) -> list[int]:
        """Tell what became of rows, keep those that the store refused, and spool those that are left. Returns
        the places of those that were stored before.
        """
        created = Written.CREATED
        others = [
            (i, result)
            for i, result in enumerate(appended.results)
            if result is None or result.written is not created
        ]
        told.counts[created] += len(appended.results) - len(others)
        if not others:
            return []
        rows = rows_of()
        refused: list[RejectedRow] = []
        for i, result in others:
            if result is None:
                continue
            told.counts[result.written] += 1
            if result.written is Written.REJECTED:
                field = "features" if i in appended.beyond else ""
                told.rejected.append(Rejection(indices[i], field, result.reason))
                refused.append(rejected_row(rows[i], result.reason, self._clock()))
        problem = str(appended.failure or "")
        told.spooled += self._spool(Kind.PREDICTIONS, rows, appended.left, indices, told.rejected, problem)
        self._keeper.keep(refused, Counter(store=len(refused)) if refused else {})
        return [i for i, result in others if result is not None and result.written is Written.DUPLICATE]

    def store_labels(
        self,
        labels: Sequence[Label],
        rejections: Iterable[Rejection] = (),
        indices: Sequence[int] | None = None,
    ) -> LabelAnswer:
        """Join labels that are validated already; `indices` are theirs among those that were sent."""
        indices = range(len(labels)) if indices is None else indices
        rejected = list(rejections)
        counts = dict.fromkeys(Joined, 0)
        left: Sequence[int] = range(len(labels))
        problem = ""
        if not self._holding:
            try:
                for joined in self._writer.labels(labels):
                    counts[joined] += 1
                left = ()
            except BadInput:
                raise
            except KedgeError as error:
                if self._drainer is None:
                    raise
                problem = str(error)
        spooled = self._spool(Kind.LABELS, labels, left, indices, rejected, problem)
        return LabelAnswer(
            accepted=counts[Joined.JOINED],
            superseded=counts[Joined.SUPERSEDED],
            waiting=counts[Joined.WAITING],
            rejected=len(rejected),
            rejections=listed(rejected),
            spooled=spooled,
        )

    def finish(self) -> None:
        """Write what was counted; before the store is closed."""
        if not self._holding:
            self._ledger.write(now=True)

    def status(self) -> Json:
        """How ingestion does, for people and monitoring."""
        return {
            "spool": self._drainer.status() if self._drainer else None,
            "rejected": self._keeper.counts(),
            "arrived": self._arrivals.counts(),
        }

    # --- what is not written ----------------------------------------------------------------------

    @property
    def _holding(self) -> bool:
        return self._drainer is not None and self._drainer.holding

    def _spool(
        self,
        kind: Kind,
        rows: Sequence[Prediction] | Sequence[Label],
        left: Sequence[int],
        indices: Sequence[int],
        rejected: list[Rejection],
        problem: str,
    ) -> int:
        """Spool the rows that are left; adds those that cannot even be spooled to the rejections."""
        if self._drainer is None or not left:
            return 0
        kept = [rows[i] for i in left]
        try:
            self._drainer.put(kind, kept, problem)
        except (TypeError, ValueError, OverflowError):  # text that is no Unicode: find whose
            kept = []
            for i in left:
                try:
                    msgspec.msgpack.encode(rows[i])
                except (TypeError, ValueError, OverflowError) as error:
                    rejected.append(Rejection(indices[i], "", str(error)))
                    self._keeper.keep([rejected_row(rows[i], str(error), self._clock())], {"row": 1})
                else:
                    kept.append(rows[i])
            self._drainer.put(kind, kept, problem)
        return len(kept)

    def _keep(self, rejections: Sequence[Rejection], body: bytes, lines: bool, now: Millis) -> None:
        """Keep rows that are not valid, as they were sent."""
        first = sorted(rejections, key=lambda rejection: rejection.index)[:MAX_LISTED]
        if first:
            texts = rows_at(body, [rejection.index for rejection in first], lines=lines)
            self._keeper.keep(
                [
                    RejectedRow.of(
                        now, f"{r.field}: {r.reason}" if r.field else r.reason, text, *_named(text)
                    )
                    for r, text in zip(first, texts, strict=True)
                ],
                Counter(rejection.kind for rejection in rejections),
            )


def _named(row: bytes) -> tuple[str, str]:
    """The model and the id of a row that is not valid, as far as it says them."""
    try:
        content = msgspec.json.decode(row)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    if not isinstance(content, dict):
        return "", ""
    model, id = content.get("model"), content.get("id")
    return model if isinstance(model, str) else "", str(id) if isinstance(id, str | int) else ""


Record = TypeVar("Record", Prediction, Label)


def _built(
    rows: Iterable[tuple[int, Wire]],
    rejected: Iterable[Rejection],
    build: Callable[[Wire, Millis], Record],
    now: Millis,
) -> tuple[list[int], list[Record], list[Rejection]]:
    """The records of the rows that are valid, with their indices, and the rejections of all the others."""
    indices, records, rejections = [], [], list(rejected)
    for index, row in rows:
        try:
            records.append(build(row, now))
        except BadInput as error:
            rejections.append(Rejection.of(index, error))
        else:
            indices.append(index)
    return indices, records, rejections
