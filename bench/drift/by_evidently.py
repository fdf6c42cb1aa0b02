"""Run by the interpreter that has Evidently: `by_evidently.py FILE REFERENCE_ROWS [PAGE]`. Imports nothing of
kedge; its report goes to PAGE."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset


def peak_mb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    path, reference_rows = sys.argv[1], int(sys.argv[2])
    frame = pd.read_parquet(path)
    reference, current = frame[:reference_rows], frame[reference_rows:]
    loaded = peak_mb()
    definition = DataDefinition(
        numerical_columns=[c for c in frame if c.startswith("n")],
        categorical_columns=[c for c in frame if c.startswith("c")],
    )
    began = time.perf_counter()
    snapshot = Report([DataDriftPreset()]).run(
        Dataset.from_pandas(current, data_definition=definition),
        Dataset.from_pandas(reference, data_definition=definition),
    )
    metrics = snapshot.dict()["metrics"]
    seconds = time.perf_counter() - began
    for page in sys.argv[3:]:
        snapshot.save_html(page)
    drifted = [
        m["config"]["column"]
        for m in metrics
        if "column" in m["config"] and _moved(float(m["value"]), m["config"])
    ]
    print(
        json.dumps(
            {
                "seconds": round(seconds, 2),
                "peak_mb": peak_mb(),
                "of_it_rows_loaded_mb": loaded,
                "rows": [len(reference), len(current)],
                "drifted": drifted,
                "features": sum("column" in m["config"] for m in metrics),
            }
        )
    )


def _moved(value: float, config: dict[str, Any]) -> bool:
    """Distances drift above their threshold, p values below it."""
    return value < config["threshold"] if "p_value" in config["method"] else value >= config["threshold"]


if __name__ == "__main__":
    main()
