"""The drift of features as metrics."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kedge.analysis import build
from kedge.analysis.divergence import interquartile_range, matrix_of, moved_up_and_down, present_only
from kedge.analysis.drift import FeatureDrift, comparable, drifted_of
from kedge.analysis.evidence import Between, Shift
from kedge.analysis.metric import Metric, Verdict
from kedge.sketch import EdgeSet, Moments, Summary

_VALUES: Mapping[str, Callable[[FeatureDrift], float | None]] = {
    "drift.effect": lambda d: d.effect,
    "drift.psi": lambda d: d.psi,
    "drift.js": lambda d: d.js,
    "drift.ks": lambda d: d.ks,
    "drift.chi2": lambda d: d.chi2,
}


def drift_metric(name: str, drift: FeatureDrift) -> Metric:
    """One statistic of one feature, with the verdict of the tolerance test on it."""
    labels = {"feature": drift.feature}
    value = _VALUES[name](drift)
    if value is None:
        return build.absent(name, "not for a categorical feature", n=drift.n, labels=labels)
    return judged(name, drift, labels, value)


def judged(name: str, drift: FeatureDrift, labels: Mapping[str, str], value: float | None = None) -> Metric:
    """A metric with the verdict: the effect itself, which has an interval, or another statistic beside it."""
    if not drift.n or not drift.m:
        return Metric(name, None, drift.n, dict(labels), verdict=drift.verdict, reason=drift.explain())
    is_effect = value is None or name == "drift.effect"
    return Metric(
        name,
        drift.effect if value is None else value,
        drift.n,
        dict(labels),
        interval=drift.interval if is_effect else None,
        verdict=drift.verdict,
        reason=drift.remark,
        detail=drift.detail,
        evidence=Shift(drift.effect, drift.worth, drift.effective) if is_effect else None,
    )


def drift_share(drifts: Sequence[FeatureDrift], alpha: float) -> Metric:
    """Of the features of one look that have rows on both sides, those that drifted after Benjamini-Hochberg.

    The restless ones are left out: they exceed the tolerance in normal times.

    One with too few rows to tell counts as not drifted, or a small window in which one feature of many drifts
    beyond doubt would read as 100 %. The interval says what is certain, and what is possible.
    """
    name = "drift.share"
    calm = [d for d in drifts if not d.restless]
    if drifts and not calm:
        return build.absent(name, "every feature exceeds the tolerance in normal times")
    testable = [d for d in calm if d.n and d.m]
    if not testable:
        return build.absent(name, calm[0].explain() if calm else "no feature has cells on both sides")
    drifted = sorted(drifted_of(testable, alpha), key=lambda d: -d.effect)
    unsure = [d for d in testable if d.verdict is Verdict.INSUFFICIENT]
    if not drifted and len(unsure) == len(testable):
        return build.absent(name, unsure[0].explain(), n=len(testable))
    share = len(drifted) / len(testable)
    return build.present(
        name,
        share,
        len(testable),
        Between(share, share + len(unsure) / len(testable)),
        detail={
            "drifted": [d.feature for d in drifted],
            "insufficient": [d.feature for d in unsure],
            "borrowed": [d.feature for d in drifted if d.borrowed],
            "restless": [d.feature for d in drifts if d.restless],
        },
    )


def wasserstein(features: Sequence[str], edges: EdgeSet, reference: Summary, window: Summary) -> list[Metric]:
    """Wasserstein-1 of numeric features, in interquartile ranges of the reference.

    It is the difference of the means, which is known exactly, and twice what moved against it. Only that is
    read from the cells: the outer ones reach to the least and the greatest value of either side, and values
    are taken as spread evenly. Features without cells on both sides are left out.
    """
    if not (reference.cells and window.cells and reference.core and window.core):
        return []
    held = [f for f in comparable(reference.cells, window.cells, edges, features) if f in edges.numeric]
    if not held:
        return []
    cores = (reference.core, window.core)
    sizes = np.array([edges.numeric[f].size for f in held])
    a, b = (matrix_of([part.features[f][1] for f in held], sizes) for part in (reference.cells, window.cells))
    bounds = np.empty((len(held), a.shape[1]))
    for row, feature in zip(bounds, held, strict=True):
        inner = edges.numeric[feature].edges
        seen = [core.numeric[feature] for core in cores if feature in core.numeric]
        row[1 : len(inner) + 1] = inner
        row[0] = min([inner[0], *(m.low for m in seen)])
        row[len(inner) + 1 :] = max([inner[-1], *(m.high for m in seen)])
    a, b = present_only(a, sizes), present_only(b, sizes)
    up, down = moved_up_and_down(a[:, :-1], b[:, :-1], bounds)
    means = np.array([[core.numeric.get(f, Moments.ZERO).mean for f in held] for core in cores])
    distance = np.abs(means[1] - means[0]) + 2 * np.maximum(np.minimum(up, down), 0.0)
    spread = interquartile_range(a[:, :-1], bounds)
    return [
        _wasserstein(feature, int(b[i].sum()), int(a[i].sum()), float(distance[i]), float(spread[i]))
        for i, feature in enumerate(held)
    ]


def _wasserstein(feature: str, n: int, m: int, distance: float, spread: float) -> Metric:
    name, labels = "drift.wasserstein", {"feature": feature}
    if not n or not m:
        side = "reference" if n else "window"
        return build.absent(name, f"no values in the {side}", n=n, labels=labels)
    if spread <= 0:
        return build.absent(name, "the reference has no interquartile range", n=n, labels=labels)
    return build.present(name, distance / spread, n, None, labels=labels)
