"""Users' own metrics: what is counted for them of the rows that a filter lets through, mergeable.

A `Counted` says what; its `key` is made of its content, so that a metric that is defined anew, or renamed,
shares nothing with its past but what is still the same. A `Custom` part holds a `Tally` by such keys. A
bucket's part is computed for one set of them (`definitions_key`), and parts of different sets never add.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from kedge.sketch.moments import Moments
from kedge.sketch.parts import Cells, Core, Labels, Part
from kedge.sketch.scale import LATENCY, Counts, LogScale
from kedge.sketch.where import Where

VALUES = LogScale(low=1e-6, ratio=1.1, cells=363)
"""Of any number but latency: 0.000001 to about 10^9 in cells 10 % wide, so quantiles are within 5 %. Zero and
what is negative is *below*."""
MOST_DISTINCT = 1_000
"""Different values that are told apart; of more it is only known that there are more."""


class What(StrEnum):
    """What is kept of the rows that count."""

    ROWS = "rows"
    VALUES = "values"
    CELLS = "cells"
    DISTINCT = "distinct"


@dataclass(frozen=True)
class Counted:
    """One thing to count: of the rows that `where` lets through (None: all), what of `field`."""

    what: What
    field: str = ""
    """Empty for rows."""
    where: Where | None = None

    @cached_property
    def key(self) -> str:
        said = "\x1f".join((self.what, self.field, "" if self.where is None else str(self.where)))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def scale(self) -> LogScale:
        """That its cells are on."""
        return LATENCY if self.field == "latency_ms" else VALUES


def definitions_key(counted: Sequence[Counted]) -> str:
    """Names a set of them; empty for none."""
    keys = ",".join(sorted({one.key for one in counted}))
    return hashlib.sha256(keys.encode()).hexdigest()[:32] if keys else ""


def no_cells() -> Counts:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Distinct:
    """Different values, as 64-bit hashes of their text: exact up to MOST_DISTINCT of them (two values share a
    hash once in 10^13 sets of that size); of more only that there are more, and nothing of which."""

    hashes: frozenset[int] = frozenset()
    more: bool = False

    @classmethod
    def of(cls, hashes: frozenset[int], *, more: bool = False) -> "Distinct":
        return cls(frozenset(), True) if more or len(hashes) > MOST_DISTINCT else cls(hashes)

    def __add__(self, other: "Distinct") -> "Distinct":
        return Distinct.of(self.hashes | other.hashes, more=self.more or other.more)


def hash_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True, eq=False)
class Tally(Part):
    """What was counted for one `Counted`."""

    rows: int = 0
    """That the filter let through."""
    values: Moments = Moments.ZERO
    """Of the field's values in them, for VALUES and CELLS."""
    cells: Counts = field(default_factory=no_cells)
    """The same by cell, for CELLS; else of length 0."""
    distinct: Distinct = Distinct()


@dataclass(frozen=True, eq=False)
class Custom(Part):
    """By key of a `Counted`: its tally; those that no row counts for are left out."""

    tallies: dict[str, Tally] = field(default_factory=dict)


AnyPart = Core | Cells | Labels | Custom
