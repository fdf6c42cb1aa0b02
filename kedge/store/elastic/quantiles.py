"""Edges of reference cells, from quantiles and value counts computed inside the server."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kedge.sketch import Edges, EdgeSet, categorical_edges, numeric_edges
from kedge.sketch.edges import KNOWN_VALUES, NUMERIC_CELLS
from kedge.store.base import Json
from kedge.store.elastic.client import Client
from kedge.store.elastic.place import Field, Place
from kedge.windows import Window

_MOST_DISTINCT = 30_000
"""Up to this many distinct values are counted one by one, which gives exact quantiles at any number of
rows."""
_COMPRESSION = 1_000
"""Of the t-digest beyond that: ranks within about 0.1 %, at some 100 kB a feature on each shard."""
_QUANTILES = np.linspace(0.0, 1.0, NUMERIC_CELLS + 1)


class Quantiles:
    """`LogStore.edges`."""

    def __init__(self, client: Client, place: Place) -> None:
        self._client = client
        self._place = place

    def edges(
        self, model: str, window: Window, numeric: Sequence[str], categorical: Sequence[str]
    ) -> EdgeSet:
        found: dict[str, Edges | None] = {}
        numbers = {f: field for f in numeric if (field := self._place.numeric(f))}
        distinct = self._distinct(model, window, numbers)
        for feature, field in numbers.items():
            found[feature] = numeric_edges(self._quantiles(model, window, field, distinct[feature]))
        for feature in categorical:
            if text := self._place.categorical(feature):
                found[feature] = categorical_edges(self._commonest(model, window, text))
        return EdgeSet({feature: edges for feature, edges in found.items() if edges is not None})

    def _ask(self, model: str, window: Window, aggregations: Json) -> Json:
        body = {
            "size": 0,
            "track_total_hits": False,
            "query": self._place.rows(model, window),
            "aggs": aggregations,
        }
        index = self._place.over(window)
        wildcards = self._place.wildcards
        answer = self._client.search(index, body, filter_path="aggregations", expand_wildcards=wildcards)
        return self._place.read(answer.get("aggregations", {}))

    def _distinct(self, model: str, window: Window, features: Mapping[str, Field]) -> dict[str, int]:
        """About how many distinct values each feature has."""
        if not features:
            return {}
        asked = {
            f"n{i}": {"cardinality": {"field": field.path, "precision_threshold": 40_000}}
            for i, field in enumerate(features.values())
        }
        answer = self._ask(model, window, asked)
        return {f: int(answer.get(f"n{i}", {}).get("value", 0)) for i, f in enumerate(features)}

    def _quantiles(self, model: str, window: Window, field: Field, distinct: int) -> NDArray[np.float64]:
        if not distinct:
            return np.array([])
        limit = min(_MOST_DISTINCT, self._client.max_buckets // 2)
        if distinct < 0.9 * limit:
            asked = {"field": field.path, "size": limit, "order": {"_key": "asc"}}
            values = self._ask(model, window, {"numbers": {"terms": asked}}).get("numbers", {})
            if not values.get("sum_other_doc_count"):
                buckets = values.get("buckets", [])
                return _linear(
                    np.array([b["key"] for b in buckets], np.float64),
                    np.array([b["doc_count"] for b in buckets], np.int64),
                )
        inner = [100 * q for q in _QUANTILES[1:-1]]
        answer = self._ask(
            model,
            window,
            {
                "inner": {
                    "percentiles": {
                        "field": field.path,
                        "percents": inner,
                        "keyed": False,
                        "tdigest": {"compression": _COMPRESSION},
                    }
                },
                "ends": {"stats": {"field": field.path}},
            },
        )
        middle = [entry["value"] for entry in answer["inner"]["values"]]
        return np.array([answer["ends"]["min"], *middle, answer["ends"]["max"]], np.float64)

    def _commonest(self, model: str, window: Window, field: Field) -> list[tuple[str, int]]:
        asked = {
            "field": field.path,
            "size": KNOWN_VALUES,
            "order": [{"_count": "desc"}, {"_key": "asc"}],
            "shard_size": 10 * KNOWN_VALUES,  # so that several days agree on what is common
        }
        values = self._ask(model, window, {"values": {"terms": asked}}).get("values", {})
        return [(bucket["key"], bucket["doc_count"]) for bucket in values.get("buckets", [])]


def _linear(values: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The linear quantiles (Hyndman and Fan's type 7, numpy's default) of ascending values with their
    counts."""
    if not values.size:
        return values
    last_rank = np.cumsum(counts) - 1
    place = _QUANTILES * last_rank[-1]
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, last_rank[-1])
    a = values[np.searchsorted(last_rank, low)]
    b = values[np.searchsorted(last_rank, high)]
    share = place - low
    # numpy's own interpolation, which takes the nearer end as its base: the same float64, so the same float32
    linear: NDArray[np.float64] = np.where(share < 0.5, a + (b - a) * share, b - (b - a) * (1 - share))
    return linear
