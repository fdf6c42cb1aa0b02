"""`kedge import` and `kedge labels`: files in, through the same door as everybody's logs."""

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from kedge.cli.client import Client, connect
from kedge.cli.columns import column_options, columns_from
from kedge.cli.common import json_option, settings_from
from kedge.cli.output import Steps, err, json_line
from kedge.errors import StoreUnavailable

if TYPE_CHECKING:
    from ingest.columns import ColumnMap
    from ingest.importing import Door, Stored

BATCH = 5_000
FILE_MEMORY = "128MB"
"""What DuckDB keeps of its file while rows are written to it; else an import of millions takes gigabytes."""
SAVE_EVERY_S = 0.25
"""How often an import's progress is kept."""
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
        where = f"{field}: " if field else ""
        self._say(f"{self.file}: row {index + 1}: {where}{reason}")

    def _say(self, text: str) -> None:
        self._told += 1
        if self._told <= SHOWN:
            err.print(text, markup=False)
        elif self._told == SHOWN + 1:
            err.print(f"{self.file}: further rejected rows are counted, not told", markup=False)

    def spooled(self, answer: dict[str, Any]) -> None:
        """Count rows that the gateway keeps until its store can take them."""
        if answer.get("spooled"):
            self.add("spooled", answer["spooled"])

    def stored(self, result: "Stored") -> None:
        """What the store, or the server, made of a batch."""
        self.add("accepted", result.accepted)
        self.add("duplicate", result.duplicate)
        if result.spooled:
            self.add("spooled", result.spooled)
        for reason in result.reasons:
            self._say(f"{self.file}: {reason}")
        if result.rejected:
            self.add("rejected", result.rejected)

    def finish(self, as_json: bool) -> None:
        if as_json:
            json_line({"file": self.file} | self.counts)
        else:
            click.echo(f"{self.file}: " + ", ".join(f"{n:,} {name}" for name, n in self.counts.items()))
        if self.counts.get("rejected"):
            sys.exit(1)


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
@click.option("--restart", is_flag=True, help="Begin anew where an import of FILE was stopped.")
@json_option
@click.pass_context
def import_(
    ctx: click.Context,
    /,
    file: str,
    model: str,
    version: str | None,
    restart: bool,
    as_json: bool,
    **columns: Any,
) -> None:
    """Load predictions from FILE (JSONL, CSV or Parquet; - is JSONL on standard input).

    Columns with kedge's own names (id, timestamp, class, probability, probabilities.NAME, value, label,
    version, latency_ms, segment.NAME, …) need no flag; all others are features. Loading a file twice changes
    nothing. An import that was stopped, or killed, resumes where it was when it is started again.

    \b
    Example: kedge import log.jsonl --model fraud
             kedge import scores.parquet --model fraud --timestamp at --probabilities p:fraud --positive fraud
    """
    from ingest.files import read_columns
    from ingest.importing import StoreDoor, stored
    from kedge.cli.door import ServerDoor

    settings = settings_from(ctx)
    column_map = columns_from(columns)
    tally = _Tally(file)
    tally.counts = {"accepted": 0, "duplicate": 0}
    with connect(settings, memory=FILE_MEMORY) as client, ExitStack() as opened:
        kept = _Kept(client, file, model, version, column_map, tally)
        start = kept.begin(restart)
        if client.service:
            door: Door = StoreDoor(client.service)
        else:
            door = opened.enter_context(closing(ServerDoor(client)))
        opened.callback(kept.save)
        now = settings.make_clock()()
        batches = read_columns(file, model=model, version=version, columns=column_map, now=now, start=start)
        steps = opened.enter_context(Steps(f"importing {file}"))
        for batch, result in stored(batches, door, _waiting(file)):
            for rejection in batch.rejections:
                tally.reject(rejection.index, rejection.field, rejection.reason)
            tally.stored(result)
            steps.advance(batch.end - kept.rows, share=batch.share)
            kept.reached(batch.end)
        if column_map.positive:
            client.post(f"/v1/models/{model}/positive", {"positive_class": column_map.positive})
        kept.end()
    tally.finish(as_json)


def _waiting(file: str) -> Callable[[float, str], None]:
    def tell(seconds: float, why: str) -> None:
        err.print(f"{file}: {why}; trying again in {seconds:g} s", markup=False)

    return tell


class _Kept:
    """How far the import of a file has come, kept in the store so that it can be resumed."""

    def __init__(
        self,
        client: Client,
        file: str,
        model: str,
        version: str | None,
        columns: "ColumnMap",
        tally: _Tally,
    ) -> None:
        from ingest.importing import fingerprint

        self._client, self._file, self._tally = client, file, tally
        self._path = ""
        """Of the API; empty for what cannot be resumed: standard input, or no file."""
        if file != "-" and Path(file).is_file():
            self._path = f"/v1/imports/{fingerprint(Path(file), model, version, columns)}"
        self.rows = 0
        """All before this one are stored, or rejected."""
        self._saved = 0
        self._saved_at = time.monotonic()

    def begin(self, restart: bool) -> int:
        """The row to begin with; the counts so far are the tally's."""
        if not self._path:
            return 0
        if restart:
            self._client.request("DELETE", self._path)
            return 0
        found = self._client.get(self._path)
        if found:
            self.rows = self._saved = found["rows"]
            self._tally.counts = dict(found["counts"])
            err.print(f"{self._file}: resuming at row {self.rows:,}; --restart begins anew", markup=False)
        return self.rows

    def reached(self, rows: int) -> None:
        self.rows = rows
        if time.monotonic() - self._saved_at > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        if self._path and self.rows > self._saved:
            body = {"file": self._file, "rows": self.rows, "counts": self._tally.counts}
            self._saved_at = time.monotonic()
            with suppress(StoreUnavailable):  # told where rows are stored; here a later time will do
                self._client.request("PUT", self._path, json=body)
                self._saved = self.rows

    def end(self) -> None:
        """All is stored: nothing is left to resume."""
        if self._path and self._saved:
            self._client.request("DELETE", self._path)
        self._path = ""


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
    from kedge.cli.door import wire_label

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
