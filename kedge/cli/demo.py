"""`kedge demo`: real flights through the whole pipeline, on simulated time."""

from __future__ import annotations

import io
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import click

from kedge.cli.common import json_option
from kedge.cli.output import Steps, json_line, number, table
from kedge.errors import KedgeError
from kedge.windows import Millis, iso

if TYPE_CHECKING:
    from kedge.clock import Clock
    from kedge.pipeline.context import Pipeline
    from kedge.store.base import Json


@click.command()
@click.option("--exit", "exit_", is_flag=True, help="End after the replay instead of serving the result.")
@click.option(
    "--speed", type=click.FloatRange(min=1), help="Simulated hours per second; default: as fast as it goes."
)
@click.option(
    "--months", type=click.IntRange(1, 10), default=3, show_default=True, help="How much to replay."
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the store and rules in this folder.",
)
@json_option
def demo(exit_: bool, speed: float | None, months: int, keep: Path | None, as_json: bool) -> None:
    """Replay real flights of 2013 through the whole pipeline, embedded, on simulated time.

    A model trained on January and February says which flights will arrive more than 15 minutes late; the
    truth comes when they land. Alerts are told as they fire and resolve; at the end stands a table of them
    all.

    \b
    Example: kedge demo --exit
    """
    try:
        from kedge.demo.flights import TRAINED_UNTIL, train
    except ModuleNotFoundError as e:
        raise KedgeError(f"the demo needs {e.name}: pip install 'kedge[demo]'") from None
    from kedge.demo.replay import open_replay
    from kedge.notify.receivers import load_receivers
    from kedge.pipeline.query import alert_rows, history_rows

    started = time.monotonic()
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kedge-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "kedge.duckdb"
        if file.exists():
            raise KedgeError(
                f"{file} exists: the demo starts from nothing; remove it, or --keep another folder"
            )
        click.echo("training on the flights of January and February 2013 …", err=True)
        model = train()
        stream = cast(TextIO, _Current("stderr" if as_json else "stdout"))
        replay = open_replay(model, f"duckdb:{file}", load_receivers(None, {}, stream=stream))
        stack.callback(replay.pipe.store.close)
        baseline = replay.import_reference()
        click.echo(f"baseline {baseline.label}, {len(baseline.edges.features)} features", err=True)
        start = TRAINED_UNTIL
        end = _months_later(start, months)
        total = (end - start) / timedelta(hours=1)
        begun = time.monotonic()
        with Steps("replaying", total, "hours") as steps:
            at = round(start.timestamp() * 1000)

            def told(now: Millis, _: object) -> None:
                nonlocal at
                passed = (now - at) / 3_600_000
                steps.advance(
                    passed, f"{iso(now)[:10]}  {replay.predictions:,} flights, {replay.labels:,} landed"
                )
                at = now
                if speed:
                    time.sleep(
                        max(0.0, (now / 1000 - start.timestamp()) / 3600 / speed - (time.monotonic() - begun))
                    )

            replay.run(end, told)
        _report(history_rows(replay.pipe), as_json)
        said = (
            f"{replay.predictions:,} flights and {replay.labels:,} labels, {months} months, "
            f"in {time.monotonic() - begun:.0f} s ({time.monotonic() - started:.0f} s with training)"
        )
        click.echo(said, err=as_json)
        open_now = [r for r in alert_rows(replay.pipe) if r["state"] in ("firing", "acknowledged")]
        if open_now:
            click.echo(f"still firing: {', '.join(r['rule'] for r in open_now)}", err=as_json)
        if not exit_:
            _serve(replay.pipe, replay.clock)


class _Current(io.TextIOBase):
    """Writes to what sys.stdout or sys.stderr is at the moment: a progress bar replaces them while it is
    drawn.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def write(self, text: str) -> int:
        return int(getattr(sys, self._name).write(text))

    def flush(self) -> None:
        getattr(sys, self._name).flush()

    def isatty(self) -> bool:
        return bool(getattr(sys, self._name).isatty())


def _months_later(start: datetime, months: int) -> datetime:
    month = start.month - 1 + months
    return start.replace(year=start.year + month // 12, month=month % 12 + 1)


def _report(events: list[Json], as_json: bool) -> None:
    """One line an episode: when it fired, when it resolved, and what was seen when it was worst."""
    episodes: dict[tuple[str, int], list[Json]] = {}
    for event in events:
        if event.get("started"):
            episodes.setdefault((str(event["alert"]), event["started"]), []).append(event)
    rows: list[tuple[Json, Json, Json | None]] = []
    for transitions in episodes.values():
        firing = [t for t in transitions if t["after"] == "firing"]
        if not firing:
            continue
        worst = max(firing, key=lambda t: (t["severity"], -t["step"]))
        over = next((t for t in transitions if t["after"] == "resolved"), None)
        rows.append((firing[0], worst, over))
    rows.sort(key=lambda r: r[0]["step"])
    if as_json:
        for fired, worst, over in rows:
            json_line({"fired": fired, "worst": worst, "resolved": over})
        return
    table(
        f"{len(rows)} alerts",
        ["fired", "resolved", "severity", "rule", "value", "bound", "reference", "n"],
        [_row(fired, worst, over) for fired, worst, over in rows],
        right=["value", "bound", "reference", "n"],
    )


def _row(fired: Json, worst: Json, over: Json | None) -> list[object]:
    from kedge.alerting.finding import Severity

    finding = worst["finding"]
    labels = ", ".join(f"{k}={v}" for k, v in worst["group"].items())
    return [
        iso(fired["step"])[:16].replace("T", " "),
        iso(over["step"])[:16].replace("T", " ") if over else "still firing",
        Severity(worst["severity"]).word,
        f"{worst['rule']}{f' ({labels})' if labels else ''}",
        number(finding.get("value")),
        number(finding.get("bound")),
        number(finding.get("reference")),
        f"{finding.get('n', 0):,}",
    ]


def _serve(pipe: Pipeline, clock: Clock) -> None:
    import uvicorn

    from kedge.cli.app import build_app

    app = build_app(pipe, clock, local=True)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", 0, log_level="warning", lifespan="off"))
    server.config.load()
    socket = server.config.bind_socket()
    address = f"http://127.0.0.1:{socket.getsockname()[1]}"
    click.echo(f"\nthe result is served on {address} until Ctrl-C; in another terminal:")
    click.echo(f"  KEDGE_URL={address} kedge metrics flights --metric performance.accuracy --window 1d")
    click.echo(f"  KEDGE_URL={address} kedge alerts")
    server.run(sockets=[socket])
