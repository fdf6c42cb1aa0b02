"""Edges of reference cells, from quantiles and value counts computed inside the server."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kedge.sketch import VALUE, Edges, EdgeSet, Moments, NumericEdges, categorical_edges, numeric_edges
from kedge.sketch.edges import KNOWN_VALUES
from kedge.sketch.quantiles import QUANTILES, of_counts
from kedge.store.base import Json
from kedge.store.elastic.aggregations import errors_by_value
from kedge.store.elastic.client import Client
from kedge.store.elastic.parse import errors_of
from kedge.store.elastic.place import Field, Place
from kedge.windows import Window

_MOST_DISTINCT = 30_000
"""Up to this many distinct values are counted one by one, which gives exact quantiles at any number of
rows."""
_COMPRESSION = 1_000
"""Of the t-digest beyond that: ranks within about 0.1 %, at some 100 kB a feature on each shard."""
_SAMPLED_FROM = 200_000
_SAMPLE = 50_000
"""Of so many rows, features of many values are cut at the quantiles of a sample where the server can draw
one: a digest of every value would cost ten times what counting the reference does. Ranks are then within
about 0.7 % (three standard errors) of a cell's 5 %; the reference is counted exactly on whatever edges come
of it."""

Fields = Mapping[str, Field]
Columns = dict[str, NDArray[np.float64]]
"""Quantiles by feature."""


class Quantiles:
    """`LogStore.edges`, and `errors_by_value` on them."""

    def __init__(self, client: Client, place: Place, clauses: Sequence[Json] = ()) -> None:
        """`clauses`: what else a row must fulfil."""
        self._client = client
        self._place = place
        self._clauses = clauses

    def _of(self, version: str) -> "Quantiles":
        return Quantiles(self._client, self._place, of_version(self._place, version))

    def edges(
        self,
        model: str,
        window: Window,
        numeric: Sequence[str],
        categorical: Sequence[str],
        version: str | None = None,
    ) -> EdgeSet:
        if version is not None:
            return self._of(version).edges(model, window, numeric, categorical)
        numbers = {f: field for f in numeric if (field := self._place.numeric(f))}
        if value := self._place.field("prediction.value"):
            numbers[VALUE] = value
        texts = {f: field for f in categorical if (field := self._place.categorical(f))}
        rows, commonest = self._commonest(model, window, texts)
        if not rows:
            return EdgeSet({})
        quantiles = self._sampled(model, window, numbers, rows)
        quantiles |= self._whole(model, window, {f: x for f, x in numbers.items() if f not in quantiles})
        found: dict[str, Edges | None] = {f: numeric_edges(quantiles[f]) for f in numbers if f in quantiles}
        predicted = found.pop(VALUE, None)
        found |= {f: categorical_edges(commonest[f]) for f in texts}
        features = {feature: edges for feature, edges in found.items() if edges is not None}
        return EdgeSet(features, predicted if isinstance(predicted, NumericEdges) else None)

    def errors_by_value(
        self, model: str, window: Window, edges: NumericEdges, version: str | None = None
    ) -> list[Moments]:
        """`LogStore.errors_by_value`."""
        if version is not None:
            return self._of(version).errors_by_value(model, window, edges)
        asked = errors_by_value(self._place, edges)
        answer = {} if asked is None else self._ask(model, window, asked)[1]
        return errors_of(answer, edges.size)

    def _ask(self, model: str, window: Window, aggregations: Json) -> tuple[int, Json]:
        """How many rows there are, and the answer to the aggregations over them."""
        body = {
            "size": 0,
            "track_total_hits": True,
            "query": self._place.rows(model, window, *self._clauses),
            "aggs": aggregations,
        }
        answer = self._client.search(
            self._place.over(window),
            body,
            filter_path="hits.total.value,aggregations",
            expand_wildcards=self._place.wildcards,
        )
        rows = int(answer.get("hits", {}).get("total", {}).get("value", 0))
        return rows, self._place.read(answer.get("aggregations", {}))

    # --- numbers ----------------------------------------------------------------------------------

    def _sampled(self, model: str, window: Window, features: Fields, rows: int) -> Columns:
        """Of the features that have many values even in a sample; of none where there is no sampling."""
        if rows < _SAMPLED_FROM or not features or self._client.server.opensearch:
            return {}
        drawn = {"random_sampler": {"probability": _SAMPLE / rows, "seed": 1}}
        inner = _cardinalities(features) | _percentiles(features)
        _, answer = self._ask(model, window, {"sample": drawn | {"aggs": inner}} | _ends(features))
        distinct = _distinct(answer.get("sample", {}), features)
        many = [f for f, field in features.items() if distinct[f] > _MOST_DISTINCT / 3]
        return _digested(answer | answer.get("sample", {}), features, many)

    def _whole(self, model: str, window: Window, features: Fields) -> Columns:
        """From every value: counted one by one where they are few, else by a digest."""
        if not features:
            return {}
        distinct = _distinct(self._ask(model, window, _cardinalities(features))[1], features)
        found: Columns = {}
        limit = min(_MOST_DISTINCT, self._client.max_buckets // 2)
        for feature, field in features.items():
            if 0 < distinct[feature] < 0.9 * limit:
                asked = {"field": field.path, "size": limit, "order": {"_key": "asc"}}
                values = self._ask(model, window, {"numbers": {"terms": asked}})[1].get("numbers", {})
                if not values.get("sum_other_doc_count"):
                    buckets = values.get("buckets", [])
                    found[feature] = of_counts(
                        np.array([b["key"] for b in buckets], np.float64),
                        np.array([b["doc_count"] for b in buckets], np.int64),
                    )
        if many := {f: field for f, field in features.items() if distinct[f] and f not in found}:
            _, answer = self._ask(model, window, _percentiles(many) | _ends(many))
            found |= _digested(answer, many, many)
        return found

    # --- texts ------------------------------------------------------------------------------------

    def _commonest(
        self, model: str, window: Window, features: Fields
    ) -> tuple[int, dict[str, list[tuple[str, int]]]]:
        """How many rows there are, and each feature's commonest values with their counts."""
        asked = {
            f"values{i}": {
                "terms": {
                    "field": field.path,
                    "size": KNOWN_VALUES,
                    "order": [{"_count": "desc"}, {"_key": "asc"}],
                    "shard_size": 10 * KNOWN_VALUES,  # so that several days agree on what is common
                }
            }
            for i, field in enumerate(features.values())
        }
        rows, answer = self._ask(model, window, asked)
        found = {}
        for i, feature in enumerate(features):
            buckets = answer.get(f"values{i}", {}).get("buckets", [])
            found[feature] = [(bucket["key"], bucket["doc_count"]) for bucket in buckets]
        return rows, found


def of_version(place: Place, version: str | None) -> list[Json]:
    """The query's clauses for the rows of one version; none is of a version where rows name none."""
    if version is None:
        return []
    field = place.dimension("version")
    return [{"term": {field.path: version}} if field else {"match_none": {}}]


def _cardinalities(features: Fields) -> Json:
    return {
        f"distinct{i}": {"cardinality": {"field": field.path, "precision_threshold": 40_000}}
        for i, field in enumerate(features.values())
    }


def _distinct(answer: Json, features: Fields) -> dict[str, int]:
    """About how many distinct values each feature has."""
    return {f: int(answer.get(f"distinct{i}", {}).get("value", 0)) for i, f in enumerate(features)}


def _percentiles(features: Fields) -> Json:
    return {
        f"inner{i}": {
            "percentiles": {
                "field": field.path,
                "percents": [100 * q for q in QUANTILES[1:-1]],
                "keyed": False,
                "tdigest": {"compression": _COMPRESSION},
            }
        }
        for i, field in enumerate(features.values())
    }


def _ends(features: Fields) -> Json:
    """The extremes, which are exact in any case."""
    return {f"ends{i}": {"stats": {"field": field.path}} for i, field in enumerate(features.values())}


def _digested(answer: Json, features: Fields, wanted: Collection[str]) -> Columns:
    """The quantiles of the wanted features from `_percentiles` and `_ends` of all."""
    found = {}
    for i, feature in enumerate(features):
        if feature in wanted:
            middle = [entry["value"] for entry in answer[f"inner{i}"]["values"]]
            ends = answer[f"ends{i}"]
            found[feature] = np.array([ends["min"], *middle, ends["max"]], np.float64)
    return found
