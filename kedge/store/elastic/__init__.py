"""Elasticsearch and OpenSearch: one module a feature; no scripts, nothing that needs a paid licence."""

from kedge.store.elastic.store import ElasticStore, open_elastic

__all__ = ["ElasticStore", "open_elastic"]
