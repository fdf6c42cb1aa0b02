"""What the predictions rest on: how much each feature contributes, and how that changed.

All of it is of the absolute values of the attributions that logs carry (SHAP values, integrated gradients …),
over the rows that have one of the feature. Their unit is the explainer's own, so changes are relative.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kedge.analysis import build
from kedge.analysis.evidence import Ranking, Ratio
from kedge.analysis.metric import Metric
from kedge.analysis.quality_change import MOST_NAMES
from kedge.sketch import Moments

MEAN, SHIFT, RANK_SHIFT = "attribution.mean", "attribution.shift", "attribution.rank_shift"
NONE = "no row has an attribution of it"
MOVED_ALPHA = 0.001
"""At which a feature is said to have changed places."""


def mean(feature: str, held: Mapping[str, Moments]) -> Metric:
    moments = held.get(feature, Moments.ZERO)
    return build.mean(MEAN, moments, NONE, labels={"feature": feature})


def shift(feature: str, reference: Mapping[str, Moments], window: Mapping[str, Moments]) -> Metric:
    """The mean in the window over that in the reference, less one."""
    labels = {"feature": feature}
    before, now = (side.get(feature, Moments.ZERO) for side in (reference, window))
    if not now.n:
        return build.absent(SHIFT, NONE, labels=labels)
    if before.n < 2 or now.n < 2:
        side = "window" if now.n < 2 else "reference"
        reason = f"under two rows of the {side} have an attribution of it"
        return build.absent(SHIFT, reason, n=now.n, labels=labels)
    if before.mean <= 0:
        return build.absent(SHIFT, "it contributed nothing in the reference", n=now.n, labels=labels)
    evidence = Ratio(now, before)
    return build.present(SHIFT, evidence.value, now.n, evidence, labels=labels)


def rank_shift(reference: Mapping[str, Moments], window: Mapping[str, Moments]) -> Metric:
    """How far the order of the features by what they contribute moved: 1 - NDCG, the gain of a feature being
    its mean in the reference (Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418).

    0 is the order of the reference. The first places weigh most, and features of about equal weight that swap
    cost about nothing. Kendall's tau counts every swap alike, so that the noise among many features that
    hardly matter would make up most of it.
    """
    shared = sorted(f for f, m in reference.items() if m.n > 1 and window.get(f, Moments.ZERO).n > 1)
    if len(shared) < 2:
        return build.absent(RANK_SHIFT, "under two features have attributions on both sides")
    before, now = ([side[f] for f in shared] for side in (reference, window))
    if not any(m.mean > 0 for m in before):
        return build.absent(RANK_SHIFT, "no feature contributed anything in the reference")
    evidence = Ranking(tuple(before), tuple(now))
    moved = _moved(shared, evidence)
    told = ", ".join(f"{f} {was} → {at}" for f, was, at in moved[:MOST_NAMES])
    detail = {"moved": [{"feature": f, "from": was, "to": at} for f, was, at in moved]}
    n = max(m.n for m in now)
    return build.present(
        RANK_SHIFT, evidence.value, n, evidence, detail=detail | ({"told": told} if told else {})
    )


def _moved(features: Sequence[str], ranking: Ranking) -> list[tuple[str, int, int]]:
    """Features whose place changed beyond noise, with both places, from 1; the highest places first."""
    was, at = np.argsort(ranking.order), np.argsort(ranking.nearest(MOVED_ALPHA))
    moved = [(f, int(a) + 1, int(b) + 1) for f, a, b in zip(features, was, at, strict=True) if a != b]
    return sorted(moved, key=lambda m: (min(m[1], m[2]), m[0]))
