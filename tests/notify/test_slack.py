"""Both Slack notifiers over real sockets: what they post, which failures retry, and that no secret leaks."""

import logging
import socket
import threading
import traceback
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kedge.alerting.finding import Severity, Status
from kedge.notify.base import Link, Message, Notifier, NotifyError
from kedge.notify.message import Links, compose
from kedge.notify.slack import SlackBot, SlackWebhook
from kedge.notify.slack_blocks import escaped, mrkdwn, payload
from tests.notify.samples import episode, transition
from tests.support.slack_rules import refusal
from tests.support.slack_server import CHANNELS, TOKEN, WEBHOOK_PATH, SlackServer

ML = CHANNELS["ml"]


@pytest.fixture
def slack():
    with SlackServer() as server:
        yield server


def bot(slack: SlackServer, channel: str = "#ml", timeout: int = 5) -> SlackBot:
    return SlackBot(slack.token, channel, base_url=slack.api_url, timeout=timeout)


def hook(slack: SlackServer, timeout: int = 5) -> SlackWebhook:
    return SlackWebhook(slack.webhook_url, timeout=timeout)


BOTH = pytest.mark.parametrize("make", [bot, hook])
FIRING = compose(transition(), links=Links("https://kedge.example"))


def failure(notifier: Notifier, **more) -> NotifyError:
    with pytest.raises(NotifyError) as caught:
        notifier.send(FIRING, **more)
    return caught.value


# --- what is posted ----------------------------------------------------------------------------------------


@BOTH
def test_a_message_arrives_with_headline_lines_fields_links_and_colour(slack, make):
    make(slack).send(FIRING)
    (post,) = slack.posts
    assert post.headline == "🔴 HIGH · fraud v7 · country=DE · recall fell"
    section, fields, context = post.attachments[0]["blocks"]
    assert section["text"]["text"].splitlines() == list(FIRING.lines)
    assert fields["fields"][0]["text"] == "*Window*\n2–8 Nov"
    assert "<https://kedge.example/alerts/alert1|Dashboard>" in context["elements"][0]["text"]
    assert context["elements"][1]["text"] == "rules/fraud.yml:12"
    assert post.attachments[0]["color"] == "#d92d20"
    assert post.text.startswith("🔴 HIGH · fraud v7")


def test_an_incident_is_one_thread_and_what_concerns_everyone_is_broadcast(slack):
    notifier, thread = bot(slack), None
    for change in episode():
        thread = notifier.send(compose(change, links=Links()), thread=thread).reference
    first, *replies = slack.posts
    assert first.thread_ts is None
    assert {reply.thread_ts for reply in replies} == {first.ts}
    assert [reply.broadcast for reply in replies] == [True, False, True, False, True]
    assert [post.transition for post in slack.posts] == [change.id for change in episode()]


def test_a_thread_that_is_gone_does_not_swallow_the_message(slack):
    receipt = bot(slack).send(FIRING, thread={"channel": ML, "ts": "1.000000"})
    assert [post.thread_ts for post in slack.posts] == [None]
    assert receipt.reference == {"channel": ML, "ts": slack.posts[0].ts}


def test_an_incident_moves_with_the_receiver_when_its_old_channel_is_archived(slack):
    slack.archived.add(CHANNELS["ops"])
    bot(slack).send(FIRING, thread={"channel": CHANNELS["ops"], "ts": "1.000000"})
    assert [post.channel for post in slack.posts] == [ML]


# --- attempts of unknown fate ------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["#ml", "ml", ML])
@pytest.mark.parametrize("mode", ["lost", "garbage"])
def test_after_an_answer_was_lost_the_bot_finds_its_post_and_does_not_double_it(slack, channel, mode):
    slack.fail_next(mode)
    notifier = bot(slack, channel)
    assert failure(notifier).unknown
    receipt = bot(slack, channel).send(FIRING, again=True)
    assert len(slack.posts) == 1
    assert receipt.reference == {"channel": ML, "ts": slack.posts[0].ts}
    assert "found from an earlier attempt" in receipt.detail


def test_an_attempt_that_never_arrived_is_made_again(slack):
    slack.fail_next("hangup")
    assert failure(bot(slack)).unknown
    bot(slack).send(FIRING, again=True)
    assert len(slack.posts) == 1


def test_a_reply_of_unknown_fate_is_looked_for_in_its_thread(slack):
    changes = [compose(change, links=Links()) for change in episode()]
    root = bot(slack).send(changes[0]).reference
    slack.fail_next("lost")
    with pytest.raises(NotifyError):
        bot(slack).send(changes[2], thread=root)
    assert bot(slack).send(changes[2], thread=root, again=True).reference == root
    assert len(slack.posts) == 2


def test_an_earlier_attempt_is_found_behind_hundreds_of_later_messages(slack):
    slack.fail_next("lost")
    failure(bot(slack))
    for i in range(250):
        slack._record(ML, {"text": f"chat {i}"})
    bot(slack).send(FIRING, again=True)
    assert sum(post.transition == FIRING.transition for post in slack.posts) == 1


def test_another_transition_is_not_taken_for_the_earlier_attempt(slack):
    bot(slack).send(compose(transition("other"), links=Links()))
    bot(slack).send(FIRING, again=True)
    assert [post.transition for post in slack.posts] == ["other", "t1"]


def test_a_bot_that_may_not_read_posts_again_and_says_so():
    with SlackServer(scopes=frozenset({"chat:write"})) as slack:
        receipt = bot(slack, ML).send(FIRING, again=True)
        assert "posted again without looking: Slack: missing_scope" in receipt.detail
        assert len(slack.posts) == 1


# --- which failures retry ----------------------------------------------------------------------------------


@BOTH
def test_a_rate_limit_is_retried_when_slack_says(make):
    with SlackServer(rate=0.001, burst=1, retry_after=37) as slack:
        make(slack).send(FIRING)
        error = failure(make(slack))
        assert (error.permanent, error.unknown, error.retry_after) == (False, False, 37_000)
        assert len(slack.posts) == 1


@BOTH
@pytest.mark.parametrize("mode", ["500", "503", "hangup", "lost"])
def test_server_errors_and_lost_connections_are_retried_and_of_unknown_fate(slack, make, mode):
    slack.fail_next(mode)
    error = failure(make(slack))
    assert (error.permanent, error.unknown) == (False, True)


@pytest.mark.parametrize("code", ["internal_error", "fatal_error", "service_unavailable", "request_timeout"])
def test_slacks_own_passing_errors_are_retried(slack, code):
    slack.fail_next(code)
    error = failure(bot(slack))
    assert (error.permanent, error.unknown) == (False, True)


@BOTH
def test_an_answer_that_takes_too_long_is_retried(slack, make):
    slack.fail_next("slow")
    error = failure(make(slack, timeout=1))
    assert (error.permanent, error.unknown) == (False, True)
    assert "timed out" in str(error)


@BOTH
def test_nobody_listening_is_retried_and_surely_nothing_was_sent(make):
    with SlackServer() as slack:
        pass  # its port is closed again
    error = failure(make(slack))
    assert (error.permanent, error.unknown) == (False, False)


@pytest.mark.parametrize(
    "code",
    [
        "not_in_channel",
        "invalid_auth",
        "token_revoked",
        "account_inactive",
        "missing_scope",
        "is_archived",
        "msg_too_long",
        "invalid_blocks",
        "channel_not_found",
        "some_new_code",
    ],
)
def test_refusals_are_permanent_and_carry_slacks_word(slack, code):
    slack.fail_next(code)
    error = failure(bot(slack))
    assert error.permanent
    assert code in str(error)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda s: s.channels.clear(), "channel_not_found"),
        (lambda s: s.not_member.add(ML), "not_in_channel"),
        (lambda s: s.archived.add(ML), "is_archived"),
        (lambda s: setattr(s, "token", "another"), "invalid_auth"),
        (lambda s: setattr(s, "revoked", "token_revoked"), "token_revoked"),
        (lambda s: setattr(s, "scopes", frozenset()), "missing_scope"),
    ],
)
def test_a_bot_that_is_set_up_wrongly_says_what_to_do(slack, spoil, code):
    notifier = bot(slack)
    spoil(slack)
    error = failure(notifier)
    assert error.permanent
    assert f"Slack: {code} (" in str(error)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda s: setattr(s, "webhook_removed", True), "no_service"),
        (lambda s: s.archived.add(ML), "channel_is_archived"),
    ],
)
def test_a_webhook_that_is_gone_says_what_to_do(slack, spoil, code):
    spoil(slack)
    error = failure(hook(slack))
    assert error.permanent
    assert f"Slack: {code} (" in str(error)


def test_a_redirect_or_a_page_of_html_is_not_success(slack):
    notifier = SlackBot(TOKEN, "#ml", base_url=f"{slack.url}/nowhere/")
    assert failure(notifier).permanent


# --- no secret leaks ---------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "mode", ["429", "500", "hangup", "lost", "slow", "garbage", "invalid_auth", "internal_error", None]
)
def test_no_token_and_no_webhook_url_in_errors_logs_or_reprs(slack, make, mode, caplog, capfd):
    notifier = make(slack, timeout=1)
    if mode:
        slack.fail_next(mode)
    else:
        slack.webhook_removed, slack.token = True, "another"
    said = [repr(notifier), str(notifier)]
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("slack_sdk").setLevel(logging.DEBUG)
        try:
            notifier.send(FIRING)
        except NotifyError as error:
            said += [str(error), repr(error), "".join(traceback.format_exception(error))]
        finally:
            logging.getLogger("slack_sdk").setLevel(logging.NOTSET)
    assert [record.name for record in caplog.records] == [], "the client's own log lines hold URLs and bodies"
    said += capfd.readouterr()
    for text in said:
        assert TOKEN not in text
        assert WEBHOOK_PATH not in text


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/services/secret path", "nonsense-secret", "http://[secret"]
)
def test_a_webhook_url_that_is_none_fails_without_being_shown(url):
    error = failure(SlackWebhook(url))
    assert error.permanent
    assert "secret" not in str(error)


def test_no_proxy_page_is_quoted(slack):
    slack.fail_next("garbage")
    assert "html" not in str(failure(bot(slack)))


# --- Slack's limits ----------------------------------------------------------------------------------------

NASTY = st.text(
    st.sampled_from("&<>*_~`|\n\t\x00\u2028\ud83d🚨é\u202eab :@!#") | st.characters(), max_size=400
)
LONG = st.builds(lambda text, times: text * times, NASTY, st.sampled_from([1, 1, 30, 200]))


def some_links(draw, most=5):
    return tuple(Link(draw(NASTY), "https://x/" + draw(LONG)) for _ in range(draw(st.integers(0, most))))


@st.composite
def messages(draw):
    return Message(
        transition=draw(st.text(min_size=1, max_size=64)),
        incident="i",
        status=Status.FIRING,
        severity=Severity.HIGH,
        headline=draw(LONG),
        lines=tuple(draw(st.lists(LONG, max_size=4))),
        fields=tuple(draw(st.lists(st.tuples(NASTY, LONG), max_size=14))),
        links=some_links(draw),
        alerts=tuple((draw(NASTY), some_links(draw, 2)) for _ in range(draw(st.sampled_from([0, 2, 9])))),
        footer=draw(LONG),
        colour=draw(st.sampled_from(["", "#d92d20"])),
        emoji=draw(st.sampled_from(["", "🔴"])),
    )


def test_an_address_that_no_encoding_has_costs_no_message():
    message = replace(FIRING, links=(Link("Runbook", "https://x/\ud800"),))
    assert "<https://x/?|Runbook>" in str(payload(message))


@given(messages())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_whatever_a_message_says_slack_takes_it(message):
    body = payload(message)
    assert refusal(body) is None
    assert 0 < len(body["text"]) <= 4_000


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "no_text"),
        ({"text": "x" * 40_001}, "msg_too_long"),
        (
            {"blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]},
            "invalid_blocks",
        ),
        ({"blocks": [{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]}, "invalid_blocks"),
        (
            {"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "a <b> & c"}}]},
            "invalid_blocks",
        ),
        ({"blocks": [{"type": "section", "text": {"type": "plain_text", "text": ""}}]}, "invalid_blocks"),
        ({"blocks": [{"type": "divider"}] * 51}, "invalid_blocks"),
        ({"text": "x", "metadata": {"event_type": "x"}}, "invalid_metadata_format"),
    ],
)
def test_the_stand_in_refuses_what_slack_refuses(body, code):
    problem = refusal(body)
    assert problem is not None
    assert problem[0] == code


@BOTH
def test_ten_thousand_characters_are_cut_and_arrive(slack, make):
    long = "&<*🚨" * 2_500
    changes = {"rule": long, "description": long, "place": long, "group": {"segment.x": long}}
    make(slack).send(compose(transition(**changes), links=Links("https://kedge.example")))
    (post,) = slack.posts
    assert post.headline.endswith("…")
    assert len(post.headline.encode("utf-16-le")) // 2 <= 150


@pytest.mark.parametrize(
    ("text", "limit", "result"),
    [
        ("a&b<c>d", 100, "a&amp;b&lt;c&gt;d"),
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
        ("ab&cd", 6, "ab…"),
        ("ab&c", 8, "ab&amp;c"),
        ("🚨🚨🚨", 5, "🚨🚨…"),
        ("<!channel>", 100, "&lt;!channel&gt;"),
        ("\ud83d!\x00", 9, "\ufffd!\ufffd"),
        ("", 5, ""),
    ],
)
def test_texts_are_escaped_before_they_are_cut(text, limit, result):
    assert escaped(text, limit) == result


def test_formatting_characters_format_nothing_and_stay_inside_words():
    assert mrkdwn("merchant_type", 99) == "merchant_type"
    assert mrkdwn("*bold* _it_ ~no~ `code`", 99) == "∗bold∗ ＿it＿ ∼no∼ ˋcodeˋ"


def test_a_link_cannot_be_broken_out_of(slack):
    message = compose(transition(runbook="https://wiki.example/a|b>c<d&e=1"), links=Links())
    bot(slack).send(message)
    context = slack.posts[0].attachments[0]["blocks"][-1]
    assert context["elements"][0]["text"] == "<https://wiki.example/a%7Cb%3Ec%3Cd&amp;e=1|Runbook>"


def test_one_attempt_is_one_request(slack):
    """Retrying is the pipeline's business: a notifier that retries by itself holds up the others."""
    slack.fail_next("500", times=3)
    failure(bot(slack))
    assert len(slack._failures) == 2


def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        accepted: list[socket.socket] = []
        thread = threading.Thread(target=lambda: accepted.append(silent.accept()[0]), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/services/x"
        assert failure(SlackWebhook(url, timeout=1)).unknown
        thread.join()
        accepted[0].close()
