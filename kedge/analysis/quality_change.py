"""The quality of the features against the reference: one that froze, and those that came or went.

Each is told only where chance is no explanation. The chance is computed with the share of one side at the end
of its interval that is less favourable to the finding, so that few rows prove little; of several features
that are looked at together each must be as improbable as all of them may be (Bonferroni).
"""

import math
from collections.abc import Mapping

from kedge.analysis import build
from kedge.analysis.drift import DriftSettings
from kedge.analysis.evidence import Chances
from kedge.analysis.intervals import wilson_of
from kedge.analysis.latency import NO_ROWS
from kedge.analysis.metric import Metric, Verdict
from kedge.sketch import CategoricalEdges, Core, Counts, Edges, Moments, NumericEdges

CONSTANT, APPEARED, DISAPPEARED = "quality.constant", "quality.appeared", "quality.disappeared"
MOST_NAMES = 10
"""Features that a sentence names."""
_MIXED = "every value is among the rare or the unknown ones, which are not told apart"


def constant(
    feature: str,
    edges: Edges,
    cells: tuple[Counts, Counts],
    moments: tuple[Moments, Moments],
    of: DriftSettings,
) -> Metric:
    """1 where all values of the window are one value and the reference varied, else 0; pairs are (reference,
    window).

    That n values of the reference's distribution all fall in one cell has at most the chance p^(n-1), p being
    the share of its commonest cell. A chance of `of.alpha` or more is *insufficient*: a flag that is nearly
    always 0 is 0 in most windows. Of dependent rows only 1 / phi count.
    """
    labels = {"feature": feature}
    before, now = (_one_value(edges, c, m) for c, m in zip(cells, moments, strict=True))
    counts = cells[0][:-1]  # the last are the missing ones
    m, n = int(counts.sum()), int(cells[1][:-1].sum())
    if not m or not n:
        side = "window" if m else "reference"
        return build.absent(CONSTANT, f"no values in the {side}", n=n, labels=labels)
    if now is None:
        return build.absent(CONSTANT, _MIXED, n=n, labels=labels)
    if not now or before:
        return build.present(CONSTANT, 0.0, n, Chances(0.0), labels=labels)
    share = wilson_of(float(counts.max()), m)[1]
    phi = of.phi.get(feature, 1.0)
    chance = share ** ((n - 1) / phi)
    if chance >= of.alpha:
        needed = 1 + math.ceil(phi * math.log(of.alpha) / math.log(share)) if share < 1 else None
        wanted = f"needs n >= {needed:,}" if needed else "the reference hardly varies"
        reason = f"all n={n:,} values are {now}, which may be chance ({wanted})"
        return Metric(CONSTANT, None, n, labels, verdict=Verdict.INSUFFICIENT, reason=reason)
    told = f"every value is {now}"
    return build.present(CONSTANT, 1.0, n, Chances(1.0, (chance,)), labels=labels, detail={"told": told})


def _one_value(edges: Edges, counts: Counts, moments: Moments) -> str | None:
    """The only value of some rows, empty where there are several; None where the cells cannot tell."""
    if isinstance(edges, NumericEdges):
        return f"{moments.low:g}" if moments.n and moments.low == moments.high else ""
    held = counts[:-1].nonzero()[0]
    if held.size != 1:
        return ""
    return _value_of(edges, int(held[0]))


def _value_of(edges: CategoricalEdges, cell: int) -> str | None:
    if cell < len(edges.values):
        return f'"{edges.values[cell]}"'
    return f'"{edges.others[0]}"' if cell == len(edges.values) and len(edges.others) == 1 else None


def appeared(reference: Core, window: Core, alpha: float) -> Metric:
    """Features that rows of the window have and none of the reference's: how many."""
    return _changed(APPEARED, window, reference, alpha, ("window", "reference"))


def disappeared(reference: Core, window: Core, alpha: float) -> Metric:
    """Features that rows of the reference have and none of the window's: how many.

    Where the reference had a feature in a share p of its rows, none of n rows has it with the chance (1-p)^n.
    """
    return _changed(DISAPPEARED, reference, window, alpha, ("reference", "window"))


def _changed(name: str, having: Core, lacking: Core, alpha: float, sides: tuple[str, str]) -> Metric:
    had, left = _rows_by_feature(having), _rows_by_feature(lacking)
    if not having.rows or not lacking.rows:
        return build.absent(name, NO_ROWS if not lacking.rows else f"no rows in the {sides[0]}")
    if not had:
        return build.absent(name, f"no features in the {sides[0]}")

    def chance(rows: int) -> float:
        share = wilson_of(float(rows), float(having.rows))[0]
        return min(float((1 - share) ** lacking.rows) * len(had), 1.0)

    chances = {feature: chance(rows) for feature, rows in had.items() if feature not in left}
    sure = sorted(feature for feature, c in chances.items() if c < alpha)
    if chances and chance(max(had.values())) >= alpha:
        reason = (
            f"too few rows to tell (n={lacking.rows:,} in the {sides[1]}, {having.rows:,} in the {sides[0]})"
        )
        return Metric(name, None, len(had), verdict=Verdict.INSUFFICIENT, reason=reason)
    detail = {"features": sure, "unsure": sorted(chances.keys() - sure)}
    told = {"told": listed(sure)} if sure else {}
    evidence = Chances(float(len(sure)), tuple(sorted(chances.values())))
    return build.present(name, len(sure), len(had), evidence, detail=detail | told)


def _rows_by_feature(core: Core) -> Mapping[str, int]:
    """Rows with a value of any kind, of each feature that has any."""
    rows = {name: moments.n for name, moments in core.numeric.items()}
    for counted in (core.present, core.invalid):
        for name, n in counted.items():
            rows[name] = rows.get(name, 0) + n
    return {name: min(n, core.rows) for name, n in rows.items() if n}


def listed(names: list[str]) -> str:
    """`age, shop and 3 more`."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
