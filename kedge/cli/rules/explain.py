"""`kedge rules explain`."""

from typing import Any

import click

from kedge.cli.client import connect
from kedge.cli.common import json_option, settings_from
from kedge.cli.output import json_line


@click.command()
@click.argument("name")
@click.option("--model", metavar="MODEL", help="Only of this model, for a rule of several.")
@json_option
@click.pass_context
def explain(ctx: click.Context, name: str, model: str | None, as_json: bool) -> None:
    """What the rule NAME reads, what that is now, how far it is from firing, and when it last fired.

    The rule is the one in force: of the running server where there is one.

    \b
    Example: kedge rules explain recall-fell
             kedge rules explain slow --model fraud --json
    """
    with connect(settings_from(ctx)) as client:
        rows = client.get(f"/v1/rules/{name}", model=model)
    for row in rows:
        if as_json:
            json_line(row)
        else:
            _print(row)


def _print(row: dict[str, Any]) -> None:
    reads = row["reads"]
    what = reads["metric"] or f"kind {row['kind']}"
    by = f", by {' and '.join(reads['by'])}" if reads["by"] else ""
    against = f", against {reads['compare']}" if reads["compare"] else ""
    click.echo(f"{row['rule']} on {row['model']} ({row['place']})")
    click.echo(f"  reads    {what} over {reads['window']}{by}{against}: {', '.join(reads['parts'])}")
    if "features" in row:
        named = ", ".join(row["features"]) or "not known"
        click.echo(f"  features {named} ({row['features_known']})")
    click.echo(f"  budget   {row['budget'] or 'none'}: {row['budget_from']}")
    for missing in row["missing"]:
        click.echo(f"  lacks    {missing}")
    if "not_judged" in row:
        click.echo(f"  judged   never: {row['not_judged']}")
        return
    waits = "; waits for labels" if reads["waits_for_labels"] else ""
    through = row["judged_through"] or "not yet"
    click.echo(f"  judged   every {row['judged_every']}, through {through}, next {row['next_step']}{waits}")
    if not row["alerts"]:
        click.echo("  alerts   none is known yet")
    for alert in row["alerts"]:
        _print_alert(alert)


def _print_alert(alert: dict[str, Any]) -> None:
    group = {**alert["group"], **({"version": alert["version"]} if alert["version"] else {})}
    labels = " ".join(f"{name}={value}" for name, value in sorted(group.items())) or "all"
    severity = f" {alert['severity']}" if alert["severity"] else ""
    click.echo(f"  {labels}: {alert['state'].replace('_', ' ')}{severity}")
    if alert.get("reason"):
        click.echo(f"    now        {alert['reason']}")
    if alert.get("away"):
        click.echo(f"    away       {alert['away']}")
    if alert.get("fires_at"):
        click.echo(f"    fires      at {alert['fires_at']}, if it goes on")
    click.echo(f"    last fired {alert['last_fired'] or 'never, as far as is known'}")
