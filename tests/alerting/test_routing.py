"""The route tree: which routes take an alert, and what its groups are called."""

import pytest

from kedge.alerting.matchers import parse_match
from kedge.alerting.routing import Route, Routing, plain_routing


def route(receiver, match=None, *routes, **more):
    return Route(receiver, parse_match(match or {}), routes=routes, **more)


# The tree of Alertmanager's own documentation, in kedge's labels.
TREE = route(
    "default",
    None,
    route(
        "team-X",
        {"service": "=~ foo1|foo2|baz"},
        route("team-X-pager", {"severity": "critical"}),
    ),
    route("team-Y", {"service": "files"}, route("team-Y-pager", {"severity": "critical"})),
    route(
        "team-DB",
        {"service": "database"},
        route("team-X", {"owner": "team-X"}, goes_on=True),
        route("team-Y", {"owner": "team-Y"}),
    ),
    route("audit", {"severity": "critical"}, goes_on=True),
    route("ops", {"severity": ["high", "critical"]}),
)


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({}, ["default"]),
        ({"service": "other"}, ["default"]),
        ({"service": "foo1"}, ["team-X"]),
        ({"service": "foo11"}, ["default"]),
        ({"service": "foo1", "severity": "critical"}, ["team-X-pager"]),
        ({"service": "files", "severity": "high"}, ["team-Y"]),
        ({"service": "database"}, ["team-DB"]),
        ({"service": "database", "owner": "team-X"}, ["team-X"]),
        ({"service": "database", "owner": "team-Y"}, ["team-Y"]),
        # `continue` goes on to the next siblings, and never back to the parent.
        ({"severity": "critical"}, ["audit", "ops"]),
        ({"severity": "high"}, ["ops"]),
    ],
)
def test_the_first_child_that_matches_takes_an_alert(labels, receivers):
    assert [taken.route.receiver for taken in Routing(TREE).routes_of(labels)] == receivers


def test_a_route_that_continues_and_finds_no_other_is_enough():
    tree = route("root", None, route("first", {"a": "1"}, goes_on=True), route("second", {"b": "1"}))
    assert [taken.route.receiver for taken in Routing(tree).routes_of({"a": "1"})] == ["first"]
    assert [t.route.receiver for t in Routing(tree).routes_of({"a": "1", "b": "1"})] == ["first", "second"]


def test_a_rules_own_receiver_is_told_and_the_tree_is_not_asked():
    routing = Routing(TREE, receivers=frozenset({"mine"}))
    (taken,) = routing.routes_of({"severity": "critical"}, "mine")
    assert (taken.route.receiver, taken.reason) == ("mine", "the rule's own: mine")
    assert taken.route.repeat_interval == TREE.repeat_interval
    assert [t.route.receiver for t in routing.routes_of({"service": "files"}, "unknown")] == ["team-Y"]


def test_every_taken_route_is_found_again_by_its_key_and_says_why():
    routing = Routing(TREE, receivers=frozenset({"mine"}))
    for labels in ({}, {"service": "foo1", "severity": "critical"}, {"severity": "critical"}):
        for taken in routing.routes_of(labels):
            assert routing.by_key(taken.key) is taken.route
    (own,) = routing.routes_of({}, "mine")
    assert routing.by_key(own.key) == own.route
    assert routing.by_key("notify:gone") is None
    assert routing.by_key("{}/[]/nothing") is None
    assert routing.routes_of({"service": "files"})[0].reason == "service = files"


def test_two_routes_of_the_same_conditions_are_two():
    tree = route("root", None, route("a", {"x": "1"}, goes_on=True), route("b", {"x": "1"}))
    first, second = Routing(tree).routes_of({"x": "1"})
    assert first.key != second.key
    assert Routing(tree).by_key(second.key).receiver == "b"


@pytest.mark.parametrize(
    ("group_by", "named"),
    [
        ((), {}),
        (("model",), {"model": "fraud"}),
        (("model", "region"), {"model": "fraud"}),  # a label that is not there names nothing
        (("...",), {"model": "fraud", "rule": "slow"}),
    ],
)
def test_a_group_is_named_by_the_labels_that_its_alerts_share(group_by, named):
    one = route("r", None, group_by=group_by)
    assert one.group_of({"model": "fraud", "rule": "slow", "severity": "high"}) == named


def test_without_a_tree_the_default_is_told_at_once_or_the_rules_own():
    routing = plain_routing("team", ["team", "mine"])
    assert [t.route.receiver for t in routing.routes_of({"model": "fraud"})] == ["team"]
    (own,) = routing.routes_of({}, "mine")
    assert (own.route.receiver, own.route.group_wait) == ("mine", 0)
