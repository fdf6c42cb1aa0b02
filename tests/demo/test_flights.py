"""The demo's events are a truthful replay: nothing is known before its time, and nothing is made up."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from kedge.demo import flights, timetable
from kedge.demo.flights import Event, FlightModel, Hour

START = flights.TRAINED_UNTIL
END = START + timedelta(days=21)  # clocks change on 10 March


@pytest.fixture(scope="module")
def model() -> FlightModel:
    return flights.train()


@pytest.fixture(scope="module")
def replay(model: FlightModel) -> list[Hour]:
    return list(flights.hours(model, START, END))


def flat(hours: list[Hour]) -> tuple[list[Event], list[Event]]:
    return [p for hour in hours for p in hour.predictions], [x for hour in hours for x in hour.labels]


def at(event: Event) -> datetime:
    return datetime.fromisoformat(event["timestamp"])


def row(event_id: str) -> pd.Series:
    table = timetable.load()
    return table[table["id"] == event_id].iloc[0]


def test_a_prediction_as_a_client_posts_it(replay: list[Hour]) -> None:
    first = flat(replay)[0][0]
    assert first["id"] == "2013-03-01T0500-US1117-EWR"
    assert first["timestamp"] == "2013-03-01T10:00:00Z"
    assert (first["model"], first["version"], first["segment"]) == ("flights", "1", {"origin": "EWR"})
    features = first["features"]
    assert (features["weekday"], features["scheduled_hour"], features["dest"]) == ("Fri", 5, "CLT")
    assert {type(features[name]) for name in timetable.CATEGORICAL} == {str}
    assert {type(features[name]) for name in timetable.SCHEDULE} == {int}


def test_no_feature_comes_from_an_outcome(model: FlightModel) -> None:
    table = timetable.load()
    sample = table[table["departs"] >= START].iloc[:5_000]
    shuffled = sample.assign(**{name: sample[name].to_numpy()[::-1] for name in timetable.OUTCOME_COLUMNS})
    shuffled["landed"] = pd.NaT
    np.testing.assert_array_equal(model.late_probability(sample), model.late_probability(shuffled))
    assert not set(timetable.FEATURES) & {"landed", "air_time", "tailnum", *timetable.OUTCOME_COLUMNS}


def test_predictions_carry_the_features_and_nothing_more(replay: list[Hour]) -> None:
    predictions, _ = flat(replay)
    for prediction in predictions:
        features = prediction["features"]
        assert set(features) <= set(timetable.FEATURES)
        assert all(value == value and value is not None for value in features.values())
    assert any("pressure" not in prediction["features"] for prediction in predictions)


def test_the_weather_is_of_the_hour_before() -> None:
    weather = pd.read_csv(timetable.data_file("weather.csv")).set_index(["origin", "time_hour"])
    flight = row("2013-03-01T0500-US1117-EWR")  # 10:00 UTC
    assert flight["temp"] == weather.loc[("EWR", "2013-03-01T09:00:00Z"), "temp"]
    assert flight["temp"] != weather.loc[("EWR", "2013-03-01T10:00:00Z"), "temp"]


@pytest.mark.parametrize(
    ("event_id", "departs", "duration", "landed"),
    [
        (
            "2013-01-01T0515-UA1545-EWR",
            "2013-01-01T10:15",
            244,
            "2013-01-01T14:30",
        ),  # to Houston, an hour behind
        # The night of 10 March: clocks went forward at 2 that morning, the flight lands past midnight.
        ("2013-03-10T2000-UA1416-EWR", "2013-03-11T00:00", 255, "2013-03-11T05:02"),
        # The night of 3 November: clocks went back.
        ("2013-11-03T2245-B6486-JFK", "2013-11-04T03:45", 78, "2013-11-04T04:48"),
    ],
)
def test_times(event_id: str, departs: str, duration: int, landed: str) -> None:
    flight = row(event_id)
    assert flight["departs"] == pd.Timestamp(departs, tz=UTC)
    assert flight["scheduled_duration"] == duration
    assert flight["landed"] == pd.Timestamp(landed, tz=UTC)


def test_landings_agree_with_the_time_in_the_air() -> None:
    raw = pd.read_csv(timetable.data_file("flights.csv.zip"))
    minute = raw["sched_dep_time"].astype(str).str.zfill(4)
    day = pd.to_datetime(raw[["year", "month", "day"]]).dt.strftime("%Y-%m-%d")
    ids = day + "T" + minute + "-" + raw["carrier"] + raw["flight"].astype(str) + "-" + raw["origin"]
    table = timetable.load().set_index("id").loc[ids]
    away = (table["landed"] - table["departs"]).dt.total_seconds().to_numpy() / 60
    taxi = pd.Series(away - raw["dep_delay"] - raw["air_time"]).dropna()
    assert len(taxi) == 327_346
    assert taxi.between(4, 240).all()


def test_ids_are_unique_and_in_order_of_time(replay: list[Hour]) -> None:
    predictions, labels = flat(replay)
    ids = [prediction["id"] for prediction in predictions]
    assert ids == sorted(set(ids))
    assert len({label["id"] for label in labels}) == len(labels)
    assert timetable.load()["id"].is_unique
    assert timetable.load()["id"].is_monotonic_increasing


def test_events_are_in_order_and_in_their_hour(replay: list[Hour]) -> None:
    ends = [hour.end_ms for hour in replay]
    assert set(np.diff(ends)) == {3_600_000}
    assert ends[0] == (START + timedelta(hours=1)).timestamp() * 1000
    for hour in replay:
        for events in (hour.predictions, hour.labels):
            times = [at(event).timestamp() * 1000 for event in events]
            assert times == sorted(times)
            assert all(hour.end_ms - 3_600_000 <= time < hour.end_ms for time in times)


def test_a_label_comes_after_its_prediction(replay: list[Hour]) -> None:
    predictions, labels = flat(replay)
    made = {prediction["id"]: at(prediction) for prediction in predictions}
    delays = [at(label) - made[label["id"]] for label in labels]
    assert min(delays) > timedelta(0)
    assert max(delays) < timedelta(hours=34)


def test_only_a_flight_that_arrived_has_a_label(replay: list[Hour]) -> None:
    predictions, labels = flat(replay)
    table = timetable.load().set_index("id").loc[[prediction["id"] for prediction in predictions]]
    arrived = table.index[table["arr_delay"].notna()]
    assert {label["id"] for label in labels} == set(arrived)
    assert 0.9 < len(labels) / len(predictions) < 1
    late = table["arr_delay"] > 15
    assert all(label["class"] == ("late" if late[label["id"]] else "on_time") for label in labels)


def test_probabilities_and_class(model: FlightModel, replay: list[Hour]) -> None:
    for prediction in flat(replay)[0]:
        probabilities = prediction["probabilities"]
        assert set(probabilities) == {"late", "on_time"}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-12)
        assert all(0 < probability < 1 for probability in probabilities.values())
        assert prediction["class"] == ("late" if probabilities["late"] >= model.threshold else "on_time")


def test_training_twice_gives_the_same_events(model: FlightModel, replay: list[Hour]) -> None:
    again = flights.train()
    assert again.threshold == model.threshold
    np.testing.assert_array_equal(again.held_out, model.held_out)
    assert list(flights.hours(again, START, END)) == replay


def test_adjoining_ranges_hold_each_event_once(model: FlightModel, replay: list[Hour]) -> None:
    middle = START + timedelta(days=10, hours=7, minutes=30)
    parts = [*flights.hours(model, START, middle), *flights.hours(model, middle, END)]
    for joined, whole in zip(flat(parts), flat(replay), strict=True):
        assert sorted(event["id"] for event in joined) == sorted(event["id"] for event in whole)


def test_training_months_are_not_replayed_as_if_new(model: FlightModel) -> None:
    with pytest.raises(ValueError, match="trained on"):
        flights.hours(model, START - timedelta(days=1), END)


def accuracy(hours: Iterator[Hour]) -> float:
    predictions, labels = flat(list(hours))
    predicted = {prediction["id"]: prediction["class"] for prediction in predictions}
    return float(np.mean([predicted[label["id"]] == label["class"] for label in labels]))


def test_the_reference_does_not_flatter_the_model(model: FlightModel) -> None:
    table = timetable.load()
    trained = table[(table["departs"] < START) & table["landed"].notna()]
    late = (trained["arr_delay"] > 15).to_numpy()
    in_sample = np.mean((model.late_probability(trained) >= model.threshold) == late)
    held_out = accuracy(flights.reference(model))
    assert held_out < in_sample - 0.02
    # The next month is no surprise to the reference.
    assert abs(accuracy(flights.hours(model, START, START + timedelta(days=31))) - held_out) < 0.035


def test_an_empty_range_has_hours_without_events(model: FlightModel) -> None:
    night = datetime(2013, 3, 2, 7, tzinfo=UTC)
    quiet = list(flights.hours(model, night, night + timedelta(hours=2)))
    assert [(len(hour.predictions), len(hour.labels)) for hour in quiet] == [(0, 0), (0, 0)]
