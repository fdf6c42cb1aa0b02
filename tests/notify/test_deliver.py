"""From decided transitions to posts: nothing lost, nothing doubled, in order, each receiver on its own."""

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kedge.alerting.finding import Severity, Status
from kedge.alerting.routing import plain_routing
from kedge.notify.base import Message, NotifyError, Receipt
from kedge.notify.message import Links
from kedge.notify.receivers import Receivers
from kedge.notify.slack import SlackBot, SlackWebhook
from kedge.pipeline import deliver as module
from kedge.pipeline import faults
from kedge.pipeline.deliver import GONE_AFTER, KEEP_FAILED, KEEP_SENT, LEASE, DeliveryCounts, deliver, project
from kedge.pipeline.outbox import GIVE_UP_AFTER, LONGEST_BACKOFF, MOST_ATTEMPTS
from kedge.store.duckdb import open_duckdb
from kedge.windows import DAY, HOUR, MINUTE, SECOND
from tests.notify.samples import DECIDED, STEP, as_json, episode, transition
from tests.support.slack_server import SlackServer

NOW = DECIDED + SECOND
POINTS = [point for point in faults.POINTS if point.startswith("deliver:")]


class Killed(BaseException):
    """Stands for SIGKILL: nothing in kedge may catch it."""


@pytest.fixture
def store():
    opened = open_duckdb(":memory:")
    opened.setup()
    yield opened
    opened.close()


@pytest.fixture
def slack():
    with SlackServer() as server:
        yield server


@pytest.fixture
def receivers(slack):
    return Receivers({"ml": SlackBot(slack.token, "#ml", base_url=slack.api_url, timeout=5)}, "ml", Links())


def decide(store, *transitions, alert="alert1"):
    """What the lifecycle leaves behind: the alert with its outgoing transitions."""
    stored = store.alerts.get(alert)
    outgoing = [*(stored.value["outgoing"] if stored else []), *map(as_json, transitions)]
    value = {"alert": alert, "status": "firing", "outgoing": outgoing}
    assert store.alerts.swap(alert, value, stored.token if stored else None)


def rows(store, receiver="ml"):
    return [stored.value for _, stored in sorted(store.outbox.find(f"{receiver}/").items())]


def run(store, receivers, now=NOW, **more):
    project(store, receivers, now)
    return deliver(store, receivers, now, "worker", **more)


class Recorder:
    """A notifier that writes down what it was given, and raises what it is told to."""

    def __init__(self, *errors: Exception | None):
        self.sent: list[Message] = []
        self.again: list[bool] = []
        self.errors = list(errors)

    def send(self, message, *, thread=None, again=False):
        self.again.append(again)
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        self.sent.append(message)
        return Receipt("recorded")


def only(notifier) -> Receivers:
    return Receivers({"ml": notifier}, "ml", Links())


# --- project ------------------------------------------------------------------------------------------------


def test_a_transition_becomes_an_event_and_a_row_and_leaves_its_alert(store, receivers):
    decide(store, transition())
    assert project(store, receivers, NOW) == 1
    assert store.events.get("t1").value == as_json(transition())
    (row,) = rows(store)
    assert (row["status"], row["attempts"], row["next_attempt"]) == ("pending", 0, NOW)
    assert store.alerts.get("alert1").value == {"alert": "alert1", "status": "firing", "outgoing": []}
    assert project(store, receivers, NOW) == 0


def test_only_the_named_alerts_are_looked_at(store, receivers):
    decide(store, transition("a"), alert="one")
    decide(store, transition("b"), alert="two")
    assert project(store, receivers, NOW, alerts=["two", "absent"]) == 1
    assert project(store, receivers, NOW) == 1


def test_a_transition_decided_meanwhile_is_not_taken_out_with_the_others(store, receivers, monkeypatch):
    decide(store, transition("t1"))

    def meanwhile(point):
        if point == "deliver:projected-outbox" and len(store.events.find()) == 1:
            decide(store, transition("t2"))

    monkeypatch.setattr(module, "reach", meanwhile)
    project(store, receivers, NOW)
    assert [raw["id"] for raw in store.alerts.get("alert1").value["outgoing"]] == ["t2"]


def test_info_is_an_event_and_is_not_delivered(store, receivers):
    decide(store, transition(severity=Severity.INFO))
    assert project(store, receivers, NOW) == 1
    assert set(store.events.find()) == {"t1"}
    assert rows(store) == []


def test_a_transition_that_cannot_be_read_stays_and_the_others_go(store, receivers, caplog):
    decide(store, transition("good"))
    stored = store.alerts.get("alert1")
    value = stored.value | {"outgoing": [{"id": "odd", "severity": "loud"}, *stored.value["outgoing"]]}
    store.alerts.swap("alert1", value, stored.token)
    assert project(store, receivers, NOW) == 1
    assert [raw["id"] for raw in store.alerts.get("alert1").value["outgoing"]] == ["odd"]
    assert "cannot be read" in caplog.text


# --- deliver ------------------------------------------------------------------------------------------------


def test_an_episode_is_posted_in_order_in_one_thread(store, slack, receivers):
    decide(store, *reversed(episode()))
    counts = run(store, receivers)
    assert (counts.sent, counts.waiting) == (6, 0)
    assert [post.transition for post in slack.posts] == ["t0", "t1", "t2", "t3", "t4", "t5"]
    assert {post.thread_ts for post in slack.posts[1:]} == {slack.posts[0].ts}
    assert {row["status"] for row in rows(store)} == {"sent"}
    assert run(store, receivers).sent == 0


def test_the_thread_is_kept_from_one_run_to_the_next(store, slack, receivers):
    for change in episode():
        decide(store, change)
        run(store, receivers)
    assert {post.thread_ts for post in slack.posts[1:]} == {slack.posts[0].ts}


def test_what_one_step_decides_is_told_in_the_order_of_its_decision(store):
    ended = transition("z", before=Status.NO_DATA, after=Status.RESOLVED)
    fires = transition("a", before=Status.RESOLVED, after=Status.FIRING)
    acknowledged = transition("0", before=Status.FIRING, after=Status.ACKNOWLEDGED, decided=DECIDED + MINUTE)
    recorder = Recorder()
    decide(store, acknowledged, fires, ended)
    run(store, only(recorder))
    assert [message.transition for message in recorder.sent] == ["z", "a", "0"]


def test_a_message_that_has_to_wait_is_not_overtaken(store, slack, receivers):
    decide(store, *episode())
    slack.fail_next("503")
    counts = run(store, receivers)
    assert (counts.sent, counts.postponed, counts.waiting) == (0, 1, 5)
    assert run(store, receivers, NOW + 4 * SECOND).waiting == 6
    assert slack.posts == []
    assert run(store, receivers, NOW + 5 * SECOND + 500).sent == 6
    assert [post.transition for post in slack.posts] == [change.id for change in episode()]


def test_a_rate_limit_is_waited_for_without_sleeping(store):
    with SlackServer(rate=0.0001, burst=2, retry_after=30) as slack:
        receivers = only(SlackBot(slack.token, "#ml", base_url=slack.api_url))
        decide(store, *episode())
        counts = run(store, receivers)
        assert (counts.sent, counts.postponed, counts.waiting) == (2, 1, 3)
        slack.rate = None
        assert run(store, receivers, NOW + 29 * SECOND).sent == 0
        assert run(store, receivers, NOW + 31 * SECOND).sent == 4
        assert slack.calls.count("conversations.replies") == 0


def test_one_receiver_that_fails_holds_up_nobody_else(store, slack, receivers):
    broken = Recorder(NotifyError("down", permanent=False), RuntimeError("xoxb-test-only-secret"))
    both = Receivers({"broken": broken, **receivers.notifiers}, "ml", Links())
    for i, change in enumerate(episode()):
        decide(store, transition(f"b{i}", notify="broken", step=change.step), change)
    assert run(store, both).sent == 6
    assert len(slack.posts) == 6


def test_a_fault_in_a_notifier_is_written_down_without_its_text(store, caplog):
    secret = "xoxb-test-only-secret"
    decide(store, transition())
    with caplog.at_level(logging.DEBUG):
        counts = run(store, only(Recorder(RuntimeError(secret))))
    assert counts.postponed == 1
    (row,) = rows(store)
    assert "RuntimeError in Recorder.send" in row["error"]
    assert secret not in str(row)
    assert secret not in caplog.text


def test_a_refused_message_is_failed_with_its_reason_and_the_next_ones_go(store, slack, receivers):
    decide(store, *episode()[:3])
    slack.fail_next("invalid_blocks")
    counts = run(store, receivers)
    assert (counts.failed, counts.sent) == (1, 2)
    first = rows(store)[0]
    assert (first["status"], first["error"]) == ("failed", "Slack: invalid_blocks")
    assert first["transition"]["id"] == "t0"


def test_pauses_double_up_to_half_an_hour_and_after_a_day_it_is_given_up(store):
    recorder = Recorder(*[NotifyError("down", permanent=False)] * 200)
    receivers = only(recorder)
    decide(store, transition())
    pauses, now = [], NOW
    while (
        status := (run(store, receivers, now, monotonic=lambda: 0.0), rows(store)[0])[1]["status"]
    ) == "pending":
        pauses.append(rows(store)[0]["next_attempt"] - now)
        now += pauses[-1]
    assert status == "failed"
    assert pauses[:4] == [5 * SECOND, 10 * SECOND, 20 * SECOND, 40 * SECOND]
    assert max(pauses) == LONGEST_BACKOFF
    assert GIVE_UP_AFTER <= now - NOW <= GIVE_UP_AFTER + LONGEST_BACKOFF
    assert len(recorder.again) < MOST_ATTEMPTS


def test_an_outage_of_kedge_itself_is_no_reason_to_give_up(store):
    recorder = Recorder(NotifyError("down", permanent=False))
    decide(store, transition())
    run(store, only(recorder))
    assert run(store, only(recorder), NOW + 3 * DAY).sent == 1


def test_a_message_that_ends_its_worker_each_time_is_given_up(store, monkeypatch):
    receivers, now = only(Recorder()), NOW
    decide(store, transition())
    project(store, receivers, now)

    def die(point):
        if point == "deliver:attempting":
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(module, "reach", die)
        for _ in range(MOST_ATTEMPTS):
            with pytest.raises(Killed):
                deliver(store, receivers, now, "worker")
            now += LEASE + SECOND
    assert deliver(store, receivers, now, "worker").failed == 1


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (NotifyError("429", permanent=False), False),
        (NotifyError("timed out", permanent=False, unknown=True), True),
    ],
)
def test_the_next_attempt_looks_first_where_the_last_ones_fate_is_unknown(store, error, again):
    recorder = Recorder(error, NotifyError("429", permanent=False))
    decide(store, transition())
    for i in range(3):
        run(store, only(recorder), NOW + i * MINUTE)
    assert recorder.again == [False, again, again]
    assert len(recorder.sent) == 1


def test_a_lost_answer_does_not_double_the_post(store, slack, receivers):
    decide(store, *episode())
    slack.fail_next("lost")
    for i in range(3):
        run(store, receivers, NOW + i * MINUTE)
    assert [post.transition for post in slack.posts] == [change.id for change in episode()]


def test_a_rule_that_names_an_unknown_receiver_reaches_the_default_with_a_notice(store, slack, receivers):
    decide(store, transition(notify="nobody"))
    run(store, receivers)
    footer = slack.posts[0].attachments[0]["blocks"][-1]["elements"][-1]["text"]
    assert footer == 'rules/fraud.yml:12 · sent to "ml": there is no receiver "nobody"'


def test_what_waited_for_a_receiver_that_was_removed_is_told_to_the_default_which_says_so(
    store, slack, receivers
):
    gone = Receivers({"gone": Recorder()}, "gone", Links())
    over = transition("t2", before=Status.FIRING, after=Status.RESOLVED, step=STEP + HOUR)
    decide(store, transition(), over)
    project(store, gone, NOW)
    # Another worker may have read a newer file, and know it.
    assert deliver(store, receivers, NOW + GONE_AFTER - 1, "worker").waiting == 2
    assert deliver(store, receivers, NOW + GONE_AFTER, "worker").failed == 2
    said = 'there is no receiver "gone" any more: "ml" is told instead'
    assert [row["error"] for row in rows(store, "gone")] == [said, said]
    assert deliver(store, receivers, NOW + GONE_AFTER, "worker").sent == 2
    assert [post.headline[0] for post in slack.posts] == ["🔴", "🟢"]
    for post in slack.posts:
        assert 'sent to "ml": there is no receiver "gone"' in str(post.attachments)


def test_a_worker_that_dies_while_it_hands_messages_on_doubles_none(store, slack, receivers, monkeypatch):
    gone = Receivers({"gone": Recorder()}, "gone", Links())
    decide(store, transition())
    project(store, gone, NOW)

    def die(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(module.Row, "failed", die)
        with pytest.raises(Killed):
            deliver(store, receivers, NOW + GONE_AFTER, "worker")
    for _ in range(3):
        deliver(store, receivers, NOW + GONE_AFTER, "another")
    assert len(slack.posts) == 1


def test_with_routes_what_waited_for_a_removed_receiver_fails_visibly_for_they_tell_it_anew(store, slack):
    gone = Receivers({"gone": Recorder()}, "gone", Links())
    recorder = Recorder()
    routed = Receivers({"ml": recorder}, "ml", Links(), plain_routing("ml", {"ml"}))
    decide(store, transition())
    project(store, gone, NOW)
    assert deliver(store, routed, NOW + GONE_AFTER, "worker").failed == 1
    assert deliver(store, routed, NOW + GONE_AFTER, "worker").sent == 0
    assert rows(store, "gone")[0]["error"] == 'there is no receiver "gone" any more'


def test_settled_rows_and_ended_threads_are_pruned(store, slack, receivers):
    decide(store, *episode())
    run(store, receivers)
    slack.fail_next("invalid_blocks")
    decide(store, transition("bad", step=STEP + DAY, started=STEP + DAY))
    run(store, receivers)
    assert len(store.state.find("thread:")) == 1
    assert run(store, receivers, NOW + KEEP_SENT).pruned == 0
    assert run(store, receivers, NOW + KEEP_SENT + MINUTE).pruned == 6
    assert store.state.find("thread:") == {}
    assert run(store, receivers, NOW + KEEP_FAILED + MINUTE).pruned == 1
    assert store.outbox.find() == {}


def test_an_idle_run_writes_nothing(store, receivers):
    decide(store, transition())
    run(store, receivers)
    before = store.state.find()
    assert run(store, receivers) == DeliveryCounts()
    assert store.state.find() == before


# --- kills, rivals and stalls -------------------------------------------------------------------------------


def die_at(monkeypatch, point, nth):
    """Be killed when `point` is reached for the nth time."""
    seen = []

    def reach(name):
        assert name in faults.POINTS
        seen.append(name)
        if name == point and seen.count(point) == nth:
            raise Killed

    monkeypatch.setattr(module, "reach", reach)


ONCE_A_RUN = ("deliver:projecting", "deliver:projected", "deliver:leased")
KILLS = [(point, 1) for point in POINTS] + [(point, 4) for point in POINTS if point not in ONCE_A_RUN]


@pytest.mark.parametrize(("point", "nth"), KILLS)
@pytest.mark.parametrize("kind", ["bot", "webhook"])
def test_killed_between_any_two_steps_nothing_is_lost_or_doubled(store, slack, monkeypatch, kind, point, nth):
    bot = SlackBot(slack.token, "#ml", base_url=slack.api_url)
    receivers = only(bot if kind == "bot" else SlackWebhook(slack.webhook_url))
    decide(store, *episode())
    with monkeypatch.context() as patched:
        die_at(patched, point, nth)
        with pytest.raises(Killed):
            run(store, receivers)
    run(store, receivers, NOW + LEASE + SECOND)

    headlines = [post.headline for post in slack.posts]
    if kind == "bot":
        assert [post.transition for post in slack.posts] == [change.id for change in episode()]
    elif point in ("deliver:sent", "deliver:threaded"):
        # Between a webhook's answer and its record, and only there, one post may appear twice.
        assert len(headlines) == 7
        assert headlines[nth - 1] == headlines[nth]
    else:
        assert len(headlines) == 6
    assert {row["status"] for row in rows(store)} == {"sent"}
    assert len(rows(store)) == 6
    assert set(store.events.find()) == {change.id for change in episode()}
    assert store.alerts.get("alert1").value["outgoing"] == []


def test_many_deliverers_at_once_post_each_message_once(store, slack, receivers):
    decide(store, *episode())
    for i in range(20):
        decide(store, transition(f"x{i:02d}", alert=f"alert{i}", step=STEP + i * MINUTE))
    barrier = threading.Barrier(4)
    sent: list[int] = []

    def work(number):
        barrier.wait()
        project(store, receivers, NOW)
        sent.append(deliver(store, receivers, NOW, f"worker{number}").sent)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deliver(store, receivers, NOW, "last")
    posted = [post.transition for post in slack.posts]
    assert len(posted) == len(set(posted)) == 26
    assert sum(sent) <= 26


def test_while_one_worker_has_its_turn_another_sends_nothing(store, slack, receivers, monkeypatch):
    decide(store, *episode())
    project(store, receivers, NOW)
    rivals = []

    def rival(point):
        if point in ("deliver:leased", "deliver:recorded"):
            monkeypatch.setattr(module, "reach", lambda point: None)
            rivals.append(deliver(store, receivers, NOW + LEASE // 2, "worker"))
            monkeypatch.setattr(module, "reach", rival)

    monkeypatch.setattr(module, "reach", rival)
    assert deliver(store, receivers, NOW, "worker").sent == 6
    assert [(counts.sent, counts.leased_elsewhere) for counts in rivals] == [(0, 1)] * 6 + [(0, 0)]
    assert deliver(store, receivers, NOW, "worker") == DeliveryCounts()


def test_a_worker_that_stalls_before_sending_finds_its_turn_taken(store, slack, receivers, monkeypatch):
    decide(store, *episode())
    project(store, receivers, NOW)
    ticks = {"seconds": 0.0, "stalled": False}

    def stall(point):
        if point == "deliver:attempting" and not ticks["stalled"]:
            ticks["stalled"] = True
            ticks["seconds"] = (LEASE + SECOND) / SECOND
            assert deliver(store, receivers, NOW + LEASE + SECOND, "other").sent == 6

    monkeypatch.setattr(module, "reach", stall)
    counts = deliver(store, receivers, NOW, "slow", monotonic=lambda: ticks["seconds"])
    assert counts.sent == 0
    assert len(slack.posts) == 6
    assert {row["status"] for row in rows(store)} == {"sent"}


def test_a_long_queue_renews_its_lease(store):
    seconds = iter(range(0, 10_000, 5))
    recorder = Recorder()
    for i in range(20):
        decide(store, transition(f"x{i:02d}", step=STEP + i * MINUTE))
    assert run(store, only(recorder), monotonic=lambda: float(next(seconds))).sent == 20


def test_a_lease_taken_by_a_clock_that_was_set_back_does_not_last(store):
    decide(store, transition())
    future = NOW + 10 * DAY
    value = {"holder": "x", "turn": "y", "length": LEASE, "until": future}
    store.state.swap("lease:receiver:ml", value, None)
    assert run(store, only(Recorder())).sent == 1


# --- the fault points themselves ----------------------------------------------------------------------------


def test_a_fault_point_does_nothing_unless_it_is_named(monkeypatch):
    monkeypatch.delenv(faults.VARIABLE, raising=False)
    for point in faults.POINTS:
        faults.reach(point)
    assert len(set(faults.POINTS)) == len(faults.POINTS)


def test_a_name_that_is_no_fault_point_is_an_error_on_either_side(monkeypatch):
    with pytest.raises(ValueError, match="is not a fault point"):
        faults.reach("deliver:nowhere")
    monkeypatch.setenv(faults.VARIABLE, "deliver:nowhere")
    with pytest.raises(ValueError, match="is not a fault point"):
        faults.reach(POINTS[0])


WORKER = """
import sys
from kedge.notify.receivers import load_receivers
from kedge.pipeline.deliver import deliver, project
from kedge.store.duckdb import open_duckdb
import os
store = open_duckdb(sys.argv[1])
receivers = load_receivers(None, os.environ)
now = int(sys.argv[2])
project(store, receivers, now)
deliver(store, receivers, now, "worker")
store.close()
"""


@pytest.mark.parametrize("point", ["deliver:projected-outbox", "deliver:sent"])
def test_a_worker_killed_for_good_is_taken_over_from_its_file(tmp_path, slack, point):
    path = str(tmp_path / "kedge.duckdb")
    opened = open_duckdb(path)
    opened.setup()
    decide(opened, *episode())
    opened.close()
    env = os.environ | {
        "SLACK_BOT_TOKEN": slack.token,
        "SLACK_CHANNEL": "#ml",
        "SLACK_API_URL": slack.api_url,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }

    def worker(now, **more):
        arguments = [sys.executable, "-c", WORKER, path, str(now)]
        return subprocess.run(arguments, env=env | more, timeout=120, check=False).returncode

    assert worker(NOW, **{faults.VARIABLE: point}) == -signal.SIGKILL
    assert worker(NOW + HOUR) == 0
    assert [post.transition for post in slack.posts] == [change.id for change in episode()]
