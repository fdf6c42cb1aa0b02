"""The JSON Schema of rule files, draft 7, made from the models: what editors complete and check.

python -m kedge.alerting.schema > schema/rules.v1.json
"""

import json
import sys
from typing import Any

from kedge.alerting.fields import SEVERITIES
from kedge.alerting.finding import Severity
from kedge.alerting.kinds import DEFAULT_KIND, KINDS
from kedge.alerting.loading import DEFAULTS, VERSION
from kedge.alerting.rule import Rule

DIALECT = "http://json-schema.org/draft-07/schema#"


def rules_schema() -> dict[str, Any]:
    """Of one rule file. Stricter than the loader nowhere: units and cross-field rules are the loader's."""
    kinds = {kind.KIND: _object(kind) for kind in KINDS}
    defaults = {
        name: schema for name, schema in kinds[DEFAULT_KIND]["properties"].items() if name in DEFAULTS
    }
    names = [kind.KIND for kind in KINDS]
    choice: dict[str, Any] = {"$ref": f"#/definitions/{DEFAULT_KIND}"}
    for name in reversed([n for n in names if n != DEFAULT_KIND]):
        # if/then rather than oneOf, so that an editor names the wrong field instead of "matches no schema".
        condition = {"properties": {"kind": {"const": name}}, "required": ["kind"]}
        choice = {"if": condition, "then": {"$ref": f"#/definitions/{name}"}, "else": choice}
    return {
        "$schema": DIALECT,
        "title": "kedge alert rules",
        "type": "object",
        "properties": {
            "version": {"const": VERSION, "description": "The version of this format."},
            "defaults": {
                "type": "object",
                "description": "Fields that every rule of the file takes, unless it says otherwise.",
                "properties": defaults,
                "additionalProperties": False,
            },
            "rules": {
                "type": "array",
                "description": "The rules, each with a name of its own.",
                "items": {"type": "object", "properties": {"kind": {"enum": names}}, **choice},
            },
        },
        "required": ["version"],
        "additionalProperties": False,
        "definitions": kinds,
    }


def object_schema(kind: type[Rule]) -> dict[str, Any]:
    """Of one rule of a kind, with every field that it needs."""
    schema = kind.model_json_schema(by_alias=True, mode="validation")
    nested = schema.pop("$defs", {})
    return dict(_tidy(schema, nested)) | {"description": " ".join((kind.__doc__ or "").split())}


def _object(kind: type[Rule]) -> dict[str, Any]:
    """The same in a file, where `defaults` may give some of the needed fields."""
    schema = object_schema(kind)
    return schema | {"required": [name for name in schema["required"] if name not in DEFAULTS]}


def _tidy(node: Any, nested: dict[str, Any]) -> Any:
    """Draft 7, and no noise: references put in place, generated titles and `null` alternatives dropped."""
    if isinstance(node, list):
        return [_tidy(item, nested) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return _tidy({**nested[name], **{k: v for k, v in node.items() if k != "$ref"}}, nested)
    if {"type": "null"} in node.get("anyOf", []):
        options = [option for option in node["anyOf"] if option != {"type": "null"}]
        rest = {k: v for k, v in node.items() if k != "anyOf"}
        return _tidy({**options[0], **rest} if len(options) == 1 else {"anyOf": options, **rest}, nested)
    properties = node.get("properties", {})
    tidy = {k: _tidy(v, nested) for k, v in node.items() if k not in ("title", "properties")}
    if tidy.get("default", 0) in (None, [], ""):
        del tidy["default"]
    if tidy.get("enum") == SEVERITIES and "default" in tidy:
        tidy["default"] = Severity(tidy["default"]).word
    if properties:
        tidy["properties"] = {name: _tidy(schema, nested) for name, schema in properties.items()}
    return tidy


def schema_text() -> str:
    """The schema as it is committed: `schema/rules.v1.json`."""
    return json.dumps(rules_schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    sys.stdout.write(schema_text())


if __name__ == "__main__":
    main()
