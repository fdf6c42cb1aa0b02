"""Groups of alerts and silences live in every store alike."""

from uuid import uuid4

from kedge.alerting.finding import Severity, Status
from kedge.alerting.matchers import parse_match
from kedge.alerting.routing import Route, Routing
from kedge.notify.base import Message
from kedge.notify.message import Links
from kedge.notify.receivers import Receivers
from kedge.pipeline.route import GROUP
from kedge.pipeline.silences import add_silence, all_silences, expire_silence
from kedge.store.base import Store
from kedge.windows import MINUTE, SECOND
from tests.notify.test_deliver import Recorder
from tests.pipeline.test_routes import NOW, Alerts


def test_a_group_is_told_silenced_and_ended(store: Store) -> None:
    mine = uuid4().hex[:8]
    for name, stored in store.outbox.find().items():  # other tests keep documents of their own there
        store.outbox.delete(name, stored.token)
    root = Route("ml", group_by=("team",), group_wait=30 * SECOND, group_interval=5 * MINUTE)
    recorder = Recorder()
    receivers = Receivers({"ml": recorder}, "ml", Links(), Routing(root, receivers=frozenset({"ml"})))
    alerts = Alerts(store)
    slow, odd = f"slow-{mine}", f"odd-{mine}"
    made = add_silence(
        store.state,
        parse_match({"rule": odd}),
        author="kim",
        reason="deploy",
        now=NOW,
        starts=NOW,
        ends=NOW + 10 * MINUTE,
    )
    alerts.set(slow, labels={"team": mine}).set(odd, labels={"team": mine}).run(receivers, 0, 30)
    assert headlines(recorder.sent) == [f"HIGH · fraud v7 · country=DE · slow {mine}"]
    assert [one.id for one in all_silences(store.state)] == [made.id]
    alerts.set(slow, severity=Severity.CRITICAL, labels={"team": mine}).run(receivers, 40, 330)
    expire_silence(store.state, made.id, NOW + 340 * SECOND)
    alerts.run(receivers, 340, 630)
    alerts.set(slow, Status.RESOLVED, labels={"team": mine})
    alerts.set(odd, Status.RESOLVED, labels={"team": mine}).run(receivers, 640, 930, 1230)
    assert headlines(recorder.sent)[1:] == [
        f"CRITICAL (was HIGH) · fraud v7 · country=DE · slow {mine}",
        f"CRITICAL · 2 firing · team={mine}",
        f"HIGH · fraud v7 · country=DE · odd {mine}",
        f"RESOLVED · 2 resolved · team={mine}",
        f"RESOLVED · fraud v7 · country=DE · odd {mine}",
        f"RESOLVED · fraud v7 · country=DE · slow {mine}",
    ]
    assert len({message.incident for message in recorder.sent}) == 1
    assert store.state.find(GROUP) == {}


def headlines(sent: list[Message]) -> list[str]:
    return [message.headline for message in sent]
