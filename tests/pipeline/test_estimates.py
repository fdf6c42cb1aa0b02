"""Estimates without labels through the pipeline: a baseline remembers errors, and a series shows both."""

import json

import numpy as np
import pytest

from kedge.analysis.measure import metric
from kedge.config import ModelSettings
from kedge.pipeline.baselines import build_baseline, decode_baseline, encode_baseline, import_baseline
from kedge.pipeline.measure import context_for
from kedge.pipeline.query import metric_series
from kedge.pipeline.schema import Features, features_of
from kedge.records import Label, Prediction
from kedge.sketch import Labels, PartName, Summary
from kedge.store.base import SummaryRequest
from kedge.store.duckdb import open_duckdb
from kedge.windows import DAY, HOUR, MINUTE, Window
from tests.pipeline.world import MODEL, T0, prediction, truth, world

FIRST, SECOND = Window(T0, T0 + DAY), Window(T0 + DAY, T0 + 2 * DAY)
NOTHING = Features((), (), ())


def regression(n, start, labelled):
    generator = np.random.default_rng(n)
    for i, value in enumerate(generator.normal(20, 5, n).tolist()):
        error = float(generator.normal(0, value / 10))
        label = Label(id=f"{start}-{i}", timestamp=start + DAY, ingested=0, value=value + error)
        yield Prediction(
            id=f"{start}-{i}",
            timestamp=start + i * DAY // n,
            ingested=0,
            model="m",
            value=value,
            label=label if i % 100 < labelled else None,
        )


def test_a_baseline_remembers_the_errors_of_a_regression_and_old_ones_say_that_they_do_not():
    store = open_duckdb(":memory:")
    store.setup()
    store.append([*regression(2_000, T0, 80), *regression(1_000, T0 + DAY, 0)])
    made = build_baseline(store, "m", FIRST, NOTHING, ((),), source="test", now=T0)
    assert made.value_errors is not None
    assert sum(m.n for m in made.value_errors) == 1_600
    document = json.loads(json.dumps(encode_baseline(made)))
    assert decode_baseline(document) == made

    request = SummaryRequest("m", SECOND, DAY, frozenset(PartName), edges=made.edges)
    parts = {row.key.part.value: row.part for row in store.summarise(request)}
    window = Summary(parts["core"], parts["cells"], Labels())
    found = metric("estimated.mae", window, context_for(ModelSettings(), made, (), DAY))
    true = float(np.mean([abs(r.value - r.label.value) for r in regression(1_000, T0 + DAY, 100)]))
    assert found.interval[0] <= true <= found.interval[1]
    assert (
        metric("performance.mae", window, context_for(ModelSettings(), made, (), DAY)).reason
        == "no labels yet"
    )

    del document["value"]
    old = decode_baseline(document)
    assert old.edges.hash != made.edges.hash
    told = metric("estimated.mae", window, context_for(ModelSettings(), old, (), DAY))
    assert told.reason == "the baseline has no errors by prediction cell: create it anew"
    store.close()


def told(rows):
    """Labels an hour later, of which a tenth say that the prediction was wrong."""
    return [truth(row.id, row.timestamp + HOUR, right=i % 10 > 0) for i, row in enumerate(rows)]


def test_a_series_shows_the_estimate_at_once_and_the_realised_value_beside_it_when_it_comes():
    names = ["estimated.accuracy", "performance.accuracy"]
    with world() as one:
        one.send([prediction(i, T0 + i * MINUTE) for i in range(2 * 24 * 60)])
        first = [row for row in one.rows.values() if row.timestamp < T0 + DAY]
        one.label(told(first))
        features = features_of(one.store.state, MODEL)
        baseline = build_baseline(one.store, MODEL, FIRST, features, ((),), source="first", now=T0 + DAY)
        import_baseline(one.store.state, baseline, use=True)
        one.drain(T0 + 2 * DAY + HOUR)

        def shown():
            rows = metric_series(one.pipe, MODEL, names=names, start=T0 + DAY, end=T0 + 2 * DAY, now=one.now)
            return {row["metric"]: row for row in rows}

        before = shown()
        assert before["performance.accuracy"]["value"] is None
        assert before["estimated.accuracy"]["value"] is not None
        assert before["estimated.accuracy"]["reason"] is None
        second = [row for row in one.rows.values() if row.timestamp >= T0 + DAY]
        one.label(told(second))
        one.drain(T0 + 3 * DAY)
        after = shown()
        estimate, realised = (after[name] for name in names)
        assert estimate["value"] == before["estimated.accuracy"]["value"]
        assert 0.85 < realised["value"] < 0.95
        assert realised["value"] == pytest.approx(estimate["value"], abs=4 * estimate["stderr"])
