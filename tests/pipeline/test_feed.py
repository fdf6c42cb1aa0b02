"""The dirty set and its watermark: what a detection adds, what a tick may take away."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.pipeline.dirty import Done, Feed, ModelFeed, Stale, absorb, runs_of, without_sealed
from kedge.pipeline.feed import adopt, clear, fitting_base, load_feed, mark_dirty, update_feed
from kedge.pipeline.memory import FeedMemory
from kedge.records import Prediction
from kedge.sketch import PartName
from kedge.store.base import Changes, DocumentStore
from kedge.store.duckdb import open_duckdb
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window
from tests.pipeline.world import world

M = MINUTE


def changes(*minutes: Millis, model: str = "m", replaced: bool = False) -> Changes:
    return Changes({"at": len(minutes)}, {model: set(minutes)}, replaced)


def by_default(_model: str, _minutes: set[Millis]) -> Millis:
    return MINUTE


@pytest.fixture
def state() -> DocumentStore:
    store = open_duckdb(":memory:")
    store.setup()
    return store.state


def test_touched_minutes_become_dirty_with_the_number_of_the_detection() -> None:
    feed = absorb(Feed(), changes(0, M), 5 * M, by_default)
    assert feed.models["m"].dirty == {0: 1, M: 1}
    assert (feed.watermark, feed.read_at, feed.mark) == ({"at": 2}, 5 * M, 1)


def test_a_bucket_that_is_touched_again_gets_the_newer_number() -> None:
    feed = absorb(absorb(Feed(), changes(0, M), 5 * M, by_default), changes(M, 2 * M), 6 * M, by_default)
    assert feed.models["m"].dirty == {0: 1, M: 2, 2 * M: 2}
    assert (feed.models["m"].first, feed.models["m"].last) == (0, 2 * M)


def test_a_clock_set_back_does_not_take_back_what_was_complete() -> None:
    feed = absorb(absorb(Feed(), changes(0), 5 * M, by_default), changes(), 3 * M, by_default)
    assert feed.read_at == 5 * M


def test_a_rebuilt_index_begins_a_new_epoch() -> None:
    assert absorb(Feed(), changes(0, replaced=True), M, by_default).epoch == Feed().epoch + 1


@pytest.mark.parametrize(
    ("minutes", "rows_each", "base"),
    [
        (range(0, 3 * HOUR, M), 20, M),
        (range(0, 3 * HOUR, M), 19, HOUR),
        (range(0, 90 * M, 10 * M), 1, M),  # too short to tell
        (range(0, 3 * HOUR, 10 * M), 50, HOUR),
        ([0], 1, M),
    ],
)
def test_a_model_whose_first_logs_are_sparse_takes_an_hour(
    minutes: list[Millis], rows_each: int, base: Millis
) -> None:
    with world() as one:
        one.pipe.store.append(
            [
                Prediction(id=f"{minute}-{i}", timestamp=minute, ingested=minute, model="m")
                for minute in minutes
                for i in range(rows_each)
            ]
        )
        assert fitting_base(one.pipe, "m", set(minutes)) == base


def test_the_base_bucket_is_what_is_configured_and_stays_what_it_was() -> None:
    feed = absorb(Feed(), changes(*range(0, 3 * HOUR, 10 * M)), DAY, by_default)
    assert feed.models["m"].base == MINUTE
    later = absorb(feed, changes(5 * HOUR), DAY, lambda *_: HOUR)
    assert later.models["m"].base == MINUTE


def test_a_detection_without_changes_adds_no_model() -> None:
    assert absorb(Feed(), Changes({}, {"m": set()}), M, by_default).models == {}


marks = st.integers(1, 4)
feeds = st.dictionaries(
    st.sampled_from(["a", "b"]),
    st.tuples(st.sampled_from([MINUTE, HOUR, DAY]), st.dictionaries(st.integers(0, 40), marks)),
)


@given(feeds)
def test_a_feed_survives_being_stored(models: dict[str, tuple[Millis, dict[int, int]]]) -> None:
    feed = Feed(
        {"x": [1, "uuid"]},
        77,
        2,
        9,
        {
            name: ModelFeed(base, 0, 40 * base, {i * base: mark for i, mark in dirty.items()}, "+|")
            for name, (base, dirty) in models.items()
        },
    )
    assert Feed.decode(feed.encode()) == feed


def test_years_of_history_are_a_few_numbers() -> None:
    year = dict.fromkeys(range(0, 365 * DAY, MINUTE), 1)
    feed = Feed(models={"m": ModelFeed(MINUTE, 0, 365 * DAY, year)})
    assert feed.encode()["models"]["m"]["dirty"] == [[0, 365 * 1440, 1]]


def test_a_bucket_touched_while_it_was_summarised_stays_dirty(state: DocumentStore) -> None:
    update_feed(state, lambda f: absorb(f, changes(0, M), 5 * M, by_default))
    seen = update_feed(state, lambda f: f).models["m"].dirty
    update_feed(state, lambda f: absorb(f, changes(M), 6 * M, by_default))
    feed = clear(state, {"m": Done(seen)}, 6 * M)
    assert feed.models["m"].dirty == {M: 2}


def test_a_bucket_that_was_summarised_makes_the_coarser_one_due(state: DocumentStore) -> None:
    update_feed(state, lambda f: absorb(f, changes(0, M), 5 * M, by_default))
    feed = clear(state, {"m": Done({0: 1, M: 1})}, 5 * M)
    assert feed.models["m"].pending == {HOUR: {0: 2}}
    assert feed.models["m"].turn == 1
    feed = clear(state, {"m": Done(pending={HOUR: {0: 2}})}, 5 * M)
    assert feed.models["m"].pending == {DAY: {0: 3}}
    feed = clear(state, {"m": Done(pending={DAY: {0: 2}})}, 5 * M)
    assert feed.models["m"].pending == {DAY: {0: 3}}, "it was touched again since it had that mark"


def test_a_label_makes_its_hour_due_and_no_row(state: DocumentStore) -> None:
    labelled = Changes({}, {}, labelled={"m": {5 * M, 7 * M}})
    update_feed(state, lambda f: absorb(f, labelled, 9 * HOUR, by_default))
    feed = update_feed(state, lambda f: f)
    assert feed.models["m"].dirty == {}
    assert feed.models["m"].labels == {HOUR: {0: Stale(1, 9 * HOUR)}}
    feed = clear(state, {"m": Done(labels={HOUR: {0: 1}})}, 9 * HOUR)
    assert feed.models["m"].labels == {DAY: {0: Stale(2, 0)}}, "the day is not over"
    assert feed.models["m"].pending == {}


def test_an_hour_whose_labels_were_summarised_is_stored_even_if_more_come_soon(state: DocumentStore) -> None:
    """Else the labels of all models' last hour would be counted again at each tick until the next hour."""
    labelled = Changes({}, {}, labelled={"m": {5 * M}})
    young = update_feed(state, lambda f: absorb(f, labelled, HOUR + 5 * M, by_default)).models["m"]
    assert young.labels == {HOUR: {0: Stale(1, 0)}}
    assert young.missing(PartName.LABELS)(HOUR, 0), "it may never have been summarised"
    made = clear(state, {"m": Done(labels={HOUR: {0: 1}})}, HOUR + 6 * M).models["m"]
    assert made.labels_made == {HOUR: 0}
    again = update_feed(state, lambda f: absorb(f, labelled, HOUR + 7 * M, by_default)).models["m"]
    assert again.labels[HOUR] == {0: Stale(3, HOUR + 7 * M)}
    assert not again.missing(PartName.LABELS)(HOUR, 0)
    next_hour = Changes({}, {}, labelled={"m": {HOUR + M}})
    other = update_feed(state, lambda f: absorb(f, next_hour, HOUR + 8 * M, by_default)).models["m"]
    assert other.labels[HOUR][HOUR] == Stale(4, 0), "what was summarised says nothing of another hour"


stales = st.builds(Stale, st.integers(1, 9), st.sampled_from([0, 7 * HOUR, 7 * HOUR + 3 * M, 9 * HOUR]))


@given(
    st.dictionaries(
        st.sampled_from([HOUR, DAY]), st.dictionaries(st.integers(0, 60), stales, min_size=1), max_size=2
    )
)
def test_labels_that_wait_survive_being_stored(given_labels: dict[Millis, dict[int, Stale]]) -> None:
    labels = {tier: {b * tier: stale for b, stale in held.items()} for tier, held in given_labels.items()}
    model = ModelFeed(M, 0, DAY, labels=labels, labels_made={HOUR: 3 * HOUR}, label_changes=((3, 5 * M),))
    feed = Feed(models={"m": model})
    assert Feed.decode(feed.encode()) == feed


def test_labels_that_trickle_in_are_a_few_small_numbers_each() -> None:
    """3 kB a model, as they were, made 1.5 MB of 500 models, stored several times a tick."""
    now = 20_000 * DAY
    held = {now - i * HOUR: Stale(900_000 - i % 7, now - i * 97_000) for i in range(1, 81)}
    model = ModelFeed(M, now - 10 * DAY, now, labels={HOUR: held})
    text = orjson.dumps(Feed(models={"m": replace(model, labels={HOUR: held})}).encode())
    assert len(text) < 1_500
    year = {HOUR: dict.fromkeys(range(0, 365 * DAY, HOUR), Stale(1, 5 * DAY))}
    assert len(orjson.dumps(Feed(models={"m": replace(model, labels=year)}).encode())) < 250


def test_labels_as_an_earlier_kedge_stored_them_are_read() -> None:
    said = Feed(models={"m": ModelFeed(M, 0, DAY)}).encode()
    said["models"]["m"]["labels"] = {str(HOUR): [[0, 2, 7, 99_000], [5 * HOUR, 1, 8, 0]]}
    assert Feed.decode(said).models["m"].labels == {
        HOUR: {0: Stale(7, 99_000), HOUR: Stale(7, 99_000), 5 * HOUR: Stale(8, 0)}
    }


def test_what_a_worker_remembers_of_the_feed_is_what_is_stored_whoever_stored_it(
    state: DocumentStore,
) -> None:
    mine, other = FeedMemory(), FeedMemory()
    both = Changes({"at": 1}, {"a": {0}, "b": {0}})
    update_feed(state, lambda f: absorb(f, both, 5 * M, by_default), mine)
    before = load_feed(state, mine)
    update_feed(state, lambda f: absorb(f, changes(M, model="a"), 6 * M, by_default), other)
    after = load_feed(state, mine)
    assert after == load_feed(state)
    assert after.models["a"].dirty == {0: 1, M: 2}
    assert after.models["b"] is before.models["b"], "decoded once"


def test_clearing_or_marking_a_model_that_is_not_known_changes_nothing(state: DocumentStore) -> None:
    assert clear(state, {"m": Done({0: 1})}, 0).models == {}
    assert mark_dirty(state, "m", Window(0, DAY)).models == {}


def test_marking_a_window_reaches_no_further_than_the_logs(state: DocumentStore) -> None:
    update_feed(state, lambda f: absorb(f, changes(2 * M, 4 * M), 9 * M, by_default))
    clear(state, {"m": Done({2 * M: 1, 4 * M: 1})}, 9 * M)
    feed = adopt(state, {"m": ("all", Window(0, DAY))})
    assert sorted(feed.models["m"].history) == [2 * M, 3 * M, 4 * M]
    assert feed.models["m"].dirty == {}
    assert feed.models["m"].computed == "all"


def test_runs_are_neighbours_newest_first_and_cut_to_length() -> None:
    buckets = [0, M, 2 * M, 5 * M, 7 * M, 8 * M]
    assert runs_of(buckets, M, 2) == [
        Window(7 * M, 9 * M),
        Window(5 * M, 6 * M),
        Window(2 * M, 3 * M),
        Window(0, 2 * M),
    ]


def test_a_window_is_incomplete_while_one_of_its_buckets_is_dirty() -> None:
    model = ModelFeed(M, 0, 9 * M, {3 * M: 1})
    assert model.incomplete_in(Window(0, 4 * M))
    assert not model.incomplete_in(Window(0, 3 * M))
    assert not model.incomplete_in(Window(4 * M, 9 * M))


def test_history_that_is_to_be_computed_anew_holds_up_only_what_reads_cells() -> None:
    model = ModelFeed(M, 0, 9 * M, history={3 * M: 1})
    assert not model.incomplete_in(Window(0, 9 * M), frozenset({PartName.CORE}))
    assert model.incomplete_in(Window(0, 9 * M), frozenset({PartName.CORE, PartName.CELLS}))


def test_a_day_without_its_labels_yet_does_not_take_its_first_hour_for_missing() -> None:
    open_day = ModelFeed(M, 0, DAY, labels={DAY: {0: Stale(3, 0)}})
    assert open_day.missing(PartName.LABELS)(DAY, 0)
    assert not open_day.missing(PartName.LABELS)(HOUR, 0)
    open_hour = ModelFeed(M, 0, DAY, labels={HOUR: {HOUR: Stale(3, 0)}})
    assert open_hour.missing(PartName.LABELS)(HOUR, HOUR)
    assert open_hour.missing(PartName.LABELS)(DAY, 0)
    assert not open_hour.missing(PartName.LABELS)(HOUR, 0)


def test_what_is_sealed_is_given_up_and_counted_by_the_hour() -> None:
    model = ModelFeed(
        M,
        0,
        DAY,
        {0: 1, M: 1, 3 * HOUR: 1},
        history={2 * M: 1, 5 * HOUR: 2},
        pending={HOUR: {0: 1}},
        labels={HOUR: {0: Stale(1, 0), HOUR: Stale(1, 0), 4 * HOUR: Stale(2, 0)}, DAY: {0: Stale(1, 0)}},
    )
    kept, given_up = without_sealed(Feed(models={"m": model}), 3 * HOUR)
    assert given_up == 2
    assert kept.models["m"].dirty == {3 * HOUR: 1}
    assert kept.models["m"].history == {5 * HOUR: 2}
    assert kept.models["m"].labels == {HOUR: {4 * HOUR: Stale(2, 0)}, DAY: {0: Stale(1, 0)}}
    assert kept.models["m"].pending == {HOUR: {0: 1}}, "sums are made of summaries, which stay"
    assert without_sealed(kept, 0) == (kept, 0)


def test_labels_that_were_counted_stand_up_to_the_earliest_that_changed_since() -> None:
    def told(*minutes: Millis) -> Changes:
        return Changes({}, {}, labelled={"m": set(minutes)})

    feed = absorb(Feed(), told(50 * M, 70 * M), 2 * HOUR, by_default)
    counted_at = feed.mark
    feed = absorb(feed, told(90 * M, 60 * M), 2 * HOUR, by_default)
    feed = absorb(feed, told(80 * M), 2 * HOUR, by_default)
    assert feed.models["m"].labels_stand_until(counted_at) == 60 * M
    assert feed.models["m"].labels_stand_until(counted_at + 1) == 80 * M
    assert feed.models["m"].labels_stand_until(feed.mark) is None
    for _ in range(9):
        feed = absorb(feed, told(100 * M), 2 * HOUR, by_default)
    assert feed.models["m"].labels_stand_until(counted_at) == 0, "what is not remembered may have changed all"
    assert Feed.decode(feed.encode()) == feed
