"""Metrics that users define: as they are written in settings, and what they mean."""

import re
from collections.abc import Mapping
from typing import Annotated, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from kedge.alerting.fields import did_you_mean
from kedge.analysis.catalogue import OWN_NAME
from kedge.analysis.custom import ALL_ROWS, OwnMetric, OwnMetrics, RatioMetric, Stat, UserMetric, kept_for
from kedge.errors import BadInput
from kedge.sketch import Counted
from kedge.sketch.where import ALLOWED, Kind, kind_of
from kedge.store.lucene import parse_filter


def _own_name(name: str) -> str:
    if not re.fullmatch(OWN_NAME, name):
        raise ValueError(f'"{name}" cannot name a metric: begin with a letter, then a-z, 0-9 and _')
    return name


def _where(text: str | None) -> str | None:
    if text is not None:
        try:
            parse_filter(text)
        except BadInput as e:
            raise ValueError(str(e)) from None
    return text


class MetricSettings(BaseModel):
    """A metric of your own: a stat over the rows that a filter lets through, or the ratio of two such."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stat: Stat | None = Field(
        None, description="count, sum, mean, p50, p95, p99 or distinct (different values, up to 1,000)."
    )
    field: str | None = Field(None, description="What all but count are of: latency_ms, business.cost.")
    where: Annotated[str | None, AfterValidator(_where)] = Field(
        None, description="A filter in Lucene's syntax; without it every row counts."
    )
    ratio: tuple[str, str] | None = Field(
        None, description="Two metrics by name, the first by the second; volume.count is all rows."
    )
    model: str | None = Field(None, description="Only of this model; by default of each.", min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.ratio is not None:
            if self.stat or self.field or self.where:
                raise ValueError("a ratio is of two metrics by name: it has no stat, field or where")
            return self
        if self.stat is None:
            raise ValueError("say which stat (count, sum, mean, p50, p95, p99, distinct), or a ratio")
        if self.stat == "count":
            if self.field:
                raise ValueError(
                    f"count counts rows: to count those with a value, write where: '{self.field}:*'"
                )
            return self
        kind = kind_of(self.field or "")
        if kind is None:
            said = f'"{self.field}" is no field' if self.field else "say of which field"
            raise ValueError(f"{said} (allowed: {', '.join(ALLOWED)})")
        if kind is Kind.TEXT and self.stat != "distinct":
            raise ValueError(f"{self.field} is text: it has no {self.stat}, only distinct")
        return self

    @property
    def counted(self) -> Counted:
        """What a stat counts."""
        where = None if self.where is None else parse_filter(self.where)
        assert self.stat is not None  # noqa: S101 -- `_whole` has seen to it
        return Counted(kept_for(self.stat), self.field or "", where)


OwnName = Annotated[str, AfterValidator(_own_name)]


def check_ratios(metrics: Mapping[str, MetricSettings]) -> None:
    """Raise ValueError for a ratio of what is not there."""
    for name, given in metrics.items():
        for side in given.ratio or ():
            found = metrics.get(side)
            if side != ALL_ROWS and (found is None or found.ratio is not None):
                known = [n for n, m in metrics.items() if m.ratio is None]
                hint = did_you_mean(side, [*known, ALL_ROWS])
                raise ValueError(f'{name}: ratio: no metric "{side}" with a stat is defined{hint}')
            if found is not None and found.model not in (None, given.model):
                raise ValueError(f"{name}: ratio: {side} is of model {found.model} alone")


def own_metrics(metrics: Mapping[str, MetricSettings], model: str | None = None) -> OwnMetrics:
    """Those that are defined for a model; None: all."""
    return OwnMetrics.of(
        _own_metric(metrics, name)
        for name, given in metrics.items()
        if model is None or given.model in (None, model)
    )


def _own_metric(metrics: Mapping[str, MetricSettings], name: str) -> OwnMetric:
    given = metrics[name]
    if given.ratio is None:
        assert given.stat is not None  # noqa: S101 -- it is one or the other
        return UserMetric(name, given.stat, given.counted)
    part, whole = (None if side == ALL_ROWS else _own_metric(metrics, side) for side in given.ratio)
    return RatioMetric(name, cast(UserMetric | None, part), cast(UserMetric | None, whole))
