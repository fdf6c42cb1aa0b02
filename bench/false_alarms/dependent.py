"""Rows that depend on each other, and what dividing by phi does."""

from typing import Any

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from bench.false_alarms.draws import TOLERANCE, Floats, Generator, Ints, effect, equal, shifted, spread
from bench.false_alarms.judge import p_values, rate
from kedge.analysis import noncentral
from kedge.analysis.dispersion import dispersion
from kedge.analysis.divergence import effect_terms
from kedge.analysis.restless import left_out_effects, restless

K, ALPHA = 20, 0.01
Size = tuple[int, ...]


def clustered(rng: Generator, shares: Floats, rows: int, size: Size, together: int = 4) -> Ints:
    """Rows come four equal ones at a time."""
    return together * rng.multinomial(rows // together, shares, size=size)


def following(rng: Generator, rows: int, size: Size, rho: float, shift: float = 0.0) -> Ints:
    """Counts over 20 cells of equal share of an AR(1) normal, its mean moved by `shift` sd."""
    noise = rng.normal(size=(*size, rows + 200)) * np.sqrt(1 - rho**2)
    values = lfilter([1.0], [1.0, -rho], noise, axis=-1)[..., 200:] + shift
    return _counted(values, size)


def _counted(values: Floats, size: Size) -> Ints:
    cells = np.minimum((ndtr(values) * K).astype(np.int64), K - 1).reshape(-1, values.shape[-1])
    at = cells + K * np.arange(len(cells))[:, None]
    return np.bincount(at.ravel(), minlength=K * len(cells)).reshape(*size, K)


def _moved_mean(size: float) -> float:
    """The shift of a normal, in sd, with this effect over the 20 cells."""
    edges, low, high = ndtri(np.arange(1, K) / K), 0.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        q = np.diff([0.0, *ndtr(edges - middle), 1.0])
        low, high = (middle, high) if effect(equal(K)[None], q[None])[0] < size else (low, middle)
    return low


def _compared(a: Ints, b: Ints, reference_windows: Ints) -> dict[str, Any]:
    """Alarms at alpha 1 % with no phi, with the mean over the cells, and with phi as production takes it."""
    found = dispersion(reference_windows)
    figures: dict[str, Any] = {"phi": round(float(np.median(found.phi)), 2)}
    figures["phi_mean_over_cells"] = round(float(np.median(found.mean)), 2)
    for name, phi in (
        ("undivided", 1.0),
        ("by_mean_over_cells", np.maximum(found.mean, 1.0)),
        ("by_phi", found.phi),
    ):
        figures[name] = rate(p_values(a, b, phi) <= ALPHA)
    return figures


def clusters(seed: int, features: int = 10_000, n: int = 2_000) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    flat = np.tile(equal(K), (features, 1))
    moved, _ = shifted(flat, spread(rng, flat), TOLERANCE)
    reference = clustered(rng, equal(K), 10 * n, (features,))
    some = 2_000
    past = clustered(rng, equal(K), n, (some, 20))
    figures: dict[str, Any] = {"n": n, "m": 10 * n, "reference_windows": 20}
    for name, shares in (("no_shift", flat), ("at_the_tolerance", moved)):
        b = 4 * rng.multinomial(n // 4, shares)
        figures[name] = _compared(reference[:some], b[:some], past)
        # What it means to divide N_eff on one side alone, phi known.
        terms = effect_terms(reference * 1.0, b * 1.0).sum(1)
        effective = n * 10 / 11
        p = noncentral.sf(terms * effective, K - 1, TOLERANCE * effective / 4)
        figures[name]["n_eff_divided_on_one_side"] = rate(p <= ALPHA)
        figures[name]["both_sides_phi_known"] = rate(p_values(reference, b, 4.0) <= ALPHA)
    return figures


def autocorrelated(seed: int, features: int = 1_000, n: int = 1_000) -> dict[str, Any]:
    figures: dict[str, Any] = {"n": n, "m": 10 * n, "reference_windows": 30}
    shift = _moved_mean(TOLERANCE)
    for rho in (0.5, 0.8, 0.95):
        rng = np.random.default_rng([seed, int(100 * rho)])
        past = np.concatenate([following(rng, n, (100, 30), rho) for _ in range(features // 100)])
        a = following(rng, 10 * n, (features,), rho)
        for name, by in (("no_shift", 0.0), ("at_the_tolerance", shift)):
            figures[f"rho {rho:g}, {name}"] = _compared(a, following(rng, n, (features,), rho, by), past)
    return figures


def seasonal(seed: int, features: int = 1_000, n: int = 500) -> dict[str, Any]:
    """A mean that goes up and down by 0.4 sd over the day, in windows of an hour against all 30 days."""
    rng = np.random.default_rng(seed)
    hours = 0.4 * np.sin(2 * np.pi * np.arange(24) / 24)
    edges = ndtri(np.arange(1, K) / K)
    shares = np.diff(
        np.pad(ndtr(edges[None] - hours[:, None]), ((0, 0), (1, 1)), constant_values=(0, 1)), axis=1
    )
    past = np.array([rng.multinomial(n, np.tile(shares, (2, 1))) for _ in range(features)])
    a = np.array([rng.multinomial(30 * n, shares).sum(0) for _ in range(features)])
    b = rng.multinomial(n, shares[rng.integers(0, 24, features)])
    figures = {"n": n, "reference_windows": 48} | _compared(a, b, past)
    figures["restless"] = round(float(restless(left_out_effects(past), TOLERANCE).mean()), 3)
    days = np.array([rng.multinomial(n // 24, np.tile(shares, (20, 1))) for _ in range(300)])
    whole = days.reshape(300, 20, 24, K).sum(2)
    figures["phi_of_whole_days"] = round(float(np.median(dispersion(whole).phi)), 2)
    return figures
