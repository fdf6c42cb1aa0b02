"""What kedge stores of one inference and of its label, after validation and enrichment. Pure.

`ingest/` makes these from the wire, the stores write them, nobody else changes them. Numeric feature values
are finite and fit a float32 (others are *missing*); a feature is numeric or categorical by the JSON type it
came with, so one name may occur as both over time: which of the two is *invalid* is read later, from the
counts.
"""

import math
from collections.abc import Mapping

import msgspec

from kedge.windows import Millis

FLOAT32_MAX = 3.4028234663852886e38
OPEN_MAPS = {
    "features.num": "num",
    "features.cat": "cat",
    "prediction.probabilities": "probabilities",
    "segment": "segment",
    "attributions": "attributions",
    "resource": "resource",
    "business": "business",
}
"""The stored maps whose names users choose, and the attribute of a Prediction that each is."""
OpenField = tuple[str, str]
"""A field of one of them: ("features.num", "amount")."""
PROBABILITY_FLOOR = 2.0**-52
"""Log loss clips probabilities to [floor, 1 - floor], as scikit-learn does for float64."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one prediction compares to its label; None where it does not apply."""

    correct: bool | None = None
    log_loss: float | None = None
    """Natural logarithm."""
    brier: float | None = None
    """Sum over classes of (probability - indicator)^2, in [0, 2]; halved when binary, in [0, 1]."""
    error: float | None = None
    """Prediction minus label."""
    abs_error: float | None = None
    squared_error: float | None = None


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about one prediction. The newest `timestamp` wins; equal times are decided by content."""

    id: str
    timestamp: Millis
    """When the label became true, by the client's clock."""
    ingested: Millis
    cls: str | None = None
    value: float | None = None
    model: str | None = None

    @property
    def rank(self) -> tuple[int, str, float]:
        """Of the labels of one prediction the highest wins, so any order of arrival ends the same."""
        return (self.timestamp, self.cls or "", self.value if self.value is not None else -math.inf)


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """One inference. Times in `Millis`; class names are text.

    A tree without cycles, so the collector need not walk it: that doubled the speed of ingestion.
    """

    id: str
    timestamp: Millis
    ingested: Millis
    model: str
    version: str = ""
    cls: str | None = None
    probability: float | None = None
    """Of the predicted class: the confidence, in [0, 1]."""
    probabilities: dict[str, float] = {}
    entropy: float | None = None
    """Of the probabilities, in nats."""
    value: float | None = None
    num: dict[str, float] = {}
    cat: dict[str, str] = {}
    invalid: tuple[str, ...] = ()
    """Features whose value was an object or a list: the row is kept, the value is not."""
    segment: dict[str, str] = {}
    attributions: dict[str, float] = {}
    resource: dict[str, float] = {}
    business: dict[str, float] = {}
    latency_ms: float | None = None
    service: str | None = None
    host: str | None = None
    trace: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    label: Label | None = None
    """A label that came with the prediction."""

    @property
    def failed(self) -> bool:
        return self.error_type is not None or self.error_message is not None

    def dimension(self, name: str) -> str | None:
        """The value of a dimension (`version`, `segment.region`, `service`, `host`), or None."""
        if name == "version":
            return self.version or None
        if name.startswith("segment."):
            return self.segment.get(name.removeprefix("segment."))
        return {"service": self.service, "host": self.host}.get(name)


def open_fields(row: Prediction) -> set[OpenField]:
    """The fields of a row whose names are the user's."""
    return {(path, name) for path, attribute in OPEN_MAPS.items() for name in getattr(row, attribute)}


def outcome_of(
    *,
    cls: str | None,
    probabilities: Mapping[str, float],
    value: float | None,
    label_cls: str | None,
    label_value: float | None,
) -> Outcome:
    """Compare a prediction with its label. Computed once, at write, so that performance is plain sums later.

    Log loss and Brier need `probabilities`: taking them where only the right predictions carry one would
    flatter. One probability alone is of a binary model: the other class, whatever its name, has the rest.
    """
    correct = log_loss = brier = error = None
    if label_cls is not None and cls is not None:
        correct = cls == label_cls
    if label_cls is not None and probabilities:
        if len(probabilities) == 1:
            ((only, p),) = probabilities.items()
            other = label_cls if label_cls != only else ""
            probabilities = {only: p, other: 1.0 - p}
        p = probabilities.get(label_cls, 0.0)
        log_loss = -math.log(min(max(p, PROBABILITY_FLOOR), 1 - PROBABILITY_FLOOR))
        squares = sum((q - (name == label_cls)) ** 2 for name, q in probabilities.items())
        if label_cls not in probabilities:
            squares += 1.0
        brier = squares / 2 if len(probabilities) == 2 else squares
    if label_value is not None and value is not None:
        error = value - label_value
    return Outcome(
        correct=correct,
        log_loss=log_loss,
        brier=brier,
        error=error,
        abs_error=None if error is None else abs(error),
        squared_error=None if error is None else error * error,
    )
