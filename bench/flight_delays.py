"""`python -m bench.flight_delays`: the figures of docs/found-in-flight-delays.md, made again.

A sample of the US flights of 2015 (US Bureau of Transportation Statistics) in two halves of the year, as the
package popmon brings it; that is installed beside, without what it needs, for its files alone.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from bench.drift.compare import EVIDENTLY, PANDAS
from bench.environments import LONGEST_S, environment
from tests.services.host import cache_dir

POPMON = "popmon==1.4.12"
FEATURES = "CANCELLED,AIRLINE,DEPARTURE_DELAY,TAXI_OUT,AIR_TIME,DISTANCE"


def halves() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The first half of the year and the second."""
    home = cache_dir().parent / "bench-popmon"
    data = home / "popmon" / "test_data"
    if not data.exists():
        uv = str(Path(sys.executable).parent / "uv")
        command = [uv, "pip", "install", "--quiet", "--no-deps", "--target", str(home), POPMON]
        subprocess.run(command, check=True, timeout=LONGEST_S)
    names = ("flight_delays_reference", "flight_delays")
    first, second = (pd.read_csv(data / f"{name}.csv.gz", index_col=0) for name in names)
    for half in (first, second):  # whether a flight was cancelled is a flag, and so is drawn as two values
        half["CANCELLED"] = half["CANCELLED"].astype(str)
    return first, second


def compared(folder: Path, *flags: str) -> list[dict[str, Any]]:
    """What `kedge compare --json` says of the two files in the folder."""
    command = [sys.executable, "-m", "kedge", "compare", "first.csv", "second.csv", "--features", FEATURES]
    command += [*flags, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


_EVIDENTLY = """
import sys
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
names, texts = sys.argv[1].split(","), ["CANCELLED", "AIRLINE"]
a, b = (pd.read_csv(f, dtype={"CANCELLED": str})[names] for f in ("first.csv", "second.csv"))
numbers = [n for n in names if n not in texts]
how = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
found = Report([DataDriftPreset()]).run(*(Dataset.from_pandas(f, data_definition=how) for f in (b, a)))
for m in found.dict()["metrics"]:
    c = m["config"]
    if "column" in c:
        print(f"  {c['column']:16} {m['value']:.4f}  {c['method']}, drifted from {c['threshold']}")
"""


def by_evidently(folder: Path) -> str:
    """What Evidently's preset says of each column, by the tests that it chooses itself."""
    script = folder / "evidently_says.py"
    script.write_text(_EVIDENTLY)
    python = environment("evidently", [EVIDENTLY, PANDAS], print)
    done = subprocess.run(
        [str(python), str(script), FEATURES],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=True,
    )
    return done.stdout


def main() -> None:
    first, second = halves()
    for name, half in (("first", first), ("second", second)):
        print(f"{name}: {len(half):,} flights, {half['DATE'].min()} to {half['DATE'].max()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first.to_csv(folder / "first.csv", index=False)
        second.to_csv(folder / "second.csv", index=False)
        print("kedge:")
        rows = compared(folder, "--multivariate")
        for row in sorted(rows, key=lambda row: -(row["value"] or 0)):
            if row["metric"] in ("drift.effect", "drift.multivariate"):
                what = row["labels"].get("feature", "all together")
                print(f"  {what:16} {row['value']:.4f}  {row['verdict']}")
        joined = [half.assign(AIRLINE=half["AIRLINE"].replace("US", "AA")) for half in (first, second)]
        for half, file in zip(joined, ("first.csv", "second.csv"), strict=True):
            half.to_csv(folder / file, index=False)
        rows = compared(folder, "--multivariate")
        print("kedge, with US counted as AA:")
        for row in rows:
            of_airline = row["metric"] == "drift.effect" and row["labels"]["feature"] == "AIRLINE"
            if of_airline or row["metric"] == "drift.multivariate":
                print(f"  {row['metric']:20} {row['value']:.4f}  {row['verdict']}")
        for half, file in ((first, "first.csv"), (second, "second.csv")):
            half.to_csv(folder / file, index=False)
        print("Evidently:")
        print(by_evidently(folder), end="")
    print("means:")
    numbers = [n for n in FEATURES.split(",") if n not in ("CANCELLED", "AIRLINE")]
    means = {"first": first[numbers].mean(), "second": second[numbers].mean()}
    print(pd.DataFrame(means).round(2).to_string())
    both = pd.concat([first, second])
    late = (both["DEPARTURE_DELAY"] > 15).groupby(both["DATE"].str[:7]).mean()
    print("share that left more than 15 minutes late, by month:")
    print(late.round(3).to_string())
    print("share cancelled, by half and month:")
    print([round(float((half["CANCELLED"] == "1").mean()), 4) for half in (first, second)])
    print((both["CANCELLED"] == "1").groupby(both["DATE"].str[:7]).mean().round(3).to_string())
    shares = {"first": first["AIRLINE"], "second": second["AIRLINE"]}
    print("airlines:")
    counted = {name: column.value_counts(normalize=True) for name, column in shares.items()}
    print(pd.DataFrame(counted).round(3).to_string())
    print("last flight of US:", both[both["AIRLINE"] == "US"]["DATE"].max())


if __name__ == "__main__":
    main()
