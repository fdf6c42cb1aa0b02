"""What the page on the demo's flights says of the flights is what the data says."""

import re
from pathlib import Path

import pandas as pd
import pytest

from kedge.demo import timetable

PAGE = " ".join((Path(__file__).resolve().parents[2] / "docs" / "found-in-flights.md").read_text().split())


@pytest.fixture(scope="module")
def landed() -> pd.DataFrame:
    """Of January to May, by day of New York."""
    table = timetable.load()
    table = table[table["landed"].notna()]
    local = table["departs"].dt.tz_convert("America/New_York").dt.tz_localize(None)
    return table.assign(late=table["arr_delay"] > 15, day=local.dt.normalize())[local < "2013-06-01"]


def replayed(landed: pd.DataFrame) -> pd.DataFrame:
    return landed[landed["day"] >= "2013-03-01"]


def week(landed: pd.DataFrame, monday: str) -> pd.DataFrame:
    start = pd.Timestamp(monday)
    assert start.weekday() == 0
    return landed[(landed["day"] >= start) & (landed["day"] < start + pd.Timedelta(days=7))]


def says(pattern: str) -> bool:
    return re.search(pattern, PAGE) is not None


def test_the_training_months_are_as_told(landed: pd.DataFrame) -> None:
    trained = landed[landed["day"] < "2013-03-01"]
    assert says(f"its {len(trained):,} flights that landed")
    assert says(f"in {100 * trained['late'].mean():.1f} % of the cases")
    assert says(
        f"rises from {trained['temp'].mean():.0f} °F to {week(landed, '2013-05-20')['temp'].mean():.0f} °F"
    )


def test_the_days_that_are_named_are_the_worst(landed: pd.DataFrame) -> None:
    by_day = replayed(landed).groupby("day")["late"].mean()
    worst = by_day.sort_values(ascending=False)
    assert [f"{day:%d %b}" for day in worst.index[:2]] == ["08 Mar", "23 May"]
    assert says(f"On 8 March {100 * worst.iloc[0]:.0f} %")
    assert says(f"On 23 May {100 * worst.iloc[1]:.0f} %")
    for day in ("2013-04-22", "2013-04-25"):
        assert f"{100 * by_day[pd.Timestamp(day)]:.0f}" == "57"


def test_the_weeks_that_are_named_are_as_told(landed: pd.DataFrame) -> None:
    mondays = pd.date_range("2013-03-04", "2013-05-20", freq="7D")
    late = {monday: week(landed, str(monday.date()))["late"].mean() for monday in mondays}
    assert f"{min(late, key=lambda m: late[m]):%d %b}" == "25 Mar"
    assert f"{max(late, key=lambda m: late[m]):%d %b}" == "22 Apr"
    assert says(f"only {100 * min(late.values()):.1f} % were late")
    assert says(f"22 to 28 April: {100 * max(late.values()):.1f} % late")
    before = week(landed, "2013-04-15")
    assert says(f"in the week of 15 April {100 * before['late'].mean():.1f} % were")
    worst = week(landed, "2013-04-22")
    assert says(f"\\({worst['temp'].mean():.1f} °F, {before['temp'].mean():.1f} °F\\)")
    march = landed[(landed["day"] >= "2013-03-01") & (landed["day"] < "2013-04-01")]
    assert worst["wind_speed"].mean() < march["wind_speed"].mean()
