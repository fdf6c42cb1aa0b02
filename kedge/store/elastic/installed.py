"""Objects of `index_templates/` as a server has them: whose they are, and what of them is another."""

from typing import Any

import orjson

from kedge.store.base import Json
from kedge.store.elastic.templates import Template

_ISM = "_plugins/_ism/policies"
_OF_THE_SERVER = frozenset(
    {"_meta", "policy_id", "last_updated_time", "schema_version", "error_notification"}
)
"""What servers add to what they are given, and kedge's own mark."""
_MOST_DIFFERENCES = 12


def marked(template: Template) -> Json:
    """The body with a mark of what was installed."""
    mark = {"managed_by": "kedge", "hash": template.hash}
    if template.kind == _ISM:  # keeps no metadata: the mark stands in the description
        policy = template.body["policy"]
        return {"policy": policy | {"description": f"{policy['description']} [kedge {template.hash}]"}}
    if template.kind == "_ilm/policy":
        policy = template.body["policy"]
        return {"policy": policy | {"_meta": policy.get("_meta", {}) | mark}}
    return template.body | {"_meta": template.body.get("_meta", {}) | mark}


def content(template: Template, installed: Json) -> Json:
    """The body in the server's answer to a request for the object."""
    found: Any
    if template.kind == _ISM:
        found = {"policy": installed["policy"]}
    elif template.kind == "_ilm/policy":
        found = {"policy": installed[template.name]["policy"]}
    elif template.kind == "_component_template":
        found = installed["component_templates"][0]["component_template"]
    else:
        found = installed["index_templates"][0]["index_template"]
    body: Json = found
    return body


def installed_mark(template: Template, installed: Json) -> str | None:
    """The hash that was installed with an object."""
    body = content(template, installed)
    if template.kind == _ISM:
        _, _, tail = str(body["policy"].get("description")).rpartition("[kedge ")
        return tail.removesuffix("]") or None
    meta = body["policy"].get("_meta", {}) if template.kind == "_ilm/policy" else body.get("_meta", {})
    mark = meta.get("hash")
    return mark if isinstance(mark, str) else None


def differences(theirs: Json, ours: Json) -> tuple[str, ...]:
    """What an installed body has that ours has not, or has otherwise: `- key`, `+ key: value`,
    `~ key: theirs -> ours`. Servers give settings back as text, so values compare as text."""
    here, there = dict(_leaves(ours)), dict(_leaves(theirs))
    lines = []
    for key in sorted(here.keys() | there.keys()):
        if key not in here:
            lines.append(f"- {key}")
        elif key not in there:
            lines.append(f"+ {key}: {here[key]}")
        elif here[key] != there[key]:
            lines.append(f"~ {key}: {there[key]} -> {here[key]}")
    if len(lines) > _MOST_DIFFERENCES:
        more = len(lines) - _MOST_DIFFERENCES + 1
        lines = [*lines[: _MOST_DIFFERENCES - 1], f"and {more} more"]
    return tuple(lines)


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    """The leaves of a document by their paths, as text."""
    if isinstance(value, dict) and value:
        return [
            leaf
            for key, inner in value.items()
            if key not in _OF_THE_SERVER
            for leaf in _leaves(inner, f"{path}.{key}" if path else key)
        ]
    if isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        return [leaf for i, inner in enumerate(value) for leaf in _leaves(inner, f"{path}[{i}]")]
    return [(path, value if isinstance(value, str) else orjson.dumps(value).decode())]
