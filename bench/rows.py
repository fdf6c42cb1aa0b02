"""Predictions as a service would post them: 25 features, of which 20 are numbers and 5 categories."""

import random
from typing import Any

import msgspec

from kedge.windows import DAY, Millis, iso

NUMERIC, CATEGORICAL = 20, 5
COUNTRIES = ("DE", "FR", "NL", "PL", "ES", "IT", "AT", "BE")


def predictions(count: int, day: Millis, *, model: str = "fraud", seed: int = 1) -> list[dict[str, Any]]:
    """`count` rows spread evenly over one day, with ids in the order of time."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        likely = ("fraud", "ok") if rng.random() < 0.1 else ("ok", "fraud")
        score = rng.betavariate(8, 2)
        at = day + i * DAY // count
        features: dict[str, Any] = {f"n{j:02}": round(rng.gauss(j, 1 + j / 4), 4) for j in range(NUMERIC)}
        features |= {f"c{j}": rng.choice(COUNTRIES) for j in range(CATEGORICAL)}
        rows.append(
            {
                "id": f"{at:012x}{seed:04x}{i:016x}",
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
