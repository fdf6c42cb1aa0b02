"""How the command line prints: JSON lines for programs, tables for people, progress on standard error."""

import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

LINE_EVERY_S = 3.0

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def json_line(row: Any) -> None:
    click.echo(msgspec.json.encode(row).decode())


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    to_err: bool = False,
) -> None:
    """A table on standard output, or error; columns named in `right` are numbers."""
    drawn = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="bold", box=None
    )
    for name in columns:
        drawn.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*("" if cell is None else str(cell) for cell in row))
    console = err if to_err else out
    if not console.is_terminal:
        console = Console(highlight=False, width=200, stderr=to_err)
    console.print(drawn)


def number(value: float | None, digits: int = 4) -> str:
    """A number as people write it; a dash where there is none."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) >= 100:
        return f"{int(value):,}"
    return f"{value:.{digits}g}"


class Steps:
    """Progress of long work on standard error: a bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, what: str, total: float | None = None, unit: str = "rows") -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = 0.0
        self._told = self._started = time.monotonic()
        self._began: tuple[float, float] | None = None
        """The share that was first told, and when."""
        self._bar: Progress | None = None
        if err.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[said]}"),
                TimeElapsedColumn(),
                console=err,
                transient=True,
            )
            self._task = self._bar.add_task(what, total=total, said="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, by: float, said: str = "", share: float | None = None) -> None:
        """`share` of the whole is done, from 0 to 1; where it is told, the time that is left is too."""
        self._done += by
        passed = max(time.monotonic() - self._started, 1e-9)
        text = said or f"{self._done:,.0f} {self._unit}, {self._done / passed:,.0f}/s"
        if share is not None:
            if self._began is None:
                self._began = (share, passed)
            done, since = share - self._began[0], passed - self._began[1]
            if done > 0:
                text += f", {_spoken(since * (1 - share) / done)} left"
        if self._bar and share is not None:
            self._bar.update(self._task, total=1.0, completed=share, said=text)
        elif self._bar:
            self._bar.update(self._task, advance=by, said=text)
        elif time.monotonic() - self._told > LINE_EVERY_S:
            self._told = time.monotonic()
            if share is None and self._total:
                share = self._done / self._total
            click.echo(f"{self._what}: {text}{'' if share is None else f' ({share:.0%})'}", err=True)


def _spoken(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def fail(text: str, code: int = 2) -> None:
    """Say what is wrong on standard error, and end."""
    click.echo(text, err=True)
    sys.exit(code)
