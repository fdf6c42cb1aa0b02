"""How a rule says which metric it watches."""

from typing import Annotated, Any

from pydantic import WithJsonSchema

from kedge.analysis.catalogue import METRICS, OWN_NAME

METRIC_SCHEMA: dict[str, Any] = {
    "type": "string",
    "anyOf": [
        {"enum": list(METRICS)},
        {"pattern": r"^(business|resource)\..+\.(mean|sum)$"},
        {"pattern": OWN_NAME},
    ],
}
"""By name: kedge's, of measurements, and users' own."""
MetricName = Annotated[str, WithJsonSchema(METRIC_SCHEMA)]
