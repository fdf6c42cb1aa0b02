"""All sections, with fixed seeds, and the figures of others beside."""

import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from bench.environments import LONGEST_S, environment
from bench.false_alarms import dependent, grid, plain

SEED = 20_260
EVIDENTLY, NANNYML = ["evidently==0.7.23", "pandas<3"], ["nannyml==0.13.1", "statsmodels"]
HERE = Path(__file__).parent


SECTIONS: dict[str, Callable[[int], dict[str, Any]]] = {
    "rows": grid.of_rows,
    "many_features": grid.of_many,
    "looks": grid.of_looks,
    "power": grid.power,
    "mean_shifts": grid.mean_shifts,
    "clusters": dependent.clusters,
    "autocorrelated": dependent.autocorrelated,
    "seasonal": dependent.seasonal,
    "by_name": plain.by_name,
    "week_of_looks": plain.a_week_of_looks,
    "formulas": plain.formulas,
    "elsewhere": plain.elsewhere,
}


def measure(say: Callable[[str], None] = print, *, times: int = 5_000) -> dict[str, object]:
    """Simulates only: no server, nothing timed, a process a core. Every section has a generator of its own,
    so that its figures do not depend on the others."""
    figures: dict[str, object] = {"seed": SEED, "tolerance": grid.TOLERANCE}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        tasks = {name: pool.submit(work, SEED) for name, work in SECTIONS.items()}
        figures["grid"] = grid.rates(pool, SEED, times)
        say("  the grid is done")
        figures |= {name: task.result() for name, task in tasks.items()}
    figures["evidently"] = _others("evidently", EVIDENTLY, "by_evidently.py", 200, say)
    figures["nannyml"] = _others("nannyml", NANNYML, "by_nannyml.py", 20, say)
    return figures


def _others(
    name: str, packages: list[str], script: str, times: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """In an environment of its own: they need other versions than kedge's."""
    try:
        python = environment(name, packages, say)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        return {"version": f"left out: {packages[0]} could not be installed ({' '.join(reason)})"}
    done = subprocess.run(
        [str(python), str(HERE / script), str(SEED), str(times)],
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
        env=os.environ | {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"{script}: {done.stderr[-2000:]}")
    return {"version": packages[0]} | json.loads(done.stdout.splitlines()[-1])
