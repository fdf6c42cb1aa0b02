"""How a rule says which metric it watches: by its one name, or by a field and a `stat` of it.

`business.cost.sum` is the name, everywhere: in alerts, series and messages. `metric: business.cost` with
`stat: sum` is another way to write it in a rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from kedge.alerting.fields import did_you_mean
from kedge.analysis.catalogue import MEASURED_STATS, METRICS, OWN_NAME, is_known, is_measured, lookup
from kedge.analysis.custom import Stat as OwnStat
from kedge.errors import BadInput

STATS = ("mean", "sum", "count", "std", "p10", "p50", "p95", "p99")
"""Words that a metric's name may end with, and that `stat` may say."""
_STATS_OF = {
    family: tuple(stat for stat in STATS if f"{family}.{stat}" in METRICS)
    for family in dict.fromkeys(name.rpartition(".")[0] for name in METRICS)
}
FAMILIES = [family for family, stats in _STATS_OF.items() if stats]
"""What `stat` may be of, besides measurements: `latency`, `confidence`."""
METRIC_SCHEMA: dict[str, Any] = {
    "type": "string",
    "anyOf": [
        {"enum": [*METRICS, *FAMILIES]},
        {"pattern": r"^(business|resource)\.."},
        {"pattern": OWN_NAME},
    ],
}
"""By name: kedge's, of measurements, and users' own; without its stat, where `stat` says it."""
MetricName = Annotated[str, WithJsonSchema(METRIC_SCHEMA)]
STAT = (
    "Which number of what `metric` names, where that is not said there: `metric: business.cost, stat: sum` "
    "is `metric: business.cost.sum`."
)


@dataclass(frozen=True)
class _Refused:
    """A stat that cannot be, and why: for its own field to tell, which knows its place."""

    why: str


def stats_of(name: str) -> tuple[str, ...]:
    """The stats of `business.cost` or `latency`; none of a name that is a metric by itself."""
    if name.startswith(("business.", "resource.")):
        return () if is_measured(name) else MEASURED_STATS
    return _STATS_OF.get(name, ())


def name_of(metric: str, stat: str) -> str:
    """`business.cost` and `sum` as `business.cost.sum`; raises BadInput with the stats that there are."""
    stats = stats_of(metric)
    if stat in stats:
        return f"{metric}.{stat}"
    if not stats:
        raise BadInput(f"{lookup(metric).name} is one number by itself: leave out `stat`")
    only = f"{metric} has no {stat}, only {' and '.join(stats)}"
    if metric not in _STATS_OF and stat in get_args(OwnStat):
        own = f"{{stat: {stat}, field: {metric}}}"
        raise BadInput(f"{only}: for it define a metric of your own (`metrics` in kedge.yml: {own})")
    raise BadInput(f'{metric} has no stat "{stat}"{did_you_mean(stat, stats)}')


def with_stat(cls: type[BaseModel], raw: Any) -> Any:
    """What a rule says, its `metric` and `stat` put into one name; a validator of models, before all else."""
    if not isinstance(raw, Mapping) or raw.get("stat") is None:
        return raw
    metric, stat = raw.get("metric"), raw["stat"]
    if metric is None and cls.model_fields["metric"].is_required():
        return {**raw, "stat": None}  # that it is lacking is told already
    if not isinstance(metric, str):
        return raw
    try:
        return {**raw, "metric": name_of(metric, str(stat)), "stat": None}
    except BadInput as e:
        stats = stats_of(metric)
        if not stats and not is_known(metric):
            return {**raw, "stat": None}  # the metric is wrong, and its own field tells that
        # Any stat lets the fields that depend on the metric be checked too.
        stand_in = f"{metric}.{stats[0]}" if stats else metric
        return {**raw, "metric": stand_in, "stat": _Refused(e.reason)}


def _left(stat: Any) -> None:
    """A stat that was not put into the name cannot be."""
    if stat is not None:
        raise ValueError(stat.why if isinstance(stat, _Refused) else "goes with `metric`, a name")


StatField = Annotated[
    str | None,
    BeforeValidator(_left),
    WithJsonSchema({"type": "string", "enum": list(STATS)}),
    Field(description=STAT),
]
"""Of a rule whose model is validated by `with_stat` first: always None then."""
