"""The connection to Elasticsearch or OpenSearch: one request at a time, errors in kedge's words, bulk with
retries."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from elastic_transport import (
    TransportError,
)
from elasticsearch import ApiError, Elasticsearch, SerializationError

from kedge.errors import BadInput, KedgeError, PartialResult, StoreUnavailable, TooManyBuckets
from kedge.store.base import Counters
from kedge.store.elastic.node import Answers, AnyServerNode, Lines, decoder
from kedge.store.elastic.operations import (
    NOT_SENT,
    Item,
    Operation,
    PartlyWritten,
    Quick,
    Search,
    causes,
    chunks,
    item_of,
    short,
    written,
)

Json = dict[str, Any]

SEARCHES = 50
"""Searches in one request at most."""
SEARCHES_AT_ONCE = 4
"""How many of them a server runs side by side at most, so that one worker leaves room for people."""
BULK_ATTEMPTS = 6
"""Tries of the items that the server was too busy for; the pauses between them add up to about 3 s."""
SEARCH_PAGE = 10_000
"""`index.max_result_window`: the most hits one search may return."""


class Refused(KedgeError):
    """The server answered 4xx: the request itself cannot be met. `kind` is the server's error type."""

    def __init__(self, text: str, status: int, kind: str, reason: str) -> None:
        super().__init__(text)
        self.status = status
        self.kind = kind
        self.reason = reason


class Server(NamedTuple):
    distribution: str
    """`elasticsearch` or `opensearch`."""
    version: str

    @property
    def opensearch(self) -> bool:
        return self.distribution == "opensearch"

    def __str__(self) -> str:
        return f"{'OpenSearch' if self.opensearch else 'Elasticsearch'} {self.version}"


class Client:
    """Requests to one cluster. Thread-safe. No error names credentials: hosts are printed without user
    info."""

    def __init__(self, url: str, api_key: str | None = None, *, timeout: float = 60.0) -> None:
        hosts = [_with_port(part.strip()) for part in url.split(",")]
        self.host = ", ".join(f"{p.scheme}://{p.hostname}:{p.port}" for p in map(urlsplit, hosts))
        self.counters = Counters()
        json, lines = Answers(), Lines()
        self._client = Elasticsearch(
            hosts,
            api_key=api_key,
            node_class=AnyServerNode,
            request_timeout=timeout,
            # A write whose answer was lost is sent again: every write is idempotent,
            # versioned or compare-and-set.
            max_retries=2,
            serializers={
                "application/json": json,
                "application/vnd.elasticsearch+json": json,
                "application/x-ndjson": lines,
                "application/vnd.elasticsearch+x-ndjson": lines,
            },
        )

    def close(self) -> None:
        self._client.close()

    # --- requests ---------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: Json | bytes | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        ndjson: bool = False,
        verb: str = "",
        decode: Callable[[bytes], Any] | None = None,
    ) -> Any:
        """The decoded answer; raises StoreUnavailable, PartialResult, TooManyBuckets or Refused.

        `decode` reads it in place of a JSON decoder: it raises msgspec.ValidationError for what it does not
        know.
        """
        self.counters.requests += 1
        verb = verb or path.rpartition("/")[2]
        self.counters.by_verb[verb] = self.counters.by_verb.get(verb, 0) + 1
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/x-ndjson" if ndjson else "application/json"
        before = decoder.set(decode)
        try:
            return self._client.perform_request(method, path, params=params, headers=headers, body=body).body
        except ApiError as error:
            raise self._translated(error) from None
        except SerializationError:
            raise StoreUnavailable(f"{self.host} answered with something other than JSON") from None
        except TransportError as error:
            raise StoreUnavailable(
                f"{self.host} cannot be reached: is the URL right, and does it run? ({short(error.message)})"
            ) from None
        finally:
            decoder.reset(before)

    def _translated(self, error: ApiError) -> KedgeError:
        return self._failure(error.meta.status, error.body)

    def _failure(self, status: int, body: Any) -> KedgeError:
        """What an answer with an error says."""
        kinds, reason = causes(body)
        kind = kinds[0] if kinds else ""
        if "too_many_buckets_exception" in kinds:
            return TooManyBuckets(f"{self.host}: {short(reason)}")
        if status in (401, 403):
            return Refused(
                f"{self.host} refuses the credentials or their privileges ({status}: {short(reason)})",
                status,
                kind,
                reason,
            )
        if status == 429 or status >= 500:
            partial = kind == "search_phase_execution_exception"
            text = (
                f"{self.host} answers {status} ({short(reason)}): try again, or look at the cluster's health"
            )
            return PartialResult(text, status) if partial else StoreUnavailable(text, status)
        advice = ": run `kedge setup` first" if kind == "index_not_found_exception" else ""
        return Refused(f"{self.host} answers {status}: {short(reason)}{advice}", status, kind, reason)

    def search(self, index: str, body: Json, *, filter_path: str = "", **params: Any) -> Json:
        """One search over all shards: an answer from only some of them, or a timed-out one, raises
        PartialResult.

        Wildcards that match nothing give an empty answer. A closed index in reach is an error: its rows would
        otherwise silently count as none.
        """
        params = {"expand_wildcards": "open,closed", "allow_partial_search_results": "false"} | params
        if filter_path:
            params["filter_path"] = f"timed_out,_shards.failed,{filter_path}"
        answer: Json = self.request("POST", f"/{index}/_search", body, params=params)
        self._whole(answer)
        return answer

    def search_many(self, searches: Sequence[Search], *, filter_path: str) -> list[Json | TooManyBuckets]:
        """Many searches in few requests, each by the rules of `search`; their answers in order.

        A search that meets the bucket limit has that error as its answer, since it alone must be cut; any
        other error is raised. Answers are not kept in the server's cache: nobody asks twice.
        """
        answers: list[Json | TooManyBuckets] = []
        paths = [f"responses.{path}" for path in ("timed_out", "_shards.failed", "status", "error")]
        paths += [
            f"-responses.{path[1:]}" if path.startswith("-") else f"responses.{path}"
            for path in filter_path.split(",")
        ]
        params = {"max_concurrent_searches": SEARCHES_AT_ONCE, "filter_path": ",".join(paths)}
        for start in range(0, len(searches), SEARCHES):
            body = b"".join([search.lines for search in searches[start : start + SEARCHES]])
            answer = self.request("POST", "/_msearch", body, params=params, ndjson=True)
            answers += map(self._answer, answer["responses"])
        return answers

    def _answer(self, response: Json) -> Json | TooManyBuckets:
        if response.get("error"):
            failure = self._failure(response["status"], response)
            if isinstance(failure, TooManyBuckets):
                return failure
            raise failure
        self._whole(response)
        return response

    def refresh(self, index: str) -> None:
        params = {"filter_path": "_shards.failed"}
        self._whole(self.request("POST", f"/{index}/_refresh", params=params))

    def _whole(self, answer: Json) -> None:
        if answer.get("timed_out") or answer.get("_shards", {}).get("failed"):
            raise PartialResult(f"{self.host} answered from only some shards, or ran out of time")

    # --- bulk -------------------------------------------------------------------------------------

    def bulk(self, operations: Sequence[Operation]) -> list[Item]:
        """Write, to aliases alone, in requests of bounded size; what became of each operation, in order.

        Items that the server was too busy for are tried again. While any of them stays so, or the server
        fails between two requests, PartlyWritten; where nothing was written, StoreUnavailable. A request
        refused as a whole is halved, so that one bad document costs no other.
        """
        return self.settled(self.bulk_unsettled(operations))

    def bulk_unsettled(self, operations: Sequence[Operation]) -> list[Item]:
        """`bulk`, but items that are neither written nor refused are among the others."""
        items: list[Item] = []
        for chunk in chunks(operations):
            failed = items and items[-1].status == NOT_SENT
            items += [items[-1]] * len(chunk) if failed else self._bulk_persistently(chunk)
        return items

    def settled(self, items: list[Item]) -> list[Item]:
        """The same items; raises as `bulk` where one of them is not settled."""
        stuck = next((item for item in items if item.unwritten), None)
        if stuck is None:
            return items
        text = f"{self.host} keeps refusing writes ({stuck.status}: {stuck.reason})"
        if stuck.status == NOT_SENT:
            text = stuck.reason
        if all(item.unwritten for item in items):
            raise StoreUnavailable(text, stuck.status or stuck.request)
        raise PartlyWritten(text, items, stuck.status or stuck.request)

    def _bulk_persistently(self, chunk: Sequence[Operation]) -> list[Item]:
        items = self._bulk_once(chunk)
        for attempt in range(BULK_ATTEMPTS - 1):
            busy = [i for i, item in enumerate(items) if item.busy]
            if not busy:
                break
            time.sleep(0.1 * 2**attempt * random.uniform(0.5, 1.0))
            for i, item in zip(busy, self._bulk_once([chunk[i] for i in busy]), strict=True):
                items[i] = item
        return items

    def _bulk_once(self, chunk: Sequence[Operation]) -> list[Item]:
        body = b"".join([operation.lines for operation in chunk])
        try:
            return self.post_bulk(body, len(chunk))
        except StoreUnavailable as error:
            return [Item(NOT_SENT, "", str(error), error.status)] * len(chunk)
        except Refused as refused:
            if refused.status not in (400, 413):
                raise
            if len(chunk) == 1:
                return [Item(refused.status, refused.kind, short(refused.reason))]
            half = len(chunk) // 2
            return self._bulk_once(chunk[:half]) + self._bulk_once(chunk[half:])

    def post_bulk(self, body: bytes, count: int) -> list[Item]:
        """One bulk request of `count` operations; what became of each. Raises what `request` does."""
        params = {"filter_path": "errors,items.*.status,items.*.error", "require_alias": "true"}
        answer = self.request("POST", "/_bulk", body, params=params, ndjson=True, decode=Quick(count).items)
        if isinstance(answer, list):
            return answer
        found = (result for entry in answer["items"] for result in entry.values())
        if not answer.get("errors", True):
            return [written(result["status"]) for result in found]
        return [self._blocked(item) if item.status in (401, 403) else item for item in map(item_of, found)]

    def _blocked(self, item: Item) -> Item:
        # A write block or missing privileges: not the row's fault, so it must be kept by the caller.
        return Item(NOT_SENT, item.kind, f"{self.host} does not allow writing: {item.reason}")

    # --- what the server is -----------------------------------------------------------------------

    @cached_property
    def server(self) -> Server:
        """Which server this is. Builds without the main page (`GET /` answers 405) are asked for their
        nodes."""
        try:
            about = self.request("GET", "/", verb="info")["version"]
            return Server(about.get("distribution", "elasticsearch"), about["number"])
        except Refused as refused:
            if refused.status != 405:
                raise
        nodes = self.request("GET", "/_nodes/_local", params={"filter_path": "nodes.*.version"})["nodes"]
        return Server("elasticsearch", next(iter(nodes.values()))["version"])

    @cached_property
    def max_buckets(self) -> int:
        """`search.max_buckets` of the cluster; its default where the setting may not be read."""
        path = "*.search.max_buckets"
        try:
            answer = self.request(
                "GET",
                "/_cluster/settings",
                params={"include_defaults": "true", "flat_settings": "false", "filter_path": path},
            )
        except Refused:
            return 65_535
        found = [
            answer[k]["search"]["max_buckets"] for k in ("transient", "persistent", "defaults") if k in answer
        ]
        return int(found[0]) if found else 65_535


def _with_port(url: str) -> str:
    """The URL with a port, which the client insists on: 9200, or 443 for https."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadInput("the store's URL has a port that is not a number") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput("the store's URL must look like https://host:9200")
    if port is not None:
        return url
    return parts._replace(netloc=f"{parts.netloc}:{443 if parts.scheme == 'https' else 9200}").geturl()
