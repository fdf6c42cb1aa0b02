"""Set-up over what an older, or a later, kedge has installed."""

import copy
from typing import Any

from kedge.records import Label, Prediction
from kedge.sketch import PartName
from kedge.store.base import Joined, Json, SummaryRequest, Written
from kedge.store.elastic import open_elastic
from kedge.store.elastic.client import Client
from kedge.store.elastic.templates import Templates
from kedge.windows import DAY, HOUR, Window, parse_time
from tests.support.oracle import answer_to, differences

T0 = parse_time("2026-03-02T10:00:00Z")
BOTH = Window(T0 - T0 % DAY, T0 - T0 % DAY + 2 * DAY)


def prediction(i: int, **fields: Any) -> Prediction:
    return Prediction(
        **{
            "id": f"up-{i}",
            "timestamp": T0 + i * HOUR,
            "ingested": T0,
            "model": "up",
            "cls": "a",
            "num": {"x": float(i)},
            **fields,
        }
    )


def of_an_older_kedge(prefix: str) -> Json:
    """The mapping of predictions before rows had a trace, and before labels had what is kept of them now."""
    body = copy.deepcopy(Templates(prefix).component("predictions-mappings").body)
    properties = body["template"]["mappings"]["properties"]
    del properties["trace"]
    for field in set(properties["label"]["properties"]) - {
        "class",
        "value",
        "timestamp",
        "ingested",
        "delay_ms",
    }:
        del properties["label"]["properties"][field]
    return body | {"version": 0, "_meta": {"managed_by": "kedge", "hash": "0123456789abcdef"}}


def test_over_an_older_template_old_rows_are_read_and_labelled_and_new_ones_find_their_fields(
    url: str, client: Client, bare_prefix: str
) -> None:
    store = open_elastic(url, prefix=bare_prefix, clock=lambda: T0)
    store.setup()
    component = f"{bare_prefix}-predictions-mappings"
    client.request("PUT", f"/_component_template/{component}", of_an_older_kedge(bare_prefix))
    old = [prediction(i) for i in range(3)]
    assert {r.written for r in store.append(old)} == {Written.CREATED}
    early = store.append([prediction(9, trace="t")])  # what only a later template has
    assert early[0].written is Written.REJECTED

    [planned] = [check for check in store.setup(dry_run=True) if check.changed]
    assert (planned.name, planned.detail) == (f"component template {component}", "would be updated")
    assert "+ template.mappings.properties.trace.properties.id.type: keyword" in planned.differences
    [done] = [check for check in store.setup() if check.changed]
    assert done.detail == "updated"
    assert not [check for check in store.setup() if check.changed]

    new = [prediction(i, trace=f"trace {i}") for i in (3, 30)]  # the same day, and the next one
    assert {r.written for r in store.append(new)} == {Written.CREATED}
    store.changed({})
    truth = Label(id="up-1", timestamp=T0 + DAY, ingested=T0 + DAY, cls="b")
    assert store.label([truth]) == [Joined.JOINED]
    store.changed({})
    rows = [row if row.id != "up-1" else prediction(1, label=truth) for row in (*old, *new)]
    parts = frozenset({PartName.CORE, PartName.LABELS})
    asked = SummaryRequest("up", BOTH, DAY, parts, numeric=("x",))
    expected, found = answer_to(asked, rows), {r.key: r.part for r in store.summarise(asked)}
    assert found.keys() == expected.keys()
    assert [line for key, part in expected.items() for line in differences(part, found[key])] == []
    store.close()


def test_a_template_of_a_later_kedge_is_left_alone_and_said_so(
    url: str, client: Client, bare_prefix: str
) -> None:
    store = open_elastic(url, prefix=bare_prefix, clock=lambda: T0)
    store.setup()
    path = f"/_component_template/{bare_prefix}-settings"
    later = copy.deepcopy(Templates(bare_prefix).component("settings").body) | {
        "version": 99,
        "_meta": {"hash": "of a later kedge"},
    }
    client.request("PUT", path, later)
    [check] = [c for c in store.setup() if "left alone" in c.detail]
    assert check.ok
    assert not check.changed
    assert "version 99 of a later kedge" in check.detail
    [held] = client.request("GET", path)["component_templates"]
    assert held["component_template"]["version"] == 99
    store.close()


def test_each_choice_of_a_set_up_has_its_reason(url: str, bare_prefix: str) -> None:
    store = open_elastic(url, prefix=bare_prefix, clock=lambda: T0)
    choices = {check.name: check for check in store.setup(dry_run=True)[:6]}
    assert list(choices) == ["server", "storage", "lifecycle", "retention", "fields", "copies"]
    assert all(check.why and not check.changed for check in choices.values())
    assert choices["lifecycle"].detail == "the worker drops whole indices that are past retention"
    store.setup()
    [storage] = [check for check in store.setup(dry_run=True) if check.name == "storage"]
    assert storage.detail.endswith("source is installed")
    store.close()
