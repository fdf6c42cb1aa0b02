"""Set-up: find out what the server can do, take the best of it, install templates; a second run changes
nothing."""

from dataclasses import replace

from kedge.errors import KedgeError, StoreUnavailable
from kedge.store.base import Check, Json
from kedge.store.elastic.client import Client, Refused
from kedge.store.elastic.indices import Indices
from kedge.store.elastic.installed import content, differences, installed_mark, marked
from kedge.store.elastic.names import Names
from kedge.store.elastic.namespaces import ROOM
from kedge.store.elastic.probe import probe
from kedge.store.elastic.templates import DERIVED, STORAGE, SYNTHETIC, Template, Templates
from kedge.store.retention import Retention
from kedge.windows import format_duration

COLLECTIONS = ("state", "alerts", "alert-events", "outbox", "labels-pending")
"""Those with one index each, which set-up creates."""


class Setup:
    """`Store.setup`."""

    def __init__(self, client: Client, names: Names, indices: Indices, retention: Retention) -> None:
        self._retention = retention
        self._client = client
        self._names = names
        self._indices = indices
        self._templates = Templates(names.prefix)

    def run(self, *, dry_run: bool) -> list[Check]:
        checks = [self._supported()]
        if not checks[0].ok:
            return checks
        storage, chosen = self._storage(dry_run)
        manager, managed = self._lifecycle()
        checks += [chosen, managed, self._kept(manager), self._fields(), self._copies()]
        policies = self._templates.lifecycle(manager, self._retention) if manager else []
        wanted = [
            *policies,
            *self._templates.components(storage),
            *self._templates.indices(storage, manager, self._retention),
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
        why = f"it is supported from {oldest[0]}.{oldest[1]} on"
        return Check("server", ok, f"{server} at {self._client.host}", remedy, why=why if ok else "")

    # --- storage ----------------------------------------------------------------------------------

    def _storage(self, dry_run: bool) -> tuple[str, Check]:
        """The component template of the storage to use: the smallest that gives back what was written."""
        better = DERIVED if self._client.server.opensearch else SYNTHETIC
        word = better.removeprefix("storage-").replace("-", " ")
        if dry_run:  # a probe writes
            installed = self._get(f"/_index_template/{self._names('predictions')}")
            if installed is None:
                return STORAGE, Check(
                    "storage",
                    True,
                    f"{word} if the server can do it, else best compression",
                    why="it is tried with one row in an index of its own, which a dry run does not write",
                )
            composed = installed["index_templates"][0]["index_template"]["composed_of"]
            storage = better if self._names(better) in composed else STORAGE
            return storage, Check(
                "storage",
                True,
                f"{storage.removeprefix('storage-').replace('-', ' ')} is installed",
                why="the last set-up tried what the server can do; the next one tries again",
            )
        settings, mappings = (
            self._templates.component(name).body["template"] for name in ("settings", "predictions-mappings")
        )
        tried = self._templates.component(better).body["template"]["settings"]
        complaint = probe(self._client, self._names.prefix, tried, settings["settings"], mappings["mappings"])
        if complaint:
            return STORAGE, Check(
                "storage", True, "best compression", why=f"{word} was tried and cannot be used: {complaint}"
            )
        return better, Check(
            "storage",
            True,
            f"{word}: rows are put together from doc values",
            why="a row written, labelled and read back came back as it was, in a fraction of the disk",
        )

    # --- choices ----------------------------------------------------------------------------------

    def _lifecycle(self) -> tuple[str, Check]:
        """Who drops old indices: `ilm`, `ism`, or nobody of the server (then the worker does)."""
        manager = "ism" if self._client.server.opensearch else "ilm"
        path = "/_plugins/_ism/policies" if manager == "ism" else "/_ilm/policy"
        try:
            self._client.request("GET", path, verb="probe")
        except Refused as refused:
            why = f"this server has no {manager.upper()}"
            if refused.status in (401, 403):
                why = f"this key may not use {manager.upper()}"
        except StoreUnavailable:  # builds that know the endpoint but lack its module answer 500
            why = f"{manager.upper()} does not answer"
        else:
            why = f"this server has {manager.upper()}"
            detail = f"{manager.upper()}: a policy a stream, which ends with its retention and a period"
            return manager, Check("lifecycle", True, detail, why=why)
        return "", Check("lifecycle", True, "the worker drops whole indices that are past retention", why=why)

    def _kept(self, manager: str) -> Check:
        kept = [
            f"{stream} {format_duration(time) if time else 'for ever'}"
            for stream, time in self._retention._asdict().items()
        ]
        why = "`retention` in kedge.yml, else the defaults; ages go by event time"
        if manager == "ism":
            why += ", but ISM knows only the age of an index: a backfill ages from the day it is written on"
        return Check("retention", True, ", ".join(kept), why=why)

    def _fields(self) -> Check:
        settings = self._templates.component("settings").body["template"]["settings"]["index"]
        limit = settings["mapping"]["total_fields"]["limit"]
        return Check(
            "fields",
            True,
            f"{limit:,} an index; models go to another namespace beyond {ROOM:,} of their names",
            why="no name is dropped in silence: a row with one too many is rejected and told",
        )

    def _copies(self) -> Check:
        settings = self._templates.component("settings").body["template"]["settings"]["index"]
        return Check(
            "copies",
            True,
            f"{settings['number_of_shards']} shard an index, {settings['auto_expand_replicas']} replicas",
            why="an index holds a day; a second node gets a replica by itself, a single one stays green",
        )

    # --- objects ----------------------------------------------------------------------------------

    def _install(self, template: Template, dry_run: bool) -> Check:
        """Install unless the same content was installed before; what people changed in it since is left
        alone."""
        label = f"{template.kind.strip('_').replace('_', ' ')} {template.name}"
        installed = self._get(template.path)
        if installed is None:
            return self._put(template, label, {}, "installed", dry_run=dry_run)
        if installed_mark(template, installed) == template.hash:
            return Check(label, True, "unchanged")
        ours, theirs = template.body.get("version", 0), content(template, installed).get("version") or 0
        if theirs > ours:
            return Check(
                label,
                True,
                f"left alone: version {theirs} of a later kedge is installed, this one has {ours}",
            )
        params: Json = {}
        if template.kind == "_plugins/_ism/policies":
            params = {"if_seq_no": installed["_seq_no"], "if_primary_term": installed["_primary_term"]}
        found = differences(content(template, installed), template.body)
        check = self._put(template, label, params, "updated", dry_run=dry_run)
        return replace(check, differences=found)

    def _put(self, template: Template, label: str, params: Json, done: str, *, dry_run: bool) -> Check:
        if dry_run:
            return Check(label, True, f"would be {done}", changed=True)
        try:
            self._client.request("PUT", template.path, marked(template), params=params, verb="install")
            if done == "updated":
                self._extend(template)
        except Refused as refused:
            return Check(label, False, refused.reason, "look at who owns an object of that name")
        return Check(label, True, done, changed=True)

    def _extend(self, template: Template) -> None:
        """Give the indices that are there the new fields of a template: what they have stays as it is."""
        mappings = template.body.get("template", {}).get("mappings")
        if not mappings:
            return
        patterns = template.body.get("index_patterns") or [self._names.all_predictions]
        body = {name: mappings[name] for name in ("properties", "dynamic_templates") if name in mappings}
        params = {"ignore_unavailable": "true", "allow_no_indices": "true"}
        try:
            self._client.request("PUT", f"/{','.join(patterns)}/_mapping", body, params=params, verb="extend")
        except Refused as refused:
            if refused.status != 404:  # there are none yet
                raise

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
