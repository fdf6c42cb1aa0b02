"""The command line. Each group of commands is a module; heavy libraries are imported by the command that
needs them.
"""

import sys
from pathlib import Path
from typing import Any

import click

from kedge import __version__
from kedge.errors import KedgeError

COMMANDS = {
    "demo": "kedge.cli.demo:demo",
    "init": "kedge.cli.start:init",
    "setup": "kedge.cli.start:setup",
    "doctor": "kedge.cli.start:doctor",
    "key": "kedge.cli.start:key",
    "serve": "kedge.cli.serve:serve",
    "worker": "kedge.cli.serve:worker",
    "beat": "kedge.cli.serve:beat",
    "import": "kedge.cli.load:import_",
    "labels": "kedge.cli.load:labels",
    "tick": "kedge.cli.operate:tick",
    "summarise": "kedge.cli.summarise:summarise",
    "alerts": "kedge.cli.operate:alerts",
    "silence": "kedge.cli.silence:silence",
    "baseline": "kedge.cli.baseline:baseline",
    "metrics": "kedge.cli.read:metrics",
    "compare": "kedge.cli.compare:compare",
    "rules": "kedge.cli.rules:rules",
    "notify": "kedge.cli.notify:notify",
}
"""In the order of `kedge --help`: to begin, to run, to load, to operate, to read, to author."""


class LazyGroup(click.Group):
    """Imports a command's module when the command is called: `kedge --help` should not load pandas."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        import importlib

        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f' (did you mean "{close[0]}"?)' if close else " (see kedge --help)"
            raise click.UsageError(f'there is no command "{args[0]}"{hint}', ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="kedge")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings file; default kedge.yml, or KEDGE_CONFIG.",
)
@click.pass_context
def cli(ctx: click.Context, config: Path | None) -> None:
    """kedge: learn from your logs, not from your customers, that a model went bad.

    \b
    kedge demo                         real flights through the whole pipeline
    kedge import log.jsonl --model m   load predictions; then kedge tick --drain
    kedge serve                        gateway, API and scheduler in one process

    Exits with 0 when all is well, 1 when something was found, 2 for wrong use or bad input.
    """
    ctx.obj = config


def main() -> None:
    """The entry point: a KedgeError is a sentence for a person, never a traceback."""
    try:
        code: Any = cli(standalone_mode=False)
    except click.exceptions.Exit as e:
        sys.exit(e.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as e:
        e.show()
        sys.exit(2)
    except KedgeError as e:
        click.echo(str(e), err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
