"""Which files the commands read."""

from collections.abc import Sequence
from pathlib import Path

import click

from kedge.cli.common import settings_from


def chosen_paths(ctx: click.Context, paths: Sequence[Path]) -> list[Path]:
    """Those that were named, else the rules of the settings; raises UsageError for one that is not there."""
    settings = settings_from(ctx)  # which tell the metrics that rules may name, too
    chosen = list(paths) or [settings.rules]
    missing = [p for p in chosen if not p.exists()]
    if missing:
        raise click.UsageError(f"{missing[0]}: there is no such file or folder (kedge init writes one)")
    return chosen


def shown(path: Path) -> str:
    """As people name it: from the current folder where it is below that."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
