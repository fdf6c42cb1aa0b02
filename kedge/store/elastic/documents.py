"""Small JSON documents by name, changed only by compare-and-set on the server's sequence numbers."""

from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import quote

from kedge.alerting.finding import Severity
from kedge.store.base import Json, Stored, digest
from kedge.store.elastic.client import Client, Refused
from kedge.store.elastic.indices import scroll
from kedge.store.elastic.names import escape

_PAGE = 1_000
_ID_BYTES = 512
_SOURCE = {"_source_includes": "name,value"}


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
        body = _searchable(value) | {"name": name, "value": value}
        return self._changed("PUT", path, body, params)

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
        self._client.refresh(self._alias)
        body: Json = {
            "query": {"prefix": {"name": prefix}} if prefix else {"match_all": {}},
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
        found = ((name, self.get(name)) for name in names)
        return {name: stored for name, stored in found if stored is not None}

    def swap_many(self, changes: Sequence[tuple[str, Json, Any | None]]) -> list[bool]:
        return [self.swap(*change) for change in changes]

    def _path(self, endpoint: str, name: str) -> str:
        id = name if 0 < len(name.encode()) <= _ID_BYTES else digest(name)
        return f"/{self._alias}/{endpoint}/{quote(id, safe='')}"


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
    return found


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
