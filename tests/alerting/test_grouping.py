"""When a group is told: Alertmanager's decision table, and its timers on a clock that tests turn."""

import msgspec
import pytest

from kedge.alerting.dispatch import Dispatcher
from kedge.alerting.finding import Flaps, Severity, Status
from kedge.alerting.grouping import Fired, Group, Reason, Told, decide
from kedge.alerting.inhibition import Inhibition
from kedge.alerting.matchers import parse_match
from kedge.alerting.mutes import Interval
from kedge.alerting.routing import Escalation, Route, Routing, plain_routing
from kedge.alerting.silences import new_silence
from kedge.windows import HOUR, MINUTE, SECOND
from tests.notify.samples import transition

T = 1_000_000 * HOUR
"""Any time will do."""


def told(firing, resolved=(), at=T):
    return Told(
        at=at, firing={id: Fired(id, Status.FIRING, Severity.HIGH) for id in firing}, resolved=resolved
    )


@pytest.mark.parametrize(
    ("last", "firing", "resolved", "reason"),
    [
        # Nobody was told of the group before.
        (None, {"1"}, set(), Reason.FIRST),
        (None, {"1"}, {"2"}, Reason.FIRST),
        (None, set(), {"1"}, Reason.UNHEARD),
        (None, set(), set(), Reason.UNHEARD),
        # More fires than was told.
        (told({"1"}), {"1", "2"}, set(), Reason.NEW),
        (told({"1"}), {"2"}, set(), Reason.NEW),
        (told({"1"}), {"2"}, {"1"}, Reason.NEW),
        (told(set(), ("1",)), {"1"}, set(), Reason.NEW),
        # All is over.
        (told({"1"}), set(), {"1"}, Reason.ALL_RESOLVED),
        (told({"1", "2"}), set(), {"1", "2"}, Reason.ALL_RESOLVED),
        (told({"1"}), set(), set(), Reason.ALL_RESOLVED),
        # What began and ended in between, while nothing that was told fires.
        (told(set(), ("1",)), set(), {"1"}, Reason.UNHEARD),
        (told(set(), ("1",)), set(), {"2"}, Reason.UNHEARD),
        # Some of it is over.
        (told({"1", "2"}), {"1"}, {"2"}, Reason.RESOLVED),
        (told({"1"}, ("2",)), {"1"}, {"3"}, Reason.RESOLVED),
        (told({"1"}, ("2",)), {"1"}, {"2", "3"}, Reason.RESOLVED),
        # Nothing changed, and it is too early to repeat; fewer that fire are no news by themselves.
        (told({"1", "2"}), {"1", "2"}, set(), Reason.UNCHANGED),
        (told({"1", "2"}), {"1"}, set(), Reason.UNCHANGED),
        (told({"1"}, ("2",)), {"1"}, {"2"}, Reason.UNCHANGED),
        # Nothing changed, and `repeat_interval` is over.
        (told({"1"}, at=T - HOUR), {"1"}, set(), Reason.REPEAT),
        (told({"1"}, ("2",), at=T - HOUR), {"1"}, {"2"}, Reason.REPEAT),
        (told({"1"}, at=T - HOUR + 1), {"1"}, set(), Reason.UNCHANGED),
        # What is over is never repeated.
        (told(set(), ("1",), at=T - HOUR), set(), {"1"}, Reason.UNHEARD),
    ],
)
def test_what_changed_since_the_last_message_decides(last, firing, resolved, reason):
    assert decide(last, firing, resolved, now=T, repeat=HOUR) is reason


def test_what_everybody_who_matters_knows_of_is_not_repeated():
    last = told({"1"}, at=T - HOUR)
    assert decide(last, {"1"}, set(), now=T, repeat=HOUR, waits=False) is Reason.ACKNOWLEDGED


def test_only_reasons_to_tell_tell():
    assert {r for r in Reason if not r.tells} == {
        Reason.UNHEARD,
        Reason.UNCHANGED,
        Reason.ACKNOWLEDGED,
        Reason.MUTED,
    }


# --- timers -------------------------------------------------------------------------------------------------


class Life:
    """Alerts of a dispatcher that begin, change and end by name; the clock counts seconds."""

    def __init__(self, routing: Routing) -> None:
        self.dispatcher = Dispatcher(routing)
        self.now = 0
        self.told: list[tuple[int, str, str, str]] = []
        """Seconds, receiver, reason, and what fires/what is over."""
        self.silences = []
        self._waiting = []
        self._turn = 0
        self._status: dict[str, tuple[Status, Severity]] = {}

    def set(self, alert: str, after: Status = Status.FIRING, severity=Severity.HIGH, **more) -> None:
        before, was = self._status.get(alert, (Status.PENDING, None))
        self._turn += 1
        given = {"alert": alert, "rule": alert, "started": T, "group": {}} | more
        change = transition(
            f"{alert}{self._turn}",
            before=before,
            after=after,
            severity=severity,
            severity_before=was,
            step=T + self._turn * MINUTE,
            decided=T + self.now * SECOND,
            **given,
        )
        self._waiting.append(change)
        self._status[alert] = (after, severity if after is not Status.RESOLVED else None)

    def end(self, alert: str, **more) -> None:
        self.set(alert, Status.RESOLVED, **more)

    def run(self, seconds: int, every: int = 1) -> list[tuple[int, str, str, str]]:
        """Tick on for so long; what was told in it."""
        before = len(self.told)
        until = self.now + seconds
        while self.now < until:
            for found in self.dispatcher.step(T + self.now * SECOND, self._waiting, self.silences):
                names = ["+".join(sorted(t.alert for t in side)) for side in (found.firing, found.resolved)]
                self.told.append((self.now, found.receiver, found.reason.name, "/".join(names)))
            self._waiting = []
            self.now += every
        return self.told[before:]


def tree(**more) -> Routing:
    given = {
        "group_by": ("model",),
        "group_wait": 30 * SECOND,
        "group_interval": 300 * SECOND,
        "repeat_interval": HOUR,
    }
    return Routing(Route("team", **(given | more)))


def test_alerts_that_come_within_the_wait_are_told_together():
    life = Life(tree())
    life.set("a")
    assert life.run(20) == []
    life.set("b")
    assert life.run(30) == [(30, "team", "FIRST", "a+b/")]


def test_one_that_comes_later_waits_for_the_interval():
    life = Life(tree())
    life.set("a")
    life.run(60)
    life.set("b")
    assert life.run(600) == [(330, "team", "NEW", "a+b/")]


def test_one_that_is_over_before_the_wait_is_told_to_nobody():
    life = Life(tree())
    life.set("a")
    life.run(10)
    life.end("a")
    assert life.run(7200, 5) == []
    assert life.dispatcher.groups == {}


def test_an_end_is_told_at_the_interval_and_the_next_beginning_waits_anew():
    life = Life(tree())
    life.set("a")
    life.run(60)
    life.end("a")
    assert life.run(400) == [(330, "team", "ALL_RESOLVED", "/a")]
    life.set("a", started=T + HOUR)
    assert life.run(100) == [(490, "team", "FIRST", "a/")]


def test_one_of_two_that_is_over_is_told_once():
    life = Life(tree())
    life.set("a")
    life.set("b")
    life.run(60)
    life.end("b")
    assert life.run(1200) == [(330, "team", "RESOLVED", "a/b")]


def test_what_fires_and_is_over_between_two_looks_is_told_to_nobody():
    life = Life(tree())
    life.set("a")
    life.run(60)
    life.end("a")
    life.run(10)
    life.set("a", started=T + HOUR)
    life.run(10)
    life.end("a", started=T + HOUR)
    # The first episode was told, so its end is; of the second nobody hears.
    assert life.run(600) == [(330, "team", "ALL_RESOLVED", "/a")]


@pytest.mark.parametrize(
    ("repeat", "seconds"),
    [
        (600, [630, 1230, 1830]),  # two intervals
        (601, [930, 1830]),  # three: rounded up
        (899, [930, 1830]),
        (900, [930, 1830]),
        (10, [330, 630, 930, 1230, 1530, 1830]),  # one interval at least
    ],
)
def test_a_repetition_is_rounded_up_to_a_multiple_of_the_interval(repeat, seconds):
    life = Life(tree(repeat_interval=repeat * SECOND))
    life.set("a")
    life.run(60)
    assert life.run(1800) == [(at, "team", "REPEAT", "a/") for at in seconds]


def test_a_worker_that_comes_late_does_not_move_the_beat():
    life = Life(tree(repeat_interval=600 * SECOND))
    life.set("a")
    told = life.run(4000, 37)
    # Due at 30, 630, 1230, …: each at the first tick from then on.
    assert [at for at, *_ in told] == [37, 666, 1258, 1850, 2442, 3034, 3663]


def test_an_alert_that_waited_through_an_outage_is_told_at_once():
    life = Life(tree())
    life.set("a")
    life.now = 3600
    assert life.run(1) == [(3600, "team", "FIRST", "a/")]


def test_alerts_of_other_labels_are_other_groups():
    life = Life(tree())
    life.set("a")
    life.set("b", model="churn")
    assert sorted(life.run(60)) == [(30, "team", "FIRST", "a/"), (30, "team", "FIRST", "b/")]
    assert sorted(group.labels["model"] for group in life.dispatcher.groups.values()) == ["churn", "fraud"]


def test_a_story_is_told_as_alertmanager_told_it():
    """What Alertmanager 0.25.0 sent to a webhook, to the second, of the same story with the same settings."""
    story = [
        (0, "fires", "a"),
        (1, "fires", "b"),
        (5, "fires", "c"),
        (7, "ends", "c"),
        (9, "ends", "b"),
        (26, "fires", "d"),
        (27, "silence", "e"),
        (28, "fires", "e"),
        (40, "heard", "e"),
        (44, "fires", "down"),
        (45, "fires", "f"),
        (57, "ends", "down"),
        (70, "ends", "a"),
        (70, "ends", "d"),
        (70, "ends", "e"),
        (70, "ends", "f"),
        (84, "fires", "a"),
        (85, "ends", "a"),
    ]
    times = {"group_wait": 2 * SECOND, "group_interval": 4 * SECOND, "repeat_interval": 10 * SECOND}
    inhibition = Inhibition(parse_match({"rule": "down"}), parse_match({"rule": "f"}), ("model",))
    life = Life(Routing(tree(**times).root, (inhibition,)))
    for at, what, alert in [*story, (100, "", "")]:
        life.run(at - life.now)
        match what:
            case "fires":
                life.set(alert)
            case "ends":
                life.end(alert)
            case "silence":
                life.silences = [silence({"rule": alert}, at, 1000)]
            case "heard":
                life.silences = []
    assert [(at, names) for at, _, _, names in life.told] == [
        (2, "a+b/"),
        (6, "a+b+c/"),
        (10, "a/b+c"),
        (22, "a/"),
        (26, "a+d/"),
        (38, "a+d/"),
        (42, "a+d+e/"),
        (46, "a+d+down+e/"),
        (58, "a+d+e+f/down"),
        (70, "/a+d+e+f"),
    ]


# --- what kedge adds: severities that move, acknowledgements, missing data ----------------------------------


def test_another_severity_is_news_and_told_as_a_change_since_the_last_message():
    life = Life(tree())
    life.set("a", severity=Severity.LOW)
    life.run(60)
    life.set("a", severity=Severity.MEDIUM)
    life.set("a", severity=Severity.CRITICAL)
    life.now = 330
    (found,) = life.dispatcher.step(T + 330 * SECOND, life._waiting)
    (change,) = found.firing
    assert (change.severity_before, change.severity) == (Severity.LOW, Severity.CRITICAL)
    assert (found.reason, found.changed) == (Reason.NEW, ("a",))


def test_what_a_receiver_hears_first_began_for_it_whatever_came_before():
    life = Life(tree())
    life.set("a", severity=Severity.LOW)
    life.set("a", severity=Severity.HIGH)
    life.dispatcher.step(T, life._waiting)
    (found,) = life.dispatcher.step(T + 30 * SECOND)
    (change,) = found.firing
    assert (change.before, change.severity_before) == (Status.PENDING, None)


def test_a_worse_alert_goes_to_its_new_route_and_the_old_one_hears_of_it_until_it_ends():
    pager = Route("pager", parse_match({"severity": "critical"}), group_wait=0, group_interval=60 * SECOND)
    life = Life(tree(routes=(pager,)))
    life.set("a", severity=Severity.LOW)
    life.run(60)
    life.set("a", severity=Severity.CRITICAL)
    assert life.run(300) == [(60, "pager", "FIRST", "a/"), (330, "team", "NEW", "a/")]
    life.end("a")
    assert sorted(life.run(600)) == [
        (360, "pager", "ALL_RESOLVED", "/a"),
        (630, "team", "ALL_RESOLVED", "/a"),
    ]


def test_a_route_that_has_told_nothing_yet_forgets_an_alert_that_moves_on():
    pager = Route("pager", parse_match({"severity": "critical"}), group_wait=0)
    life = Life(tree(routes=(pager,)))
    life.set("a", severity=Severity.LOW)
    life.run(10)
    life.set("a", severity=Severity.CRITICAL)
    assert life.run(600) == [(10, "pager", "FIRST", "a/")]


def test_an_acknowledged_alert_is_told_as_that_and_not_repeated():
    life = Life(tree(repeat_interval=600 * SECOND))
    life.set("a")
    life.run(60)
    life.set("a", Status.ACKNOWLEDGED)
    assert life.run(7200) == [(330, "team", "NEW", "a/")]
    life.end("a")
    assert life.run(400) == [(7530, "team", "ALL_RESOLVED", "/a")]


def test_one_that_eases_to_info_is_over_for_those_who_were_told():
    life = Life(tree())
    life.set("a")
    life.run(60)
    life.set("a", severity=Severity.INFO)
    assert life.run(600) == [(330, "team", "ALL_RESOLVED", "/a")]


def test_info_and_what_only_waits_to_fire_make_no_group():
    life = Life(tree())
    life.set("a", severity=Severity.INFO)
    life.set("b", Status.PENDING)
    assert life.run(100) == []
    assert life.dispatcher.groups == {}


def test_an_older_transition_that_comes_again_changes_nothing():
    life = Life(tree())
    life.set("a")
    (old,) = life._waiting
    life.run(60)
    life.set("a", severity=Severity.CRITICAL)
    life.run(10)
    groups = dict(life.dispatcher.groups)
    life.dispatcher.step(T + life.now * SECOND, [old])
    assert life.dispatcher.groups == groups


# --- mutes --------------------------------------------------------------------------------------------------


def silence(match, starts, ends):
    times = {"created": T, "starts": T + starts * SECOND, "ends": T + ends * SECOND}
    return new_silence("s", parse_match(match), author="kim", reason="deploy", **times)


def test_what_fires_in_a_silence_is_told_at_the_first_look_after_it():
    life = Life(tree())
    life.silences = [silence({"rule": "a"}, 0, 500)]
    life.set("a")
    assert life.run(500) == []
    assert life.run(300) == [(630, "team", "FIRST", "a/")]


def test_what_ends_in_a_silence_is_told_to_nobody():
    life = Life(tree())
    life.set("a")
    life.run(60)
    life.silences = [silence({"rule": "a"}, 60, 2000)]
    life.end("a")
    assert life.run(4000, 5) == []


def test_what_was_told_before_a_silence_is_repeated_after_it_like_anything_else():
    life = Life(tree())
    life.set("a")
    life.run(60)
    life.silences = [silence({"rule": "a"}, 60, 3700)]
    assert life.run(4000, 5) == [(3930, "team", "REPEAT", "a/")]


def test_a_silenced_alert_is_not_in_the_message_of_its_group():
    life = Life(tree())
    life.silences = [silence({"rule": "a"}, 0, 9000)]
    life.set("a")
    life.set("b")
    assert life.run(60) == [(30, "team", "FIRST", "b/")]


def test_an_inhibited_alert_is_told_once_its_source_is_over():
    source, target = parse_match({"rule": "down"}), parse_match({"rule": "a"})
    routing = tree()
    life = Life(Routing(routing.root, (Inhibition(source, target, ("model",)),)))
    life.set("down", Status.ACKNOWLEDGED)
    life.set("a")
    assert life.run(100) == [(30, "team", "FIRST", "down/")]
    life.end("down")
    assert life.run(300) == [(330, "team", "NEW", "a/down")]


def test_a_muted_route_says_nothing_and_tells_what_still_fires_afterwards():
    # Muted in the first ten minutes of an hour; T is a full hour.
    routing = Routing(
        Route(
            "team", group_by=("...",), group_wait=30 * SECOND, group_interval=60 * SECOND, mute_times=("m",)
        ),
        intervals={"m": (Interval(times=tuple((h * 60, h * 60 + 10) for h in range(24))),)},
    )
    life = Life(routing)
    life.set("a")
    life.set("b")
    assert life.run(300) == []
    life.end("b")
    assert life.run(400) == [(630, "team", "FIRST", "a/")]


def test_why_nothing_was_told_can_be_asked():
    life = Life(tree())
    life.silences = [silence({"rule": "a"}, 0, 500)]
    life.set("a")
    life.dispatcher.step(T, life._waiting, life.silences)
    life.dispatcher.step(T + 30 * SECOND, (), life.silences)
    (look,) = life.dispatcher.looks.values()
    assert look.reasons == {"team": Reason.MUTED}
    assert look.muted["a"].startswith("silenced by kim until")


def test_what_a_composite_tells_of_instead_leaves_its_group_without_a_word():
    life = Life(tree(escalate=(Escalation(1800 * SECOND, "lead"),)))
    life.set("a")
    life.set("b")
    life.run(60)
    life.set("a", severity=Severity.CRITICAL, muted_by="trouble")
    life.end("a", muted_by="trouble")
    life.set("b", Status.ACKNOWLEDGED)
    assert life.run(9000, 30) == [(330, "team", "NEW", "b/")]
    life.end("b")
    assert life.run(400) == [(9330, "team", "ALL_RESOLVED", "/b")]


def test_what_still_fires_when_its_composite_is_over_is_told_again():
    life = Life(tree())
    life.set("a")
    life.run(60)
    life.set("a", severity=Severity.CRITICAL, muted_by="trouble")
    assert life.run(600) == []
    life.set("a", severity=Severity.CRITICAL)
    assert life.run(600) == [(690, "team", "FIRST", "a/")]


def test_an_alert_that_flaps_stays_in_its_group_until_it_is_steady():
    life = Life(tree())
    life.set("a", flaps=Flaps.BEGINS)
    life.run(60)
    for _ in range(10):
        life.end("a", flaps=Flaps.FOLDED)
        life.run(30)
        life.set("a", flaps=Flaps.FOLDED)
        life.run(30)
    life.end("a", flaps=Flaps.STEADY)
    assert life.run(400) == [(930, "team", "ALL_RESOLVED", "/a")]
    assert [reason for _, _, reason, _ in life.told] == ["FIRST", "ALL_RESOLVED"]


# --- escalation ---------------------------------------------------------------------------------------------

ESCALATING = {"escalate": (Escalation(1800 * SECOND, "lead"), Escalation(3600 * SECOND, "head"))}


def test_what_nobody_acknowledges_goes_to_the_next_receiver_at_its_time():
    life = Life(tree(repeat_interval=10 * HOUR, **ESCALATING))
    life.set("a")
    assert life.run(4000, 10) == [
        (30, "team", "FIRST", "a/"),
        (1830, "lead", "ESCALATED", "a/"),
        (3630, "head", "ESCALATED", "a/"),
    ]
    life.end("a")
    assert sorted(receiver for _, receiver, reason, _ in life.run(400) if reason == "ALL_RESOLVED") == [
        "head",
        "lead",
        "team",
    ]


def test_what_is_acknowledged_in_time_is_not_escalated():
    life = Life(tree(repeat_interval=10 * HOUR, **ESCALATING))
    life.set("a")
    life.set("b")
    life.run(600)
    life.set("a", Status.ACKNOWLEDGED)
    told = life.run(1300, 10)
    assert (1830, "lead", "ESCALATED", "b/") in told
    assert not [one for one in told if one[1] == "lead" and "a" in one[3]]


def test_an_end_before_the_time_is_not_escalated():
    life = Life(tree(**ESCALATING))
    life.set("a")
    life.run(600)
    life.end("a")
    assert {receiver for _, receiver, *_ in life.run(5000, 10)} == {"team"}


def test_a_silenced_alert_is_not_escalated_while_it_is_silenced():
    life = Life(tree(repeat_interval=10 * HOUR, **ESCALATING))
    life.set("a")
    life.run(60)
    life.silences = [silence({"rule": "a"}, 60, 2400)]
    assert life.run(2400, 10) == [(2400, "lead", "ESCALATED", "a/")]


# --- without a tree, and stored -----------------------------------------------------------------------------


def test_without_a_tree_each_change_is_told_at_once():
    life = Life(plain_routing("team", ["team", "mine"]))
    life.set("a")
    assert life.run(5) == [(0, "team", "FIRST", "a/")]
    life.set("a", severity=Severity.CRITICAL)
    assert life.run(5) == [(5, "team", "NEW", "a/")]
    life.end("a")
    assert life.run(5) == [(10, "team", "ALL_RESOLVED", "/a")]
    life.set("b", notify="mine")
    assert life.run(1) == [(15, "mine", "FIRST", "b/")]
    assert life.run(100_000, 60) == []


def test_a_group_that_was_stored_is_the_same():
    life = Life(tree(**ESCALATING))
    life.set("a")
    life.set("b")
    life.run(2000, 10)
    for group in life.dispatcher.groups.values():
        raw = msgspec.json.decode(msgspec.json.encode(group))
        assert msgspec.convert(raw, Group) == group


def test_when_the_next_timer_runs_out_is_known():
    life = Life(tree(**ESCALATING))
    assert life.dispatcher.next is None
    life.set("a")
    life.run(1)
    assert life.dispatcher.next == T + 30 * SECOND
    life.run(60)
    assert life.dispatcher.next == T + 330 * SECOND
