"""`kedge metrics` and `kedge compare`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kedge.cli.client import connect
from kedge.cli.columns import column_options, columns_from
from kedge.cli.common import json_option, settings_from
from kedge.cli.output import json_line, number, table

if TYPE_CHECKING:
    from kedge.analysis.drift import FeatureDrift


@click.command()
@click.argument("model")
@click.option("--metric", "names", multiple=True, metavar="NAME", help="Only this metric; may be repeated.")
@click.option(
    "--window", default="1d", show_default=True, metavar="LENGTH", help="Width of the tumbling windows."
)
@click.option("--from", "start", metavar="TIME", help="Begin (RFC 3339); default: the first log.")
@click.option("--to", "end", metavar="TIME", help="End; default: the last log.")
@click.option(
    "--by", multiple=True, metavar="DIMENSION", help="version, service, host or segment.NAME; repeatable."
)
@click.option(
    "--compare-versions",
    "versions",
    nargs=2,
    metavar="NEW OLD",
    help="Instead: promote version NEW, roll it back or wait? OLD may be `others`.",
)
@click.option(
    "--margin", default="0%", metavar="SIZE", help="With that: how much worse is harmless; 1pp, 10%, 20ms."
)
@click.option("--class", "cls", metavar="CLASS", help="With that: the class that is meant.")
@click.option("--feature", metavar="FEATURE", help="With that: the feature that is meant.")
@json_option
@click.pass_context
def metrics(
    ctx: click.Context,
    model: str,
    names: tuple[str, ...],
    window: str,
    start: str | None,
    end: str | None,
    by: tuple[str, ...],
    versions: tuple[str, str] | None,
    margin: str,
    cls: str | None,
    feature: str | None,
    as_json: bool,
) -> None:
    """The metrics of MODEL over tumbling UTC windows of prediction time.

    \b
    Example: kedge metrics fraud --metric performance.recall --window 1d
             kedge metrics fraud --metric errors.rate --window 1h --by segment.region --json
             kedge metrics fraud --metric errors.rate --compare-versions v7 v6 --margin 1pp
    """
    with connect(settings_from(ctx)) as client:
        if versions is not None:
            if len(names) != 1:
                raise click.UsageError("--compare-versions takes one --metric")
            label = {"class": cls, "feature": feature, "from": start, "to": end}
            row = client.get(
                f"/v1/versions/{model}",
                metric=names[0],
                candidate=versions[0],
                reference=versions[1],
                margin=margin,
                **{name: value for name, value in label.items() if value is not None},
            )
            if as_json:
                json_line(row)
            else:
                click.echo(f"since {row['since'] or 'its first row'}: {row['explanation']}")
            return
        rows = client.lines(
            f"/v1/metrics/{model}",
            metric=list(names) or None,
            window=window,
            by=list(by) or None,
            **{"from": start, "to": end},
        )
        if as_json:
            for row in rows:
                json_line(row)
            return
        found = list(rows)
        if not found:
            click.echo("nothing was logged there" + (f" with {' and '.join(by)}" if by else ""))
            return
        table(
            "",
            ["window", "metric", "labels", "value", "± se", "n", "verdict", "reason"],
            [[row["window_start"], *_cells(row)] for row in found],
            right=["value", "± se", "n"],
        )


def _cells(row: dict[str, Any]) -> list[object]:
    return [
        row["metric"],
        ", ".join(f"{k}={v}" for k, v in row["labels"].items()),
        number(row["value"]),
        number(row["stderr"], 2) if row["stderr"] is not None else "",
        f"{row['n']:,}",
        row["verdict"],
        row["reason"],
    ]


@click.command()
@click.argument("reference", metavar="REF")
@click.argument("current", metavar="CUR")
@column_options
@json_option
@click.pass_context
def compare(ctx: click.Context, /, reference: str, current: str, as_json: bool, **columns: Any) -> None:
    """Compare two files of predictions: drift, quality and performance of CUR against REF. Needs no store.

    Exits with 1 where something drifted.

    \b
    Example: kedge compare january.parquet february.parquet
             kedge compare train.csv live.jsonl --class predicted --label truth --json
    """
    from kedge.analysis.drift import drift
    from kedge.analysis.measure import measure
    from kedge.analysis.metric import Verdict
    from kedge.cli.reference import summary_of_file
    from kedge.pipeline.measure import context_for
    from kedge.pipeline.query import metric_row

    settings = settings_from(ctx)
    now = settings.make_clock()()
    column_map = columns_from(columns)
    model_settings = settings.of_model("compare")
    if column_map.positive:
        model_settings = model_settings.model_copy(update={"positive_class": column_map.positive})
    base, summary = summary_of_file(Path(reference), Path(current), column_map, model_settings, now)
    context = context_for(model_settings, base, ())
    found = measure(summary, context)
    drifted = any(m.verdict is Verdict.DRIFTED for m in found)
    if as_json:
        for metric in found:
            json_line(metric_row(metric, None))
        ctx.exit(int(drifted))
    then = {m.key: m for m in measure(base.summaries[()], context)}
    click.echo(f"{reference}: {base.rows:,} rows   {current}: {summary.rows:,} rows\n")
    scalars = [m for m in found if "feature" not in m.labels and m.value is not None]
    table(
        "Metrics",
        ["metric", "labels", "reference", "current", "± se", "n", "verdict"],
        [
            [m.name, ", ".join(f"{k}={v}" for k, v in m.labels.items()),
             number(then[m.key].value) if m.key in then else "", number(m.value),
             number(m.stderr, 2) if m.stderr is not None else "", f"{m.n:,}", m.verdict]
            for m in scalars
        ],
        right=["reference", "current", "± se", "n"],
    )  # fmt: skip
    reference_cells = base.summaries[()].cells
    if summary.cells is not None and reference_cells is not None and base.edges.features:
        _features(drift(reference_cells, summary.cells, base.edges, context.drift))
    ctx.exit(int(drifted))


def _features(drifts: "Sequence[FeatureDrift]") -> None:
    click.echo()
    table(
        "Features, most moved first",
        ["feature", "verdict", "effect", "PSI", "KS", "n", "what it says"],
        [
            [
                d.feature,
                d.verdict,
                number(d.effect, 3),
                number(d.psi, 3),
                number(d.ks, 3),
                f"{d.n:,}",
                d.explain(),
            ]
            for d in sorted(drifts, key=lambda d: -(d.effect or 0.0))
        ],
        right=["effect", "PSI", "KS", "n"],
    )
