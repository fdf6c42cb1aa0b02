"""Everything a client may send over HTTP, through the real application, into a real store."""

import gzip
import json
import math
import threading
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from ingest.auth import Keys, new_key
from ingest.gateway import MAX_BODY, gateway_router
from ingest.service import IngestService
from kedge.cli.start import arrivals_check
from kedge.errors import StoreUnavailable
from kedge.records import Label, Prediction
from kedge.store.base import AppendResult, Joined
from kedge.store.duckdb import DuckStore
from kedge.windows import DAY, HOUR
from tests.ingest.conftest import ALL, NOW, Client, client_of, stored_ids

PREDICTIONS, LABELS = "/v1/predictions", "/v1/labels"
NDJSON = {"Content-Type": "application/x-ndjson"}


def row(id: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "timestamp": NOW - HOUR, "model": "m", "features": {"x": 1.5}, **fields}


def post(client: Client, content: Any, path: str = PREDICTIONS, **headers: str) -> httpx.Response:
    """Post bytes as they are, anything else as JSON (with NaN where there is one)."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return client.post(path, content=body, headers={"Content-Type": "application/json", **headers})


class TestPredictions:
    def test_are_stored_and_counted(self, client: Client, store: DuckStore) -> None:
        response = post(client, [row("a"), row("b")])
        assert response.status_code == 200
        assert response.json() == {"accepted": 2, "duplicate": 0, "rejected": 0, "rejections": []}
        assert stored_ids(store) == {"a", "b"}

    def test_come_as_object_list_or_lines(self, client: Client, store: DuckStore) -> None:
        assert post(client, row("a")).json()["accepted"] == 1
        assert post(client, [row("b")]).json()["accepted"] == 1
        lines = b"\n".join(json.dumps(row(i)).encode() for i in "cd")
        assert post(client, lines, **NDJSON).json()["accepted"] == 2
        assert client.post(PREDICTIONS, content=json.dumps(row("e")).encode()).json()["accepted"] == 1
        assert stored_ids(store) == set("abcde")

    def test_sent_again_are_duplicates(self, client: Client, store: DuckStore) -> None:
        post(client, [row("a")])
        answer = post(client, [row("a"), row("b"), row("b")]).json()
        assert (answer["accepted"], answer["duplicate"], answer["rejected"]) == (1, 2, 0)
        assert stored_ids(store) == {"a", "b"}

    def test_of_a_mixed_batch_the_valid_ones_are_kept(self, client: Client, store: DuckStore) -> None:
        rows = [
            row("good-1"),
            row("typed", latency_ms="fast"),
            row("old", timestamp="1999-01-01T00:00:00Z"),
            row("next-year", timestamp="2027-11-01T00:00:00Z"),
            row("nan", latency_ms=math.nan),
            row("wide", features={f"f{i}": i for i in range(10_000)}),
            row("sum", probabilities={"a": 0.9, "b": 0.9}),
            "text",
            row("good-2", features={"x": math.nan, "y": math.inf, "z": 2, "list": [1]}),
        ]
        response = post(client, rows)
        answer = response.json()
        assert response.status_code == 200
        assert (answer["accepted"], answer["rejected"]) == (2, 7)
        places = [(rejection["index"], rejection["field"]) for rejection in answer["rejections"]]
        assert places == [
            *((1, "latency_ms"), (2, "timestamp"), (3, "timestamp"), (4, "latency_ms")),
            *((5, "features"), (6, "probabilities"), (7, "")),
        ]
        assert all(rejection["reason"] for rejection in answer["rejections"])
        assert stored_ids(store) == {"good-1", "good-2"}

    def test_without_an_id_are_stored_with_a_notice(self, client: Client, store: DuckStore) -> None:
        nameless = row("a")
        del nameless["id"]
        notice = post(client, [nameless, nameless]).json()["notice"]
        assert notice.startswith("2 rows had no id")
        assert len(stored_ids(store)) == 2
        timeless = row("b")
        del timeless["timestamp"]
        assert "no timestamp" in post(client, timeless).json()["notice"]

    def test_unknown_fields_are_told(self, client: Client) -> None:
        answer = post(client, row("a", probabilty=0.3)).json()
        assert answer["accepted"] == 1
        assert answer["notice"] == "Unknown fields were left out: probabilty."

    def test_all_rejected_is_422(self, client: Client) -> None:
        response = post(client, [{"id": "a"}, {"id": "b"}])
        assert response.status_code == 422
        assert response.json()["rejections"][0] == {"index": 0, "field": "model", "reason": "is missing"}

    def test_no_rows_are_no_fault(self, client: Client) -> None:
        assert post(client, []).json() == {"accepted": 0, "duplicate": 0, "rejected": 0, "rejections": []}

    def test_rejections_are_listed_up_to_a_hundred(self, client: Client) -> None:
        answer = post(client, [{"id": "a"}] * 250 + [row("b")]).json()
        assert (answer["accepted"], answer["rejected"], len(answer["rejections"])) == (1, 250, 100)

    def test_lines_that_cannot_be_read_cost_no_other(self, client: Client, store: DuckStore) -> None:
        good = [json.dumps(row(i)).encode() for i in "ab"]
        body = b"\n".join([good[0], b'{"id": "caf\xe9", "model": "m"}', b'{"id": ', good[1]])
        answer = post(client, body, **NDJSON).json()
        assert (answer["accepted"], answer["rejected"]) == (2, 2)
        assert "UTF-8" in answer["rejections"][0]["reason"]
        assert stored_ids(store) == {"a", "b"}

    def test_are_summarised_with_their_features(self, client: Client, store: DuckStore) -> None:
        post(client, [row("a", features={"x": 1, "country": "DE", "odd": [1]})])
        stored = store.state.get("schema:m")
        assert stored is not None
        assert stored.value == {"numeric": ["x"], "categorical": ["country"], "invalid": ["odd"]}

    def test_beyond_two_thousand_names_are_rejected(self, client: Client, store: DuckStore) -> None:
        rows = [row(f"r{i}", features={f"f{i}-{j}": 1 for j in range(900)}) for i in range(3)]
        answer = post(client, [*rows, rows[0] | {"id": "again"}]).json()
        assert (answer["accepted"], answer["rejected"]) == (3, 1)
        assert answer["rejections"][0]["index"] == 2
        assert "2,000 feature names" in answer["rejections"][0]["reason"]
        assert stored_ids(store) == {"r0", "r1", "again"}


class TestLabels:
    def test_are_joined_superseded_or_wait(self, client: Client, store: DuckStore) -> None:
        post(client, [row("a", **{"class": "late"}), row("b", **{"class": "late"})])
        answer = post(
            client, [{"id": "a", "label": "late"}, {"id": "z", "label": 1}, {"id": "b"}], LABELS
        ).json()
        assert answer == {
            "accepted": 1,
            "superseded": 0,
            "waiting": 1,
            "rejected": 1,
            "rejections": [
                {"index": 2, "field": "label", "reason": "is missing: give class, value or label"}
            ],
        }
        older = {"id": "a", "label": "ok", "timestamp": NOW - DAY}
        assert post(client, older, LABELS).json()["superseded"] == 1
        (labelled,) = (d for d in store.examples("m", ALL) if d["event"]["id"] == "a")
        assert labelled["label"]["class"] == "late"
        assert labelled["outcome"]["correct"] is True

    def test_all_rejected_is_422(self, client: Client) -> None:
        assert post(client, [{"label": 1}], LABELS).status_code == 422

    @pytest.mark.parametrize("given", [1, 1.0, "1", True])
    def test_meet_their_class_however_it_is_written(
        self, client: Client, store: DuckStore, given: Any
    ) -> None:
        predicted = "true" if given is True else 1
        post(client, row("a", **{"class": predicted}))
        assert post(client, {"id": "a", "class": given}, LABELS).json()["accepted"] == 1
        (document,) = store.examples("m", ALL)
        assert document["outcome"]["correct"] is True


class TestBodies:
    @pytest.mark.parametrize("path", [PREDICTIONS, LABELS])
    def test_malformed_is_400_with_its_place(self, client: Client, path: str) -> None:
        response = post(client, b'[{"id": "a"},\n {"id" "b"}]', path)
        assert response.status_code == 400
        answer = response.json()
        assert (answer["line"], answer["column"], answer["byte"]) == (2, 8, 21)
        assert "malformed JSON" in answer["error"]

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "empty"),
            (b'{"id": "caf\xe9"}', "not UTF-8"),
            (b"\x00\x01\x02", "expected an object"),
            (b"[" * 100_000, "nested too deeply"),
            (b'[{"id": "a"}', "malformed"),
            (b"<html>", "expected an object"),
        ],
    )
    def test_what_is_no_json_is_400(self, client: Client, body: bytes, words: str) -> None:
        response = post(client, body)
        assert response.status_code == 400
        assert words in response.json()["error"]

    def test_gzip_is_unpacked(self, client: Client, store: DuckStore) -> None:
        packed = gzip.compress(json.dumps([row("a")]).encode())
        assert post(client, packed, **{"Content-Encoding": "gzip"}).json()["accepted"] == 1
        two_members = gzip.compress(b"[" + json.dumps(row("b")).encode()) + gzip.compress(b"]")
        assert post(client, two_members, **{"Content-Encoding": "gzip"}).json()["accepted"] == 1
        assert stored_ids(store) == {"a", "b"}

    @pytest.mark.parametrize(
        "body",
        [b"[]", gzip.compress(b"[]")[:-9], gzip.compress(b"[1]") * 17, gzip.compress(b"[]") + b"x"],
        ids=["not packed", "cut short", "too many members", "more behind it"],
    )
    def test_broken_gzip_is_400(self, client: Client, body: bytes) -> None:
        response = post(client, body, **{"Content-Encoding": "gzip"})
        assert response.status_code == 400
        assert "gzip" in response.json()["error"]

    def test_a_gzip_bomb_is_413(self, client: Client) -> None:
        packer = zlib.compressobj(1, wbits=31)
        bomb = b"".join([packer.compress(b" " * 2**20) for _ in range(256)]) + packer.flush()
        assert len(bomb) < 2**21  # a quarter of a gigabyte in under two megabytes
        response = post(client, bomb, **{"Content-Encoding": "gzip"})
        assert response.status_code == 413
        assert response.json() == {
            "error": "the body is larger than 32 MB (after decompression): send it in several",
            "limit": MAX_BODY,
        }

    def test_fifty_megabytes_are_413(self, client: Client) -> None:
        response = post(client, b"[" + b" " * 50_000_000 + b"]")
        assert response.status_code == 413
        assert "32 MB" in response.json()["error"]

    def test_too_many_rows_are_413(self, client: Client) -> None:
        response = post(client, b"[" + b"{}," * 50_000 + b"{}]")
        assert response.status_code == 413
        assert "50,000" in response.json()["error"]

    @pytest.mark.parametrize(
        ("headers", "words"),
        [
            ({"Content-Type": "application/x-www-form-urlencoded"}, "application/json"),
            ({"Content-Type": "text/csv"}, "application/json"),
            ({"Content-Type": "application/json; charset=latin-1"}, "UTF-8"),
            ({"Content-Encoding": "br"}, "gzip"),
        ],
    )
    def test_other_types_are_415(self, client: Client, headers: dict[str, str], words: str) -> None:
        response = post(client, [row("a")], **headers)
        assert response.status_code == 415
        assert words in response.json()["error"]


class TestKeys:
    def test_one_of_those_configured_is_needed(self, service: IngestService) -> None:
        mine, other, stranger = new_key(), new_key(), new_key()
        client = client_of(service, Keys([other.hash, mine.hash]), peer="203.0.113.9")
        allowed = post(client, [row("a")], Authorization=f"Bearer {mine.plain}")
        assert allowed.status_code == 200
        for header in ({}, {"Authorization": f"Bearer {stranger.plain}"}, {"Authorization": mine.plain}):
            denied = post(client, [row("b")], **header)
            assert denied.status_code == 401
            assert denied.headers["WWW-Authenticate"] == "Bearer"
            assert stranger.plain not in denied.text

    def test_without_keys_only_this_machine_may_write(self, service: IngestService) -> None:
        for peer in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
            client = client_of(service, peer=peer)
            assert post(client, [row(peer)]).status_code == 200
        for peer in ("203.0.113.9", "10.0.0.1", "testclient"):
            client = client_of(service, peer=peer)
            assert post(client, [row(peer)]).status_code == 403

    def test_without_keys_neither_proxies_nor_foreign_pages_may_write(self, client: Client) -> None:
        assert post(client, [row("a")], **{"X-Forwarded-For": "203.0.113.9"}).status_code == 403
        assert post(client, [row("b")], Origin="https://attacker.example").status_code == 403
        assert post(client, [row("c")], Origin="null").status_code == 403
        assert post(client, [row("d")], Origin="http://localhost:8321").status_code == 200

    def test_are_loaded_from_a_file_and_never_repeated(self, tmp_path: Any) -> None:
        key = new_key()
        file = tmp_path / "keys"
        file.write_text(f"# gateway\n{key.hash}  # scoring\n\n{key.hash.removeprefix('sha256:')}\n")
        keys = Keys.load(file)
        assert keys.check({"authorization": f"bearer {key.plain}"}, None) is None
        assert keys.describe() == "Clients send logs with one of 2 API keys."
        file.write_text(f"{key.hash}\n{key.plain}\n")
        with pytest.raises(Exception, match=r"keys:2: is not the hash") as caught:
            Keys.load(file)
        assert key.plain not in str(caught.value)

    def test_none_is_said(self) -> None:
        assert "loopback" in Keys().describe()


class _Unavailable:
    """A store whose machine cannot be reached."""

    def __init__(self, store: DuckStore) -> None:
        self._store = store

    def append(self, rows: Sequence[Prediction]) -> list[AppendResult]:
        raise StoreUnavailable("http://internal-host:9200 refused the connection")

    def label(self, labels: Sequence[Label]) -> list[Joined]:
        raise StoreUnavailable("http://internal-host:9200 refused the connection")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class TestOutages:
    @pytest.mark.parametrize(
        ("path", "content"), [(PREDICTIONS, row("a")), (LABELS, {"id": "a", "label": 1})]
    )
    def test_of_the_store_are_503(self, store: DuckStore, path: str, content: Any) -> None:
        service = IngestService(_Unavailable(store), store.state, lambda: NOW)
        client = client_of(service)
        response = post(client, content, path)
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert "internal-host" not in response.text


class TestArrivals:
    def test_rows_sent_twice_and_rows_of_clocks_ahead_are_counted_by_model(self, client: Client) -> None:
        late = NOW + 90_000
        post(client, [row("a"), row("b", model="n", timestamp=late), row("c", timestamp=NOW + 30_000)])
        post(client, [row("a"), row("a"), row("d", model="n", timestamp=NOW + 61_000)])
        arrived = client.get("/v1/status").json()["arrived"]
        assert arrived == {
            "rows": 6,
            "duplicate": 2,
            "ahead": 2,
            "ahead_ms": 90_000,
            "models": {
                "m": {"duplicate": 2, "ahead": 0, "ahead_ms": 0},
                "n": {"duplicate": 0, "ahead": 2, "ahead_ms": 90_000},
            },
        }
        told = arrivals_check(arrived)
        assert not told.ok
        assert "2 ahead of their arrival by up to 90 s (n)" in told.detail

    def test_columns_are_counted_as_rows_are(self, service: IngestService, client: Client) -> None:
        many = [row(str(i), timestamp=NOW + 70_000 if i < 3 else NOW) for i in range(400)]
        post(client, many)
        post(client, many[:300])
        arrived = client.get("/v1/status").json()["arrived"]
        assert (arrived["rows"], arrived["duplicate"], arrived["ahead"]) == (700, 300, 6)
        assert arrivals_check({**arrived, "ahead": 0}).ok


@pytest.fixture
def address(service: IngestService) -> Iterator[str]:
    """The gateway behind a real server, on a port of its own."""
    app = FastAPI()
    app.include_router(gateway_router(service, Keys()))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive()
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class TestOverSockets:
    def test_the_sender_of_fifty_megabytes_lives_to_read_why(self, address: str) -> None:
        response = httpx.post(
            address + PREDICTIONS, content=b"[" + b" " * 50_000_000 + b"]", headers=NDJSON, timeout=60
        )
        assert response.status_code == 413

    def test_many_clients_at_once_lose_nothing(self, address: str, store: DuckStore) -> None:
        answers: list[dict[str, Any]] = []

        def send(sender: int) -> None:
            for batch in range(5):
                rows = [row(f"{sender}-{batch}-{i}", features={f"f{sender}-{batch}": i}) for i in range(20)]
                answers.append(httpx.post(address + PREDICTIONS, json=rows, timeout=60).json())

        threads = [threading.Thread(target=send, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(answer["accepted"] for answer in answers) == 600
        assert len(stored_ids(store)) == 600
        stored = store.state.get("schema:m")
        assert stored is not None
        assert len(stored.value["numeric"]) == 30
