"""Predictions as a service would post them: 25 features, of which 20 are numbers and 5 categories."""

import random
from typing import Any

import msgspec

from ingest.body import decode
from ingest.enrich import prediction_of
from ingest.wire import PREDICTION
from kedge.clock import system_clock
from kedge.records import Prediction
from kedge.windows import DAY, Millis, iso

NUMERIC, CATEGORICAL = 20, 5
COUNTRIES = ("DE", "FR", "NL", "PL", "ES", "IT", "AT", "BE")


def predictions(
    count: int,
    day: Millis,
    *,
    model: str = "fraud",
    seed: int = 1,
    digits: int | None = 4,
    ids: bool = True,
) -> list[dict[str, Any]]:
    """`count` rows spread evenly over one day, with ids in the order of time.

    Numeric features are rounded to `digits`; None leaves them as they came out of a computation. Without
    `ids` the gateway gives each row one, of which 80 bits are random.
    """
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        likely = ("fraud", "ok") if rng.random() < 0.1 else ("ok", "fraud")
        score = rng.betavariate(8, 2)
        at = day + i * DAY // count
        features: dict[str, Any] = {f"n{j:02}": rng.gauss(j, 1 + j / 4) for j in range(NUMERIC)}
        if digits is not None:
            features = {name: round(value, digits) for name, value in features.items()}
        features |= {f"c{j}": rng.choice(COUNTRIES) for j in range(CATEGORICAL)}
        own = {"id": f"{at:012x}{seed:04x}{i:016x}"} if ids else {}
        rows.append(
            own
            | {
                "timestamp": iso(at),
                "model": model,
                "version": "7",
                "probabilities": dict(zip(likely, (score, 1 - score), strict=True)),
                "features": features,
                "segment": {"region": rng.choice(("eu", "us"))},
                "latency_ms": round(rng.lognormvariate(2.5, 0.4), 2),
            }
        )
    return rows


def bodies(rows: list[dict[str, Any]], size: int) -> list[bytes]:
    """The rows as NDJSON, `size` of them a request."""
    encode = msgspec.json.encode
    return [b"\n".join(map(encode, rows[i : i + size])) for i in range(0, len(rows), size)]


def records(rows: list[dict[str, Any]]) -> list[Prediction]:
    """The rows as the gateway would store them."""
    now = system_clock()
    return [
        prediction_of(wire, now)
        for body in bodies(rows, 1_000)
        for _, wire in decode(body, PREDICTION, lines=True).rows
    ]
