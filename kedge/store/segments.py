"""Which bucket and group each row of a batch is in."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kedge.errors import TooManyGroups
from kedge.record_table import Texts
from kedge.sketch.tally import Segments
from kedge.store.base import MOST_GROUPS, OTHER, Group, Grouping, SummaryRequest
from kedge.windows import Millis


class Grouper:
    """Of one batch."""

    def __init__(self, request: SummaryRequest, dimension: Callable[[str], Texts], buckets: Any) -> None:
        """`dimension` gives the rows' values of one; `buckets` is when the bucket of each row begins."""
        self._request = request
        self._dimension = dimension
        self._buckets = buckets

    def segments(self, grouping: Grouping) -> tuple[Segments, list[tuple[Millis, Group]]]:
        """Number the (bucket, group) pairs that occur; rows without one of the dimensions are in none."""
        columns = [self._column(name) for name in grouping]
        rows: Any = slice(None)
        if columns:
            rows = np.flatnonzero(np.logical_and.reduce([c.codes >= 0 for c in columns]))
            if not len(rows):
                return Segments(np.zeros(0, np.int64), 0, rows), []
        starts, of = _numbered(self._buckets[rows])
        index = of
        for name, column in zip(grouping, columns, strict=True):
            self._listed(name, column, rows, of)
            # Renumber after each dimension: a product of all their sizes could overflow.
            pairs = index * len(column.values) + column.codes[rows]
            _, index = np.unique(pairs, return_inverse=True)
        if columns or len(starts) > 1:
            numbers, first = np.unique(index, return_index=True)
        else:
            numbers = first = np.zeros(1, np.int64)
        keys = []
        for i in first.tolist():
            row = i if isinstance(rows, slice) else int(rows[i])
            values = [column.values[column.codes[row]] for column in columns]
            keys.append((int(starts[of[i]]), tuple(sorted(zip(grouping, values, strict=True)))))
        return Segments(index, len(numbers), rows), keys

    def _column(self, name: str) -> Texts:
        """A dimension's group in each row: its value, or OTHER beyond its list."""
        column, known = self._dimension(name), self._request.known.get(name)
        if known is None:
            return column
        kept = [value for value in column.values if value in known and value != OTHER]
        place = {value: i for i, value in enumerate(kept)}
        codes = [place.get(value, len(kept)) for value in column.values]
        missing = -1  # which is the code that it has, and so takes the last
        return Texts(np.array([*codes, missing], np.int32)[column.codes], [*kept, OTHER])

    def _listed(self, name: str, column: Texts, rows: Any, buckets: Any) -> None:
        """Raises TooManyGroups where a bucket has more values of a dimension than the contract lists."""
        if len(column.values) <= MOST_GROUPS or name in self._request.known:
            return
        pairs, counts = np.unique(buckets * len(column.values) + column.codes[rows], return_counts=True)
        at = pairs // len(column.values)
        sizes = np.bincount(at)
        fullest = int(sizes.argmax())
        if sizes[fullest] > MOST_GROUPS:
            inside = at == fullest
            ranked = pairs[inside][np.argsort(-counts[inside], kind="stable")][:MOST_GROUPS]
            raise TooManyGroups(
                f"model {self._request.model}: a bucket has more than {MOST_GROUPS} values of {name}: "
                "group by a coarser dimension",
                name,
                tuple(column.values[pair % len(column.values)] for pair in ranked.tolist()),
            )


def _numbered(buckets: Any) -> tuple[Any, Any]:
    """The buckets that occur, and of each row the number of its own."""
    if buckets[0] == buckets[-1] and (buckets == buckets[0]).all():
        return buckets[:1], np.zeros(len(buckets), np.int64)
    return np.unique(buckets, return_inverse=True)
