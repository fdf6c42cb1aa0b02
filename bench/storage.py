"""Bytes a document on disk, beside the server's own dynamic mapping of the same documents."""

from typing import Any

from bench import rows as generated
from bench.processes import kedge_on
from bench.targets import at_most
from kedge.clock import system_clock
from kedge.store.base import Written
from kedge.store.elastic import ElasticStore
from kedge.store.elastic.client import Client
from kedge.store.elastic.encode import encode
from kedge.windows import DAY, floor

TARGETS = {"elasticsearch": 0.33, "opensearch": 0.15}
BATCH = 5_000


def measure(urls: dict[str, str], *, count: int = 30_000) -> dict[str, object]:
    """One day's index of `count` rows with 25 features, and an index with default settings and mapping that
    is given the same JSON under the same ids; both flushed and merged to one segment.

    With features as they come out of a computation, all digits of a float64, and `rounded` to four digits.
    kedge keeps a float32 of either; JSON that is kept as text is shorter for the second. Ids are a time and
    a count, as of a service that counts its requests, but for `ids_by_gateway`: those are the gateway's own,
    with 80 random bits, which no server can make smaller, and which the default mapping keeps six times.
    """
    figures: dict[str, Any] = {"rows": count}
    for name, url in urls.items():
        with kedge_on(url) as (_, store, client):
            figures[name] = {"server": str(client.server), "storage": _storage(store)}
        figures[name] |= _sizes(url, count, TARGETS[name])
        figures[name]["rounded"] = _sizes(url, count, TARGETS[name], digits=4)
        figures[name]["ids_by_gateway"] = _sizes(url, count, TARGETS[name], ids=False)
    return figures


def _sizes(
    url: str, count: int, target: float, *, digits: int | None = None, ids: bool = True
) -> dict[str, Any]:
    day = floor(system_clock(), DAY) - 3 * DAY
    rows = generated.records(generated.predictions(count, day, digits=digits, ids=ids))
    with kedge_on(url) as (kedge, store, client):
        plain = f"{kedge.prefix}-plain"
        client.request("PUT", f"/{plain}")  # everything by the server's default
        for i in range(0, count, BATCH):
            batch = rows[i : i + BATCH]
            if any(r.written is not Written.CREATED for r in store.append(batch)):
                raise RuntimeError("the store did not take every row as new")
            lines = [b'{"create":{"_id":"%b"}}\n%b\n' % (row.id.encode(), encode(row)) for row in batch]
            path = f"/{plain}/_bulk?filter_path=errors"
            if client.request("POST", path, b"".join(lines), ndjson=True)["errors"]:
                raise RuntimeError("the server refused rows of a bulk request")
        ours = _bytes(client, f"{kedge.prefix}-predictions-*", count)
        theirs = _bytes(client, plain, count)
        return {
            "bytes_a_document": round(ours, 1),
            "default_mapping": round(theirs, 1),
            "ratio": at_most(ours / theirs, target),
        }


def _bytes(client: Client, index: str, count: int) -> float:
    client.request("POST", f"/{index}/_refresh")
    client.request("POST", f"/{index}/_forcemerge?max_num_segments=1&flush=true")
    client.request("POST", f"/{index}/_refresh")
    stats = client.request("GET", f"/{index}/_stats/store,docs,segments")["_all"]["primaries"]
    if stats["docs"]["count"] != count or stats["segments"]["count"] != 1:
        raise RuntimeError(f"{index} holds {stats['docs']} in {stats['segments']['count']} segments")
    return float(stats["store"]["size_in_bytes"] / count)


def _storage(store: ElasticStore) -> str:
    """Which storage profile setup chose."""
    return next(c.detail for c in store.setup(dry_run=True) if c.name == "storage")
