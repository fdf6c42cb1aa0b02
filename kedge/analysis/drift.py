"""How far the features moved from a reference: effect sizes, and the tolerance test that decides.

Everything is computed from counts over the same frozen cells, for all features at once as one features x
cells matrix: a_i of the reference (sum m), b_i of the window (sum n), *below*, *above*, *missing*, *other*
and *unseen* among the cells. Verdicts are those of population resemblance (arXiv 2307.11878): drifted means
that the shift is credibly more than the tolerance, so that a harmless one alarms at most alpha of the time at
any n.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge.analysis.divergence import (
    effect_terms,
    effective_cells,
    homogeneity,
    jensen_shannon,
    kolmogorov_smirnov,
    matrix_of,
    rare_together,
    smoothed,
    stability_index,
)
from kedge.analysis.metric import Verdict
from kedge.analysis.resemblance import rows_needed, tolerance_test
from kedge.errors import BadInput
from kedge.sketch import Cells, EdgeSet

TOLERANCE = 0.05
"""The effect D that is harmless, unless said; PSI reads about the same there."""
ALPHA = 0.001
MOVED_CELLS = 3
RESTLESS = "restless: normally exceeds the tolerance"
RARE = "rare or unseen"
"""What *other* is called once the values that the reference has hardly seen are counted with it."""


@dataclass(frozen=True)
class DriftSettings:
    """What counts as drift."""

    tolerance: float = TOLERANCE
    """The effect D that is still harmless."""
    alpha: float = ALPHA
    """The chance that one look at a harmless feature alarms."""
    phi: Mapping[str, float] = field(default_factory=dict)
    """By feature: the variance between windows of its reference over that of independent rows (see
    `dispersion`); 1 for those not named. The test counts 1 / phi of the rows, the effect is reported
    undivided."""
    borrowed: frozenset[str] = frozenset()
    """Features whose phi is of another window length, or unknown: what is found of them reaches `medium` at
    most."""
    restless: frozenset[str] = frozenset()
    """Features that exceed the tolerance in normal times (see there): shown, and never evidence that
    something changed."""

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 4:
            raise BadInput(f"a drift tolerance is between 0 and 4, not {self.tolerance:g}")
        if not 0 < self.alpha < 0.5:
            raise BadInput(f"alpha is between 0 and 0.5, not {self.alpha:g}")
        for feature, phi in self.phi.items():
            if not (phi >= 1 and math.isfinite(phi)):
                raise BadInput(f"the dispersion of {feature} is at least 1, not {phi:g}")


class MovedCell(NamedTuple):
    """A cell and its shares of the rows."""

    name: str
    reference: float
    window: float

    def __str__(self) -> str:
        return f"{self.name} {_percent(self.reference)} → {_percent(self.window)}"


@dataclass(frozen=True)
class FeatureDrift:
    """One feature of a window against its reference."""

    feature: str
    n: int
    """Rows in the window."""
    m: int
    """Rows in the reference."""
    cells: int
    """Cells that hold rows of either: k'."""
    effect: float
    """D = 2 sum (p - q)^2 / (p + q) on raw shares, in [0, 4]."""
    psi: float
    """On shares smoothed by half a count."""
    psi_expected: float
    """Its mean where nothing drifted and rows are independent: (k - 1)(1/n + 1/m)."""
    js: float
    """Distance, base 2, in [0, 1], on the smoothed shares."""
    ks: float | None
    """Largest gap of the distribution functions at an edge, of the values present; None for categories."""
    ks_most: float | None
    """The gap of the values themselves is between `ks` and this."""
    chi2: float
    """Homogeneity form, `cells` - 1 degrees of freedom."""
    cramers_v: float
    p_value: float
    """Of the hypothesis that the shift is at most the tolerance."""
    verdict: Verdict
    tolerance: float
    alpha: float
    low: float
    """The largest tolerance still rejected: the lower confidence limit of the shift at 1 - alpha."""
    interval: tuple[float, float]
    """Of the shift, 95 %."""
    alarm_from: float | None
    """The effect at which alarms start with this many rows; None where there is nothing to test."""
    needs: int | None
    """Rows that find twice the tolerance 80 % of the time; None where this reference is too small for any
    n.
    """
    moved: tuple[MovedCell, ...]
    """The cells that make up most of the effect, first the largest."""
    worth: int = 0
    """The cells that the test counts: k', or more (see `effective_cells`)."""
    phi: float = 1.0
    """How much more the reference's windows vary than independent rows would."""
    borrowed: bool = False
    """phi is of another window length, or unknown."""
    restless: bool = False
    """It exceeds the tolerance in normal times."""

    @property
    def effective(self) -> float:
        """n m / (n + m) / phi: the independent rows that these are worth."""
        return self.n * self.m / (self.n + self.m) / self.phi if self.n + self.m else 0.0

    @property
    def remark(self) -> str | None:
        """What must be known besides the verdict."""
        return RESTLESS if self.restless else None

    def explain(self) -> str:
        """One sentence that a person can check."""
        if not self.n:
            return "no rows in the window"
        if not self.m:
            return "no rows in the reference"
        return f"{self._explained()}; {self.remark}" if self.remark else self._explained()

    def _explained(self) -> str:
        low, tolerance = _short(self.low), _short(self.tolerance)
        start = "" if self.alarm_from is None else f"; at this n alarms start at {_short(self.alarm_from)}"
        if (rows := f"{float(f'{self.phi:.2g}'):,.10g}") != "1":
            start += f", as {rows} rows here tell as much as one"
        match self.verdict:
            case Verdict.DRIFTED:
                where = f"; most in {', '.join(map(str, self.moved))}" if self.moved else ""
                return f"low end {low} exceeds the tolerance {tolerance}{start}{where}"
            case Verdict.INSUFFICIENT if self.needs is None:
                return f"the reference of {self.m:,} rows is too small for tolerance {tolerance}{start}"
            case Verdict.INSUFFICIENT:
                return f"too few rows to tell: {self.n:,}, needs n >= {self.needs:,}{start}"
            case Verdict.OK:
                return f"low end {low} is within the tolerance {tolerance}{start}"

    @cached_property
    def detail(self) -> dict[str, Any]:
        """What explains the verdict; JSON-able."""
        return {
            "effect": self.effect,
            "tolerance": self.tolerance,
            "low": self.low,
            "alarm_from": self.alarm_from,
            "needs": self.needs,
            "m": self.m,
            "p_value": self.p_value,
            "psi_expected": self.psi_expected,
            "ks_most": self.ks_most,
            "cramers_v": self.cramers_v,
            "phi": self.phi,
            "borrowed": self.borrowed,
            "restless": self.restless,
            "moved": [{"cell": c.name, "reference": c.reference, "window": c.window} for c in self.moved],
            "explanation": self.explain(),
        }


def drift(
    reference: Cells,
    window: Cells,
    edges: EdgeSet,
    settings: DriftSettings | None = None,
    features: Iterable[str] | None = None,
) -> list[FeatureDrift]:
    """Every feature (or those named) whose cells both sides have on these edges, in the order of the edges.

    Raw verdicts, each at `settings.alpha`; over several features of one look, see `drifted_of`.
    """
    held = counted(reference, window, edges, features)
    ordered = [name in edges.numeric for name in held.features]
    return shifts(
        held.features, held.reference, held.window, held.names, ordered, settings or DriftSettings()
    )


@dataclass(frozen=True)
class Counted:
    """Counts of features over the same cells, side by side."""

    features: list[str]
    reference: list[NDArray[np.int64]]
    window: list[NDArray[np.int64]]
    names: list[tuple[str, ...]]
    """Of the cells."""


def counted(
    reference: Cells, window: Cells, edges: EdgeSet, features: Iterable[str] | None = None
) -> Counted:
    """What is compared: the counts of `comparable` features, with the rare values of a categorical one
    together (see `rare_together`)."""
    held = comparable(reference, window, edges, features)
    a = [reference.features[name][1] for name in held]
    b = [window.features[name][1] for name in held]
    names = [edges.features[name].names for name in held]
    for i, name in enumerate(held):
        if name in edges.categorical:
            a[i], b[i], names[i] = _without_rare(a[i], b[i], names[i])
    return Counted(held, a, b, names)


def _without_rare(
    a: NDArray[np.int64], b: NDArray[np.int64], names: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """A categorical feature with its rare values together, under the name that fits what they are."""
    merged = rare_together(a, b)
    if merged[0][-3] + merged[1][-3] == a[-2] + b[-2]:
        return a, b, names  # all of it is *unseen*: a cell of its own already
    return *merged, (*names[:-3], RARE, *names[-2:])


def comparable(
    reference: Cells, window: Cells, edges: EdgeSet, features: Iterable[str] | None = None
) -> list[str]:
    """The features (of those named) that both sides have counted on just these edges, in the edges' order."""
    wanted = set(edges.features if features is None else features)
    none = ("", None)
    return [
        name
        for name, e in edges.features.items()
        if name in wanted
        and reference.features.get(name, none)[0] == e.hash == window.features.get(name, none)[0]
    ]


def shift_of_counts(
    name: str, reference: Mapping[str, int], window: Mapping[str, int], settings: DriftSettings
) -> FeatureDrift:
    """The same for named counts, such as of classes: a name that one side has not seen is a cell like any
    other.
    """
    names = tuple(sorted(reference.keys() | window.keys())) or ("",)
    a = np.array([reference.get(c, 0) for c in names], np.int64)
    b = np.array([window.get(c, 0) for c in names], np.int64)
    return shifts([name], [a], [b], [names], [False], settings)[0]


def shifts(
    features: Sequence[str],
    reference: Sequence[NDArray[np.int64]],
    window: Sequence[NDArray[np.int64]],
    names: Sequence[Sequence[str]],
    ordered: Sequence[bool],
    settings: DriftSettings,
) -> list[FeatureDrift]:
    """The drift of each feature from its counts over its cells; `ordered` ones end with the cell
    *missing*. Each with its own phi of the settings.
    """
    if not features:
        return []
    sizes = np.array([counts.size for counts in reference])
    a, b = matrix_of(reference, sizes), matrix_of(window, sizes)
    m, n = a.sum(1), b.sum(1)
    p, q = smoothed(a, m, sizes), smoothed(b, n, sizes)
    terms = effect_terms(a, b)
    effect, cells = terms.sum(1), ((a + b) > 0).sum(1)
    both = (m > 0) & (n > 0)
    phi = np.array([settings.phi.get(feature, 1.0) for feature in features])
    effective = np.where(both, n * m / np.maximum(n + m, 1), 0.0)
    worth = effective_cells(a, b)
    tested = tolerance_test(effect, worth, effective, settings.tolerance, settings.alpha, phi)
    needs = rows_needed(settings.tolerance, settings.alpha, cells, m, phi)
    chi2 = homogeneity(a, b)
    ks, ks_most = kolmogorov_smirnov(a, b, sizes)
    psi, js = stability_index(p, q), jensen_shannon(p, q)
    top = np.argsort(-terms, axis=1)[:, :MOVED_CELLS]
    most = (top, *(np.take_along_axis(each, top, 1) for each in (terms, a, b)))
    moved = [zip(*of_feature, strict=True) for of_feature in zip(*(x.tolist() for x in most), strict=True)]
    # As lists: taking numbers one by one out of arrays takes longer than all of the above.
    plain = {
        "cells": cells,
        "effect": effect,
        "psi": psi,
        "js": js,
        "chi2": chi2,
        "p_value": tested.p_value,
        "low": tested.low,
        "worth": worth,
        "phi": phi,
    }
    each = [
        dict(zip(plain, of, strict=True)) for of in zip(*(x.tolist() for x in plain.values()), strict=True)
    ]
    gaps = list(zip(ks.tolist(), ks_most.tolist(), strict=True))
    shown = list(zip(*(limit.tolist() for limit in tested.shown), strict=True))
    starts = tested.alarm_from.tolist()
    found = []
    for i, feature in enumerate(features):
        rows, base = int(n[i]), int(m[i])
        some = rows > 0 and base > 0
        gap, most_gap = gaps[i] if ordered[i] else (None, None)
        found.append(
            FeatureDrift(
                feature=feature,
                n=rows,
                m=base,
                psi_expected=(int(sizes[i]) - 1) * (1 / rows + 1 / base) if some else math.nan,
                ks=gap,
                ks_most=most_gap,
                cramers_v=math.sqrt(each[i]["chi2"] / (rows + base)) if some else math.nan,
                verdict=_verdict(each[i]["p_value"] <= settings.alpha, rows, base, needs[i]),
                tolerance=settings.tolerance,
                alpha=settings.alpha,
                interval=shown[i],
                alarm_from=starts[i] if math.isfinite(starts[i]) else None,
                needs=needs[i],
                moved=tuple(
                    MovedCell(names[i][j], before / base, now / rows)
                    for j, term, before, now in moved[i]
                    if some and term > 0
                ),
                borrowed=feature in settings.borrowed,
                restless=feature in settings.restless,
                **each[i],
            )
        )
    return found


def _verdict(significant: bool, n: int, m: int, needs: int | None) -> Verdict:
    """Significant is drifted at any n; too few rows to have found twice the tolerance cannot be called ok."""
    if significant:
        return Verdict.DRIFTED
    enough = n > 0 and m > 0 and needs is not None and n >= needs
    return Verdict.OK if enough else Verdict.INSUFFICIENT


def drifted_of(drifts: Sequence[FeatureDrift], q: float) -> list[FeatureDrift]:
    """Of the features of one look, those that drifted at false discovery rate `q`."""
    rejected = benjamini_hochberg([d.p_value for d in drifts], q)
    return [d for d, r in zip(drifts, rejected, strict=True) if r]


def benjamini_hochberg(p_values: ArrayLike, q: float) -> NDArray[np.bool_]:
    """Which hypotheses are rejected at false discovery rate `q`, by the step-up procedure (1995)."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    passing = np.flatnonzero(p[order] <= q * np.arange(1, p.size + 1) / max(p.size, 1))
    rejected = np.zeros(p.size, np.bool_)
    if passing.size:
        rejected[order[: passing[-1] + 1]] = True
    return rejected


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def _short(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"
