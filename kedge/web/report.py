"""The page of `kedge compare --html`: one file with its pictures in it, no script, nothing fetched."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kedge.analysis.comparison import Change, Comparison, FeatureComparison, Tone, shown_interval
from kedge.analysis.metric import Metric
from kedge.analysis.multivariate import Separation
from kedge.notify.formatting import THIN, count, notation
from kedge.sketch import NumericEdges
from kedge.web.shapes import Bar, Shape, Whisker, bars_of, is_drawn_as_bars, shape_of, whiskers
from kedge.windows import Millis, iso


@dataclass(frozen=True)
class Side:
    """One of the two files."""

    name: str
    rows: int


@dataclass(frozen=True)
class Row:
    """One metric as a line of a table."""

    title: str
    reference: str
    current: str
    change: str
    n: str
    tone: Tone
    note: str
    whiskers: Sequence[Whisker]
    """Of the reference, then of the current side; empty where one has no value."""


@dataclass(frozen=True)
class Card:
    """One feature."""

    feature: FeatureComparison
    shape: Shape | None
    bars: Sequence[Bar]
    facts: Sequence[tuple[str, str, str]]
    """What, in the reference, in the current rows."""


def comparison_page(found: Comparison, reference: str, current: str, *, made: Millis, title: str = "") -> str:
    """HTML. `reference` and `current` name the two sides; `made` is the time that the page says it is of."""
    families = [(family, [row_of(c) for c in changes]) for family, changes in found.by_family()]
    return (
        _environment()
        .get_template("compare.html")
        .render(
            title=title or f"{current} against {reference}",
            sides=(Side(reference, found.reference_rows), Side(current, found.current_rows)),
            found=found,
            notable=[(c, row_of(c)) for c in found.notable],
            families=families,
            steady=", ".join(title_of(c.current) for c in found.steady),
            cards=[card_of(f) for f in found.features],
            separation=found.separation.explain()
            if isinstance(found.separation, Separation)
            else found.separation,
            made=iso(made),
        )
    )


def title_of(metric: Metric) -> str:
    """`performance.recall of fraud`."""
    return " of ".join([metric.name, *metric.labels.values()])


def row_of(change: Change) -> Row:
    """A change as text."""
    before, now = change.reference, change.current
    values = (before.value if before else None, now.value)
    text = notation(change.unit, *values)
    by = ""
    if change.by is not None:
        by = notation(change.unit, change.by)(change.by)
        by = by if by.startswith("−") else f"+{by}"
        if change.unit == "ratio":
            by = f"{100 * change.by:+.1f}{THIN}pp".replace("-", "−")
    sides = [(m.value, shown_interval(m)) for m in (before, now) if m is not None and m.value is not None]
    return Row(
        title=title_of(now),
        reference=text(values[0]) if values[0] is not None else "",
        current=text(values[1]) if values[1] is not None else "",
        change=by,
        n=count(now.n),
        tone=change.tone,
        note=now.told or "",
        whiskers=whiskers(sides) if len(sides) == 2 else (),
    )


def card_of(feature: FeatureComparison) -> Card:
    """A feature with its picture and the few numbers that go with it."""
    numeric = isinstance(feature.edges, NumericEdges)
    facts: list[tuple[str, str, str]] = []
    a, b = feature.reference_moments, feature.current_moments
    if numeric and a.n and b.n:
        for name in ("mean", "std"):
            values = [getattr(m, name) if m.n > 1 or name == "mean" else None for m in (a, b)]
            text = notation("", *values)
            facts.append((name, text(values[0]), text(values[1])))
        text = notation("", a.low, a.high, b.low, b.high)
        facts.append(("range", f"{text(a.low)} to {text(a.high)}", f"{text(b.low)} to {text(b.high)}"))
    else:
        for name, cell in (("unseen", -2),) if not numeric else ():
            facts += _shares(feature, name, cell)
    facts += _shares(feature, "missing", -1)
    return Card(
        feature,
        None if is_drawn_as_bars(feature) else shape_of(feature),
        bars_of(feature) if is_drawn_as_bars(feature) else (),
        facts,
    )


def _shares(feature: FeatureComparison, name: str, cell: int) -> list[tuple[str, str, str]]:
    """The share of one cell, where either side has any."""
    shares = [
        float(counts[cell]) / total if (total := int(counts.sum())) else 0.0
        for counts in (feature.reference, feature.current)
    ]
    if not any(shares):
        return []
    text = notation("ratio", *shares)
    return [(name, text(shares[0]), text(shares[1]))]


def shortened(name: str, most: int = 17) -> str:
    """What is left out comes from the middle: long names of categories differ at their ends."""
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[-end:]}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = count
    environment.filters["middle"] = shortened
    environment.filters["short"] = lambda value: notation("", value)(value)
    environment.filters["percent"] = lambda value: (
        f"{100 * value:.2g}{THIN}%" if value < 0.995 else f"100{THIN}%"
    )
    return environment
