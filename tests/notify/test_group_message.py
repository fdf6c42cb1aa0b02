"""A message of several alerts: a line an alert, and where each leads, within what Slack takes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.alerting.finding import Severity, Status
from kedge.alerting.grouping import Notification, Reason, shortened
from kedge.notify.group_message import compose_group
from kedge.notify.message import Links
from kedge.notify.slack import SlackBot
from kedge.notify.slack_blocks import MAX_SECTION, payload
from kedge.pipeline.route import MOST_SHOWN
from tests.notify.samples import DECIDED, finding, transition
from tests.support.slack_rules import refusal
from tests.support.slack_server import SlackServer

LINKS = Links("https://kedge.example/v1", "https://kibana.example")


def notification(firing, resolved=()):
    told = Notification(
        id="n1",
        receiver="ml",
        at=DECIDED,
        reason=Reason.FIRST,
        incident="i1",
        labels={"model": "fraud"},
        firing=tuple(firing),
        resolved=tuple(resolved),
        changed=tuple(t.alert for t in (*firing, *resolved)),
    )
    return shortened(told, MOST_SHOWN)


def alerts(n, **changes):
    return [transition(f"t{i}", alert=f"alert-{i}", rule=f"rule-{i:02d}", **changes) for i in range(n)]


def contexts(message):
    """The texts of links, by block."""
    blocks = payload(message)["attachments"][0]["blocks"]
    return [[e["text"] for e in b["elements"]] for b in blocks if b["type"] == "context"]


def lines(message):
    return [line for texts in contexts(message) for text in texts for line in text.split("\n")]


def test_each_alert_leads_to_itself_and_to_its_example_rows():
    rows = finding(rows={"feature": "amount", "fault": "missing"})
    _, second = alerts(2, before=Status.FIRING, after=Status.RESOLVED)
    told = notification([transition("t0", alert="alert-0", rule="gaps", finding=rows)], [second])
    found = lines(compose_group(told, links=LINKS))
    assert found[0].startswith(
        "fraud v7 · country=DE · gaps: <https://kedge.example/v1/alerts/alert-0|Dashboard> · "
        "<https://kedge.example/v1/models/fraud/examples?feature=amount&amp;fault=missing&amp;from=2026-11-02"
    )
    assert found[0].endswith("|Example rows>")
    assert found[1:] == [
        "fraud v7 · country=DE · rule 01: <https://kedge.example/v1/alerts/alert-1|Dashboard>"
    ]


def test_without_a_dashboard_an_alert_leads_to_what_there_is():
    told = notification(alerts(2))
    assert "|Logs>" in lines(compose_group(told, links=Links(kibana="https://kibana.example")))[0]
    assert lines(compose_group(told, links=Links()))[0].endswith("<https://wiki.example/recall|Runbook>")
    bare = notification(alerts(2, runbook=""))
    assert lines(compose_group(bare, links=Links())) == []


def test_a_message_of_one_alert_has_its_links_as_ever():
    message = compose_group(notification(alerts(1)), links=LINKS)
    assert message.alerts == ()
    assert [link.text for link in message.links] == ["Logs", "Dashboard", "Runbook"]


def test_very_many_alerts_with_long_addresses_are_taken_by_slack_with_a_link_each():
    rows = finding(rows={"feature": "f" * 400, "fault": "missing"})
    many = alerts(MOST_SHOWN + 5, finding=rows, group={"segment.country": "ü" * 200})
    message = compose_group(notification(many), links=LINKS)
    with SlackServer() as slack:
        SlackBot(slack.token, "#ml", base_url=slack.api_url, timeout=5).send(message)
        (post,) = slack.posts
    posted = str(post.attachments)
    for i in range(MOST_SHOWN):
        assert f"/alerts/alert-{i}|Dashboard>" in posted
    assert posted.count("|Example rows>") == MOST_SHOWN
    assert len(contexts(message)[0]) > 1, "one text does not hold them"


def test_an_address_that_no_text_holds_costs_no_other_alert_its_own():
    rows = finding(rows={"feature": "f" * MAX_SECTION, "fault": "missing"})
    message = compose_group(notification(alerts(3, finding=rows)), links=LINKS)
    assert refusal(payload(message)) is None
    assert [line.count("<https://") for line in lines(message)] == [1, 1, 1]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
changes = st.fixed_dictionaries(
    {
        "alert": st.from_regex(r"[0-9a-f]{1,40}", fullmatch=True),
        "rule": texts,
        "model": texts,
        "version": texts,
        "group": st.dictionaries(texts, texts, max_size=3),
        "severity": st.sampled_from([Severity.LOW, Severity.HIGH, Severity.CRITICAL]),
        "after": st.sampled_from([Status.FIRING, Status.RESOLVED, Status.NO_DATA]),
        "runbook": st.sampled_from(["", "https://wiki.example/" + "r" * 2_900]),
        "finding": texts.map(lambda text: finding(rows={"feature": text, "fault": "missing"})),
    }
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(changes, min_size=2, max_size=MOST_SHOWN + 3, unique_by=lambda one: one["alert"]),
    st.sampled_from(["https://kedge.example/v1", "https://" + "k" * 200 + ".example/" + "v1" * 900]),
)
def test_slack_takes_any_message_and_every_alert_shown_has_a_link(given_changes, dashboard):
    made = [transition(f"t{i}", **one) for i, one in enumerate(given_changes)]
    firing = [t for t in made if t.after is not Status.RESOLVED]
    told = notification(firing, [t for t in made if t.after is Status.RESOLVED])
    message = compose_group(told, links=Links(dashboard))
    assert refusal(payload(message)) is None
    found = "\n".join(lines(message))
    for shown in (*told.firing, *told.resolved):
        assert f"/alerts/{shown.alert}|Dashboard>" in found
