"""Groups of alerts in the store, between the outbox and the alerts: where there are routes, or silences.

Each group is one document under compare-and-set, with its alerts and its timers, so that a worker that is
killed anywhere loses nothing and doubles nothing:

    alert.outgoing ──assign──▶ group.members ──look──▶ group.outgoing ──settle──▶ outbox rows

A transition stays with its alert until it is in its groups, and a group that holds it already does not
change. A look is decided and its notifications are kept in one swap; rows have names that follow from the
notification; only then do notifications leave the group. Silences and groups share a prefix, so that a tick
reads all of them at once.

Without routes a transition goes straight to the outbox, as long as no silence covers it. One that is
silenced waits in a group of its own, and is told when it still fires once the silence is over.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kedge.alerting.dispatch import Quiet, assigned, looked_at, outdated, quiet_at, rerouted, scattered
from kedge.alerting.finding import AlertState, Finding, State, Transition
from kedge.alerting.grouping import Group, Notification, is_told, shortened
from kedge.alerting.lifecycle import Identity, standing
from kedge.alerting.loading import RuleBook
from kedge.alerting.matchers import labels_of
from kedge.alerting.routing import Routing
from kedge.alerting.silences import Phase, Silence, silenced_by
from kedge.notify.receivers import Receivers
from kedge.pipeline.faults import reach
from kedge.pipeline.outbox import group_rows, new_row, row_name
from kedge.pipeline.silences import KEEP_EXPIRED, SILENCE, silence_in
from kedge.store.base import Json, Store, Stored
from kedge.windows import Millis

PREFIX = "route:"
GROUP = f"{PREFIX}group:"
TREE = f"{PREFIX}tree"
"""The document that says that routes are in force, and which alerts they take."""
MOST_SHOWN = 20
"""Alerts of one message; more are counted."""
MOST_TRIES = 20
"""Of a compare-and-set that others win."""

_log = logging.getLogger(__name__)


@dataclass
class Router:
    """What one tick knows of routes, groups and silences."""

    store: Store
    receivers: Receivers
    now: Millis
    groups: dict[str, Group] = field(default_factory=dict)
    silences: list[Silence] = field(default_factory=list)
    _tokens: dict[str, Any] = field(default_factory=dict)
    """By group: the token of its document, where it has one."""
    _silence_documents: dict[str, Stored] = field(default_factory=dict)
    _tree: Stored | None = None

    @classmethod
    def read(cls, store: Store, receivers: Receivers, now: Millis) -> "Router":
        router = cls(store, receivers, now)
        router._read()
        return router

    def _read(self) -> None:
        self.groups, self._tokens, self.silences, self._silence_documents = {}, {}, [], {}
        self._tree = None
        for name, stored in self.store.state.find(PREFIX).items():
            if name == TREE:
                self._tree = stored
            elif name.startswith(GROUP):
                self._hold(name, stored)
            elif (silence := silence_in(name, stored)) is not None:
                self.silences.append(silence)
                self._silence_documents[silence.id] = stored

    def _hold(self, name: str, stored: Stored) -> None:
        try:
            group = msgspec.convert(stored.value, Group)
        except msgspec.ValidationError as error:
            # Left where it is, for a version of kedge that can read it.
            _log.error("%s cannot be read: %s", name, error)
            return
        self.groups[group.id], self._tokens[group.id] = group, stored.token

    @property
    def plain(self) -> bool:
        """There is no tree of routes."""
        return self.receivers.routing is None

    @property
    def routing(self) -> Routing:
        return self.receivers.tree

    # --- from transitions to groups -------------------------------------------------------------------------

    def takes(self, transition: Transition, before: Sequence[Transition] = ()) -> bool:
        """Whether a transition goes through groups, and not straight to the outbox. `before`: others that
        do."""
        if not self.plain:
            return True
        if any(transition.alert == other.alert for other in before):
            return True
        if any(transition.alert in group.members for group in self.groups.values()):
            return True  # it waits here already: nothing overtakes it
        return silenced_by(labels_of(transition), self.silences, self.now) is not None

    def assign(self, transitions: Sequence[Transition]) -> None:
        """Put transitions into their groups; returns once the groups are stored."""
        for _ in range(MOST_TRIES):
            changed: dict[str, Group] = {}
            for transition in transitions:
                if is_told(transition):
                    self.receivers.notice(transition)
                more = assigned(self.routing, self.groups, transition, self.now)
                self.groups |= more
                changed |= more
            if self._swap(changed.values()) == changed.keys():
                reach("route:assigned")
                return
            self._read()  # another worker changed some of them; putting the others in again changes nothing
        raise RuntimeError("groups of alerts change faster than they can be written")

    def _swap(self, groups: Iterable[Group]) -> set[str]:
        """Store groups; the ids of those with which no other worker was faster.

        What is held afterwards is what is stored then: another worker may have gone on from there already.
        """
        held = list(groups)
        if not held:
            return set()
        state = self.store.state
        swaps = [(GROUP + g.id, msgspec.to_builtins(g), self._tokens.get(g.id)) for g in held]
        done = {group.id for group, ok in zip(held, state.swap_many(swaps), strict=True) if ok}
        fresh = state.get_many([GROUP + id for id in done])
        for id in done:
            self.groups.pop(id, None)
            self._tokens.pop(id, None)
            if (stored := fresh.get(GROUP + id)) is not None:
                self._hold(GROUP + id, stored)
        return done

    # --- from groups to the outbox --------------------------------------------------------------------------

    def flush(self, book: RuleBook) -> int:
        """Look at every group that is due, and queue what is to be told; counts the messages."""
        self._settle([group for group in self.groups.values() if group.outgoing])
        if self.plain:
            self._hold_silenced(book)
        self._change_over(book)
        self._scatter()
        self._reroute()
        quiet = quiet_at(self.now, self.routing, list(self.groups.values()), self.silences)
        looked = self._as_of_now(list(self._looked_at(quiet)))
        mine = self._swap(looked)
        decided = [group for group in looked if group.id in mine]  # the others are another worker's
        reach("route:decided")
        count = self._settle(decided)
        self._forget_silences()
        return count

    def _looked_at(self, quiet: Quiet) -> Iterator[Group]:
        for group in list(self.groups.values()):
            found = looked_at(self.routing, group, self.now, quiet)
            if found is None:
                continue
            after = found.group
            if self.plain:
                if found.muted and after.members == group.members:
                    continue  # it waits on, and nothing is to be written
                if not found.muted:
                    # What waited for a silence to end is told, and goes its usual way again.
                    after = msgspec.structs.replace(after, members={})
            yield msgspec.structs.replace(after, outgoing=(*after.outgoing, *found.notifications))

    def _as_of_now(self, groups: Sequence[Group]) -> list[Group]:
        """What is told of an alert that has fired for a while is what was found of it last."""
        firing = {t.alert for group in groups for told in group.outgoing for t in told.firing}
        states = self.store.alerts.get_many(sorted(firing)) if firing else {}

        def current(transition: Transition) -> Transition:
            stored = states.get(transition.alert)
            return transition if stored is None else _with_newest(transition, stored.value)

        replace = msgspec.structs.replace
        return [
            replace(
                group,
                outgoing=tuple(
                    replace(told, firing=tuple(current(t) for t in told.firing)) for told in group.outgoing
                ),
            )
            for group in groups
        ]

    def _settle(self, groups: Sequence[Group]) -> int:
        """Write the rows of what groups have to tell; then it leaves them, and empty groups go."""
        rows = [row for group in groups for told in group.outgoing for row in self._rows(told)]
        if rows:
            self.store.outbox.swap_many([(name, row, None) for name, row in rows])
        reach("route:queued")
        written = {told.id for group in groups for told in group.outgoing}
        changed: list[Group] = []
        for group in [self.groups[group.id] for group in groups if group.id in self.groups]:
            left = tuple(told for told in group.outgoing if told.id not in written)
            if group.members or left:
                changed += [] if left == group.outgoing else [msgspec.structs.replace(group, outgoing=left)]
            elif self.store.state.delete(GROUP + group.id, self._tokens[group.id]):
                del self.groups[group.id], self._tokens[group.id]
        self._swap(changed)
        # Where another worker was faster they stay, and their rows are found written the next time.
        reach("route:settled")
        return len(rows)

    def _rows(self, told: Notification) -> Iterator[tuple[str, Json]]:
        if self.plain:
            for transition in (*told.firing, *told.resolved):
                one = msgspec.structs.replace(transition, id=f"{told.id}:{transition.alert}")
                yield row_name(told.receiver, one), new_row(told.receiver, msgspec.to_builtins(one), self.now)
            return
        yield from group_rows(shortened(told, MOST_SHOWN), self.now)

    def _scatter(self) -> None:
        """Take apart groups that notify.yml makes no more: what fires in them goes where it belongs now. As
        Alertmanager does when it reads its file anew; what is over is told to nobody else."""
        routing = self.routing

        def gone(group: Group) -> bool:
            # Without routes a group is what a silence holds, or left of routes: it dissolves when it is told.
            return routing.by_key(group.route) is None if self.plain else outdated(routing, group)

        held = [group for group in self.groups.values() if gone(group)]
        tokens = {group.id: self._tokens.pop(group.id) for group in held}
        for group in held:
            del self.groups[group.id]
        for group in held:
            changed = scattered(routing, self.groups, group, self.now)
            if self._swap(changed.values()) != changed.keys():
                continue  # another worker was faster: the next tick sees what is left
            if self.store.state.delete(GROUP + group.id, tokens[group.id]):
                _log.warning(
                    "a group of %d alerts is taken apart: notify.yml makes it no more", len(group.members)
                )

    def _change_over(self, book: RuleBook) -> None:
        """The first tick with routes: what fires already is in no group, and is told anew by its routes, so
        that its end is told too. As Alertmanager does when it starts."""
        if self.plain and self._tree is not None:
            self.store.state.delete(TREE, self._tree.token)
        elif not self.plain and self._tree is None:
            held = {alert for group in self.groups.values() for alert in group.members}
            self.assign([t for t in self._standing(book) if t.alert not in held and is_told(t)])
            self.store.state.swap(TREE, {"since": self.now, "shape": self.routing.shape}, None)

    def _reroute(self) -> None:
        """Once after an edit of the tree: an alert goes where it belongs now though nothing of it changes."""
        shape, tree = self.routing.shape, self._tree
        if self.plain or tree is None or tree.value.get("shape") == shape:
            return
        for _ in range(MOST_TRIES):
            changed = rerouted(self.routing, self.groups, self.now)
            if self._swap(changed.values()) == changed.keys():
                self.store.state.swap(TREE, {**tree.value, "shape": shape}, tree.token)
                return
            self._read()  # the next tick does what is left, as after a kill

    # --- silences without routes ----------------------------------------------------------------------------

    def _hold_silenced(self, book: RuleBook) -> None:
        """Once a silence has begun, what fires under it waits for its end: what still fires then is
        told."""
        for silence in self.silences:
            stored = self._silence_documents[silence.id]
            if silence.phase(self.now) is not Phase.ACTIVE or stored.value.get("begun"):
                continue
            held = {alert for group in self.groups.values() for alert in group.members}
            found = (t for t in self._standing(book) if t.alert not in held and is_told(t))
            self.assign([t for t in found if silence.covers(labels_of(t), self.now)])
            self.store.state.swap(SILENCE + silence.id, {**stored.value, "begun": True}, stored.token)

    def _standing(self, book: RuleBook) -> Iterator[Transition]:
        for name, stored in self.store.alerts.live().items():
            try:
                state = msgspec.convert(stored.value, AlertState)
            except msgspec.ValidationError as error:
                _log.error("alert %s cannot be read: %s", name, error)
                continue
            rule = book.by_name.get(state.rule)
            told = standing(state, rule.identity if rule else Identity(), self.now)
            if told is not None:
                yield told

    def _forget_silences(self) -> None:
        for silence in self.silences:
            if self.now - silence.ends > KEEP_EXPIRED:
                stored = self._silence_documents[silence.id]
                self.store.state.delete(SILENCE + silence.id, stored.token)


def _with_newest(transition: Transition, state: Json) -> Transition:
    """A transition with what was found of its alert last, and with the causes of its own step."""
    try:
        newest = msgspec.convert(state.get("finding"), Finding)
    except msgspec.ValidationError:
        return transition
    held = transition.finding
    if newest.step <= transition.step or newest.state not in (State.BREACH, State.HOLD):
        return transition
    found = msgspec.structs.replace(
        newest, causes=held.causes, normal=held.normal, clears=newest.clears or held.clears
    )
    return msgspec.structs.replace(transition, finding=found)
