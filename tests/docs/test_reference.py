"""Settings, variables, commands, options, metrics and routes: what exists is documented, and the reverse."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from docs import generate
from ingest.rejection import REASONS
from kedge.analysis.catalogue import AGED, METRICS
from kedge.cli import cli
from kedge.cli.app import build_app
from kedge.config import (
    ENVIRONMENT,
    FieldSettings,
    LabelSettings,
    ModelSettings,
    RetentionSettings,
    Settings,
    SourceSettings,
    load_settings,
)
from kedge.pipeline.compose import open_pipeline
from kedge.store.sources import NAMES
from kedge.web.own import BUILD, GATEWAY, OWN, SERVER

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
SOURCES = [file for room in ("kedge", "ingest", "workers") for file in sorted((ROOT / room).rglob("*.py"))]


def page(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


def first_cells(text: str) -> list[str]:
    """What stands in code in the first column of the tables."""
    return re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)


@pytest.mark.parametrize("file", generate.PAGES, ids=lambda f: f.name)
def test_generated_tables_are_current(file: Path) -> None:
    text = file.read_text("utf-8")
    assert generate.render(text) == text, f"{file.name} is not current: python -m docs.generate writes it"


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    own, rest = page("settings.md").split("## Retention")
    retention, rest = rest.split("## One model")
    model, rest = rest.split("### Its labels")
    labels, rest = rest.split("## One source")
    source, rest = rest.split("### Its map")
    fields, names = rest.split("## Environment only")[0].split("The names:")
    assert set(first_cells(own)) == set(Settings.model_fields)
    assert set(first_cells(retention)) == set(RetentionSettings.model_fields)
    assert set(first_cells(model)) == set(ModelSettings.model_fields)
    assert set(first_cells(labels)) == set(LabelSettings.model_fields)
    assert set(first_cells(source)) == set(SourceSettings.model_fields)
    assert set(first_cells(fields)) == {f.alias or name for name, f in FieldSettings.model_fields.items()}
    assert set(first_cells(names)) == set(NAMES)


def test_every_variable_that_the_code_reads_is_documented() -> None:
    read = set(ENVIRONMENT)
    for file in SOURCES:
        read |= set(re.findall(r'"((?:KEDGE|SLACK)_[A-Z_]+)"', file.read_text("utf-8")))
    documented = set(re.findall(r"`((?:KEDGE|SLACK)_[A-Z_]+)`", page("settings.md")))
    assert documented == read


def test_every_command_and_option_is_documented() -> None:
    text = page("commands.md")
    sections = dict(
        re.findall(r"^#{2,4} (kedge[^\n]*)\n(.*?)(?=^#{2,4} kedge|\Z)", text, re.DOTALL | re.MULTILINE)
    )
    commands = {" ".join(path): command for path, command in generate.walk(cli)}
    assert set(sections) == set(commands)
    for name, command in commands.items():
        options = {o for p in command.params if isinstance(p, click.Option) for o in p.opts}
        assert set(re.findall(r"`(--?[a-z][a-z-]*)`", sections[name])) == options, name


def test_every_metric_is_documented() -> None:
    assert set(first_cells(page("metrics.md"))) == {*METRICS, *AGED}


def test_every_metric_of_kedge_itself_is_documented_where_it_is_told() -> None:
    server, rest = page("kedge-metrics.md").split("## Of a gateway")
    gateway, reasons = rest.split("## Reasons")
    assert set(first_cells(server)) == {metric.name for metric in (BUILD, *SERVER)}
    assert set(first_cells(gateway)) == {metric.name for metric in (BUILD, *GATEWAY)}
    assert set(first_cells(reasons)) == set(REASONS)
    named = set(re.findall(r"kedge_[a-z_]+", page("kedge-metrics.md")))
    assert named == set(OWN), "the words around the tables name none that is not there"


def test_every_route_is_documented() -> None:
    pipe = open_pipeline(Settings.model_validate({"store": "duckdb::memory:"}), lambda: 0)
    try:
        app = build_app(pipe, lambda: 0)
    finally:
        pipe.store.close()
    served = {f"{method.upper()} {path}" for path, of in app.openapi()["paths"].items() for method in of}
    assert set(re.findall(r"^### `([A-Z]+ /\S+)`$", page("api.md"), re.MULTILINE)) == served


def test_every_wire_field_is_documented() -> None:
    from ingest.wire import PREDICTION, LABEL  # noqa: I001

    text = page("api.md")
    predictions = text.split("### `POST /v1/predictions`")[1].split("### `POST /v1/labels`")[0]
    cells = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", predictions, re.MULTILINE)
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(
        PREDICTION.type.__struct_encode_fields__
    )
    labels = text.split("### `POST /v1/labels`")[1].split("## Running")[0]
    assert set(LABEL.type.__struct_encode_fields__) - {"model"} <= set(re.findall(r"`(\w+)`", labels))


def test_the_starter_settings_change_nothing_and_its_examples_are_valid(tmp_path: Path) -> None:
    """kedge.yml is mounted into every container: it must be right as it is, and with its comments opened."""
    file = ROOT / "kedge.yml"
    assert load_settings(file, {}) == Settings.model_validate({})
    lines = file.read_text("utf-8").splitlines()
    examples = [line.removeprefix("# ") for line in lines if re.match(r"# +[a-z_]+:( |$)", line)]
    assert len(examples) > 8
    taken = tmp_path / "kedge.yml"
    taken.write_text("\n".join(examples))
    settings = load_settings(taken, {})
    assert settings.models["fraud"].positive_class == "fraud"
    assert settings.model_copy(update={"models": {}}) == Settings.model_validate({})
