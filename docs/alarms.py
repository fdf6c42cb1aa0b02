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


_TILTS = ("spread", "trend", "trend back", "rarest cell")


def power(table: Table) -> str:
    rows = (
        (name, f"{f['rows']:,}", *(percent(f[tilt]["value"]) if tilt in f else "" for tilt in _TILTS))
        for name, f in figures()["power"].items()
    )
    return table(("world", "n said to suffice", *_TILTS), rows)


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
    rows = (*_said_of_verdicts(), *_said_of_looks(), *_said_of_others(), *_said_of_the_rest())
    return table(("figure", "said", "measured here"), iter(rows))


_Said = Iterator[tuple[str, str, str]]


def _said_of_verdicts() -> _Said:
    f = figures()
    form, grid_ = f["formulas"], f["grid"]["promised"]
    worst = " and ".join(percent(max(c["rate"] for c in grid_[a]["worst"])) for a in ALPHAS)
    found = f"{worst}, the worst cells at the tolerance"
    yield "false alarms on the grid at 1 % and 0.1 %", "under 0.8 % and 0.06 %", found
    powers = [v["spread"]["value"] for v in f["power"].values()]
    found = f"{percent(min(powers))} to {percent(max(powers))}"
    yield "power at twice the tolerance, spread shifts", "80 %", found
    yield "null mean of PSI over (k-1)(1/n+1/m)", "1", f"{form['psi_mean_over_expected']:g}"
    yield "null mean of JS (nats) over (k-1)/8 (1/n+1/m)", "1", f"{form['js_mean_over_expected']:g}"

    def by_fit(n: int, m: int, k: int) -> str:
        return percent(form[f"goodness_of_fit, window {n} v reference {m}, k={k}"]["goodness_of_fit"])

    yield "chi-square by goodness of fit at 5 %: 1,000 v 1,000, k=5", "29 %", by_fit(1000, 1000, 5)
    found = f"{by_fit(2000, 500, 10)} for a reference of 500, {by_fit(500, 2000, 10)} for one of 2,000"
    yield "the same with 500 and 2,000 rows, k=10", "93 %", found
    clusters = []
    for of, when in (("no_shift", "with no shift"), ("at_the_tolerance", "at the tolerance")):
        rates = (f["clusters"][of][c]["rate"] for c in ("n_eff_divided_on_one_side", "both_sides_phi_known"))
        clusters.append(f"{', '.join(map(percent, rates))} {when}")
    said_ = "clusters of four at 1 %, n = 2,000: divided on one side, on both"
    yield said_, "77 %, 0 %", "; ".join(clusters)


def _said_of_looks() -> _Said:
    look = figures()["looks"]
    split = (look[f"every 15 minutes, split over {n}"]["episodes"] for n in ("30 looks", "all 2,880"))
    yield (
        "episodes in 30 days, 24 h windows every 15 minutes: 30 looks budgeted, all 2,880",
        "12, 0.2",
        ", ".join(f"{episodes:.2g}" for episodes in split),
    )
    yield (
        "weeks of 168 hourly looks at p < 0.05 with at least one alarm",
        "100 %",
        percent(figures()["week_of_looks"]["weeks_with_one"]),
    )


def _said_of_others() -> _Said:
    ev, nm = figures()["evidently"], figures()["nannyml"]

    def evidently(cases: Sequence[str]) -> str:
        return " / ".join(percent(ev[c]["rate"]) for c in cases) if cases[0] in ev else "not run"

    yield (
        "Evidently, categories: (k, n) = (10, 100), (20, 200), (100, 1,000)",
        "56 / 76 / 100 %",
        evidently([f"categorical, k={k}, n={n}" for k, n in ((10, 100), (20, 200), (100, 1000))]),
    )
    yield (
        "Evidently, numbers: n = 50, 100, 200, 500",
        "97 / 65 / 34 / 3 %",
        evidently([f"numeric, n={n}" for n in (50, 100, 200, 500)]),
    )
    psi = ev.get("psi_of_half_a_sd", {})
    yield (
        "Evidently's PSI of a shift of 0.5 sd, without and with one outlier of 1000",
        "0.237, 0.000",
        f"{psi['plain']:.3f}, {psi['with_one_outlier_of_1000']:.3f}" if psi else "not run",
    )
    cases = ("jensen_shannon", "mean", "cbpe")
    yield (
        "mean ± 3 sd of ten chunks (NannyML): chunks outside",
        "5 to 7 %",
        f"{' / '.join(percent(nm[c]['rate']) for c in cases)} (JS, mean, CBPE)"
        if "mean" in nm
        else "not run",
    )


def _said_of_the_rest() -> _Said:
    held = figures()["elsewhere"]
    delay = held["delay_p95_seen_on_day_7"]
    yield "a label delay with a p95 of 21 days, seen on day 7", "5.0", f"{delay:g}"
    nearer, further = (held[f"conformal_times_nominal_{n}_ahead"] for n in (40, 500))
    yield (
        "conformal p on a series with autocorrelation 0.97 and 99 points, in nominal rates",
        "12",
        f"{nearer:g} 40 steps ahead, {further:g} 500 ahead",
    )
    episodes = (held[f"recall_episodes_a_month_{n}_positives"] for n in (20, 100))
    yield (
        "a recall of 0.80, `fall: 10%` on point estimates: episodes a month at 20 and 100 positives",
        "19, 4.9",
        ", ".join(f"{n:g}" for n in episodes),
    )


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
