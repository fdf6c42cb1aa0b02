"""`kedge rules check`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kedge.cli.common import json_option, settings_from
from kedge.cli.output import json_line
from kedge.cli.rules.paths import chosen_paths, shown
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from kedge.alerting.loading import Problem, RuleBook
    from kedge.alerting.routing import Routing
    from kedge.cli.rules.stored import Told


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--offline", is_flag=True, help="Look at the files alone, and not at the store.")
@json_option
@click.pass_context
def check(ctx: click.Context, paths: tuple[Path, ...], offline: bool, as_json: bool) -> None:
    """Say everything that is wrong in the rule files, each with file:line:col; warn of what is rarely meant,
    which does not fail; and tell what each receiver may expect in false alerts: its budget, how many rules
    share it, and what they come to with those that have budgets of their own.

    The rules are those of the files in PATHS, or of the settings, and have shares among themselves; the
    receivers are those of notify.yml. Without that file there is one, as there is for a server without it.

    Where the store answers within two seconds (a running server, else the store of the settings), it is asked
    too: for names that no row has, rules that would find nothing to judge, a past that is not summarised, and
    alerts that a renamed or deleted rule would end. Where it does not, one line says so.

    \b
    Example: kedge rules check
             kedge rules check rules/fraud.yml
             kedge rules check --offline
    """
    from kedge.alerting.budgets import expected, said, tells_nobody
    from kedge.alerting.loading import load_rules

    chosen = chosen_paths(ctx, paths)
    book = load_rules(chosen)
    routing = _routing(settings_from(ctx).notify)
    book = book.shared(routing) if routing is not None else book
    receivers = expected(book.rules, routing) if routing is not None and not book.problems else []
    silent = sum(map(tells_nobody, book.rules))
    warnings, told = _warned(ctx, chosen, book, whole=not paths, offline=offline or bool(book.problems))
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
        for warning in warnings:
            json_line(
                {
                    "file": warning.file,
                    "line": warning.line,
                    "column": warning.column,
                    "warning": warning.text,
                }
            )
        for one in receivers:
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
            asked = {"store": told.by or None, "not_asked": told.why or None} if told else {}
            json_line({"rules": len(book.rules), "tell_nobody": silent, "problems": 0} | asked)
    else:
        for problem in book.problems:
            click.echo(str(problem), err=True)
        for warning in warnings:
            click.echo(f"{warning.place}: warning: {warning.text}", err=True)
        files = len({rule.file for rule in book.rules} | book.broken)
        warned = f", {_counted(len(warnings), 'warning')}" if warnings else ""
        for one in receivers:
            name, rules = one.receiver or "the default receiver", _counted(one.rules, "rule")
            if one.free == one.rules:
                click.echo(f"{name}: {rules}, without a budget: by bare values")
                continue
            alerts = f"{one.alerts:.3g}"
            at_most = f"{alerts} false alert{'s' if alerts != '1' else ''} in 30 d at most"
            click.echo(f"{name}: {rules}, {at_most} ({'; '.join(said(one))})")
        if receivers and silent:
            click.echo(f"and {silent} that tell{'' if silent > 1 else 's'} nobody (info)")
        rules, problems = _counted(len(book.rules), "rule"), _counted(len(book.problems), "problem")
        click.echo(f"{rules} in {_counted(files, 'file')}, {problems}{warned}")
        if told and told.why and told.there:
            click.echo(f"not checked against the store: {told.why} (--offline does not ask)", err=True)
    if book.problems:
        sys.exit(2)


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _warned(
    ctx: click.Context, chosen: Sequence[Path], book: "RuleBook", *, whole: bool, offline: bool
) -> "tuple[list[Problem], Told | None]":
    """What there is to warn of, in the order of the files, and what the store said, where it was asked."""
    from kedge.alerting.advice import advice
    from kedge.alerting.loading import Problem, rule_files
    from kedge.alerting.places import Places
    from kedge.cli.rules.stored import ask_store

    texts = (
        {shown(file): file.read_text("utf-8-sig") for file in rule_files(chosen)} if not book.problems else {}
    )
    places = Places(texts)
    found = []
    for rule, text in advice(book.rules):
        found.append(Problem(*(places.of(rule.name) or _written(rule.place)), f'rule "{rule.name}": {text}'))
    if offline:
        return sorted(found), None
    told = ask_store(settings_from(ctx), book, texts, whole=whole)
    for one in told.prospects:
        said = f'rule "{one.rule}": {one.text}' if one.rule else one.text
        found.append(Problem(*(places.of(one.rule, one.field) or _written(one.file)), said))
    return sorted(found), told


def _written(place: str) -> tuple[str, int, int]:
    """`rules/fraud.yml:12` or `rules/fraud.yml:12:5` apart."""
    file, *numbers = place.split(":")
    line, column = (*(int(n) for n in numbers if n.isdigit()), 1, 1)[:2]
    return file, line, column


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
