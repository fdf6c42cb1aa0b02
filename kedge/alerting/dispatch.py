"""From transitions to notifications: who is told what, and when. Pure; the pipeline keeps the same groups
in a store.

    dispatcher = Dispatcher(routing)
    for now, transitions in decided:  # in order, as the fold decides them
        for notification in dispatcher.step(now, transitions, silences):
            print(now, notification.receiver, notification.reason, [t.rule for t in notification.firing])

Call `step` at every tick, with transitions or without: timers run out in between. `dispatcher.next` says
when the next one does, so that a test may jump there, and `dispatcher.looks` why what was not told was not.
Without a `route:` in notify.yml, `plain_routing` is what holds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kedge.alerting.finding import Transition
from kedge.alerting.grouping import (
    Group,
    Look,
    Notification,
    due_at,
    fires,
    group_id,
    has_told,
    is_of,
    is_told,
    joined,
    left,
    look,
    new_group,
)
from kedge.alerting.inhibition import Inhibitor
from kedge.alerting.matchers import Labels, labels_of
from kedge.alerting.mutes import muted
from kedge.alerting.routing import Routing
from kedge.alerting.silences import Silence, silenced_by
from kedge.windows import Millis


def assigned(
    routing: Routing, groups: Mapping[str, Group], transition: Transition, now: Millis
) -> dict[str, Group]:
    """The groups that an alert's transition changes, by id.

    It goes to the groups of the routes that take it, and to those in which somebody was told of it: who has
    heard that it fires hears how it goes on, wherever its severity takes it. What is over makes no new
    group.
    """
    if transition.muted_by:
        # A composite tells of it: it leaves without a word, and comes again if it fires when that is over.
        return {id: left(g, transition.alert) for id, g in groups.items() if transition.alert in g.members}
    if not is_told(transition):
        return {}
    labels = labels_of(transition)
    changed: dict[str, Group] = {}
    for key, route, _ in routing.routes_of(labels, transition.notify):
        named = route.group_of(labels)
        id = group_id(key, route.receiver, named)
        group = groups.get(id)
        if group is None or transition.alert not in group.members:
            if not fires(transition):
                continue
            group = group or new_group(key, route, named, now)
        changed[id] = joined(group, transition, route, now)
    for id, group in groups.items():
        if id in changed or transition.alert not in group.members:
            continue
        if fires(transition) and not has_told(group, transition.alert):
            changed[id] = left(group, transition.alert)
        elif (standing := routing.by_key(group.route)) is not None:
            changed[id] = joined(group, transition, standing, now)
    return {id: group for id, group in changed.items() if group != groups.get(id)}


@dataclass(frozen=True)
class Quiet:
    """Why alerts are not told at one time: what is silenced and what is inhibited then."""

    now: Millis
    silences: Sequence[Silence] = ()
    inhibitor: Inhibitor | None = None

    def reason(self, transition: Transition) -> str:
        """Empty where nothing speaks against telling."""
        labels = labels_of(transition)
        if self.inhibitor is not None and (why := self.inhibitor.reason(transition.alert, labels)):
            return why
        silence = silenced_by(labels, self.silences, self.now)
        return str(silence) if silence is not None else ""


def quiet_at(now: Millis, routing: Routing, groups: Iterable[Group], silences: Sequence[Silence]) -> Quiet:
    """What is silenced and inhibited at `now`. Sources are the alerts that fire in `groups`, which are all
    that people are told of: what is for the dashboard only inhibits nothing."""
    firing: dict[str, Labels] = {}
    if routing.inhibitions:
        held = (member.transition for group in groups for member in group.members.values())
        firing = {t.alert: labels_of(t) for t in held if fires(t)}
    return Quiet(now, silences, Inhibitor(routing.inhibitions, firing))


def looked_at(routing: Routing, group: Group, now: Millis, quiet: Quiet) -> Look | None:
    """What is decided of a group now; None while it is not due.

    An `outdated` group is to be taken apart (`scattered`), not looked at.
    """
    route = routing.by_key(group.route)
    if route is None or due_at(group, route) > now:
        return None
    why = muted(now, route.mute_times, route.active_times, routing.intervals)
    return look(group, route, now, quiet.reason, why)


def outdated(routing: Routing, group: Group) -> bool:
    """Its route has gone, or tells another receiver or by other labels now. What fires in it would be told by
    it and by the group that it belongs to now."""
    route = routing.by_key(group.route)
    return route is None or not is_of(group, route)


def scattered(routing: Routing, groups: Mapping[str, Group], group: Group, now: Millis) -> dict[str, Group]:
    """The groups that take over what fires in an outdated group, which is none of `groups`."""
    changed: dict[str, Group] = {}
    for member in group.members.values():
        changed |= assigned(routing, {**groups, **changed}, member.transition, now)
    return {id: other for id, other in changed.items() if id != group.id}


def rerouted(routing: Routing, groups: Mapping[str, Group], now: Millis) -> dict[str, Group]:
    """The groups that an edit of the tree changes, none of which is outdated.

    What fires goes where it belongs now, and leaves a group that tells the same receiver as one of those. Who
    else was told of it hears how it goes on.
    """
    firing: dict[str, Transition] = {}
    for member in (member for group in groups.values() for member in group.members.values()):
        one = member.transition
        held = firing.get(one.alert)
        if fires(one) and (held is None or (held.step, held.decided) < (one.step, one.decided)):
            firing[one.alert] = one
    changed: dict[str, Group] = {}
    for transition in firing.values():
        changed |= assigned(routing, {**groups, **changed}, transition, now)
        labels = labels_of(transition)
        takers = [(key, route) for key, route, _ in routing.routes_of(labels, transition.notify)]
        ids = {group_id(key, route.receiver, route.group_of(labels)) for key, route in takers}
        told = {route.receiver for _, route in takers}
        for id, group in {**groups, **changed}.items():
            if id not in ids and transition.alert in group.members:
                standing = routing.by_key(group.route)
                if standing is not None and standing.receiver in told:
                    changed[id] = left(group, transition.alert)
    return changed


@dataclass
class Dispatcher:
    """The whole of it over groups in memory: for tests of rules and backtests."""

    routing: Routing
    groups: dict[str, Group] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)
    """By group: the looks of the newest step, with the reasons of what was told and what was not."""

    def step(
        self, now: Millis, transitions: Iterable[Transition] = (), silences: Sequence[Silence] = ()
    ) -> list[Notification]:
        """Take in what was decided, and tell what is due at `now`, which must not go back."""
        for transition in transitions:
            self.groups |= assigned(self.routing, self.groups, transition, now)
        quiet = quiet_at(now, self.routing, self.groups.values(), silences)
        told: list[Notification] = []
        self.looks = {}
        for id in sorted(self.groups):
            found = looked_at(self.routing, self.groups[id], now, quiet)
            if found is None:
                continue
            self.looks[id] = found
            told += found.notifications
            if found.group.members:
                self.groups[id] = found.group
            else:
                del self.groups[id]
        return told

    @property
    def next(self) -> Millis | None:
        """When the next timer runs out; None while there is nothing to wait for."""
        routes = ((group, self.routing.by_key(group.route)) for group in self.groups.values())
        return min((due_at(group, route) for group, route in routes if route is not None), default=None)
