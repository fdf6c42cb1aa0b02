"""The tables of docs/false-alarms.md, from the figures of `python -m bench false_alarms series`."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "bench" / "results" / "false_alarms.json"
Table = Callable[[Sequence[str], Iterator[Sequence[str]]], str]
ALPHAS = ("alpha 0.01", "alpha 0.001")


@cache
def figures() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text("utf-8"))["false_alarms"]
    return found


@cache
def series_figures() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.with_name("series.json").read_text("utf-8"))["series"]
    return found


def percent(share: float) -> str:
    """`0.094 %`, `12 %`, `0 %`."""
    return "0 %" if share == 0 else f"{100 * share:.2g} %" if share < 0.995 else "100 %"


def _rate(found: dict[str, Any]) -> str:
    return f"{percent(found['rate'])} (at most {percent(found['high'])})"


def grid(table: Table) -> str:
    rows = []
    for name, title in (("promised", "m >= 4 n"), ("smaller_reference", "m < 4 n")):
        for alpha in ALPHAS:
            found = figures()["grid"][name][alpha]
            for i, cell in enumerate(found["worst"][:3]):
                rows.append(
                    (
                        f"{title}, {percent(float(alpha.split()[1]))}" if not i else "",
                        cell["world"],
                        f"{cell['m']:,}",
                        f"{cell['n']:,}",
                        cell["shift"],
                        _rate(cell),
                    )
                )
            rows.append(
                ("", "mean of all", "", "", "", percent(found["mean_of_all_cells"])),
            )
            rows.append(
                ("", "worst without any shift", "", "", "", percent(found["worst_without_any_shift"])),
            )
    return table(("alpha", "world", "m", "n", "shift at the tolerance", "alarms"), iter(rows))


def tails(table: Table) -> str:
    rows = ((name, *(_rate(found[a]) for a in ALPHAS)) for name, found in figures()["rows"].items())
    return table(("column", "at 1 %", "at 0.1 %"), rows)


def many(table: Table) -> str:
    held = {name: f for name, f in figures()["many_features"].items() if isinstance(f, dict)}
    rows = ((name, *(_rate(f[a]) for a in ALPHAS)) for name, f in held.items())
    return table(("any of", "at 1 %", "at 0.1 %"), rows)


def looks(table: Table) -> str:
    held = {name: f for name, f in figures()["looks"].items() if isinstance(f, dict)}
    rows = (
        (name, f"{f['alpha']:g}", f"{f['episodes']:g} (at most {f['high']:g})") for name, f in held.items()
    )
    return table(("a 24 h window looked at", "alpha of a look", "false episodes in 30 days"), rows)


def power(table: Table) -> str:
    rows = (
        (
            name,
            f"{f['rows']:,}",
            percent(f["spread"]["value"]),
            _some(f.get("trend")),
            _some(f.get("trend back")),
            _some(f.get("rarest cell")),
        )
        for name, f in figures()["power"].items()
    )
    return table(("world", "n said to suffice", "spread", "trend", "trend back", "rarest cell"), rows)


def _some(value: float | None) -> str:
    return "" if value is None else percent(value)


def means(table: Table) -> str:
    held = figures()["mean_shifts"]
    columns = list(next(iter(held.values())))
    rows = ((f"{by}", *(percent(f[c]) for c in columns)) for by, f in held.items())
    return table(("a normal feature moved by", *columns), rows)


def dependent(table: Table) -> str:
    cases = {
        f"clusters of four, {k.replace('_', ' ')}": v
        for k, v in figures()["clusters"].items()
        if isinstance(v, dict)
    }
    cases |= {
        f"AR(1), {k.replace('_', ' ')}": v
        for k, v in figures()["autocorrelated"].items()
        if isinstance(v, dict)
    }
    cases["hours of a daily season, no shift"] = figures()["seasonal"]
    rows = (
        (
            name,
            f"{f['phi']:g} ({f['phi_mean_over_cells']:g})",
            *(percent(f[c]["rate"]) for c in ("undivided", "by_mean_over_cells", "by_phi")),
        )
        for name, f in cases.items()
    )
    return table(("rows", "phi (mean over cells)", "as if independent", "by the mean", "by phi"), rows)


def names(table: Table) -> str:
    rows = (
        (
            case.replace("effect 0, ", "nothing, ").replace("effect 0.005, ", "D = 0.005, "),
            *(percent(f[c]) for c in ("tolerance", "psi", "ks", "chi2")),
        )
        for case, f in figures()["by_name"].items()
    )
    return table(("true shift", "tolerance", "PSI > 0.2", "KS p < 0.05", "chi-square p < 0.05"), rows)


def others(table: Table) -> str:
    evidently, nannyml = figures()["evidently"], figures()["nannyml"]
    rows: list[tuple[str, str, str]] = []
    for case, f in evidently.items():
        if isinstance(f, dict) and "rate" in f:
            rows.append((evidently["version"], f"{case}: {f['test']}", percent(f["rate"])))
    for case in ("jensen_shannon", "mean", "cbpe"):
        if case in nannyml:
            text = f"{case}, a chunk of {nannyml['rows_a_chunk']} rows beyond mean ± 3 sd of ten"
            rows.append((nannyml["version"], text, percent(nannyml[case]["rate"])))
    return table(("program", "default", "alarms with nothing drifting"), iter(rows))


def said(table: Table) -> str:
    """What the design's own simulations said, and what these found."""
    f = figures()
    grid_ = f["grid"]["promised"]
    ev, nm, form, else_, look = f["evidently"], f["nannyml"], f["formulas"], f["elsewhere"], f["looks"]
    at = f["clusters"]["at_the_tolerance"]
    still = f["clusters"]["no_shift"]
    gof = "goodness_of_fit, window {} v reference {}, k={}"
    power_ = [v["spread"]["value"] for v in f["power"].values()]

    def evidently(cases: Sequence[str]) -> str:
        return " / ".join(percent(ev[c]["rate"]) for c in cases) if cases[0] in ev else "not run"

    psi = ev.get("psi_of_half_a_sd", {})
    rows = [
        (
            "false alarms on the grid at 1 % and 0.1 %",
            "under 0.8 % and 0.06 %",
            " and ".join(percent(max(c["rate"] for c in grid_[a]["worst"])) for a in ALPHAS)
            + ", the worst cells at the tolerance",
        ),
        (
            "power at twice the tolerance, spread shifts",
            "80 %",
            f"{percent(min(power_))} to {percent(max(power_))}",
        ),
        ("null mean of PSI over (k-1)(1/n+1/m)", "1", f"{form['psi_mean_over_expected']:g}"),
        ("null mean of JS (nats) over (k-1)/8 (1/n+1/m)", "1", f"{form['js_mean_over_expected']:g}"),
        (
            "chi-square by goodness of fit at 5 %: 1,000 v 1,000, k=5",
            "29 %",
            percent(form[gof.format(1000, 1000, 5)]["goodness_of_fit"]),
        ),
        (
            "the same with 500 and 2,000 rows, k=10",
            "93 %",
            (
                f"{percent(form[gof.format(2000, 500, 10)]['goodness_of_fit'])} for a reference of 500, "
                f"{percent(form[gof.format(500, 2000, 10)]['goodness_of_fit'])} for one of 2,000"
            ),
        ),
        (
            "clusters of four at 1 %, n = 2,000: divided on one side, on both",
            "77 %, 0 %",
            (
                f"{percent(still['n_eff_divided_on_one_side']['rate'])}, "
                f"{percent(still['both_sides_phi_known']['rate'])} with no shift; "
                f"{percent(at['n_eff_divided_on_one_side']['rate'])}, "
                f"{percent(at['both_sides_phi_known']['rate'])} at the tolerance"
            ),
        ),
        (
            "episodes in 30 days, 24 h windows every 15 minutes: 30 looks budgeted, all 2,880",
            "12, 0.2",
            (
                f"{look['every 15 minutes, split over 30 looks']['episodes']:.2g}, "
                f"{look['every 15 minutes, split over all 2,880']['episodes']:.2g}"
            ),
        ),
        (
            "weeks of 168 hourly looks at p < 0.05 with at least one alarm",
            "100 %",
            percent(f["week_of_looks"]["weeks_with_one"]),
        ),
        (
            "Evidently, categories: (k, n) = (10, 100), (20, 200), (100, 1,000)",
            "56 / 76 / 100 %",
            evidently([f"categorical, k={k}, n={n}" for k, n in ((10, 100), (20, 200), (100, 1000))]),
        ),
        (
            "Evidently, numbers: n = 50, 100, 200, 500",
            "97 / 65 / 34 / 3 %",
            evidently([f"numeric, n={n}" for n in (50, 100, 200, 500)]),
        ),
        (
            "Evidently's PSI of a shift of 0.5 sd, without and with one outlier of 1000",
            "0.237, 0.000",
            f"{psi['plain']:.3f}, {psi['with_one_outlier_of_1000']:.3f}" if psi else "not run",
        ),
        (
            "mean ± 3 sd of ten chunks (NannyML): chunks outside",
            "5 to 7 %",
            " / ".join(percent(nm[c]["rate"]) for c in ("jensen_shannon", "mean", "cbpe"))
            + " (JS, mean, CBPE)"
            if "mean" in nm
            else "not run",
        ),
        (
            "a label delay with a p95 of 21 days, seen on day 7",
            "5.0",
            f"{else_['delay_p95_seen_on_day_7']:g}",
        ),
        (
            "conformal p on a series with autocorrelation 0.97 and 99 points, in nominal rates",
            "12",
            (
                f"{else_['conformal_times_nominal_40_ahead']:g} 40 steps ahead, "
                f"{else_['conformal_times_nominal_500_ahead']:g} 500 ahead"
            ),
        ),
        (
            "a recall of 0.80, `fall: 10%` on point estimates: episodes a month at 20 and 100 positives",
            "19, 4.9",
            (
                f"{else_['recall_episodes_a_month_20_positives']:g}, "
                f"{else_['recall_episodes_a_month_100_positives']:g}"
            ),
        ),
    ]
    return table(("figure", "said", "measured here"), iter(rows))


def series_alarms(table: Table) -> str:
    found = series_figures()
    alarms, trends = found["alarms a month"], found["alarms of a trend rule a month"]
    methods = list(next(iter(alarms.values())))
    rows = [
        [name, *(f"{by[method]:g}" for method in methods), f"{trends[name]:.2g}" if name in trends else ""]
        for name, by in alarms.items()
    ]
    return table(("alarms a month", *(f"`{method}`" for method in methods), "trend"), iter(rows))


def series_delays(table: Table) -> str:
    found = series_figures()["windows until a shift is found"]
    methods = list(next(iter(found.values())))
    rows = [[name, *(by[method] for method in methods)] for name, by in found.items()]
    return table(("a shift that stays", *(f"`{method}`" for method in methods)), iter(rows))


REGIONS: dict[str, Callable[[Table], str]] = {
    "alarms-grid": grid,
    "alarms-tails": tails,
    "alarms-many": many,
    "alarms-looks": looks,
    "alarms-power": power,
    "alarms-means": means,
    "alarms-dependent": dependent,
    "alarms-names": names,
    "alarms-others": others,
    "alarms-said": said,
    "alarms-series": series_alarms,
    "alarms-delays": series_delays,
}
