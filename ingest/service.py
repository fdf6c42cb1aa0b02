"""Taking predictions and labels: decode, validate, register features, write.

The gateway puts HTTP in front of it; the demo calls it directly.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from ingest.body import Decoded, decode
from ingest.enrich import label_of, prediction_of
from ingest.lane import Lanes
from ingest.rejection import Rejection
from ingest.retention import RetentionFloor
from ingest.schema import SchemaRegistry
from ingest.wire import LABEL, PREDICTION, Wire, WirePrediction
from kedge.clock import Clock
from kedge.errors import BadInput
from kedge.pipeline.schema import Features
from kedge.records import Label, Prediction
from kedge.store.base import DocumentStore, Joined, LogStore, Written
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

    @property
    def useless(self) -> bool:
        """Every row was rejected."""
        return self.rejected > 0 and self.accepted + self.duplicate == 0


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

    @property
    def useless(self) -> bool:
        return self.rejected > 0 and self.accepted + self.superseded + self.waiting == 0


class IngestService:
    """Writes what clients send. Blocking; safe to call from several threads if its store is."""

    def __init__(self, logs: LogStore, state: DocumentStore, clock: Clock) -> None:
        """`state` keeps the models' schemas (SchemaRegistry)."""
        self._logs = logs
        self._schemas = SchemaRegistry(state, logs.reserve)
        self._floor = RetentionFloor(state)
        self._lanes = Lanes()
        self._clock = clock

    def schema(self, model: str) -> Features:
        """The features that a model has logged so far."""
        return self._schemas.read(model)

    def predictions(self, body: bytes, *, lines: bool = False) -> PredictionAnswer:
        """Store the predictions of a JSON body (an object, a list, or one object a line).

        Raises BadInput (Malformed, TooManyRows) where the body as a whole cannot be taken, and
        StoreUnavailable: the same body may then be sent again, rows that have ids are not stored twice.
        """
        now = self._clock()
        decoded = decode(body, PREDICTION, lines=lines, lanes=self._lanes)
        indices, rows, rejections = _built(decoded, prediction_of, now)
        if decoded.plain:
            self._lanes.learn(rows)
        answer = self.store_predictions(rows, rejections, indices)
        answer.notice = _notice(decoded)
        return answer

    def labels(self, body: bytes, *, lines: bool = False) -> LabelAnswer:
        """Join the labels of a JSON body to their predictions. Raises like `predictions`."""
        now = self._clock()
        decoded = decode(body, LABEL, lines=lines)
        _, rows, rejections = _built(decoded, label_of, now)
        answer = self.store_labels(rows, rejections)
        answer.notice = _unknown(decoded.unknown)
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
        floor = self._floor()
        if floor and any(row.timestamp < floor for row in rows):
            kept_rows = []
            for index, row in zip(indices, rows, strict=True):
                if row.timestamp < floor:
                    rejected.append(Rejection(index, "timestamp", too_old(floor)))
                else:
                    kept_rows.append((index, row))
            indices, rows = [i for i, _ in kept_rows], [row for _, row in kept_rows]
        refused = self._schemas.register(rows)
        rejected.extend(Rejection(indices[i], "features", reason) for i, reason in refused.items())
        kept = [i for i in range(len(rows)) if i not in refused] if refused else range(len(rows))
        counts = dict.fromkeys(Written, 0)
        results = self._logs.append([rows[i] for i in kept]) if kept else []
        for i, result in zip(kept, results, strict=True):
            counts[result.written] += 1
            if result.written is Written.REJECTED:
                rejected.append(Rejection(indices[i], "", result.reason))
        return PredictionAnswer(
            accepted=counts[Written.CREATED],
            duplicate=counts[Written.DUPLICATE],
            rejected=len(rejected),
            rejections=_listed(rejected),
        )

    def store_labels(self, labels: Sequence[Label], rejections: Iterable[Rejection] = ()) -> LabelAnswer:
        """Join labels that are validated already."""
        rejected = list(rejections)
        counts = dict.fromkeys(Joined, 0)
        for joined in self._logs.label(labels) if labels else ():
            counts[joined] += 1
        return LabelAnswer(
            accepted=counts[Joined.JOINED],
            superseded=counts[Joined.SUPERSEDED],
            waiting=counts[Joined.WAITING],
            rejected=len(rejected),
            rejections=_listed(rejected),
        )


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
