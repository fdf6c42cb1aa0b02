"""Small JSON documents by name, changed only by compare-and-set on the server's sequence numbers."""

from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import quote

from kedge.alerting.finding import Severity
from kedge.errors import KedgeError, StoreUnavailable
from kedge.store.base import LIVE_ALERTS, Json, Stored, digest
from kedge.store.elastic.client import Client, Refused
from kedge.store.elastic.indices import scroll
from kedge.store.elastic.names import escape
from kedge.store.elastic.operations import Operation

_PAGE = 1_000
_ID_BYTES = 512
_KINDS = 100
"""More than there are statuses, or severities."""
_SOURCE = {"_source_includes": "name,value"}
_GOT = "docs.found,docs._source,docs._seq_no,docs._primary_term,docs.error,docs._id"


class Documents:
    """`DocumentStore` over one alias. The token is (seq_no, primary_term).

    `get` is realtime by id; `find` refreshes first, which costs milliseconds: it is for lists, not for loops.
    """

    def __init__(self, client: Client, alias: str) -> None:
        self._client = client
        self._alias = alias

    def get(self, name: str) -> Stored | None:
        try:
            answer = self._client.request("GET", self._path("_doc", name), params=_SOURCE, verb="get")
        except Refused as refused:
            if refused.status == 404 and not refused.kind:
                return None
            raise
        return Stored(answer["_source"]["value"], (answer["_seq_no"], answer["_primary_term"]))

    def swap(self, name: str, value: Json, token: Any | None) -> bool:
        params: Json = {"require_alias": "true", "filter_path": "result"}
        if token is None:
            path = self._path("_create", name)
        else:
            path = self._path("_doc", name)
            params["if_seq_no"], params["if_primary_term"] = token
        return self._changed("PUT", path, _document(name, value), params)

    def delete(self, name: str, token: Any) -> bool:
        seq_no, primary_term = token
        params = {"if_seq_no": seq_no, "if_primary_term": primary_term, "filter_path": "result"}
        return self._changed("DELETE", self._path("_doc", name), None, params)

    def _changed(self, method: str, path: str, body: Json | None, params: Json) -> bool:
        try:
            self._client.request(method, path, body, params=params, verb="swap" if body else "delete")
        except Refused as refused:
            if refused.status == 409:
                return False
            if method == "DELETE" and refused.status == 404 and not refused.kind:
                return False
            raise
        return True

    def find(self, prefix: str = "") -> dict[str, Stored]:
        return self._found({"prefix": {"name": prefix}} if prefix else {"match_all": {}})

    def _found(self, query: Json) -> dict[str, Stored]:
        self._client.refresh(self._alias)
        body: Json = {
            "query": query,
            "sort": [{"name": "asc"}],
            "seq_no_primary_term": True,
            "_source": ["name", "value"],
        }
        hits = scroll(
            self._client,
            self._alias,
            body,
            page=_PAGE,
            filter_path="hits.hits._source,hits.hits._seq_no,hits.hits._primary_term",
            keep=lambda hit: hit,
        )
        return {
            hit["_source"]["name"]: Stored(hit["_source"]["value"], (hit["_seq_no"], hit["_primary_term"]))
            for hit in hits
        }

    def get_many(self, names: Collection[str]) -> dict[str, Stored]:
        wanted = list(dict.fromkeys(names))
        found: dict[str, Stored] = {}
        params = {"filter_path": _GOT} | _SOURCE
        for start in range(0, len(wanted), _PAGE):
            page = wanted[start : start + _PAGE]
            body = {"ids": [_id(name) for name in page]}
            docs = self._client.request("POST", f"/{self._alias}/_mget", body, params=params)["docs"]
            for name, doc in zip(page, docs, strict=True):
                if doc.get("error"):
                    raise self._unreadable(doc["error"])
                if doc.get("found"):
                    token = (doc["_seq_no"], doc["_primary_term"])
                    found[name] = Stored(doc["_source"]["value"], token)
        return found

    def swap_many(self, changes: Sequence[tuple[str, Json, Any | None]]) -> list[bool]:
        items = self._client.bulk([self._operation(*change) for change in changes])
        for (name, _, _), item in zip(changes, items, strict=True):
            if item.no_index:
                raise self._unreadable({"type": item.kind, "reason": item.reason})
            if not item.ok and not item.conflict:
                raise StoreUnavailable(f"{self._client.host} refuses the document {name!r}: {item.reason}")
        return [item.ok for item in items]

    def _operation(self, name: str, value: Json, token: Any | None) -> Operation:
        where: Json = {"_index": self._alias, "_id": _id(name)}
        action = "create"
        if token is not None:
            action = "index"
            where["if_seq_no"], where["if_primary_term"] = token
        return Operation.of(action, _document(name, value), **where)

    def _unreadable(self, error: Json) -> KedgeError:
        reason = f"{self._client.host}: {error.get('reason') or error.get('type')}"
        if error.get("type") == "index_not_found_exception":
            return KedgeError(f"{reason}: run `kedge setup` first")
        return StoreUnavailable(reason)

    def _path(self, endpoint: str, name: str) -> str:
        return f"/{self._alias}/{endpoint}/{quote(_id(name), safe='')}"


class Alerts(Documents):
    """`AlertStore`."""

    def of_rules(self, rules: Collection[str]) -> dict[str, Stored]:
        return self._found({"terms": {"rule": sorted(rules)}}) if rules else {}

    def live(self) -> dict[str, Stored]:
        return self._found({"terms": {"status": sorted(LIVE_ALERTS)}})

    def outgoing(self) -> dict[str, Stored]:
        return self._found({"term": {"outgoing": True}})

    def tally(self) -> dict[tuple[str, str], int]:
        self._client.refresh(self._alias)
        severities: Json = {"terms": {"field": "severity", "missing": "", "size": _KINDS}}
        statuses: Json = {"terms": {"field": "status", "missing": "", "size": _KINDS}}
        body: Json = {"size": 0, "aggs": {"status": statuses | {"aggs": {"severity": severities}}}}
        answer = self._client.search(self._alias, body, filter_path="aggregations")
        return {
            (outer["key"], inner["key"]): inner["doc_count"]
            for outer in answer["aggregations"]["status"]["buckets"]
            for inner in outer["severity"]["buckets"]
        }


def _id(name: str) -> str:
    return name if 0 < len(name.encode()) <= _ID_BYTES else digest(name)


def _document(name: str, value: Json) -> Json:
    return _searchable(value) | {"name": name, "value": value}


def _searchable(value: Json) -> Json:
    """What people search alerts, their events and deliveries by, where the document has it."""
    inner = next((value[k] for k in ("transition", "state") if isinstance(value.get(k), dict)), value)
    found: Json = {}
    for field, names in {
        "rule": ("rule",),
        "status": ("after", "status"),
        "receiver": ("receiver",),
        "alert": ("alert",),
        "reason": ("reason",),
    }.items():
        text = next((inner[n] for n in names if isinstance(inner.get(n), str)), value.get(names[0]))
        if isinstance(text, str) and text:
            found[field] = text
    model = {k: inner[n] for k, n in (("name", "model"), ("version", "version")) if _text(inner.get(n))}
    if model:
        found["model"] = model
    group = inner.get("group")
    if isinstance(group, dict) and all(_text(v) for v in group.values()) and group:
        found["group"] = {escape(name): text for name, text in group.items()}
    severity = inner.get("severity")
    if isinstance(severity, int) and severity in set(Severity):
        found["severity"] = Severity(severity).word
    time = next((inner[n] for n in ("decided", "evaluated_through") if isinstance(inner.get(n), int)), None)
    if time:
        found["@timestamp"] = time
    if inner.get("outgoing"):
        found["outgoing"] = True
    return found


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
