"""What the production test says of many features, and how sure a simulated rate is."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.false_alarms.draws import TOLERANCE, Floats, Ints
from kedge.analysis.divergence import effect_terms, effective_cells
from kedge.analysis.resemblance import tolerance_test

ALPHAS = (0.01, 0.001)
SURE = 0.99


def p_values(a: Ints, b: Ints, phi: Floats | float = 1.0, tolerance: float = TOLERANCE) -> Floats:
    """Of each feature, as `kedge.analysis.drift.shifts` computes it."""
    reference, window = a.astype(np.float64), b.astype(np.float64)
    m, n = reference.sum(1), window.sum(1)
    terms = effect_terms(reference, window)
    cells = effective_cells(reference, window)
    return tolerance_test(terms.sum(1), cells, n * m / (n + m), tolerance, 0.001, phi).p_value


def rate(alarms: NDArray[np.bool_]) -> dict[str, float]:
    """With its exact (Clopper-Pearson) one-sided limits, each at 99 %."""
    k, n = int(alarms.sum()), alarms.size
    low = float(stats.beta.ppf(1 - SURE, k, n - k + 1)) if k else 0.0
    high = float(stats.beta.ppf(SURE, k + 1, n - k)) if k < n else 1.0
    return {"rate": k / n, "low": float(f"{low:.4g}"), "high": float(f"{high:.4g}"), "of": n}
