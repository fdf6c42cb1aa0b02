"""A message leads to the rows behind its finding: its link is opened as a reader would, and shows them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
import uvicorn
from fastapi import FastAPI

from kedge.alerting.loading import parse_rules
from kedge.notify.base import Message
from kedge.notify.message import Links
from kedge.notify.receivers import Receivers
from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.schema import features_of
from kedge.records import Prediction
from kedge.store.duckdb import open_duckdb
from kedge.store.elastic import open_elastic
from kedge.web.api import api, install_errors
from kedge.windows import HOUR, MINUTE, SECOND, Window
from tests.pipeline.world import MODEL, T0, World, prediction, world
from tests.support.servers import remove_all

RULES = """
version: 1
defaults: {model: fraud, window: 1h}
rules:
  - {name: unknown, metric: quality.unseen, by: [feature, segment.region], above: 5%, version: serving}
  - {name: outside, metric: quality.out_of_range, feature: amount, above: 5%}
  - {name: lacking, metric: quality.missing, feature: country, above: 5%}
  - {name: frozen, metric: quality.constant, feature: day, above: 0.5}
  - {name: shifted, kind: drift, by: [feature], severity: medium}
  - {name: sent-twice, metric: quality.duplicates, above: 5%}
  - {name: clock, metric: quality.time_skew, above: 0.1%, evidence: point}
  - {name: fewer, metric: errors.rate, compare: {to: baseline}, rise: 10pp}
"""
ROWS = 600
"""An hour."""


TWICE = range(0, ROWS, 10)
"""Rows of the second hour that come again."""


def row(hour: int, i: int) -> Prediction:
    """The first hour is as usual; in the second much is wrong, in one region more than in the other."""
    plain = prediction(hour * ROWS + i, T0 + hour * HOUR + i * 6 * SECOND)
    features: dict[str, Any] = {"amount": float(i % 50), "day": float(i % 7)}
    cat = {"country": ("de", "fr", "it")[i % 3], "plan": ("free", "paid")[i % 2]}
    version = plain.version
    if hour:
        features |= {"amount": 99.0 if i % 4 == 0 else features["amount"], "day": 3.0}
        if i % 5 == 0:
            del cat["country"]
        elif plain.segment["region"] == "us":
            cat["country"] = f"typo {i % 2}"
        cat["plan"] = "paid" if i % 10 else "free"
    failed = "Timeout" if i % 3 == 0 and hour else None
    return msgspec.structs.replace(plain, num=features, cat=cat, version=version, error_type=failed)


@contextmanager
def served(one: World) -> Iterator[str]:
    """The API of a world on a port of its own."""
    app = FastAPI()
    app.include_router(api(one.pipe, lambda: one.now, lambda: None))
    install_errors(app)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module", params=["duckdb", "elasticsearch", "opensearch"])
def one(request: pytest.FixtureRequest) -> Iterator[World]:
    """Two hours of rows, of the first of which a baseline was made before the second was judged."""
    prefix, url = f"kedge-links-{uuid4().hex[:10]}", ""
    if request.param == "duckdb":
        opened = {"open_store": lambda clock: open_duckdb(":memory:", clock=clock)}
    else:
        url = request.getfixturevalue(f"{request.param}_url")
        opened = {"open_store": lambda clock: open_elastic(url, prefix=prefix, clock=clock)}
    try:
        with world(book=parse_rules(RULES), **opened) as made, served(made) as address:
            links = Links(dashboard=f"{address}/v1")
            made.pipe = replace(
                made.pipe, receivers=Receivers({"notebook": made.notebook}, "notebook", links)
            )
            made.send([row(0, i) for i in range(ROWS)])
            made.drain(T0 + HOUR + 5 * 60 * SECOND)
            known, first = features_of(made.store.state, MODEL), Window(T0, T0 + HOUR)
            groupings = [(), ("segment.region", "version"), ("version",)]
            base = build_baseline(made.store, MODEL, first, known, groupings, source="usual", now=made.now)
            import_baseline(made.store.state, base, use=True)
            made.send([row(1, i) for i in range(ROWS)])
            made.service.store_predictions([row(1, i) for i in TWICE])
            made.service.finish()
            made.drain(T0 + 2 * HOUR + 5 * 60 * SECOND)
            yield made
    finally:
        if url:
            remove_all(url, prefix)


def opened(one: World, rule: str, **labels: str) -> dict[str, Any]:
    """What the link of the newest message of an alert shows."""
    address = link(one, rule, **labels)
    answer = httpx.get(address, timeout=60)
    assert answer.status_code == 200, f"{address}: {answer.text}"
    return answer.json()


def link(one: World, rule: str, **labels: str) -> str:
    message = newest(one, rule, **labels)
    (found,) = [link.url for link in message.links if link.text == "Example rows"]
    return found


def newest(one: World, rule: str, **labels: str) -> Message:
    ids = {
        t["id"]
        for t in one.events()
        if t["rule"] == rule and labels.items() <= {**t["group"], "version": t["version"]}.items()
    }
    return [m for m in one.notebook.messages if m.transition in ids][-1]


def expected(one: World, rule: str, wanted: Callable[[Prediction], bool], **labels: str) -> set[str]:
    """The rows of the finding's window that are meant."""
    message = newest(one, rule, **labels)
    (event,) = [t for t in one.events() if t["id"] == message.transition]
    start, end = event["finding"]["window"]
    return {r.id for r in one.rows.values() if start <= r.timestamp < end and wanted(r)}


def ids(shown: dict[str, Any]) -> set[str]:
    """Of the rows shown, which are the newest of those counted."""
    return {document["event"]["id"] for document in shown["examples"]}


@pytest.mark.parametrize(
    ("rule", "labels", "wanted"),
    [
        (
            "unknown",
            {"feature": "country", "segment.region": "us", "version": "v1"},
            lambda r: (
                r.segment["region"] == "us" and r.version == "v1" and "typo" in r.cat.get("country", "")
            ),
        ),
        ("outside", {}, lambda r: not 0 <= r.num["amount"] < 50),
        ("lacking", {}, lambda r: "country" not in r.cat),
        ("frozen", {}, lambda r: "day" in r.num),
        ("shifted", {"feature": "plan"}, lambda r: r.cat["plan"] == "paid"),
        ("shifted", {"feature": "day"}, lambda r: r.num["day"] == 3.0),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_link_of_a_message_shows_the_rows_behind_its_finding(
    one: World, rule: str, labels: dict[str, str], wanted: Callable[[Prediction], bool]
) -> None:
    rows = expected(one, rule, wanted, **labels)
    shown = opened(one, rule, **labels)
    assert rows
    assert shown["of"] == len(rows)
    assert ids(shown) <= rows
    assert len(shown["examples"]) == min(20, len(rows))
    assert all(document["model"]["name"] == MODEL for document in shown["examples"])


def test_the_link_of_a_message_on_arrivals_shows_some_of_the_rows(one: World) -> None:
    twice = {row(1, i).id for i in TWICE}
    shown = ids(opened(one, "sent-twice"))
    assert len(shown) > 12
    assert shown <= twice
    shown = ids(opened(one, "clock"))
    assert len(shown) > 12
    assert shown <= {r.id for r in one.rows.values() if r.timestamp > T0 + MINUTE}  # a request arrives once
    assert opened(one, "clock")["values"] == []


def test_an_alert_on_something_else_leads_to_the_rows_of_its_first_bad_feature(one: World) -> None:
    address = link(one, "fewer")
    message = newest(one, "fewer")
    cause = next(line for line in message.lines if line.startswith("Moves with it"))
    feature = httpx.URL(address).params["feature"]
    assert feature in cause
    assert opened(one, "fewer")["of"] > 0
