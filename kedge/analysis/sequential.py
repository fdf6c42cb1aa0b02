"""Two samples compared under any number of looks, from cumulated counts or moments alone.

Each arm has a mixture martingale: the likelihood of what it has seen under a prior around a supposed mean,
over that under the supposed mean itself. At the true mean it starts at 1 and grows above 1/alpha with
probability at most alpha, whenever and however often one looks (Ville). The arms are independent, so the
product of the two is such a martingale at the true pair of means; the least product on a line of pairs (`the
candidate is 1 point above the reference`) is evidence against that line, and against all that lies beyond it.
Nothing but sums since a fixed start enters: no look needs to know of another.

- Shares: the beta-binomial mixture, exact for any rate and any n (Robbins 1970; Howard, Ramdas, McAuliffe and
  Sekhon, arXiv 1810.08240; for logs of counts, Lindon and Malek, arXiv 2011.03567).
- Means: the normal mixture of the t statistic, exact for normal rows (Pérez-Ortiz et al., arXiv 2208.07610),
  for others as n grows (asymptotic confidence sequences, Waudby-Smith et al., arXiv 2103.06476). Long tails
  are slow to get there, so an arm whose largest row weighs too much is not `settled`.

The prior's width decides where the test is sharpest: SCALES are averaged, so that a difference is found soon
whether it is a fifth or a two-hundredth of the rows' standard deviation. Unlike an e-process against an
estimated reference, both arms' noise is in it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kedge.analysis.intervals import Interval
from kedge.sketch import Moments

Floats = NDArray[np.float64]
SCALES: Floats = np.array([30.0, 300.0, 3_000.0, 30_000.0])[:, None]
"""Rows that each prior is worth: its standard deviation is that of a row over the root of this."""
LARGEST_ROW = 0.1
"""Of the sum of squares, at most this may be one row's. Log-normal rows with sigma 1 get there at about 1,100
rows, with 0.5 at 150; without it, the evidence against the true means, sigma 1.5, crossed its 5 % level in
25 % of 400 runs of 300 looks, with it in 1.5 % (simulated; decisions: `bench/versions.py`)."""
_POINTS = 33
_HALVINGS = 24
_FARTHEST = 1e6


class Arm(Protocol):
    """What is known of the rows of one version."""

    @property
    def rows(self) -> float: ...

    @property
    def value(self) -> float: ...

    @property
    def error(self) -> float:
        """About the standard error; never 0, so that there is somewhere to look."""
        ...

    @property
    def domain(self) -> Interval:
        """Where the mean may lie."""
        ...

    @property
    def settled(self) -> bool: ...

    def log_mixture(self, mean: Floats) -> Floats:
        """Log of the martingale at each supposed mean, SCALES by means."""
        ...

    def times(self, factor: float) -> "Arm":
        """The same with so many times the rows."""
        ...


@dataclass(frozen=True)
class Share:
    """Successes among trials."""

    successes: float
    trials: float

    @property
    def rows(self) -> float:
        return self.trials

    @property
    def value(self) -> float:
        return self.successes / self.trials

    @property
    def error(self) -> float:
        p = (self.successes + 0.5) / (self.trials + 1)
        return math.sqrt(p * (1 - p) / self.trials)

    @property
    def domain(self) -> Interval:
        return (0.0, 1.0)

    @property
    def settled(self) -> bool:
        return True

    def log_mixture(self, mean: Floats) -> Floats:
        k, n = self.successes, self.trials
        inside = np.clip(mean, 1e-12, 1 - 1e-12)
        a, b = SCALES * inside, SCALES * (1 - inside)
        grown = special.betaln(a + k, b + n - k) - special.betaln(a, b)
        found: Floats = grown - k * np.log(inside) - (n - k) * np.log1p(-inside)
        return found

    def times(self, factor: float) -> "Share":
        return Share(self.successes * factor, self.trials * factor)


@dataclass(frozen=True)
class Average:
    """The mean of a column."""

    moments: Moments

    @property
    def rows(self) -> float:
        return self.moments.n

    @property
    def value(self) -> float:
        return self.moments.mean

    @property
    def error(self) -> float:
        return max(self.moments.stderr, 1e-12 * max(abs(self.value), 1.0))

    @property
    def domain(self) -> Interval:
        return (-math.inf, math.inf)

    @property
    def settled(self) -> bool:
        m = self.moments
        farthest = max(m.high - m.mean, m.mean - m.low)
        return m.n > 1 and farthest * farthest <= LARGEST_ROW * m.m2

    def log_mixture(self, mean: Floats) -> Floats:
        n, m2 = self.moments.n, max(self.moments.m2, 1e-300)
        away = n * (self.moments.mean - mean) ** 2
        spread = np.log(m2 + away) - np.log(m2 + away * SCALES / (n + SCALES))
        found: Floats = 0.5 * np.log(SCALES / (n + SCALES)) + n / 2 * spread
        return found

    def times(self, factor: float) -> "Average":
        m = self.moments
        return Average(Moments(max(round(m.n * factor), 1), m.mean, m.m2 * factor, m.low, m.high))


@dataclass(frozen=True)
class Pair:
    """A candidate beside its reference; `relative`: changes are counted in the reference's value, which is
    positive then.
    """

    candidate: Arm
    reference: Arm
    relative: bool = False

    @property
    def change(self) -> float:
        """Candidate less reference; inf where it is relative to nothing."""
        c, r = self.candidate.value, self.reference.value
        if not self.relative:
            return c - r
        return c / r - 1 if r > 0 else math.inf if c > 0 else 0.0

    def times(self, factor: float) -> "Pair":
        return Pair(self.candidate.times(factor), self.reference.times(factor), self.relative)

    def log_evidence(self, change: float) -> float:
        """Log of the evidence against the true change being just that; above log(1/alpha), at any look, it is
        refuted with an error of at most alpha. It grows with the distance from the change that was seen, so
        what refutes a change refutes all beyond it.
        """
        low, high = self._where(change)
        best = math.inf
        for _ in range(3):
            r = np.linspace(low, high, _POINTS)
            found = self._product(r, change)
            at = int(np.argmin(found))
            best = min(best, float(found[at]))
            low, high = float(r[max(at - 1, 0)]), float(r[min(at + 1, _POINTS - 1)])
        return best

    def _product(self, reference: Floats, change: float) -> Floats:
        candidate = reference * (1 + change) if self.relative else reference + change
        logs = self.candidate.log_mixture(candidate) + self.reference.log_mixture(reference)
        (c_low, c_high), (r_low, r_high) = self.candidate.domain, self.reference.domain
        possible = (candidate >= c_low) & (candidate <= c_high) & (reference >= r_low) & (reference <= r_high)
        top = logs.max(0)
        mixed = top + np.log(np.exp(logs - top).mean(0))
        return np.where(possible, mixed, np.inf)

    def _where(self, change: float) -> Interval:
        """Means of the reference among which the least evidence lies: from its own to the one that agrees
        with the candidate's, and a little around.
        """
        own, other = self.reference.value, self.candidate.value
        agreeing = other / max(1 + change, 1e-9) if self.relative else other - change
        around = 4 * (self.reference.error + self.candidate.error)
        low, high = min(own, agreeing) - around, max(own, agreeing) + around
        floor, ceiling = self.reference.domain
        if self.relative:
            floor = max(floor, 0.0)
        else:
            c_low, c_high = self.candidate.domain
            floor, ceiling = max(floor, c_low - change), min(ceiling, c_high - change)
        return min(max(low, floor), ceiling), max(min(high, ceiling), floor)

    def interval(self, alpha: float) -> Interval:
        """The changes that are not refuted: holds the true one at every look, with an error of at most
        alpha.
        """
        needed = -math.log(alpha)
        at, step = self.change, self.candidate.error + self.reference.error
        if self.relative:
            # Where the reference has none, begin at what half a row more would read.
            r = max(self.reference.value, self.reference.error)
            at, step = self.candidate.value / r - 1, step / r
        lowest = -1.0 if self.relative else -math.inf
        return (
            max(at - _reach(lambda d: self.log_evidence(at - d), needed, step, at - lowest), lowest),
            at + _reach(lambda d: self.log_evidence(at + d), needed, step, math.inf),
        )


def _reach(evidence: Callable[[float], float], needed: float, step: float, most: float) -> float:
    """The distance at which the evidence reaches what is needed; `most`, where it never does."""
    low, high = 0.0, step
    while high < most and evidence(high) < needed:
        if high > _FARTHEST * max(step, 1.0):
            return math.inf
        low, high = high, 2 * high
    high = min(high, most)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if evidence(middle) < needed:
            low = middle
        else:
            high = middle
    return high
