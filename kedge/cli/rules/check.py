"""`kedge rules check`."""

import sys
from pathlib import Path

import click

from kedge.cli.common import json_option
from kedge.cli.output import json_line
from kedge.cli.rules.paths import chosen_paths


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@json_option
@click.pass_context
def check(ctx: click.Context, paths: tuple[Path, ...], as_json: bool) -> None:
    """Say everything that is wrong in the rule files, each with file:line:col; warn of what is rarely meant,
    which does not fail; and tell what each receiver may expect in false alerts, by the budgets of its rules.

    \b
    Example: kedge rules check
             kedge rules check rules/fraud.yml
    """
    from kedge.alerting.advice import expected
    from kedge.alerting.loading import load_rules

    book = load_rules(chosen_paths(ctx, paths))
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
        for one in expected(book.rules) if not book.problems else ():
            json_line(
                {
                    "receiver": one.receiver or None,
                    "rules": one.rules,
                    "false_alerts_per_30d": round(one.alerts, 3),
                }
            )
        if not book.problems:
            json_line({"rules": len(book.rules), "problems": 0})
    else:
        for problem in book.problems:
            click.echo(str(problem), err=True)
        for warning in book.warnings:
            click.echo(f"{warning.file}:{warning.line}: warning: {warning.text}", err=True)
        files = len({rule.file for rule in book.rules} | book.broken)
        warned = f", {len(book.warnings)} warnings" if book.warnings else ""
        for one in expected(book.rules) if not book.problems else ():
            name, many = one.receiver or "the default receiver", "s" if one.rules > 1 else ""
            click.echo(f"{name}: {one.rules} rule{many}, {one.alerts:.1f} false alerts in 30 d at most")
        click.echo(f"{len(book.rules)} rules in {files} files, {len(book.problems)} problems{warned}")
    if book.problems:
        sys.exit(2)
