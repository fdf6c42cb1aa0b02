"""Labels in the pipeline: those that wait are joined, and what is said of how late they come."""

from collections.abc import Iterator
from functools import partial

import pytest

from kedge.pipeline.query import metric_series
from kedge.windows import DAY, HOUR, SECOND
from tests.pipeline.world import MODEL, T0, World, prediction, truth, world


@pytest.fixture
def one() -> Iterator[World]:
    with world() as made:
        yield made


def test_a_drain_goes_on_until_no_waiting_label_is_left(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [prediction(i, T0 + i * SECOND) for i in range(25)]
    one.label([truth(row.id, T0) for row in rows])
    one.send(rows)
    monkeypatch.setattr(one.store, "join_pending", partial(one.store.join_pending, limit=10))
    reports = one.drain(T0 + 2 * HOUR)
    assert [r.labels.joined for r in reports][:4] == [10, 10, 5, 0][: len(reports)]
    assert reports[-1].labels.waiting == 0
    found = metric_series(one.pipe, MODEL, names=["performance.accuracy"], width=DAY, now=one.now)
    assert [row["n"] for row in found] == [25]
