"""Baseline plus drift of a million rows: on DuckDB, on Elasticsearch, and by Evidently on the same rows.

`compare.measure` runs it. Nothing is imported here: the measured process would take more memory for it.
"""
