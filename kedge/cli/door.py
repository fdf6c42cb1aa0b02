"""The way of files' rows to a running server: as wire JSON, over HTTP."""

from typing import Any

import httpx
import msgspec

from ingest.importing import Stored
from kedge.cli.client import Client
from kedge.record_table import PredictionTable
from kedge.records import Label, Prediction

BATCH = 5_000
"""Rows of one request."""


class ServerDoor:
    """Posts rows to the gateway (ingest.importing.Door)."""

    at_once = 2

    def __init__(self, client: Client) -> None:
        self._client = client
        self._http = client.blocking()

    def table(self, table: PredictionTable) -> Stored:
        return self.rows(table.rows())

    def rows(self, rows: list[Prediction]) -> Stored:
        accepted = duplicate = rejected = spooled = 0
        reasons: list[str] = []
        for start in range(0, len(rows), BATCH):
            chunk = rows[start : start + BATCH]
            answer = self._posted(chunk)
            accepted += answer["accepted"]
            duplicate += answer["duplicate"]
            rejected += answer["rejected"]
            spooled += answer.get("spooled", 0)
            for told in answer.get("rejections", ()):
                where = f"{told['field']}: " if told.get("field") else ""
                reasons.append(f"{where}{told['reason']} (id {chunk[told['index']].id})")
        return Stored(accepted, duplicate, rejected, reasons, spooled)

    def _posted(self, rows: list[Prediction]) -> dict[str, Any]:
        body = b"\n".join(msgspec.json.encode(wire_prediction(row)) for row in rows)
        try:
            response = self._http.post(
                "/v1/predictions", content=body, headers={"Content-Type": "application/x-ndjson"}
            )
        except httpx.HTTPError as error:
            raise self._client.unreached(error) from None
        answer: dict[str, Any] = self._client.answered(response, accept=(422,)).json()
        return answer

    def close(self) -> None:
        self._http.close()


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
