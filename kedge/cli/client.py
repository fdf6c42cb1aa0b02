"""The command line's way to kedge: over HTTP to a running server, else in process. Both speak the same
API.
"""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import msgspec

from kedge.config import CLIENT_KEY, Settings
from kedge.errors import BadInput, StoreUnavailable

if TYPE_CHECKING:
    from ingest.service import IngestService
    from kedge.pipeline.context import Pipeline

TIMEOUT_S = 600.0
"""A drain of years of history takes its time; the connection itself must stand within ten seconds."""
T = TypeVar("T")


def server_file(settings: Settings) -> Path | None:
    """Where a server on a DuckDB file leaves its address for the command line; None for other stores."""
    path = settings.store.removeprefix("duckdb:")
    return Path(f"{path}.server") if settings.embedded and path and path != ":memory:" else None


def running_server(settings: Settings, timeout_s: float = 5.0) -> str | None:
    """The address of the server to speak to: the one that is configured, or that holds the DuckDB file and
    answers in time."""
    if settings.url:
        return settings.url
    file = server_file(settings)
    if file is None or not file.exists():
        return None
    try:
        url = str(msgspec.json.decode(file.read_bytes())["url"])
        httpx.get(f"{url}/healthz", timeout=timeout_s)
    except (OSError, ValueError, KeyError, TypeError, httpx.HTTPError):
        return None
    return url


class Client:
    """Calls the API; every failure becomes a KedgeError with a sentence."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        place: str,
        runner: asyncio.Runner,
        service: "IngestService | None" = None,
        pipe: "Pipeline | None" = None,
    ) -> None:
        self._http, self._runner = http, runner
        self.place = place
        """Where it speaks to, for people."""
        self.service = service
        """What takes rows, where the application runs in this process; None beside a running server."""
        self.pipe = pipe
        """What the application works with, in this process."""

    def blocking(self) -> httpx.Client:
        """A second connection to the same server, for other threads; not for the application in process."""
        return httpx.Client(
            base_url=self.place, headers=self._http.headers, timeout=httpx.Timeout(TIMEOUT_S, connect=10.0)
        )

    def answered(self, response: httpx.Response, accept: tuple[int, ...] = ()) -> httpx.Response:
        """The answer, if it is one; raises BadInput for 4xx, StoreUnavailable for 5xx."""
        if response.is_success or response.status_code in accept:
            return response
        text = _error_text(response)
        if response.status_code >= 500:
            raise StoreUnavailable(text)
        raise BadInput(text)

    def unreached(self, error: httpx.HTTPError) -> StoreUnavailable:
        """What a failed connection means."""
        if isinstance(error, httpx.ConnectError):
            return StoreUnavailable(f"{self.place} does not answer: is kedge serve running there? ({error})")
        return StoreUnavailable(f"{self.place}: {type(error).__name__} {error}")

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._runner.run(work)
        except httpx.HTTPError as e:
            raise self.unreached(e) from None

    def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        json: Any = None,
        params: Any = None,
        headers: dict[str, str] | None = None,
        accept: tuple[int, ...] = (),
    ) -> httpx.Response:
        """One call; a status of `accept` is an answer too. Raises BadInput for 4xx, StoreUnavailable for
        5xx.
        """
        response = self._run(
            self._http.request(method, path, content=content, json=json, params=params, headers=headers)
        )
        return self.answered(response, accept)

    def get(self, path: str, **params: Any) -> Any:
        return self.request("GET", path, params={k: v for k, v in params.items() if v is not None}).json()

    def post(self, path: str, body: Any) -> Any:
        return self.request("POST", path, json=body).json()

    def lines(self, path: str, **params: Any) -> Iterator[Any]:
        """The objects of an answer of one JSON object a line."""
        response = self.request("GET", path, params={k: v for k, v in params.items() if v is not None})
        for line in response.content.splitlines():
            if line:
                yield msgspec.json.decode(line)

    def stream(self, path: str, body: Any) -> Iterator[Any]:
        """The objects of an answer of one JSON object a line, as they come. Beside a running server alone: an
        application in this process answers only once it is done."""
        with self.blocking() as http:
            try:
                with http.stream("POST", path, json=body) as response:
                    if not response.is_success:
                        response.read()
                    for line in self.answered(response).iter_lines():
                        yield msgspec.json.decode(line)
            except httpx.HTTPError as e:
                raise self.unreached(e) from None


def _error_text(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        text = body.get("error") or body.get("detail")
        if text:
            return str(text)
    if response.status_code in (401, 403):
        return f"the server refused ({response.status_code}): set {CLIENT_KEY} to a key that it knows"
    return f"the server answered {response.status_code}"


@contextmanager
def connect_to(url: str, *, answer_s: float = TIMEOUT_S, connect_s: float = 10.0) -> Iterator[Client]:
    """A client of the server at an address, which must take the connection and answer in so many seconds."""
    headers = {"Authorization": f"Bearer {os.environ[CLIENT_KEY]}"} if os.environ.get(CLIENT_KEY) else {}
    with asyncio.Runner() as runner:
        timeout = httpx.Timeout(answer_s, connect=connect_s)
        http = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout)
        try:
            yield Client(http, url, runner)
        finally:
            runner.run(http.aclose())


@contextmanager
def connect(settings: Settings, *, memory: str = "") -> Iterator[Client]:
    """A client of the running server, or of the same application in this process where none runs; `memory`
    bounds what that keeps of a DuckDB file."""
    url = running_server(settings)
    if url:
        with connect_to(url) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        from ingest.service import IngestService
        from kedge.cli.app import build_app
        from kedge.pipeline.compose import open_pipeline, open_store

        clock = settings.make_clock()
        pipe = open_pipeline(settings, clock, open_store(settings, clock, memory=memory))
        try:
            pipe.store.setup()
            app = build_app(pipe, clock, local=True)
            http = httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1", timeout=TIMEOUT_S
            )
            service = IngestService(pipe.store, pipe.store.state, clock)
            try:
                yield Client(http, settings.store_name, runner, service, pipe)
            finally:
                runner.run(http.aclose())
                app.state.finish()
                service.finish()
        finally:
            pipe.store.close()
