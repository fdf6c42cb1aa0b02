"""From stored parts to windows and coarser tiers: every way to read is the direct count."""

import random
from collections.abc import Iterator

import pytest

from kedge.pipeline.baselines import baseline_in_use, build_baseline, import_baseline
from kedge.pipeline.schema import features_of
from kedge.pipeline.summaries import roll_up
from kedge.sketch import Core, PartName
from kedge.store.base import EPOCH_SHIFT, PartRow, SummaryKey
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window
from tests.pipeline.world import MODEL, T0, World, assert_same, prediction, truth, world
from tests.support.oracle import summary_of

REGION = ("segment.region",)
ROWS = 300
SPAN = 50 * HOUR


@pytest.fixture(scope="module")
def lived() -> Iterator[World]:
    """Two days of rows on edges of their own, summarised to the end, and some labels."""
    dice = random.Random(5)
    with world() as one:
        rows = [prediction(i, T0 + dice.randrange(SPAN)) for i in range(ROWS)]
        one.send(rows)
        one.label([truth(r.id, r.timestamp + HOUR) for r in rows[::2]])
        baseline = build_baseline(
            one.store, MODEL, Window(T0, T0 + DAY), features_of(one.store.state, MODEL), ((),),
            source="the first day", now=T0 + DAY,
        )  # fmt: skip
        import_baseline(one.store.state, baseline, use=True)
        one.settings = one.settings.model_copy(
            update={"models": {MODEL: one.settings.of_model(MODEL).model_copy(update={"bucket": "1m"})}}
        )
        one.restart()
        one.settle(T0 + 3 * DAY)
        yield one


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("grouping", [(), REGION])
def test_a_window_read_from_its_tiers_is_the_window_counted(
    lived: World, seed: int, grouping: tuple[str, ...]
) -> None:
    dice = random.Random(seed)
    start = dice.randrange(SPAN // MINUTE) * MINUTE
    length = dice.choice((1, 7, 60, 61, 26 * 60)) * MINUTE
    window = Window(T0 + start, T0 + start + length)
    baseline = baseline_in_use(lived.store.state, MODEL)
    assert baseline is not None
    found = lived.reading().window(MODEL, MINUTE, window, frozenset(PartName), grouping, baseline.edges)
    rows = [r for r in lived.labelled_rows() if r.timestamp in window]
    groups = {tuple((d, r.dimension(d) or "") for d in grouping) for r in rows} if grouping else {()}
    assert found.keys() == groups
    for group in groups:
        members = [r for r in rows if all(r.dimension(d) == v for d, v in group)]
        assert_same(found[group], summary_of(members, baseline.edges), f"{window} {group}")


def test_windows_read_in_any_order_from_one_reader_stay_right(lived: World) -> None:
    """What was read is kept and extended: neither a gap, nor an overlap, nor the trimming may show."""
    dice = random.Random(11)
    reader = lived.reading(longest=6 * HOUR)
    everything = lived.labelled_rows()
    for _ in range(25):
        start = T0 + dice.randrange(SPAN // MINUTE) * MINUTE
        window = Window(start, start + dice.choice((5, 45, 300, 700)) * MINUTE)
        found = reader.window(MODEL, MINUTE, window, frozenset({PartName.CORE}))[()]
        assert found.rows == sum(r.timestamp in window for r in everything), window


def test_a_long_window_is_read_whole_though_less_is_kept(lived: World) -> None:
    reader = lived.reading(longest=HOUR)
    found = reader.window(MODEL, MINUTE, Window(T0, T0 + 3 * DAY), frozenset({PartName.CORE}))[()]
    assert found.rows == ROWS


# --- rolling up ---------------------------------------------------------------------------------------------


def row(bucket: Millis, n: int, *, epoch: int = 1, part: PartName = PartName.CORE) -> PartRow:
    edges = "e" if part is PartName.CELLS else ""
    key = SummaryKey(MODEL, (), MINUTE, bucket, part, edges)
    return PartRow(key, (epoch << EPOCH_SHIFT) + n, Core(rows=n))


def test_a_sum_has_the_sum_of_its_childrens_fingerprints_as_version() -> None:
    (hour,) = roll_up([row(0, 3), row(5 * MINUTE, 4)], HOUR)
    assert hour.version == (1 << EPOCH_SHIFT) + 7
    assert hour.key == SummaryKey(MODEL, (), HOUR, 0, PartName.CORE)
    assert isinstance(hour.part, Core)
    assert hour.part.rows == 7


def test_children_of_two_hours_make_two_sums() -> None:
    sums = roll_up([row(0, 3), row(HOUR, 4)], HOUR)
    assert [s.key.bucket for s in sums] == [0, HOUR]


def test_cells_that_one_child_lacks_are_not_computed_in_the_sum() -> None:
    cells = row(0, 3, part=PartName.CELLS)
    assert [s.key.part for s in roll_up([row(0, 3), row(MINUTE, 4), cells], HOUR)] == [PartName.CORE]
    assert len(roll_up([row(0, 3), cells], HOUR)) == 2


def test_a_sum_over_two_epochs_grows_with_every_child_that_is_counted_anew() -> None:
    """A reindex begins the feed's numbers anew: an old, larger one must not stand in the way."""
    before = roll_up([row(0, 900), row(MINUTE, 900)], HOUR)[0].version
    half_way = roll_up([row(0, 5, epoch=2), row(MINUTE, 900)], HOUR)[0].version
    after = roll_up([row(0, 5, epoch=2), row(MINUTE, 6, epoch=2)], HOUR)[0].version
    assert before < half_way < after
