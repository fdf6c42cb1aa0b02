"""Where logs, summaries and state are kept: Elasticsearch or OpenSearch (`elastic`), or DuckDB (`duckdb`)."""
