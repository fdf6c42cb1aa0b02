"""What the demo's baseline knows of two months of real flights."""

import io

from kedge.demo import flights, timetable
from kedge.demo.replay import open_replay
from kedge.notify.receivers import load_receivers
from kedge.windows import DAY, HOUR


def test_the_weather_is_restless_from_day_to_day_and_the_timetable_is_not() -> None:
    replay = open_replay(flights.train(), "duckdb::memory:", load_receivers(None, {}, stream=io.StringIO()))
    try:
        made = replay.import_reference()
    finally:
        replay.pipe.store.close()
    daily = made.at_length(DAY)
    assert daily.restless(0.05) == {*timetable.WEATHER, "weekday"}
    assert daily.borrowed == set()
    timetabled = (*timetable.SCHEDULE, "carrier", "origin", "dest")
    assert max(daily.phi[name] for name in timetabled) < 10 < min(daily.phi[n] for n in timetable.WEATHER)
    # Each hour of the day has departures of its own.
    assert "scheduled_hour" in made.at_length(HOUR).restless(0.05)
