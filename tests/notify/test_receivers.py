"""notify.yml, the environment, and who is told of what."""

import io
import logging

import pytest

from kedge.alerting.finding import Severity, Status
from kedge.errors import BadInput, KedgeError
from kedge.notify.receivers import load_receivers, load_routing
from kedge.notify.slack import SlackBot, SlackWebhook
from kedge.notify.terminal import Terminal
from tests.notify.samples import transition

SECRET = "xoxb-test-only-secret"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "notify.yml"
        path.write_text(text)
        return path

    return write


TWO = """\
default: ml-oncall
receivers:
  ml-oncall: {slack: {channel: "#ml", token_env: MY_TOKEN}}
  hook: {slack_webhook: {url_env: MY_HOOK}}
  console: {terminal: {}}
"""
ENV = {"MY_TOKEN": SECRET, "MY_HOOK": "http://127.0.0.1:1/services/secret"}


def test_the_file_names_receivers_and_the_environment_holds_their_secrets(write):
    receivers = load_receivers(write(TWO), ENV)
    assert receivers.known == {"ml-oncall", "hook", "console"}
    assert isinstance(receivers.notifier("ml-oncall"), SlackBot)
    assert isinstance(receivers.notifier("hook"), SlackWebhook)
    assert isinstance(receivers.notifier("console"), Terminal)
    assert SECRET not in repr(receivers)
    assert "services/secret" not in repr(receivers)


def test_a_budget_stands_beside_how_a_receiver_is_told(write):
    text = TWO.replace("{terminal: {}}", "{budget: 3 per 30d, terminal: {}}")
    for receivers in (load_receivers(write(text), ENV), load_receivers(write(text + "route: {}\n"), ENV)):
        tree = receivers.tree
        assert isinstance(receivers.notifier("console"), Terminal)
        assert {name: str(tree.budget_of(name)) for name in sorted(receivers.known)} == {
            "console": "3 per 30d",
            "hook": "1 per 30d",
            "ml-oncall": "1 per 30d",
        }
        assert load_routing(write(text)).budgets == tree.budgets
    with pytest.raises(KedgeError, match="MY_HOOK is not set"):
        load_receivers(
            write(text.replace("hook: {slack", "hook: {budget: 1 per 7d, slack")), {"MY_TOKEN": "x"}
        )


@pytest.mark.parametrize(
    ("env", "kind"),
    [
        ({}, Terminal),
        ({"SLACK_WEBHOOK_URL": "http://127.0.0.1:1/x"}, SlackWebhook),
        ({"SLACK_BOT_TOKEN": SECRET, "SLACK_CHANNEL": "#ml"}, SlackBot),
    ],
)
def test_without_a_file_the_environment_decides(env, kind, tmp_path):
    receivers = load_receivers(tmp_path / "absent.yml", env)
    assert isinstance(receivers.notifier(receivers.default), kind)


def test_a_token_without_a_channel_is_an_error_with_the_way_out():
    with pytest.raises(BadInput, match="set SLACK_CHANNEL too"):
        load_receivers(None, {"SLACK_BOT_TOKEN": SECRET})


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (
            f'receivers:\n  a: {{slack: {{channel: "#ml", token: {SECRET}}}}}\n',
            ["notify.yml:2:31", "unknown field", "name an environment variable in token_env"],
        ),
        ("receivers:\n  a: {slack: {}, terminal: {}}\n", ["notify.yml:2:", "a.slack.channel"]),
        ('receivers:\n  a: {slack: {channel: "#m"}, terminal: {}}\n', ["notify.yml:2:3", "exactly one of"]),
        ("receivers:\n  a: {}\n", ["notify.yml:2:3", "exactly one of"]),
        (
            "receivers:\n  a: {budget: 1 per 30d}\n",
            ["notify.yml:2:3", "exactly one of slack, slack_webhook, terminal"],
        ),
        ("receivers:\n  a: {terminal: {}, budget: 0 per 30d}\n", ["notify.yml:2:21", "must allow something"]),
        (
            "receivers:\n  a: {terminal: {}, budgte: 1 per 30d}\n",
            ["notify.yml:2:21", 'did you mean "budget"?'],
        ),
        ("receivers:\n  a/b: {terminal: {}}\n", ["notify.yml:2:3", "a/b"]),
        ("receivers: {}\n", ["notify.yml:1:1", "receivers"]),
        ("", ["notify.yml:1:1", "receivers"]),
        ("[1]", ["notify.yml:1:1"]),
        ("a: [", ["notify.yml:1:"]),
        (
            "default: b\nreceivers:\n  a: {terminal: {}}\n",
            ["notify.yml:1:1", 'no receiver "b"', "there are: a"],
        ),
        ("receivers:\n  a: {terminal: {}}\n  b: {terminal: {}}\n", ["default", "name the receiver"]),
        ('receivers:\n  a: {slack: {channel: "#m"}}\n', ["notify.yml:2:7", "SLACK_BOT_TOKEN is not set"]),
    ],
)
def test_a_wrong_entry_is_named_with_its_place(write, text, errors):
    with pytest.raises(KedgeError) as caught:
        load_receivers(write(text), {})
    for part in errors:
        assert part in str(caught.value)
    assert SECRET not in str(caught.value)


def test_all_wrong_entries_are_named_at_once(write):
    with pytest.raises(KedgeError) as caught:
        load_receivers(write(TWO), {"MY_HOOK": "ftp://host/services/secret"})
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "MY_TOKEN is not set" in lines[0]
    assert "notify.yml:4:26" in lines[1]
    assert "services/secret" not in str(caught.value)


@pytest.mark.parametrize("token", ["xoxb-1\nX: y", "xoxb 1", "xoxb-é"])
def test_a_token_that_no_header_can_carry_is_refused_without_showing_it(token):
    with pytest.raises(BadInput) as caught:
        load_receivers(None, {"SLACK_BOT_TOKEN": token, "SLACK_CHANNEL": "#ml"})
    assert token not in str(caught.value)


def test_a_rules_receiver_is_told_else_the_default(write):
    receivers = load_receivers(write(TWO), ENV)
    assert receivers.route(transition(notify="hook")) == ("hook",)
    assert receivers.route(transition()) == ("ml-oncall",)


def test_an_unknown_receiver_falls_back_to_the_default_and_says_so_once(write, caplog):
    receivers = load_receivers(write(TWO), ENV)
    with caplog.at_level(logging.WARNING):
        assert receivers.route(transition(notify="nobody")) == ("ml-oncall",)
        assert receivers.route(transition(notify="nobody")) == ("ml-oncall",)
    assert [r.getMessage() for r in caplog.records] == [
        'rule "recall-fell" notifies "nobody", which notify.yml does not have: "ml-oncall" is told instead'
    ]
    assert receivers.misrouted(transition(notify="nobody"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"severity": Severity.INFO}, False),
        ({"severity": Severity.LOW}, True),
        ({"before": Status.INACTIVE, "after": Status.PENDING}, False),
        ({"before": Status.PENDING, "after": Status.INACTIVE}, False),
        ({"before": Status.RESOLVED, "after": Status.PENDING}, False),
        ({"before": Status.FIRING, "after": Status.PENDING}, True),
        ({"before": Status.FIRING, "after": Status.RESOLVED}, True),
        ({"before": Status.INACTIVE, "after": Status.NO_DATA}, True),
        ({"before": Status.NO_DATA, "after": Status.RESOLVED}, True),
        ({"before": Status.FIRING, "after": Status.ACKNOWLEDGED}, True),
        ({"before": Status.FIRING, "severity": Severity.INFO, "severity_before": Severity.HIGH}, True),
        (
            {
                "before": Status.FIRING,
                "after": Status.RESOLVED,
                "severity": Severity.INFO,
                "severity_before": Severity.INFO,
            },
            False,
        ),
    ],
)
def test_people_are_told_of_what_they_were_told_of_and_never_of_info(changes, told):
    receivers = load_receivers(None, {}, stream=io.StringIO())
    assert bool(receivers.route(transition(**changes))) is told
