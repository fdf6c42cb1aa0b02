"""The JSON Schema of notify.yml: current, right about what is right, and helpful about what is wrong."""

from pathlib import Path

import pytest

from kedge.alerting.loading import plain
from kedge.notify.receivers import ReceiverModel, load_routing
from kedge.notify.routes import EscalationModel, InhibitModel, IntervalModel, RouteModel
from kedge.notify.schema import notify_schema, schema_text
from kedge.yamlfile import parse_yaml
from tests.alerting.test_schema import errors

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = Path(__file__).parent / "examples"


def of(text):
    schema = notify_schema()
    return errors(schema, plain(parse_yaml(text, "notify.yml").data), schema)


def test_the_committed_schema_is_current():
    written = (ROOT / "schema" / "notify.v1.json").read_text("utf-8")
    assert written == schema_text(), "python -m kedge.notify.schema > schema/notify.v1.json"


def test_an_editor_accepts_the_example_and_the_loader_does_too():
    example = ROOT / "docs" / "examples" / "notify.yml"
    assert of(example.read_text()) == []
    assert load_routing(example).receivers == {"team", "fraud", "pager", "lead"}
    first = example.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=../../schema/notify.v1.json"


def test_an_editor_names_what_is_wrong():
    found = of((EXAMPLES / "notify.bad.yml").read_text())
    assert ": unknown recievers" in found
    assert ".route.group_wait: pattern" in found
    assert ".route.routes[0]: unknown matchers" in found
    assert ".inhibit[1]: needs source" in found


@pytest.mark.parametrize("model", [ReceiverModel, RouteModel, InhibitModel, IntervalModel, EscalationModel])
def test_every_field_says_what_it_means(model):
    for name, field in model.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize(
    "text",
    [
        "receivers: {a: {terminal: {}}}",
        "receivers: {a: {terminal: {}, budget: 2 per 30d}}",
        "receivers: {a: {budget: 0.5 per 7d, terminal: {}}}",
        "default: a\nreceivers: {a: {terminal: {}}, b: {slack: {channel: '#x'}}}",
        "receivers: {a: {terminal: {}}}\nroute: {routes: [{match: {x: 1, y: [true, a]}, escalate: []}]}",
        "receivers: {a: {terminal: {}}}\nroute: {}\ntime_intervals: {n: [{days_of_month: [-1, 1-5]}]}",
    ],
)
def test_what_the_loader_takes_an_editor_takes(tmp_path, text):
    path = tmp_path / "notify.yml"
    path.write_text(text)
    load_routing(path)
    assert of(text) == []


def test_a_receiver_is_exactly_one_kind_and_has_a_budget_besides():
    assert set(ReceiverModel.model_fields) == {"slack", "slack_webhook", "terminal", "budget"}
