"""What a person reads when the cluster is wrong, busy or gone; and that no secret is in it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kedge.errors import BadInput, KedgeError, PartialResult, StoreUnavailable, TooManyBuckets
from kedge.store.elastic import open_elastic
from kedge.store.elastic.client import Client
from kedge.store.elastic.operations import Operation, PartlyWritten, Search

SECRET = "hunter2"


class Answers(ThreadingHTTPServer):
    """Gives the prepared (status, body) pairs in order, the last one again and again."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.queue: list[tuple[int, object]] = []
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://elastic:{SECRET}@127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"] or 0)))
        status, body = self.server.queue[0]
        if len(self.server.queue) > 1:
            self.server.queue.pop(0)
        content = json.dumps(body, separators=(",", ":")).encode()  # as the servers write it
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Answers]:
    answers = Answers()
    thread = threading.Thread(target=answers.serve_forever, args=(0.01,))
    thread.start()
    yield answers
    answers.shutdown()
    thread.join()
    answers.server_close()


def failure(kind: str, *, cause: str = "") -> dict[str, object]:
    error: dict[str, object] = {"type": kind, "reason": f"because of {kind}"}
    if cause:
        error["failed_shards"] = [{"reason": {"type": cause, "reason": "more than 65536"}}]
    return {"error": error}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, failure("circuit_breaking_exception"), StoreUnavailable),
        (503, failure("no_master"), StoreUnavailable),
        (503, failure("search_phase_execution_exception"), PartialResult),
        (200, {"timed_out": True, "_shards": {"failed": 0}}, PartialResult),
        (200, {"timed_out": False, "_shards": {"failed": 1}}, PartialResult),
        (
            503,
            failure("search_phase_execution_exception", cause="too_many_buckets_exception"),
            TooManyBuckets,
        ),
        (
            400,
            failure("search_phase_execution_exception", cause="too_many_buckets_exception"),
            TooManyBuckets,
        ),
        (401, failure("security_exception"), KedgeError),
    ],
)
def test_an_answer_that_cannot_be_used_raises_and_names_the_host(
    server: Answers, status: int, body: object, expected: type[KedgeError]
) -> None:
    server.queue = [(status, body)]
    client = Client(server.url)
    with pytest.raises(expected) as caught:
        client.search("x", {"size": 0})
    assert f"127.0.0.1:{server.server_port}" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert type(caught.value) is expected or expected is KedgeError
    client.close()


MANY = "aggregations,-aggregations.x.key"


def ask(client: Client, n: int) -> list[object]:
    return list(client.search_many([Search.of("x", {"size": 0})] * n, filter_path=MANY))


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ({"status": 429, **failure("circuit_breaking_exception")}, StoreUnavailable),
        ({"status": 503, **failure("search_phase_execution_exception")}, PartialResult),
        ({"status": 200, "timed_out": True, "_shards": {"failed": 0}}, PartialResult),
        ({"status": 200, "timed_out": False, "_shards": {"failed": 1}}, PartialResult),
        ({"status": 403, **failure("security_exception")}, KedgeError),
    ],
)
def test_one_unusable_answer_among_many_raises(
    server: Answers, response: object, expected: type[KedgeError]
) -> None:
    fine = {"status": 200, "timed_out": False, "_shards": {"failed": 0}, "aggregations": {"n": 1}}
    server.queue = [(200, {"responses": [fine, response, fine]})]
    client = Client(server.url)
    with pytest.raises(expected) as caught:
        ask(client, 3)
    assert f"127.0.0.1:{server.server_port}" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert type(caught.value) is expected or expected is KedgeError
    client.close()


def test_a_search_over_the_bucket_limit_costs_no_other_of_the_same_request(server: Answers) -> None:
    fine = {"status": 200, "timed_out": False, "_shards": {"failed": 0}, "aggregations": {"n": 1}}
    over = {
        "status": 400,
        **failure("search_phase_execution_exception", cause="too_many_buckets_exception"),
    }
    server.queue = [(200, {"responses": [fine, over, fine]})]
    client = Client(server.url)
    first, second, third = ask(client, 3)
    assert first == third == fine
    assert isinstance(second, TooManyBuckets)
    head = json.loads(server.bodies[0].split(b"\n")[0])
    assert head["allow_partial_search_results"] is False
    client.close()


def test_a_cluster_that_is_gone_is_unavailable_and_its_password_stays_secret(server: Answers) -> None:
    port = server.server_port
    store = open_elastic(
        f"http://elastic:{SECRET}@127.0.0.1:{port + 1 if port < 65535 else 1}", clock=lambda: 0
    )
    with pytest.raises(StoreUnavailable) as caught:
        store.changed({})
    assert SECRET not in str(caught.value)
    check = store.ping()
    assert not check.ok
    assert check.remedy
    assert SECRET not in check.detail
    store.close()


@pytest.mark.parametrize("url", ["localhost:9200", "ftp://x", f"http://u:{SECRET}@h:port", ""])
def test_a_url_that_cannot_be_is_bad_input(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        open_elastic(url, clock=lambda: 0)
    assert SECRET not in str(caught.value)


def test_a_prefix_that_cannot_begin_an_index_is_bad_input() -> None:
    with pytest.raises(BadInput):
        open_elastic("http://127.0.0.1:9200", prefix="Kedge", clock=lambda: 0)


def items(*statuses: int) -> dict[str, object]:
    def item(status: int) -> dict[str, object]:
        error = {"error": {"type": "some_exception", "reason": "it says"}} if status >= 300 else {}
        return {"create": {"status": status, **error}}

    return {"items": [item(status) for status in statuses]}


def operations(n: int) -> list[Operation]:
    return [Operation.of("create", {"n": i}, _index="x", _id=str(i)) for i in range(n)]


def test_items_that_the_server_is_too_busy_for_are_sent_again_alone(server: Answers) -> None:
    server.queue = [(200, items(201, 429, 409, 503)), (200, items(201, 429)), (200, items(201))]
    client = Client(server.url)
    assert [item.status for item in client.bulk(operations(4))] == [201, 201, 409, 201]
    assert [body.count(b"create") for body in server.bodies] == [4, 2, 1]
    client.close()


def test_a_server_that_stays_too_busy_is_unavailable(
    server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.store.elastic.client.time.sleep", lambda seconds: None)
    server.queue = [(200, items(201, 429)), (200, items(429))]
    client = Client(server.url)
    with pytest.raises(StoreUnavailable, match="it says"):
        client.bulk(operations(2))
    client.close()


def test_what_was_written_before_a_failure_is_told(server: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kedge.store.elastic.operations.BULK_ITEMS", 2)
    busy = (503, failure("unavailable"))
    server.queue = [(200, items(201, 409)), *[busy] * 3, *[busy] * 9]
    client = Client(server.url)
    with pytest.raises(PartlyWritten) as caught:
        client.bulk(operations(6))
    assert [item.status for item in caught.value.items[:2]] == [201, 409]
    assert [item.unwritten for item in caught.value.items] == [False, False, True, True, True, True]
    written = sum(body.count(b"create") for body in server.bodies[:1])
    assert written == 2
    assert not any(b'"_id":"4"' in body for body in server.bodies), "nothing is sent after a failure"
    client.close()


def test_a_request_refused_whole_is_halved_until_the_bad_document_is_alone(server: Answers) -> None:
    refused = (413, failure("content_too_long"))
    server.queue = [refused, (200, items(201, 201)), refused, (200, items(201)), refused]
    client = Client(server.url)
    found = client.bulk(operations(4))
    assert [item.status for item in found] == [201, 201, 201, 413]
    assert "content_too_long" in found[3].reason
    client.close()


def test_a_write_block_is_not_the_rows_fault(server: Answers) -> None:
    server.queue = [(200, items(201, 403))]
    client = Client(server.url)
    with pytest.raises(StoreUnavailable, match="does not allow writing"):
        client.bulk(operations(2))
    client.close()


def test_a_bulk_is_cut_by_bytes(server: Answers) -> None:
    server.queue = [(200, items(201)), (200, items(201, 201))]
    large = [Operation.of("create", {"text": "x" * 5_000_000}, _index="x")]
    client = Client(server.url)
    assert [item.status for item in client.bulk([*large, *large[:1], *operations(1)])] == [201, 201, 201]
    assert [body.count(b"create") for body in server.bodies] == [1, 2]
    client.close()


NEW = {"create": {"status": 201}}


@pytest.mark.parametrize(
    ("errors", "items", "statuses"),
    [
        (False, [NEW, NEW, NEW], [201, 201, 201]),
        (False, [NEW, {"index": {"status": 200}}, NEW], [201, 200, 201]),
        (
            True,
            [NEW, NEW, {"create": {"status": 409, "error": {"type": "t", "reason": "r"}}}],
            [201, 201, 409],
        ),
        (
            True,
            [NEW, NEW, {"create": {"status": 400, "error": {"type": "t", "reason": '{"status":201}'}}}],
            [201, 201, 400],
        ),
    ],
)
def test_what_became_of_each_document_is_read_from_the_answer(
    server: Answers, errors: bool, items: list[object], statuses: list[int]
) -> None:
    server.queue = [(200, {"errors": errors, "items": items})]
    client = Client(server.url)
    found = client.bulk([Operation.create("alias", str(i), b"{}") for i in range(len(items))])
    assert [item.status for item in found] == statuses
    client.close()
