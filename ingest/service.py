"""Taking predictions and labels: decode, validate, register features, write, or spool what cannot be written.

The gateway puts HTTP in front of it; the demo calls it directly.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from ingest.body import Decoded, decode, rows_at
from ingest.drain import Drainer
from ingest.enrich import label_of, prediction_of
from ingest.keep import Keeper
from ingest.lane import Lanes
from ingest.rejection import Rejection
from ingest.spool import Kind
from ingest.wire import LABEL, PREDICTION, Wire, WirePrediction
from ingest.write import LogWriter, rejected_row
from kedge.clock import Clock
from kedge.errors import BadInput, KedgeError
from kedge.pipeline.schema import Features
from kedge.record_table import PredictionTable
from kedge.records import Label, Prediction
from kedge.store.base import DocumentStore, Joined, Json, LogStore, RejectedRow, Written
from kedge.store.retention import too_old
from kedge.windows import Millis

MAX_LISTED = 100
"""Rejections listed in one answer; all are counted."""


class PredictionAnswer(msgspec.Struct, omit_defaults=True):
    """What became of the predictions of one request."""

    accepted: int
    duplicate: int
    """Rows whose id is stored already; nothing was changed."""
    rejected: int
    rejections: list[Rejection]
    notice: str | None = None
    spooled: int = 0
    """Rows kept by the gateway until the store takes them; whether they are duplicates is not known yet."""

    @property
    def useless(self) -> bool:
        """Every row was rejected."""
        return self.rejected > 0 and self.accepted + self.duplicate + self.spooled == 0


class LabelAnswer(msgspec.Struct, omit_defaults=True):
    """What became of the labels of one request."""

    accepted: int
    """Joined to their predictions."""
    superseded: int
    """The prediction has a label that is as new or newer."""
    waiting: int
    """Kept until their prediction arrives."""
    rejected: int
    rejections: list[Rejection]
    notice: str | None = None
    spooled: int = 0
    """Labels kept by the gateway until the store can take them."""

    @property
    def useless(self) -> bool:
        return self.rejected > 0 and self.accepted + self.superseded + self.waiting + self.spooled == 0


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
        indices, rows, rejections = _built(decoded, prediction_of, now)
        if decoded.plain:
            self._lanes.learn(rows)
        answer = self.store_predictions(rows, rejections, indices)
        answer.notice = _notice(decoded)
        self._keep(rejections, body, lines, now)
        return answer

    def labels(self, body: bytes, *, lines: bool = False) -> LabelAnswer:
        """Join the labels of a JSON body to their predictions. Raises like `predictions`."""
        now = self._clock()
        decoded = decode(body, LABEL, lines=lines)
        indices, rows, rejections = _built(decoded, label_of, now)
        answer = self.store_labels(rows, rejections, indices)
        answer.notice = _unknown(decoded.unknown)
        self._keep(rejections, body, lines, now)
        return answer

    def store_predictions(
        self,
        rows: Sequence[Prediction],
        rejections: Iterable[Rejection] = (),
        indices: Sequence[int] | None = None,
    ) -> PredictionAnswer:
        """Store rows that are validated already; `indices` are theirs among those that were sent."""
        indices = range(len(rows)) if indices is None else indices
        rejected = list(rejections)
        floor = self._writer.floor.known if self._holding else self._writer.floor()
        if floor and any(row.timestamp < floor for row in rows):
            kept_rows = []
            for index, row in zip(indices, rows, strict=True):
                if row.timestamp < floor:
                    rejected.append(Rejection(index, "timestamp", too_old(floor)))
                else:
                    kept_rows.append((index, row))
            indices, rows = [i for i, _ in kept_rows], [row for _, row in kept_rows]
        counts = dict.fromkeys(Written, 0)
        left: Sequence[int] = range(len(rows))
        problem = ""
        refused: list[RejectedRow] = []
        if not self._holding:
            try:
                appended = self._writer.predictions(rows)
                if appended.failure is not None and self._drainer is None:
                    raise appended.failure
            except BadInput:
                raise
            except KedgeError as error:
                if self._drainer is None:
                    raise
                problem = str(error)
            else:
                left, problem = appended.left, str(appended.failure or "")
                created = Written.CREATED
                counts[created] = sum([r is not None and r.written is created for r in appended.results])
                for i, result in enumerate(appended.results):
                    if result is None or result.written is created:
                        continue
                    counts[result.written] += 1
                    if result.written is Written.REJECTED:
                        field = "features" if i in appended.beyond else ""
                        rejected.append(Rejection(indices[i], field, result.reason))
                        refused.append(rejected_row(rows[i], result.reason, self._clock()))
        spooled = self._spool(Kind.PREDICTIONS, rows, left, indices, rejected, problem)
        self._keeper.keep(refused)
        return _answered(counts, rejected, spooled)

    def store_table(self, table: PredictionTable) -> PredictionAnswer:
        """Store a table that is validated already."""
        results = None if self._holding else self._writer.table(table)
        if results is None:
            return self.store_predictions(table.rows())
        counts = dict.fromkeys(Written, 0)
        rejected: list[Rejection] = []
        for i, result in enumerate(results):
            counts[result.written] += 1
            if result.written is Written.REJECTED:
                rejected.append(Rejection(i, "", result.reason))
        if rejected:
            rows = table[np.array([r.index for r in rejected])].rows()
            now = self._clock()
            self._keeper.keep(
                [rejected_row(row, r.reason, now) for row, r in zip(rows, rejected, strict=True)]
            )
        return _answered(counts, rejected)

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
            rejections=_listed(rejected),
            spooled=spooled,
        )

    def status(self) -> Json:
        """How ingestion does, for people and monitoring."""
        return {
            "spool": self._drainer.status() if self._drainer else None,
            "rejected": self._keeper.counts,
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
                    self._keeper.keep([rejected_row(rows[i], str(error), self._clock())])
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
                len(rejections),
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
    decoded: Decoded[Wire], build: Callable[[Wire, Millis], Record], now: Millis
) -> tuple[list[int], list[Record], list[Rejection]]:
    """The records of the rows that are valid, with their indices, and the rejections of all the others."""
    indices, records, rejections = [], [], list(decoded.rejections)
    for index, row in decoded.rows:
        try:
            records.append(build(row, now))
        except BadInput as error:
            rejections.append(Rejection.of(index, error))
        else:
            indices.append(index)
    return indices, records, rejections


def _answered(
    counts: Mapping[Written, int], rejected: Sequence[Rejection], spooled: int = 0
) -> PredictionAnswer:
    return PredictionAnswer(
        accepted=counts[Written.CREATED],
        duplicate=counts[Written.DUPLICATE],
        rejected=len(rejected),
        rejections=_listed(rejected),
        spooled=spooled,
    )


def _listed(rejections: Iterable[Rejection]) -> list[Rejection]:
    return sorted(rejections, key=lambda rejection: rejection.index)[:MAX_LISTED]


def _notice(decoded: Decoded[WirePrediction]) -> str | None:
    """What the caller should know although the rows were taken."""
    sentences = []
    nameless = sum(row.id is None for _, row in decoded.rows)
    timeless = sum(row.timestamp is None and row.id is not None for _, row in decoded.rows)
    if nameless:
        sentences.append(
            f"{_rows(nameless)} had no id and got one: sent again, they would be stored again. "
            "Send id and timestamp, and a retry is harmless."
        )
    if timeless:
        sentences.append(
            f"{_rows(timeless)} had no timestamp and got the time of arrival: "
            "sent again in another period, they would be stored again."
        )
    if unknown := _unknown(decoded.unknown):
        sentences.append(unknown)
    return " ".join(sentences) or None


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _unknown(names: set[str]) -> str | None:
    if not names:
        return None
    first = sorted(name[:64] for name in names)[:10]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"Unknown fields were left out: {', '.join(first)}{more}."
