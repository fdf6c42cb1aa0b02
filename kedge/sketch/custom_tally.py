"""Counting a batch of rows for users' own metrics, for all buckets and groups of it at once. Numpy only."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from kedge.record_table import Texts
from kedge.sketch.custom import MOST_DISTINCT, Counted, Custom, Distinct, Tally, What, hash_of, no_cells
from kedge.sketch.moments import Moments
from kedge.sketch.tally import Floats, Mask, Segments
from kedge.sketch.where import And, Begins, Between, Exists, Is, Kind, Not, Or, Where, kind_of


class Columns(Protocol):
    """A batch's fields, by their names in filters; one that no row has is missing in every row."""

    def text(self, field: str) -> Texts: ...

    def number(self, field: str) -> Floats:
        """nan where missing."""
        ...

    def __len__(self) -> int:
        """Rows."""
        ...


class CustomCounter:
    """Counts the rows of a batch; made once for it, used for each of its groupings."""

    def __init__(self, counted: Sequence[Counted], columns: Columns) -> None:
        self._columns = columns
        self._counted = {one.key: one for one in counted}
        self._masks: dict[str, Mask] = {}

    def parts(self, segments: Segments) -> list[Custom]:
        """The custom part of each segment."""
        found: list[dict[str, Tally]] = [{} for _ in range(segments.size)]
        for key, one in self._counted.items():
            mask = self._mask(one.where)[segments.rows]
            rows = segments.total(mask).tolist()
            tally = self._tallies(one, mask, segments)
            for held, n, of in zip(found, rows, tally, strict=True):
                if n:
                    held[key] = Tally(n, *of)
        return [Custom(held) for held in found]

    def _tallies(self, one: Counted, mask: Mask, segments: Segments) -> list[tuple[Any, ...]]:
        """What a Tally holds besides its rows, of each segment."""
        match one.what:
            case What.ROWS:
                return [()] * segments.size
            case What.DISTINCT:
                return [(Moments.ZERO, no_cells(), d) for d in self._distinct(one.field, mask, segments)]
        values = np.where(mask, self._columns.number(one.field)[segments.rows], np.float32(np.nan))
        moments = [of[0] for of in segments.moments(values[:, None])]
        if one.what is What.VALUES:
            return [(m,) for m in moments]
        cells = segments.on_scale(one.scale, values)
        return list(zip(moments, cells, strict=True))

    def _distinct(self, field: str, mask: Mask, segments: Segments) -> list[Distinct]:
        texts = _texts_of(self._columns, field)
        codes = texts.codes[segments.rows]
        held = mask & (codes >= 0)
        span = max(len(texts.values), 1)
        pairs = np.unique(segments.of[held].astype(np.int64) * span + codes[held])
        of, code = pairs // span, pairs % span
        bounds = np.searchsorted(of, np.arange(segments.size + 1)).tolist()
        distinct = []
        for start, end in pairwise(bounds):
            if end - start > MOST_DISTINCT:
                distinct.append(Distinct(more=True))
            else:
                distinct.append(Distinct(frozenset(hash_of(texts.values[c]) for c in code[start:end])))
        return distinct

    def _mask(self, where: Where | None) -> Mask:
        """Which of the batch's rows a filter lets through."""
        if where is None:
            return np.ones(len(self._columns), np.bool_)
        name = str(where)
        if name not in self._masks:
            self._masks[name] = self._decide(where)
        return self._masks[name]

    def _decide(self, where: Where) -> Mask:
        match where:
            case And(of):
                every: Mask = np.all([self._mask(one) for one in of], axis=0)
                return every
            case Or(of):
                either: Mask = np.any([self._mask(one) for one in of], axis=0)
                return either
            case Not(one):
                return ~self._mask(one)
            case Is(field, value):
                return _chosen(self._columns.text(field), lambda text: text == value)
            case Begins(field, stem):
                return _chosen(self._columns.text(field), lambda text: text.startswith(stem))
            case Between(field, low, high):
                values = self._columns.number(field)
                mask = ~np.isnan(values)
                if low is not None:
                    mask &= values >= np.float32(low)
                if high is not None:
                    mask &= values < np.float32(high)
                return mask
            case Exists(field):
                if kind_of(field) is Kind.NUMBER:
                    return ~np.isnan(self._columns.number(field))
                return self._columns.text(field).codes >= 0


def number_text(value: float) -> str:
    """By which different numbers are told apart: as float32, and -0 is 0."""
    return repr(float(np.float32(value)) + 0.0)


def _texts_of(columns: Columns, field: str) -> Texts:
    """A field's values as text; a number's too."""
    if kind_of(field) is Kind.TEXT:
        return columns.text(field)
    values = columns.number(field)
    held = ~np.isnan(values)
    found, codes = np.unique(values[held], return_inverse=True)
    every = np.full(len(values), -1, np.int32)
    every[held] = codes
    return Texts(every, [number_text(v) for v in found.tolist()])


def _chosen(texts: Texts, is_wanted: Callable[[str], bool]) -> Mask:
    # Code -1, which is missing, takes the last.
    return np.array([*map(is_wanted, texts.values), False], np.bool_)[texts.codes]
