"""The store on Elasticsearch 8.19+ and 9 or OpenSearch 2.19+ and 3."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from kedge.errors import BadInput, KedgeError
from kedge.record_table import PredictionTable
from kedge.records import Label, OpenField, Prediction
from kedge.sketch import EdgeSet, Moments, NumericEdges
from kedge.store.base import (
    PENDING_A_CALL,
    AppendResult,
    Changes,
    Check,
    Counters,
    Joined,
    Json,
    MetricDoc,
    PartRow,
    PendingCounts,
    RejectedRow,
    SummaryKey,
    SummaryQuery,
    SummaryRequest,
)
from kedge.store.elastic.client import Client
from kedge.store.elastic.documents import Alerts, Documents
from kedge.store.elastic.feed import Feed
from kedge.store.elastic.foreign_rows import count_rows
from kedge.store.elastic.indices import Indices
from kedge.store.elastic.labels import Labels
from kedge.store.elastic.logs import Logs
from kedge.store.elastic.metrics import Metrics
from kedge.store.elastic.names import Names
from kedge.store.elastic.namespaces import Namespaces
from kedge.store.elastic.place import OwnPlace
from kedge.store.elastic.quantiles import Quantiles, of_version
from kedge.store.elastic.rejected import Rejected
from kedge.store.elastic.setup import Setup
from kedge.store.elastic.shared import SharedIds
from kedge.store.elastic.sources import Sources
from kedge.store.elastic.summaries import Summaries
from kedge.store.elastic.summarise import Summariser
from kedge.store.elastic.table import TableWriter
from kedge.store.elastic.values import values_of
from kedge.store.flaws import Flaw
from kedge.store.retention import Floors, Retention, Swept
from kedge.store.sources import Source
from kedge.store.values import ValueCount, ValueQuery, merged
from kedge.windows import Millis, Window

TIMEOUT_S = 60.0
FOR_EVER = Retention()
_PREFIX = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")


class ElasticStore:
    """Every Protocol of `kedge.store.base` over one cluster. Thread-safe; connects on first use.

    Needs `setup` to have been run once for its prefix, by whoever may install templates.
    """

    def __init__(
        self,
        client: Client,
        names: Names,
        clock: Callable[[], Millis],
        sources: Sequence[Source] = (),
        retention: Retention = FOR_EVER,
    ) -> None:
        self._client = client
        self._clock = clock
        self.state = Documents(client, names("state"))
        indices = Indices(client, names, self.state)
        place = OwnPlace(names)
        self._indices = indices
        shared = SharedIds(self.state)
        self._logs = Logs(client, names, indices, place, Namespaces(self.state, clock), clock, shared)
        self._tables = TableWriter(client, names, indices, self._logs)
        self._rejected = Rejected(client, names, indices)
        self._labels = Labels(client, names, indices, shared, self.state, self._rejected.reject)
        self._feed = Feed(client, place)
        self._summariser = Summariser(client, place)
        self._quantiles = Quantiles(client, place)
        self._summaries = Summaries(client, names, indices)
        self._metrics = Metrics(client, names, indices)
        self._setup = Setup(client, names, indices, retention)
        self.alerts = Alerts(client, names("alerts"))
        self.events = Documents(client, names("alert-events"))
        self.outbox = Documents(client, names("outbox"))
        self._place = place
        self._sources = Sources(client, sources, names.prefix, self.state)

    @property
    def counters(self) -> Counters:
        return self._client.counters

    # --- logs -------------------------------------------------------------------------------------

    def reserve(self, fields: Mapping[str, Collection[OpenField]]) -> None:
        self._logs.reserve(fields)

    def append(self, rows: Sequence[Prediction]) -> list[AppendResult]:
        return self._logs.append(rows)

    def append_table(self, table: PredictionTable) -> list[AppendResult]:
        return self._tables.append(table)

    def label(self, labels: Sequence[Label]) -> list[Joined]:
        return self._labels.label(labels)

    def join_pending(self, now: Millis, expiry: Millis, limit: int = PENDING_A_CALL) -> PendingCounts:
        return self._labels.join_pending(now, expiry, limit)

    def changed(self, since: Json) -> Changes:
        changes = self._feed.changed(since)
        return _with(changes, self._sources.changed(since.get("sources", {}))) if self._sources else changes

    def summarise(self, request: SummaryRequest) -> list[PartRow]:
        return self.summarise_many([request])[0]

    def summarise_many(self, requests: Sequence[SummaryRequest]) -> list[list[PartRow]]:
        rows = self._summariser.summarise_many(requests)
        if self._sources:
            self._sources.add_to(requests, rows)
        return rows

    def edges(
        self,
        model: str,
        window: Window,
        numeric: Sequence[str],
        categorical: Sequence[str],
        version: str | None = None,
    ) -> EdgeSet:
        own = self._quantiles.edges(model, window, numeric, categorical, version)
        others = self._sources.edges(model, window, numeric, categorical, version) if self._sources else []
        if not others:
            return own
        # Quantiles do not add: where a model has rows in several places, the largest speaks for all.
        place = self._place
        query = place.rows(model, window, *of_version(place, version))
        rows = count_rows(self._client, place.over(window), query, place.wildcards)
        return max([(rows, own), *others], key=lambda found: found[0])[1]

    def errors_by_value(
        self, model: str, window: Window, edges: NumericEdges, version: str | None = None
    ) -> list[Moments]:
        found = self._quantiles.errors_by_value(model, window, edges, version)
        for more in self._sources.errors_by_value(model, window, edges, version) if self._sources else ():
            found = [a + b for a, b in zip(found, more, strict=True)]
        return found

    def examples(self, model: str, window: Window, limit: int = 20, flaw: Flaw | None = None) -> list[Json]:
        found = self._logs.examples(model, window, limit, flaw)
        if self._sources:
            found += self._sources.examples(model, window, limit, flaw)
            found.sort(key=lambda row: str(row["@timestamp"]), reverse=True)
        return found[:limit]

    def values(self, query: ValueQuery) -> list[ValueCount]:
        own = values_of(self._client, self._place, query)
        return merged([*own, *self._sources.values(query)]) if self._sources else own

    def reject(self, rows: Sequence[RejectedRow]) -> None:
        self._rejected.reject(rows)

    def rejected(self, limit: int = 100) -> list[RejectedRow]:
        return self._rejected.rejected(limit)

    # --- summaries and metrics --------------------------------------------------------------------

    def write(self, rows: Sequence[PartRow]) -> list[bool]:
        return self._summaries.write(rows)

    def read_many(self, queries: Sequence[SummaryQuery]) -> list[list[PartRow]]:
        return self._summaries.read_many(queries)

    def versions_many(self, models: Collection[str], tier: Millis, window: Window) -> dict[SummaryKey, int]:
        return self._summaries.versions_many(models, tier, window)

    def write_metrics(self, docs: Sequence[MetricDoc]) -> None:
        self._metrics.write_metrics(docs)

    def read_metrics(self, model: str, width: Millis, window: Window) -> list[MetricDoc]:
        return self._metrics.read_metrics(model, width, window)

    def retire(self, floors: Floors) -> Swept:
        return self._indices.retire(floors)

    # --- the cluster ------------------------------------------------------------------------------

    def setup(self, *, dry_run: bool = False) -> list[Check]:
        checks = self._setup.run(dry_run=dry_run)
        return [*checks, *self.sources()] if checks[0].ok else checks

    def sources(self) -> list[Check]:
        """What can be read of each source, and what not."""
        return self._sources.checks() if self._sources else []

    def ping(self) -> Check:
        try:
            return Check("store", True, f"{self._client.server} at {self._client.host}")
        except KedgeError as error:
            return Check(
                "store", False, str(error), "check KEDGE_STORE, its credentials and that the server runs"
            )

    def close(self) -> None:
        self._client.close()


def _with(own: Changes, others: Changes) -> Changes:
    def joined(a: Mapping[str, set[Millis]], b: Mapping[str, set[Millis]]) -> dict[str, set[Millis]]:
        return {model: a.get(model, set()) | b.get(model, set()) for model in a.keys() | b.keys()}

    return Changes(
        own.watermark | {"sources": others.watermark},
        joined(own.dirty, others.dirty),
        own.replaced or others.replaced,
        joined(own.labelled, others.labelled),
    )


def open_elastic(
    url: str,
    *,
    prefix: str = "kedge",
    api_key: str | None = None,
    clock: Callable[[], Millis],
    timeout: float = TIMEOUT_S,
    sources: Sequence[Source] = (),
    retention: Retention = FOR_EVER,
) -> ElasticStore:
    """The store at `url` (`https://host:9200`; several nodes of one cluster by commas; a user in it is used).

    Every index, alias and template begins with `prefix`. `timeout` is in seconds, of one request;
    `retention` is what set-up tells the server to keep.
    Nothing is sent before the first call, so that a gateway can start, and spool, while the cluster is down.
    Raises BadInput for a URL or prefix that cannot be.
    """
    if not _PREFIX.fullmatch(prefix):
        raise BadInput(
            f'the prefix "{prefix}" cannot begin an index name: use lower-case letters, digits, - and _'
        )
    return ElasticStore(Client(url, api_key, timeout=timeout), Names(prefix), clock, sources, retention)
