"""The tests people know by name, and small formulas of the statistics page, with nothing drifting."""

from typing import Any

import numpy as np
from scipy import stats

from bench.false_alarms.draws import equal, of_shares, quantile_cells, shifted, spread, windows
from bench.false_alarms.judge import p_values
from kedge.alerting.plain_drift import P_BELOW, PSI_ABOVE
from kedge.analysis.divergence import jensen_shannon, matrix_of, smoothed, stability_index
from kedge.analysis.plain_tests import chi2, ks, psi


def by_name(seed: int, times: int = 4_000) -> dict[str, Any]:
    """Of continuous features, m = 50,000: with no shift, and with one of a tenth of the tolerance."""
    figures: dict[str, Any] = {}
    for shift in (0.0, 0.005):
        for n in (100, 200, 500, 1_000, 5_000, 50_000):
            rng = np.random.default_rng([seed, n, int(1e4 * shift)])
            a, shares = quantile_cells(rng, 50_000, times)
            if shift:
                shares, _ = shifted(shares, spread(rng, shares), shift)
            b = windows(rng, n, shares)
            sizes = np.full(times, a.shape[1] + 1)
            before, after = (matrix_of(list(side), sizes) for side in (a, b))
            ordered = np.ones(times, np.bool_)
            figures[f"effect {shift:g}, n={n}"] = {
                "ks": round(float(np.mean(ks(before, after, sizes) < P_BELOW)), 4),
                "chi2": round(float(np.mean(chi2(before, after, sizes, ordered) < P_BELOW)), 4),
                "psi": round(float(np.mean(psi(before, after, sizes, ordered) > PSI_ABOVE)), 4),
                "tolerance": round(float(np.mean(p_values(a, b) <= 0.001)), 4),
            }
    return figures


def a_week_of_looks(seed: int, weeks: int = 500) -> dict[str, float]:
    """At least one of 168 hourly looks at p < 0.05, k = 20, n = 500, m = 50,000."""
    rng = np.random.default_rng(seed)
    a = rng.multinomial(50_000, equal(20), size=weeks).astype(np.float64)
    some, looks = 0, []
    for reference in a:
        b = rng.multinomial(500, equal(20), size=168).astype(np.float64)
        low = chi2(np.tile(reference, (168, 1)), b) < P_BELOW
        some += bool(low.any())
        looks.append(low.mean())
    return {"weeks_with_one": round(some / weeks, 4), "looks": round(float(np.mean(looks)), 4)}


def formulas(seed: int, times: int = 20_000) -> dict[str, Any]:
    """Null means against what the page says of them, and the goodness-of-fit form of chi-square."""
    rng = np.random.default_rng(seed)
    figures: dict[str, Any] = {}
    k, n, m = 10, 500, 2_000
    a, shares = of_shares(equal(k))(rng, m, times)
    b, sizes = windows(rng, n, shares), np.full(times, k)
    p, q = (smoothed(c * 1.0, np.full(times, float(c[0].sum())), sizes) for c in (a, b))
    figures["psi_mean_over_expected"] = round(
        float(stability_index(p, q).mean() / ((k - 1) * (1 / n + 1 / m))), 3
    )
    nats = (jensen_shannon(p, q) ** 2 * np.log(2)).mean()
    figures["js_mean_over_expected"] = round(float(nats / ((k - 1) / 8 * (1 / n + 1 / m))), 3)
    for rows, base, cells in ((1_000, 1_000, 5), (500, 2_000, 10), (2_000, 500, 10)):
        a = rng.multinomial(base, equal(cells), size=times).astype(np.float64)
        b = rng.multinomial(rows, equal(cells), size=times)
        expected = a * rows / base
        statistic = ((b - expected) ** 2 / np.maximum(expected, 1e-9)).sum(1)
        tail = stats.chi2.sf(statistic, cells - 1)
        figures[f"goodness_of_fit, window {rows} v reference {base}, k={cells}"] = {
            "goodness_of_fit": round(float(np.mean(tail < 0.05)), 4),
            "homogeneity": round(float(np.mean(chi2(a, b * 1.0) < 0.05)), 4),
        }
    return figures


def elsewhere(seed: int) -> dict[str, Any]:
    """Figures of the statistics page that are not of drift, where a few lines simulate them."""
    rng = np.random.default_rng(seed)
    figures: dict[str, Any] = {}
    # Delays with a p95 of 21 days, seen on day 7: only those shorter than the age of their prediction.
    delay, age = rng.exponential(21 / np.log(20), 10**6), rng.uniform(0, 7, 10**6)
    figures["delay_p95_seen_on_day_7"] = round(float(np.quantile(delay[delay <= age], 0.95)), 2)
    # Conformal p of the next value of a series with autocorrelation 0.97 against its last 99.
    series, rho = np.empty((5_000, 600)), 0.97
    series[:, 0] = rng.normal(size=len(series))
    for i in range(1, series.shape[1]):
        series[:, i] = rho * series[:, i - 1] + np.sqrt(1 - rho**2) * rng.normal(size=len(series))
    for ahead in (1, 40, 500):
        p = (1 + (series[:, :99] >= series[:, [98 + ahead]]).sum(1)) / 100
        figures[f"conformal_times_nominal_{ahead}_ahead"] = round(float(np.mean(p <= 0.01)) / 0.01, 1)
    # A true recall of 0.80 and `fall: 10%` of it on point estimates: a window of 24 hours that slides hourly.
    for positives in (20, 100):
        hours = rng.poisson(positives / 24, size=(1_000, 720 + 24))
        hits = np.cumsum(rng.binomial(hours, 0.8), axis=1)
        seen = np.cumsum(hours, axis=1)
        recall = (hits[:, 24:] - hits[:, :-24]) / np.maximum(seen[:, 24:] - seen[:, :-24], 1)
        fallen = recall < 0.8 * 0.9
        begins = fallen & ~np.pad(fallen, ((0, 0), (1, 0)))[:, :-1]
        figures[f"recall_episodes_a_month_{positives}_positives"] = round(float(begins.sum(1).mean()), 1)
    return figures
