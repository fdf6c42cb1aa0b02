"""Sources: logs that others write, read through a mapping of their fields to kedge's. Pure data.

A preset is a mapping with a name. What it says of field names comes from public documents (docs/sources.md
cites them); what a model's own fields are called, no preset can know.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

NAMES: Mapping[str, str] = {
    "timestamp": "When the prediction was made: a date, or a number of milliseconds since 1970.",
    "model.name": "The model. Where all rows are of one, give `model` instead.",
    "model.version": "The dimension `version`.",
    "prediction.class": "The class predicted: text, number or boolean.",
    "prediction.probability": "The confidence: the probability of the predicted class, from 0 to 1.",
    "prediction.value": "The number predicted.",
    "prediction.entropy": "The entropy of the probabilities, in nats.",
    "latency": "How long it took; takes a `unit`.",
    "error": "What marks a row as failed; see below.",
    "label.class": "The true class, once it is known.",
    "label.value": "The true number.",
    "label.delay": "Time from prediction to label; takes a `unit`.",
    "outcome.log_loss": "Log loss of a labelled row, if you store it.",
    "outcome.brier": "Its Brier score.",
    "outcome.error": "Prediction minus label.",
    "outcome.abs_error": "Its size.",
    "outcome.squared_error": "Its square.",
    "service.name": "The dimension `service`.",
    "host.name": "The dimension `host`.",
    "event.id": "The id that an example is shown with; by default the document's.",
    "trace.id": "The trace that an example is shown with.",
    "segment.NAME": "The dimension `segment.NAME`.",
    "features.num.NAME": "The numeric feature NAME.",
    "features.cat.NAME": "The categorical feature NAME.",
}
"""What a source's fields may be mapped to, and what each is; NAME is free."""
OPEN = tuple(name.removesuffix("NAME") for name in NAMES if name.endswith("NAME"))
PER_MS: Mapping[str, float] = {"ns": 1e6, "us": 1e3, "ms": 1.0, "s": 1e-3}
"""How many of a unit make a millisecond."""
TIMED = ("latency", "label.delay")
"""The names that take a unit."""


@dataclass(frozen=True)
class Mapped:
    """A field of theirs, and for what needs it how to read it."""

    field: str
    unit: str = "ms"
    values: tuple[str, ...] = ()
    """Of `error`: the values that mean failure; with none, that the field is there at all."""
    least: float | None = None
    """Of `error`: numbers from here on mean failure."""


@dataclass(frozen=True)
class Source:
    """Indices that others fill, and what their fields mean."""

    index: str
    """A name, pattern or data stream; several by commas."""
    fields: Mapping[str, Mapped] = field(default_factory=dict)
    """By the names of `NAMES`."""
    model: str = ""
    """The model of all rows; empty where a field says it."""
    features: tuple[str, ...] = ()
    """Fields and patterns (`ml.features.*`) of what else are features; a pattern's are named by what the star
    stands for."""
    filter: str = ""
    """Only rows that this Lucene query finds."""
    preset: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.index} ({self.model})" if self.model else self.index

    @property
    def key(self) -> str:
        """Tells sources apart."""
        return "|".join((self.index, self.model, self.filter))


@dataclass(frozen=True)
class Preset:
    """A mapping that many logs share."""

    about: str
    fields: Mapping[str, Mapped]
    features: tuple[str, ...] = ()
    filter: str = ""


def _same(*names: str) -> dict[str, Mapped]:
    return {name: Mapped(name) for name in names}


PRESETS: Mapping[str, Preset] = {
    "ecs": Preset(
        "Elastic Common Schema: a service is a model, unless you map another field",
        {
            "timestamp": Mapped("@timestamp"),
            "model.name": Mapped("service.name"),
            "model.version": Mapped("service.version"),
            "latency": Mapped("event.duration", unit="ns"),
            "error": Mapped("event.outcome", values=("failure",)),
            **_same("host.name", "event.id", "trace.id"),
        },
    ),
    "kserve": Preset(
        "CloudEvents of KServe's inference logger, stored with their attributes as fields",
        {
            "timestamp": Mapped("time"),
            "model.name": Mapped("inferenceservicename"),
            "model.version": Mapped("endpoint"),
            "segment.namespace": Mapped("namespace"),
            "segment.component": Mapped("component"),
            "event.id": Mapped("id"),
        },
        filter='type:"org.kubeflow.serving.inference.response"',
    ),
    "mlserver": Preset(
        "What Seldon's request logger makes of MLServer's requests and responses",
        {
            "timestamp": Mapped("@timestamp"),
            "model.name": Mapped("Ce-Inferenceservicename"),
            "model.version": Mapped("Ce-Endpoint"),
            "segment.namespace": Mapped("Ce-Namespace"),
            "segment.node": Mapped("Ce-Modelid"),
            "event.id": Mapped("RequestId"),
        },
        features=("request.elements.*",),
    ),
    "gen_ai": Preset(
        "Spans of OpenTelemetry's conventions for generative AI, by the Collector's Elasticsearch exporter",
        {
            "timestamp": Mapped("@timestamp"),
            "model.name": Mapped("attributes.gen_ai.request.model"),
            "model.version": Mapped("attributes.gen_ai.response.model"),
            "latency": Mapped("duration", unit="ns"),
            "error": Mapped("attributes.error.type"),
            "service.name": Mapped("resource.attributes.service.name"),
            "segment.operation": Mapped("attributes.gen_ai.operation.name"),
            "segment.provider": Mapped("attributes.gen_ai.provider.name"),
            "trace.id": Mapped("trace_id"),
            "event.id": Mapped("span_id"),
            "features.cat.finish_reason": Mapped("attributes.gen_ai.response.finish_reasons"),
            "features.num.input_tokens": Mapped("attributes.gen_ai.usage.input_tokens"),
            "features.num.output_tokens": Mapped("attributes.gen_ai.usage.output_tokens"),
            "features.num.temperature": Mapped("attributes.gen_ai.request.temperature"),
            "features.num.max_tokens": Mapped("attributes.gen_ai.request.max_tokens"),
        },
        filter="_exists_:attributes.gen_ai.request.model",
    ),
}


def is_name(name: str) -> bool:
    """Whether fields may be mapped to `name`."""
    return (name in NAMES and not name.endswith("NAME")) or any(
        name.startswith(stem) and len(name) > len(stem) for stem in OPEN
    )


def make_source(
    index: str,
    *,
    preset: str = "",
    fields: Mapping[str, Mapped | None] | None = None,
    model: str = "",
    features: tuple[str, ...] = (),
    filter: str = "",
) -> Source:
    """A source from its preset, with what is said of it besides on top; None takes a preset's field away."""
    base = PRESETS[preset] if preset else Preset("", {})
    merged: dict[str, Mapped | None] = {**base.fields, **(fields or {})}
    if model:
        merged.pop("model.name", None)
    return Source(
        index=index,
        fields={name: mapped for name, mapped in merged.items() if mapped},
        model=model,
        features=features or base.features,
        filter=filter or base.filter,
        preset=preset,
    )
