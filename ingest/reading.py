"""Whole columns as records hold their values, and which rows are not plainly fine: `values` for columns.

What is asked of columns wherever they come from; `column_values` answers it for a file, `wire_columns` for a
request.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.values import MAX_TEXT, text
from ingest.wire import Place
from kedge.errors import BadInput
from kedge.record_table import Floats, Mask, Texts, Times, listed
from kedge.records import FLOAT32_MAX
from kedge.windows import Millis


class NotPlain(Exception):
    """These columns are for the row path."""


class Reading(ABC):
    """Some rows' columns as values; `plain` loses the rows that one of them is not plainly fine for.

    Every method takes the place of a column; one that may be None is None where there is no such column.
    """

    def __init__(self, columns: Collection[Place], count: int, now: Millis) -> None:
        self.columns = columns
        self.count = count
        self.plain: Mask = np.ones(count, np.bool_)
        self._now = now

    @staticmethod
    def need(texts: Texts | None) -> Texts:
        assert texts is not None  # noqa: S101 - asked for a column that is there
        return texts

    @abstractmethod
    def times(self, place: Place, *, needed: bool = True) -> Times:
        """Times as values.time_of reads them; -1 where there is none, which is not plain if one is needed."""

    @abstractmethod
    def ids(self) -> list[str]:
        """Each row's own id."""

    @abstractmethod
    def texts(self, place: Place, said: Callable[[Any], str | None]) -> Texts | None:
        """A column by a function of its values; where that raises BadInput the row is not plain."""

    @abstractmethod
    def floats(self, place: Place) -> Floats | None:
        """Numbers as float64; NaN is missing. Integers too large to be exact are rounded."""

    @abstractmethod
    def numeric(self, place: Place) -> bool:
        """Whether a column that is there holds numbers alone. Raises NotPlain where some rows do."""

    @abstractmethod
    def exact(self, place: Place) -> Floats | None:
        """Numbers that must be finite, and integers that must be exact (values.number)."""

    @abstractmethod
    def feature(self, place: Place, num: dict[str, Floats], cat: dict[str, Texts]) -> None:
        """Into one of the two (enrich._features)."""

    def entropies(self, probabilities: Mapping[str, Floats]) -> Floats | None:
        """enrich._entropy, to the last bit: numpy's logarithm may differ from the C library's in it."""
        if not probabilities:
            return None
        log = math.log
        if len(probabilities) == 2:
            first, second = probabilities.values()
            inside = (first > 0.0) & (second > 0.0)
            if inside.all():
                pairs = zip(first.tolist(), second.tolist(), strict=True)
                return np.array([-(p * log(p) + q * log(q)) + 0.0 for p, q in pairs], np.float64)
        rows = zip(*(listed(column, self.count) for column in probabilities.values()), strict=True)
        return np.array([entropy([p for p in row if p is not None]) for row in rows], np.float64)

    def near_entropies(self, probabilities: Mapping[str, Floats]) -> Floats | None:
        """The same by numpy's logarithm, which may differ in the last bit, in a twentieth of the time: for
        rows that are counted and not kept.
        """
        if not probabilities:
            return None
        known, total = np.zeros(self.count, np.int64), np.zeros(self.count)
        alone = np.zeros(self.count)
        for column in probabilities.values():
            held = ~np.isnan(column)
            known += held
            alone = np.where(held, column, alone)
            total += _surprise(np.where(held, column, 0.0))
        total += np.where(known == 1, _surprise(1.0 - alone), 0.0)
        return np.where(known > 0, total + 0.0, math.nan)

    def _texts(self, codes: NDArray[np.int32], values: list[str]) -> Texts:
        """The codes of `told`, one each row."""
        self.plain &= codes != REFUSED
        return Texts(np.maximum(codes, -1), values)

    def known(self, place: Place) -> Floats:
        """The numbers of a column that is there."""
        given = self.floats(place)
        assert given is not None  # noqa: S101 - asked for a column that is there
        return given

    def not_negative(self, place: Place, default: Floats | None) -> Floats | None:
        given = self.floats(place)
        if given is None:
            return default
        self.plain &= np.isnan(given) | ((given >= 0.0) & (given < math.inf))
        return given if default is None else np.where(np.isnan(given), default, given)

    def probabilities(self, place: Place) -> Floats:
        given = self.known(place)
        self.plain &= np.isnan(given) | ((given >= 0.0) & (given <= 1.0))
        return given

    def measurements(self, place: Place) -> Floats:
        """Numbers that a float32 can hold; others are missing."""
        given = self.known(place)
        with np.errstate(invalid="ignore"):
            return np.where(np.abs(given) <= FLOAT32_MAX, given, np.nan)


def _surprise(p: Floats) -> Floats:
    """-p log p; none of what is no probability, whose row is not plain."""
    inside = (p > 0.0) & (p <= 1.0)
    return np.where(inside, -p * np.log(np.where(inside, p, 1.0)), 0.0)


REFUSED = -2


def told(distinct: Iterable[Any], said: Callable[[Any], str | None]) -> tuple[list[int], list[str]]:
    """A code for each of the distinct values, and the texts that these are of: -1 is none, REFUSED none
    that is fine."""
    values: dict[str, int] = {}
    codes: list[int] = []
    for value in distinct:
        try:
            text = None if value is None else said(value)
        except BadInput:
            codes.append(REFUSED)
            continue
        codes.append(-1 if text is None else values.setdefault(text, len(values)))
    return codes, list(values)


def entropy(known: list[float]) -> float:
    """Of one row's probabilities, summed in their order; NaN where it has none."""
    if not known:
        return math.nan
    if len(known) == 1:
        known.append(1.0 - known[0])
    return -sum([p * math.log(p) for p in known if p > 0.0]) + 0.0


def category(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value.isascii() and len(value) <= MAX_TEXT:
        return str(value)
    return text(value, "features") or ""


def string_of(value: Any) -> str:
    if not isinstance(value, str):
        raise BadInput("expected text")
    return value
