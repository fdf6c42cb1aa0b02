"""Version against version under many looks: how often it is wrong, and how many rows it takes to be right."""

import math
from collections.abc import Iterator

import numpy as np

from bench.targets import at_most
from kedge.analysis.intervals import z_of
from kedge.analysis.sequential import Average, Pair, Share
from kedge.sketch import Moments

ALPHA = 0.05
LOOKS = 300
AT_NULL = ((0.001, 0.0), (0.001, 0.002), (0.01, 0.01), (0.1, 0.0), (0.5, 0.02))
"""(rate of the reference, margin): the candidate is worse by just the margin, so any decision is wrong."""
APART = (
    (0.011, 0.001, 0.001),
    (0.001, 0.001, 0.002),
    (0.02, 0.01, 0.0),
    (0.01, 0.01, 0.01),
    (0.1, 0.1, 0.02),
)
"""(rate of the candidate, of the reference, margin): a decision is right."""


def measure(*, runs: int = 100) -> dict[str, object]:
    """A canary with a fifth of the traffic, looked at every 250 rows (every 100 for means)."""
    rng = np.random.default_rng(20)
    wrong = {
        f"{rate:g} with a margin of {margin:g}": sum(
            any(_decided(pair, margin, ALPHA) for pair in _shares(rng, rate + margin, rate))
            for _ in range(runs)
        )
        / runs
        for rate, margin in AT_NULL
    }
    skewed = {f"log-normal, sigma {sigma:g}": _means(rng, sigma, runs) for sigma in (0.5, 1.0, 1.5)}
    return {
        "level": ALPHA,
        "looks": LOOKS,
        "runs": runs,
        "wrong_decisions": {name: at_most(share, ALPHA) for name, share in (wrong | skewed).items()},
        "rows_to_a_decision_at_99": [_rows(rng, *case) for case in APART],
    }


def _decided(pair: Pair, margin: float, alpha: float) -> bool:
    return pair.log_evidence(margin) >= -math.log(alpha)


def _shares(rng: np.random.Generator, candidate: float, reference: float) -> Iterator[Pair]:
    k = n = other_k = other_n = 0
    for _ in range(LOOKS):
        k, n = k + int(rng.binomial(50, candidate)), n + 50
        other_k, other_n = other_k + int(rng.binomial(200, reference)), other_n + 200
        yield Pair(Share(k, n), Share(other_k, other_n))


def _means(rng: np.random.Generator, sigma: float, runs: int) -> float:
    wrong = 0
    for _ in range(runs):
        ours = theirs = Moments()
        for _ in range(LOOKS):
            ours += Moments.of(rng.lognormal(4, sigma, 20).tolist())
            theirs += Moments.of(rng.lognormal(4, sigma, 80).tolist())
            pair = Pair(Average(ours), Average(theirs))
            if pair.candidate.settled and pair.reference.settled and _decided(pair, 0.0, ALPHA):
                wrong += 1
                break
    return wrong / runs


def _rows(rng: np.random.Generator, candidate: float, reference: float, margin: float) -> dict[str, object]:
    """Rows of the candidate, the median of 30 runs; beside those that one look with 80 % power takes."""
    found = []
    for _ in range(30):
        decided = (p.candidate.rows for p in _shares(rng, candidate, reference) if _decided(p, margin, 0.01))
        found.append(next(decided, math.inf))
    noise = candidate * (1 - candidate) + reference * (1 - reference) / 4
    one_look = (z_of(0.01) + z_of(0.2)) ** 2 * noise / (candidate - reference - margin) ** 2
    rows = float(np.median(found))
    return {
        "candidate": candidate,
        "reference": reference,
        "margin": margin,
        "rows": rows,
        "one_look": round(one_look),
        "times": round(rows / one_look, 2),
    }
