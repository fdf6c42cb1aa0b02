"""What people read of each change of an alert."""

import itertools
from urllib.parse import parse_qsl, urlsplit

import pytest

from kedge.alerting.finding import Finding, Severity, State, Status
from kedge.notify.formatting import THIN
from kedge.notify.message import Links, compose
from kedge.sketch import LATENCY
from tests.notify.samples import STEP, episode, finding, transition

LINKS = Links("https://kedge.example/", "https://kibana.example")


def told(**changes):
    return compose(transition(**changes), links=Links())


def test_a_firing_alert_says_what_was_seen_against_what_and_what_clears_it():
    message = compose(transition(), links=LINKS)
    assert message.headline == "HIGH · fraud v7 · country=DE · recall fell"
    assert message.lines == (
        f"0.71 (n=200; 95{THIN}%: 0.64–0.77), was 0.84 (n=910): −15 % (limit −10 %)",
        "Moves with it: merchant_type 9 % never seen (usual 0 %)",
        "Clears: fall under 3 %",
    )
    assert message.fields == (
        ("Window", "2–8 Nov"),
        ("Breaching since", "6 Nov 13:05 UTC"),
        ("Firing since", "9 Nov 13:05 UTC"),
    )
    assert message.footer == "rules/fraud.yml:12"
    assert (message.emoji, message.broadcast) == ("🔴", True)


def test_a_value_of_selected_rows_says_of_which():
    part = "of the 30 % of predictions that ever get a label"
    message = told(finding=finding(part=part, change="", reference=None, reference_n=None, bound=None))
    assert message.lines[0] == f"0.71 (n=200; 95{THIN}%: 0.64–0.77; {part})"


def test_what_stayed_normal_is_said_and_long_causes_leave_room_for_the_rest():
    causes = tuple({"kind": "rate", "name": f"region={'x' * 500}{i}", "text": "1 % → 9 %"} for i in range(5))
    message = told(finding=finding(causes=causes, normal=("traffic", "latency", "errors")))
    _, moved, normal, clears = message.lines
    assert moved.startswith("Moves with it: region=xxx")
    assert moved.endswith("…; 2 more")
    assert len(moved) < 3 * 160 + 40
    assert normal == "Normal: traffic, latency, errors"
    assert clears == "Clears: fall under 3 %"
    over = told(before=Status.FIRING, after=Status.RESOLVED, finding=finding(normal=("errors",)))
    assert not any(line.startswith("Normal") for line in over.lines)


def test_a_resolved_alert_says_how_long_it_lasted():
    message = told(
        before=Status.FIRING, after=Status.RESOLVED, severity_before=Severity.HIGH, reason="ok for 1h"
    )
    assert message.headline == "RESOLVED · fraud v7 · country=DE · recall fell"
    assert ("Lasted", f"3{THIN}d") in message.fields
    assert "ok for 1h" in message.lines
    assert not any(line.startswith(("Clears", "Moves")) for line in message.lines)
    assert message.emoji == "🟢"


def test_no_data_needs_no_value():
    nothing = Finding(step=STEP, state=State.NO_DATA, reason="no rows in 30m")
    message = told(after=Status.NO_DATA, finding=nothing, reason="no data since 12:35")
    assert message.headline == "NO DATA · fraud v7 · country=DE · recall fell"
    assert message.lines == ("no rows in 30m", "no data since 12:35")


def test_a_changed_severity_names_the_one_before():
    rise = told(before=Status.FIRING, severity_before=Severity.MEDIUM)
    assert rise.headline.startswith("HIGH (was MEDIUM) · ")
    after_ack = told(before=Status.ACKNOWLEDGED, after=Status.ACKNOWLEDGED, severity_before=Severity.MEDIUM)
    assert after_ack.headline.startswith("HIGH (was MEDIUM) · ")
    assert rise.broadcast
    assert after_ack.broadcast


def test_everyone_hears_of_firing_worsening_lost_data_and_resolving_but_not_of_easing():
    assert [compose(t, links=Links()).broadcast for t in episode()] == [True, True, False, True, False, True]


def test_easing_to_info_is_heard_for_it_is_the_last_that_receivers_hear():
    assert told(before=Status.FIRING, severity=Severity.INFO, severity_before=Severity.HIGH).broadcast
    assert not told(before=Status.FIRING, after=Status.ACKNOWLEDGED, severity_before=Severity.HIGH).broadcast


def test_an_incident_is_one_episode():
    incidents = {compose(t, links=Links()).incident for t in episode()}
    assert len(incidents) == 1
    assert told(started=STEP).incident not in incidents


def test_every_change_of_every_status_can_be_told():
    for before, after, severity in itertools.product(Status, Status, Severity):
        message = told(before=before, after=after, severity=severity)
        assert message.headline
        assert message.lines
        assert message.colour.startswith("#")
        assert message.emoji


def test_numbers_are_said_once_and_the_sentence_where_there_are_none():
    assert "recall is 0.71" not in " ".join(told(finding=finding(reason="recall is 0.71")).lines)
    without = told(finding=finding(value=None, reason="no reference yet"))
    assert without.lines[0] == "no reference yet"


def test_who_resolved_an_alert_by_hand_is_said():
    by_hand = told(before=Status.FIRING, after=Status.RESOLVED, reason="resolved by somebody")
    assert "resolved by somebody" in by_hand.lines


def test_line_breaks_in_names_do_not_break_lines():
    message = told(group={"segment.x": "a\nb\u2028c"}, description="one\r\ntwo")
    assert "x=a b c" in message.headline
    assert message.lines[-1] == "one two"


def test_a_version_without_its_v_gets_one_and_a_name_stays():
    assert "fraud v7 " in told(version="7").headline
    assert "fraud canary " in told(version="canary").headline
    assert told(version="", group={}).headline == "HIGH · fraud · recall fell"


def test_a_version_that_the_rule_splits_by_is_named_too():
    assert told(version="", group={"version": "v9"}).headline == "HIGH · fraud v9 · recall fell"


def test_links_lead_to_logs_dashboard_and_runbook():
    links = {link.text: link.url for link in compose(transition(alert="a/b"), links=LINKS).links}
    assert links["Dashboard"] == "https://kedge.example/alerts/a%2Fb"
    assert links["Runbook"] == "https://wiki.example/recall"
    assert "from:'2026-11-02T00:00:00Z',to:'2026-11-09T00:00:00Z'" in links["Logs"]
    assert "segment.country:%22DE%22" in links["Logs"]


def test_quotes_in_a_group_stay_inside_the_query():
    link = compose(transition(group={"segment.x": 'it\'s "!" & #1'}), links=LINKS).links[0]
    assert "it!'s%20%5C%22!!%5C%22%20%26%20%231" in link.url


def test_the_link_to_example_rows_asks_for_the_feature_window_and_group_of_the_finding():
    found = finding(rows={"feature": "größe & co", "problem": "cell", "cell": "[1, 2)"})
    links = {link.text: link.url for link in compose(transition(finding=found), links=LINKS).links}
    address = urlsplit(links["Example rows"])
    assert (address.netloc, address.path) == ("kedge.example", "/models/fraud/examples")
    assert parse_qsl(address.query) == [
        ("feature", "größe & co"),
        ("problem", "cell"),
        ("cell", "[1, 2)"),
        ("from", "2026-11-02T00:00:00Z"),
        ("to", "2026-11-09T00:00:00Z"),
        ("group", "segment.country=DE"),
        ("group", "version=7"),
    ]


def test_there_are_no_example_rows_without_a_feature_a_dashboard_or_a_fault():
    rows = {"feature": "age", "problem": "missing"}
    assert "Example rows" not in [link.text for link in compose(transition(), links=LINKS).links]
    for links, changes in (
        (Links("", "https://kibana.example"), {}),
        (LINKS, {"before": Status.FIRING, "after": Status.RESOLVED}),
    ):
        message = compose(transition(finding=finding(rows=rows), **changes), links=links)
        assert "Example rows" not in [link.text for link in message.links]


@pytest.mark.parametrize(
    "runbook", ["javascript:alert(1)", "file:///etc/passwd", "wiki/recall", "https://", "http://[", ""]
)
def test_a_runbook_that_is_no_web_address_is_no_link(runbook):
    assert compose(transition(runbook=runbook), links=Links()).links == ()


def test_an_odd_value_is_told_beside_what_is_usual_then():
    odd = finding(
        value=412.0,
        n=900,
        interval=(405.0, 420.0),
        unit="ms",
        reference=None,
        reference_n=None,
        usual=(180.0, 260.0),
        bound=310.0,
        change="on Tuesdays at 14:00 (4 weeks)",
        causes=(),
        clears="back between 180 ms and 260 ms, or what is usual then",
    )
    seen, clears = told(finding=odd).lines
    assert seen == (
        f"412{THIN}ms (n=900; 95{THIN}%: 405{THIN}ms–420{THIN}ms), usual 180{THIN}ms–260{THIN}ms: "
        f"on Tuesdays at 14:00 (4 weeks), limit 310{THIN}ms"
    )
    assert clears == "Clears: back between 180 ms and 260 ms, or what is usual then"


def test_an_interval_without_an_upper_end_and_one_of_a_single_value_are_not_shown_as_spans() -> None:
    def line(interval: tuple[float, float]) -> str:
        found = finding(value=155.5, bound=120.0, unit="ms", n=30, interval=interval)
        return told(finding=found).lines[0]

    end = float(LATENCY.edges[-1])
    assert f"95{THIN}%: 130{THIN}ms or more" in line((130.3, end))
    assert "95" not in line((155.5, 155.5))
