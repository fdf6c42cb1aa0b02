"""`sources:` in kedge.yml: what is wrong is told with its place, and what it should be."""

from pathlib import Path

import pytest

from kedge.config import load_settings
from kedge.errors import KedgeError
from kedge.store.sources import PRESETS, Mapped, Source, is_name

STORE = "store: http://127.0.0.1:9200\n"


def sources_of(folder: Path, text: str) -> list[Source]:
    file = folder / "kedge.yml"
    file.write_text(text)
    return [given.source for given in load_settings(file, {}).sources]


def test_what_is_mapped_stands_over_the_preset(tmp_path: Path) -> None:
    (source,) = sources_of(
        tmp_path,
        STORE
        + """
sources:
- index: logs-ml-*
  preset: ecs
  map:
    model.version: svc.release
    host.name: null
    latency: {field: took, unit: us}
    error: {field: status, is: [500, true]}
    segment.region: geo
  features: ml.features.*
""",
    )
    assert source.index == "logs-ml-*"
    assert source.fields["timestamp"] == Mapped("@timestamp")
    assert source.fields["model.version"] == Mapped("svc.release")
    assert "host.name" not in source.fields
    assert source.fields["latency"] == Mapped("took", unit="us")
    assert source.fields["error"] == Mapped("status", values=("500", "true"))
    assert source.features == ("ml.features.*",)


def test_a_model_that_is_named_needs_no_field(tmp_path: Path) -> None:
    (source,) = sources_of(tmp_path, STORE + "sources: [{index: a, model: fraud, map: {timestamp: at}}]")
    assert (source.model, dict(source.fields)) == ("fraud", {"timestamp": Mapped("at")})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{index: a, preset: esc}", '2:22: sources.0.preset: unknown preset "esc" (did you mean "ecs"?)'),
        (
            "{index: a, preset: ecs, map: {lable.class: x}}",
            'sources.0.map.lable.class: unknown name "lable.class" (did you mean "label.class"?)',
        ),
        ("{index: a, preset: ecs, fetures: b}", 'unknown setting "fetures" (did you mean "features"?)'),
        (
            "{index: a, preset: ecs, map: {latency: {feild: b}}}",
            'unknown setting "feild" (did you mean "field"?)',
        ),
        ("{index: a, model: m}", "map timestamp to the field with the time of the prediction"),
        ("{index: a, map: {timestamp: t}}", "say which model the rows are of"),
        ("{index: 'other:logs', preset: ecs}", "indices of other clusters cannot be followed"),
        ("{index: Logs, preset: ecs}", '"Logs" cannot be the name of an index'),
        ("{index: a, preset: ecs, map: {label.class: {field: c, unit: s}}}", "label.class has no unit"),
        ("{index: a, preset: ecs, map: {label.class: {field: c, is: x}}}", "belong to error"),
    ],
)
def test_a_wrong_source_is_told_with_its_place(tmp_path: Path, given: str, told: str) -> None:
    with pytest.raises(KedgeError) as refused:
        sources_of(tmp_path, f"{STORE}sources: [{given}]\n")
    assert told in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path / 'kedge.yml'}:2:")


def test_sources_without_a_cluster_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(KedgeError, match=r"kedge.yml:1:1: sources: sources need Elasticsearch or OpenSearch"):
        sources_of(tmp_path, "sources: [{index: a, preset: ecs}]\n")


def test_presets_map_names_that_exist_and_what_every_source_needs() -> None:
    for preset in PRESETS.values():
        assert all(is_name(name) for name in preset.fields)
        assert {"timestamp", "model.name"} <= set(preset.fields)
