"""kedge in one DuckDB file: the embedded store, and the default.

One process holds the file; inside it any number of threads read, and one thread writes (`writer`).
"""

from kedge.store.duckdb.store import DuckStore, open_duckdb

__all__ = ["DuckStore", "open_duckdb"]
