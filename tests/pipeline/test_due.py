"""What is due at a tier, and what may wait: pure decisions over the dirty set."""

from dataclasses import replace

import pytest

from kedge.config import ModelSettings
from kedge.pipeline.dirty import Dirty, ModelFeed, Stale
from kedge.pipeline.due import (
    LABELS_WAIT,
    Plan,
    Run,
    batches,
    has_turn,
    labels_due,
    runs_at,
)
from kedge.pipeline.models import ModelState
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window

M = MINUTE
NOW = 100 * DAY


def plan(base: Millis = M, *, floors: dict[Millis, Millis] | None = None, **feed: object) -> Plan:
    state = ModelState(ModelSettings.model_validate({}))
    known = ModelFeed(base, 0, NOW, **feed)  # type: ignore[arg-type]
    return Plan("m", known, state, ((),), 1, floors or {})


def runs(given: Plan, tier: Millis, now: Millis = NOW, *, patient: bool = False) -> list[Run]:
    return runs_at(given, tier, now, patient=patient)


def windows(found: list[Run]) -> list[Window]:
    return [run.window for run in found]


def test_a_bucket_is_due_once_its_lag_is_over() -> None:
    given = plan(dirty={0: 1, M: 1})
    assert runs(given, M, 2 * M - 1) == []
    assert windows(runs(given, M, 2 * M)) == [Window(0, M)]
    assert windows(runs(given, M, 3 * M)) == [Window(0, 2 * M)]


def test_an_hour_is_rolled_up_once_it_is_over_and_all_its_minutes_are_counted() -> None:
    counted = plan(pending={HOUR: {0: 4}})
    assert runs(counted, HOUR, HOUR) == []
    (run,) = runs(counted, HOUR, HOUR + M)
    assert (run.rows, run.labels, run.counted) == (True, False, False)
    assert run.done.pending[HOUR] == {0: 4}
    assert runs(plan(pending={HOUR: {0: 4}}, dirty={30 * M: 5}), HOUR, 2 * HOUR) == []
    assert runs(plan(pending={HOUR: {0: 4}}, history={30 * M: 5}), HOUR, 2 * HOUR) == []
    assert runs(plan(pending={HOUR: {0: 4}, DAY: {0: 3}}), DAY, 2 * DAY) == []


def test_labels_make_their_hour_due_and_nothing_of_its_rows() -> None:
    given = plan(labels={HOUR: {0: Stale(7, HOUR)}})
    assert runs(given, M) == []
    (run,) = runs(given, HOUR)
    assert (run.rows, run.labels) == (False, True)
    assert run.done.labels == {HOUR: {0: 7}}


def test_neighbours_that_are_made_in_different_ways_are_different_runs() -> None:
    given = plan(
        pending={HOUR: {0: 1, HOUR: 1}}, labels={HOUR: {HOUR: Stale(2, HOUR), 2 * HOUR: Stale(2, HOUR)}}
    )
    found = {run.window: (run.rows, run.labels) for run in runs(given, HOUR)}
    assert found == {
        Window(0, HOUR): (True, False),
        Window(HOUR, 2 * HOUR): (True, True),
        Window(2 * HOUR, 3 * HOUR): (False, True),
    }


@pytest.mark.parametrize(
    ("age", "waited", "due"),
    [
        (2 * HOUR, LABELS_WAIT - 1, False),
        (2 * HOUR, LABELS_WAIT, True),
        (DAY, 59 * M, False),
        (DAY, HOUR, True),
        (30 * DAY, 29 * HOUR, False),
        (30 * DAY, 30 * HOUR, True),
    ],
)
def test_under_load_labels_wait_five_minutes_or_a_24th_of_their_buckets_age(
    age: Millis, waited: Millis, due: bool
) -> None:
    given = plan(labels={HOUR: {NOW - age: Stale(1, NOW - waited)}})
    assert bool(labels_due(given, HOUR, NOW, patient=True)) is due
    assert labels_due(given, HOUR, NOW, patient=False), "nobody waits where there is no load"


def test_models_whose_labels_came_together_take_turns_and_none_is_late() -> None:
    """500 models with labels of all hours of three days at every minute: an hour of ticks."""
    start = NOW + 30 * M
    hours = range(NOW - 3 * DAY, NOW - HOUR, HOUR)
    models = {f"model-{i}": dict.fromkeys(hours, Stale(1, start)) for i in range(100)}
    searches = []
    for now in range(start + M, start + HOUR, M):
        searches.append(0)
        for name, held in models.items():
            one = replace(plan(labels={HOUR: held}), model=name, turn=has_turn(name, now))
            found = runs(one, HOUR, now, patient=True)
            searches[-1] += len(found)
            for bucket in (b for run in found for b in run.done.labels[HOUR]):
                held[bucket] = Stale(1, now)
            late = [b for b, s in held.items() if now - s.since >= max(LABELS_WAIT, (now - b) // 24)]
            assert not late
    assert min(searches[1:10]) > 0, "some at every tick"
    assert max(searches[:10]) < 50, "and never all"
    assert max(searches) <= 100, "one a model at most"


def test_labels_of_an_hour_that_is_just_over_never_wait() -> None:
    given = plan(labels={HOUR: {NOW - 2 * HOUR: Stale(1, 0)}})
    assert labels_due(given, HOUR, NOW, patient=True)


def test_what_is_older_than_its_tier_keeps_is_counted_at_the_next_one() -> None:
    old: Dirty = {NOW - 10 * DAY + i * M: 1 for i in range(90)}
    given = plan(floors={M: NOW - 8 * DAY}, dirty=old | {NOW - DAY: 2})
    assert windows(runs(given, M)) == [Window(NOW - DAY, NOW - DAY + M)]
    (run,) = runs(given, HOUR)
    assert run.counted
    assert run.window == Window(NOW - 10 * DAY, NOW - 10 * DAY + 2 * HOUR)
    assert run.done.rows == old
    assert run.done.tier == HOUR


def test_years_ago_are_counted_as_days_labels_and_all() -> None:
    then = NOW - 90 * DAY
    given = plan(
        floors={M: NOW - 8 * DAY, HOUR: NOW - 60 * DAY},
        dirty={then: 1, then + 5 * HOUR: 1},
        labels={HOUR: {then: Stale(3, NOW)}},
    )
    assert runs(given, M) == runs(given, HOUR) == []
    (run,) = runs(given, DAY)
    assert (run.rows, run.labels, run.counted) == (True, True, True)
    assert run.done.labels == {HOUR: {then: 3}}


def test_batches_are_cut_by_runs_and_by_buckets() -> None:
    found = runs(plan(dirty={i * 2 * M: 1 for i in range(5)}), M)
    assert [len(batch) for batch in batches(found, 2, 100)] == [2, 2, 1]
    assert [len(batch) for batch in batches(found, 100, 3)] == [3, 2]
