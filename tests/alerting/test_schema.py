"""The committed schema and reference are those of the code, and an editor would agree with the loader."""

import json
import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from kedge.alerting.kinds import KINDS
from kedge.alerting.reference import rules_reference
from kedge.alerting.rule import Rule
from kedge.alerting.schema import rules_schema
from tests.alerting.make import EXAMPLES

ROOT = EXAMPLES.parents[2]
TYPES: dict[str, Any] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}


def errors(schema: dict[str, Any], value: Any, root: dict[str, Any], at: str = "") -> list[str]:
    """What draft 7 says, of the keywords that the schema uses; an unknown keyword fails the test."""
    known = {"description", "default", "title", "$schema", "definitions", "then", "else"}
    found: list[str] = []
    for keyword, wanted in schema.items():
        match keyword:
            case "$ref":
                found += errors(root["definitions"][wanted.rpartition("/")[2]], value, root, at)
            case "type":
                types = [TYPES[t] for t in ([wanted] if isinstance(wanted, str) else wanted)]
                fits = any(isinstance(value, t) for t in types) and (
                    not isinstance(value, bool) or bool in types
                )
                found += [] if fits else [f"{at}: type"]
            case "const":
                found += [] if value == wanted else [f"{at}: const"]
            case "enum":
                found += [] if value in wanted else [f"{at}: enum"]
            case "pattern":
                found += [] if not isinstance(value, str) or re.search(wanted, value) else [f"{at}: pattern"]
            case "minimum" | "maximum":
                number = isinstance(value, int | float)
                low = number and (value < wanted if keyword == "minimum" else value > wanted)
                found += [f"{at}: {keyword}"] if low else []
            case "exclusiveMinimum" | "exclusiveMaximum":
                number = isinstance(value, int | float)
                out = number and (value <= wanted if keyword.endswith("Minimum") else value >= wanted)
                found += [f"{at}: {keyword}"] if out else []
            case "minLength" | "maxLength" | "minProperties":
                length = len(value) if isinstance(value, str | dict) else 0
                bad = length > wanted if keyword.startswith("max") else length < wanted
                found += [f"{at}: {keyword}"] if bad else []
            case "required":
                found += [f"{at}: needs {name}" for name in wanted if name not in value]
            case "properties":
                for name, inner in wanted.items():
                    if isinstance(value, dict) and name in value:
                        found += errors(inner, value[name], root, f"{at}.{name}")
            case "additionalProperties":
                others = value.keys() - schema.get("properties", {}).keys() if isinstance(value, dict) else ()
                patterns = schema.get("patternProperties", {})
                others = [name for name in others if not any(re.search(p, name) for p in patterns)]
                for name in sorted(others):
                    unknown = [f"{at}: unknown {name}"]
                    found += errors(wanted, value[name], root, f"{at}.{name}") if wanted else unknown
            case "patternProperties":
                for name in value if isinstance(value, dict) else ():
                    for pattern, inner in wanted.items():
                        found += (
                            errors(inner, value[name], root, f"{at}.{name}")
                            if re.search(pattern, name)
                            else []
                        )
            case "allOf":
                for option in wanted:
                    found += errors(option, value, root, at)
            case "items":
                for i, item in enumerate(value if isinstance(value, list) else []):
                    found += errors(wanted, item, root, f"{at}[{i}]")
            case "anyOf":
                found += (
                    [] if any(not errors(option, value, root, at) for option in wanted) else [f"{at}: anyOf"]
                )
            case "if":
                branch = "else" if errors(wanted, value, root, at) else "then"
                found += errors(schema[branch], value, root, at)
            case _:
                assert keyword in known, f"the test does not know {keyword}"
    return found


def of_file(name: str) -> list[str]:
    return errors(rules_schema(), YAML(typ="safe").load((ROOT / name).read_text()), rules_schema())


def test_the_committed_schema_is_current() -> None:
    committed = json.loads((ROOT / "schema" / "rules.v1.json").read_text())
    assert committed == rules_schema(), "run: python -m kedge.alerting.schema > schema/rules.v1.json"


def test_the_committed_reference_is_current() -> None:
    committed = (ROOT / "docs" / "reference" / "rules.md").read_text()
    assert committed == rules_reference(), "run: python -m kedge.alerting.reference > docs/reference/rules.md"


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_every_kind_is_described_and_documented(kind: type[Rule]) -> None:
    page = rules_reference()
    for name in kind.field_names():
        described = next(f.description for key, f in kind.model_fields.items() if (f.alias or key) == name)
        assert described, f"{kind.KIND}.{name} has no description"
        assert f"| `{name}` |" in page
    assert f"## Kind `{kind.KIND}`" in page


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_good_and_a_bad_example(kind: type[Rule]) -> None:
    assert of_file(f"tests/alerting/examples/{kind.KIND}.good.yml") == []
    assert of_file(f"tests/alerting/examples/{kind.KIND}.bad.yml") != []


@pytest.mark.parametrize("name", ["performance", "drift", "service"])
def test_an_editor_accepts_the_ready_made_rules(name: str) -> None:
    assert of_file(f"rules/{name}.yml") == []
    first = (ROOT / "rules" / f"{name}.yml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=../schema/rules.v1.json"


def test_an_editor_names_the_wrong_field() -> None:
    found = of_file("tests/alerting/examples/threshold.bad.yml")
    assert ".defaults: unknown notifi" in found
    assert ".rules[0]: unknown abve" in found
    assert ".rules[1].metric: anyOf" in found
    assert ".rules[1].window: pattern" in found
    assert ".rules[4].no_data: enum" not in found
    assert any("share" in text for text in found)
