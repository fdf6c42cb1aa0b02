"""A feature that changes its type under way: the rows are kept, and its quality says so."""

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.query import metric_series
from kedge.pipeline.schema import features_of
from kedge.store.elastic import open_elastic
from kedge.windows import DAY, HOUR, Millis, Window, iso
from tests.pipeline.world import ALL_TIME, MODEL, T0, World, world
from tests.support.servers import remove_all

ROWS = 300
TODAY = T0 + DAY


@pytest.fixture(params=["duckdb", "elasticsearch"])
def one(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "duckdb":
        with world() as made:
            yield made
        return
    url: str = request.getfixturevalue("elasticsearch_url")
    prefix = f"kedge-mistyped-{uuid4().hex[:10]}"
    try:
        with world(open_store=lambda clock: open_elastic(url, prefix=prefix, clock=clock)) as made:
            yield made
    finally:
        remove_all(url, prefix)


def post(one: World, day: Millis, *, amounts: list[object]) -> None:
    """A body of rows over ten hours of a day, one for each amount."""
    one.now = day + 10 * HOUR
    lines = [
        {
            "id": f"{day}-{i}",
            "timestamp": iso(day + i * 10 * HOUR // len(amounts)),
            "model": MODEL,
            "features": {"amount": amount, "country": "DE"},
        }
        for i, amount in enumerate(amounts)
    ]
    answer = one.service.predictions("\n".join(map(json.dumps, lines)).encode(), lines=True)
    assert (answer.accepted, answer.rejected) == (len(amounts), 0)


def test_a_number_that_once_comes_as_text_is_stored_counted_invalid_and_drift_is_still_told(
    one: World,
) -> None:
    post(one, T0, amounts=[i % 50 + 0.5 for i in range(ROWS)])
    one.settle(T0 + 12 * HOUR)
    features = features_of(one.store.state, MODEL)
    past = Window(T0, TODAY)
    baseline = build_baseline(one.store, MODEL, past, features, ((),), source="a day", now=TODAY)
    import_baseline(one.store.state, baseline, use=True)

    shifted: list[object] = [i % 50 + 40.5 for i in range(ROWS)]
    post(one, TODAY, amounts=[*shifted, "n/a"])  # the features are known by now: numbers go by lane
    one.settle(TODAY + 2 * DAY)

    documents = one.store.examples(MODEL, ALL_TIME, 1_000)
    assert len(documents) == 2 * ROWS + 1
    (mistyped,) = [document for document in documents if document["event"]["id"] == f"{TODAY}-{ROWS}"]
    assert mistyped["features"]["cat"] == {"amount": "n/a", "country": "DE"}

    asked = ["quality.invalid", "quality.missing", "drift.effect"]
    found = {
        (row["metric"], row["labels"]["feature"]): row["value"]
        for row in metric_series(one.pipe, MODEL, names=asked, start=TODAY, end=TODAY + DAY, now=one.now)
    }
    assert found["quality.invalid", "amount"] == pytest.approx(1 / (ROWS + 1))
    assert found["quality.invalid", "country"] == 0
    assert found["quality.missing", "amount"] == 0
    assert found["drift.effect", "amount"] > 0.5 > found["drift.effect", "country"]
