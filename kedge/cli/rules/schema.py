"""`kedge rules schema`."""

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema (draft 7) of rule files, for editors."""
    from kedge.alerting.schema import schema_text

    click.echo(schema_text(), nl=False)
