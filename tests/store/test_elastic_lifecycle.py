"""What is sent to a server that has ILM or ISM.

No such build can be run here, so the other end of the socket is a small recorder that answers as the manuals
say: it shows what kedge sends, not that a server obeys it.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from kedge.alerting.loading import parse_rules
from kedge.config import Settings
from kedge.notify.receivers import Receivers
from kedge.pipeline.context import Pipeline
from kedge.pipeline.retention import retire
from kedge.records import Prediction
from kedge.store.base import Json, Written
from kedge.store.elastic import ElasticStore, open_elastic
from kedge.store.retention import Retention
from kedge.windows import DAY, HOUR, parse_time

NOW = parse_time("2026-03-20T15:00:00Z")
KEPT = Retention(predictions=30 * DAY, rejected=30 * DAY, minutes=8 * DAY, hours=400 * DAY)
POLICIES = {"elasticsearch": "/_ilm/policy", "opensearch": "/_plugins/_ism/policies"}


class Recorder:
    """Objects by path, documents, and aliases, as far as set-up and a few writes need them."""

    def __init__(self, distribution: str) -> None:
        self.distribution = distribution
        self.objects: dict[str, Json] = {}
        self.documents: dict[str, Json] = {}
        self.deleted: list[str] = []

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Json]:
        if path == "/":
            version = {"number": "8.19.0" if self.distribution == "elasticsearch" else "3.4.0"}
            if self.distribution == "opensearch":
                version["distribution"] = "opensearch"
            return 200, {"version": version}
        if path.endswith("/_bulk"):
            return 200, {"items": self._bulk(path.split("/")[1], body)}
        if path.endswith("/_mget"):
            wanted = json.loads(body)
            asked = wanted.get("docs") or [{"_id": i} for i in wanted["ids"]]
            return 200, {"docs": [{"_id": d["_id"], "found": False} for d in asked]}
        if method == "GET" and path == POLICIES[self.distribution]:
            return 200, {}
        if method == "DELETE":
            self.deleted.append(path)
            return 200, {"acknowledged": True}
        if "/_doc/" in path or "/_create/" in path:
            return self._document(method, path.replace("/_create/", "/_doc/"), body)
        if method in ("PUT", "POST"):
            self.objects[path] = json.loads(body or b"{}")
            return 200, {"acknowledged": True}
        return self._object(path)

    def _document(self, method: str, path: str, body: bytes) -> tuple[int, Json]:
        if method == "PUT":
            self.documents[path] = json.loads(body)
            return 200, {"result": "created"}
        if path not in self.documents:
            return 404, {"found": False}
        return 200, {"_source": self.documents[path], "_seq_no": 1, "_primary_term": 1}

    def _object(self, path: str) -> tuple[int, Json]:
        held = self.objects.get(path)
        kind, _, name = path[1:].rpartition("/")
        if path.startswith("/_alias/"):
            exists = any(name in o.get("aliases", {}) for o in self.objects.values())
            return (200, {name: {}}) if exists else (404, {"error": "alias missing", "status": 404})
        if held is None:
            return 404, {"error": {"type": "resource_not_found_exception", "reason": path}, "status": 404}
        if kind == "_component_template":
            return 200, {"component_templates": [{"name": name, "component_template": held}]}
        if kind == "_index_template":
            return 200, {"index_templates": [{"name": name, "index_template": held}]}
        if kind == "_ilm/policy":
            return 200, {name: {"version": 1, **held}}
        return 200, {"_id": name, "_seq_no": 3, "_primary_term": 1, **held}

    def _bulk(self, alias: str, body: bytes) -> list[Json]:
        items = []
        for line in body.splitlines()[::2]:
            [(action, place)] = json.loads(line).items()
            there = any(place.get("_index", alias) in o.get("aliases", {}) for o in self.objects.values())
            missing = {"type": "index_not_found_exception", "reason": "no such index"}
            items.append({action: {"status": 201} if there else {"status": 404, "error": missing}})
        return items


@contextmanager
def listening(recorder: Recorder) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet, else each answer waits 40 ms for an ACK

        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, answer = recorder.answer(self.command, urlsplit(self.path).path, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            if recorder.distribution == "elasticsearch":
                self.send_header("x-elastic-product", "Elasticsearch")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = _take

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def set_up(distribution: str, kept: Retention = KEPT) -> Iterator[tuple[Recorder, ElasticStore]]:
    recorder = Recorder(distribution)
    with listening(recorder) as url:
        store = open_elastic(url, clock=lambda: NOW, retention=kept)
        assert all(check.ok for check in store.setup())
        yield recorder, store
        store.close()


def test_a_policy_of_ilm_deletes_a_period_after_the_retention_counted_from_the_day_of_the_rows() -> None:
    with set_up("elasticsearch") as (recorder, store):
        phases = {
            path.rpartition("/")[2]: body["policy"]["phases"]
            for path, body in recorder.objects.items()
            if path.startswith("/_ilm/policy/")
        }
        ends = {name: p["delete"]["min_age"] if "delete" in p else None for name, p in phases.items()}
        assert ends == {
            "kedge-predictions": f"{31 * 24}h",
            "kedge-rejected": f"{31 * 24}h",
            "kedge-summaries-1m": f"{9 * 24}h",
            "kedge-metrics-1m": f"{9 * 24}h",
            "kedge-summaries-1h": f"{431 * 24}h",
            "kedge-metrics-1h": f"{431 * 24}h",
            "kedge-summaries-1d": None,
            "kedge-metrics-1d": None,
        }
        assert phases["kedge-predictions"]["delete"]["actions"] == {"delete": {}}
        row = Prediction(id="r", timestamp=NOW - 3 * DAY, ingested=NOW, model="m")
        assert store.append([row])[0].written is Written.CREATED
        made = recorder.objects["/kedge-predictions-default-2026.03.17-000001"]
        assert made["settings"] == {
            "index.lifecycle.name": "kedge-predictions",
            "index.lifecycle.origination_date": parse_time("2026-03-17"),
        }


def test_a_policy_of_ism_deletes_a_period_after_the_retention() -> None:
    with set_up("opensearch") as (recorder, _):
        policy = recorder.objects["/_plugins/_ism/policies/kedge-predictions"]["policy"]
        assert policy["default_state"] == "hot"
        hot, delete = policy["states"]
        assert hot["transitions"] == [
            {"state_name": "delete", "conditions": {"min_index_age": f"{31 * 24}h"}}
        ]
        assert delete == {"name": "delete", "actions": [{"delete": {}}], "transitions": []}
        assert policy["ism_template"][0]["index_patterns"] == ["kedge-predictions-*"]
        days = recorder.objects["/_plugins/_ism/policies/kedge-summaries-1d"]["policy"]
        assert [state["name"] for state in days["states"]] == ["hot"]


@pytest.mark.parametrize("distribution", POLICIES)
def test_a_second_set_up_changes_nothing_and_a_new_retention_is_shown_and_installed(
    distribution: str,
) -> None:
    with set_up(distribution) as (recorder, store):
        [lifecycle] = [check for check in store.setup() if check.name == "lifecycle"]
        assert lifecycle.detail.startswith("ISM" if distribution == "opensearch" else "ILM")
        assert not [check for check in store.setup(dry_run=True) if check.changed]
    with listening(recorder) as url:
        store = open_elastic(url, clock=lambda: NOW, retention=KEPT._replace(predictions=60 * DAY))
        changed = {c.name: c.differences for c in store.setup(dry_run=True) if c.changed}
        [policy] = [
            found
            for name, found in changed.items()
            if name.endswith("kedge-predictions") and "index template" not in name
        ]
        assert any(line.startswith("~") and line.endswith(f"{31 * 24}h -> {61 * 24}h") for line in policy)
        store.setup()
        assert not [check for check in store.setup() if check.changed]
        store.close()


@pytest.mark.parametrize("distribution", POLICIES)
def test_where_the_server_drops_the_worker_only_raises_the_floors_to_what_the_policy_says(
    distribution: str,
) -> None:
    with set_up(distribution) as (recorder, store):
        settings = Settings.model_validate({"store": "http://x", "retention": {"predictions": "90d"}})
        pipe = Pipeline(store, settings, lambda: parse_rules(""), Receivers({}, ""), "worker")
        before = len(recorder.deleted)
        retire(pipe, NOW)
        found = retire(pipe, NOW + HOUR)
        assert found.floors.predictions == parse_time("2026-03-20") - 30 * DAY
        assert found.sealed_before(NOW) == found.floors.predictions + DAY
        assert recorder.deleted[before:] == []
