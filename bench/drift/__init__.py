"""Baseline plus drift of a million rows: on DuckDB, on Elasticsearch, and by Evidently on the same rows."""

from bench.drift.compare import measure

__all__ = ["measure"]
