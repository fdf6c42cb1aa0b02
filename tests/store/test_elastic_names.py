"""Names of fields and indices."""

from datetime import UTC, datetime
from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kedge.store.elastic.names import Names, escape, first_index, period_start, series_of, unescape
from kedge.windows import DAY, HOUR, MINUTE, Window, parse_time

times = st.integers(parse_time("2000-01-01"), parse_time("2060-01-01"))


@given(st.text())
@example("\xa0")  # blank, but not ASCII
def test_any_name_is_one_step_of_a_path_and_comes_back(name: str) -> None:
    step = escape(name)
    assert unescape(step) == name
    assert step.strip()
    assert not set(step) & {".", "*"}


@given(st.text(), st.text())
def test_different_names_are_different_fields(a: str, b: str) -> None:
    assert (escape(a) == escape(b)) == (a == b)


def test_common_names_stay_as_people_write_them() -> None:
    assert escape("merchant_type") == "merchant_type"
    assert escape("card.age") == "card%2Eage"


@given(times, st.integers(1, 400 * DAY), st.integers(0, 10**12))
def test_a_window_is_searched_in_every_index_that_can_hold_it(start: int, length: int, at: int) -> None:
    names = Names("kedge")
    window = Window(start, start + length)
    t = start + at % length
    paths = names.predictions_over(window).split(",")
    assert any(fnmatchcase(names.predictions(t), path) for path in paths)
    for width in (MINUTE, HOUR, DAY):
        paths = names.series_over("summaries", width, window).split(",")
        assert any(fnmatchcase(names.series("summaries", width, t), path) for path in paths)
        assert sum(map(len, paths)) < 3_500  # a request line may have 4,096 bytes


@given(times)
def test_an_index_knows_the_period_it_is_of(t: int) -> None:
    names = Names("kedge")
    day = names.predictions(t)
    assert period_start(day) == t - t % DAY
    month = datetime.fromtimestamp(t / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    assert period_start(names.series("metrics", HOUR, t)) == int(month.timestamp()) * 1000
    assert series_of(first_index(day)) == day


@pytest.mark.parametrize("alias", ["kedge-state", "kedge-labels-pending", "kedge-alerts"])
def test_an_index_without_time_has_no_period(alias: str) -> None:
    assert period_start(alias) is None
