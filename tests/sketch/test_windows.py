"""Windows, tiers and steps; durations and times as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.errors import BadInput
from kedge.windows import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    STEPS,
    TIERS,
    WEEK,
    Window,
    ceil,
    floor,
    format_duration,
    iso,
    parse_duration,
    parse_time,
    snap,
    step_of,
    tile,
)

START = parse_time("2026-11-23T14:05:00Z")
bases = st.sampled_from(list(TIERS.values()))


@given(bases, st.integers(0, 60_000), st.integers(0, 60_000))
def test_tiles_cover_the_window_exactly_in_order_and_with_whole_buckets(base, first, count):
    window = Window(first * base, (first + count) * base)
    spans = tile(window, base)
    assert all(s.start < s.end and s.start % s.tier == s.end % s.tier == 0 and s.tier >= base for s in spans)
    edges = [window.start, *(s.end for s in spans)]
    assert [s.start for s in spans] == edges[:-1]
    assert edges[-1] == window.end


def test_thirty_days_are_read_as_days_with_hours_and_minutes_only_at_the_edges():
    window = snap(Window(START - 30 * DAY, START), MINUTE)
    spans = tile(window, MINUTE)
    read = {tier: sum((s.end - s.start) // tier for s in spans if s.tier == tier) for tier in TIERS.values()}
    assert read[DAY] <= 31
    assert read[HOUR] < 24
    assert read[MINUTE] < 60
    assert len(spans) == 3


@given(bases, st.integers(1, 3_000))
def test_no_window_is_read_in_more_than_five_runs(base, hours):
    window = Window(START - START % base - hours * max(base, HOUR), START - START % base)
    assert len(tile(window, base)) <= 5


def test_an_empty_window_has_no_tiles_and_an_unaligned_one_is_refused():
    assert tile(Window(0, 0), MINUTE) == []
    with pytest.raises(ValueError, match="not aligned"):
        tile(Window(0, MINUTE + 1), MINUTE)


@pytest.mark.parametrize(
    ("window", "base", "step"),
    [
        (10 * MINUTE, MINUTE, MINUTE),
        (HOUR, MINUTE, MINUTE),
        (2 * HOUR, MINUTE, 5 * MINUTE),
        (24 * HOUR, MINUTE, HOUR),
        (7 * DAY, MINUTE, 6 * HOUR),
        (30 * DAY, MINUTE, DAY),
        (24 * HOUR, DAY, DAY),
        (HOUR, HOUR, HOUR),
    ],
)
def test_a_rule_is_judged_at_the_largest_step_that_fits_its_window(window, base, step):
    assert step_of(window, base) == step


@given(st.integers(MINUTE, 60 * DAY), bases)
def test_a_step_is_one_of_the_known_ones_or_the_base(window, base):
    step = step_of(window, base)
    assert step in STEPS
    assert step == base or step <= window / 24


def test_windows_snap_their_start_back_and_keep_their_end():
    assert snap(Window(START - HOUR, START), MINUTE) == Window(START - HOUR, START)
    assert snap(Window(START - 3 * HOUR, START), MINUTE).start == floor(START - 3 * HOUR, HOUR)
    assert snap(Window(START - 3 * DAY, START), MINUTE).start == floor(START - 3 * DAY, DAY)
    assert snap(Window(START - HOUR, START), HOUR).start == floor(START - HOUR, HOUR)


def test_a_window_holds_its_start_and_not_its_end():
    window = Window(10, 20)
    assert 10 in window
    assert 20 not in window
    assert "10" not in window
    assert window.length == 10


@given(st.integers(-(10**12), 10**13), st.sampled_from([*TIERS.values(), WEEK]))
def test_floor_and_ceil_are_the_nearest_bucket_starts(t, width):
    assert floor(t, width) <= t <= ceil(t, width)
    assert floor(t, width) % width == ceil(t, width) % width == 0
    assert ceil(t, width) - floor(t, width) in (0, width)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", 90 * SECOND),
        ("10m", 10 * MINUTE),
        ("1h30m", 90 * MINUTE),
        ("7d", WEEK),
        ("1.5h", 90 * MINUTE),
        (" 250ms ", 250),
    ],
)
def test_durations_are_read_as_people_write_them(text, length):
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "10 m", "1h-3m", "5y", "1h,30m", "٣m!"])
def test_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(BadInput, match="write 30s, 10m"):
        parse_duration(text)


@given(st.integers(0, 10**13))
def test_a_printed_duration_reads_back_the_same(length):
    assert parse_duration(format_duration(length)) == length


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-23T14:05:00Z", "2026-11-23T14:05:00Z"),
        ("2026-11-23T15:05:00+01:00", "2026-11-23T14:05:00Z"),
        ("2026-11-23 14:05", "2026-11-23T14:05:00Z"),
        ("2026-11-23", "2026-11-23T00:00:00Z"),
        ("2026-11-23T14:05:00.250Z", "2026-11-23T14:05:00.250Z"),
    ],
)
def test_times_are_read_in_any_zone_and_printed_in_utc(text, same):
    assert iso(parse_time(text)) == same


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "1700000000"])
def test_what_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(BadInput, match="2026-11-23T14:05:00Z"):
        parse_time(text)


@given(st.integers(-(10**12), 4 * 10**12))
def test_a_printed_time_reads_back_the_same(t):
    assert parse_time(iso(t)) == t
