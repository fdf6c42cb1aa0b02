"""Run by the interpreter that has Evidently: its own default tests and thresholds, with nothing drifting.
Imports nothing of kedge."""

import json
import sys

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import psi_stat_test
from evidently.legacy.calculations.stattests.registry import get_stattest
from evidently.legacy.core import ColumnType

REFERENCE = 5_000
"""Rows: over 1,000, from which its defaults are distances."""


def rate(kind: ColumnType, draw, n: int, times: int) -> dict[str, object]:
    drifted, name = 0, ""
    for _ in range(times):
        reference, current = pd.Series(draw(REFERENCE)), pd.Series(draw(n))
        test = get_stattest(reference, current, kind, None)
        found = test(reference, current, kind, None)
        name = f"{test.display_name} >= {test.default_threshold}"
        drifted += bool(found.drifted)
    return {"test": name, "rate": drifted / times, "of": times}


def main() -> None:
    seed, times = int(sys.argv[1]), int(sys.argv[2])
    rng = np.random.default_rng(seed)
    found: dict[str, object] = {"reference_rows": REFERENCE}
    for k, n in ((10, 100), (20, 200), (100, 1_000)):
        found[f"categorical, k={k}, n={n}"] = rate(
            ColumnType.Categorical, lambda rows, k=k: rng.integers(0, k, rows).astype(str), n, times
        )
    for n in (50, 100, 200, 500):
        found[f"numeric, n={n}"] = rate(ColumnType.Numerical, lambda rows: rng.normal(size=rows), n, times)
    # A true shift of half a standard deviation, then one outlier of 1000 in the reference.
    before, after = rng.normal(size=5_000), rng.normal(0.5, 1, size=5_000)
    stray = np.append(before, 1_000.0)
    found["psi_of_half_a_sd"] = {
        name: round(
            float(psi_stat_test(pd.Series(column), pd.Series(after), ColumnType.Numerical, None).drift_score),
            4,
        )
        for name, column in (("plain", before), ("with_one_outlier_of_1000", stray))
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
