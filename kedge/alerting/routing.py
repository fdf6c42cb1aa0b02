"""The route tree: who is told of an alert, and how its alerts are grouped. Pure, and Alertmanager's
meaning.

An alert enters at the root, which takes every one. At each route it goes to the first child that matches,
and on to the next ones while that says `continue`; where no child matches, the route itself takes it. What
a route does not say it inherits from its parent, but for `match`, `continue` and the times in which it is
muted or active.
"""

import hashlib
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kedge.alerting.fields import Budget
from kedge.alerting.inhibition import Inhibition
from kedge.alerting.matchers import Labels, Match, describe, matches
from kedge.alerting.mutes import Interval
from kedge.windows import DAY, MINUTE, SECOND, Millis

DEFAULT_BUDGET = Budget()
"""Of a receiver for which none is written."""
ALL = "..."
"""In `group_by`: every alert is a group of its own."""


class Escalation(NamedTuple):
    """Who is told of what nobody has acknowledged `after` it was told."""

    after: Millis
    to: str


@dataclass(frozen=True)
class Route:
    """One route, with what it inherited."""

    receiver: str
    match: Match = ()
    goes_on: bool = False
    """`continue`: its next siblings are asked too."""
    group_by: tuple[str, ...] = ()
    """Labels whose values an alert shares with its group; `...` alone: all labels, severity aside."""
    group_wait: Millis = 30 * SECOND
    group_interval: Millis = 5 * MINUTE
    repeat_interval: Millis = 240 * MINUTE
    mute_times: tuple[str, ...] = ()
    active_times: tuple[str, ...] = ()
    escalate: tuple[Escalation, ...] = ()
    routes: tuple["Route", ...] = ()
    place: str = ""
    """`notify.yml:12`."""

    def group_of(self, labels: Labels) -> dict[str, str]:
        """The labels that name an alert's group."""
        if ALL in self.group_by:
            return {name: value for name, value in sorted(labels.items()) if name != "severity"}
        return {name: labels[name] for name in sorted(self.group_by) if name in labels}


class Routed(NamedTuple):
    """A route that takes an alert, and why."""

    key: str
    """The conditions from the root down to it: groups of a route are known by it, so that they outlive
    edits that change nothing of whom it takes."""
    route: Route
    reason: str
    """`notify.yml:14: team = fraud`."""


@dataclass(frozen=True)
class Routing:
    """All of `notify.yml` that decides who is told what, and when."""

    root: Route
    """Everybody who is to be told is told by a route."""
    inhibitions: Sequence[Inhibition] = ()
    intervals: Mapping[str, Sequence[Interval]] = field(default_factory=dict)
    receivers: frozenset[str] = frozenset()
    """That a rule's `notify` may name."""
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    """By receiver, where one is written."""

    def budget_of(self, receiver: str) -> Budget:
        """The false alerts that a receiver may be told of."""
        return self.budgets.get(receiver, DEFAULT_BUDGET)

    def routes_of(self, labels: Labels, notify: str = "") -> tuple[Routed, ...]:
        """The routes that take an alert, in the tree's order; never none.

        `notify`: the rule's own receiver, where it names one: it is told then, with the grouping and the
        times of the root, and the tree is not asked. One that is not known does not count.
        """
        if notify in self.receivers:
            return (self._own(notify),)
        return tuple(_taking(self.root, "{}", labels))

    def may_tell(self, labels: Labels, open_: Container[str], notify: str = "") -> frozenset[str]:
        """The receivers of an alert of which not every label is known yet: of all routes that may take it.

        `open_`: labels that differ from alert to alert; what is neither there nor in `labels`, it lacks.
        """
        if notify in self.receivers:
            return frozenset({notify})
        return frozenset(_perhaps(self.root, labels, open_))

    def keys(self) -> Iterator[str]:
        """Of every route of the tree."""
        return (key for key, _ in self._all())

    @property
    def shape(self) -> str:
        """A digest of what decides which groups an alert is in: receivers, conditions, `group_by`, order."""
        routes = [(key, route.receiver, route.group_by, route.goes_on) for key, route in self._all()]
        return hashlib.sha256(repr((routes, sorted(self.receivers))).encode()).hexdigest()[:32]

    def by_key(self, key: str) -> Route | None:
        """The route of a stored group; None where the tree has no such route any more."""
        if key.startswith(_NOTIFY):
            receiver = key.removeprefix(_NOTIFY)
            return self._own(receiver).route if receiver in self.receivers else None
        return next((route for known, route in self._all() if known == key), None)

    def _own(self, receiver: str) -> Routed:
        root = self.root
        route = Route(
            receiver,
            group_by=root.group_by,
            group_wait=root.group_wait,
            group_interval=root.group_interval,
            repeat_interval=root.repeat_interval,
            escalate=root.escalate,
        )
        return Routed(f"{_NOTIFY}{receiver}", route, f"the rule's own: {receiver}")

    def _all(self) -> Iterator[tuple[str, Route]]:
        waiting = [("{}", self.root)]
        while waiting:
            key, route = waiting.pop()
            yield key, route
            waiting += [(_key(key, child, i), child) for i, child in _numbered(route.routes)]


_NOTIFY = "notify:"


def plain_routing(
    default: str, receivers: Iterable[str], budgets: Mapping[str, Budget] | None = None
) -> Routing:
    """What holds without a tree: each change of an alert is told at once, to its rule's receiver or the
    default."""
    root = Route(default, group_by=(ALL,), group_wait=0, group_interval=1, repeat_interval=100 * 366 * DAY)
    return Routing(root, receivers=frozenset(receivers), budgets=budgets or {})


def _taking(route: Route, key: str, labels: Labels) -> Iterator[Routed]:
    taken = False
    for i, child in _numbered(route.routes):
        if matches(child.match, labels):
            taken = True
            yield from _taking(child, _key(key, child, i), labels)
            if not child.goes_on:
                return
    if not taken:
        where = f"{route.place}: " if route.place else ""
        yield Routed(key, route, f"{where}{describe(route.match)}")


def _perhaps(route: Route, labels: Labels, open_: Container[str]) -> Iterator[str]:
    """`_taking` where some labels may have any value: a condition on one of those may hold, or not."""
    taken = False
    for child in route.routes:
        if not all(m.label in open_ or m.matches(labels) for m in child.match):
            continue
        yield from _perhaps(child, labels, open_)
        surely = not any(m.label in open_ for m in child.match)
        taken = taken or surely
        if surely and not child.goes_on:
            return
    if not taken:
        yield route.receiver


def _numbered(routes: Sequence[Route]) -> Iterator[tuple[int, Route]]:
    """Each with how many siblings before it have the same conditions: two of those are two routes."""
    seen: dict[Match, int] = {}
    for route in routes:
        n = seen.get(route.match, 0)
        seen[route.match] = n + 1
        yield n, route


def _key(parent: str, route: Route, n: int) -> str:
    conditions = json.dumps([[m.label, m.operator, *m.values] for m in route.match], ensure_ascii=False)
    return f"{parent}/{conditions}" + (f"#{n}" if n else "")
