"""Summaries computed inside the server, in requests that its bucket limit allows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kedge.errors import TooManyBuckets
from kedge.sketch import PartName
from kedge.store.base import Grouping, Json, PartRow, SummaryRequest
from kedge.store.elastic.aggregations import LABELLED, cost, filter_path, time_buckets
from kedge.store.elastic.client import Client
from kedge.store.elastic.logs import within
from kedge.store.elastic.names import Names
from kedge.store.elastic.parse import nodes_per_bucket, part_rows
from kedge.windows import Millis, Window

_GROUPS_GUESS = 4
"""Groups of a grouping in one bucket of time, for requests so small that counting them first would not
pay."""
_MOST_PARTITIONS = 256


@dataclass(frozen=True)
class _Slice:
    """What one search asks for."""

    window: Window
    parts: frozenset[PartName]
    groupings: tuple[Grouping, ...]
    partition: tuple[int, int] = (0, 1)


class Summariser:
    """`LogStore.summarise`."""

    def __init__(self, client: Client, names: Names) -> None:
        self._client = client
        self._names = names

    def summarise(self, request: SummaryRequest) -> list[PartRow]:
        parts = request.parts if request.edges is not None else request.parts - {PartName.CELLS}
        if not parts or not request.groupings:
            return []
        whole = _Slice(request.window, parts, tuple(dict.fromkeys(request.groupings)))
        rows: list[PartRow] = []
        for piece in self._cut(request, whole):
            rows += self._persistently(request, piece)
        return rows

    def _cut(self, request: SummaryRequest, whole: _Slice) -> Iterator[_Slice]:
        """Runs of buckets that make about half of the buckets that the server allows in one answer."""
        most = self._client.max_buckets // 2
        each = cost(request, whole.parts)
        guess = sum(_GROUPS_GUESS if grouping else 1 for grouping in whole.groupings)
        if whole.window.length // request.bucket * guess * each <= most:
            yield whole
            return
        start: Millis | None = None
        end = made = 0
        for bucket, nodes in self._shape(request, whole):
            if start is not None and made + nodes * each > most:
                yield replace(whole, window=Window(start, end))
                start = None
            if start is None:
                start, made = bucket, 0
            made += nodes * each
            end = bucket + request.bucket
        if start is not None:
            yield replace(whole, window=Window(start, end))

    def _shape(self, request: SummaryRequest, piece: _Slice) -> list[tuple[Millis, int]]:
        """The buckets of time that have rows, and how many groups are in each: cheap, with nothing
        counted."""
        try:
            return nodes_per_bucket(piece.groupings, self._ask(request, piece, frozenset()))
        except TooManyBuckets:
            if piece.window.length <= request.bucket:
                return [(piece.window.start, self._client.max_buckets)]
        return [entry for half in _halves(piece, request.bucket) for entry in self._shape(request, half)]

    def _persistently(self, request: SummaryRequest, piece: _Slice) -> list[PartRow]:
        try:
            return self._search(request, piece)
        except TooManyBuckets:
            smaller = _split(piece, request.bucket)
            if not smaller:
                raise
        return [row for part in smaller for row in self._persistently(request, part)]

    def _search(self, request: SummaryRequest, piece: _Slice) -> list[PartRow]:
        aggregations = self._ask(request, piece, piece.parts)
        return list(part_rows(request, piece.parts, piece.groupings, aggregations))

    def _ask(self, request: SummaryRequest, piece: _Slice, counted: frozenset[PartName]) -> Json:
        """The aggregations of a slice, with the parts `counted` in its nodes."""
        labels_only = piece.parts == {PartName.LABELS}
        body: Json = {
            "size": 0,
            "track_total_hits": False,
            "query": within(request.model, piece.window, *([LABELLED] if labels_only else [])),
            "aggs": time_buckets(request, counted, piece.groupings, piece.partition),
        }
        index = self._names.predictions_over(piece.window)
        answer: Json = self._client.search(index, body, filter_path=filter_path()).get("aggregations", {})
        return answer


def _halves(piece: _Slice, bucket: Millis) -> list[_Slice]:
    start, end = piece.window
    middle = start + (end - start) // bucket // 2 * bucket
    return [replace(piece, window=Window(start, middle)), replace(piece, window=Window(middle, end))]


def _split(piece: _Slice, bucket: Millis) -> list[_Slice]:
    """Two smaller slices that make up this one: by time first, then by grouping, part and values. None: no
    way."""
    if piece.window.length > bucket:
        return _halves(piece, bucket)
    if len(piece.groupings) > 1:
        half = len(piece.groupings) // 2
        return [
            replace(piece, groupings=piece.groupings[:half]),
            replace(piece, groupings=piece.groupings[half:]),
        ]
    if len(piece.parts) > 1:
        first, *rest = sorted(piece.parts)
        return [replace(piece, parts=frozenset({first})), replace(piece, parts=frozenset(rest))]
    which, of = piece.partition
    if piece.groupings != ((),) and of < _MOST_PARTITIONS:  # hash mod n is one of two values mod 2n
        return [replace(piece, partition=(which, 2 * of)), replace(piece, partition=(which + of, 2 * of))]
    return []
