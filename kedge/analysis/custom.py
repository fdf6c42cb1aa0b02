"""Users' own metrics: from what was counted for them to numbers with their uncertainty.

A metric is a stat over the rows that a filter lets through, or the ratio of two such. `business.*` and
`resource.*`, which come with every row that has them, are read in the same way from `core`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from kedge.analysis import build
from kedge.analysis.catalogue import CORE, CUSTOM, MEASURED_STATS, Bad, EvidenceKind, MetricInfo, measured_of
from kedge.analysis.evidence import Exact
from kedge.analysis.latency import scale_quantile
from kedge.analysis.metric import Metric
from kedge.sketch import Core, Counted, Custom, Moments, PartName, Tally, What, definitions_key
from kedge.sketch.custom import MOST_DISTINCT
from kedge.sketch.where import is_part

Stat = Literal["count", "sum", "mean", "p50", "p95", "p99", "distinct"]
QUANTILES: Mapping[str, float] = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
ALL_ROWS = "volume.count"
"""What a ratio may name besides metrics of its own kind."""
NO_ROWS = "no rows"
_KEPT: Mapping[str, What] = {
    "count": What.ROWS,
    "sum": What.VALUES,
    "mean": What.VALUES,
    "distinct": What.DISTINCT,
    **dict.fromkeys(QUANTILES, What.CELLS),
}


def kept_for(stat: Stat) -> What:
    """What has to be kept of the rows for a stat."""
    return _KEPT[stat]


@dataclass(frozen=True)
class UserMetric:
    """A stat over rows."""

    name: str
    stat: Stat
    counted: Counted

    @property
    def definitions(self) -> tuple[Counted, ...]:
        return (self.counted,)

    @property
    def info(self) -> MetricInfo:
        kinds: dict[str, EvidenceKind] = {"count": "exact", "sum": "exact", "mean": "mean"}
        ms = self.counted.field == "latency_ms" and self.stat != "distinct"
        counts = "rows that it counts" if self.stat in ("count", "distinct") else "values that it counts"
        return MetricInfo(
            self.name,
            "ms" if ms else "count" if self.stat in ("count", "distinct") else "",
            Bad.BOTH,
            counts,
            CORE | CUSTOM,
            self.description,
            kinds.get(self.stat, "quantile" if self.stat in QUANTILES else "other"),
            grows=self.stat in ("count", "sum", "distinct"),
        )

    @property
    def description(self) -> str:
        of = f" of {self.counted.field}" if self.counted.field else ""
        where = "" if self.counted.where is None else f" where {self.counted.where}"
        return f"{self.stat}{of}{where}"

    def read(self, core: Core, custom: Custom) -> Metric:
        tally = custom.tallies.get(self.counted.key, Tally())
        match self.stat:
            case "count":
                return build.exact(self.name, tally.rows)
            case "sum":
                return total(self.name, tally.values, core.rows)
            case "mean":
                return build.mean(self.name, tally.values, self._nothing)
            case "distinct":
                return self._distinct(tally)
            case _:
                return self._quantile(tally, QUANTILES[self.stat])

    @property
    def _nothing(self) -> str:
        return f"no row that it counts has a {self.counted.field}"

    def _quantile(self, tally: Tally, q: float) -> Metric:
        """Within 2.5 % of the rows' own for latency, 5 % for the rest; none where it is zero or below, where
        there are no cells."""
        scale = self.counted.scale
        if not tally.values.n:
            return build.absent(self.name, self._nothing)
        if tally.cells[0] > q * (tally.values.n - 1) and tally.values.low != tally.values.high:
            under = f"the quantile lies under {scale.low:g}, where values are not told apart"
            return build.absent(self.name, under, n=tally.values.n)
        found = scale_quantile(self.name, q, scale, tally.cells, tally.values)
        return found or build.absent(self.name, self._nothing)

    def _distinct(self, tally: Tally) -> Metric:
        if tally.distinct.more:
            at_least = {"told": f"at least {MOST_DISTINCT:,}: more are not told apart"}
            return build.present(self.name, MOST_DISTINCT, tally.rows, None, detail=at_least)
        return build.present(self.name, len(tally.distinct.hashes), tally.rows, None)


@dataclass(frozen=True)
class RatioMetric:
    """One metric by another: `part` None or `whole` None is the count of all rows."""

    name: str
    part: UserMetric | None
    whole: UserMetric | None

    @property
    def definitions(self) -> tuple[Counted, ...]:
        return tuple(one.counted for one in (self.part, self.whole) if one is not None)

    @property
    def proportion(self) -> bool:
        """Whether it is a share of rows, each of which is of the part or not: two counts, one filter a part
        of the other."""
        sides = (self.part, self.whole)
        if any(one is not None and one.stat != "count" for one in sides):
            return False
        part, whole = (None if one is None else one.counted.where for one in sides)
        return is_part(part, whole)

    @property
    def info(self) -> MetricInfo:
        sides = " by ".join(ALL_ROWS if one is None else one.name for one in (self.part, self.whole))
        return MetricInfo(
            self.name,
            "ratio" if self.proportion else "",
            Bad.BOTH,
            f"what {ALL_ROWS if self.whole is None else self.whole.name} counts",
            CORE | CUSTOM,
            sides,
            "rate" if self.proportion else "other",
        )

    def read(self, core: Core, custom: Custom) -> Metric:
        part, whole = (
            build.exact(ALL_ROWS, core.rows) if one is None else one.read(core, custom)
            for one in (self.part, self.whole)
        )
        of = ALL_ROWS if self.whole is None else self.whole.name
        if self.proportion:
            return build.rate(self.name, part.n, whole.n, f"{of} counts no rows")
        for side in (part, whole):
            if side.value is None:
                return build.absent(self.name, side.told or f"{side.name} has no value", n=side.n)
        if not whole.value or part.value is None:
            return build.absent(self.name, f"{of} is 0", n=whole.n)
        told = next(({"told": side.detail["told"]} for side in (part, whole) if "told" in side.detail), None)
        return build.present(self.name, part.value / whole.value, whole.n, None, detail=told)


OwnMetric = UserMetric | RatioMetric


@dataclass(frozen=True)
class OwnMetrics:
    """Those of one model, by name."""

    metrics: Mapping[str, OwnMetric] = field(default_factory=dict)

    @classmethod
    def of(cls, metrics: Iterable[OwnMetric]) -> "OwnMetrics":
        return cls({one.name: one for one in metrics})

    @cached_property
    def definitions(self) -> tuple[Counted, ...]:
        """What must be counted for all of them, each once, in a fixed order."""
        held = {counted.key: counted for one in self.metrics.values() for counted in one.definitions}
        return tuple(held[key] for key in sorted(held))

    @cached_property
    def key(self) -> str:
        """Of the definitions; empty without any."""
        return definitions_key(self.definitions)

    @property
    def parts(self) -> frozenset[PartName]:
        return frozenset({PartName.CUSTOM} if self.definitions else ())


def total(name: str, moments: Moments, rows: int) -> Metric:
    """A sum: 0 where rows have no such value, none where there are no rows."""
    if not rows:
        return build.absent(name, NO_ROWS)
    value = moments.total if moments.n else 0.0
    return build.present(name, value, moments.n, Exact(value))


def measurement(name: str, core: Core) -> Metric:
    """`business.cost.sum`, `resource.cpu_ms.mean`."""
    field_name, stat = measured_of(name)
    moments = core.measured.get(field_name, Moments.ZERO)
    if stat == "sum":
        return total(name, moments, core.rows)
    return build.mean(name, moments, f"no row has a {field_name}")


def measurements(core: Core) -> list[Metric]:
    """Of all that the rows have."""
    return [
        measurement(f"{field_name}.{stat}", core)
        for field_name in sorted(core.measured)
        for stat in MEASURED_STATS
    ]
