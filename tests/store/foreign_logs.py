"""Predictions as other people log them: an ECS-like data stream, and what a `_bulk` script comes up with."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import numpy as np
import orjson

from kedge.records import Label, Prediction
from kedge.store.sources import Mapped, Source, make_source
from kedge.windows import HOUR, MINUTE, Millis, Window, iso, parse_time

Document = dict[str, Any]

START = parse_time("2026-11-23T22:00:00Z")
SPAN = Window(START, START + 4 * HOUR)
CLASSES = ("no", "yes", "maybe")


def rows_of(count: int, models: Sequence[str], seed: int = 1, labelled: float = 0.4) -> list[Prediction]:
    """Predictions without what foreign logs lack: probabilities by class, and with them exact losses."""
    r = random.Random(seed)
    rows = []
    for i in range(count):
        at = START + r.randrange(4 * HOUR)
        failed = r.random() < 0.1
        row = Prediction(
            id=f"{seed}-{i:05d}",
            timestamp=at,
            ingested=at,
            model=r.choice(models),
            version=r.choice(("v1", "v2")),
            cls=None if failed else r.choice(CLASSES),
            # Hundredths are where cells meet.
            probability=None if failed else _number(r, (0.01, 0.29, 0.57, 0.58, 1.0, r.random())),
            num={
                name: value
                for name, value in (
                    ("age", float(r.randrange(18, 90))),
                    ("card.amount", _number(r, (0.1, 0.25, 1 / 3, 2.5, r.lognormvariate(0, 2)))),
                )
                if value is not None and r.random() < 0.9
            },
            cat={"merchant": r.choice(("shop", "pub", "casino")), "night": r.choice(("true", "false"))},
            segment={"region": r.choice(("eu", "us"))} if r.random() < 0.9 else {},
            # Exact as float32 in milliseconds, in seconds and as whole nanoseconds.
            latency_ms=r.randrange(1, 30_000) * 125 / 64 if r.random() < 0.9 else None,
            error_type="timeout" if failed else None,
        )
        rows.append(labelled_at_random(r, row) if r.random() < labelled else row)
    return rows


def _number(r: random.Random, values: Sequence[float]) -> float | None:
    """One of them as float32, since sums and extremes are of what is stored; or none."""
    return float(np.float32(r.choice(values))) if r.random() < 0.9 else None


def _number(r: random.Random, values: Sequence[float]) -> float | None:
    """One of them as float32, since sums and extremes are of what is stored; or none."""
    return float(np.float32(r.choice(values))) if r.random() < 0.9 else None


def labelled_at_random(r: random.Random, row: Prediction) -> Prediction:
    """The row with its truth, some seconds later."""
    at = row.timestamp + 1000 * r.randrange(1, 10_000)
    label = Label(id=row.id, timestamp=at, ingested=at, cls=r.choice(CLASSES))
    return msgspec.structs.replace(row, label=label)


# --- two ways to log the same -----------------------------------------------------------------------------


def ecs_document(row: Prediction) -> Document:
    """Core ECS fields, and their own under `ml`."""
    document: Document = {
        "@timestamp": iso(row.timestamp),
        "event": {"id": row.id, "outcome": "failure" if row.failed else "success"},
        "service": {"name": row.model, "version": row.version},
        "ml": {
            "predicted": row.cls,
            "score": row.probability,
            "region": row.segment.get("region"),
            "features": {**_nested(row.num), **_flags(row.cat)},
        },
    }
    if row.latency_ms is not None:
        document["event"]["duration"] = round(row.latency_ms * 1_000_000)
    if row.label:
        document["ml"]["truth"] = {"class": row.label.cls, "delay": row.label.timestamp - row.timestamp}
    return document


def own_document(row: Prediction) -> Document:
    """A flat document with a number for a time, as a script writes it."""
    document: Document = {
        "ts": row.timestamp,
        "mdl": row.model,
        "rel": row.version,
        "ok": not row.failed,
        **{f"in_{name.replace('.', '_')}": value for name, value in {**row.num, **_flags(row.cat)}.items()},
    }
    for name, value in (("out", row.cls), ("conf", row.probability), ("region", row.segment.get("region"))):
        if value is not None:
            document[name] = value
    if row.latency_ms is not None:
        document["took_s"] = row.latency_ms / 1000
    if row.label:
        document |= {"truth": row.label.cls, "truth_after_s": (row.label.timestamp - row.timestamp) // 1000}
    return document


def _nested(num: dict[str, float]) -> Document:
    nested: Document = {}
    for name, value in num.items():
        outer, _, inner = name.partition(".")
        if inner:
            nested.setdefault(outer, {})[inner] = value
        else:
            nested[outer] = value
    return nested


def _flags(cat: dict[str, str]) -> Document:
    return {name: value == "true" if value in ("true", "false") else value for name, value in cat.items()}


def ecs_source(index: str, **more: Any) -> Source:
    return make_source(
        index,
        preset="ecs",
        fields={
            "prediction.class": Mapped("ml.predicted"),
            "prediction.probability": Mapped("ml.score"),
            "segment.region": Mapped("ml.region"),
            "label.class": Mapped("ml.truth.class"),
            "label.delay": Mapped("ml.truth.delay"),
        },
        features=("ml.features.*",),
        **more,
    )


def own_source(index: str, **more: Any) -> Source:
    return make_source(
        index,
        fields={
            "timestamp": Mapped("ts"),
            "model.name": Mapped("mdl"),
            "model.version": Mapped("rel"),
            "prediction.class": Mapped("out"),
            "prediction.probability": Mapped("conf"),
            "latency": Mapped("took_s", unit="s"),
            "error": Mapped("ok", values=("false",)),
            "segment.region": Mapped("region"),
            "label.class": Mapped("truth"),
            "label.delay": Mapped("truth_after_s", unit="s"),
            "features.num.card.amount": Mapped("in_card_amount"),
        },
        features=("in_*",),
        **more,
    )


@dataclass(frozen=True)
class Kind:
    """A way to log, and the mapping that reads it."""

    document: Callable[[Prediction], Document]
    source: Callable[..., Source]
    stream: bool


ECS_STREAM = Kind(ecs_document, ecs_source, stream=True)
BULK_SCRIPT = Kind(own_document, own_source, stream=False)


class Logger:
    """Somebody who logs predictions, and knows nothing of kedge."""

    def __init__(self, url: str, index: str, kind: Kind) -> None:
        self.index = index
        self.kind = kind
        self._http = httpx.Client(base_url=url, timeout=60)
        self._homes: dict[str, str] = {}
        if kind.stream:
            self._call(
                "PUT",
                f"/_index_template/{index}",
                {
                    "index_patterns": [index],
                    "data_stream": {},
                    "priority": 500,
                    "template": {
                        "settings": {"number_of_shards": 2, "number_of_replicas": 0},
                        "mappings": {
                            "dynamic_templates": [
                                {
                                    "text": {
                                        "match_mapping_type": "string",
                                        "mapping": {"type": "keyword"},
                                    }
                                },
                                {
                                    "numbers": {
                                        "match_mapping_type": "double",
                                        "mapping": {"type": "double"},
                                    }
                                },
                            ]
                        },
                    },
                },
            )
            self._call("PUT", f"/_data_stream/{index}")

    def log(self, rows: Sequence[Prediction]) -> None:
        verb = "create" if self.kind.stream else "index"
        heads = [{verb: {"_index": self.index, "_id": row.id}} for row in rows]
        self._bulk(list(zip(heads, map(self.kind.document, rows), strict=True)), rows)

    def rewrite(self, rows: Sequence[Prediction]) -> None:
        """The same documents, with what has become known since."""
        self._bulk(
            [
                (
                    {"update": {"_index": self._homes[row.id], "_id": row.id}},
                    {"doc": self.kind.document(row)},
                )
                for row in rows
            ],
            rows,
        )

    def roll_over(self) -> None:
        self._call("POST", f"/{self.index}/_rollover")

    def close(self) -> None:
        if self.kind.stream:
            self._call("DELETE", f"/_data_stream/{self.index}")
            self._call("DELETE", f"/_index_template/{self.index}")
        else:
            self._http.delete(f"/{self.index}")
        self._http.close()

    def _bulk(self, pairs: Sequence[tuple[Document, Document]], rows: Sequence[Prediction]) -> None:
        body = b"".join(orjson.dumps(line) + b"\n" for pair in pairs for line in pair)
        headers = {"content-type": "application/x-ndjson"}
        answer = self._http.post("/_bulk", content=body, headers=headers).json()
        assert not answer["errors"], answer
        for row, item in zip(rows, answer["items"], strict=True):
            self._homes[row.id] = next(iter(item.values()))["_index"]

    def _call(self, method: str, path: str, body: Document | None = None) -> None:
        self._http.request(method, path, json=body).raise_for_status()


def minutes(rows: Sequence[Prediction]) -> set[Millis]:
    return {row.timestamp - row.timestamp % MINUTE for row in rows}
