"""Whether a server gives back what was written under a storage profile: tried with one row in an index of its
own."""

import math
import secrets
from typing import Any

from kedge.errors import StoreUnavailable
from kedge.store.base import Json
from kedge.store.elastic.client import Client, Refused

_PROBE: Json = {
    "@timestamp": 1_700_000_000_123,
    "event": {"id": "probe", "ingested": 1_700_000_000_456, "outcome": "success"},
    "model": {"name": "probe"},
    "prediction": {
        "class": "a",
        "probability": 0.1,
        "probabilities": {"a": 0.1, "b%2Ec": 0.30000000000000004},
        "value": 1e15 + 0.125,
        "entropy": 0.3,
    },
    "features": {"num": {"x": 0.1, "y%2Ez": 16777216.0}, "cat": {"c": "é"}, "invalid": ["q"]},
    "label": {"class": "b", "timestamp": 1_700_000_001_123, "value": 0.1},
}
_PROBE_LABEL: Json = {
    "label": {"class": "a", "timestamp": 1_700_000_002_123},
    "outcome": {"correct": True, "log_loss": 2.302585092994046},
}


def probe(client: Client, prefix: str, storage: Json, settings: Json, mappings: Json) -> str:
    """Write, label and read back one row under this storage; what is wrong, empty if nothing."""
    index = f"{prefix}-probe-{secrets.token_hex(4)}"
    request = client.request
    try:
        request(
            "PUT", f"/{index}", {"settings": _merged(settings, storage), "mappings": mappings}, verb="probe"
        )
        request("PUT", f"/{index}/_doc/1", _PROBE, verb="probe")
        request("POST", f"/{index}/_refresh", verb="probe")
        found = request("GET", f"/{index}/_doc/1", verb="probe")["_source"] | _PROBE_LABEL
        request("PUT", f"/{index}/_doc/1", found, verb="probe")
        found = request("GET", f"/{index}/_doc/1", verb="probe")["_source"]
    except Refused as refused:
        return refused.reason
    finally:
        _remove(client, index)
    return _difference(found)


def _remove(client: Client, index: str) -> None:
    try:
        client.request("DELETE", f"/{index}", params={"ignore_unavailable": "true"}, verb="probe")
    except (Refused, StoreUnavailable):
        pass  # an empty index is left behind; the failure that matters is being raised


def _merged(a: Json, b: Json) -> Json:
    """Settings of two component templates as the server would compose them."""
    merged = dict(a)
    for key, value in b.items():
        held = merged.get(key)
        merged[key] = _merged(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return merged


def _difference(found: Json) -> str:
    """What of the probe row did not come back as written and labelled: doubles exactly, floats as floats."""
    expected: Json = {**_PROBE, **_PROBE_LABEL}
    for path, value in _leaves(expected):
        place: Any = found
        for step in path:
            place = place.get(step) if isinstance(place, dict) else None
        if isinstance(value, float) and isinstance(place, int | float):
            exact = path[:2] == ("prediction", "probabilities") or path[-1] == "value"
            if place == value or (not exact and math.isclose(place, value, rel_tol=2**-24)):
                continue
        elif place in (value, value[0] if isinstance(value, list) else value) or path[-1] in (
            "@timestamp",
            "ingested",
            "timestamp",
        ):
            continue
        return f"{'.'.join(path)} came back as {place!r} instead of {value!r}"
    return ""


def _leaves(value: Json, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    leaves: list[tuple[tuple[str, ...], Any]] = []
    for key, inner in value.items():
        leaves += _leaves(inner, (*path, key)) if isinstance(inner, dict) else [((*path, key), inner)]
    return leaves
