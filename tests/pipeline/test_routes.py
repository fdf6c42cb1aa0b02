"""From decided transitions to posts by way of groups: timers, threads, silences, and workers that die."""

from functools import cache

import pytest

from kedge.alerting.finding import Severity, State, Status
from kedge.alerting.loading import RuleBook
from kedge.alerting.matchers import parse_match
from kedge.alerting.routing import Escalation, Route, Routing
from kedge.notify.message import Links
from kedge.notify.receivers import Receivers
from kedge.notify.slack import SlackBot
from kedge.pipeline import deliver as deliver_module
from kedge.pipeline import faults
from kedge.pipeline import route as route_module
from kedge.pipeline.deliver import deliver, project
from kedge.pipeline.route import GROUP, MOST_SHOWN, Router
from kedge.pipeline.silences import KEEP_EXPIRED, add_silence, all_silences, expire_silence
from kedge.store.duckdb import open_duckdb
from kedge.windows import HOUR, MINUTE, SECOND
from tests.notify.samples import DECIDED, STEP, as_json, finding, transition
from tests.notify.test_deliver import Killed
from tests.support.slack_server import CHANNELS, SlackServer

NOW = DECIDED + SECOND
BOTH = {**CHANNELS, "lead": "C000000LEAD"}
POINTS = (*[point for point in faults.POINTS if point.startswith("deliver:")], *faults.ROUTED)
ROOT = Route(
    "ml",
    group_by=("model",),
    group_wait=30 * SECOND,
    group_interval=5 * MINUTE,
    repeat_interval=4 * HOUR,
    escalate=(Escalation(30 * MINUTE, "lead"),),
)


@pytest.fixture
def store():
    opened = open_duckdb(":memory:")
    opened.setup()
    yield opened
    opened.close()


@pytest.fixture
def slack():
    with SlackServer(channels=BOTH) as server:
        yield server


def receivers_of(slack, root=ROOT):
    def bot(channel):
        return SlackBot(slack.token, channel, base_url=slack.api_url, timeout=5)

    routing = None if root is None else Routing(root, receivers=frozenset({"ml", "lead"}))
    return Receivers({"ml": bot("#ml"), "lead": bot("#lead")}, "ml", Links(), routing)


class Alerts:
    """Alerts that the lifecycle has decided on."""

    def __init__(self, store) -> None:
        self.store, self.at = store, NOW
        self._last: dict[str, tuple[Status, Severity | None]] = {}
        self._turn = 0

    def set(self, alert, after=Status.FIRING, severity=Severity.HIGH, **more):
        before, was = self._last.get(alert, (Status.PENDING, None))
        self._turn += 1
        change = transition(
            f"{alert}-{self._turn}",
            alert=alert,
            rule=alert,
            before=before,
            after=after,
            severity=severity,
            severity_before=was,
            step=STEP + self._turn * MINUTE,
            decided=self.at,
            started=STEP,
            **more,
        )
        self._last[alert] = (after, severity)
        stored = self.store.alerts.get(alert)
        outgoing = [*(stored.value["outgoing"] if stored else []), as_json(change)]
        value = {
            "alert": alert,
            "rule": alert,
            "model": "fraud",
            "version": "7",
            "group": change.group,
            "status": after.value,
            "severity": int(severity),
            "started": STEP,
            "fired": STEP,
            "evaluated_through": change.step,
            "finding": as_json(finding()),
            "outgoing": outgoing,
        }
        assert self.store.alerts.swap(alert, value, stored.token if stored else None)
        return self

    def found(self, alert, **changes):
        """A later step, at which it goes on."""
        stored = self.store.alerts.get(alert)
        self._turn += 1
        newest = finding(step=STEP + self._turn * MINUTE, **changes)
        value = {**stored.value, "finding": as_json(newest), "evaluated_through": newest.step}
        assert self.store.alerts.swap(alert, value, stored.token)

    def run(self, receivers, *seconds):
        for after in seconds:
            self.at = NOW + after * SECOND
            once(self.store, receivers, self.at)


def once(store, receivers, now, worker="worker"):
    """What a tick does with what was decided."""
    router = Router.read(store, receivers, now)
    project(store, receivers, now, router=router)
    router.flush(RuleBook())
    return deliver(store, receivers, now, worker, alone=True, monotonic=lambda: 0.0)


def groups(store):
    return store.state.find(GROUP)


def texts(slack):
    return [post.headline for post in slack.posts]


# --- one alert, and several ---------------------------------------------------------------------------------


def test_an_alert_alone_is_told_as_ever_once_the_wait_is_over(store, slack):
    receivers, alerts = receivers_of(slack), Alerts(store)
    alerts.set("recall-fell").run(receivers, 0, 20)
    assert slack.posts == []
    alerts.run(receivers, 30, 40)
    (post,) = slack.posts
    assert texts(slack) == ["🔴 HIGH · fraud v7 · country=DE · recall fell"]
    assert post.thread_ts is None


def test_several_are_told_in_one_message_with_a_line_each_and_their_own_in_its_thread(store, slack):
    receivers, alerts = receivers_of(slack), Alerts(store)
    alerts.set("slow", severity=Severity.LOW).run(receivers, 0)
    alerts.set("drifted").run(receivers, 30)
    assert texts(slack) == [
        "🔴 HIGH · 2 firing · model=fraud",
        "🔴 HIGH · fraud v7 · country=DE · drifted",
        "🟡 LOW · fraud v7 · country=DE · slow",
    ]
    root, *replies = slack.posts
    assert [reply.thread_ts for reply in replies] == [root.ts, root.ts]
    assert not any(reply.broadcast for reply in replies)
    (line, other) = root.attachments[0]["blocks"][0]["text"]["text"].split("\n")
    assert line.startswith("🔴 HIGH · fraud v7 · country=DE · drifted: 0.71 (n=200")
    assert other.startswith("🟡 LOW")


def test_a_group_is_one_thread_from_its_first_message_until_all_is_over(store, slack):
    receivers, alerts = receivers_of(slack), Alerts(store)
    alerts.set("slow").run(receivers, 0, 30)
    alerts.set("drifted").run(receivers, 100, 330)
    alerts.set("slow", Status.RESOLVED).run(receivers, 400, 630)
    alerts.set("drifted", Status.RESOLVED).run(receivers, 700, 930)
    assert len({post.thread_ts or post.ts for post in slack.posts}) == 1
    assert texts(slack) == [
        "🔴 HIGH · fraud v7 · country=DE · slow",
        "🔴 HIGH · 2 firing · model=fraud",
        "🔴 HIGH · fraud v7 · country=DE · drifted",
        "🔴 HIGH · 1 firing, 1 resolved · model=fraud",
        "🟢 RESOLVED · fraud v7 · country=DE · slow",
        "🟢 RESOLVED · fraud v7 · country=DE · drifted",
    ]
    broadcast = [post.broadcast for post in slack.posts]
    assert broadcast == [False, True, False, True, False, True]
    assert groups(store) == {}
    alerts.set("slow").run(receivers, 1000, 1030)
    assert slack.posts[-1].thread_ts is None


def test_what_still_fires_is_told_again_and_says_so(store, slack):
    receivers, alerts = receivers_of(slack), Alerts(store)
    alerts.set("slow").run(receivers, 0, 30)
    alerts.set("slow", Status.ACKNOWLEDGED).run(receivers, 40, 330)
    alerts.run(receivers, *range(360, 2 * 14400, 300))
    assert len(slack.posts) == 2
    alerts.set("slow", severity=Severity.CRITICAL).run(receivers, 30_000, 30_400)
    alerts.run(receivers, *range(30_600, 30_030 + 14_400 + 300, 300))
    (again,) = [
        post
        for post in slack.posts
        if post.channel == slack.posts[0].channel and "It still fires" in str(post.attachments)
    ]
    assert (again.headline, again.broadcast) == (
        "🚨 CRITICAL · fraud v7 · country=DE · slow",
        True,
    )


def test_what_is_told_later_has_the_newest_numbers_and_the_causes_of_its_beginning(store, slack):
    receivers, alerts = receivers_of(slack), Alerts(store)
    alerts.set("slow").run(receivers, 0)
    alerts.found("slow", value=0.52, causes=(), clears="")
    alerts.run(receivers, 30)
    alerts.found("slow", value=0.61, state=State.OK)
    alerts.run(receivers, *range(330, 14_700, 300))
    first, again = [
        post.attachments[0]["blocks"][0]["text"]["text"] for post in slack.posts if post.channel[-1] == "L"
    ]
    assert first.startswith("0.52 (n=200")
    assert "Moves with it: merchant_type" in first
    assert "Clears: fall under 3" in first
    # An ok finding while it is kept firing is not what it fires for.
    assert again.startswith("0.71 (n=200")


def test_an_alert_that_is_over_before_the_wait_is_told_to_nobody(store, slack):
    receivers, alerts = receivers_of(slack), Alerts(store)
    alerts.set("slow").run(receivers, 0, 10)
    alerts.set("slow", Status.RESOLVED).run(receivers, 20, 30, 60, 400)
    assert slack.posts == []
    assert groups(store) == {}
    assert len(store.events.find()) == 2


def test_what_nobody_acknowledges_is_escalated_with_the_reason(store, slack):
    receivers, alerts = receivers_of(slack), Alerts(store)
    alerts.set("slow").run(receivers, 0, 30, 330, 1800)
    assert len(slack.posts) == 1
    alerts.run(receivers, 1830)
    lead = slack.posts[-1]
    assert lead.channel != slack.posts[0].channel
    assert "Nobody has acknowledged it" in lead.attachments[0]["blocks"][0]["text"]["text"]


def test_very_many_alerts_are_one_message_of_bounded_length(store, slack):
    receivers, alerts = receivers_of(slack), Alerts(store)
    for i in range(MOST_SHOWN + 5):
        alerts.set(f"rule-{i:02d}")
    alerts.run(receivers, 0, 30)
    assert texts(slack)[0] == f"🔴 HIGH · {MOST_SHOWN} firing, 5 more · model=fraud"
    assert len(slack.posts) == 11
    assert "… and 5 more" in slack.posts[0].attachments[0]["blocks"][0]["text"]["text"]


def test_a_rules_own_receiver_is_told_whatever_the_tree_says(store, slack):
    receivers, alerts = receivers_of(slack), Alerts(store)
    alerts.set("slow", notify="lead").run(receivers, 0, 30)
    assert [row.value["receiver"] for row in store.outbox.find().values()] == ["lead"]


def test_a_receiver_that_does_not_exist_is_named_to_those_who_are_told(store, slack):
    receivers, alerts = receivers_of(slack), Alerts(store)
    alerts.set("slow", notify="nobody").run(receivers, 0, 30)
    assert 'there is no receiver "nobody"' in str(slack.posts[0].attachments)


def test_alerts_of_a_route_that_has_gone_go_where_they_belong_now(store, slack):
    child = Route("lead", parse_match({"rule": "slow"}), group_wait=30 * SECOND)
    with_child = Route("ml", group_wait=30 * SECOND, group_interval=5 * MINUTE, routes=(child,))
    alerts = Alerts(store)
    alerts.set("slow").run(receivers_of(slack, with_child), 0)
    receivers = receivers_of(slack)
    alerts.run(receivers, 10, 40)
    assert [row.value["receiver"] for row in store.outbox.find().values()] == ["ml"]
    assert len(groups(store)) == 1


def edited(receiver="ml", **more):
    return Route("ml", routes=(Route(receiver, parse_match({"model": "fraud"}), **{**TIMES, **more}),))


TIMES = {"group_by": ("model",), "group_wait": 30 * SECOND, "group_interval": 5 * MINUTE}


@pytest.mark.parametrize("told", [False, True], ids=["while-it-waits", "once-it-was-told"])
def test_a_route_that_tells_another_receiver_tells_it_alone_and_once(store, slack, told):
    """Alertmanager knows who was told of a group by its receiver: another one is told anew."""
    alerts, before, after = Alerts(store), edited(), edited("lead")
    alerts.set("slow").run(receivers_of(slack, before), *((0, 30) if told else (0,)))
    alerts.set("odd").run(receivers_of(slack, after), 40, 70, 100)
    assert [(post.channel, post.headline) for post in slack.posts if post.thread_ts is None] == [
        *([(BOTH["ml"], "🔴 HIGH · fraud v7 · country=DE · slow")] if told else []),
        (BOTH["lead"], "🔴 HIGH · 2 firing · model=fraud"),
    ]
    alerts.set("slow", Status.RESOLVED).set("odd", Status.RESOLVED).run(receivers_of(slack, after), 110, 400)
    assert {post.channel for post in slack.posts[-3:]} == {BOTH["lead"]}
    assert slack.posts[-3].headline == "🟢 RESOLVED · 2 resolved · model=fraud"
    assert groups(store) == {}


def test_a_route_that_groups_by_other_labels_makes_its_groups_anew(store, slack):
    alerts = Alerts(store)
    alerts.set("slow").run(receivers_of(slack, edited()), 0, 30)
    receivers = receivers_of(slack, edited(group_by=("model", "rule")))
    alerts.set("odd").set("slow", severity=Severity.CRITICAL).run(receivers, 40, 70, 330, 400)
    assert sorted(texts(slack)) == [
        "🔴 HIGH · fraud v7 · country=DE · odd",
        "🔴 HIGH · fraud v7 · country=DE · slow",
        "🚨 CRITICAL · fraud v7 · country=DE · slow",
    ]
    held = [stored.value["labels"] for stored in groups(store).values()]
    assert sorted(labels["rule"] for labels in held) == ["odd", "slow"]


def test_a_route_that_is_put_before_another_takes_what_fires_already(store, slack):
    alerts = Alerts(store)
    alerts.set("slow").set("odd").run(receivers_of(slack, edited()), 0, 30)
    first = Route("lead", parse_match({"rule": "slow"}), **TIMES)
    split = Route("ml", routes=(first, *edited().routes))
    alerts.run(receivers_of(slack, split), 40, 70, 100)
    assert [(p.channel, p.headline) for p in slack.posts[3:]] == [
        (BOTH["lead"], "🔴 HIGH · fraud v7 · country=DE · slow")
    ]
    # Who was told that it fires hears that it is over.
    alerts.set("slow", Status.RESOLVED).run(receivers_of(slack, split), 110, 400)
    assert [p.headline for p in slack.posts if p.channel == BOTH["lead"]][1:] == [
        "🟢 RESOLVED · fraud v7 · country=DE · slow"
    ]
    assert "🔴 HIGH · 1 firing, 1 resolved · model=fraud" in texts(slack)


def test_a_route_whose_times_alone_were_changed_keeps_its_groups(store, slack):
    alerts = Alerts(store)
    alerts.set("slow").run(receivers_of(slack, edited()), 0, 30)
    held = groups(store)
    alerts.run(receivers_of(slack, edited(group_interval=HOUR, repeat_interval=2 * HOUR)), 40, 330)
    assert len(slack.posts) == 1
    assert groups(store).keys() == held.keys()


def test_the_receiver_of_a_rule_is_removed_while_its_group_waits_and_the_tree_tells(store, slack):
    alerts, both = Alerts(store), receivers_of(slack)
    alerts.set("slow", notify="lead").run(both, 0)
    alone = Receivers({"ml": both.notifier("ml")}, "ml", Links(), Routing(ROOT, receivers=frozenset({"ml"})))
    alerts.run(alone, 10, 40)
    (post,) = slack.posts
    assert post.channel == BOTH["ml"]
    assert 'there is no receiver "lead"' in str(post.attachments)
    assert len(groups(store)) == 1


def test_a_group_that_an_older_kedge_has_stored_is_looked_at_as_ever(store, slack):
    receivers, alerts = receivers_of(slack), Alerts(store)
    alerts.set("slow").run(receivers, 0)
    ((name, stored),) = groups(store).items()
    older = {key: value for key, value in stored.value.items() if key != "group_by"}
    assert older != stored.value
    assert store.state.swap(name, older, stored.token)
    alerts.run(receivers, 30)
    assert len(slack.posts) == 1


def test_what_fires_when_routes_come_or_go_is_told_of_until_its_end(store, slack):
    plain, routed, alerts = receivers_of(slack, None), receivers_of(slack), Alerts(store)
    alerts.set("slow").set("drifted").run(plain, 0)
    alerts.run(routed, 60, 90)
    assert texts(slack)[2:] == [
        "🔴 HIGH · 2 firing · model=fraud",
        "🔴 HIGH · fraud v7 · country=DE · drifted",
        "🔴 HIGH · fraud v7 · country=DE · slow",
    ]
    alerts.set("slow", Status.RESOLVED).run(routed, 100, 390)
    assert texts(slack)[5:] == [
        "🔴 HIGH · 1 firing, 1 resolved · model=fraud",
        "🟢 RESOLVED · fraud v7 · country=DE · slow",
    ]
    alerts.run(plain, 400)
    alerts.set("drifted", Status.RESOLVED).run(plain, 410, 800)
    assert texts(slack)[7:] == ["🟢 RESOLVED · fraud v7 · country=DE · drifted"]
    assert groups(store) == {}


# --- silences -----------------------------------------------------------------------------------------------


def silence(store, match, starts, ends):
    times = {"now": NOW, "starts": NOW + starts * SECOND, "ends": NOW + ends * SECOND}
    return add_silence(store.state, parse_match(match), author="kim", reason="deploy", **times)


@pytest.mark.parametrize("root", [None, ROOT], ids=["plain", "routes"])
def test_a_silenced_alert_is_told_to_nobody_and_what_still_fires_afterwards_is(store, slack, root):
    receivers, alerts = receivers_of(slack, root), Alerts(store)
    silence(store, {"rule": "slow"}, 0, 1000)
    alerts.set("slow").set("ends").run(receivers, 0, 30)
    silence(store, {"rule": "ends"}, 30, 1000)
    alerts.set("ends", Status.RESOLVED).run(receivers, 40, 330, 990)
    assert texts(slack) == ["🔴 HIGH · fraud v7 · country=DE · ends"]
    alerts.run(receivers, 1001, 1300)
    assert texts(slack)[1:] == ["🔴 HIGH · fraud v7 · country=DE · slow"]
    assert {event.value["rule"] for event in store.events.find().values()} == {"slow", "ends"}


def test_without_routes_what_was_told_before_a_silence_is_told_again_after_it_if_it_fires(store, slack):
    receivers, alerts = receivers_of(slack, None), Alerts(store)
    alerts.set("slow").set("ends").set("other").run(receivers, 0)
    silence(store, {"rule": ["slow", "ends"]}, 60, 1000)
    alerts.run(receivers, 50, 70)
    alerts.set("ends", Status.RESOLVED).run(receivers, 80, 999)
    assert len(slack.posts) == 3
    alerts.run(receivers, 1000, 1010, 5000)
    assert texts(slack)[3:] == ["🔴 HIGH · fraud v7 · country=DE · slow"]
    assert groups(store) == {}


def test_without_routes_an_alert_that_waits_in_silence_is_not_overtaken_by_its_own_changes(store, slack):
    receivers, alerts = receivers_of(slack, None), Alerts(store)
    silence(store, {"severity": "<= medium"}, 0, 1000)
    alerts.set("slow", severity=Severity.LOW).run(receivers, 0, 10)
    alerts.set("slow", severity=Severity.HIGH).run(receivers, 20)
    alerts.set("slow", Status.RESOLVED).run(receivers, 30)
    assert texts(slack) == [
        "🔴 HIGH · fraud v7 · country=DE · slow",
        "🟢 RESOLVED · fraud v7 · country=DE · slow",
    ]
    assert len({post.thread_ts or post.ts for post in slack.posts}) == 1


def test_a_silence_that_is_ended_by_hand_is_over_at_once(store, slack):
    receivers, alerts = receivers_of(slack, None), Alerts(store)
    made = silence(store, {"rule": "slow"}, 0, 1000)
    alerts.set("slow").run(receivers, 0, 10)
    expire_silence(store.state, made.id[:5], NOW + 20 * SECOND)
    alerts.run(receivers, 20)
    assert len(slack.posts) == 1


def test_silences_are_forgotten_days_after_they_ended(store, slack):
    receivers, alerts = receivers_of(slack), Alerts(store)
    silence(store, {"rule": "slow"}, 0, 1000)
    alerts.run(receivers, 1000 + KEEP_EXPIRED // SECOND)
    assert len(all_silences(store.state)) == 1
    alerts.run(receivers, 1001 + KEEP_EXPIRED // SECOND)
    assert all_silences(store.state) == []


def test_a_document_that_cannot_be_read_stops_nothing(store, slack, caplog):
    receivers, alerts = receivers_of(slack), Alerts(store)
    store.state.swap(f"{GROUP}odd", {"what": "is this"}, None)
    store.state.swap("route:silence:odd", {"match": {"a": {}}}, None)
    alerts.set("slow").run(receivers, 0, 30)
    assert len(slack.posts) == 1
    assert caplog.text.count("cannot be read") >= 2


# --- workers that die ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["route:decided", "route:queued"])
def test_what_another_worker_adds_to_a_group_meanwhile_is_kept(store, slack, monkeypatch, point):
    receivers, alerts = receivers_of(slack), Alerts(store)
    alerts.set("slow").run(receivers, 0)

    def meanwhile(name):
        told = any(stored.value.get("outgoing") for stored in groups(store).values())
        if name == point and told:
            monkeypatch.setattr(route_module, "reach", lambda name: None)
            alerts.set("odd")
            project(store, receivers, alerts.at)

    monkeypatch.setattr(route_module, "reach", meanwhile)
    alerts.run(receivers, 30)
    ((_, stored),) = groups(store).items()
    assert set(stored.value["members"]) == {"slow", "odd"}
    alerts.run(receivers, 330)
    assert texts(slack)[:2] == ["🔴 HIGH · fraud v7 · country=DE · slow", "🔴 HIGH · 2 firing · model=fraud"]


def test_of_two_workers_that_look_at_once_one_tells(store, slack, monkeypatch):
    receivers, alerts = receivers_of(slack), Alerts(store)
    alerts.set("slow").run(receivers, 0)
    first = Router.read(store, receivers, NOW + 30 * SECOND)
    second = Router.read(store, receivers, NOW + 31 * SECOND)
    assert (first.flush(RuleBook()), second.flush(RuleBook())) == (1, 0)
    assert len(store.outbox.find()) == 1


STORY = (0, 10, 30, 330, 400, 630, 1830, 2130, 14_730)


def live(store, slack, root, *, dies=None, after=0):
    """A story; the worker dies at a point once it has passed it `after` times, and another goes on."""
    receivers, alerts = receivers_of(slack, root), Alerts(store)
    silence(store, {"rule": "hushed"}, 0, 500)
    passed = 0

    def reach(name):
        nonlocal passed
        assert name in POINTS
        if name == dies:
            passed += 1
            if passed == after + 1:
                raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(route_module, "reach", reach)
        patch.setattr(deliver_module, "reach", reach)
        for seconds in STORY:
            alerts.at = NOW + seconds * SECOND
            if seconds == 0:
                alerts.set("slow", severity=Severity.LOW).set("hushed")
            if seconds == 330:
                alerts.set("drifted")
            if seconds == 630:
                alerts.set("slow", Status.RESOLVED)
            if seconds == 2130:
                alerts.set("drifted", Status.RESOLVED)
                alerts.set("hushed", Status.RESOLVED)
            try:
                once(store, receivers, alerts.at)
            except Killed:
                once(store, receivers, alerts.at, "another")
    return dies is not None and passed > after


def told(slack):
    return [
        (post.channel, text, post.thread_ts is not None)
        for post, text in zip(slack.posts, texts(slack), strict=True)
    ]


@cache
def undisturbed(root):
    return outcome(root)


def outcome(root, dies=None, after=0):
    """What was told, what is known of it, and what is left; and that the worker died."""
    with SlackServer(channels=BOTH) as server:
        opened = open_duckdb(":memory:")
        opened.setup()
        died = live(opened, server, root, dies=dies, after=after)
        found = (sorted(told(server)), sorted(opened.events.find()), groups(opened))
        opened.close()
    assert died == (dies is not None)
    return found


CASES = [
    pytest.param(root, point, after, id=f"{name}-{point}-{after}")
    for name, root in (("plain", None), ("routes", ROOT))
    for point in POINTS
    for after in (0, 2)
    # With routes, rows come from groups alone; without, a group is for what a silence covers.
    if (name, point) != ("routes", "deliver:projected-outbox")
    and (name, point, after) != ("plain", "route:assigned", 2)
]


@pytest.mark.parametrize(("root", "point", "after"), CASES)
def test_a_worker_that_dies_anywhere_makes_no_message_vanish_or_come_twice(root, point, after):
    assert outcome(root, point, after) == undisturbed(root)
