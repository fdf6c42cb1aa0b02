"""Files as references: their rows are counted as columns, by the code that counts stored logs."""

import pickle
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import numpy as np

from ingest.content import UniqueIds
from ingest.files import Batch, ColumnMap, read_columns
from kedge.analysis.variation import LENGTHS
from kedge.cli.output import Steps, err
from kedge.config import ModelSettings
from kedge.errors import BadInput
from kedge.pipeline.baselines import Baseline, build_baseline
from kedge.pipeline.schema import Features
from kedge.pipeline.summaries import bucket_summary
from kedge.record_table import Texts
from kedge.records import Prediction
from kedge.sketch import VALUE, EdgeSet, Moments, NumericEdges, PartName, Summary, ranked, total
from kedge.sketch.columns import Columns
from kedge.sketch.draw import Drawn, distinct, edges_of
from kedge.sketch.quantiles import of_counts
from kedge.sketch.sample import Sample
from kedge.sketch.tally import Segments, core_parts, label_parts, numeric_cells
from kedge.store.base import Group, Grouping, PartRow, SummaryKey, SummaryRequest
from kedge.store.segments import Grouper
from kedge.windows import DAY, Millis, Window, ceil, floor

SHOWN = 5
"""Rejected rows of a file that are told one by one."""
HELD = 256 * 2**20
"""Bytes of a reference's columns that stay in memory until its edges are known; others wait on disk."""


class FileRows:
    """The rows of a file, read once, in columns of some ten thousand rows each."""

    def __init__(self, path: Path, model: str, columns: ColumnMap, now: Millis) -> None:
        self._path, self._model, self._columns, self._now = path, model, columns, now
        self._numeric: set[str] = set()
        self._categorical: set[str] = set()
        self._invalid: set[str] = set()
        self._attributions: set[str] = set()
        self._probabilities: set[str] = set()
        self._span: tuple[Millis, Millis] | None = None
        self.rows = 0

    @property
    def features(self) -> Features:
        """Of what has been read."""
        kinds = (self._numeric, self._categorical, self._invalid, self._attributions, (), self._probabilities)
        return Features(*(tuple(sorted(names)) for names in kinds))

    @property
    def length(self) -> Millis:
        """How much time the rows are of: the shortest of the lengths that baselines know whose window holds
        them all, else whole days; 0 where all rows have one time, and so none that tells anything."""
        whole = self.window
        first, last = self._span or whole
        if first == last:
            return 0
        fitting = (w for w in LENGTHS if w <= DAY and floor(first, w) == floor(last, w))
        return next(fitting, whole.length)

    @property
    def window(self) -> Window:
        """The days of what has been read; raises BadInput where that is nothing."""
        if self._span is None:
            raise BadInput("has no row that can be used", str(self._path))
        return Window(floor(self._span[0], DAY), ceil(self._span[1] + 1, DAY))

    def read(self) -> Iterator[Columns]:
        """All rows but those that are refused, which are told, and all but the first of one id and day."""
        rejected = 0
        ids = UniqueIds()
        batches = read_columns(
            str(self._path),
            model=self._model,
            columns=self._columns,
            now=self._now,
            default_time=self._now,
            counted_only=True,
        )
        with Steps(f"reading {self._path.name}") as steps:
            for batch in batches:
                for rejection in batch.rejections:
                    rejected += 1
                    if rejected <= SHOWN:
                        err.print(
                            f"{self._path}: row {rejection.index}: {rejection.field}: {rejection.reason}",
                            markup=False,
                        )
                for piece in self._pieces(batch, ids):
                    self._note(piece)
                    yield piece
                steps.advance(len(batch.rows) + (len(batch.table) if batch.table else 0), share=batch.share)
        if rejected > SHOWN:
            err.print(f"{self._path}: {rejected - SHOWN} more rows were rejected", markup=False)
        _ = self.window

    def _pieces(self, batch: Batch[Prediction], ids: UniqueIds) -> Iterator[Columns]:
        table = batch.table
        if table is not None and len(table):
            if table.ids[0]:
                fresh = ids.fresh(table.ids, table.timestamps // DAY)
                table = table if fresh.all() else table[fresh]
            if len(table):
                self._seen(table.timestamps)
                yield Columns.of_table(table)
        if batch.rows:
            times = np.array([row.timestamp for row in batch.rows], np.int64)
            fresh = ids.fresh([row.id for row in batch.rows], times // DAY)
            rows = [row for row, new in zip(batch.rows, fresh.tolist(), strict=True) if new]
            if rows:
                self._seen(times[fresh])
                yield Columns.of_rows(rows)

    def _seen(self, times: Any) -> None:
        low, high = int(times.min()), int(times.max())
        if self._span is not None:
            low, high = min(low, self._span[0]), max(high, self._span[1])
        self._span = low, high

    def _note(self, piece: Columns) -> None:
        self.rows += piece.count
        for known, columns in (
            (self._numeric, piece.numbers),
            (self._invalid, piece.invalid),
            (self._attributions, piece.attributions),
            (self._probabilities, piece.probabilities),
        ):
            known.update(name for name, column in columns.items() if not np.isnan(column).all())
        self._categorical.update(name for name, texts in piece.texts.items() if texts.present.any())


class HeldRows:
    """A file's rows to be gone through again: `pipeline.baselines.Rows`.

    What is too much for memory is kept in a file that has no name, so memory is bounded and the source is
    read once, whatever it is. A context manager.
    """

    def __init__(self, source: FileRows) -> None:
        """Reads all of it. Raises BadInput for what cannot be read, and without rows."""
        self._held: list[Columns] = []
        self._stack = ExitStack()
        self._spilled: IO[bytes] | None = None
        self._errors: list[Moments] = []
        room = HELD
        for piece in source.read():
            room -= piece.nbytes
            if room >= 0:
                self._held.append(piece)
            else:
                self._spill(piece)
        self.rows, self.window, self.features = source.rows, source.window, source.features

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _spill(self, piece: Columns) -> None:
        try:
            if self._spilled is None:
                self._spilled = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - on the stack
            pickle.dump(piece, self._spilled, pickle.HIGHEST_PROTOCOL)
        except OSError as error:
            reason = f"has no room for the rows of a large reference: {error.strerror} (TMPDIR names another)"
            raise BadInput(reason, tempfile.gettempdir()) from None

    def pieces(self) -> Iterator[Columns]:
        yield from self._held
        if self._spilled is None:
            return
        end = self._spilled.seek(0, 2)
        self._spilled.seek(0)
        while self._spilled.tell() < end:
            yield pickle.load(self._spilled)  # noqa: S301 - written above, by this process

    def edges(
        self, model: str, window: Window, numeric: Sequence[str], categorical: Sequence[str]
    ) -> EdgeSet:
        """Of all rows."""
        names = [*numeric, VALUE]
        drawn = Drawn(len(names), self.rows)
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for piece in self.pieces():
            nothing = np.full(piece.count, np.nan, np.float32)
            drawn.add([*(piece.numbers.get(name, nothing) for name in numeric), piece.value])
            for name, texts in piece.texts.items():
                times = np.bincount(texts.codes + 1, minlength=len(texts.values) + 1)[1:].tolist()
                counts[name].update(dict(zip(texts.values, times, strict=True)))
        few = [name for i, name in enumerate(names) if drawn.few(i)]
        quantiles = {n: drawn.quantiles(i) for i, n in enumerate(names) if n not in few}
        return edges_of(quantiles | self._of_few(few), {name: counts[name] for name in categorical})

    def _of_few(self, names: Sequence[str]) -> dict[str, Any]:
        """The quantiles of features of few values, from a count of each."""
        times: dict[str, Counter[float]] = {name: Counter() for name in names}
        for piece in self.pieces() if names else ():
            for name, counter in times.items():
                column = piece.value if name == VALUE else piece.numbers.get(name)
                if column is not None:
                    counter.update(distinct(column))
        found = {}
        for name, counter in times.items():
            values = sorted(counter)
            found[name] = of_counts(
                np.array(values, np.float64), np.array([counter[v] for v in values], np.int64)
            )
        return found

    def summarise(self, request: SummaryRequest) -> list[PartRow]:
        """Of the buckets in the request's window."""
        counted = Counted(request)
        for piece in self.pieces():
            counted.add(piece)
        self._errors = counted.errors
        return counted.parts()

    def errors_by_value(self, model: str, window: Window, edges: NumericEdges) -> list[Moments]:
        """Of what was summarised last, on the same edges."""
        return self._errors


class Counted:
    """The parts of the rows that were added."""

    def __init__(self, request: SummaryRequest, *, whatever: bool = False) -> None:
        """`whatever`: all rows count, as of the window's first bucket, with all the features that they
        have.
        """
        self._request, self._whatever = request, whatever
        self._sums: dict[SummaryKey, Any] = {}
        self._rows = 0
        value = request.edges.value if request.edges else None
        self.errors = [Moments.ZERO] * (value.size if value else 0)
        """The absolute errors by cell of the predicted value."""

    def add(self, piece: Columns) -> None:
        request = self._request
        edges = request.edges or EdgeSet({})
        self._rows += piece.count
        if self._whatever:
            buckets = np.full(piece.count, request.window.start)
            classes = {cls: piece.probabilities[cls] for cls in ranked(piece.probabilities)}
            piece = replace(piece, probabilities=classes)
        else:
            buckets = piece.timestamps // request.bucket * request.bucket
            kinds = (request.numeric, request.categorical, request.invalid, request.attributions)
            piece = piece.only(*kinds, request.probabilities)
        batch, counter = piece.batch(), piece.counter(edges)

        def dimension(name: str) -> Texts:
            return piece.dimensions.get(name) or Texts(np.full(piece.count, -1, np.int32), ())

        grouper = Grouper(request, dimension, buckets)
        names = [*map(list, (piece.numbers, piece.texts, piece.invalid, piece.attributions))]
        for grouping in request.groupings:
            segments, keys = grouper.segments(grouping)
            self._put(PartName.CORE, zip(keys, core_parts(batch, segments, *names), strict=True))
            if PartName.CELLS in request.parts:
                self._put(PartName.CELLS, zip(keys, counter.parts(segments), strict=True))
            if piece.labels is not None and PartName.LABELS in request.parts:
                labelled = label_parts(batch, piece.labels, segments)
                self._put(
                    PartName.LABELS,
                    ((key, part) for key, (part, _) in zip(keys, labelled, strict=True) if part.rows),
                )
        if edges.value is not None and piece.labels is not None:
            cells = numeric_cells(edges.value, piece.value)
            by_cell = Segments(cells, edges.value.size, slice(None)).moments(piece.labels.abs_error[:, None])
            self.errors = [before + more for before, (more,) in zip(self.errors, by_cell, strict=True)]

    def _put(self, name: PartName, parts: Iterable[tuple[tuple[Millis, Group], Any]]) -> None:
        request = self._request
        digest = request.edges.hash if request.edges and name is PartName.CELLS else ""
        for (bucket, group), part in parts:
            if bucket in request.window:
                key = SummaryKey(request.model, group, request.bucket, bucket, name, digest)
                self._sums[key] = self._sums[key] + part if key in self._sums else part

    def parts(self) -> list[PartRow]:
        return [PartRow(key, self._rows, part) for key, part in self._sums.items()]


def baseline_from_file(
    path: Path, model: str, columns: ColumnMap, settings: ModelSettings, now: Millis
) -> Baseline:
    """A baseline of a file's rows, of the total and of the model's configured groupings."""
    with HeldRows(FileRows(path, model, columns, now)) as rows:
        return _baseline(rows, model, path, settings, now)


def _baseline(rows: HeldRows, model: str, path: Path, settings: ModelSettings, now: Millis) -> Baseline:
    groupings: tuple[Grouping, ...] = ((), *settings.groups)
    return build_baseline(
        rows, model, rows.window, rows.features, groupings, source=f"file {path.name}", now=now
    )


class Compared(NamedTuple):
    """Two files read side by side."""

    base: Baseline
    """Of the reference."""
    summary: Summary
    """Of the other, on the same edges."""
    samples: tuple[Sample, Sample] | None
    """Some rows of both, where they were asked for."""
    length: Millis
    """How much time the other is of; 0 where its rows do not tell."""


def compared_files(
    reference: Path,
    current: Path,
    columns: ColumnMap,
    settings: ModelSettings,
    now: Millis,
    sample: int | None = None,
) -> Compared:
    """The reference file as a baseline, and the other one, which may have no labels, summarised on its edges.

    `sample`: how many rows of each to keep besides. Raises BadInput where they have nothing in common.
    """
    with HeldRows(FileRows(reference, "compare", columns, now)) as held:
        base = _baseline(held, "compare", reference, settings, now)
        samples = None
        if sample:
            samples = Sample(base.edges, sample, seed=0), Sample(base.edges, sample, seed=1)
            for piece in held.pieces():
                samples[0].add(piece)
    request = SummaryRequest(
        model="compare", window=base.window, bucket=DAY, parts=frozenset(PartName), edges=base.edges
    )
    counted = Counted(request, whatever=True)
    rows = FileRows(current, "compare", replace(columns, label_may_lack=True), now)
    for piece in rows.read():
        counted.add(piece)
        if samples:
            samples[1].add(piece)
    _common(reference, current, base.edges, rows.features)
    parts = {row.key.part: row.part for row in counted.parts()}
    return Compared(base, total([bucket_summary(parts, request.parts)], base.edges), samples, rows.length)


def _common(reference: Path, current: Path, edges: EdgeSet, features: Features) -> None:
    """Tell which features are on one side only; raises BadInput where all are."""
    ours, theirs = {*features.numeric, *features.categorical}, edges.features.keys()
    if theirs and not ours & theirs:
        raise BadInput(
            f"has no feature of {reference}: that one has {_some(theirs)}; this one {_some(ours)}. "
            "Are the columns named alike?",
            str(current),
        )
    for file, other, names in ((current, reference, ours - theirs), (reference, current, theirs - ours)):
        if names:
            err.print(f"only in {file}, not in {other}: {_some(names)}", markup=False)


def _some(names: Collection[str]) -> str:
    listed = sorted(names)
    if not listed:
        return "none"
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
