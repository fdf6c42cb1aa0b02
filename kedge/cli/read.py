"""`kedge metrics`: the series of a model."""

from typing import Any

import click

from kedge.cli.client import connect
from kedge.cli.common import json_option, settings_from
from kedge.cli.output import json_line, number, table


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

    Rows behind quality.missing, invalid, unseen and out_of_range, with the commonest bad values:
    GET /v1/models/MODEL/examples?feature=F&problem=unseen&from=T&to=T
    Some behind quality.duplicates and time_skew: the same with problem=duplicate or ahead, and no feature.
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
