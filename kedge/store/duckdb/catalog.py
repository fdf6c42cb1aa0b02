"""What tables there are, and where in them a model's fields are.

Predictions of one UTC day of event time are a table, their labels a second one: a label is then one short row
instead of an update of a wide one, and a day past its retention is dropped whole (deleting rows never shrinks
the file). What varies by model (features, segments, probabilities …) lies in four lists, `numbers`, `texts`,
`probabilities` and `details`, each field at the position that its model's registry gives it: a new feature
then needs no new column, names need no quoting, and a statement costs the same for five features as for five
hundred (DuckDB spends 50 to 80 µs on each column of a small INSERT).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import duckdb
import pyarrow as pa

from kedge.errors import KedgeError
from kedge.store.duckdb.database import feed
from kedge.store.duckdb.idfilter import IdFilter
from kedge.windows import DAY, Millis, Window, floor

FORMAT = 1
"""Of the tables below; a file of a later format is refused."""

MAX_FIELDS = 5000
"""Fields of one model in one list. A row with more would make every later row pay for its names."""

TABLES = {
    "kedge_format": "format INTEGER",
    "kedge_models": "model INTEGER, name VARCHAR",
    "kedge_fields": "model INTEGER, source VARCHAR, name VARCHAR, position INTEGER",
    "kedge_days": "day BIGINT",
    "kedge_pending": (
        "id VARCHAR, model VARCHAR, timestamp BIGINT, ingested BIGINT, cls VARCHAR, value DOUBLE,"
        " attempts INTEGER, due BIGINT"
    ),
    "kedge_summaries": (
        "id VARCHAR, model VARCHAR, tier BIGINT, bucket BIGINT, grp VARCHAR, grouping VARCHAR,"
        " part VARCHAR, edges VARCHAR, version BIGINT, data BLOB"
    ),
    "kedge_metrics": (
        "id VARCHAR, model VARCHAR, width BIGINT, start BIGINT, grp VARCHAR, feature VARCHAR,"
        " version BIGINT, content VARCHAR"
    ),
    "kedge_rejected": (
        "id VARCHAR, ingested BIGINT, reason VARCHAR, content VARCHAR, model VARCHAR, event VARCHAR"
    ),
    "kedge_documents": "collection VARCHAR, name VARCHAR, token BIGINT, content VARCHAR",
}

RETIRED = "kedge_retired"
"""Made when days are dropped for the first time: the newest revision that they may have held (a later one is
a change that was not told yet), and the floor below which no row is taken."""

_PREDICTIONS = (
    "model INTEGER, id VARCHAR, timestamp BIGINT, ingested BIGINT, revision BIGINT,"
    " version VARCHAR, cls VARCHAR, probability FLOAT, entropy FLOAT, value DOUBLE, latency_ms FLOAT,"
    " failed BOOLEAN, probabilities DOUBLE[], numbers FLOAT[], texts VARCHAR[], details VARCHAR[]"
)
# `predicted_at` repeats the prediction's timestamp, so that a narrow window reads few labels too.
_LABELS = (
    "model INTEGER, id VARCHAR, predicted_at BIGINT, revision BIGINT, timestamp BIGINT, ingested BIGINT,"
    " cls VARCHAR, value DOUBLE, correct BOOLEAN, log_loss FLOAT, brier FLOAT,"
    " error FLOAT, abs_error FLOAT, squared_error FLOAT"
)

ListName = Literal["numbers", "texts", "probabilities", "details"]

SOURCES: dict[str, ListName] = {
    "features.num": "numbers",
    "features.invalid": "numbers",
    "attributions": "numbers",
    "resource": "numbers",
    "business": "numbers",
    "features.cat": "texts",
    "segment": "texts",
    "origin": "texts",
    "prediction.probabilities": "probabilities",
    "details": "details",
}
"""The maps of a prediction, and the list that each is kept in. Details (trace ids, error messages) are apart,
as they are many different texts, and no summary reads them.
"""


class TooManyFields(Exception):
    """The model has MAX_FIELDS fields already."""


@dataclass
class Model:
    """A model's code in the tables, and where its fields are: {source: {name: position in the source's
    list}}.
    """

    code: int
    name: str
    slots: dict[str, dict[str, int]] = field(default_factory=lambda: {source: {} for source in SOURCES})

    def width(self, within: ListName) -> int:
        """How long that list is in a row written now."""
        return sum(len(self.slots[source]) for source, name in SOURCES.items() if name == within)


@dataclass
class Day:
    """One UTC day of event time: its two tables, and what is known of them without reading."""

    start: Millis
    revision: int = 0
    """The newest in either table."""
    ids: IdFilter | None = None
    """None until it is asked for: read back from the table then."""

    @property
    def suffix(self) -> str:
        return datetime.fromtimestamp(self.start / 1000, UTC).strftime("%Y%m%d")

    @property
    def predictions(self) -> str:
        return f"predictions_{self.suffix}"

    @property
    def labels(self) -> str:
        return f"labels_{self.suffix}"


class Catalog:
    """The file's tables, models and fields, in memory. The writer alone adds to it; anyone reads.

    A reader may see a field of a row that is not committed yet, which is harmless: rows without it read as
    missing. A day, which a reader would name in a statement, is added after the commit.
    """

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}
        self.names: dict[int, str] = {}
        self.days: dict[Millis, Day] = {}
        self.revision = 0
        """The newest given out; the writer's alone."""
        self.committed = 0
        """All changes up to this revision are visible, and the days they fell in are known."""
        self.loaded = False
        self.floor: Millis = 0
        """Days before it were dropped, and do not come back."""

    def load(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Read it from the file, in place of what was known; a file without tables leaves it not loaded."""
        present = tables_of(connection)
        if not TABLES.keys() <= present:
            return
        found = connection.execute("SELECT max(format) FROM kedge_format").fetchone()
        if found and found[0] is not None and found[0] > FORMAT:
            raise KedgeError(
                f"the file is of a later kedge (format {found[0]}, this one reads {FORMAT}): upgrade kedge"
            )
        codes = connection.execute("SELECT model, name FROM kedge_models").fetchall()
        models = {code: Model(code, name) for code, name in codes}
        for code, source, name, position in connection.execute("FROM kedge_fields").fetchall():
            models[code].slots[source][name] = position
        starts = connection.execute("SELECT day FROM kedge_days ORDER BY day").fetchall()
        days = {start: Day(start) for (start,) in starts}
        for day in days.values():
            day.revision = newest_revision(connection, day)
        self.names = {model.code: model.name for model in models.values()}
        self.models = {model.name: model for model in models.values()}
        self.days = days
        dropped = 0
        if RETIRED in present:
            dropped, self.floor = connection.execute(f"FROM {RETIRED}").fetchone() or (0, 0)
        self.revision = self.committed = max((day.revision for day in days.values()), default=0)
        self.revision = self.committed = max(self.revision, dropped)
        self.loaded = True

    def publish(self, days: Collection[Day], revision: int) -> None:
        """Make known what was committed; `committed` last, as readers begin with it."""
        for day in days:
            day.revision = revision
        self.days = self.days | {day.start: day for day in days}
        self.committed = revision

    def forget(self, days: Collection[Day], floor: Millis) -> None:
        """Make known which days were dropped."""
        starts = {day.start for day in days}
        self.days = {start: day for start, day in self.days.items() if start not in starts}
        self.floor = max(self.floor, floor)

    def days_in(self, window: Window) -> list[Day]:
        """The days with rows in a window, oldest first."""
        return [
            day
            for start, day in sorted(self.days.items())
            if start < window.end and start + DAY > window.start
        ]

    def model(self, connection: duckdb.DuckDBPyConnection, name: str) -> Model:
        """The model of that name, entered if it is new."""
        model = self.models.get(name)
        if model is None:
            model = Model(max(self.names, default=0) + 1, name)
            connection.execute("INSERT INTO kedge_models VALUES (?, ?)", [model.code, name])
            self.names[model.code] = name
            self.models[name] = model
        return model

    def enter(
        self, connection: duckdb.DuckDBPyConnection, model: Model, source: str, names: Iterable[str]
    ) -> None:
        """Give each name of a source that has none a position; raises TooManyFields, and then adds none."""
        known = model.slots[source]
        new = [name for name in names if name not in known]
        if not new:
            return
        first = model.width(SOURCES[source])
        if first + len(new) > MAX_FIELDS:
            raise TooManyFields
        positions = range(first, first + len(new))
        table = pa.table(
            {
                "model": pa.array([model.code] * len(new), pa.int32()),
                "source": [source] * len(new),
                "name": new,
                "position": pa.array(positions, pa.int32()),
            }
        )
        feed(connection, "INSERT INTO kedge_fields SELECT * FROM arrived", table)
        model.slots[source] = known | dict(zip(new, positions, strict=True))

    def day(self, connection: duckdb.DuckDBPyConnection, t: Millis) -> Day:
        """The day that holds `t`; a new one has its tables made, and is to be put into `days` after the
        commit.
        """
        start = floor(t, DAY)
        day = self.days.get(start)
        if day is None:
            day = Day(start, ids=IdFilter(0))
            connection.execute(f"CREATE TABLE {day.predictions} ({_PREDICTIONS})")
            connection.execute(f"CREATE TABLE {day.labels} ({_LABELS})")
            connection.execute("INSERT INTO kedge_days VALUES (?)", [start])
        return day


def tables_of(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}


def newest_revision(connection: duckdb.DuckDBPyConnection, day: Day) -> int:
    """Answered from the tables' statistics, so in no time.

    A day that is dropped takes its revisions with it: who drops the newest must note the counter first.
    """
    newest = f"(SELECT max(revision) FROM {day.predictions}), (SELECT max(revision) FROM {day.labels})"
    found = connection.execute(f"SELECT greatest({newest})").fetchone()
    return int(found[0] or 0) if found else 0
