"""The flags that say which column of a file is what; the same for import, baseline and compare."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ingest.files import ColumnMap

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--timestamp", metavar="C", help="Column of the prediction's time."),
    click.option("--id", "id_", metavar="C", help="Column of its id."),
    click.option("--class", "cls", metavar="C", help="Column of the predicted class."),
    click.option("--probability", metavar="C", help="Column of the predicted class's probability."),
    click.option(
        "--probabilities",
        multiple=True,
        metavar="C:CLASS",
        help="Column C is the probability of CLASS; repeatable.",
    ),
    click.option("--value", metavar="C", help="Column of the predicted value (regression)."),
    click.option("--label", metavar="C", help="Column of the truth."),
    click.option("--segment", multiple=True, metavar="C", help="Column to segment by; repeatable."),
    click.option(
        "--features", metavar="C,…", help="Only these columns are features; default: all the others."
    ),
    click.option("--positive", metavar="CLASS", help="The positive class of a binary model."),
)


def column_options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def columns_from(options: dict[str, Any]) -> ColumnMap:
    """The flags as a ColumnMap; raises UsageError for a malformed one."""
    probabilities: dict[str, str] = {}
    for pair in options["probabilities"]:
        column, colon, name = pair.rpartition(":")
        if not colon or not column or not name:
            raise click.UsageError(f'--probabilities {pair}: write COLUMN:CLASS, for example "p_fraud:fraud"')
        probabilities[column] = name
    features = options["features"]
    return ColumnMap(
        timestamp=options["timestamp"],
        id=options["id_"],
        cls=options["cls"],
        probability=options["probability"],
        probabilities=probabilities,
        value=options["value"],
        label=options["label"],
        segments=tuple(options["segment"]),
        features=tuple(f.strip() for f in features.split(",") if f.strip()) if features else None,
        positive=options["positive"],
    )
