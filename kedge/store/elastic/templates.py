"""The JSON files of `index_templates/`, for one prefix and one server."""

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from kedge.errors import KedgeError
from kedge.store.base import Json
from kedge.store.elastic.names import period_of_width
from kedge.store.retention import Retention, stream_of
from kedge.windows import DAY, HOUR, TIERS, Millis

DEFAULT_PREFIX = "kedge"
STORAGE = "storage-best-compression"
"""The storage that `index/kedge-predictions.json` names, and that set-up replaces by what the server can
do."""
DERIVED, SYNTHETIC = "storage-derived-source", "storage-synthetic-source"
"""Storages without a source, of OpenSearch and of Elasticsearch."""


class Template(NamedTuple):
    """One object to install."""

    kind: str
    """`_component_template`, `_index_template`, `_ilm/policy` or `_plugins/_ism/policies`."""
    name: str
    body: Json

    @property
    def path(self) -> str:
        return f"/{self.kind}/{self.name}"

    @property
    def hash(self) -> str:
        """Of the content, without the marks of an installation."""
        return hashlib.sha256(orjson.dumps(self.body, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


class Templates:
    """What is to be installed under a prefix. Component templates come before those that are made of them."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._folder = _folder()

    def component(self, name: str) -> Template:
        return self._load("_component_template", f"component/{DEFAULT_PREFIX}-{name}.json")

    def components(self, storage: str) -> list[Template]:
        """All component templates, with one of the storages."""
        stems = self._stems("component", ".json")
        wanted = [s for s in stems if "-storage-" not in s or s.endswith(storage)]
        return [self._load("_component_template", f"component/{stem}.json") for stem in wanted]

    def indices(self, storage: str, manager: str, retention: Retention) -> list[Template]:
        """The index templates. Where the server drops by itself, they say which policy each series has, for
        those who create its indices, and what it is kept for, for the worker."""
        templates = []
        for stem in self._stems("index", ".json"):
            template = self._load("_index_template", f"index/{stem}.json")
            default = f"{self._prefix}-{STORAGE}"
            composed = template.body["composed_of"]
            template.body["composed_of"] = [
                f"{self._prefix}-{storage}" if name == default else name for name in composed
            ]
            if manager:
                template.body["_meta"] |= {"manager": manager, "retention": _set(retention)}
            if manager == "ilm":  # ISM finds its indices by their names
                names = [p.name for p in self.lifecycle(manager, retention)]
                lifecycle = {name.removeprefix(f"{self._prefix}-"): name for name in names}
                template.body["_meta"]["lifecycle"] = lifecycle
            templates.append(template)
        return templates

    def lifecycle(self, manager: str, retention: Retention) -> list[Template]:
        """The policies for `ilm` or `ism`: each deletes an index once all in it is past its retention."""
        kind = {"ilm": "_ilm/policy", "ism": "_plugins/_ism/policies"}[manager]
        suffix = f".{manager}.json"
        policies = []
        for stem in self._stems("lifecycle", suffix):
            policy = self._load(kind, f"lifecycle/{stem}{suffix}")
            stream, period = _kept_as(stem.removeprefix(f"{DEFAULT_PREFIX}-"))
            kept: Millis | None = getattr(retention, stream)
            if kept is not None:  # an index is as old as the start of its period
                _delete_after(policy.body["policy"], f"{(kept + period) // HOUR}h", manager)
            policies.append(policy)
        return policies

    def _stems(self, folder: str, suffix: str) -> list[str]:
        names = (entry.name for entry in self._folder.joinpath(folder).iterdir())
        return sorted(name.removesuffix(suffix) for name in names if name.endswith(suffix))

    def _load(self, kind: str, path: str) -> Template:
        text = self._folder.joinpath(path).read_text("utf-8")
        body: Any = orjson.loads(text.replace(f'"{DEFAULT_PREFIX}-', f'"{self._prefix}-'))
        stem = path.rpartition("/")[2].partition(".")[0]
        return Template(kind, f"{self._prefix}-{stem.removeprefix(f'{DEFAULT_PREFIX}-')}", body)


def _set(retention: Retention) -> dict[str, Millis]:
    return {stream: kept for stream, kept in retention._asdict().items() if kept is not None}


def _kept_as(family: str) -> tuple[str, Millis]:
    """The stream of `predictions`, `summaries-1h` …, and the longest period of one of its indices."""
    _, _, width = family.partition("-")
    return (stream_of(TIERS[width]), period_of_width(TIERS[width])) if width else (family, DAY)


def _delete_after(policy: Json, age: str, manager: str) -> None:
    if manager == "ilm":
        policy["phases"]["delete"] = {"min_age": age, "actions": {"delete": {}}}
        return
    hot = policy["states"][0]
    hot["transitions"] = [{"state_name": "delete", "conditions": {"min_index_age": age}}]
    policy["states"].append({"name": "delete", "actions": [{"delete": {}}], "transitions": []})


def open_mapping(fields: Iterable[str]) -> Json:
    """The mapping that the dynamic templates of predictions give these stored fields, written out.

    One request then maps any number of them. Left to the rows, each row with a new field costs an update of
    the cluster's state, and the next one waits for it.
    """
    types = _open_types()
    properties: Json = {}
    for field in fields:
        path, _, name = field.rpartition(".")
        place = properties
        for step in path.split("."):
            holder = place.setdefault(step, {"properties": {}})
            place = holder["properties"]
        # Said again: an object that a new index is given with fields has lost what the template said of it.
        holder["dynamic"] = True
        place[name] = types[path]
    return {"properties": properties}


@cache
def _open_types() -> dict[str, Json]:
    """By the path of an open map: the mapping of its fields."""
    component = Templates(DEFAULT_PREFIX).component("predictions-mappings")
    rules = component.body["template"]["mappings"]["dynamic_templates"]
    return {
        rule["path_match"].removesuffix(".*"): rule["mapping"] for named in rules for rule in named.values()
    }


def _folder() -> Traversable:
    """Packaged with kedge; in a checkout, at its root."""
    packaged = files("kedge").joinpath("_data/index_templates")
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).parents[3] / "index_templates"
    if checkout.is_dir():
        return checkout
    raise KedgeError(
        "the folder index_templates is missing from this installation of kedge: install it again"
    )
