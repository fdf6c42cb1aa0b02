"""`kedge tick`, `kedge alerts`."""

import getpass
import sys
from typing import Any

import click

from kedge.cli.client import connect
from kedge.cli.common import json_option, settings_from
from kedge.cli.output import json_line, number, table
from kedge.windows import iso


@click.command()
@click.option("--drain", is_flag=True, help="Go on until nothing is due.")
@click.option("--now", metavar="TIME", help="Pretend that it is this time (RFC 3339).")
@json_option
@click.pass_context
def tick(ctx: click.Context, drain: bool, now: str | None, as_json: bool) -> None:
    """Run the pipeline once: join labels, summarise what changed, judge the rules, deliver.

    \b
    Example: kedge tick --drain
    """
    with connect(settings_from(ctx)) as client:
        report = client.post("/v1/tick", {"drain": drain, "now": now})
    if as_json:
        json_line(report)
    elif report["skipped"]:
        click.echo("another worker is at it; nothing was done here")
    else:
        click.echo(
            f"{report['buckets']:,} buckets summarised, {report['written']:,} parts written, "
            f"{report['steps']:,} steps judged, {report['transitions']} transitions, "
            f"{report['sent']} messages sent, {report['seconds']:.2f} s"
        )
        if report["labels_waiting"]:
            click.echo(f"{report['labels_waiting']:,} labels wait for their prediction")
        if report["labels_expired"]:
            click.echo(f"{report['labels_expired']:,} labels were given up: their prediction never came")
    for problem in (*report["problems"], *report["not_judged"]):
        click.echo(problem, err=True)
    if report["problems"]:
        sys.exit(1)


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def alerts(ctx: click.Context, as_json: bool) -> None:
    """The alerts as they stand; worst first.

    \b
    Example: kedge alerts
             kedge alerts show 3f2a
             kedge alerts ack 3f2a
    """
    if ctx.invoked_subcommand is None:
        _list(ctx, as_json, every=False)


@alerts.command("list")
@click.option("--all", "every", is_flag=True, help="Also those that never fired.")
@json_option
@click.pass_context
def list_(ctx: click.Context, every: bool, as_json: bool) -> None:
    """List alerts."""
    _list(ctx, as_json, every=every)


def _list(ctx: click.Context, as_json: bool, *, every: bool) -> None:
    with connect(settings_from(ctx)) as client:
        rows = client.get("/v1/alerts", every=every)
    if as_json:
        for row in rows:
            json_line({k: v for k, v in row.items() if k != "id"})
        return
    if not rows:
        click.echo("no alerts")
        return
    table(
        "",
        ["id", "state", "severity", "rule", "model", "version", "group", "since", "value", "bound", "n"],
        [
            [
                row["id"][:8],
                row["state"] + (" (silenced)" if "silenced" in row else ""),
                row["severity"],
                row["rule"],
                row["model"],
                row["version"],
                ", ".join(f"{k}={v}" for k, v in row["group"].items()),
                row["since"],
                number(row["value"]),
                number(row["bound"]),
                f"{row['n']:,}",
            ]
            for row in rows
        ],
        right=["value", "bound", "n"],
    )


@alerts.command()
@click.argument("alert")
@json_option
@click.pass_context
def show(ctx: click.Context, alert: str, as_json: bool) -> None:
    """One alert with its history: each change, when, and why. ALERT is the beginning of its id.

    \b
    Example: kedge alerts show 3f2a
    """
    with connect(settings_from(ctx)) as client:
        row = client.get(f"/v1/alerts/{alert}")
    if as_json:
        json_line(row)
        return
    for name, value in row.items():
        if name != "history":
            click.echo(f"{name:10} {value}")
    for event in row["history"]:
        click.echo(f"  {iso(event['step'])}  {changed(event)}: {event['reason']}")


def changed(event: dict[str, Any]) -> str:
    """One change in a line: `firing high → resolved (disproved)`."""
    from kedge.alerting.finding import Severity

    sides = ((event["before"], event.get("severity_before")), (event["after"], event["severity"]))
    named = [
        f"{status} {Severity(level).word}" if status in _FIRES and level else status.replace("_", " ")
        for status, level in sides
    ]
    if named[0] == named[1]:
        named = named[1:]
    remarks = [event["ends"]] if event.get("ends") else []
    remarks += [_FLAPS[event["flaps"]]] if event.get("flaps") else []
    return " → ".join(named) + (f" ({', '.join(remarks)})" if remarks else "")


_FIRES = ("firing", "acknowledged")
_FLAPS = {"begins": "flapping", "folded": "flapping, not told", "steady": "steady again"}


def _act(ctx: click.Context, alert: str, action: str, as_json: bool) -> None:
    with connect(settings_from(ctx)) as client:
        row: dict[str, Any] = client.post(f"/v1/alerts/{alert}/{action}", {"by": getpass.getuser()})
    if as_json:
        json_line(row)
    else:
        click.echo(f"{row['rule']} on {row['model']}: {row['state']}")


@alerts.command()
@click.argument("alert")
@json_option
@click.pass_context
def ack(ctx: click.Context, alert: str, as_json: bool) -> None:
    """Acknowledge a firing alert: somebody is at it."""
    _act(ctx, alert, "ack", as_json)


@alerts.command()
@click.argument("alert")
@json_option
@click.pass_context
def resolve(ctx: click.Context, alert: str, as_json: bool) -> None:
    """Resolve an alert by hand; it fires again if it still breaches at the next step."""
    _act(ctx, alert, "resolve", as_json)
