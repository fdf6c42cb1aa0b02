"""`kedge silence …`: not to be told of some alerts, for a while and for a reason."""

import getpass
from typing import Any

import click

from kedge.cli.client import connect
from kedge.cli.common import json_option, settings_from
from kedge.cli.output import json_line, table
from kedge.errors import BadInput


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def silence(ctx: click.Context, as_json: bool) -> None:
    """Silence alerts for a while: they keep their state and history, and tell nobody.

    What still fires when a silence ends is told then.

    \b
    Example: kedge silence add model=fraud severity<=medium --for 4h --reason "new pipeline"
             kedge silence list
             kedge silence expire 3f2a
    """
    if ctx.invoked_subcommand is None:
        _list(ctx, as_json, every=False)


@silence.command()
@click.argument("conditions", nargs=-1, required=True)
@click.option("--reason", required=True, help="Why, for whoever looks.")
@click.option("--for", "lasts", metavar="LENGTH", help="How long: 30m, 4h, 2d.")
@click.option("--until", "ends", metavar="TIME", help="Instead: until when (RFC 3339).")
@click.option("--from", "starts", metavar="TIME", help="Begin then (RFC 3339), not now.")
@click.option("--author", metavar="NAME", help="Who; default: the user who calls.")
@json_option
@click.pass_context
def add(
    ctx: click.Context,
    conditions: tuple[str, ...],
    reason: str,
    lasts: str | None,
    ends: str | None,
    starts: str | None,
    author: str | None,
    as_json: bool,
) -> None:
    """Silence the alerts that have all these labels: rule, model, version, severity, team, segment.NAME.

    A condition is one word: NAME=VALUE, NAME!=VALUE, NAME=~REGEX, NAME!~REGEX, and for severity >=, >, <= and
    <.

    \b
    Example: kedge silence add model=fraud --for 2h --reason "backfill"
             kedge silence add "rule=~drift.*" "severity<=medium" --until 2026-12-01 --reason "retraining"
    """
    from kedge.alerting.matchers import parse_condition

    match: dict[str, Any] = {}
    for text in conditions:
        found = parse_condition(text)
        if found.label in match:
            raise BadInput(f"{found.label} is given twice: write it once, =~ takes several values (a|b)")
        match[found.label] = found.written
    body = {
        "match": match,
        "author": author or getpass.getuser(),
        "reason": reason,
        "starts": starts,
        "ends": ends,
        "lasts": lasts,
    }
    with connect(settings_from(ctx)) as client:
        row = client.post("/v1/silences", body)
    if as_json:
        json_line(row)
    else:
        click.echo(f"{row['id']}: {row['conditions']}, until {row['ends']}")
        click.echo(f"{row['covers']} alerts that fire are silenced by it")


@silence.command("list")
@click.option("--all", "every", is_flag=True, help="Also those that are over.")
@json_option
@click.pass_context
def list_(ctx: click.Context, every: bool, as_json: bool) -> None:
    """List the silences, newest first.

    \b
    Example: kedge silence list --all
    """
    _list(ctx, as_json, every=every)


def _list(ctx: click.Context, as_json: bool, *, every: bool) -> None:
    with connect(settings_from(ctx)) as client:
        rows = client.get("/v1/silences", every=every)
    if as_json:
        for row in rows:
            json_line(row)
        return
    if not rows:
        click.echo("no silences")
        return
    columns = ["id", "state", "conditions", "author", "reason", "starts", "ends"]
    table("", columns, [[row[name] for name in columns] for row in rows])


@silence.command()
@click.argument("silence_id", metavar="SILENCE")
@json_option
@click.pass_context
def expire(ctx: click.Context, silence_id: str, as_json: bool) -> None:
    """End a silence now; SILENCE is the beginning of its id.

    \b
    Example: kedge silence expire 3f2a
    """
    with connect(settings_from(ctx)) as client:
        row = client.request("DELETE", f"/v1/silences/{silence_id}").json()
    if as_json:
        json_line(row)
    else:
        click.echo(f"{row['id']} is over: {row['conditions']}")
