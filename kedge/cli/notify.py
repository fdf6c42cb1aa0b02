"""`kedge notify …`: who is told what."""

from pathlib import Path

import click

from kedge.cli.common import json_option, settings_from
from kedge.cli.output import json_line
from kedge.windows import format_duration

_FILE = click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Default: `notify` of kedge.yml.",
)


@click.group()
def notify() -> None:
    """Check notify.yml, ask it who would be told, and print its schema for editors. Needs no secrets.

    \b
    Example: kedge notify check
             kedge notify route team=fraud severity=high
    """


@notify.command()
@_FILE
@json_option
@click.pass_context
def check(ctx: click.Context, path: Path | None, as_json: bool) -> None:
    """Say everything that is wrong in notify.yml, each with file:line:col.

    \b
    Example: kedge notify check
    """
    from kedge.notify.receivers import load_routing

    routing = load_routing(_chosen(ctx, path))
    count = len(list(routing.keys()))
    if as_json:
        json_line({"receivers": len(routing.receivers), "routes": count, "problems": 0})
    else:
        click.echo(f"{len(routing.receivers)} receivers, {count} routes, no problems")


@notify.command()
@click.argument("labels", nargs=-1, metavar="NAME=VALUE...")
@click.option("--notify", "own", default="", metavar="NAME", help="The rule's own `notify`.")
@_FILE
@json_option
@click.pass_context
def route(ctx: click.Context, labels: tuple[str, ...], own: str, path: Path | None, as_json: bool) -> None:
    """Say who would be told of an alert with these labels, by which route, and in which group.

    \b
    Example: kedge notify route model=fraud severity=critical team=risk
    """
    from kedge.notify.receivers import load_routing

    routing = load_routing(_chosen(ctx, path))
    given: dict[str, str] = {}
    for text in labels:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f'"{text}" is no label: write model=fraud')
        given[name] = value
    for taken in routing.routes_of(given, own):
        one = taken.route
        row = {
            "receiver": one.receiver,
            "route": taken.reason,
            "group": one.group_of(given),
            "group_wait": format_duration(one.group_wait),
            "group_interval": format_duration(one.group_interval),
            "repeat_interval": format_duration(one.repeat_interval),
            "mute_times": list(one.mute_times),
            "active_times": list(one.active_times),
            "escalate": [{"after": format_duration(e.after), "to": e.to} for e in one.escalate],
        }
        if as_json:
            json_line(row)
            continue
        group = ", ".join(f"{name}={value}" for name, value in one.group_of(given).items())
        click.echo(f"{one.receiver}  ({taken.reason}; grouped by {group or 'nothing: all in one message'})")
        for later in one.escalate:
            click.echo(f"  after {format_duration(later.after)} without an acknowledgement: {later.to}")
        for names, what in ((one.mute_times, "silent in"), (one.active_times, "speaks only in")):
            if names:
                click.echo(f"  {what} {', '.join(names)}")


@notify.command()
def schema() -> None:
    """Print the JSON Schema (draft 7) of notify.yml, for editors."""
    from kedge.notify.schema import schema_text

    click.echo(schema_text(), nl=False)


def _chosen(ctx: click.Context, path: Path | None) -> Path:
    chosen = path or settings_from(ctx).notify
    if not chosen.exists():
        raise click.UsageError(f"{chosen}: there is no such file (docs/routing.md shows how to write one)")
    return chosen
