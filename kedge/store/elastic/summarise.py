"""Summaries computed inside the server, in requests that its bucket limit allows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

from kedge.errors import TooManyBuckets
from kedge.sketch import VALUE, Cells, EdgeSet, PartName
from kedge.store.base import Grouping, Json, PartRow, SummaryKey, SummaryRequest
from kedge.store.elastic.aggregations import cost, filter_path, time_buckets
from kedge.store.elastic.client import SEARCHES, Client
from kedge.store.elastic.operations import Search
from kedge.store.elastic.parse import nodes_per_bucket, part_rows
from kedge.store.elastic.place import Place
from kedge.windows import HOUR, Millis, Window

_GROUPS_GUESS = 4
"""Groups of a grouping in one bucket of time, for requests so small that counting them first would not
pay."""
_MOST_PARTITIONS = 256
_MOST_AT_ONCE = 250_000
"""Buckets in one answer to many searches, about 10 MB of it."""

_FEATURES_AT_ONCE = 5
"""Features whose cells one search of a long bucket counts. Twenty `range` aggregations in one search take
more than twice the time that they take five by five; and searches run beside each other, also on one
segment."""

_Shape = list[tuple[Millis, int]]
"""Buckets of time that have rows, and how many nodes each holds."""


@dataclass(frozen=True)
class _Slice:
    """What one search asks for."""

    window: Window
    parts: frozenset[PartName]
    groupings: tuple[Grouping, ...]
    partition: tuple[int, int] = (0, 1)
    features: tuple[str, ...] | None = None
    """Of the cells part, where it is counted apart from the others and feature by feature."""

    def of(self, request: SummaryRequest) -> SummaryRequest:
        """The request with no more edges than this counts."""
        if self.features is None or request.edges is None:
            return request
        features = {name: request.edges.features[name] for name in self.features if name != VALUE}
        value = request.edges.value if VALUE in self.features else None
        return replace(request, edges=EdgeSet(features, value))


class _Piece(NamedTuple):
    """A slice, the number of the request that it is of, and about how many buckets its answer makes."""

    of: int
    slice: _Slice
    size: int


class Summariser:
    """`LogStore.summarise` and `summarise_many`."""

    def __init__(self, client: Client, place: Place) -> None:
        self._client = client
        self._place = place

    def summarise(self, request: SummaryRequest) -> list[PartRow]:
        return self.summarise_many([request])[0]

    def summarise_many(self, requests: Sequence[SummaryRequest]) -> list[list[PartRow]]:
        """A search for each request, or for each piece that the server's limit cuts it into, many at once.

        Memory is that of the rows, and of the answers to one request of `search_many`.
        """
        rows: list[list[PartRow]] = [[] for _ in requests]
        left = self._cut(requests)
        while left:
            some, left = _first(left)
            for piece, answer in zip(some, self._ask(requests, some), strict=True):
                request = piece.slice.of(requests[piece.of])
                if isinstance(answer, TooManyBuckets):
                    smaller = _split(piece.slice, request.bucket)
                    if not smaller:
                        raise answer
                    left += [_Piece(piece.of, part, self._most) for part in smaller]
                else:
                    rows[piece.of] += part_rows(request, piece.slice.parts, piece.slice.groupings, answer)
        return [_whole(request, found) for request, found in zip(requests, rows, strict=True)]

    def _cut(self, requests: Sequence[SummaryRequest]) -> list[_Piece]:
        """Runs of buckets that make about half of the buckets that the server allows in one answer."""
        pieces: list[_Piece] = []
        long: list[_Piece] = []
        for i, request in enumerate(requests):
            parts = request.parts if request.edges is not None else request.parts - {PartName.CELLS}
            parts = parts if request.custom else parts - {PartName.CUSTOM}
            if not parts or not request.groupings:
                continue
            whole = _Slice(request.window, parts, tuple(dict.fromkeys(request.groupings)))
            guess = sum(_GROUPS_GUESS if grouping else 1 for grouping in whole.groupings)
            nodes = request.window.length // request.bucket * guess
            size = nodes * cost(request, parts)
            if size > self._most:
                long.append(_Piece(i, whole, size))
            else:
                pieces += [_Piece(i, part, size) for part in _beside(whole, request)]
        for piece, shape in zip(long, self._shapes(requests, long), strict=True):
            runs = self._runs(requests[piece.of], piece.slice, shape)
            pieces += [
                _Piece(piece.of, part, self._most)
                for run in runs
                for part in _beside(run, requests[piece.of])
            ]
        return pieces

    @property
    def _most(self) -> int:
        return self._client.max_buckets // 2

    def _runs(self, request: SummaryRequest, whole: _Slice, shape: _Shape) -> Iterator[_Slice]:
        each = cost(request, whole.parts)
        start: Millis | None = None
        end = made = 0
        for bucket, nodes in sorted(shape):
            if start is not None and made + nodes * each > self._most:
                yield replace(whole, window=Window(start, end))
                start = None
            if start is None:
                start, made = bucket, 0
            made += nodes * each
            end = bucket + request.bucket
        if start is not None:
            yield replace(whole, window=Window(start, end))

    def _shapes(self, requests: Sequence[SummaryRequest], pieces: Sequence[_Piece]) -> list[_Shape]:
        """The buckets of time that have rows, and how many groups are in each: cheap, with nothing
        counted."""
        shapes: list[_Shape] = [[] for _ in pieces]
        left = list(enumerate(pieces))
        while left:
            some, left = left[:SEARCHES], left[SEARCHES:]
            answers = self._ask(requests, [piece for _, piece in some], counted=False)
            for (i, piece), answer in zip(some, answers, strict=True):
                bucket = requests[piece.of].bucket
                if not isinstance(answer, TooManyBuckets):
                    shapes[i] += nodes_per_bucket(requests[piece.of], piece.slice.groupings, answer)
                elif piece.slice.window.length <= bucket:
                    shapes[i].append((piece.slice.window.start, self._client.max_buckets))
                else:
                    left += [(i, piece._replace(slice=half)) for half in _halves(piece.slice, bucket)]
        return shapes

    def _ask(
        self, requests: Sequence[SummaryRequest], pieces: Sequence[_Piece], *, counted: bool = True
    ) -> list[Json | TooManyBuckets]:
        """The aggregations of each piece, with its parts in its nodes if they are to be counted."""
        searches = [
            self._search(piece.of(requests[of]), piece, piece.parts if counted else frozenset())
            for of, piece, _ in pieces
        ]
        answers = self._client.search_many(searches, filter_path=filter_path())
        return [
            a if isinstance(a, TooManyBuckets) else self._place.read(a.get("aggregations", {}))
            for a in answers
        ]

    def _search(self, request: SummaryRequest, piece: _Slice, counted: frozenset[PartName]) -> Search:
        labelled = self._place.labelled if piece.parts == {PartName.LABELS} else None
        body: Json = {
            "size": 0,
            "track_total_hits": False,
            "query": self._place.rows(request.model, piece.window, *([labelled] if labelled else [])),
            "aggs": time_buckets(self._place, request, counted, piece.groupings, piece.partition),
        }
        return Search.of(self._place.over(piece.window), body, self._place.wildcards)


def _first(pieces: list[_Piece]) -> tuple[list[_Piece], list[_Piece]]:
    """Those of the next request of many, and the others."""
    size = 0
    for i, piece in enumerate(pieces[:SEARCHES]):
        size += piece.size
        if i and size > _MOST_AT_ONCE:
            return pieces[:i], pieces[i:]
    return pieces[:SEARCHES], pieces[SEARCHES:]


def _beside(whole: _Slice, request: SummaryRequest) -> list[_Slice]:
    """The cells of a few features at a time, to be counted beside each other, where buckets are long: a
    reference, a day that is counted again. A minute's rows are counted in less time than a search takes."""
    edges = request.edges
    if PartName.CELLS not in whole.parts or request.bucket < HOUR or edges is None:
        return [whole]
    names = [*edges.counted_numeric, *edges.categorical]
    if len(names) <= _FEATURES_AT_ONCE:
        return [whole]
    others = whole.parts - {PartName.CELLS}
    cells = replace(whole, parts=frozenset({PartName.CELLS}))
    return [
        *([replace(whole, parts=others)] if others else []),
        *(
            replace(cells, features=tuple(names[i : i + _FEATURES_AT_ONCE]))
            for i in range(0, len(names), _FEATURES_AT_ONCE)
        ),
    ]


def _whole(request: SummaryRequest, rows: list[PartRow]) -> list[PartRow]:
    """With the cells of all features in one row, where they were counted by several searches.

    Rows may arrive between two of them: the row then bears the lowest version, so that the next count of
    that bucket takes its place, and is left out where some features have none of its rows.
    """
    edges = request.edges
    if edges is None:
        return rows
    found: dict[SummaryKey, dict[str, PartRow]] = {}
    whole = []
    for row in rows:
        if isinstance(row.part, Cells) and row.key.edges != edges.hash:
            key = row.key._replace(edges=edges.hash)
            found.setdefault(key, {}).update(dict.fromkeys(row.part.features, row))
        else:
            whole.append(row)
    for key, of in found.items():
        if len(of) == len(edges.counted):
            cells = {name: cast(Cells, of[name].part).features[name] for name in edges.counted}
            whole.append(PartRow(key, min(row.version for row in of.values()), Cells(cells)))
    return whole


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
