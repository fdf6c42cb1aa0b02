"""No drift, and a harmless shift just at the tolerance, over sizes, cells and tails; and power beyond it."""

from concurrent.futures import Executor
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from bench.false_alarms.draws import (
    TILTS,
    TOLERANCE,
    WORLDS,
    Floats,
    Generator,
    Ints,
    equal,
    of_shares,
    quantile_cells,
    shifted,
    spread,
    windows,
)
from bench.false_alarms.judge import ALPHAS, p_values, rate
from bench.targets import at_least, at_most
from kedge.alerting.fields import Budget
from kedge.analysis.divergence import rare_together
from kedge.analysis.drift import DriftSettings, drifted_of, shifts
from kedge.analysis.resemblance import rows_needed
from kedge.sketch import numeric_edges
from kedge.sketch.quantiles import of_column
from kedge.windows import DAY, HOUR, MINUTE

REFERENCES, WINDOWS = (1_000, 5_000, 50_000), (100, 500, 2_000, 20_000)
LEAST_RATIO = 4
"""A reference with fewer rows than this many windows is provisional, and its verdicts `info`."""
AGAIN = 50_000
"""Repetitions of the worst cells, with fresh draws: the worst of hundreds is partly luck."""


def _p_values(world: str, tilt: str, m: int, n: int, rng: Generator, times: int) -> Floats | None:
    """Of `times` references with a window each; None where the shift cannot be that large."""
    a, shares = WORLDS[world](rng, m, times)
    if tilt != "none":
        shares, reached = shifted(shares, TILTS[tilt](rng, shares), TOLERANCE)
        if not reached.any():
            return None
        a, shares = a[reached], shares[reached]
    b = windows(rng, n, shares)
    if world.startswith("Zipf of"):
        # As production counts categories: values (of which the last two cells here are), and *missing*.
        nobody = np.zeros((len(a), 1), np.int64)
        a, b = rare_together(np.hstack([a, nobody]), np.hstack([b, nobody]))
    return p_values(a, b)


def cells_of(world: str, seed: int, times: int) -> list[dict[str, Any]]:
    """Every cell of the grid in that world."""
    found: list[dict[str, Any]] = []
    for m in REFERENCES:
        for n in WINDOWS:
            for j, tilt in enumerate(("none", *TILTS)):
                rng = np.random.default_rng([seed, list(WORLDS).index(world), m, n, j])
                p = _p_values(world, tilt, m, n, rng, times)
                if p is not None:
                    found += [
                        {"world": world, "m": m, "n": n, "shift": tilt, "alpha": alpha} | rate(p <= alpha)
                        for alpha in ALPHAS
                    ]
    return found


def rates(pool: Executor, seed: int, times: int) -> dict[str, Any]:
    """The whole grid, the worst of its cells again, and what is asked of it."""
    tasks = [pool.submit(cells_of, world, seed, times) for world in WORLDS]
    found = [cell for task in tasks for cell in task.result()]
    figures: dict[str, Any] = {"repetitions": times, "repetitions_of_the_worst": AGAIN}
    for name, cells in (
        ("promised", [c for c in found if c["m"] >= LEAST_RATIO * c["n"]]),
        ("smaller_reference", [c for c in found if c["m"] < LEAST_RATIO * c["n"]]),
    ):
        figures[name] = {"cells": len(cells)}
        for alpha in ALPHAS:
            own = [c for c in cells if c["alpha"] == alpha]
            worst = sorted(own, key=lambda c: -c["rate"])[:5]
            again = list(pool.map(_again, worst, [seed + 1] * len(worst)))
            figures[name][f"alpha {alpha:g}"] = {
                "worst": sorted(again, key=lambda c: -c["rate"]),
                "mean_of_all_cells": round(float(np.mean([c["rate"] for c in own])), 6),
                "worst_without_any_shift": max(c["rate"] for c in own if c["shift"] == "none"),
                # Consistent with alpha: the 99 % lower limit does not exceed it.
                "low_percent": at_most(100 * max(c["low"] for c in again), 100 * alpha),
            }
    return figures


def _again(cell: dict[str, Any], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, cell["m"], cell["n"]])
    p = _p_values(cell["world"], cell["shift"], cell["m"], cell["n"], rng, AGAIN)
    assert p is not None
    kept = {k: cell[k] for k in ("world", "m", "n", "shift")}
    return kept | rate(p <= cell["alpha"])


# --- rows, not counts ---------------------------------------------------------------------------------------


def _columns(rng: Generator, tail: str, rows: int) -> Floats:
    match tail:
        case "normal":
            return rng.normal(size=rows)
        case "log-normal":
            return rng.lognormal(0, 2, size=rows)
        case "Student t(2)":
            return rng.standard_t(2, size=rows)
        case "Poisson(0.7)":
            return rng.poisson(0.7, size=rows).astype(np.float64)
        case _:
            return np.where(rng.random(rows) < 0.002, rng.lognormal(size=rows), 0.0)


def of_rows(seed: int, references: int = 60, each: int = 50) -> dict[str, Any]:
    """Real rows cut by the production edges, nothing shifted: m = 5,000, n = 1,000."""
    figures = {}
    for i, tail in enumerate(("normal", "log-normal", "Student t(2)", "Poisson(0.7)", "constant and rare")):
        rng = np.random.default_rng([seed, i])
        p = []
        for _ in range(references):
            column = _columns(rng, tail, 5_000).astype(np.float32)
            edges = numeric_edges(of_column(column))
            assert edges is not None
            cut, size = np.array(edges.edges, np.float32), edges.size

            def counts(values: Floats, cut: Any = cut, size: int = size) -> Ints:
                cells = np.searchsorted(cut, values.astype(np.float32), side="right")
                return np.bincount(cells, minlength=size).astype(np.int64)

            a = counts(column.astype(np.float64))
            b = np.array([counts(_columns(rng, tail, 1_000)) for _ in range(each)])
            p.append(p_values(np.tile(a, (each, 1)), b))
        figures[tail] = {f"alpha {alpha:g}": rate(np.concatenate(p) <= alpha) for alpha in ALPHAS}
    return figures


# --- many features of one look ------------------------------------------------------------------------------


def of_many(seed: int, looks: int = 500) -> dict[str, Any]:
    """Any of 1, 20 or 200 features, all at the tolerance, after Benjamini-Hochberg: m = 50,000, n = 2,000."""
    figures: dict[str, Any] = {"looks": looks}
    for features in (1, 20, 200):
        rng = np.random.default_rng([seed, features])
        rounds = looks * (10 if features == 1 else 1)
        alarms = {alpha: np.zeros(rounds, np.bool_) for alpha in ALPHAS}
        names = [str(i) for i in range(features)]
        batch = max(1, 2_000 // features)
        for first in range(0, rounds, batch):
            count = min(batch, rounds - first)
            a, shares = quantile_cells(rng, 50_000, features * count)
            shares, _ = shifted(shares, spread(rng, shares), TOLERANCE)
            b = windows(rng, 2_000, shares)
            for look in range(count):
                own = slice(look * features, (look + 1) * features)
                found = shifts(
                    names, a[own], b[own], [[""] * 22] * features, [False] * features, DriftSettings()
                )
                for alpha in ALPHAS:
                    alarms[alpha][first + look] = bool(drifted_of(found, alpha))
        figures[f"{features} features"] = {f"alpha {a:g}": rate(alarms[a]) for a in ALPHAS}
    return figures


# --- every look of a month ----------------------------------------------------------------------------------


def of_looks(seed: int, months: int = 200, rows: int = 20) -> dict[str, Any]:
    """Windows of 24 hours over 30 days, `rows` rows a quarter of an hour, all just at the tolerance.

    Episodes are runs of looks that alarm. The budget is one in 30 days: split over 30 looks as if windows did
    not slide, and over all of them as the rule's own alpha does.
    """
    rng = np.random.default_rng(seed)
    quarters, length = 30 * 96, 96
    a, shares = of_shares(equal(20))(rng, 50_000, months)
    shares, _ = shifted(shares, spread(rng, shares), TOLERANCE)
    p = np.empty((months, quarters))
    for i in range(months):
        counts = rng.multinomial(rows, shares[i], size=quarters + length)
        total = np.cumsum(counts, axis=0)
        p[i] = p_values(np.tile(a[i], (quarters, 1)), total[length:] - total[:-length])
    budget, figures = Budget(), {"months": months, "rows_a_window": rows * length}
    for name, alpha, every in (
        ("every 15 minutes, split over 30 looks", budget.alpha(DAY, 1), 1),
        ("every 15 minutes, split over all 2,880", budget.alpha(15 * MINUTE, 1), 1),
        ("hourly, as rules are judged, over all 720", budget.alpha(HOUR, 1), 4),
    ):
        alarm = p[:, ::every] <= alpha
        begins = alarm & ~np.pad(alarm, ((0, 0), (1, 0)))[:, :-1]
        episodes = begins.sum(1)
        error = float(episodes.std() / np.sqrt(months))
        figures[name] = {  # type: ignore[assignment]
            "alpha": round(alpha, 6),
            "episodes": round(float(episodes.mean()), 3),
            "high": round(float(episodes.mean() + 2.326 * error), 3),
        }
    return figures


# --- power --------------------------------------------------------------------------------------------------


def power(seed: int, times: int = 10_000) -> dict[str, Any]:
    """Of shifts of twice the tolerance, with the rows that the test says it needs; m = 50,000."""
    figures: dict[str, Any] = {}
    for i, world in enumerate(
        ("continuous, 20 quantile cells", *[f"equal, k={k}" for k in (2, 5, 10, 50)], "Zipf, k=20")
    ):
        for alpha in ALPHAS:
            rng = np.random.default_rng([seed, i])
            a, shares = WORLDS[world](rng, 50_000, times)
            found: dict[str, Any] = {}
            for tilt in TILTS:
                moved, reached = shifted(shares, TILTS[tilt](rng, shares), 2 * TOLERANCE)
                if not reached.all():
                    continue
                cells = np.array([(shares[0] > 0).sum()])
                n = rows_needed(TOLERANCE, alpha, cells, np.array([50_000.0]))[0]
                assert n is not None
                share = float(np.mean(p_values(a, windows(rng, n, moved)) <= alpha))
                found["rows"] = n
                found[tilt] = at_least(share, 0.8)
            figures[f"{world}, alpha {alpha:g}"] = found
    return figures


def mean_shifts(seed: int, times: int = 4_000) -> dict[str, Any]:
    """Of a normal feature, in standard deviations; alpha 0.1 %, m = 50,000."""
    figures = {}
    rng = np.random.default_rng(seed)
    a, shares = quantile_cells(rng, 50_000, times)
    inner = np.clip(np.cumsum(shares, 1)[:, :-1], 1e-12, 1 - 1e-12)

    for by in (0.1, 0.2, 0.3, 0.5, 1.0):
        below = ndtr(ndtri(inner) - by)
        moved = np.maximum(np.diff(np.pad(below, ((0, 0), (1, 1)), constant_values=(0, 1)), axis=1), 0)
        moved[:, -1] = 1 - below[:, -1]
        figures[f"{by:g} sd"] = {
            f"n={n}": round(float(np.mean(p_values(a, windows(rng, n, moved)) <= 0.001)), 4)
            for n in (200, 500, 1_000, 5_000)
        }
    return figures
