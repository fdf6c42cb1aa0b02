"""The change feed: what was written or updated since a watermark, by the server's own sequence numbers.

Every write and update gets the next `_seq_no` of its shard, and all numbers up to the *global checkpoint*
are on every copy. So rows with a number in (last, checkpoint] after a refresh are exactly what changed: no
clock, no refresh interval and no late spool can make one slip through. A row updated again meanwhile has
left the interval upward, and is met by the next call.

A row in the interval *arrived* in it unless `label.row` (stored.Origin) says that this index had it before:
its number before its first joined label was at most `last`. Else it is told as arrived, at worst once too
often. A row copied from another index brings that one's uuid, which is not believed.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from kedge.errors import PartialResult
from kedge.store.base import Changes, Json
from kedge.store.elastic.client import Client
from kedge.store.elastic.place import Place
from kedge.windows import MINUTE, Millis

_PAGE = 10_000
"""Buckets of the composite aggregation in one answer."""


class Shard(NamedTuple):
    name: str
    uuid: str
    number: int
    checkpoint: int
    only: bool
    """The index has no other shard."""

    @property
    def key(self) -> str:
        return f"{self.uuid}/{self.number}"


class _Touched(NamedTuple):
    model: str
    minute: Millis
    arrived: bool
    """It has rows that were not there before."""
    labelled: bool
    """It has rows with a label."""


class Feed:
    """`LogStore.changed`. The watermark: {"shards": {"<index uuid>/<shard>": seq_no}, "indices": {name:
    uuid}}."""

    def __init__(self, client: Client, place: Place) -> None:
        self._client = client
        self._place = place

    def changed(self, since: Json) -> Changes:
        seen: dict[str, int] = since.get("shards", {})
        known: dict[str, str] = since.get("indices", {})
        shards = self.shards()
        moved = [s for s in shards if s.checkpoint > seen.get(s.key, -1)]
        dirty: dict[str, set[Millis]] = defaultdict(set)
        labelled: dict[str, set[Millis]] = defaultdict(set)
        if moved:
            for batch in paths(sorted({s.name for s in moved})):
                self._client.refresh(batch)
            for shard in moved:
                for touched in self._touched(shard, seen.get(shard.key, -1)):
                    if touched.arrived:
                        dirty[touched.model].add(touched.minute)
                    if touched.labelled:
                        labelled[touched.model].add(touched.minute)
        indices = {self._place.series(s.name): s.uuid for s in shards}
        # An alias that a rebuilt index stands behind now: its numbers began anew.
        replaced = any(known.get(name, uuid) != uuid for name, uuid in indices.items())
        watermark = {"shards": {s.key: s.checkpoint for s in shards}, "indices": indices}
        return Changes(watermark, dict(dirty), replaced, dict(labelled))

    def shards(self) -> list[Shard]:
        answer = self._client.request(
            "GET",
            f"/{self._place.everywhere}/_stats/docs",
            params={
                "level": "shards",
                "filter_path": "_shards.failed,indices.*.uuid,indices.*.shards.*.seq_no.global_checkpoint",
            },
            verb="checkpoints",
        )
        if answer.get("_shards", {}).get("failed"):
            raise PartialResult(f"{self._client.host} cannot tell the checkpoints of all shards")
        shards = []
        for name, index in sorted(answer.get("indices", {}).items()):
            copies_by_number = index.get("shards", {})
            for number, copies in copies_by_number.items():
                # A replica may lag behind in knowing the checkpoint, never run ahead of it.
                checkpoint = max(copy["seq_no"]["global_checkpoint"] for copy in copies)
                shards.append(Shard(name, index["uuid"], int(number), checkpoint, len(copies_by_number) == 1))
        return shards

    def _touched(self, shard: Shard, after: int) -> Iterator[_Touched]:
        """The models and minutes of the rows numbered in (after, checkpoint] on one shard."""
        here_before = [
            {"range": {"label.row.seq": {"lte": after}}},
            {"term": {"label.row.index": shard.uuid}},
        ]
        counted = {
            "before": {"filter": {"bool": {"filter": here_before}}},
            "labelled": {"filter": self._place.labelled or {"match_none": {}}},
        }
        composite: Json = {
            "size": _PAGE,
            "sources": [
                {"model": {"terms": {"field": "model.name"}}},
                {
                    "minute": {
                        "date_histogram": {"field": self._place.timestamp, "fixed_interval": f"{MINUTE}ms"}
                    }
                },
            ],
        }
        params = {} if shard.only else {"preference": f"_shards:{shard.number}"}
        while True:
            body = {
                "size": 0,
                "track_total_hits": False,
                "query": {"range": {"_seq_no": {"gt": after, "lte": shard.checkpoint}}},
                "aggs": {"touched": {"composite": composite, "aggs": counted}},
            }
            answer = self._client.search(
                shard.name,
                body,
                filter_path="aggregations.touched.after_key,aggregations.touched.buckets",
                **params,
            )
            page = answer.get("aggregations", {}).get("touched", {})
            buckets = page.get("buckets", [])
            for bucket in buckets:
                yield _Touched(
                    bucket["key"]["model"],
                    int(bucket["key"]["minute"]),
                    arrived=bucket["doc_count"] > bucket["before"]["doc_count"],
                    labelled=bucket["labelled"]["doc_count"] > 0,
                )
            if len(buckets) < _PAGE:
                return
            composite = composite | {"after": page["after_key"]}


def paths(names: list[str], limit: int = 3_000) -> Iterator[str]:
    """Names joined by commas, in pieces that fit the servers' limit of 4,096 bytes for a request line."""
    piece: list[str] = []
    for name in names:
        if piece and sum(map(len, piece)) + len(piece) + len(name) > limit:
            yield ",".join(piece)
            piece = []
        piece.append(name)
    if piece:
        yield ",".join(piece)
