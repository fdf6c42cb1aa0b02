"""`kedge compare` of two files, from its start to its end, beside Evidently's report of the same."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from bench.drift import rows
from bench.drift.compare import EVIDENTLY, PANDAS
from bench.drift.shape import MOVED
from bench.environments import LONGEST_S, environment
from bench.targets import at_most

WITHIN_S = 5
_HERE = Path(__file__).parent


def measure(say: Callable[[str], None] = print, *, count: int = 1_000_000, rounds: int = 3) -> dict[str, Any]:
    """Whole processes, with the start of Python and all reading; the page is written by both.

    The reference is the first half of the rows, the current file the second, in which one feature moved.
    `kedge` and Evidently in turn; `cpu_s` is user and system time, `peak_mb` the largest resident size.
    """
    figures: dict[str, Any] = {"rows": [count // 2, count - count // 2], "features": 25}
    with tempfile.TemporaryDirectory(prefix="kedge-bench-") as name:
        folder = Path(name)
        say(f"  writing {count:,} rows")
        _write(folder, count)
        theirs = _evidently(folder, count, say)
        found: dict[str, list[dict[str, Any]]] = {"parquet": [], "csv": []}
        others: list[dict[str, Any]] = []
        for _ in range(rounds):
            for kind, runs in found.items():
                runs.append(_kedge(folder, kind))
            if theirs is not None:
                others.append(_timed(theirs))
    for kind, runs in found.items():
        if any(run["drifted"] != [MOVED] for run in runs):
            raise RuntimeError(f"{kind}: did not find what moved: {runs}")
        figures[kind] = _middle(runs)
    figures["parquet"]["seconds"] = at_most(figures["parquet"]["seconds"], WITHIN_S)
    figures["evidently"] = {"version": EVIDENTLY} | (_middle(others) if others else {"seconds": "left out"})
    return figures


def _write(folder: Path, count: int) -> None:
    rows.write(folder / "all.parquet", count)
    whole = pq.read_table(folder / "all.parquet")
    for name, part in (("a", whole.slice(0, count // 2)), ("b", whole.slice(count // 2))):
        pq.write_table(part, folder / f"{name}.parquet")
        pcsv.write_csv(part, folder / f"{name}.csv")


def _kedge(folder: Path, kind: str) -> dict[str, Any]:
    files = [str(folder / f"{name}.{kind}") for name in "ab"]
    page = ["--html", str(folder / "kedge.html"), "--json"]
    found = _timed([sys.executable, "-m", "kedge", "compare", *files, *page], ends=(0, 1))
    lines = map(json.loads, found.pop("out").splitlines())
    psi = [line for line in lines if line["metric"] == "drift.psi"]
    drifted = [line["labels"]["feature"] for line in psi if line["verdict"] == "drifted"]
    return found | {"drifted": drifted}


def _evidently(folder: Path, count: int, say: Callable[[str], None]) -> list[str] | None:
    """The command that makes its report; None where it cannot be installed."""
    try:
        python = environment("evidently", [EVIDENTLY, PANDAS], say)
    except (OSError, subprocess.CalledProcessError) as error:
        say(f"  left out: {EVIDENTLY} could not be installed ({error})")
        return None
    script, page = _HERE / "drift" / "by_evidently.py", folder / "evidently.html"
    return [str(python), str(script), str(folder / "all.parquet"), str(count // 2), str(page)]


def _timed(command: list[str], ends: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """Wall and processor seconds of a process, its peak, and what it printed.

    Raises RuntimeError where it does not end with one of `ends`.
    """
    with tempfile.NamedTemporaryFile() as told:
        done = subprocess.run(
            [sys.executable, "-S", str(_HERE / "usage.py"), told.name, *command],
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
            cwd=_HERE.parent,
            env=os.environ | {"DO_NOT_TRACK": "1"},
        )
        if done.returncode not in ends:
            raise RuntimeError(f"{' '.join(command[:4])}: {done.stderr[-2000:]}")
        return json.loads(Path(told.name).read_text()) | {"out": done.stdout}


def _middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians, and the seconds of all rounds."""
    names = ("seconds", "cpu_s", "peak_mb")
    return {name: statistics.median(run[name] for run in runs) for name in names} | {
        "rounds_s": [run["seconds"] for run in runs]
    }
