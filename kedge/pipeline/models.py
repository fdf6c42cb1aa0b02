"""What a tick needs to know of each model, read for all of them in a few requests."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from kedge.config import ModelSettings
from kedge.pipeline.baselines import Baseline, baselines_in_use
from kedge.pipeline.context import Pipeline, settings_with
from kedge.pipeline.groups import document_name as groups_of
from kedge.pipeline.groups import values_in
from kedge.pipeline.schema import Features, features_in
from kedge.pipeline.schema import document_name as schema_of


@dataclass(frozen=True)
class ModelState:
    """One model as `kedge-state` has it."""

    settings: ModelSettings
    baseline: Baseline | None = None
    features: Features = field(default_factory=Features)
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By dimension: the values that have groups of their own."""


def load_models(pipe: Pipeline, names: Collection[str]) -> dict[str, ModelState]:
    """The state of each of the models."""
    state = pipe.store.state
    wanted = [doc for name in names for doc in (f"model:{name}", schema_of(name), groups_of(name))]
    found = state.get_many(wanted)
    baselines = baselines_in_use(state, names)
    return {
        name: ModelState(
            settings_with(pipe.settings, name, found.get(f"model:{name}")),
            baselines.get(name),
            features_in(found.get(schema_of(name))),
            values_in(found.get(groups_of(name))),
        )
        for name in names
    }
