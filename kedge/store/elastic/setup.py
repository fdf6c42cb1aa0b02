"""Set-up: find out what the server can do, take the best of it, install templates; a second run changes
nothing."""

import math
import secrets
from typing import Any

from kedge.errors import KedgeError, StoreUnavailable
from kedge.store.base import Check, Json
from kedge.store.elastic.client import Client, Refused
from kedge.store.elastic.indices import Indices
from kedge.store.elastic.names import Names
from kedge.store.elastic.templates import STORAGE, Template, Templates

COLLECTIONS = ("state", "alerts", "alert-events", "outbox", "labels-pending")
"""Those with one index each, which set-up creates."""
_PROBE: Json = {
    "@timestamp": 1_700_000_000_123,
    "event": {"id": "probe", "ingested": 1_700_000_000_456, "outcome": "success"},
    "model": {"name": "probe"},
    "prediction": {
        "class": "a",
        "probability": 0.1,
        "probabilities": {"a": 0.1, "b%2Ec": 0.30000000000000004},
        "value": 1e15 + 0.125,
        "entropy": 0.3,
    },
    "features": {"num": {"x": 0.1, "y%2Ez": 16777216.0}, "cat": {"c": "é"}, "invalid": ["q"]},
    "label": {"class": "b", "timestamp": 1_700_000_001_123, "value": 0.1},
}
_PROBE_LABEL: Json = {
    "label": {"class": "a", "timestamp": 1_700_000_002_123},
    "outcome": {"correct": True, "log_loss": 2.302585092994046},
}


class Setup:
    """`Store.setup`."""

    def __init__(self, client: Client, names: Names, indices: Indices) -> None:
        self._client = client
        self._names = names
        self._indices = indices
        self._templates = Templates(names.prefix)

    def run(self, *, dry_run: bool) -> list[Check]:
        checks = [self._supported()]
        if not checks[0].ok:
            return checks
        storage, chosen = self._storage(dry_run)
        manager, policies, managed = self._lifecycle()
        checks += [chosen, managed]
        lifecycle = {
            p.name.removeprefix(f"{self._names.prefix}-"): p.name for p in policies if manager == "ilm"
        }
        wanted = [
            *policies,
            *self._templates.components(storage),
            *self._templates.indices(storage, lifecycle),
        ]
        checks += [self._install(template, dry_run) for template in wanted]
        checks += [self._collection(name, dry_run) for name in COLLECTIONS]
        return checks

    def _supported(self) -> Check:
        server = self._client.server
        oldest = (2, 19) if server.opensearch else (8, 19)
        version = tuple(int(part) for part in server.version.split(".")[:2])
        ok = version >= oldest
        remedy = "" if ok else f"upgrade to {oldest[0]}.{oldest[1]} or later"
        return Check("server", ok, f"{server} at {self._client.host}", remedy)

    # --- storage ----------------------------------------------------------------------------------

    def _storage(self, dry_run: bool) -> tuple[str, Check]:
        """The component template of the storage to use: the smallest that gives back what was written."""
        better = "storage-derived-source" if self._client.server.opensearch else "storage-synthetic-source"
        word = better.removeprefix("storage-").replace("-", " ")
        if dry_run:  # a probe writes
            installed = self._get(f"/_index_template/{self._names('predictions')}")
            if installed is None:
                return STORAGE, Check("storage", True, f"{word} would be tried, else best compression")
            composed = installed["index_templates"][0]["index_template"]["composed_of"]
            storage = better if self._names(better) in composed else STORAGE
            return storage, Check(
                "storage", True, f"{storage.removeprefix('storage-').replace('-', ' ')} is installed"
            )
        complaint = self._probe(self._templates.component(better))
        if complaint:
            return STORAGE, Check("storage", True, f"best compression ({word} cannot be used: {complaint})")
        return better, Check("storage", True, f"{word}: rows are put together from doc values")

    def _probe(self, storage: Template) -> str:
        """Write, label and read back one row under this storage; what is wrong with it, empty if nothing."""
        index = f"{self._names.prefix}-probe-{secrets.token_hex(4)}"
        settings = self._templates.component("settings").body["template"]["settings"]
        mappings = self._templates.component("predictions-mappings").body["template"]["mappings"]
        merged = {"index": _merged(settings["index"], storage.body["template"]["settings"]["index"])}
        request = self._client.request
        try:
            request("PUT", f"/{index}", {"settings": merged, "mappings": mappings}, verb="probe")
            request("PUT", f"/{index}/_doc/1", _PROBE, verb="probe")
            request("POST", f"/{index}/_refresh", verb="probe")
            found = request("GET", f"/{index}/_doc/1", verb="probe")["_source"] | _PROBE_LABEL
            request("PUT", f"/{index}/_doc/1", found, verb="probe")
            found = request("GET", f"/{index}/_doc/1", verb="probe")["_source"]
        except Refused as refused:
            return refused.reason
        finally:
            self._remove(index)
        return _difference(found)

    def _remove(self, index: str) -> None:
        try:
            self._client.request("DELETE", f"/{index}", params={"ignore_unavailable": "true"}, verb="probe")
        except (Refused, StoreUnavailable):
            pass  # an empty index is left behind; the failure that matters is being raised

    # --- lifecycle --------------------------------------------------------------------------------

    def _lifecycle(self) -> tuple[str, list[Template], Check]:
        manager = "ism" if self._client.server.opensearch else "ilm"
        path = "/_plugins/_ism/policies" if manager == "ism" else "/_ilm/policy"
        try:
            self._client.request("GET", path, verb="probe")
        except Refused:
            detail = f"this server has no {manager.upper()}: nothing is deleted by age"
            return "", [], Check("lifecycle", True, detail)
        except StoreUnavailable:  # builds that know the endpoint but lack its module answer 500
            detail = f"{manager.upper()} does not answer: nothing is deleted by age"
            return "", [], Check("lifecycle", True, detail)
        policies = self._templates.lifecycle(manager)
        # Deleting logs is safe only once their buckets are sealed, so the policies begin without deleting.
        detail = f"{manager.upper()}: policies attached; none deletes until you add a delete phase"
        return manager, policies, Check("lifecycle", True, detail)

    # --- objects ----------------------------------------------------------------------------------

    def _install(self, template: Template, dry_run: bool) -> Check:
        """Install unless the same content was installed before; what people changed in it since is left
        alone."""
        label = f"{template.kind.strip('_').replace('_', ' ')} {template.name}"
        installed = self._get(template.path)
        if installed is not None and _mark(template, installed) == template.hash:
            return Check(label, True, "unchanged")
        done, todo = (
            ("installed", "would be installed") if installed is None else ("updated", "would be updated")
        )
        if dry_run:
            return Check(label, True, todo, changed=True)
        params: Json = {}
        if template.kind == "_plugins/_ism/policies" and installed is not None:
            params = {"if_seq_no": installed["_seq_no"], "if_primary_term": installed["_primary_term"]}
        try:
            self._client.request("PUT", template.path, _marked(template), params=params, verb="install")
        except Refused as refused:
            return Check(
                label, False, refused.reason, "look at who owns an object of that name", changed=False
            )
        return Check(label, True, done, changed=True)

    def _collection(self, name: str, dry_run: bool) -> Check:
        alias = self._names(name)
        label = f"index {alias}"
        if self._get(f"/_alias/{alias}") is not None:
            return Check(label, True, "unchanged")
        if dry_run:
            return Check(label, True, "would be created", changed=True)
        try:
            self._indices.create(alias)
        except KedgeError as error:
            return Check(label, False, str(error), "check the privileges of the key")
        return Check(label, True, "created", changed=True)

    def _get(self, path: str) -> Json | None:
        try:
            answer: Json = self._client.request("GET", path, verb="installed")
            return answer
        except Refused as refused:
            if refused.status == 404:
                return None
            raise


def _marked(template: Template) -> Json:
    """The body with a mark of what was installed."""
    mark = {"managed_by": "kedge", "hash": template.hash}
    if template.kind == "_plugins/_ism/policies":  # keeps no metadata: the mark stands in the description
        policy = template.body["policy"]
        return {"policy": policy | {"description": f"{policy['description']} [kedge {template.hash}]"}}
    if template.kind == "_ilm/policy":
        policy = template.body["policy"]
        return {"policy": policy | {"_meta": policy.get("_meta", {}) | mark}}
    return template.body | {"_meta": template.body.get("_meta", {}) | mark}


def _mark(template: Template, installed: Json) -> str | None:
    """The hash that was installed with an object."""
    meta: Any
    if template.kind == "_plugins/_ism/policies":
        _, _, tail = str(installed["policy"]["description"]).rpartition("[kedge ")
        return tail.removesuffix("]") or None
    if template.kind == "_ilm/policy":
        meta = installed[template.name]["policy"].get("_meta", {})
    elif template.kind == "_component_template":
        meta = installed["component_templates"][0]["component_template"].get("_meta", {})
    else:
        meta = installed["index_templates"][0]["index_template"].get("_meta", {})
    mark = meta.get("hash")
    return mark if isinstance(mark, str) else None


def _merged(a: Json, b: Json) -> Json:
    """Settings of two component templates as the server would compose them."""
    merged = dict(a)
    for key, value in b.items():
        held = merged.get(key)
        merged[key] = _merged(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return merged


def _difference(found: Json) -> str:
    """What of the probe row did not come back as written and labelled: doubles exactly, floats as floats."""
    expected: Json = {**_PROBE, **_PROBE_LABEL}
    for path, value in _leaves(expected):
        place: Any = found
        for step in path:
            place = place.get(step) if isinstance(place, dict) else None
        if isinstance(value, float) and isinstance(place, int | float):
            exact = path[:2] == ("prediction", "probabilities") or path[-1] == "value"
            if place == value or (not exact and math.isclose(place, value, rel_tol=2**-24)):
                continue
        elif place in (value, value[0] if isinstance(value, list) else value) or path[-1] in (
            "@timestamp",
            "ingested",
            "timestamp",
        ):
            continue
        return f"{'.'.join(path)} came back as {place!r} instead of {value!r}"
    return ""


def _leaves(value: Json, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    leaves: list[tuple[tuple[str, ...], Any]] = []
    for key, inner in value.items():
        leaves += _leaves(inner, (*path, key)) if isinstance(inner, dict) else [((*path, key), inner)]
    return leaves
