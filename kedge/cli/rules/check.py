"""`kedge rules check`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kedge.cli.common import json_option, settings_from
from kedge.cli.output import json_line
from kedge.cli.rules.paths import chosen_paths
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from kedge.alerting.routing import Routing


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@json_option
@click.pass_context
def check(ctx: click.Context, paths: tuple[Path, ...], as_json: bool) -> None:
    """Say everything that is wrong in the rule files, each with file:line:col; warn of what is rarely meant,
    which does not fail; and tell what each receiver may expect in false alerts: its budget, how many rules
    share it, and what they come to with those that have budgets of their own.

    The rules are those of the files in PATHS, or of the settings, and have shares among themselves; the
    receivers are those of notify.yml. Without that file there is one, as there is for a server without it.

    \b
    Example: kedge rules check
             kedge rules check rules/fraud.yml
    """
    from kedge.alerting.budgets import expected, said, tells_nobody
    from kedge.alerting.loading import load_rules

    book = load_rules(chosen_paths(ctx, paths))
    routing = _routing(settings_from(ctx).notify)
    book = book.shared(routing) if routing is not None else book
    told = expected(book.rules, routing) if routing is not None and not book.problems else []
    silent = sum(map(tells_nobody, book.rules))
    if as_json:
        for problem in book.problems:
            json_line(
                {
                    "file": problem.file,
                    "line": problem.line,
                    "column": problem.column,
                    "problem": problem.text,
                }
            )
        for warning in book.warnings:
            json_line({"file": warning.file, "line": warning.line, "warning": warning.text})
        for one in told:
            json_line(
                {
                    "receiver": one.receiver or None,
                    "budget": str(one.budget),
                    "rules": one.rules,
                    "sharing": one.sharing,
                    "share": str(one.share) if one.share else None,
                    "own_budget": one.own,
                    "no_budget": one.free,
                    "false_alerts_per_30d": round(one.alerts, 3),
                }
            )
        if not book.problems:
            json_line({"rules": len(book.rules), "tell_nobody": silent, "problems": 0})
    else:
        for problem in book.problems:
            click.echo(str(problem), err=True)
        for warning in book.warnings:
            click.echo(f"{warning.file}:{warning.line}: warning: {warning.text}", err=True)
        files = len({rule.file for rule in book.rules} | book.broken)
        warned = f", {len(book.warnings)} warnings" if book.warnings else ""
        for one in told:
            name, many = one.receiver or "the default receiver", "s" if one.rules > 1 else ""
            if one.free == one.rules:
                click.echo(f"{name}: {one.rules} rule{many}, without a budget: by bare values")
                continue
            alerts = f"{one.alerts:.3g}"
            at_most = f"{alerts} false alert{'s' if alerts != '1' else ''} in 30 d at most"
            click.echo(f"{name}: {one.rules} rule{many}, {at_most} ({'; '.join(said(one))})")
        if told and silent:
            click.echo(f"and {silent} that tell{'' if silent > 1 else 's'} nobody (info)")
        click.echo(f"{len(book.rules)} rules in {files} files, {len(book.problems)} problems{warned}")
    if book.problems:
        sys.exit(2)


def _routing(path: Path) -> "Routing | None":
    """Who is told what, as the server reads it; None, with a word on why, where the file is wrong."""
    from kedge.alerting.routing import plain_routing
    from kedge.notify.receivers import load_routing

    if not path.exists():
        return plain_routing("", ())
    try:
        return load_routing(path)
    except KedgeError as error:
        click.echo(f"{error}\nwhat receivers may expect is not known until that is mended", err=True)
        return None
