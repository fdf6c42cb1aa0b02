"""`kedge rules …`: authoring. A module a command."""

import click

from kedge.cli.rules.backtest import backtest
from kedge.cli.rules.check import check
from kedge.cli.rules.explain import explain
from kedge.cli.rules.import_ import import_
from kedge.cli.rules.new import new
from kedge.cli.rules.schema import schema
from kedge.cli.rules.test import test


@click.group()
def rules() -> None:
    """Write, check, test and rehearse the alert rules.

    \b
    Example: kedge rules new rules/fraud.yml
             kedge rules check
             kedge rules test
             kedge rules backtest --from 2026-08-01
             kedge rules explain slow
             kedge rules schema > schema/rules.v1.json
    """


for command in (new, check, test, backtest, explain, import_, schema):
    rules.add_command(command)
