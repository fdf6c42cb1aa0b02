"""The rows behind a finding of data quality, from the log to the answer of the API."""

import json
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.query import metric_series
from kedge.pipeline.schema import features_of
from kedge.store.flaws import Problem
from kedge.web.api import api, install_errors
from kedge.windows import HOUR, Window, iso
from tests.pipeline.world import T0, World, world

MODEL = "shops"
USUAL: list[dict[str, object]] = [{"shop": "ab"[i % 2], "age": 20 + i % 50} for i in range(300)]
BAD: list[dict[str, object]] = [
    *({"shop": "new", "age": 30} for _ in range(6)),
    *({"shop": f"typo {i}", "age": 99} for i in range(2)),
    *({"shop": "a"} for _ in range(5)),
    *({"shop": "a", "age": "forty"} for _ in range(4)),
    {"shop": 7, "age": 10},
    *({"shop": "b", "age": 40} for _ in range(250)),
]


@pytest.fixture(scope="module")
def one() -> Iterator[World]:
    """An hour of usual rows, which are the baseline, and one with bad values among them."""
    with world() as made:
        for hour, features in enumerate((USUAL, BAD)):
            start = T0 + hour * HOUR
            rows = [
                {"model": MODEL, "id": f"{hour}-{i}", "timestamp": iso(start + i * 500), "features": held}
                for i, held in enumerate(features)
            ]
            made.now = max(made.now, start + HOUR)
            assert made.service.predictions(json.dumps(rows).encode()).accepted == len(rows)
        made.drain(T0 + 3 * HOUR)
        known = features_of(made.store.state, MODEL)
        first = Window(T0, T0 + HOUR)
        base = build_baseline(made.store, MODEL, first, known, [()], source="usual", now=made.now)
        import_baseline(made.store.state, base, use=True)
        made.drain(T0 + 4 * HOUR)
        yield made


@pytest.fixture(scope="module")
def client(one: World) -> TestClient:
    app = FastAPI()
    app.include_router(api(one.pipe, lambda: one.now, lambda: None))
    install_errors(app)
    return TestClient(app)


def asked(client: TestClient, feature: str, problem: str, **more: object) -> dict:
    params = {
        "feature": feature,
        "problem": problem,
        "from": iso(T0 + HOUR),
        "to": iso(T0 + 2 * HOUR),
        **more,
    }
    answer = client.get(f"/v1/models/{MODEL}/examples", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("feature", "problem", "values"),
    [
        ("shop", "unseen", [("new", 6), ("typo 0", 1), ("typo 1", 1)]),
        ("shop", "invalid", [(7.0, 1)]),
        ("age", "missing", []),
        ("age", "invalid", [("forty", 4)]),
        ("age", "out_of_range", [(99.0, 2), (10.0, 1)]),
        ("shop", "missing", []),
    ],
)
def test_the_rows_are_as_many_as_the_metric_says(
    one: World, client: TestClient, feature: str, problem: str, values: list[tuple[object, int]]
) -> None:
    found = asked(client, feature, problem)
    assert [(v["value"], v["rows"]) for v in found["values"]] == values
    [row] = [
        row
        for row in metric_series(
            one.pipe, MODEL, names=[f"quality.{problem}"], width=HOUR, start=T0 + HOUR, now=one.now
        )
        if row["labels"] == {"feature": feature}
    ]
    assert found["of"] == len(found["examples"]) == round(row["value"] * row["n"])


def test_fewer_are_shown_than_are_counted(client: TestClient) -> None:
    found = asked(client, "shop", "unseen", limit=2)
    assert (len(found["examples"]), found["of"]) == (2, 8)
    assert [d["features"]["cat"]["shop"] for d in found["examples"]] == ["typo 1", "typo 0"]


@pytest.mark.parametrize(
    ("feature", "problem", "reason"),
    [
        (
            "shop",
            "weird",
            f'unknown problem "weird" (known: {", ".join(Problem)})',
        ),
        ("age", "duplicate", "duplicate is of no feature"),
        (None, "missing", "name the feature that is meant"),
        ("age", "cell", "name the cell that is meant"),
        ("shoe", "missing", 'model shops has no feature "shoe" there'),
        ("age", "unseen", "age is numeric: unseen is not for it"),
        ("shop", "out_of_range", "shop is categorical: out_of_range is not for it"),
    ],
)
def test_what_cannot_be_looked_up_is_refused(
    client: TestClient, feature: str | None, problem: str, reason: str
) -> None:
    asked = {"feature": feature, "problem": problem, "from": iso(T0), "to": iso(T0 + HOUR)}
    params = {name: value for name, value in asked.items() if value is not None}
    answer = client.get(f"/v1/models/{MODEL}/examples", params=params)
    assert (answer.status_code, answer.json()["error"]) == (400, reason)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"problem": "missing", "cell": "a"}, "missing is of no cell"),
        (
            {"problem": "cell", "cell": "c"},
            'the baseline has no cell "c" of shop (it may be another one by now)',
        ),
        ({"problem": "cell", "cell": "unseen"}, 'the baseline has no cell "unseen" of shop (it may be'),
        ({"problem": "missing", "group": "country=DE"}, '"country=DE" is not a group (write DIMENSION=VALUE'),
    ],
)
def test_a_cell_or_group_that_cannot_be_is_refused(
    client: TestClient, more: dict[str, str], reason: str
) -> None:
    params = {"feature": "shop", "from": iso(T0), "to": iso(T0 + HOUR), **more}
    answer = client.get(f"/v1/models/{MODEL}/examples", params=params)
    assert (answer.status_code, answer.json()["error"][: len(reason)]) == (400, reason)


def test_rows_of_a_cell_are_those_with_its_value(client: TestClient) -> None:
    assert asked(client, "shop", "cell", cell="a")["values"] == [{"value": "a", "rows": 9}]
    assert asked(client, "shop", "cell", cell="b")["of"] == 250


def test_a_group_that_was_counted_as_other_is_left_open(client: TestClient) -> None:
    assert asked(client, "shop", "unseen", group="version=(other)")["of"] == 8
    assert asked(client, "shop", "unseen", group="version=v9")["of"] == 0
