"""Slack, by bot token (threads, and no doubles after a crash) or by incoming webhook.

One attempt per call: no retry handler, no sleeping; when to try again is the pipeline's decision. Texts of
errors are made from Slack's own codes and never from exceptions, which may hold a webhook's URL or the token.
"""

import http.client
import logging
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web import SlackResponse
from slack_sdk.webhook import WebhookClient

from kedge.notify import slack_blocks
from kedge.notify.base import Message, NotifyError, Receipt
from kedge.windows import SECOND, Millis

SOCKET_TIMEOUT = 8
"""Seconds that one request may take to connect, and each read."""
PAGE = 200
MOST_PAGES = 10
"""How far back an earlier attempt is looked for: 2,000 messages of the channel or the thread."""
LOOK_UP_SECONDS = 10
"""For the pages of one look-up, so that a whole `send` stays well within the pipeline's lease."""

TRANSIENT = frozenset(
    {"ratelimited", "rate_limited", "message_limit_exceeded", "internal_error", "fatal_error"}
    | {"service_unavailable", "request_timeout", "team_added_to_org", "rollup_error", "accesslimited"}
)
"""Slack's error codes after which the same call may succeed; every other code is permanent."""
_SURELY_REFUSED = frozenset({"ratelimited", "rate_limited", "message_limit_exceeded", "team_added_to_org"})
_THREAD_GONE = frozenset(
    {"thread_not_found", "message_not_found", "invalid_thread_ts", "cannot_reply_to_message"}
    | {"restricted_action_thread_locked", "channel_not_found", "not_in_channel", "is_archived"}
)
_REMEDIES = {
    "channel_not_found": "check the channel's name, and invite the bot to it",
    "not_in_channel": "invite the bot to the channel: /invite @name",
    "is_archived": "the channel is archived: choose another",
    "channel_is_archived": "the channel is archived: choose another",
    "missing_scope": "add the scope to the Slack app and install it again",
    "invalid_auth": "the token is not valid: set the bot token of the app's OAuth page",
    "not_authed": "the token is empty: set the bot token of the app's OAuth page",
    "token_revoked": "the token was revoked: install the app again and set the new token",
    "token_expired": "the token has expired: install the app again and set the new token",
    "account_inactive": "the app was removed from the workspace: install it again",
    "no_service": "the webhook was removed: make a new one and set its URL",
}
_CODE = re.compile(r"[a-z0-9_]{1,60}")


class SlackError(NotifyError):
    """`code`: Slack's own word (`channel_not_found`), or one of ours where Slack gave none."""

    def __init__(
        self, code: str, *, permanent: bool, retry_after: Millis | None = None, unknown: bool = False
    ) -> None:
        remedy = f" ({_REMEDIES[code]})" if code in _REMEDIES else ""
        super().__init__(
            f"Slack: {code}{remedy}", permanent=permanent, retry_after=retry_after, unknown=unknown
        )
        self.code = code


_silent = logging.Logger("kedge.notify.slack_sdk", level=logging.CRITICAL + 1)  # noqa: LOG001
"""The client's own log lines hold webhook URLs: its logger belongs to no tree, and drops everything."""


class SlackBot:
    """Posts to one channel with a bot token (scope chat:write).

    With the scope channels:history (groups:history for private channels; channels:read where `channel` is
    a name) an attempt of unknown fate is looked for by its transition id before it is made again. Without it
    the message is posted all the same: an alert told twice is better than one lost.

    `channel`: an id (`C0123456789`) or a name (`#ml`). `base_url`: Slack's API, for stand-ins and gateways.
    """

    def __init__(
        self, token: str, channel: str, *, base_url: str | None = None, timeout: int = SOCKET_TIMEOUT
    ) -> None:
        self.channel = channel
        self._client = WebClient(
            token=token,
            base_url=(base_url or WebClient.BASE_URL).rstrip("/") + "/",
            timeout=timeout,
            logger=_silent,
            retry_handlers=[],
        )
        self._channel_id: str | None = None

    def __repr__(self) -> str:
        return f"SlackBot({self.channel!r})"

    def send(self, message: Message, *, thread: dict[str, str] | None = None, again: bool = False) -> Receipt:
        """Post at channel level, or into the incident's thread, broadcasting what everyone must see."""
        note = ""
        if again:
            found, note = self._look_for(message, thread)
            if found is not None:
                return found
        if thread and "ts" in thread:
            try:
                return self._post(message, thread, note)
            except SlackError as error:
                # Its first post was deleted or its channel closed: the incident goes on without the thread.
                if error.code not in _THREAD_GONE:
                    raise
        return self._post(message, None, note)

    def _post(self, message: Message, thread: Mapping[str, str] | None, note: str) -> Receipt:
        body = slack_blocks.payload(message) | {"metadata": slack_blocks.metadata(message)}
        body["channel"] = self.channel
        if thread:
            body |= {"channel": thread.get("channel") or self.channel, "thread_ts": thread["ts"]}
            if message.broadcast:
                body["reply_broadcast"] = True
        answer = self._call("chat.postMessage", body)
        channel, ts = str(answer.get("channel") or body["channel"]), str(answer.get("ts") or "")
        self._channel_id = channel if not thread else self._channel_id
        return _receipt(channel, ts, thread["ts"] if thread else ts, note)

    # --- an earlier attempt --------------------------------------------------------------

    def _look_for(self, message: Message, thread: dict[str, str] | None) -> tuple[Receipt | None, str]:
        """The receipt of an earlier attempt that arrived, if one did; else why nobody could look."""
        wanted = slack_blocks.metadata(message)["event_payload"]
        try:
            for channel, post in self._posts(thread):
                if (post.get("metadata") or {}).get("event_payload") == wanted:
                    ts, root = str(post["ts"]), str(post.get("thread_ts") or post["ts"])
                    return _receipt(channel, ts, root, "found from an earlier attempt"), ""
        except NotifyError as error:
            if not error.permanent:
                raise
            return None, f"posted again without looking: {error}"
        return None, ""

    def _posts(self, thread: Mapping[str, str] | None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Channel and message: of the thread; without one, or where it is gone, of the channel."""
        if thread and "ts" in thread:
            channel = thread.get("channel") or self._resolve()
            query = {"channel": channel, "ts": thread["ts"], "include_all_metadata": "true"}
            try:
                for post in self._pages("conversations.replies", query, "messages"):
                    yield channel, post
                return
            except SlackError as error:
                if error.code not in _THREAD_GONE:
                    raise
        channel = self._resolve()
        query = {"channel": channel, "include_all_metadata": "true"}
        for post in self._pages("conversations.history", query, "messages"):
            yield channel, post

    def _resolve(self) -> str:
        """The channel's id: history is not read by name."""
        if re.fullmatch(r"[CGD][A-Z0-9]{6,}", self.channel):
            return self.channel
        if self._channel_id is None:
            name = self.channel.removeprefix("#")
            query = {"exclude_archived": "true", "types": "public_channel,private_channel", "limit": "1000"}
            for channel in self._pages("conversations.list", query, "channels"):
                if channel.get("name") == name:
                    self._channel_id = str(channel["id"])
                    return self._channel_id
            raise SlackError("channel_not_found", permanent=True)
        return self._channel_id

    def _pages(self, method: str, query: Mapping[str, str], items: str) -> Iterator[dict[str, Any]]:
        cursor = ""
        deadline = time.monotonic() + LOOK_UP_SECONDS
        for _ in range(MOST_PAGES):
            if time.monotonic() > deadline:
                raise SlackError("look_up_too_slow", permanent=False, unknown=True)
            more = {"cursor": cursor} if cursor else {}
            answer = self._call(method, {"limit": str(PAGE), **query, **more}, form=True)
            yield from answer.get(items) or ()
            cursor = str((answer.get("response_metadata") or {}).get("next_cursor") or "")
            if not cursor:
                return

    def _call(self, method: str, body: Mapping[str, Any], *, form: bool = False) -> SlackResponse:
        """One request. Reading methods take forms only, posting ones JSON."""
        posting = method.startswith("chat.")
        try:
            sent = dict(body)
            answer = (
                self._client.api_call(method, params=sent)
                if form
                else self._client.api_call(method, json=sent)
            )
        except SlackApiError as error:
            response = error.response
            code = str(response.data.get("error") or "") if isinstance(response.data, dict) else ""
            raise _failure(code, int(response.status_code), response.headers, posting) from None
        except (OSError, http.client.HTTPException, SlackClientError, ValueError) as error:
            raise _unreachable(error, posting) from None
        if not isinstance(answer, SlackResponse):
            raise TypeError("the synchronous client answered asynchronously")
        return answer


class SlackWebhook:
    """Posts to an incoming webhook, whose URL is the secret.

    There are no threads, and no way to look for an earlier attempt: one of unknown fate may appear twice.
    """

    def __init__(self, url: str, *, timeout: int = SOCKET_TIMEOUT) -> None:
        self._client = WebhookClient(url, timeout=timeout, logger=_silent, retry_handlers=[])

    def __repr__(self) -> str:
        return "SlackWebhook()"

    def send(self, message: Message, *, thread: dict[str, str] | None = None, again: bool = False) -> Receipt:
        """Post. `thread` and `again` mean nothing to a webhook."""
        try:
            answer = self._client.send_dict(slack_blocks.payload(message))
        except (OSError, http.client.HTTPException, SlackClientError, ValueError) as error:
            raise _unreachable(error, posting=True) from None
        if answer.status_code != 200:
            raise _failure(answer.body.strip(), answer.status_code, answer.headers, posting=True)
        return Receipt("slack webhook" + (" (posted again, unlooked)" if again else ""))


# --- answers and failures --------------------------------------------------------------


def _receipt(channel: str, ts: str, root: str, note: str) -> Receipt:
    """`reference` is the thread's first post, `root`, so that later messages join it and not the reply."""
    detail = f"slack {channel} {ts}" + (f" ({note})" if note else "")
    return Receipt(detail, {"channel": channel, "ts": root})


def _failure(code: str, status: int, headers: Mapping[str, Any], posting: bool) -> SlackError:
    """What an answer that is not ok means: 429, 408 and 5xx may pass, other refusals will not."""
    if not _CODE.fullmatch(code):
        code = ""
    retry_after = _retry_after(headers)
    if status == 429 or code in _SURELY_REFUSED:
        return SlackError(code or "ratelimited", permanent=False, retry_after=retry_after or SECOND)
    if status >= 500 or status == 408 or code in TRANSIENT:
        return SlackError(code or f"HTTP {status}", permanent=False, retry_after=retry_after, unknown=posting)
    if 200 <= status < 300 and not code:
        # Not Slack's JSON: a proxy's page, or an answer cut short. Slack may have the message.
        return SlackError("unreadable answer", permanent=False, unknown=posting)
    return SlackError(code or f"HTTP {status}", permanent=True)


def _unreachable(error: Exception, posting: bool) -> SlackError:
    """No answer. Where no connection was made, nothing was sent; after anything else it may have arrived."""
    cause = getattr(error, "reason", None)
    cause = cause if isinstance(cause, Exception) else error
    never_sendable = (http.client.InvalidURL, SlackClientError, UnicodeEncodeError)
    if isinstance(cause, never_sendable) or type(cause) is ValueError:
        return SlackError("not a usable URL or token", permanent=True)
    never_sent = isinstance(cause, ConnectionRefusedError | socket.gaierror | ssl.SSLCertVerificationError)
    name = "timed out" if isinstance(cause, TimeoutError) else type(cause).__name__
    return SlackError(f"no answer ({name})", permanent=False, unknown=posting and not never_sent)


def _retry_after(headers: Mapping[str, Any]) -> Millis | None:
    """Seconds in Retry-After, as Millis; None where it is absent or not a number."""
    for name, value in headers.items():
        if name.lower() == "retry-after":
            text = str(value[0] if isinstance(value, list) and value else value)
            return int(text) * SECOND if text.isdigit() else None
    return None
