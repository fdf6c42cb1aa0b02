"""`kedge rules backtest`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from kedge.cli.client import Client, connect
from kedge.cli.common import json_option, settings_from
from kedge.cli.output import Steps, json_line
from kedge.cli.rules.paths import chosen_paths, shown

MOST = 10
"""Changed alerts that are listed of a rule."""


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--from", "start", metavar="TIME", required=True, help="Begin of the time (RFC 3339).")
@click.option("--to", "end", metavar="TIME", help="End of the time; default: now.")
@click.option("--rule", "names", multiple=True, metavar="NAME", help="Only this rule; may be repeated.")
@click.option(
    "--against",
    type=click.Path(exists=True, path_type=Path),
    help="The rules as they were, a file or a folder: shows what an edit changes.",
)
@json_option
@click.pass_context
def backtest(
    ctx: click.Context,
    paths: tuple[Path, ...],
    start: str,
    end: str | None,
    names: tuple[str, ...],
    against: Path | None,
    as_json: bool,
) -> None:
    """What the rules would have done: alerts, how long they lasted, how many messages to whom.

    History is read from the stored summaries and judged as it would have been, each window once it was
    mature; nothing is stored, and nobody is told. The rules are those of the files in PATHS, or of the
    settings; the baselines are those in use now, the labels all that have come since.

    \b
    Example: kedge rules backtest --from 2026-08-01 --to 2026-11-01
             kedge rules backtest --from 2026-08-01 --rule slow
             git show main:rules/fraud.yml > main.yml
             kedge rules backtest rules/fraud.yml --from 2026-08-01 --against main.yml
    """
    body: dict[str, Any] = {
        "start": start,
        "end": end,
        "files": _texts(chosen_paths(ctx, paths)),
        "rules": list(names),
        "against": _texts([against]) if against else None,
    }
    with connect(settings_from(ctx)) as client:
        found: dict[str, Any] = {}
        with Steps("judging", unit="days") as steps:
            for line in _lines(client, body):
                if "result" in line:
                    found = line["result"]
                else:
                    steps.advance(0, said=f"{line['done']:.0%}", share=line["done"])
    if as_json:
        for row in found["rules"]:
            json_line(row)
        for change in found["changes"] or ():
            json_line({"change": change})
    else:
        _print(found)
    for note in found["notes"]:
        click.echo(note, err=True)


def _texts(paths: list[Path]) -> dict[str, str]:
    """The files by name, which must be right: what is wrong with them is told as `kedge rules check` does."""
    from kedge.alerting.loading import load_rules, rule_files

    load_rules(paths).raise_for_problems()
    return {shown(file): file.read_text("utf-8-sig") for file in rule_files(paths)}


def _lines(client: Client, body: dict[str, Any]) -> Iterator[Any]:
    if client.pipe is None:
        yield from client.stream("/v1/backtest", body)
        return
    from kedge.web.api import BacktestBody, backtest_of

    yield from backtest_of(client.pipe, BacktestBody.model_validate(body), client.pipe.wall())


# --- for people ---------------------------------------------------------------------------------------------


def _print(found: dict[str, Any]) -> None:
    rows = found["rules"]
    width = max((len(row["rule"]) for row in rows), default=0)
    click.echo(f"{found['from']} to {found['to']}, {found['steps']:,} steps judged")
    for row in rows:
        click.echo(f"{row['rule']:{width}}  {row['timeline']}  {_said(row)}")
    total, firing = sum(r["alerts"] for r in rows), sum(1 for r in rows if r["alerts"])
    to: dict[str, int] = {}
    for row in rows:
        for name, n in row["messages"].items():
            to[name] = to.get(name, 0) + n
    told = ", ".join(f"{n} to {name}" for name, n in sorted(to.items())) or "none"
    click.echo(f"{total} alerts of {firing} of {len(rows)} rules; messages: {told}")
    click.echo("·  quiet   ░ info   ▒ low   ▓ medium   █ high and critical")
    if found["changes"] is not None:
        _print_changes(found["changes"])


def _said(row: dict[str, Any]) -> str:
    if not row["judged_s"]:
        return "not judged"
    if not row["alerts"]:
        return "no alerts"
    texts = [f"{row['alerts']} alert{'s' if row['alerts'] > 1 else ''}", f"firing {_span(row['firing_s'])}"]
    budget = f"budget {row['budget']}" if row["budget"] else "keeps no budget"
    texts.append(f"{row['alerts_per_30d']:.2g} in 30 d ({budget})")
    texts += [f"{n} messages to {name}" for name, n in row["messages"].items()]
    return ", ".join(texts)


def _print_changes(changes: list[dict[str, Any]]) -> None:
    if not changes:
        click.echo("nothing changes")
        return
    click.echo("what changes:")
    for change in changes:
        what = {"new": " (a new rule)", "gone": " (the rule is gone)"}.get(change["is"], "")
        more, fewer = change["added"], change["removed"]
        counts = f"{len(more)} alerts more, {len(fewer)} fewer, {change['messages']:+d} messages"
        click.echo(f"  {change['rule']}{what}: {counts}")
        for sign, episodes in (("+", more), ("-", fewer)):
            for episode in episodes[:MOST]:
                click.echo(f"    {sign} {_episode(episode)}")
            if len(episodes) > MOST:
                click.echo(f"    {sign} … {len(episodes) - MOST} more")


def _episode(episode: dict[str, Any]) -> str:
    group = {**episode["group"], **({"version": episode["version"]} if episode["version"] else {})}
    labels = "".join(f" {name}={value}" for name, value in sorted(group.items()))
    return (
        f"{episode['from']} {episode['severity']} {episode['model']}{labels}, {_span(episode['lasted_s'])}: "
        f"{episode['reason']}"
    )


def _span(seconds: int) -> str:
    """`45m`, `3.5h`, `12d`."""
    if seconds < 5400:
        return f"{seconds // 60}m"
    return f"{seconds / 3600:.3g}h" if seconds < 172_800 else f"{seconds / 86_400:.3g}d"
