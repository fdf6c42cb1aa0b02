"""Run as a process of its own, for its time and memory: `python -m bench.drift.by_kedge STORE PREFIX`."""

import json
import sys
import time
from pathlib import Path

from bench.drift.shape import CURRENT, FEATURES, MODEL, REFERENCE
from kedge.analysis.drift import DriftSettings, FeatureDrift, drift
from kedge.analysis.metric import Verdict
from kedge.clock import system_clock
from kedge.config import Settings
from kedge.pipeline.baselines import build_baseline
from kedge.pipeline.compose import open_store
from kedge.sketch import Cells, PartName, total
from kedge.sketch.summary import Summary
from kedge.store.base import Store, SummaryRequest
from kedge.windows import DAY

GOES = 3


def baseline_and_drift(store: Store) -> tuple[list[FeatureDrift], float]:
    """What `kedge baseline create --from --to` freezes, then the cells of the other rows on its edges, then
    the test of each feature. Also the seconds of the first of these."""
    began = time.perf_counter()
    baseline = build_baseline(store, MODEL, REFERENCE, FEATURES, ((),), source="bench", now=REFERENCE.end)
    took = time.perf_counter() - began
    request = SummaryRequest(MODEL, CURRENT, DAY, frozenset({PartName.CELLS}), edges=baseline.edges)
    parts = [row.part for row in store.summarise(request) if isinstance(row.part, Cells)]
    window = total((Summary(cells=cells) for cells in parts), baseline.edges).cells
    reference = baseline.summaries[()].cells
    assert reference is not None
    assert window is not None
    return drift(reference, window, baseline.edges, DriftSettings()), took


def peak_mb() -> int:
    """Of this program alone: `ru_maxrss` would begin with what the process was before it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    url, prefix = sys.argv[1:]
    store = open_store(Settings(store=url, prefix=prefix), system_clock)
    seconds, baselines = [], []
    found: list[FeatureDrift] = []
    try:
        store.setup(dry_run=True)  # opens the connection
        for _ in range(GOES):
            began = time.perf_counter()
            found, baseline = baseline_and_drift(store)
            seconds.append(time.perf_counter() - began)
            baselines.append(baseline)
    finally:
        store.close()
    print(
        json.dumps(
            {
                "goes_s": [round(s, 3) for s in seconds],
                "of_it_baseline_s": [round(s, 3) for s in baselines],
                "peak_mb": peak_mb(),
                "rows": [found[0].m, found[0].n],
                "drifted": [f.feature for f in found if f.verdict is Verdict.DRIFTED],
                "features": len(found),
            }
        )
    )


if __name__ == "__main__":
    main()
