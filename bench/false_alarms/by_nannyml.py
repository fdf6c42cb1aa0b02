"""Run by the interpreter that has NannyML: its own defaults, with nothing drifting. Imports nothing of
kedge."""

import json
import sys
import warnings

import nannyml
import numpy as np
import pandas as pd

ROWS = 5_000
"""Of the reference and of what is analysed: ten chunks of 500 each, as it cuts them by default."""


def drift_alerts(rng: np.random.Generator, rounds: int, columns: int = 10) -> dict[str, object]:
    alerts: dict[str, list[float]] = {"jensen_shannon": [], "mean": []}
    names = [f"x{i}" for i in range(columns)]
    for _ in range(rounds):
        before, after = (pd.DataFrame(rng.normal(size=(ROWS, columns)), columns=names) for _ in range(2))
        for method, calculator in (
            ("jensen_shannon", nannyml.UnivariateDriftCalculator(column_names=names)),
            ("mean", nannyml.SummaryStatsAvgCalculator(column_names=names)),
        ):
            calculator.fit(before)
            frame = calculator.calculate(after).to_df(multilevel=True)
            period = next(c for c in frame.columns if c[-1] == "period")
            analysis = frame[frame[period] == "analysis"]
            wanted = [c for c in analysis.columns if c[-1] == "alert"]
            alerts[method].append(float(analysis[wanted].to_numpy(dtype=float).mean()))
    of = rounds * columns * 10
    return {name: {"rate": round(float(np.mean(found)), 5), "of": of} for name, found in alerts.items()}


def performance_alerts(rng: np.random.Generator, rounds: int) -> dict[str, object]:
    found = []
    for _ in range(rounds):
        frames = []
        for _ in range(2):
            score = rng.beta(2, 2, ROWS)
            frames.append(
                pd.DataFrame(
                    {
                        "score": score,
                        "y": (rng.random(ROWS) < score).astype(int),
                        "yhat": (score > 0.5).astype(int),
                    }
                )
            )
        estimator = nannyml.CBPE(
            metrics=["roc_auc", "f1"],
            y_true="y",
            y_pred="yhat",
            y_pred_proba="score",
            problem_type="classification_binary",
        )
        estimator.fit(frames[0])
        frame = estimator.estimate(frames[1].drop(columns="y")).to_df(multilevel=True)
        analysis = frame[frame[("chunk", "period")] == "analysis"]
        wanted = [c for c in analysis.columns if c[-1] == "alert"]
        found.append(float(analysis[wanted].to_numpy(dtype=float).mean()))
    return {"rate": round(float(np.mean(found)), 5), "of": rounds * 20}


def main() -> None:
    warnings.filterwarnings("ignore")
    rng = np.random.default_rng(int(sys.argv[1]))
    rounds = int(sys.argv[2])
    found: dict[str, object] = {"chunks": 10, "rows_a_chunk": ROWS // 10, "claimed": 0.0027}
    found |= drift_alerts(rng, rounds)
    found["cbpe"] = performance_alerts(rng, rounds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
