"""Metrics for people: scalar columns that Kibana can chart, beside the exact values that kedge reads back."""

from collections.abc import Sequence

from kedge.store.base import Json, MetricDoc, group_key, parse_group
from kedge.store.elastic.client import Client
from kedge.store.elastic.indices import Addressed, Indices, scroll
from kedge.store.elastic.names import Names, escape, field_of
from kedge.store.elastic.summaries import versioned, write_versioned
from kedge.windows import Millis, Window

_PAGE = 2_000
_MOST_LABELLED = 200
"""Columns of values by class or age in one document. Those beyond are in `values` all the same; an index
may have no more than some thousand columns in all."""


class Metrics:
    """`MetricStore`."""

    def __init__(self, client: Client, names: Names, indices: Indices) -> None:
        self._client = client
        self._names = names
        self._indices = indices

    def write_metrics(self, docs: Sequence[MetricDoc]) -> None:
        write_versioned(
            self._client,
            self._indices,
            [self._addressed(doc) for doc in docs],
            refresh=False,  # people look at them a second later; kedge's own reader refreshes first
            narrower=lambda i: self._addressed(docs[i], columns=False),
        )

    def _addressed(self, doc: MetricDoc, *, columns: bool = True) -> Addressed:
        alias = self._names.series("metrics", doc.window.length, doc.window.start)
        return Addressed(alias, versioned(alias, doc.id, doc.version, _document(doc, columns=columns)))

    def read_metrics(self, model: str, width: Millis, window: Window) -> list[MetricDoc]:
        starts = {"gte": window.start, "lt": window.end, "format": "epoch_millis"}
        filters: list[Json] = [
            {"term": {"model.name": model}},
            {"term": {"window.width": width}},
            {"range": {"@timestamp": starts}},
        ]
        body = {
            "query": {"bool": {"filter": filters}},
            "sort": [{"@timestamp": "asc"}, {"key": "asc"}],
            "version": True,
        }
        index = self._names.series_over("metrics", width, window)
        self._client.refresh(index)
        docs: list[MetricDoc] = scroll(
            self._client,
            index,
            body,
            page=_PAGE,
            filter_path="hits.hits._source,hits.hits._version",
            keep=_metric_doc,
        )
        return sorted(docs, key=lambda doc: (doc.window.start, doc.group, doc.feature))


def column(metric: str) -> str:
    """The column of a metric: `performance.recall{class=fraud}` is `metrics.performance_recall{class=fraud}`.

    Without dots, which would make objects that a metric of a shorter name could not share.
    """
    return escape(metric.replace(".", "_"))


def _document(doc: MetricDoc, *, columns: bool) -> Json:
    """With columns and dimensions that people can search and chart; kedge itself reads `values` alone."""
    shown: Json = {}
    labelled = 0
    for name, value in doc.values.items():
        labelled += "{" in name
        if value.get("value") is not None and ("{" not in name or labelled <= _MOST_LABELLED):
            shown[column(name)] = value["value"]
    document: Json = {
        "key": doc.id,
        "@timestamp": doc.window.start,
        "window": {"start": doc.window.start, "end": doc.window.end, "width": doc.window.length},
        "model": {"name": doc.model},
        "group_key": group_key(doc.group),
        "values": dict(doc.values),
    }
    if doc.feature:
        document["feature"] = doc.feature
    if not columns:
        return document
    document["metrics"] = shown
    for dimension, text in doc.group:  # under the names that the predictions have them by
        *outer, last = field_of(dimension).split(".")
        holder = document
        for step in outer:
            holder = holder.setdefault(step, {})
        holder[last] = text
    return document


def _metric_doc(hit: Json) -> MetricDoc:
    source = hit["_source"]
    return MetricDoc(
        model=source["model"]["name"],
        group=parse_group(source["group_key"]),
        window=Window(source["window"]["start"], source["window"]["end"]),
        version=hit["_version"],
        values=source["values"],
        feature=source.get("feature", ""),
    )
