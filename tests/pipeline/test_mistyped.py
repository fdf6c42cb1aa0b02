"""A value of the wrong type costs its feature, never its row: from the gateway to the metric."""

import json
import random
from collections.abc import Iterator

import pytest

from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.query import metric_series
from kedge.windows import DAY, HOUR, Millis, Window, iso
from tests.pipeline.world import T0, World, world

MODEL = "mistyped"
DAYS = Window(T0 - T0 % DAY, T0 - T0 % DAY + 3 * DAY)


@pytest.fixture
def one() -> Iterator[World]:
    with world() as made:
        yield made


def log(one: World, start: Millis, values: list[object], feature: str = "x") -> None:
    """Log rows half a second apart, through the gateway's own decoding."""
    one.now = max(one.now, start + HOUR)
    rows = [
        {
            "model": MODEL,
            "id": f"{start}-{i}",
            "timestamp": iso(start + i * 500),
            "features": {feature: v, "y": 1.5},
        }
        for i, v in enumerate(values)
    ]
    answer = one.service.predictions(json.dumps(rows).encode())
    assert (answer.accepted, answer.rejected) == (len(values), 0)


def value(one: World, metric: str, start: Millis, feature: str = "x") -> tuple[float, int]:
    """A metric of the hour that begins there."""
    [row] = [
        row
        for row in metric_series(
            one.pipe, MODEL, names=[metric], width=HOUR, start=start, end=start + HOUR, now=one.now
        )
        if row["labels"] == {"feature": feature}
    ]
    return row["value"], row["n"]


def test_a_text_among_numbers_is_counted_as_invalid_and_drift_goes_on(one: World) -> None:
    dice = random.Random(7)
    usual: list[object] = [dice.gauss(10, 2) for _ in range(1_000)]
    log(one, T0, usual)
    one.drain(T0 + 2 * HOUR)
    baseline = build_baseline(
        one.store,
        MODEL,
        Window(T0, T0 + HOUR),
        one.service.schema(MODEL),
        [()],
        source="test",
        now=one.now,
    )
    import_baseline(one.store.state, baseline, use=True)

    log(one, T0 + 3 * HOUR, [*(dice.gauss(10, 2) for _ in range(999)), "oops"])
    log(one, T0 + 5 * HOUR, [*(dice.gauss(16, 2) for _ in range(998)), "oops", True])
    one.drain(T0 + 9 * HOUR)
    assert value(one, "quality.invalid", T0) == (0.0, 1_000)
    assert value(one, "quality.invalid", T0 + 3 * HOUR) == (0.001, 1_000)
    assert value(one, "quality.invalid", T0 + 5 * HOUR) == (0.002, 1_000)
    assert value(one, "quality.missing", T0 + 5 * HOUR) == (0.0, 1_000)
    still, _ = value(one, "drift.psi", T0 + 3 * HOUR)
    moved, _ = value(one, "drift.psi", T0 + 5 * HOUR)
    assert still < 0.1 < 1 < moved
    assert value(one, "quality.invalid", T0 + 5 * HOUR, "y") == (0.0, 1_000)  # its neighbour
    assert len(one.store.examples(MODEL, DAYS, 5_000)) == 3_000


def test_without_a_baseline_a_feature_is_of_the_kind_that_most_of_its_values_have(one: World) -> None:
    """So a wrong value that happened to come first decides nothing."""
    log(one, T0, ["oops", *(float(i) for i in range(999))])
    one.drain(T0 + 2 * HOUR)
    assert value(one, "quality.invalid", T0) == (0.001, 1_000)


def test_a_value_that_is_neither_is_invalid_as_well(one: World) -> None:
    log(one, T0, [*(float(i) for i in range(999)), {"nested": 1}])
    one.drain(T0 + 2 * HOUR)
    assert value(one, "quality.invalid", T0) == (0.001, 1_000)
