"""Whatever alerts do, and whatever is silenced: what fires is known, and nobody is told for nothing."""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.alerting.dispatch import Dispatcher, outdated, rerouted, scattered
from kedge.alerting.finding import Severity, Status, Transition
from kedge.alerting.grouping import Notification, Reason, fires, group_id
from kedge.alerting.inhibition import Inhibition
from kedge.alerting.matchers import labels_of, parse_match
from kedge.alerting.routing import Escalation, Route, Routing
from kedge.alerting.silences import Silence, new_silence
from kedge.windows import HOUR, MINUTE, SECOND
from tests.notify.samples import transition

T = 1_000_000 * HOUR
RECEIVERS = ("team", "pager", "lead")
ROUTING = Routing(
    Route(
        "team",
        group_by=("model",),
        group_wait=30 * SECOND,
        group_interval=5 * MINUTE,
        repeat_interval=HOUR,
        escalate=(Escalation(30 * MINUTE, "lead"),),
        routes=(
            Route(
                "pager",
                parse_match({"severity": "critical"}),
                group_by=("...",),
                group_wait=0,
                group_interval=MINUTE,
                repeat_interval=HOUR,
                goes_on=True,
            ),
            Route("team", parse_match({"model": "a"}), group_interval=5 * MINUTE, repeat_interval=HOUR),
            Route("team", group_by=("rule",), group_wait=MINUTE, repeat_interval=HOUR),
        ),
    ),
    (Inhibition(parse_match({"rule": "down"}), parse_match({"rule": "!= down"}), ("model",)),),
)
RULES = ("down", "slow", "drifted")
STATUSES = (Status.FIRING, Status.FIRING, Status.ACKNOWLEDGED, Status.NO_DATA, Status.RESOLVED)

changes = st.tuples(
    st.sampled_from(RULES), st.sampled_from(["a", "b"]), st.sampled_from(STATUSES), st.sampled_from(Severity)
)
steps = st.lists(
    st.tuples(
        st.sampled_from([1, 10, 40, 200, 400, 2000]),
        st.lists(changes, max_size=3),
        st.sampled_from([None, None, None, "slow", "down"]),
        st.booleans(),
    ),
    max_size=25,
)


@dataclass
class World:
    """Alerts as a lifecycle would move them, and what each receiver believes by what it was told."""

    dispatcher: Dispatcher = field(default_factory=lambda: Dispatcher(ROUTING))
    now: int = T
    alerts: dict[str, Transition] = field(default_factory=dict)
    silences: list[Silence] = field(default_factory=list)
    believed: dict[str, dict[str, Transition]] = field(default_factory=lambda: {r: {} for r in RECEIVERS})
    told: list[Notification] = field(default_factory=list)
    listed: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """By receiver and group: what the last message had firing. What was silenced then is off the list, and
    is told again when the silence ends, as Alertmanager does."""
    turn: int = 0

    def change(self, rule: str, model: str, after: Status, severity: Severity) -> Transition | None:
        name = f"{rule}@{model}"
        last = self.alerts.get(name)
        live = last is not None and last.after is not Status.RESOLVED
        if not live and after is not Status.FIRING:
            return None
        if last is not None and live and (last.after, last.severity) == (after, severity):
            return None
        self.turn += 1
        severity = last.severity if last is not None and after is Status.RESOLVED else severity
        self.alerts[name] = transition(
            f"{name}#{self.turn}",
            alert=name,
            rule=rule,
            model=model,
            group={},
            before=last.after if last is not None else Status.PENDING,
            after=after,
            severity=severity,
            severity_before=last.severity if last is not None and live else None,
            step=self.now,
            decided=self.now,
            started=last.started if last is not None and live else self.now,
        )
        return self.alerts[name]

    def tick(self, transitions: list[Transition]) -> list[Notification]:
        found = self.dispatcher.step(self.now, transitions, self.silences)
        doubled = self.dispatcher.step(self.now, transitions, self.silences)
        assert doubled == []
        for one in found:
            self.told.append(one)
            believed = self.believed[one.receiver]
            assert one.firing or one.resolved
            group = (one.receiver, one.incident.partition(":")[0])
            news = {t.id for t in one.firing} - self.listed.get(group, set())
            self.listed[group] = {t.id for t in one.firing}
            assert news or one.resolved or one.reason is Reason.REPEAT, f"{one.reason} without news"
            for t in one.firing:
                believed[t.alert] = t
            for t in one.resolved:
                believed.pop(t.alert, None)
        return found

    def settle(self) -> None:
        """Everything that is due, with nothing silenced any more."""
        self.silences = []
        for _ in range(80):
            self.now += 30 * SECOND
            self.tick([])

    def muted(self, alert: Transition) -> bool:
        source = self.alerts.get(f"down@{alert.model}")
        return alert.rule != "down" and source is not None and fires(source)


@settings(max_examples=120, deadline=None)
@given(steps)
def test_in_the_end_everybody_knows_what_fires_and_no_message_was_for_nothing(story) -> None:
    world = World()
    for seconds, wanted, silenced, ends in story:
        world.now += seconds * SECOND
        if ends:
            world.silences = []
        if silenced is not None:
            times = {"created": world.now, "starts": world.now, "ends": world.now + HOUR}
            match = parse_match({"rule": silenced})
            world.silences.append(new_silence("s", match, author="kim", reason="x", **times))
        found = [world.change(*one) for one in wanted]
        world.tick([t for t in found if t is not None])
    world.settle()
    for alert in world.alerts.values():
        if not fires(alert) or world.muted(alert):
            continue
        believed = world.believed["team"].get(alert.alert)
        assert believed is not None, f"nobody was told of {alert.alert}"
        assert (believed.after, believed.severity) == (alert.after, alert.severity)
        if alert.severity is Severity.CRITICAL:
            assert alert.alert in world.believed["pager"]
    for group in world.dispatcher.groups.values():
        for member in group.members.values():
            assert fires(member.transition)
            assert world.alerts[member.transition.alert].id == member.transition.id
    assert len({one.id for one in world.told}) == len(world.told)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_the_same_story_is_told_the_same(story) -> None:
    tellings = []
    for _ in range(2):
        world = World()
        for seconds, wanted, _silenced, _ends in story:
            world.now += seconds * SECOND
            found = [world.change(*one) for one in wanted]
            world.tick([t for t in found if t is not None])
        tellings.append([(one.at, one.id, one.receiver, one.reason) for one in world.told])
    assert tellings[0] == tellings[1]


# --- edits of the tree --------------------------------------------------------------------------------------

leaves = st.builds(
    Route,
    st.sampled_from(RECEIVERS),
    st.sampled_from([{"model": "a"}, {"severity": "critical"}, {"rule": ["slow", "down"]}]).map(parse_match),
    goes_on=st.booleans(),
    group_by=st.sampled_from([(), ("model",), ("rule",), ("...",)]),
    group_wait=st.sampled_from([0, MINUTE]),
)
trees = st.builds(
    Route,
    st.sampled_from(RECEIVERS),
    group_by=st.sampled_from([(), ("model",)]),
    routes=st.lists(leaves, max_size=3).map(tuple),
).map(Routing)


def put_first(tree: Routing, leaf: Route) -> Routing:
    return Routing(replace(tree.root, routes=(leaf, *tree.root.routes)))


edits = trees.flatmap(
    lambda tree: st.tuples(st.just(tree), st.one_of(trees, leaves.map(lambda leaf: put_first(tree, leaf))))
)


@settings(deadline=None, max_examples=300)
@given(edits, st.lists(changes, min_size=1, max_size=8), st.booleans())
def test_after_an_edit_of_the_tree_what_fires_is_in_the_groups_of_the_new_one_and_in_no_other(
    edit: tuple[Routing, Routing], happened: list, told: bool
) -> None:
    before, after = edit
    world = World(Dispatcher(before))
    decided = [world.change(*one) for one in happened]
    world.dispatcher.step(world.now, [t for t in decided if t is not None])
    if told:
        world.now += 200 * SECOND
        world.dispatcher.step(world.now)
    groups = {id: g for id, g in world.dispatcher.groups.items() if not outdated(after, g)}
    for gone in [g for g in world.dispatcher.groups.values() if outdated(after, g)]:
        groups |= scattered(after, groups, gone, world.now)
    groups |= rerouted(after, groups, world.now)
    assert rerouted(after, groups, world.now) == {}
    assert not any(outdated(after, group) for group in groups.values())
    for alert, newest in world.alerts.items():
        held = {group.id for group in groups.values() if alert in group.members}
        if fires(newest):
            labels = labels_of(newest)
            routes = after.routes_of(labels)
            wanted = {group_id(key, r.receiver, r.group_of(labels)) for key, r, _ in routes}
            assert wanted <= held
            # Who was told of it by a route that stays, and would not be by one of now, hears how it goes on.
            hearing = {after.by_key(groups[id].route).receiver for id in held - wanted}
            assert not hearing & {route.receiver for _, route, _ in routes}
            assert all(groups[id].told for id in held - wanted)
