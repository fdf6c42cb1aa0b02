"""What is read of windows that lie weeks apart: each once, and nothing of what is between."""

from collections.abc import Iterator, Sequence

import pytest

from kedge.pipeline.reader import Ask, SummaryReader
from kedge.sketch import PartName
from kedge.store.base import PartRow, SummaryQuery
from kedge.windows import DAY, HOUR, Millis, Window
from tests.pipeline.world import MODEL, T0, World, prediction, settings, world

NOW, THEN = Window(T0 + 28 * DAY, T0 + 28 * DAY + 2 * HOUR), Window(T0 + HOUR, T0 + 6 * DAY)


@pytest.fixture
def one() -> Iterator[World]:
    with world(settings=settings(fraud={"bucket": "1h"})) as made:
        made.now = T0 + 29 * DAY
        made.send([prediction(i, T0 + i * 3 * HOUR) for i in range(29 * 8)])
        made.drain(made.now)
        yield made


@pytest.fixture
def read(one: World, monkeypatch: pytest.MonkeyPatch) -> list[Window]:
    """The windows that were read in the store."""
    windows: list[Window] = []
    many = one.store.read_many

    def read_many(queries: Sequence[SummaryQuery]) -> list[list[PartRow]]:
        windows.extend(query.window for query in queries)
        return many(queries)

    monkeypatch.setattr(one.store, "read_many", read_many)
    return windows


def hours(reader: SummaryReader, window: Window) -> set[Millis]:
    return set(reader.parts(MODEL, HOUR, window, PartName.CORE))


def test_windows_weeks_apart_are_read_without_what_is_between_and_kept_beside_each_other(
    one: World, read: list[Window]
) -> None:
    reader = one.reading()
    reader.load([Ask(MODEL, HOUR, window, PartName.CORE, "", ()) for window in (NOW, THEN)])
    assert sorted(read) == [THEN, NOW]
    for _ in range(2):
        for window in (NOW, THEN):
            stored = {t for t in range(T0, T0 + 29 * DAY, 3 * HOUR) if t in window}
            assert hours(reader, window) == stored
    assert len(read) == 2, "a shelf was trimmed of what a step was still to read"


def test_windows_close_together_are_read_as_one(one: World, read: list[Window]) -> None:
    reader = one.reading()
    last = Window(NOW.start + DAY - HOUR, NOW.start + DAY)
    reader.load([Ask(MODEL, HOUR, window, PartName.CORE, "", ()) for window in (NOW, last)])
    assert read == [Window(NOW.start, last.end)]


def test_no_more_than_eight_ranges_are_kept(one: World, read: list[Window]) -> None:
    reader = one.reading()
    apart = [Window(T0 + i * 3 * DAY, T0 + i * 3 * DAY + HOUR) for i in range(9)]
    for window in apart:
        hours(reader, window)
    before = len(read)
    for window in apart[1:]:
        hours(reader, window)
    assert len(read) == before
    hours(reader, apart[0])
    assert len(read) == before + 1
