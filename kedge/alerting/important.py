"""Which features a rule looks at: some by name, or so many of the most important ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from kedge.alerting.fields import checked, did_you_mean, parse_text
from kedge.analysis.importance import Importance
from kedge.errors import BadInput

_WAY_OUT = (
    "log `attributions` and create a baseline of such rows, or state them in kedge.yml, the most important "
    "first (models: NAME: importance: [amount, age])"
)


@dataclass(frozen=True)
class Top:
    """The `count` most important features of the model: `{top: 3}`."""

    count: int

    def of(self, importance: Importance) -> tuple[str, ...]:
        """Their names, the most important first; raises BadInput where they are not known."""
        known = importance.features
        if len(known) >= self.count:
            return known[: self.count]
        lacking = importance.lacking or f"{importance.known_by} only {len(known)} have a place"
        raise BadInput(f"the {self.count} most important features are not known ({lacking}): {_WAY_OUT}")


Features = tuple[str, ...] | Top


def parse_features(raw: Any) -> Features:
    """From a name, a list of names, or `{top: 3}`; raises BadInput."""
    if isinstance(raw, Top):
        return raw
    if isinstance(raw, Mapping):
        for name in raw:
            if name != "top":
                raise BadInput(f'unknown field "{name}"{did_you_mean(str(name), ["top"])}')
        count = raw.get("top")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise BadInput("write how many of the most important features: {top: 3}")
        return Top(count)
    return tuple(parse_text(name) for name in (raw if isinstance(raw, list | tuple) else [raw]))


def _as_written(features: Features) -> Any:
    return {"top": features.count} if isinstance(features, Top) else list(features)


FeaturesField = Annotated[
    Features,
    PlainValidator(lambda raw: checked(parse_features, raw)),
    PlainSerializer(_as_written),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {
                    "type": "object",
                    "properties": {"top": {"type": "integer", "minimum": 1}},
                    "required": ["top"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
