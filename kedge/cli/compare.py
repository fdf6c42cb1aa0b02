"""`kedge compare`: two files, side by side, without any store."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from kedge.cli.columns import column_options, columns_from
from kedge.cli.common import json_option, settings_from
from kedge.cli.output import json_line, table
from kedge.errors import BadInput

if TYPE_CHECKING:
    from kedge.analysis.calibration import Bin
    from kedge.analysis.comparison import Calibration, Comparison, FeatureComparison
    from kedge.analysis.multivariate import Separation
    from kedge.sketch.sample import Sample

_WIDTH = 16
"""Characters of a feature's two little histograms, each."""
_ROWS = 40
"""Features and credible changes of features that the table shows; the page and --json have all."""
_CHANGES = 12
_COLOURS = {"worse": "red", "better": "green", "moved": "yellow"}


@click.command()
@click.argument("reference", metavar="REF")
@click.argument("current", metavar="CUR")
@column_options
@click.option("--html", "page", metavar="FILE", help="Write a page with charts to FILE, beside the table.")
@click.option(
    "--multivariate",
    is_flag=True,
    help="Also ask whether a classifier tells the rows apart by all features together: takes seconds.",
)
@click.option(
    "--sample",
    default=5_000,
    show_default=True,
    metavar="N",
    type=click.IntRange(200, 200_000),
    help="Rows of each file that --multivariate looks at.",
)
@json_option
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    reference: str,
    current: str,
    page: str | None,
    multivariate: bool,
    sample: int,
    as_json: bool,
    **columns: Any,
) -> None:
    """Compare two files of predictions: drift, quality and performance of CUR against REF. Needs no store.

    Exits with 1 where something drifted.

    \b
    Example: kedge compare january.parquet february.parquet --html report.html
             kedge compare train.csv live.jsonl --class predicted --label truth --json
             kedge compare train.csv live.csv --multivariate
    """
    from kedge.analysis.comparison import compare_summaries
    from kedge.analysis.multivariate import metric_of
    from kedge.cli.reference import compared_files
    from kedge.pipeline.measure import context_for
    from kedge.pipeline.query import metric_row

    settings = settings_from(ctx)
    now = settings.make_clock()()
    column_map = columns_from(columns)
    model = settings.of_model("compare")
    if column_map.positive:
        model = model.model_copy(update={"positive_class": column_map.positive})
    base, summary, samples, length = compared_files(
        Path(reference), Path(current), column_map, model, now, sample if multivariate else None
    )
    found = compare_summaries(base.summaries[()], summary, context_for(model, base, (), length))
    if samples:
        found = replace(found, separation=_separated(*samples))
    if page:
        _write(page, found, Path(reference).name, Path(current).name, now)
    if as_json:
        for metric in found.metrics:
            json_line(metric_row(metric, None))
        if found.separation is not None:
            json_line(metric_row(metric_of(found.separation), None))
    else:
        _print(found, reference, current)
        if page:
            click.echo(f"\nthe page with charts: {page}")
    ctx.exit(int(found.found))


def _separated(*samples: "Sample") -> "Separation | str":
    """Tells what it costs."""
    from kedge.analysis.multivariate import Rows, separate

    began = time.monotonic()
    reference, current = (Rows(s.names, s.categorical, s.matrix) for s in samples)
    found = separate(reference, current)
    sizes = " and ".join(f"{len(s.matrix):,} of {s.rows:,}" for s in samples)
    click.echo(f"--multivariate: {sizes} rows, {time.monotonic() - began:.1f} s", err=True)
    return found


def _write(path: str, found: "Comparison", reference: str, current: str, now: int) -> None:
    from kedge.web.report import comparison_page

    try:
        Path(path).write_text(comparison_page(found, reference, current, made=now), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror}", path) from None


def _print(found: "Comparison", reference: str, current: str) -> None:
    from kedge.cli.output import out
    from kedge.web.report import row_of, title_of

    sides = ((reference, found.reference_rows), (current, found.current_rows))
    click.echo("   ".join(f"{name}: {rows:,} {'row' if rows == 1 else 'rows'}" for name, rows in sides))
    out.print(f"\n[bold]{_summary(found)}[/bold]")
    notable = [(c, row_of(c)) for c in found.notable]
    for change, row in notable[:_CHANGES]:
        colour = _COLOURS[change.tone]
        was = f"{row.reference} → {row.current} ({row.change})" if row.reference else row.current
        out.print(f"  [{colour}]{escape(row.title)}[/{colour}]  {was}, n={row.n}")
    if len(notable) > _CHANGES:
        out.print(f"  and {len(notable) - _CHANGES} more changes, below")
    if found.separation is not None:
        said = found.separation
        text = (
            f"not known whether a classifier tells them apart: {said}"
            if isinstance(said, str)
            else said.explain()
        )
        out.print(f"  All features together: {escape(text)}")
    for family, changes in found.by_family():
        click.echo()
        table(
            family,
            ["metric", "reference", "current", "change", "n", ""],
            [[r.title, r.reference, r.current, r.change, r.n, r.note] for r in map(row_of, changes)],
            right=["reference", "current", "change", "n"],
        )
    if found.steady:
        click.echo(f"\nAs before: {', '.join(title_of(c.current) for c in found.steady)}")
    if found.features:
        click.echo()
        _features(found)
    if found.calibration:
        click.echo()
        _calibration(found.calibration)
    elif not any(c.name.startswith("class.") or c.name == "prediction.mean" for c in found.changes):
        click.echo(
            "\nOnly features were compared. --class C or --value C names the column of the predictions, "
            "--label C that of the truth."
        )


def _summary(found: "Comparison") -> str:
    features = len(found.features)
    if not features:
        return "No feature could be compared." if not found.notable else "What changed"
    drifted, unsure = len(found.drifted), len(found.unsure)
    few = f" {unsure} could not be judged: too few rows." if unsure else ""
    if unsure == features:
        return f"No feature could be judged, of {features}: too few rows."
    return f"{drifted or 'None'} of {features} features drifted.{few}"


def _features(found: "Comparison") -> None:
    shown = found.features[: max(_ROWS, len(found.drifted))] if len(found.drifted) < _ROWS else found.drifted
    table(
        "Features, most moved first",
        ["feature", "verdict", "effect", "PSI", "reference", "current", "what it says"],
        [
            [
                f.name,
                f.drift.verdict,
                f"{f.drift.effect:.3g}",
                f"{f.drift.psi:.3g}",
                *_pictures(f),
                f.drift.explain(),
            ]
            for f in shown
        ],
        right=["effect", "PSI"],
    )
    if len(shown) < len(found.features):
        click.echo(
            f" and {len(found.features) - len(shown)} more that moved less (--html and --json have all)"
        )


def _calibration(found: "Calibration") -> None:
    """The reliability curves as numbers."""
    click.echo(f"How often a score came true ({found.of}):")
    table(
        "Calibration",
        ["score", "reference", "n", "current", "n "],
        [
            [
                f"{(a or b).low:.1f} to {(a or b).high:.1f}",  # type: ignore[union-attr]
                *(text for side in (a, b) for text in (("–", "0") if side is None else _bin(side))),
            ]
            for a, b in found.pairs()
        ],
        right=["reference", "n", "current", "n "],
    )


def _bin(side: "Bin") -> tuple[str, str]:
    return f"{side.rate:.3f}", f"{side.n:,}"


def _pictures(feature: "FeatureComparison") -> tuple[str, str]:
    """Both sides as a line of blocks, over the same axis and to the same height."""
    from kedge.web.shapes import bars_of, blocks, is_drawn_as_bars, shape_of

    if not is_drawn_as_bars(feature):
        shape = shape_of(feature, _WIDTH)
        return blocks(shape.reference, shape.top), blocks(shape.current, shape.top)
    bars = bars_of(feature, _WIDTH - 3)
    sides = [b.reference for b in bars], [b.current for b in bars]
    top = max([*sides[0], *sides[1]], default=0.0)
    return blocks(sides[0], top), blocks(sides[1], top)
