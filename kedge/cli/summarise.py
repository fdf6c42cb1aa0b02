"""`kedge summarise`: the past as the present configuration would have summarised it."""

import time
from typing import Any

import click

from kedge.cli.client import Client, connect
from kedge.cli.common import json_option, settings_from
from kedge.cli.output import Steps, err, json_line

POLL_S = 1.0
"""How often it is asked how far another worker has come."""


@click.command()
@click.argument("model")
@click.option("--from", "start", metavar="TIME", required=True, help="Begin of the span (RFC 3339).")
@click.option("--to", "end", metavar="TIME", help="End of the span; default: all.")
@json_option
@click.pass_context
def summarise(ctx: click.Context, model: str, start: str, end: str | None, as_json: bool) -> None:
    """Compute missing parts of past summaries of MODEL: for a new metric, group or baseline.

    What is live goes first; parts that exist already are not written again. Stopped, it goes on with the next
    tick, whoever runs it.

    \b
    Example: kedge summarise fraud --from 2026-01-01
    """
    began = time.monotonic()
    with connect(settings_from(ctx)) as client:
        due = int(client.post(f"/v1/summarise/{model}", {"start": start, "end": end})["due"])
        written, left = _work(client, model, due)
    seconds = time.monotonic() - began
    if as_json:
        said = {"model": model, "due": due, "left": left, "written": written}
        json_line(said | {"seconds": round(seconds, 3)})
    else:
        waiting = f"{left:,} of them wait for their end, " if left else ""
        click.echo(f"{due:,} buckets looked at, {waiting}{written:,} parts written, {seconds:.2f} s")


def _work(client: Client, model: str, due: int) -> tuple[int, int]:
    """Tick until the past is done: the parts written here, and the buckets that are not over yet."""
    written, left = 0, due
    told = False
    with Steps(f"summarising {model}", unit="buckets") as steps:
        while left:
            report = client.post("/v1/tick", {"drain": False})
            written += report["written"]
            before, left = left, _left(client, model)
            steps.advance(max(0, before - left), share=1 - min(left, due) / due)
            if report["skipped"]:
                if not told:
                    err.print("another worker is at it: waiting for it", markup=False)
                    told = True
                time.sleep(POLL_S)
            elif left >= before and not report["left"]:
                break
        # Hours and days are made of what was just written.
        written += client.post("/v1/tick", {"drain": True})["written"]
    return written, left


def _left(client: Client, model: str) -> int:
    models: list[dict[str, Any]] = client.get("/v1/models")
    return next((int(known["history"]) for known in models if known["model"] == model), 0)
