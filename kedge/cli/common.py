"""Options that commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kedge.config import Settings, load_settings

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")


def settings_from(ctx: click.Context) -> Settings:
    """The settings of this call: `--config`, else KEDGE_CONFIG, else kedge.yml in this folder."""
    root = ctx.find_root().obj
    return load_settings(root if isinstance(root, Path) else None)
