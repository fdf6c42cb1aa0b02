"""The rows that become a reference: counted by group, and by the hour to learn how its own windows vary."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from kedge.analysis.dispersion import LEAST_WINDOWS
from kedge.analysis.variation import Variation, variation_of
from kedge.pipeline.summaries import bucket_summary
from kedge.sketch import AnyPart, EdgeSet, Moments, NumericEdges, PartName, Summary, total
from kedge.store.base import Group, PartRow, SummaryRequest
from kedge.windows import DAY, HOUR, Millis, Window, ceil, floor

HOURS_OF = 100 * DAY
"""Longer references are cut into days, not hours, to learn how their windows vary."""
FEATURES_AT_ONCE = 100


class Rows(Protocol):
    """What a baseline is made from."""

    def edges(
        self, model: str, window: Window, numeric: Sequence[str], categorical: Sequence[str]
    ) -> EdgeSet: ...

    def errors_by_value(self, model: str, window: Window, edges: NumericEdges) -> list[Moments]: ...

    def summarise(self, request: SummaryRequest) -> list[PartRow]: ...


class Counted(NamedTuple):
    """The rows of a reference, by group, and how its own windows vary."""

    summaries: dict[Group, Summary]
    variation: Variation


def count_reference(log: Rows, request: SummaryRequest, edges: EdgeSet, spans: Sequence[Window]) -> Counted:
    """Count the rows that `request` asks for. The hours that tell how windows vary are counted on the way,
    where that takes no second look at the rows: of all of them together, on few features, in whole hours."""
    width = HOUR if request.window.length <= HOURS_OF else DAY
    whole = [Window(ceil(span.start, width), floor(span.end, width)) for span in spans]
    whole = [span for span in whole if span.length > 0]
    many = sum(span.length for span in whole) >= LEAST_WINDOWS * width
    if (
        not many
        or whole != list(spans)
        or len(edges.features) > FEATURES_AT_ONCE
        or () not in request.groupings
    ):
        variation = _variation(log, request, edges, whole, width) if many else Variation()
        return Counted(_totals(_buckets(log, request, spans), edges), variation)
    buckets = _buckets(log, replace(request, bucket=width, groupings=((),)), spans)
    totals = _totals(buckets, edges)
    groupings = tuple(grouping for grouping in request.groupings if grouping)
    if groupings:
        totals |= _totals(_buckets(log, replace(request, groupings=groupings), spans), edges)
    return Counted(totals, variation_of(buckets.get((), {}), width, edges))


def _buckets(
    log: Rows, request: SummaryRequest, spans: Sequence[Window]
) -> dict[Group, dict[Millis, Summary]]:
    """The summaries of each group's buckets that have rows."""
    found: dict[Group, dict[Millis, dict[PartName, AnyPart]]] = {}
    for span in spans:
        for row in log.summarise(replace(request, window=span)):
            found.setdefault(row.key.group, {}).setdefault(row.key.bucket, {})[row.key.part] = row.part
    return {
        group: {bucket: bucket_summary(parts, request.parts) for bucket, parts in buckets.items()}
        for group, buckets in found.items()
    }


def _totals(buckets: dict[Group, dict[Millis, Summary]], edges: EdgeSet) -> dict[Group, Summary]:
    return {group: total(summaries.values(), edges) for group, summaries in buckets.items()}


def _variation(
    log: Rows, request: SummaryRequest, edges: EdgeSet, whole: Sequence[Window], width: Millis
) -> Variation:
    """How the windows of a reference vary: its rows are counted once more, by the hour, or by the day where
    the hours would be too many; some features at a time, so that many need little memory."""
    names = list(edges.features)
    found = Variation()
    for start in range(0, max(len(names), 1), FEATURES_AT_ONCE):
        some = EdgeSet({n: edges.features[n] for n in names[start : start + FEATURES_AT_ONCE]})
        part = replace(
            request,
            bucket=width,
            groupings=((),),
            parts=frozenset({PartName.CORE, PartName.CELLS}),
            edges=some,
            numeric=tuple(some.numeric),
            categorical=tuple(some.categorical),
            invalid=(),
        )
        found = found.joined(variation_of(_buckets(log, part, whole).get((), {}), width, some))
    return found
