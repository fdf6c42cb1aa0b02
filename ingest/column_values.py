"""The columns of a file as records hold their values: what `values` says, for Arrow arrays."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.content import fast_list
from ingest.reading import NotPlain, Reading, category, told
from ingest.tables import Cells
from ingest.values import EARLIEST, EXACT_INTEGER, MAX_AHEAD, MAX_ID
from ingest.wire import Place
from kedge.record_table import Floats, Mask, Texts, Times
from kedge.windows import SECOND, Millis

_RFC3339 = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?(Z|[+-][0-9]{2}:[0-9]{2})?$"
)


class ArrowReading(Reading):
    """Of a file's columns."""

    columns: Mapping[Place, pa.Array]

    def __init__(self, columns: Mapping[Place, pa.Array], count: int, now: Millis) -> None:
        super().__init__(columns, count, now)

    def times(self, place: Place, *, needed: bool = True) -> Times:
        column = self.columns.get(place)
        if column is None:
            raise NotPlain
        kind = column.type
        known = ~_nulls(column)
        if pa.types.is_string(kind):
            times, fits = _parsed(column)
            known_fits = fits | ~known
        elif pa.types.is_floating(kind):
            given = _to_floats(column)
            finite = np.isfinite(given) & (np.abs(given) < 2.0**53)
            given = np.where(finite, given, 0.0)
            with np.errstate(over="ignore"):
                times = np.where(np.abs(given) < 1e11, np.rint(given * SECOND), np.rint(given)).astype(
                    np.int64
                )
            known_fits = finite | ~known
        elif pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
            given = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
            small = (given > -(10**11)) & (given < 10**11)
            times = np.where(small, given * SECOND, given)
            known_fits = np.ones(self.count, np.bool_)
        else:
            raise NotPlain
        self.plain &= known_fits
        fine = (times >= EARLIEST) & (times <= self._now + MAX_AHEAD)
        self.plain &= fine & known if needed else fine | ~known
        return np.where(known, times, -1)

    def ids(self) -> list[str]:
        column = self.columns[Place("id")]
        kind = column.type
        if pa.types.is_integer(kind):
            column = column.cast(pa.string())
        elif pa.types.is_dictionary(kind):
            column = column.dictionary_decode()
        elif not pa.types.is_string(kind):
            raise NotPlain
        sizes = pc.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        self.plain &= (sizes > 0) & (sizes <= MAX_ID)
        return [id or "" for id in fast_list(column)]

    def texts(self, place: Place, said: Callable[[Any], str | None]) -> Texts | None:
        column = self.columns.get(place)
        if column is None:
            return None
        kind = column.type
        if pa.types.is_null(kind):
            return Texts(np.full(self.count, -1, np.int32), ())
        if not pa.types.is_dictionary(kind):
            simple = (pa.types.is_string, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
            if not any(is_kind(kind) for is_kind in simple):
                raise NotPlain
            column = column.dictionary_encode()
        codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        lookup, values = told(fast_list(column.dictionary), said)
        return self._texts(np.array([*lookup, -1], np.int32)[codes], values)

    def floats(self, place: Place) -> Floats | None:
        column = self.columns.get(place)
        return None if column is None else _to_floats(column)

    def numeric(self, place: Place) -> bool:
        kind = self.columns[place].type
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))

    def exact(self, place: Place) -> Floats | None:
        given = self.floats(place)
        if given is None:
            return None
        with np.errstate(invalid="ignore"):
            fine = np.isfinite(given)
            if pa.types.is_integer(self.columns[place].type):
                fine &= np.abs(given) < EXACT_INTEGER
        self.plain &= np.isnan(given) | fine
        return given

    def feature(self, place: Place, num: dict[str, Floats], cat: dict[str, Texts]) -> None:
        """By the column's type."""
        if pa.types.is_null(self.columns[place].type):
            return
        if self.numeric(place):
            num[place.key] = self.measurements(place)
        else:
            cat[place.key] = self.need(self.texts(place, category))


def array_of(cells: Cells) -> pa.Array:
    """A column of few types, whose texts are Unicode; raises NotPlain."""
    if isinstance(cells, list):
        raise NotPlain
    try:
        if pa.types.is_binary(cells.type) or pa.types.is_large_binary(cells.type):
            return cells.cast(pa.string())
        if pa.types.is_large_string(cells.type):
            cells = cells.cast(pa.string())
        texts = cells.dictionary if pa.types.is_dictionary(cells.type) else cells
        if pa.types.is_string(texts.type):
            texts.validate(full=True)
    except pa.ArrowInvalid:
        raise NotPlain from None
    return cells


def _nulls(column: pa.Array) -> Mask:
    if not column.null_count:
        return np.zeros(len(column), np.bool_)
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False), np.bool_)


def _to_floats(column: pa.Array) -> Floats:
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise NotPlain
    if not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False).astype(np.float64), np.float64)
    held = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64)
    held[_nulls(column)] = np.nan
    return np.asarray(held, np.float64)


def _parsed(column: pa.Array) -> tuple[Times, Mask]:
    """Times written in the usual form; the others are left to windows.parse_time."""
    matching = pc.match_substring_regex(column, _RFC3339).fill_null(False)
    fits = np.asarray(matching.to_numpy(zero_copy_only=False), np.bool_)
    usual = pc.if_else(matching, column, "2000-01-01T00:00:00Z")
    # Arrow takes either all with a zone or all without.
    zoned = pc.match_substring_regex(usual, r"(Z|[+-][0-9]{2}:[0-9]{2})$")
    usual = pc.if_else(zoned, usual, pc.binary_join_element_wise(usual, "Z", ""))
    try:
        times = usual.cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
    except pa.ArrowInvalid:
        raise NotPlain from None
    return times.to_numpy(zero_copy_only=False), fits
