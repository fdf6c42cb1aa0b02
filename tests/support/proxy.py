"""A proxy on loopback before a real server, which refuses, hangs or answers errors when told to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

Verdict = int | str | None
"""An error status to answer with, `hang`, `drop` (cut the connection), or None: pass on."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that did not wait for its answer is what the tests are about."""


class Proxy:
    """Passes requests on as long as `judge(path, body)` says None."""

    def __init__(self, target: str) -> None:
        self.judge: Callable[[str, bytes], Verdict] = lambda path, body: None
        self.seen: list[tuple[str, bytes]] = []
        """What was passed on."""
        self.released = threading.Event()
        client = httpx.Client(base_url=target, timeout=60)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                verdict = proxy.judge(self.path, body)
                if verdict == "hang":
                    proxy.released.wait(30)
                    verdict = "drop"
                if verdict == "drop":
                    self.close_connection = True
                    return
                if isinstance(verdict, int):
                    self._answer(
                        verdict, b'{"error":{"type":"told_to","reason":"told to"},"status":%d}' % verdict
                    )
                    return
                proxy.seen.append((self.path, body))
                kept = {k: v for k, v in self.headers.items() if k.lower() in ("content-type", "accept")}
                answer = client.request(self.command, self.path, content=body, headers=kept)
                self._answer(answer.status_code, answer.content, answer.headers)

            def _answer(self, status: int, content: bytes, headers: httpx.Headers | None = None) -> None:
                self.send_response(status)
                for name in ("content-type", "x-elastic-product"):
                    if headers is None or name in headers:
                        self.send_header(name, headers[name] if headers else "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def down(self) -> None:
        self.judge = lambda path, body: "drop"

    def up(self) -> None:
        self.judge = lambda path, body: None
