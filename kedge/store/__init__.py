"""Where logs, summaries, metrics and state are kept: Elasticsearch or OpenSearch (`elastic`), or DuckDB (`duckdb`)."""
