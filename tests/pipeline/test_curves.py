"""The reliability curve as the API gives it: over any span of buckets, by group, beside the baseline."""

import asyncio
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from kedge.errors import BadInput
from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.curves import reliability_rows
from kedge.pipeline.query import metric_series
from kedge.pipeline.schema import features_of
from kedge.records import Prediction
from kedge.web.api import api, install_errors
from kedge.windows import HOUR, MINUTE, Window, iso
from tests.pipeline.world import MODEL, T0, World, prediction, settings, truth, world


@pytest.fixture(scope="module")
def one() -> Iterator[World]:
    """Two hours of rows, each right but every tenth; only looked at."""
    with world(settings=settings(fraud={"positive_class": "fraud", "bucket": "1m"})) as made:
        made.send([prediction(i, T0 + i * MINUTE) for i in range(120)])
        made.label(
            [truth(r.id, r.timestamp + 1_000, right=i % 10 != 0) for i, r in enumerate(made.rows.values())]
        )
        made.drain(T0 + 3 * HOUR)
        yield made


def positive_score(row: Prediction) -> float:
    assert row.probability is not None
    return row.probability if row.cls == "fraud" else 1 - row.probability


def test_a_curve_over_any_buckets_holds_the_rows_that_were_labelled_there(one: World) -> None:
    window = Window(T0 + 20 * MINUTE, T0 + 95 * MINUTE)
    (found,) = reliability_rows(one.pipe, MODEL, start=window.start, end=window.end, bins=10, now=one.now)
    assert (found["window_start"], found["window_end"]) == (iso(window.start), iso(window.end))
    assert (found["of"], found["reason"], found["baseline"]) == ("fraud", None, None)
    rows = [row for row in one.labelled_rows() if row.timestamp in window]
    assert sum(b["n"] for b in found["bins"]) == len(rows)
    fraud = sum(row.label is not None and row.label.cls == "fraud" for row in rows)
    assert sum(b["n"] * b["rate"] for b in found["bins"]) == pytest.approx(fraud)
    mean = np.mean([positive_score(row) for row in rows])
    assert sum(b["n"] * b["score"] for b in found["bins"]) / len(rows) == pytest.approx(mean, abs=0.0051)
    for b in found["bins"]:
        assert b["low"] <= b["score"] < b["high"]
        assert b["interval"][0] - 1e-12 <= b["rate"] <= b["interval"][1] + 1e-12


@pytest.mark.parametrize("by", ["segment.region", "segment.plan", "version"])
def test_groups_add_up_to_the_whole_and_to_the_series(one: World, by: str) -> None:
    """The first is summarised, the others are counted from the logs."""
    groups = reliability_rows(one.pipe, MODEL, by=[by], bins=10, now=one.now)
    (whole,) = reliability_rows(one.pipe, MODEL, bins=10, now=one.now)
    assert sum(b["n"] for g in groups for b in g["bins"]) == sum(b["n"] for b in whole["bins"]) == 120
    series = {
        row["labels"][by]: row["value"]
        for row in metric_series(one.pipe, MODEL, names=["performance.ece"], by=[by], now=one.now)
    }
    for group in groups:
        n = sum(b["n"] for b in group["bins"])
        error = sum(b["n"] * abs(b["score"] - b["rate"]) for b in group["bins"]) / n
        assert series[group["labels"][by]] == pytest.approx(error)


def test_auc_by_group_is_that_of_the_groups_rows(one: World) -> None:
    from sklearn.metrics import roc_auc_score

    for row in metric_series(one.pipe, MODEL, names=["performance.auc"], by=["version"], now=one.now):
        mine = [r for r in one.labelled_rows() if r.version == row["labels"]["version"] and r.label]
        scores = [positive_score(r) for r in mine]
        expected = roc_auc_score([r.label.cls == "fraud" for r in mine if r.label], scores)
        assert row["value"] == pytest.approx(expected, abs=0.01)


def test_windows_whose_labels_are_to_come_are_provisional() -> None:
    with world(settings=settings(fraud={"positive_class": "fraud"})) as one:
        one.send([prediction(i, T0 + i * MINUTE) for i in range(180)])
        rows = list(one.rows.values())
        one.label([truth(r.id, r.timestamp + HOUR) for r in rows[:120]])
        one.label([truth(r.id, r.timestamp + MINUTE) for r in rows[120::6]])
        one.drain(T0 + 3 * HOUR + 2 * MINUTE)
        for name in ("performance.auc", "performance.ece"):
            found = list(metric_series(one.pipe, MODEL, names=[name], width=HOUR, now=one.now))
            assert [row["reason"] for row in found] == [None, None, "provisional"]
        (young,) = reliability_rows(one.pipe, MODEL, start=T0 + 2 * HOUR, bins=10, now=one.now)
        (old,) = reliability_rows(one.pipe, MODEL, end=T0 + 2 * HOUR, bins=10, now=one.now)
        assert (young["reason"], old["reason"]) == ("provisional", None)


def test_the_baselines_curve_stands_beside() -> None:
    with world(settings=settings(fraud={"positive_class": "fraud"})) as one:
        one.send([prediction(i, T0 + i * MINUTE) for i in range(120)])
        one.label([truth(r.id, r.timestamp + 1_000) for r in one.rows.values()])
        one.drain(T0 + 3 * HOUR)
        first = Window(T0, T0 + HOUR)
        base = build_baseline(
            one.store, MODEL, first, features_of(one.store.state, MODEL), [()], source="w", now=one.now
        )
        import_baseline(one.store.state, base, use=True)
        one.drain(T0 + 4 * HOUR)
        (then,) = reliability_rows(one.pipe, MODEL, start=first.start, end=first.end, bins=5, now=one.now)
        (later,) = reliability_rows(one.pipe, MODEL, start=first.end, bins=5, now=one.now)
        assert later["baseline"] == then["bins"]
        assert later["bins"] != then["bins"]


def test_the_route_gives_it_and_refuses_what_cannot_be_answered(one: World) -> None:
    app = FastAPI()
    app.include_router(api(one.pipe, lambda: one.now, lambda: None))
    install_errors(app)

    def get(path: str, **params: str | int) -> httpx.Response:
        async def answer() -> httpx.Response:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.get(path, params=params)

        return asyncio.run(answer())

    asked: dict[str, str | int] = {"from": iso(T0), "to": iso(T0 + HOUR), "by": "version", "bins": 20}
    answer = get(f"/v1/models/{MODEL}/reliability", **asked)
    assert answer.status_code == 200
    assert {row["labels"]["version"] for row in answer.json()} == {"v1", "v2"}
    refused = get(f"/v1/models/{MODEL}/reliability", bins=7)
    assert (refused.status_code, refused.json()["error"]) == (
        400,
        "7 bins: scores are counted in 100 cells, so it must divide 100",
    )
    assert get("/v1/models/nobody/reliability").status_code == 400
    with pytest.raises(BadInput, match="no model"):
        reliability_rows(one.pipe, "nobody", bins=10, now=one.now)
