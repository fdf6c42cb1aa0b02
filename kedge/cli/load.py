"""`kedge import` and `kedge labels`: files in, through the same door as everybody's logs."""

import sys
from collections.abc import Iterable
from typing import Any

import click
import msgspec

from kedge.cli.client import Client, connect
from kedge.cli.columns import column_options, columns_from
from kedge.cli.common import json_option, settings_from
from kedge.cli.output import Steps, err, json_line
from kedge.records import Label, Prediction

BATCH = 5_000
SHOWN = 20
"""Rejected rows that are told one by one."""


class _Tally:
    """Counts of what the server answered, and the first rejections for the reader."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.counts: dict[str, int] = {}
        self._told = 0

    def add(self, name: str, n: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + n

    def reject(self, index: int, field: str, reason: str, rows: int = 1) -> None:
        self.add("rejected", rows)
        self._told += 1
        if self._told <= SHOWN:
            where = f"{field}: " if field else ""
            err.print(f"{self.file}: row {index + 1}: {where}{reason}", markup=False)
        elif self._told == SHOWN + 1:
            err.print(f"{self.file}: further rejected rows are counted, not told", markup=False)

    def spooled(self, answer: dict[str, Any]) -> None:
        """Count rows that the gateway keeps until its store can take them."""
        if answer.get("spooled"):
            self.add("spooled", answer["spooled"])

    def finish(self, as_json: bool) -> None:
        if as_json:
            json_line({"file": self.file} | self.counts)
        else:
            click.echo(f"{self.file}: " + ", ".join(f"{n:,} {name}" for name, n in self.counts.items()))
        if self.counts.get("rejected"):
            sys.exit(1)


def wire_prediction(row: Prediction) -> dict[str, Any]:
    """A row as a client would post it."""
    wire: dict[str, Any] = {
        "id": row.id,
        "timestamp": row.timestamp,
        "model": row.model,
        "features": row.num | row.cat | {name: [] for name in row.invalid},
    }
    plain = {
        "version": row.version,
        "class": row.cls,
        "probability": row.probability,
        "probabilities": row.probabilities,
        "value": row.value,
        "entropy": row.entropy,
        "segment": row.segment,
        "latency_ms": row.latency_ms,
        "trace_id": row.trace,
        "service": row.service,
        "host": row.host,
        "attributions": row.attributions,
        "resource": row.resource,
        "business": row.business,
    }
    wire |= {name: value for name, value in plain.items() if value not in (None, "", {})}
    if row.failed:
        wire["error"] = {"type": row.error_type, "message": row.error_message}
    if row.label is not None:
        wire["label"] = wire_label(row.label)
    return wire


def wire_label(label: Label) -> dict[str, Any]:
    """A label as a client would post it; without the id, which its prediction has."""
    truth = {"class": label.cls, "value": label.value}
    return {name: value for name, value in truth.items() if value is not None} | {
        "timestamp": label.timestamp
    }


def _post(client: Client, path: str, rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    body = b"\n".join(msgspec.json.encode(row) for row in rows)
    response = client.request(
        "POST", path, content=body, headers={"Content-Type": "application/x-ndjson"}, accept=(422,)
    )
    answer: dict[str, Any] = response.json()
    return answer


@click.command("import")
@click.argument("file")
@click.option("--model", required=True, metavar="M", help="The model's name.")
@click.option("--version", metavar="V", help="The model's version, where no column says it.")
@column_options
@json_option
@click.pass_context
def import_(
    ctx: click.Context, /, file: str, model: str, version: str | None, as_json: bool, **columns: Any
) -> None:
    """Load predictions from FILE (JSONL, CSV or Parquet; - is JSONL on standard input).

    Columns with kedge's own names (id, timestamp, class, probability, probabilities.NAME, value, label,
    version, latency_ms, segment.NAME, …) need no flag; all others are features. Loading a file twice changes
    nothing.

    \b
    Example: kedge import log.jsonl --model fraud
             kedge import scores.parquet --model fraud --timestamp at --probabilities p:fraud --positive fraud
    """
    from ingest.files import read_predictions

    settings = settings_from(ctx)
    column_map = columns_from(columns)
    tally = _Tally(file)
    with connect(settings) as client, Steps(f"importing {file}") as steps:
        batches = read_predictions(
            file, model=model, version=version, columns=column_map, now=settings.make_clock()()
        )
        for batch in batches:
            for rejection in batch.rejections:
                tally.reject(rejection.index, rejection.field, rejection.reason)
            for i in range(0, len(batch.rows), BATCH):
                chunk = batch.rows[i : i + BATCH]
                answer = _post(client, "/v1/predictions", map(wire_prediction, chunk))
                tally.add("accepted", answer["accepted"])
                tally.add("duplicate", answer["duplicate"])
                tally.spooled(answer)
                _rejections(tally, answer, chunk)
                steps.advance(len(chunk))
        if column_map.positive:
            client.post(f"/v1/models/{model}/positive", {"positive_class": column_map.positive})
    tally.finish(as_json)


def _rejections(tally: _Tally, answer: dict[str, Any], chunk: list[Any]) -> None:
    for r in answer.get("rejections", ()):
        tally.reject(r["index"], r.get("field") or "", f"{r['reason']} (id {chunk[r['index']].id})")
    untold = answer["rejected"] - len(answer.get("rejections", ()))
    if untold:
        tally.add("rejected", untold)


@click.command()
@click.argument("file")
@click.option("--id", "id_", metavar="C", help="Column of the prediction's id.")
@click.option("--label", metavar="C", help="Column of the truth.")
@click.option("--timestamp", metavar="C", help="Column of the time at which the truth was known.")
@json_option
@click.pass_context
def labels(
    ctx: click.Context, file: str, id_: str | None, label: str | None, timestamp: str | None, as_json: bool
) -> None:
    """Load late labels from FILE; the newest label time wins, ties by content.

    \b
    Example: kedge labels truth.csv --id order --label is_fraud --timestamp known_at
    """
    from ingest.files import read_labels

    settings = settings_from(ctx)
    tally = _Tally(file)
    with connect(settings) as client, Steps(f"joining {file}", unit="labels") as steps:
        batches = read_labels(file, id=id_, label=label, timestamp=timestamp, now=settings.make_clock()())
        for batch in batches:
            for rejection in batch.rejections:
                tally.reject(rejection.index, rejection.field, rejection.reason)
            for i in range(0, len(batch.rows), BATCH):
                chunk = batch.rows[i : i + BATCH]
                rows = ({"id": row.id} | wire_label(row) for row in chunk)
                answer = _post(client, "/v1/labels", rows)
                for name in ("accepted", "superseded", "waiting"):
                    tally.add(name, answer[name])
                tally.spooled(answer)
                _rejections(tally, answer, chunk)
                steps.advance(len(chunk))
    tally.finish(as_json)
