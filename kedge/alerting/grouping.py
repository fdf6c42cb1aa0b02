"""Groups of alerts and when they are told. Pure, and Alertmanager's meaning: time is an argument.

A group first waits `group_wait` for alerts that come together, and is looked at every `group_interval` from
then on. Each look decides by what changed since its receiver was last told:

    ==========================  ======================  ===================================================
    last told                   now                     decision
    ==========================  ======================  ===================================================
    never                       something fires         first: told
    never                       nothing fires           unheard: it was over before anybody was told
    something                   more fires than then    new: told
    something that fired        nothing fires           all resolved: told
    nothing that fired          nothing fires           unheard
    something                   more is over than then  resolved: told
    `repeat_interval` ago       it still fires          repeat: told, unless all of it is acknowledged
    less than that ago          it still fires          unchanged
    ==========================  ======================  ===================================================

So a repetition comes at the first look at least `repeat_interval` after the last message: that is rounded
up to a multiple of `group_interval`. What is muted at a look is as if it were not there; what is over
leaves the group with the look, told or not. Another severity, an acknowledgement or missing data is a
change that fires anew.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from kedge.alerting.finding import Flaps, Severity, Status, Transition
from kedge.alerting.routing import Route
from kedge.windows import Millis

LIVE = frozenset({Status.FIRING, Status.ACKNOWLEDGED, Status.NO_DATA})
_TOLD = LIVE | {Status.RESOLVED}


def is_told(transition: Transition) -> bool:
    """Whether people hear of a transition at all: what is for the dashboard only is shown there."""
    if max(transition.severity, transition.severity_before or Severity.INFO) <= Severity.INFO:
        return False
    if transition.muted_by:
        return False
    if transition.flaps is not None:
        return transition.flaps is not Flaps.FOLDED
    # Waiting to fire, and calming down before, is not told; falling back from firing to waiting is.
    return transition.after in _TOLD or transition.before in LIVE


def fires(transition: Transition) -> bool:
    """Whether it leaves an alert that people are to know of. One that eased to info is over for them."""
    return transition.after in LIVE and transition.severity > Severity.INFO


class Reason(StrEnum):
    """Why a group is told, or not."""

    FIRST = "it begins to fire"
    NEW = "something new fires"
    ALL_RESOLVED = "all of it is over"
    RESOLVED = "some of it is over"
    REPEAT = "it still fires"
    ESCALATED = "nobody has acknowledged it"
    UNHEARD = "it was over before anybody was told"
    UNCHANGED = "nothing has changed"
    ACKNOWLEDGED = "all that fires is acknowledged"
    MUTED = "it is muted"

    @property
    def tells(self) -> bool:
        return self not in (Reason.UNHEARD, Reason.UNCHANGED, Reason.ACKNOWLEDGED, Reason.MUTED)


class Fired(msgspec.Struct, frozen=True):
    """An alert that fired when its receiver was last told."""

    transition: str
    status: Status
    severity: Severity


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver was told last of a group."""

    at: Millis
    firing: dict[str, Fired]
    """By alert."""
    resolved: tuple[str, ...] = ()
    """Transitions that ended alerts."""


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An alert in a group."""

    transition: Transition
    """The newest."""
    told: Millis | None = None
    """When its receiver was first told of this episode."""


class Notification(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message to one receiver about one group, decided and not yet sent. JSON-able."""

    id: str
    """Follows from group, receiver and look, so that no replay doubles it."""
    receiver: str
    at: Millis
    reason: Reason
    incident: str
    """What messages of the group share from its first firing until all of it is over."""
    labels: dict[str, str]
    """Of the group."""
    firing: tuple[Transition, ...] = ()
    """Each as a change since what the receiver was told last; worst first."""
    resolved: tuple[Transition, ...] = ()
    changed: tuple[str, ...] = ()
    """Of these the alerts that the receiver has not been told of as they are now."""
    unshown: int = 0
    """Alerts that are left out of it, where there are very many."""


def shortened(notification: Notification, most: int) -> Notification:
    """With at most so many alerts: those that fire first, the worst of them first."""
    firing = notification.firing[:most]
    resolved = notification.resolved[: most - len(firing)]
    left_out = len(notification.firing) + len(notification.resolved) - len(firing) - len(resolved)
    return msgspec.structs.replace(notification, firing=firing, resolved=resolved, unshown=left_out)


def only(notification: Notification, alert: str) -> Notification:
    """What it says of one alert."""
    return msgspec.structs.replace(
        notification,
        firing=tuple(t for t in notification.firing if t.alert == alert),
        resolved=tuple(t for t in notification.resolved if t.alert == alert),
        changed=(alert,),
        unshown=0,
    )


class Group(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The alerts of one route that share labels, with all that telling of them needs. JSON-able."""

    id: str
    route: str
    """The route's key."""
    labels: dict[str, str]
    next: Millis
    """When it is looked at next."""
    group_by: tuple[str, ...] | None = None
    """Its route's when the group was made; None: not known, of an older version of kedge."""
    flushed: bool = False
    """It has been looked at: `group_wait` is over."""
    members: dict[str, Member] = {}
    """By alert."""
    told: dict[str, Told] = {}
    """By receiver: the route's, and those it escalated to."""
    opened: Millis | None = None
    """When somebody was first told, since all of it was over."""
    turn: int = 0
    """Of the notifications."""
    outgoing: tuple[Notification, ...] = ()
    """Decided, not yet in the outbox."""


@dataclass(frozen=True)
class Look:
    """What one look at a group decided."""

    group: Group
    notifications: tuple[Notification, ...]
    reasons: Mapping[str, Reason]
    """By receiver that was thought of."""
    muted: Mapping[str, str]
    """By alert that is not told now: why."""


def group_id(route_key: str, receiver: str, labels: Mapping[str, str]) -> str:
    return _digest(route_key, receiver, *(f"{k}\x1e{v}" for k, v in sorted(labels.items())))


def new_group(route_key: str, route: Route, labels: Mapping[str, str], now: Millis) -> Group:
    """One without alerts, to be looked at when `group_wait` is over."""
    id = group_id(route_key, route.receiver, labels)
    wait = now + route.group_wait
    return Group(id=id, route=route_key, labels=dict(labels), next=wait, group_by=route.group_by)


def is_of(group: Group, route: Route) -> bool:
    """Whether the group is one that the route makes still: it tells the same receiver, by the same labels."""
    same = group.group_by in (None, route.group_by)
    return same and group.id == group_id(group.route, route.receiver, group.labels)


def joined(group: Group, transition: Transition, route: Route, now: Millis) -> Group:
    """The group with an alert's newest transition; an older one than it holds, or the same, changes
    nothing.

    Of an alert that has fired for longer than `group_wait` (there was an outage), a group that was never
    looked at is told at once.
    """
    held = group.members.get(transition.alert)
    if held is not None and not _later(transition, held.transition):
        return group
    same = held is not None and held.transition.started == transition.started
    member = Member(transition=transition, told=held.told if held is not None and same else None)
    late = not group.flushed and transition.decided + route.group_wait < now
    return msgspec.structs.replace(
        group,
        members={**group.members, transition.alert: member},
        next=min(group.next, now) if late else group.next,
    )


def left(group: Group, alert: str) -> Group:
    """The group without an alert of which nobody was told here."""
    members = {name: member for name, member in group.members.items() if name != alert}
    return msgspec.structs.replace(group, members=members)


def has_told(group: Group, alert: str) -> bool:
    return any(alert in told.firing for told in group.told.values())


def due_at(group: Group, route: Route) -> Millis:
    """When the group is to be looked at next: its turn, or an escalation."""
    return min([group.next, *_escalations(group, route)])


def _escalations(group: Group, route: Route) -> Iterator[Millis]:
    for escalation in route.escalate:
        told = group.told.get(escalation.to)
        known = told.firing.keys() if told is not None else frozenset[str]()
        for alert, member in group.members.items():
            if member.told is not None and _waits(member.transition) and alert not in known:
                yield member.told + escalation.after


def look(
    group: Group, route: Route, now: Millis, why_muted: Callable[[Transition], str], route_muted: str = ""
) -> Look:
    """Look at a group that is due.

    `why_muted`: of an alert, why it is not told now (inhibited, silenced), or nothing. `route_muted`: the
    same of the whole route (mute times). What is muted does not count as told, and is told later if it
    fires then.
    """
    return _Look(group, route, now, why_muted, route_muted).run()


class _Look:
    """One look. `group` is the group as it takes shape."""

    def __init__(
        self,
        group: Group,
        route: Route,
        now: Millis,
        why_muted: Callable[[Transition], str],
        route_muted: str,
    ) -> None:
        self.group, self.route, self.now = group, route, now
        self.turn = now >= group.next
        interval = route.group_interval
        # On the group's own beat, whenever a worker comes to it: else lateness would add up to a whole
        # interval.
        self.beat = group.next + (now - group.next) // interval * interval if self.turn else now
        self.muted = {
            alert: why
            for alert, member in group.members.items()
            if (why := route_muted or why_muted(member.transition))
        }
        self.heard = {a: m.transition for a, m in group.members.items() if a not in self.muted}
        self.reasons: dict[str, Reason] = {}
        self.notifications: list[Notification] = []

    def run(self) -> Look:
        if self.turn:
            self._decide(self.route.receiver, self.heard)
        # By the members as they are now: what this look tells first may be escalated by a later one.
        for escalation in self.route.escalate:
            self._escalate(escalation.to, escalation.after)
        if self.turn:
            self._end()
        return Look(self.group, tuple(self.notifications), self.reasons, self.muted)

    def _decide(self, receiver: str, heard: Mapping[str, Transition], *, escalated: bool = False) -> None:
        told = self.group.told.get(receiver)
        firing = {t.alert: t for t in heard.values() if fires(t)}
        over = {t.alert: t for t in heard.values() if not fires(t)}
        reason = decide(
            told,
            {t.id for t in firing.values()},
            {t.id for t in over.values()},
            now=self.beat,
            repeat=self.route.repeat_interval,
            waits=any(map(_waits, firing.values())),
        )
        if not heard:
            reason = Reason.MUTED if self.muted else Reason.UNHEARD
        if escalated and reason in (Reason.FIRST, Reason.NEW):
            reason = Reason.ESCALATED
        self.reasons[receiver] = reason
        if reason.tells:
            self._tell(receiver, reason, firing, over, told)

    def _escalate(self, receiver: str, after: Millis) -> None:
        """What was told `after` ago and nobody has acknowledged, and what became of what was escalated
        before."""
        told = self.group.told.get(receiver)
        known = told.firing.keys() if told is not None else frozenset[str]()

        def concerns(alert: str, transition: Transition) -> bool:
            since = self.group.members[alert].told
            waited = since is not None and since + after <= self.now and _waits(transition)
            return alert in known or waited

        heard = {alert: t for alert, t in self.heard.items() if concerns(alert, t)}
        more = any(alert not in known for alert in heard)
        if heard and (more or self.turn):
            self._decide(receiver, heard, escalated=more)

    def _tell(
        self,
        receiver: str,
        reason: Reason,
        firing: Mapping[str, Transition],
        over: Mapping[str, Transition],
        told: Told | None,
    ) -> None:
        before = told.firing if told is not None else {}
        group = self.group
        opened = group.opened if group.opened is not None else self.now
        shown = [_since(t, before.get(t.alert)) for t in sorted(firing.values(), key=_urgency)]
        ended = [_since(t, before.get(t.alert)) for t in sorted(over.values(), key=_urgency)]
        news = [t.alert for t in firing.values() if before.get(t.alert) != _fired(t)]
        self.notifications.append(
            Notification(
                id=_digest(group.id, receiver, group.turn, opened),
                receiver=receiver,
                at=self.now,
                reason=reason,
                incident=f"{group.id}:{opened}",
                labels=group.labels,
                firing=tuple(shown),
                resolved=tuple(ended),
                changed=tuple(sorted({*news, *(t.alert for t in ended)})),
            )
        )
        now_told = Told(
            at=self.beat,
            firing={alert: _fired(t) for alert, t in firing.items()},
            resolved=tuple(sorted(t.id for t in over.values())),
        )
        members = group.members
        if receiver == self.route.receiver:
            first = {
                alert: msgspec.structs.replace(member, told=self.now)
                for alert, member in members.items()
                if alert in firing and member.told is None
            }
            members = members | first
        self.group = msgspec.structs.replace(
            group,
            members=members,
            told={**group.told, receiver: now_told},
            opened=opened,
            turn=group.turn + 1,
        )

    def _end(self) -> None:
        """The turn is over: what has ended leaves, and the next turn is on the group's beat."""
        members = {alert: m for alert, m in self.group.members.items() if fires(m.transition)}
        self.group = msgspec.structs.replace(
            self.group,
            members=members,
            next=self.beat + self.route.group_interval,
            flushed=True,
            opened=self.group.opened if members else None,
            told=self.group.told if members else {},
        )


def decide(
    told: Told | None,
    firing: Collection[str],
    resolved: Collection[str],
    *,
    now: Millis,
    repeat: Millis,
    waits: bool = True,
) -> Reason:
    """Whether a receiver is told of a group, and why: the table above. `firing` and `resolved` are
    transitions.

    `waits`: something that fires is not acknowledged.
    """
    if told is None:
        return Reason.FIRST if firing else Reason.UNHEARD
    if not set(firing) <= {fired.transition for fired in told.firing.values()}:
        return Reason.NEW
    if not firing:
        return Reason.ALL_RESOLVED if told.firing else Reason.UNHEARD
    if not set(resolved) <= set(told.resolved):
        return Reason.RESOLVED
    if told.at + repeat > now:
        return Reason.UNCHANGED
    return Reason.REPEAT if waits else Reason.ACKNOWLEDGED


# --- small things -------------------------------------------------------------------------------------------


def _later(a: Transition, b: Transition) -> bool:
    """Whether `a` is a later change of an alert than `b`. Of two at one step one follows the other."""
    times, others = (a.step, a.decided), (b.step, b.decided)
    return times > others or (times == others and a.id != b.id and a.before is b.after)


def _waits(transition: Transition) -> bool:
    return fires(transition) and transition.after is not Status.ACKNOWLEDGED


def _fired(transition: Transition) -> Fired:
    return Fired(transition.id, transition.after, transition.severity)


def _since(transition: Transition, told: Fired | None) -> Transition:
    """The transition as a change since what its receiver was told; several may have come in between."""
    if told is None:
        before = transition.before if transition.after is Status.NO_DATA else Status.PENDING
        return msgspec.structs.replace(transition, before=before, severity_before=None)
    if transition.id == told.transition:
        return msgspec.structs.replace(transition, severity_before=None)
    return msgspec.structs.replace(transition, before=told.status, severity_before=told.severity)


def _urgency(transition: Transition) -> tuple[object, ...]:
    group = sorted(transition.group.items())
    return (-transition.severity, transition.rule, transition.model, transition.version, group)


def _digest(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:32]
