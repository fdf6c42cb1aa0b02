"""Drift by the tests that people know by name, in place of the tolerance test: what a rule finds by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from msgspec.structs import replace

from kedge.alerting.condition import beyond
from kedge.alerting.finding import Finding, Severity, State
from kedge.alerting.quantity import RATIO, format_value
from kedge.analysis import plain_tests
from kedge.analysis.divergence import matrix_of
from kedge.analysis.drift import Counted

TestName = Literal["tolerance", "ks", "psi", "chi2"]
TITLES = {"ks": "KS", "psi": "PSI over ten bins", "chi2": "chi-square"}
PSI_ABOVE, P_BELOW = 0.2, 0.05
MOST_CAUSES = 10


@dataclass(frozen=True)
class Plain:
    """One feature, or the classes, by one test."""

    name: str
    test: TestName
    value: float
    """The index, or the p value."""
    limit: float
    n: int
    m: int

    @property
    def drifted(self) -> bool:
        """The index is above its limit, the p value below."""
        return self.value > self.limit if self.test == "psi" else self.value < self.limit

    @property
    def testable(self) -> bool:
        return bool(self.n and self.m)

    def __str__(self) -> str:
        if self.test == "psi":
            return f"PSI {self.value:.3g}, {'above' if self.drifted else 'at most'} {self.limit:g}"
        word = "below" if self.drifted else "not below"
        return f"{TITLES[self.test]} p = {self.value:.2g}, {word} {self.limit:g}"


def by_test(test: TestName, limit: float, counts: Counted, numeric: Sequence[bool]) -> list[Plain]:
    """Each feature by itself; KS leaves categorical ones out, which have no order."""
    kept = [i for i, ordered in enumerate(numeric) if ordered or test != "ks"]
    if not kept:
        return []
    sizes = np.array([counts.reference[i].size for i in kept])
    a, b = (matrix_of([side[i] for i in kept], sizes) for side in (counts.reference, counts.window))
    ordered = np.array([numeric[i] for i in kept])
    match test:
        case "ks":
            values = plain_tests.ks(a, b, sizes)
        case "psi":
            values = plain_tests.psi(a, b, sizes, ordered)
        case _:
            values = plain_tests.chi2(a, b, sizes, ordered)
    return [
        Plain(counts.features[i], test, float(value), limit, int(n), int(m))
        for i, value, n, m in zip(kept, values, b.sum(1), a.sum(1), strict=True)
    ]


def of_classes(test: TestName, limit: float, before: Mapping[str, int], now: Mapping[str, int]) -> Plain:
    """The predicted classes as cells; one that a side has not seen is a cell like any other."""
    names = tuple(sorted(before.keys() | now.keys())) or ("",)
    a, b = (np.array([side.get(name, 0) for name in names], np.int64) for side in (before, now))
    return by_test(test, limit, Counted(["the predicted classes"], [a], [b], [names]), [False])[0]


def found_one(draft: Finding, plain: Plain, severity: Severity, min_count: int, against: str) -> Finding:
    """What one feature, or the classes, comes to."""
    if not plain.n:
        state, reason = State.NO_DATA, "no rows in the window"
    elif not plain.m:
        state, reason = State.INSUFFICIENT, "no rows in the reference"
    elif plain.n < min_count:
        state, reason = State.INSUFFICIENT, f"{plain}; under min_count {min_count:,}"
    else:
        state, reason = State.BREACH if plain.drifted else State.OK, str(plain)
    return replace(
        draft,
        state=state,
        severity=severity if state is State.BREACH else None,
        value=plain.value if plain.testable else None,
        bound=plain.limit,
        n=plain.n,
        reference_n=plain.m,
        reason=f"{plain.name} against {against} (n={plain.n:,}): {reason}",
        clears=f"at a PSI of {plain.limit:g} or less"
        if plain.test == "psi"
        else f"at p = {plain.limit:g} or more",
    )


def found_share(
    draft: Finding,
    plains: Sequence[Plain],
    rungs: Sequence[tuple[Severity, float]],
    min_count: int,
    against: str,
) -> Finding:
    """The share of the features with rows on both sides that drifted, each at the limit of its own."""
    testable = [p for p in plains if p.testable]
    if not testable:
        return replace(draft, state=State.INSUFFICIENT, reason="no feature has rows on both sides")
    if len(testable) < min_count:
        few = f"drift.share rests on n={len(testable)} features, under min_count {min_count}"
        return replace(draft, state=State.INSUFFICIENT, n=len(testable), reason=few)
    drifted = [p for p in testable if p.drifted]
    share = len(drifted) / len(testable)
    severity = max((s for s, limit in rungs if beyond(share, limit)), default=None)
    bound = dict(rungs)[severity] if severity else rungs[0][1]
    return replace(
        draft,
        state=State.BREACH if severity else State.OK,
        severity=severity,
        unit=RATIO,
        value=share,
        bound=bound,
        n=len(testable),
        reason=f"{len(drifted)} of {len(testable)} features drifted from {against} by "
        f"{TITLES[testable[0].test]}: {format_value(share, RATIO)}, {'over' if severity else 'within'} "
        f"{format_value(bound, RATIO)}",
        clears=f"at {format_value(rungs[0][1], RATIO)} of the features or less",
        causes=tuple({"feature": p.name, "text": str(p)} for p in drifted[:MOST_CAUSES]),
    )
