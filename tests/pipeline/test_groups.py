"""Groups with a cap: so many values are told apart, the rest is (other), and nothing is lost or doubled."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kedge.alerting.loading import parse_rules
from kedge.cli.start import groups_check
from kedge.pipeline.groups import document_name, fold, full_dimensions, register, values_in
from kedge.pipeline.query import metric_series
from kedge.sketch import Core, PartName
from kedge.store.base import EPOCH_SHIFT, OTHER, Group, PartRow, SummaryKey
from kedge.windows import DAY, HOUR, MINUTE, SECOND
from tests.pipeline.world import MODEL, T0, World, prediction, settings, world

RULES = """
version: 1
defaults: {model: "*"}
rules:
  - {name: busy, metric: volume.count, window: 1h, by: [segment.plan], above: 1e6, evidence: point}
"""


@pytest.fixture
def one() -> Iterator[World]:
    own = {"max_groups": 3, "groups": ["version", ["segment.plan", "version"]]}
    with world(book=parse_rules(RULES), settings=settings(**{MODEL: own})) as made:
        yield made


def send(one: World, minute: int, *plans: str) -> None:
    at = T0 + minute * MINUTE
    rows = [prediction(minute * 20 + i, at + i * SECOND) for i in range(len(plans))]
    one.send([
        msgspec.structs.replace(row, segment={"plan": plan}) for row, plan in zip(rows, plans, strict=True)
    ])  # fmt: skip


def counts(one: World, by: str) -> dict[str, Any]:
    found = metric_series(one.pipe, MODEL, names=["volume.count"], width=DAY, by=[by], now=one.now)
    return {row["labels"][by]: row["value"] for row in found}


def test_the_values_seen_first_keep_groups_of_their_own_and_the_rest_is_other(one: World) -> None:
    send(one, 0, "a", "b", "a")
    one.tick(T0 + 2 * MINUTE)
    send(one, 1, "d", "c", "c", "e")
    one.tick(T0 + 3 * MINUTE)
    send(one, 2, *"abcdef")
    one.drain(T0 + 2 * DAY)
    one.assert_exact()
    assert counts(one, "segment.plan") == {"a": 3, "b": 2, "c": 3, OTHER: 5}, (
        "of one minute, the commonest come first"
    )
    assert sum(counts(one, "segment.plan").values()) == len(one.rows)
    assert values_in(one.store.state.get(document_name(MODEL)))["segment.plan"] == ("a", "b", "c")


def test_a_late_row_of_another_value_goes_where_those_of_its_time_went(one: World) -> None:
    send(one, 0, *"abcd")
    one.drain(T0 + 2 * HOUR)
    send(one, 0, *"abcd", "d", "z")
    one.drain(T0 + 2 * DAY)
    one.assert_exact()
    assert counts(one, "segment.plan")[OTHER] == 3


def test_two_workers_never_list_more_than_the_cap(one: World) -> None:
    state = one.store.state
    assert register(state, MODEL, {"d": ["a", "b"]}, 3)["d"] == ("a", "b")
    assert register(state, MODEL, {"d": ["b", "c", "x"]}, 3)["d"] == ("a", "b", "c")
    assert register(state, MODEL, {"d": ["y"]}, 3)["d"] == ("a", "b", "c")
    assert register(state, MODEL, {"d": ["y"]}, 2)["d"] == ("a", "b", "c"), "a lower cap takes nothing away"


def test_parts_of_values_that_are_not_listed_add_up() -> None:
    def row(n: int, **group: str) -> PartRow:
        key: Group = tuple(sorted(group.items()))
        name = SummaryKey(MODEL, key, MINUTE, T0, PartName.CORE)
        return PartRow(name, (1 << EPOCH_SHIFT) + n, Core(rows=n))

    rows = [row(9), row(4, p="a"), row(3, p="b"), row(2, p="c"), row(1, p="a", q="x"), row(5, p="b", q="x")]
    folded = {r.key.group: (r.version & 0xFF, r.part) for r in fold(rows, {"p": ("a",), "q": ()})}
    assert folded == {
        (): (9, Core(rows=9)),
        (("p", "a"),): (4, Core(rows=4)),
        (("p", OTHER),): (5, Core(rows=5)),
        (("p", "a"), ("q", OTHER)): (1, Core(rows=1)),
        (("p", OTHER), ("q", OTHER)): (5, Core(rows=5)),
    }


def test_a_dimension_that_is_full_is_named_and_an_alert_on_the_rest_says_what_it_stands_for(
    one: World,
) -> None:
    for minute, plan in enumerate("abcd"):
        send(one, minute, plan)
        one.tick(T0 + (minute + 2) * MINUTE)
        full = full_dimensions(values_in(one.store.state.get(document_name(MODEL))), 3)
        assert full == (["segment.plan"] if plan in "cd" else [])
    one.drain(T0 + 2 * DAY)
    reasons = {s.group["segment.plan"]: s.finding.reason for s in one.alerts().values() if s.finding}
    notice = "; (other) is every segment.plan beyond the first 3 (max_groups), judged together"
    assert {plan for plan, reason in reasons.items() if reason.endswith(notice)} == {OTHER}
    assert set(reasons) == {"a", "b", "c", OTHER}


def test_doctor_names_the_dimensions_that_are_full() -> None:
    roomy = {"model": "churn", "full_groups": []}
    assert groups_check([roomy]).detail == "no dimension has as many values as max_groups allows"
    told = groups_check([roomy, {"model": "fraud", "full_groups": ["segment.plan", "version"]}])
    assert told.ok
    assert told.detail.startswith("segment.plan of fraud, version of fraud: as many values as max_groups")
