"""Numbers, windows and lengths as people read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.notify.formatting import THIN, count, length, moment, notation, window
from kedge.windows import DAY, HOUR, MINUTE, parse_time

NEAR = parse_time("2026-11-09T13:05:00Z")


@pytest.mark.parametrize(
    ("unit", "values", "texts"),
    [
        ("ratio", (0.71, 0.756, 0.84), ("0.71", "0.76", "0.84")),
        ("ratio", (0.8996, 0.9), ("0.8996", "0.9000")),
        ("ratio", (0.031, 0.05), (f"3.1{THIN}%", f"5.0{THIN}%")),
        ("ratio", (0.0, None), (f"0.0{THIN}%", "–")),
        ("ratio", (-0.2,), ("−0.20",)),
        ("ms", (182.4, 100.0), (f"182{THIN}ms", f"100{THIN}ms")),
        ("ms", (2_480.0, 1_000.0), (f"2.48{THIN}s", f"1.00{THIN}s")),
        ("ms", (HOUR * 3.0, HOUR * 2.0), (f"3.00{THIN}h", f"2.00{THIN}h")),
        ("count", (1_204_113.0, 0.0), (f"1{THIN}204{THIN}113", "0")),
        ("count", (2.5, 3.0), ("2.50", "3.00")),
        ("", (0.0713, 0.05), ("0.0713", "0.0500")),
        ("", (math.nan, math.inf, -math.inf), ("not a number", "∞", "−∞")),
    ],
)
def test_numbers_that_stand_together_share_one_scale(unit, values, texts):
    show = notation(unit, *values)
    assert tuple(show(v) for v in values) == texts


@given(
    st.sampled_from(["ratio", "ms", "count", ""]),
    st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.none(), min_size=1, max_size=3),
)
def test_any_number_can_be_shown(unit, values):
    show = notation(unit, *values)
    assert all(0 < len(show(v)) < 40 for v in values)


@given(st.integers(min_value=0, max_value=10**6), st.integers(min_value=1, max_value=10**6))
def test_a_value_and_its_limit_never_look_equal(value, off):
    show = notation("ratio", value / 10**6, (value + off) / 10**6)
    assert show(value / 10**6) != show((value + off) / 10**6)


def test_counts_have_thin_separators():
    assert count(1_204_113) == f"1{THIN}204{THIN}113"


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        ("2026-11-02", "2026-11-09", "2–8 Nov"),
        ("2026-11-08", "2026-11-09", "8 Nov"),
        ("2026-10-30", "2026-11-02", "30 Oct – 1 Nov"),
        ("2025-12-31", "2026-01-02", "31 Dec 2025 – 1 Jan"),
        ("2026-11-09T13:00:00Z", "2026-11-09T14:00:00Z", "9 Nov 13:00–14:00 UTC"),
        ("2026-11-08T14:00:00Z", "2026-11-09T14:00:00Z", "8 Nov 14:00 – 9 Nov 14:00 UTC"),
        ("2013-03-01T00:00:00Z", "2013-03-01T06:00:00Z", "1 Mar 2013 00:00–06:00 UTC"),
    ],
)
def test_windows_are_half_open_and_short(start, end, text):
    assert window(parse_time(start), parse_time(end), NEAR) == text


def test_moments_name_the_zone_and_the_year_only_where_it_differs():
    assert moment(NEAR, NEAR) == "9 Nov 13:05 UTC"
    assert moment(parse_time("2013-02-01T05:00:30Z"), NEAR) == "1 Feb 2013 05:00:30 UTC"


@pytest.mark.parametrize(
    ("t", "text"),
    [
        (3 * HOUR + 20 * MINUTE + 5_000, "3 h 20 min"),
        (9 * DAY, "9 d"),
        (DAY + 5 * MINUTE, "1 d"),
        (45_000, "45 s"),
        (0, "0 ms"),
    ],
)
def test_lengths_show_their_two_largest_units(t, text):
    assert length(t).replace(THIN, " ") == text
