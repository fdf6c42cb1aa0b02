"""Count, mean, spread, minimum and maximum of a column of numbers, mergeable."""

import math
from collections.abc import Iterable
from typing import ClassVar, Self

import msgspec


class Moments(msgspec.Struct, frozen=True, gc=False):
    """`n` values with their `mean`, `m2` = sum of squared deviations from it, `low` and `high`.

    Merged by the pairwise update of Chan, Golub and LeVeque (1979), which keeps its digits where a difference
    of sums of squares would lose them. Windows are sums of thousands of these, and a frozen dataclass takes
    four times as long to make.
    """

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    ZERO: ClassVar["Moments"]

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Of finite values, in two passes."""
        column = list(values)
        if not column:
            return cls()
        mean = math.fsum(column) / len(column)
        return cls(len(column), mean, math.fsum((v - mean) ** 2 for v in column), min(column), max(column))

    def __add__(self, other: "Moments") -> "Moments":
        if not self.n:
            return other
        if not other.n:
            return self
        n = self.n + other.n
        delta = other.mean - self.mean
        mean = self.mean + delta * other.n / n
        m2 = self.m2 + other.m2 + delta * delta * self.n * other.n / n
        return Moments(n, mean, m2, min(self.low, other.low), max(self.high, other.high))

    def __neg__(self) -> "Moments":
        """Of the same values with the other sign."""
        return Moments(self.n, -self.mean, self.m2, -self.high, -self.low) if self.n else self

    @property
    def total(self) -> float:
        return self.mean * self.n

    @property
    def variance(self) -> float:
        """Of the sample (n - 1); nan under two values."""
        return self.m2 / (self.n - 1) if self.n > 1 else math.nan

    @property
    def std(self) -> float:
        return math.sqrt(self.variance) if self.n > 1 else math.nan

    @property
    def stderr(self) -> float:
        """Of the mean; nan under two values."""
        return self.std / math.sqrt(self.n) if self.n > 1 else math.nan


Moments.ZERO = Moments()
