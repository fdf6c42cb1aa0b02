"""The HTTP side of ingestion: `POST /v1/predictions`, `POST /v1/labels` and `GET /v1/status`.

An object, a list of objects, or one object a line, plain or gzipped. Answers:

    200  some rows were taken; the counts, and each rejected row with its index, field and reason
    202  the store cannot take them now: they are kept in the gateway's spool (`spooled`), and written later
    400  the body cannot be read: malformed (with line, column and byte), empty, broken gzip
    401, 403  no key, or an unknown one; no key is configured and the client is not on this machine
    413  too large: 32 MB, counted after decompression, or 50,000 rows
    415  a content type or encoding that is not taken
    422  every row was rejected; the same body as 200
    503  the store cannot be reached, and there is no spool or it is full: send the same again after
         `Retry-After`
"""

import zlib
from collections.abc import Callable

import msgspec
import structlog
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from ingest.answers import LabelAnswer, PredictionAnswer
from ingest.auth import Keys
from ingest.body import Malformed, TooManyRows
from ingest.service import IngestService
from ingest.spool import SpoolBroken, SpoolFull
from kedge.errors import BadInput, StoreUnavailable

MAX_BODY = 32 * 2**20
"""Bytes of a body, as sent and after decompression."""
MAX_DRAINED = 4 * MAX_BODY
"""Bytes of a body too large that are read and thrown away, so that its sender lives to read the answer."""
MAX_MEMBERS = 16
"""Of one gzip body. Each costs a copy of what follows it."""
RETRY_AFTER_SECONDS = 5

_LINES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
_JSON = frozenset({"application/json", "text/json", ""})

_log = structlog.get_logger(__name__)

Answer = PredictionAnswer | LabelAnswer
Take = Callable[..., Answer]


class Refused(Exception):
    """A request that is not taken as a whole."""

    def __init__(self, status: int, reason: str, **details: int) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.details = details


def gateway_router(service: IngestService, keys: Keys) -> APIRouter:
    """The routes, to be included in an application."""
    router = APIRouter(tags=["ingestion"])

    @router.post("/v1/predictions", summary="Log predictions")
    async def predictions(request: Request) -> Response:
        return await _answer(request, keys, service.predictions)

    @router.post("/v1/labels", summary="Send labels of earlier predictions")
    async def labels(request: Request) -> Response:
        return await _answer(request, keys, service.labels)

    @router.get("/v1/status", summary="How ingestion does", dependencies=[Depends(guard_for(keys))])
    def status() -> Response:
        return _json(200, service.status())

    return router


def guard_for(keys: Keys) -> Callable[[Request], None]:
    """The same check as a dependency, for other routes."""

    def guard(request: Request) -> None:
        if denied := keys.check(request.headers, _peer(request)):
            challenge = {"WWW-Authenticate": "Bearer"} if denied.status == 401 else None
            raise HTTPException(denied.status, denied.reason, challenge)

    return guard


def _peer(request: Request) -> str | None:
    return request.client.host if request.client else None


async def _answer(request: Request, keys: Keys, take: Take) -> Response:
    try:
        if denied := keys.check(request.headers, _peer(request)):
            raise Refused(denied.status, denied.reason)
        lines = _is_lines(request.headers.get("content-type", ""))
        zipped = _is_gzip(request.headers.get("content-encoding", ""))
        body = await _read(request)
        # Unpacking, decoding and writing block: none of them may hold up the event loop.
        answer = await run_in_threadpool(_take, take, body, zipped, lines)
    except Refused as refused:
        return _refusal(refused)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    return _json(422 if answer.useless else 202 if answer.spooled else 200, answer)


def _take(take: Take, body: bytes, zipped: bool, lines: bool) -> Answer:
    try:
        return take(gunzip(body) if zipped else body, lines=lines)
    except Malformed as error:
        place = {"line": error.line, "column": error.column, "byte": error.byte}
        raise Refused(400, str(error), **place) from None
    except TooManyRows as error:
        raise Refused(413, str(error)) from None
    except BadInput as error:
        raise Refused(400, str(error)) from None
    except SpoolFull as error:
        _log.warning("spool full", error=str(error))
        raise Refused(
            503, "the store cannot be reached and the spool is full: send the same again later"
        ) from None
    except SpoolBroken as error:
        _log.error("spool broken", error=str(error))
        raise Refused(
            503, "the rows can neither be stored nor spooled just now: send them again later"
        ) from None
    except StoreUnavailable as error:
        # Its text may name hosts, which are not the client's business.
        _log.warning("store unavailable", error=str(error))
        raise Refused(503, "the store cannot be reached just now: send the same again later") from None


def _is_lines(content_type: str) -> bool:
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    charset = parameters.lower().partition("charset=")[2].strip(' "')
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise Refused(415, f"the charset {charset[:40]} is not taken: send UTF-8")
    if kind in _LINES:
        return True
    if kind in _JSON:
        return False
    raise Refused(
        415,
        f"the content type {kind[:80]} is not taken: send application/json, "
        "or application/x-ndjson for one object a line",
    )


def _is_gzip(encoding: str) -> bool:
    encoding = encoding.strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return True
    if encoding in ("", "identity"):
        return False
    raise Refused(415, f"the content encoding {encoding[:40]} is not taken: send gzip, or none")


async def _read(request: Request) -> bytes:
    """The body as sent. One that is too large is read to its end but not kept, within reason."""
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY:
            chunks.append(chunk)
        elif size > MAX_DRAINED:
            break
        else:
            chunks.clear()
    if size > MAX_BODY:
        raise _too_large()
    return b"".join(chunks)


def gunzip(body: bytes) -> bytes:
    """Unpack gzip, of several members too, never to more than MAX_BODY bytes. Raises Refused."""
    unpacked = bytearray()
    for _ in range(MAX_MEMBERS):
        if not body:
            break
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            unpacked += member.decompress(body, MAX_BODY + 1 - len(unpacked))
        except zlib.error:
            raise Refused(400, "the body is not gzip, as its content encoding says, or is damaged") from None
        if len(unpacked) > MAX_BODY:
            raise _too_large()
        if not member.eof:
            raise Refused(400, "the gzip body ends too early")
        body = member.unused_data.lstrip(b"\0")
    if body:
        raise Refused(400, f"the gzip body has more than {MAX_MEMBERS} members")
    return bytes(unpacked)


def _too_large() -> Refused:
    return Refused(
        413,
        f"the body is larger than {MAX_BODY // 2**20} MB (after decompression): send it in several",
        limit=MAX_BODY,
    )


def _refusal(refused: Refused) -> Response:
    response = _json(refused.status, {"error": refused.reason, **refused.details})
    if refused.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if refused.status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _json(status: int, content: object) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
