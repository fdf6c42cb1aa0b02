"""`kedge baseline …`: references."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from kedge.cli.client import Client, connect
from kedge.cli.columns import column_options, columns_from
from kedge.cli.common import json_option, settings_from
from kedge.cli.output import json_line, table


@click.group()
def baseline() -> None:
    """References: what metrics, drift and rules compare to. Immutable, known by their content.

    \b
    Example: kedge baseline create fraud --from 2026-09-01 --to 2026-10-01
             kedge baseline create fraud --file train.parquet --class predicted --label truth
             kedge baseline accept fraud
             kedge baseline list fraud
    """


@baseline.command()
@click.argument("model")
@click.option(
    "--file", "file", metavar="FILE", help="JSONL, CSV or Parquet of reference predictions; - is JSONL."
)
@click.option("--from", "start", metavar="TIME", help="Begin of a window of stored logs (RFC 3339).")
@click.option("--to", "end", metavar="TIME", help="Its end.")
@click.option(
    "--version", metavar="V", help="Only stored logs of this model version; all of them unless --from."
)
@click.option(
    "--mlflow", "uri", metavar="URI", help="A registered model of MLflow: models:/NAME@ALIAS, models:/NAME/3."
)
@click.option(
    "--artifact", metavar="FILE", help="Its artifact with the reference; default: reference.parquet."
)
@column_options
@json_option
@click.pass_context
def create(
    ctx: click.Context,
    /,
    model: str,
    file: str | None,
    start: str | None,
    end: str | None,
    version: str | None,
    uri: str | None,
    artifact: str | None,
    as_json: bool,
    **columns: Any,
) -> None:
    """Make a baseline of MODEL from a file, from stored logs or from an artifact in MLflow, and use it.

    \b
    Example: kedge baseline create fraud --file train.parquet
             kedge baseline create fraud --version v6
             kedge baseline create fraud --mlflow models:/fraud@champion
    """
    settings = settings_from(ctx)
    if [bool(file), bool(uri), bool(start or end or version)].count(True) != 1:
        raise click.UsageError(
            "give one of --file FILE, --mlflow URI, or of stored logs --from and --to, or --version V"
        )
    if not version and bool(start) != bool(end):
        raise click.UsageError("give both --from and --to")
    if artifact and not uri:
        raise click.UsageError("--artifact goes with --mlflow")
    with ExitStack() as stack:
        client = stack.enter_context(connect(settings))
        if file or uri:
            from kedge.cli.mlflow_artifact import artifact_of
            from kedge.cli.reference import baseline_from_file
            from kedge.pipeline.baselines import encode_baseline

            path, source = Path(file or ""), ""
            if uri:
                path, source = stack.enter_context(artifact_of(uri, artifact or "reference.parquet"))
            column_map = columns_from(columns)
            made = baseline_from_file(
                path, model, column_map, settings.of_model(model), settings.make_clock()()
            )
            if column_map.positive:
                client.post(f"/v1/models/{model}/positive", {"positive_class": column_map.positive})
            content = encode_baseline(replace(made, source=source) if source else made)
            row = client.post(f"/v1/baselines/{model}", content)
        else:
            asked = {"start": start, "end": end, "version": version}
            row = client.post(f"/v1/baselines/{model}/window", asked)
    if as_json:
        json_line(row)
    else:
        click.echo(
            f"baseline {row['id'][:8]} of {model}: {row['rows']:,} rows, {row['features']} features, "
            f"{row['from'][:10]} to {row['to'][:10]}; in use. kedge tick --drain counts the past on its edges"
        )


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for row in rows:
            json_line(row)
    elif not rows:
        click.echo("no baselines yet: kedge baseline create MODEL makes one")
    else:
        table(
            "",
            ["id", "in use", "rows", "features", "phi of", "restless", "from", "to", "source", "created"],
            [
                [r["id"][:8], _in_use(r), f"{r['rows']:,}", r["features"], " ".join(r["phi"]), _restless(r),
                 r["from"], r["to"], r["source"], r["created"]]
                for r in rows
            ],
            right=["rows", "features"],
        )  # fmt: skip
        for r in rows:
            if r["provisional"]:
                click.echo(
                    f"{r['id'][:8]} is provisional: what compares with it reaches info at most. "
                    f"kedge baseline accept {r['model']} accepts it"
                )


def _in_use(row: dict[str, Any]) -> str:
    if row["provisional"]:
        return "provisional"
    return "yes" if row["in_use"] else ""


def _restless(row: dict[str, Any]) -> str:
    """How many features are restless, in windows of each length: `1h 9, 1d 7`."""
    return ", ".join(f"{length} {len(names)}" for length, names in row["restless"].items() if names)


@baseline.command("list")
@click.argument("model")
@json_option
@click.pass_context
def list_(ctx: click.Context, model: str, as_json: bool) -> None:
    """List the baselines of MODEL, newest first."""
    with connect(settings_from(ctx)) as client:
        _print(client.get(f"/v1/baselines/{model}"), as_json)


@baseline.command()
@click.argument("model")
@click.argument("id")
@json_option
@click.pass_context
def show(ctx: click.Context, model: str, id: str, as_json: bool) -> None:
    """Show one baseline with its edges; ID is the beginning of its id."""
    with connect(settings_from(ctx)) as client:
        row = client.get(f"/v1/baselines/{model}/{id}")
    if as_json:
        json_line(row)
        return
    _print([row], as_json=False)
    for length, names in row["restless"].items():
        if names:
            click.echo(f"restless in windows of {length}: {', '.join(names)}")
    for feature, edges in sorted(row["edges"].items()):
        cells = edges.get("edges") or edges.get("values")
        shown = ", ".join(f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells[:8])
        click.echo(f"{feature}: {shown}{', …' if len(cells) > 8 else ''}")


@baseline.command()
@click.argument("model")
@click.argument("id")
@json_option
@click.pass_context
def use(ctx: click.Context, model: str, id: str, as_json: bool) -> None:
    """Make a stored baseline the reference of MODEL."""
    with connect(settings_from(ctx)) as client:
        row = _use(client, model, id)
    if as_json:
        json_line(row)
    else:
        click.echo(f"{model} now compares to baseline {row['id'][:8]}")


@baseline.command()
@click.argument("model")
@click.argument("id", default="")
@json_option
@click.pass_context
def accept(ctx: click.Context, model: str, id: str, as_json: bool) -> None:
    """Accept the provisional baseline of MODEL, or the one whose id begins with ID: what compares with it may
    then reach more than info.

    \b
    Example: kedge baseline accept fraud
    """
    with connect(settings_from(ctx)) as client:
        row = client.post(f"/v1/baselines/{model}/accept", {"id": id})
    if as_json:
        json_line(row)
    else:
        click.echo(f"{model} now compares to baseline {row['id'][:8]}, accepted")


def _use(client: Client, model: str, id: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.post(f"/v1/baselines/{model}/{id}/use", {})
    return answer
