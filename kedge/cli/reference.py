"""Files as references: read into an in-memory store, so that files and stored logs are summarised by the
same code.
"""

from pathlib import Path

from ingest.files import ColumnMap, read_predictions
from kedge.analysis.variation import LENGTHS
from kedge.cli.output import Steps, err
from kedge.config import ModelSettings
from kedge.errors import BadInput
from kedge.pipeline.baselines import Baseline, build_baseline
from kedge.pipeline.schema import Features
from kedge.pipeline.summaries import bucket_summary
from kedge.records import Prediction
from kedge.sketch import AnyPart, EdgeSet, PartName, Summary, total
from kedge.store.base import Grouping, SummaryRequest
from kedge.store.duckdb import open_duckdb
from kedge.store.duckdb.store import DuckStore
from kedge.windows import DAY, Millis, Window, ceil, floor

SHOWN = 5
"""Rejected rows of a file that are told one by one."""


class FileRows:
    """A file's rows in a store of their own, in memory."""

    def __init__(self, path: Path, model: str, columns: ColumnMap, now: Millis) -> None:
        self.model = model
        self.store: DuckStore = open_duckdb(":memory:", clock=lambda: now)
        self.store.setup()
        self.rows = 0
        self._numeric: set[str] = set()
        self._categorical: set[str] = set()
        self._invalid: set[str] = set()
        self._attributions: set[str] = set()
        times: list[Millis] = []
        rejected = 0
        with Steps(f"reading {path.name}") as steps:
            for batch in read_predictions(str(path), model=model, columns=columns, now=now, default_time=now):
                for rejection in batch.rejections:
                    rejected += 1
                    if rejected <= SHOWN:
                        err.print(
                            f"{path}: row {rejection.index}: {rejection.field}: {rejection.reason}",
                            markup=False,
                        )
                self._note(batch.rows)
                times += (
                    [min(r.timestamp for r in batch.rows), max(r.timestamp for r in batch.rows)]
                    if batch.rows
                    else []
                )
                self.store.append(batch.rows)
                self.rows += len(batch.rows)
                steps.advance(len(batch.rows))
        if rejected > SHOWN:
            err.print(f"{path}: {rejected - SHOWN} more rows were rejected", markup=False)
        if not self.rows:
            raise BadInput("has no row that can be used", str(path))
        self.times = Window(min(times), max(times) + 1)
        self.window = Window(floor(min(times), DAY), ceil(max(times) + 1, DAY))

    def _note(self, rows: list[Prediction]) -> None:
        for row in rows:
            self._numeric.update(row.num)
            self._categorical.update(row.cat)
            self._invalid.update(row.invalid)
            self._attributions.update(row.attributions)

    @property
    def length(self) -> Millis:
        """How much time the rows are of: the shortest of the lengths that baselines know whose window holds
        them all, else whole days; 0 where all rows have one time, and so none that tells anything."""
        first, last = self.times.start, self.times.end - 1
        if first == last:
            return 0
        fitting = (w for w in LENGTHS if w <= DAY and floor(first, w) == floor(last, w))
        return next(fitting, self.window.length)

    @property
    def features(self) -> Features:
        kinds = (self._numeric, self._categorical, self._invalid, self._attributions)
        return Features(*(tuple(sorted(names)) for names in kinds))

    def summary(self, edges: EdgeSet) -> Summary:
        """The summary of all rows on given edges."""
        features = self.features
        request = SummaryRequest(
            model=self.model,
            window=self.window,
            bucket=DAY,
            parts=frozenset(PartName),
            edges=edges,
            numeric=tuple(sorted({*features.numeric, *edges.numeric})),
            categorical=tuple(sorted({*features.categorical, *edges.categorical})),
            invalid=features.invalid,
            attributions=features.attributions,
        )
        parts: dict[Millis, dict[PartName, AnyPart]] = {}
        for row in self.store.summarise(request):
            parts.setdefault(row.key.bucket, {})[row.key.part] = row.part
        return total((bucket_summary(found, request.parts) for found in parts.values()), edges)


def baseline_from_file(
    path: Path, model: str, columns: ColumnMap, settings: ModelSettings, now: Millis
) -> Baseline:
    """A baseline of a file's rows, of the total and of the model's configured groupings."""
    rows = FileRows(path, model, columns, now)
    groupings: tuple[Grouping, ...] = ((), *settings.groups)
    try:
        return build_baseline(
            rows.store, model, rows.window, rows.features, groupings, source=f"file {path.name}", now=now
        )
    finally:
        rows.store.close()


def summary_of_file(
    reference: Path, current: Path, columns: ColumnMap, settings: ModelSettings, now: Millis
) -> tuple[Baseline, Summary, Millis]:
    """The reference file as a baseline; the other one summarised on its edges, and how much time it is of."""
    base = baseline_from_file(reference, "compare", columns, settings, now)
    rows = FileRows(current, "compare", columns, now)
    try:
        return base, rows.summary(base.edges), rows.length
    finally:
        rows.store.close()
