"""`python -m bench [PART …]`: measure, print tables, and keep the figures in bench/results/.

Without a part, all of them. Servers come from KEDGE_TEST_*_URL where they are set (`python -m tests.services
up` starts and leaves them), else they are started and ended here. The options are for trying a part in
another size: its figures are then printed, not kept.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kedge.errors import KedgeError
from tests.services import Pool, ServiceError

RESULTS = Path(__file__).parent / "results"
out = Console(highlight=False, width=110)
Options = dict[str, Any]
# Each part imports what it measures with: the processes that `backtest` starts import this module again, and
# those of the kedge command import none of the others.


def say(text: str) -> None:
    """A line of progress."""
    out.print(text, style="dim", markup=False)


def _ingest(pool: Pool, _: Options) -> dict[str, object]:
    from bench import ingest

    return ingest.measure(pool.url("elasticsearch"))


def _delay(pool: Pool, _: Options) -> dict[str, object]:
    from bench import delay

    return delay.measure(pool.url("elasticsearch"), pool.url("redis"))


def _compute(pool: Pool, _: Options) -> dict[str, object]:
    from bench import compute

    return compute.measure(pool.url("elasticsearch"))


def _compare(_: Pool, options: Options) -> dict[str, object]:
    from bench import compare

    return compare.measure(say, count=options.get("drift_rows", 1_000_000))


def _parquet(pool: Pool, _: Options) -> dict[str, object]:
    from bench import parquet

    return parquet.measure(pool.url("elasticsearch"))


def _storage(pool: Pool, _: Options) -> dict[str, object]:
    from bench import storage

    return storage.measure({name: pool.url(name) for name in ("elasticsearch", "opensearch")})


def _drift(pool: Pool, options: Options) -> dict[str, object]:
    from bench.drift import compare as drift

    return drift.measure(pool.url("elasticsearch"), say, count=options.get("drift_rows", 1_000_000))


def _visits(pool: Pool, _: Options) -> dict[str, object]:
    from bench import visits

    return visits.measure(pool.url("elasticsearch"))


def _labels(pool: Pool, _: Options) -> dict[str, object]:
    from bench import labels

    return labels.measure(pool.url("elasticsearch"))


def _versions(_: Pool, __: Options) -> dict[str, object]:
    from bench import versions

    return versions.measure()


def _windows(pool: Pool, _: Options) -> dict[str, object]:
    from bench import windows

    return windows.measure(pool.url("elasticsearch"))


def _false_alarms(_: Pool, options: Options) -> dict[str, object]:
    from bench import false_alarms

    return false_alarms.measure(say, times=options.get("repetitions", 5_000))


def _series(_: Pool, __: Options) -> dict[str, object]:
    from bench import series

    return series.measure(say)


def _tick(pool: Pool, options: Options) -> dict[str, object]:
    from bench import tick

    own = {k: v for k, v in options.items() if k not in ("drift_rows", "repetitions", "rules")}
    return tick.measure(pool.url("elasticsearch"), tick.Plan(**own), say)


def _backtest(_: Pool, options: Options) -> dict[str, object]:
    from bench import backtest

    known = {name: options[name] for name in ("days", "rules", "profile") if name in options}
    return backtest.measure(say, **known)


def _rules(_: Pool, options: Options) -> dict[str, object]:
    from bench import rules

    return rules.measure(profile=options.get("profile", False))


PARTS: dict[str, Callable[[Pool, Options], dict[str, object]]] = {
    "ingest": _ingest,
    "parquet": _parquet,
    "storage": _storage,
    "labels": _labels,
    "tick": _tick,
    "visits": _visits,
    "drift": _drift,
    "compare": _compare,
    "versions": _versions,
    "windows": _windows,
    "delay": _delay,
    "compute": _compute,
    "false_alarms": _false_alarms,
    "backtest": _backtest,
    "series": _series,
    "rules": _rules,
}
TITLES = {
    "ingest": "Rows a second from HTTP to searchable, beside raw _bulk of the same documents",
    "delay": "From a row's post to the Slack post",
    "compute": "What the steps between rows and findings cost",
    "tick": "One tick over many models",
    "parquet": "Rows a second from a Parquet file, beside raw _bulk of the same documents",
    "storage": "Bytes a document on disk, beside the server's default dynamic mapping",
    "labels": "Labels a second",
    "visits": "Rows that summarising reads, for each row that came in",
    "drift": "Baseline plus drift of a million rows, beside Evidently",
    "compare": "Two files compared by one command, beside Evidently's report of the same",
    "versions": "Version against version, looked at again and again",
    "windows": "A window of 30 days beside one of an hour",
    "rules": "Loading rules, and judging them on summaries in hand",
    "backtest": "A backtest of 100 rules over 90 days of summaries",
    "false_alarms": "False alarms of drift verdicts with nothing drifting, and power; simulated",
    "series": "False alarms of anomalies and trends, and how soon a shift is found; simulated",
}


def _lines(figures: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{above}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for i, each in enumerate(value, 1):
                yield from _lines(each, f"{above}{name} {i}.")
        else:
            yield above + name, ", ".join(map(_text, value)) if isinstance(value, list) else _text(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _show(title: str, figures: dict[str, Any]) -> None:
    drawn = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None)
    drawn.add_column()
    drawn.add_column(justify="right")
    for name, value in _lines(figures):
        drawn.add_row(name, value)
    out.print(drawn)
    out.print()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    sizes = parser.add_argument_group("of tick")
    sizes.add_argument("--models", type=int, metavar="N", help="models (500)")
    sizes.add_argument("--rows", type=int, metavar="N", help="rows a model and minute (100)")
    sizes.add_argument("--minutes", type=int, metavar="N", help="measured ticks of each history (2)")
    sizes.add_argument("--labels", type=int, metavar="N", help="labels a model and minute (100); 0: none")
    sizes.add_argument("--label-minutes", type=int, metavar="N", help="measured ticks with labels (10)")
    sizes.add_argument("--days", type=int, metavar="N", help="days of history before the tenth hour (3)")
    sizes.add_argument("--stages", nargs="+", choices=("first", "tenth"), help="both")
    sizes.add_argument("--profile", action="store_true", default=None, help="print cProfile of the ticks")
    sizes = parser.add_argument_group("of backtest; also --days (90) and --profile")
    sizes.add_argument("--rules", type=int, metavar="N", help="rules (100)")
    sizes = parser.add_argument_group("of drift and compare")
    sizes.add_argument("--drift-rows", type=int, metavar="N", help="rows of both halves (1000000)")
    sizes = parser.add_argument_group("of false_alarms")
    sizes.add_argument("--repetitions", type=int, metavar="N", help="of each cell of the grid (5000)")
    given = parser.parse_args()
    options = {k: v for k, v in vars(given).items() if k != "parts" and v is not None}
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))} (there are {', '.join(PARTS)})")
    chosen = given.parts or list(PARTS)
    started = time.monotonic()
    from bench import machine

    on = machine.describe()
    _show("Measured on", on)
    pool = Pool()
    if set(chosen) - {"false_alarms", "compare", "versions", "backtest", "series", "rules"}:
        pool.expect("elasticsearch")
    if "storage" in chosen:
        pool.expect("opensearch")
    if "delay" in chosen:
        pool.expect("redis")
    failed = False
    try:
        for part in chosen:
            load, began = os.getloadavg()[0], time.monotonic()
            try:
                figures = PARTS[part](pool, options)
            except (ServiceError, KedgeError, RuntimeError, OSError, subprocess.SubprocessError) as error:
                out.print(f"{part}: {error}\n", markup=False)
                failed = True
                continue
            figures |= {"load_before": round(load, 1), "took_s": round(time.monotonic() - began)}
            _show(TITLES[part], figures)
            if options:
                continue
            record = {"measured": time.strftime("%Y-%m-%d"), "machine": on, part: figures}
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{part}.json").write_text(json.dumps(record, indent=2) + "\n")
    finally:
        pool.stop()
    out.print(f"{time.monotonic() - started:.0f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
