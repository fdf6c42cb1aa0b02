"""The JSON Schema of notify.yml, draft 7, made from the models: what editors complete and check.

python -m kedge.notify.schema > schema/notify.v1.json
"""

import json
import sys
from typing import Any

from pydantic import TypeAdapter

from kedge.alerting.schema import DIALECT
from kedge.notify.receivers import ReceiverModel, ReceiverName
from kedge.notify.routes import Inhibits, IntervalModel, RouteModel

_DEFINITIONS = "#/definitions/{model}"


def notify_schema() -> dict[str, Any]:
    """Of one file. Stricter than the loader nowhere: which names exist is the loader's."""
    parts: dict[str, tuple[Any, str]] = {
        "receivers": (dict[ReceiverName, ReceiverModel], "Who can be told, by name; without any secret."),
        "route": (RouteModel, "Who is told what; without it a rule's `notify`, else `default`."),
        "inhibit": (Inhibits, "What is not told while something else fires."),
        "interval": (IntervalModel, ""),
    }
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {
        "default": {"type": "string", "description": "The receiver of rules that name none."}
    }
    for name, (kind, about) in parts.items():
        schema = TypeAdapter(kind).json_schema(by_alias=True, mode="validation", ref_template=_DEFINITIONS)
        definitions |= schema.pop("$defs", {})
        properties[name] = schema | ({"description": about} if about else {})
    properties["receivers"] |= {"additionalProperties": False, "minProperties": 1}
    interval = properties.pop("interval")
    definitions["IntervalModel"] = interval
    one = {"$ref": "#/definitions/IntervalModel"}
    properties["time_intervals"] = {
        "type": "object",
        "description": "Named spans of time, for `mute_times` and `active_times`.",
        "additionalProperties": {"anyOf": [one, {"type": "array", "items": one}]},
    }
    return {
        "$schema": DIALECT,
        "title": "kedge notify.yml",
        "type": "object",
        "properties": {name: _tidy(schema) for name, schema in properties.items()},
        "required": ["receivers"],
        "additionalProperties": False,
        "definitions": {name: _tidy(schema) for name, schema in sorted(definitions.items())},
    }


def _tidy(node: Any) -> Any:
    """Draft 7, and no noise: generated titles, empty defaults and `null` alternatives are dropped."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    if {"type": "null"} in node.get("anyOf", []):
        options = [option for option in node["anyOf"] if option != {"type": "null"}]
        rest = {k: v for k, v in node.items() if k not in ("anyOf", "default")}
        return _tidy({**options[0], **rest} if len(options) == 1 else {"anyOf": options, **rest})
    tidy = {k: _tidy(v) for k, v in node.items() if k not in ("title", "properties")}
    if "properties" in node:  # names there are the file's, and `title` may be one
        tidy["properties"] = {name: _tidy(schema) for name, schema in node["properties"].items()}
    if tidy.get("default", 0) in (None, [], ()):
        del tidy["default"]
    if "$ref" in tidy and len(tidy) > 1:  # in draft 7 what stands beside a reference is not read
        tidy = {"allOf": [{"$ref": tidy.pop("$ref")}], **tidy}
    return tidy


def schema_text() -> str:
    """The schema as it is committed: `schema/notify.v1.json`."""
    return json.dumps(notify_schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    sys.stdout.write(schema_text())


if __name__ == "__main__":
    main()
