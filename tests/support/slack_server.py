"""A stand-in for Slack: its Web API and incoming webhooks over HTTP on a loopback socket, with their limits.

In a test: `with SlackServer() as slack: SlackBot(slack.token, "#ml", base_url=slack.api_url)`, then look at
`slack.posts`. As a process: `python -m tests.support.slack_server --port 0` prints its address; GET /_posts
lists what was posted, POST /_fail {"mode": "500", "times": 2} makes it fail.
"""

import argparse
import json
import re
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.slack_rules import refusal

TOKEN = "xoxb-test-only-secret"
WEBHOOK_PATH = "/services/T0TEST/B0TEST/webhook-test-only-secret"
CHANNELS = {"ml": "C0000000ML", "ops": "C00000000OPS"}
PAGE = 100

FAIL_MODES = ("429", "500", "503", "hangup", "lost", "slow", "garbage")
"""`hangup` drops the connection before the post is taken, `lost` after; `slow` takes it and answers too late;
`garbage` takes it and answers with HTML. Any other mode is an error code such as `internal_error`."""


@dataclass
class Post:
    """A message that Slack has taken."""

    channel: str
    ts: str
    text: str
    blocks: list[Any]
    attachments: list[Any]
    metadata: dict[str, Any] | None
    thread_ts: str | None = None
    broadcast: bool = False
    via: str = "bot"
    at: float = field(default_factory=time.time)

    @property
    def headline(self) -> str:
        return str(self.blocks[0]["text"]["text"]) if self.blocks else self.text

    @property
    def transition(self) -> str | None:
        return self.metadata["event_payload"].get("transition") if self.metadata else None

    def as_message(self, with_metadata: bool) -> dict[str, Any]:
        """As conversations.history shows it."""
        message: dict[str, Any] = {
            "type": "message",
            "ts": self.ts,
            "text": self.text,
            "blocks": self.blocks,
            "attachments": self.attachments,
            "bot_id": "B0TEST",
        }
        if self.thread_ts:
            message |= {"thread_ts": self.thread_ts}
            if self.broadcast:
                message["subtype"] = "thread_broadcast"
        if with_metadata and self.metadata:
            message["metadata"] = self.metadata
        return message


class Refused(Exception):
    """An answer that is not ok."""

    def __init__(self, code: str, status: int = 200, reasons: list[str] | None = None):
        super().__init__(code)
        self.code, self.status, self.reasons = code, status, reasons or []


class SlackServer:
    """Everything is kept under one lock; `posts` and `calls` may be read at any time.

    `rate`: messages a second and channel after a `burst`, then HTTP 429 with Retry-After `retry_after`; None
    for no limit. `scopes`: what the token may do.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        token: str = TOKEN,
        channels: dict[str, str] | None = None,
        rate: float | None = None,
        burst: int = 5,
        retry_after: int = 1,
        scopes: frozenset[str] = frozenset({"chat:write", "channels:history", "channels:read"}),
    ):
        self.token, self.scopes = token, scopes
        self.channels = dict(CHANNELS if channels is None else channels)
        self.archived: set[str] = set()
        self.not_member: set[str] = set()
        self.revoked: str | None = None
        """An error code that every authenticated call answers with: token_revoked, account_inactive."""
        self.webhook_removed = False
        self.rate, self.burst, self.retry_after = rate, burst, retry_after
        self.slowness = 30.0
        self.calls: list[str] = []
        self._posts: list[Post] = []
        self._failures: deque[str] = deque()
        self._spent: dict[str, tuple[float, float]] = {}
        self._serial = 0
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "SlackServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/"

    @property
    def webhook_url(self) -> str:
        return self.url + WEBHOOK_PATH

    @property
    def posts(self) -> list[Post]:
        with self._lock:
            return list(self._posts)

    def fail_next(self, mode: str, times: int = 1) -> None:
        """The next `times` posts end like `mode` (FAIL_MODES, or an error code)."""
        with self._lock:
            self._failures.extend([mode] * times)

    # --- what the handler asks -----------------------------------------------------------------------------

    def next_failure(self) -> str | None:
        with self._lock:
            return self._failures.popleft() if self._failures else None

    def method(self, name: str, body: dict[str, Any], token: str | None) -> dict[str, Any]:
        with self._lock:
            self.calls.append(name)
            if not token:
                raise Refused("not_authed")
            if token != self.token:
                raise Refused("invalid_auth")
            if self.revoked:
                raise Refused(self.revoked)
            handlers = {
                "auth.test": self._auth_test,
                "chat.postMessage": self._post_message,
                "chat.update": self._update,
                "conversations.list": self._list,
                "conversations.history": self._history,
                "conversations.replies": self._replies,
            }
            if name not in handlers:
                raise Refused("unknown_method")
            return handlers[name](body)

    def webhook(self, path: str, body: dict[str, Any]) -> None:
        with self._lock:
            self.calls.append("webhook")
            if path != WEBHOOK_PATH or self.webhook_removed:
                raise Refused("no_service", 404)
            if problem := refusal(body):
                raise Refused(problem[0], 400, problem[1])
            channel = next(iter(self.channels.values()))
            if channel in self.archived:
                raise Refused("channel_is_archived", 410)
            self._throttle(channel)
            self._record(channel, body, via="webhook")

    # --- methods -------------------------------------------------------------------------------------------

    def _auth_test(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"url": self.url, "team": "test", "user": "kedge", "team_id": "T0TEST", "bot_id": "B0TEST"}

    def _post_message(self, body: dict[str, Any]) -> dict[str, Any]:
        self._scope("chat:write")
        channel = self._channel(str(body.get("channel") or ""), by_name=True)
        if problem := refusal(body):
            raise Refused(problem[0], reasons=problem[1])
        thread = body.get("thread_ts")
        if thread is not None and not any(p.ts == thread and p.channel == channel for p in self._posts):
            raise Refused("thread_not_found")
        self._throttle(channel)
        post = self._record(channel, body, thread_ts=thread, broadcast=_is_true(body.get("reply_broadcast")))
        return {"channel": channel, "ts": post.ts, "message": post.as_message(True)}

    def _update(self, body: dict[str, Any]) -> dict[str, Any]:
        self._scope("chat:write")
        channel = self._channel(str(body.get("channel") or ""))
        post = next((p for p in self._posts if p.ts == body.get("ts") and p.channel == channel), None)
        if post is None:
            raise Refused("message_not_found")
        if problem := refusal(body):
            raise Refused(problem[0], reasons=problem[1])
        post.text = str(body.get("text") or "")
        post.blocks, post.attachments = body.get("blocks") or [], body.get("attachments") or []
        return {"channel": channel, "ts": post.ts, "text": post.text}

    def _list(self, body: dict[str, Any]) -> dict[str, Any]:
        self._scope("channels:read")
        channels = [{"id": i, "name": n, "is_archived": i in self.archived} for n, i in self.channels.items()]
        return self._page("channels", channels, body)

    def _history(self, body: dict[str, Any]) -> dict[str, Any]:
        self._scope("channels:history")
        channel = self._channel(str(body.get("channel") or ""))
        shown = [p for p in self._posts if p.channel == channel and (not p.thread_ts or p.broadcast)]
        messages = [p.as_message(_is_true(body.get("include_all_metadata"))) for p in reversed(shown)]
        return self._page("messages", messages, body)

    def _replies(self, body: dict[str, Any]) -> dict[str, Any]:
        self._scope("channels:history")
        channel = self._channel(str(body.get("channel") or ""))
        thread = [p for p in self._posts if p.channel == channel and body.get("ts") in (p.ts, p.thread_ts)]
        if not thread:
            raise Refused("thread_not_found")
        messages = [p.as_message(_is_true(body.get("include_all_metadata"))) for p in thread]
        return self._page("messages", messages, body)

    # --- what they share -----------------------------------------------------------------------------------

    def _scope(self, needed: str) -> None:
        if needed not in self.scopes:
            raise Refused("missing_scope")

    def _channel(self, given: str, *, by_name: bool = False) -> str:
        """Posting takes a name or an id, reading only an id."""
        channel = self.channels.get(given.removeprefix("#")) if by_name else None
        channel = channel or (given if given in self.channels.values() else None)
        if channel is None:
            raise Refused("channel_not_found")
        if channel in self.archived:
            raise Refused("is_archived")
        if channel in self.not_member:
            raise Refused("not_in_channel")
        return channel

    def _throttle(self, channel: str) -> None:
        """A bucket of `burst` messages that fills at `rate` a second."""
        if self.rate is None:
            return
        left, since = self._spent.get(channel, (float(self.burst), time.monotonic()))
        now = time.monotonic()
        left = min(left + (now - since) * self.rate, float(self.burst))
        if left < 1:
            raise Refused("ratelimited", 429)
        self._spent[channel] = (left - 1, now)

    def _record(self, channel: str, body: dict[str, Any], **more: Any) -> Post:
        self._serial += 1
        post = Post(
            channel=channel,
            ts=f"{int(time.time())}.{self._serial:06d}",
            text=str(body.get("text") or ""),
            blocks=body.get("blocks") or [],
            attachments=body.get("attachments") or [],
            metadata=body.get("metadata"),
            **more,
        )
        self._posts.append(post)
        return post

    def _page(self, items: str, everything: list[dict[str, Any]], body: dict[str, Any]) -> dict[str, Any]:
        start, size = int(body.get("cursor") or 0), min(int(body.get("limit") or PAGE), PAGE)
        more = start + size < len(everything)
        return {
            items: everything[start : start + size],
            "response_metadata": {"next_cursor": str(start + size) if more else ""},
        }


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("1", "true")


def _handler(slack: SlackServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path == "/_posts":
                shown = [
                    asdict(p) | {"headline": p.headline, "transition": p.transition} for p in slack.posts
                ]
                return self._answer(200, shown)
            return self._answer(404, {"ok": False, "error": "not_found"})

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            try:
                body = self._body(raw)
                if path == "/_fail":
                    slack.fail_next(str(body["mode"]), int(body.get("times", 1)))
                    self._answer(200, {"ok": True})
                elif path.startswith("/api/"):
                    name = path.removeprefix("/api/")
                    token = self._token(body)
                    self._posting(name == "chat.postMessage", lambda: slack.method(name, body, token))
                elif path.startswith("/services/"):
                    self._posting(True, lambda: slack.webhook(path, body))
                else:
                    self._answer(404, {"ok": False, "error": "not_found"})
            except Refused as refused:
                self._refuse(path, refused)

        def _posting(self, is_post: bool, act: Any) -> None:
            mode = slack.next_failure() if is_post else None
            if mode == "hangup":
                self.close_connection = True
            elif mode in ("429", "500", "503"):
                raise Refused("ratelimited" if mode == "429" else "", int(mode))
            elif mode in ("lost", "slow", "garbage"):
                act()
                if mode == "slow":
                    slack._stopping.wait(slack.slowness)
                if mode == "garbage":
                    return self._send(200, b"<html>proxy</html>", "text/html")
                self.close_connection = True
            elif mode is not None:
                raise Refused(mode)
            else:
                answer = act()
                if answer is None:
                    return self._send(200, b"ok", "text/plain")
                return self._answer(200, {"ok": True, **answer})
            return None

        def _token(self, body: dict[str, Any]) -> str | None:
            header = self.headers.get("Authorization") or ""
            return header.removeprefix("Bearer ") if header.startswith("Bearer ") else body.get("token")

        def _body(self, raw: bytes) -> dict[str, Any]:
            kind = (self.headers.get("Content-Type") or "").partition(";")[0]
            try:
                if kind == "application/json":
                    body = json.loads(raw)
                    if not isinstance(body, dict):
                        raise Refused("json_not_object")
                    return body
                form = {name: values[-1] for name, values in parse_qs(raw.decode()).items()}
                for name in ("blocks", "attachments", "metadata", "payload"):
                    if name in form:
                        form[name] = json.loads(form[name])
            except ValueError:
                raise Refused("invalid_json", 400) from None
            return form.get("payload", form)

        def _refuse(self, path: str, refused: Refused) -> None:
            headers = {"Retry-After": str(slack.retry_after)} if refused.status == 429 else {}
            if path.startswith("/services/"):
                return self._send(refused.status, refused.code.encode(), "text/plain", headers)
            answer: dict[str, Any] = {"ok": False, "error": refused.code}
            if refused.reasons:
                answer["response_metadata"] = {"messages": refused.reasons}
            if refused.status >= 500:
                return self._send(refused.status, b"<html>error</html>", "text/html", headers)
            return self._answer(refused.status, answer, headers)

        def _answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
            self._send(status, json.dumps(value).encode(), "application/json; charset=utf-8", headers)

        def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                **(headers or {}),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default=TOKEN)
    parser.add_argument("--rate", type=float, help="messages a second and channel; no limit by default")
    parser.add_argument("--channel", action="append", help="a channel's name; repeatable")
    given = parser.parse_args()
    names = given.channel or list(CHANNELS)
    channels = {n.removeprefix("#"): f"C0{re.sub('[^A-Z0-9]', '', n.upper()):0>8}" for n in names}
    with SlackServer(port=given.port, token=given.token, rate=given.rate, channels=channels) as slack:
        print(slack.url, flush=True)
        try:
            slack._thread.join()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
