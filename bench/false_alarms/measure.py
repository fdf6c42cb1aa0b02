"""All sections, with fixed seeds, and the figures of others beside."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.environments import LONGEST_S, environment
from bench.false_alarms import dependent, grid, plain

SEED = 20_260
EVIDENTLY, NANNYML = ["evidently==0.7.23", "pandas<3"], ["nannyml==0.13.1", "statsmodels"]
HERE = Path(__file__).parent


def measure(say: Callable[[str], None] = print, *, times: int = 10_000) -> dict[str, object]:
    """Simulates only: no server, nothing timed. Every section has a generator of its own, so that its figures
    do not depend on the others."""
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "grid": lambda: grid.rates(SEED, times),
        "rows": lambda: grid.of_rows(SEED),
        "many_features": lambda: grid.of_many(SEED),
        "looks": lambda: grid.of_looks(SEED),
        "power": lambda: grid.power(SEED),
        "mean_shifts": lambda: grid.mean_shifts(SEED),
        "clusters": lambda: dependent.clusters(SEED),
        "autocorrelated": lambda: dependent.autocorrelated(SEED),
        "seasonal": lambda: dependent.seasonal(SEED),
        "by_name": lambda: plain.by_name(SEED),
        "week_of_looks": lambda: plain.a_week_of_looks(SEED),
        "formulas": lambda: plain.formulas(SEED),
        "elsewhere": lambda: plain.elsewhere(SEED),
        "evidently": lambda: _others("evidently", EVIDENTLY, "by_evidently.py", 300, say),
        "nannyml": lambda: _others("nannyml", NANNYML, "by_nannyml.py", 40, say),
    }
    figures: dict[str, object] = {"seed": SEED, "tolerance": grid.TOLERANCE}
    for name, work in sections.items():
        began = time.process_time()
        figures[name] = work()
        say(f"  {name}: {time.process_time() - began:.0f} s of CPU")
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
