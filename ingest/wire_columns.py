"""Many rows of one request as a table: columns are made of what a lane has read, and validated whole.

What is not plainly fine, or too few rows to be worth it, is left to `enrich.prediction_of`, so what becomes
of a row never depends on this.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ingest.columnar import Lane
from ingest.lane import KnownRow
from ingest.reading import NotPlain, Reading, category, entropy, told
from ingest.values import EARLIEST, EXACT_INTEGER, MAX_AHEAD, MAX_ID, id_of, new_id, time_of
from ingest.wire import Place, WireError, WireLabel, WirePrediction
from kedge.errors import BadInput
from kedge.record_table import Floats, PredictionTable, Texts, Times
from kedge.windows import SECOND, Millis

FEWEST = 150
"""Rows of one model that are worth a table. Measured with 25 features, from decoded rows to the body of a
bulk request: half a millisecond a table and 11 µs of processor time a row; one by one they take 14."""
MOST = 5_000
"""Rows of one table, so that its columns stay small whatever the request has."""
_SPARSE = 4
"""Cells for each value that there is; columns with more empty ones are not worth it."""

_FIELDS = tuple(field.name for field in msgspec.structs.fields(WirePrediction))
_MAPS = ("probabilities", "segment", "attributions", "resource", "business")
_ALONE = ("id", "version", "probability", "value", "entropy", "latency_ms", "trace_id", "service", "host")
_LABEL = {"cls": "class", "value": "value", "timestamp": "timestamp"}

Column = Sequence[Any]
Indexed = tuple[int, WirePrediction]


class Tabled(NamedTuple):
    """The rows of a request, those of some models as tables."""

    tables: list[tuple[PredictionTable, list[int]]]
    """With the index of each row in the request."""
    others: list[Indexed]
    """No row has the model and the id of one in a table."""


def tabled(rows: list[Indexed], now: Millis, fewest: int = FEWEST) -> Tabled:
    """What of a request's rows can be columns. In a table and among the others, rows keep their order."""
    if len(rows) < fewest:
        return Tabled([], rows)
    of_kind: dict[type[WirePrediction], list[Indexed]] = defaultdict(list)
    kinds = {type(wire) for _, wire in rows}
    if len(kinds) == 1:
        of_kind[kinds.pop()] = rows
    else:
        for row in rows:
            of_kind[type(row[1])].append(row)
    tables: list[tuple[PredictionTable, list[int]]] = []
    others: list[Indexed] = []
    models: set[str] = set()
    for kind, own in of_kind.items():
        model = own[0][1].model
        # A lane that was made anew meanwhile may have read some: no model is to have its rows in two orders.
        if not issubclass(kind, KnownRow) or len(own) < fewest or model in models:
            others += own
            continue
        models.add(model)
        for start in range(0, len(own), MOST):
            others += _take(kind, own[start : start + MOST], now, tables)
    if others and tables:
        tables = [_without(table, indices, rows, others) for table, indices in tables]
    others.sort(key=itemgetter(0))
    return Tabled(tables, others)


def _take(
    kind: type[KnownRow],
    rows: list[Indexed],
    now: Millis,
    tables: list[tuple[PredictionTable, list[int]]],
) -> list[Indexed]:
    """Add the table of one model's rows; returns those that are not in it."""
    wires: list[Any] = [wire for _, wire in rows]
    try:
        reading = WireReading(kind, wires, now)
        lane = Lane(reading.columns, model=wires[0].model, version=None, now=now)
        table, plain = lane.read(reading)
    except NotPlain:
        return rows
    if len(table):
        tables.append((table, [index for (index, _), fine in zip(rows, plain.tolist(), strict=True) if fine]))
    return [] if plain.all() else [row for row, fine in zip(rows, plain.tolist(), strict=True) if not fine]


def _without(
    table: PredictionTable, indices: list[int], rows: list[Indexed], others: list[Indexed]
) -> tuple[PredictionTable, list[int]]:
    """Rows of a table that share their id with one of the others join them: the first of each is stored."""
    ids = {str(wire.id) for _, wire in others if wire.model == table.model and wire.id is not None}
    if ids.isdisjoint(table.ids):
        return table, indices
    stays = np.array([id not in ids for id in table.ids], np.bool_)
    wires = dict(rows)
    others += [(i, wires[i]) for i, fine in zip(indices, stays.tolist(), strict=True) if not fine]
    return table[stays], [i for i, fine in zip(indices, stays.tolist(), strict=True) if fine]


class WireReading(Reading):
    """Of rows that one lane has read: types and the limits of features were checked there."""

    columns: Mapping[Place, Column]

    def __init__(self, kind: type[KnownRow], rows: Sequence[KnownRow], now: Millis) -> None:
        """Raises NotPlain for rows that would make mostly empty columns."""
        cells = dict(
            zip(kind.__struct_fields__, zip(*map(msgspec.structs.astuple, rows), strict=True), strict=True)
        )
        columns: dict[Place, Column] = {}
        super().__init__(columns, len(rows), now)
        self._numeric = frozenset(kind.known.numeric)
        self._probabilities: Sequence[dict[str, float | None]] = ()
        for name in _ALONE:
            if _any(cells[name]):
                columns[Place(name)] = cells[name]
        if _any(cells["cls"]):
            columns[Place("class")] = cells["cls"]
        columns[Place("id")] = cells["id"]
        columns[Place("timestamp")] = cells["timestamp"]
        for name in _MAPS:
            if _any(cells[name]):
                columns |= self._members(name, cells[name])
        if _any(cells["features"]):
            columns |= self._features(kind, cells["features"])
        if _any(cells["error"]):
            columns |= self._errors(cells["error"])
        if _any(cells["label"]):
            columns |= self._labels(cells["label"])
        self._times: Times | None = None

    # --- columns ----------------------------------------------------------------------------------

    def _members(self, field: str, maps: Column) -> Mapping[Place, Column]:
        """A column for each key of a field that is a map."""
        given: Sequence[dict[str, Any]] = [each or {} for each in maps]
        shapes = set(map(tuple, given))
        names = dict.fromkeys(chain.from_iterable(shapes))
        if field == "probabilities":
            self._probabilities = given
        if len(shapes) > 1 and len(names) * self.count > _SPARSE * sum(map(len, given)) + self.count:
            raise NotPlain
        if len(shapes) == 1:
            columns = zip(*map(dict.values, given), strict=True)
            return {Place(field, name): cells for name, cells in zip(names, columns, strict=True)}
        return {Place(field, name): [each.get(name) for each in given] for name in names}

    def _features(self, kind: type[KnownRow], given: Column) -> Mapping[Place, Column]:
        names = (*kind.known.numeric, *kind.known.categorical)
        nothing = kind.known()
        rows = [msgspec.structs.astuple(each or nothing) for each in given]
        some = rows[:: len(rows) // 32 + 1]
        if len(names) * len(some) > _SPARSE * sum(len(names) - row.count(None) for row in some) + len(some):
            raise NotPlain
        return {
            Place("features", name): cells
            for name, cells in zip(names, zip(*rows, strict=True), strict=True)
            if _any(cells)
        }

    def _errors(self, given: Column) -> dict[Place, Column]:
        """A text alone is the message."""
        errors = [WireError(message=each) if isinstance(each, str) else each or WireError() for each in given]
        return {
            Place("error", "type"): [error.type for error in errors],
            Place("error", "message"): [error.message for error in errors],
        }

    def _labels(self, given: Column) -> dict[Place, Column]:
        objects = [isinstance(label, WireLabel) for label in given]
        if not any(objects):
            return {Place("label"): given}
        # Scalars beside objects, and what could be either of the two, are for the row path.
        alone = [each is not None and not fits for each, fits in zip(given, objects, strict=True)]
        labels = [each if fits else WireLabel() for each, fits in zip(given, objects, strict=True)]
        self.plain &= ~np.array(alone) & np.array([label.label is None for label in labels])
        return {
            Place("label", said): [getattr(label, name) for label in labels] for name, said in _LABEL.items()
        }

    # --- values -----------------------------------------------------------------------------------

    def times(self, place: Place, *, needed: bool = True) -> Times:
        if place == Place("timestamp"):
            if self._times is None:
                given = [self._now if t is None else t for t in self.columns[place]]
                self._times = self._read_times(given, place)
            return self._times
        return self._read_times(self.columns[place], place)

    def _read_times(self, given: Column, place: Place) -> Times:
        times = _utc(given)
        if times is None:
            read: list[int] = []
            for value in given:
                try:
                    read.append(-1 if value is None else time_of(value, self._now, place.field))
                except BadInput:
                    read.append(_WRONG)
            times = np.array(read, np.int64)
            self.plain &= times != _WRONG
        else:
            self.plain &= (times >= EARLIEST) & (times <= self._now + MAX_AHEAD)
        return times

    def ids(self) -> list[str]:
        given = self.columns[Place("id")]
        try:
            if "".join(given).isascii() and min(map(len, given)) > 0 and max(map(len, given)) <= MAX_ID:
                return list(given)
        except TypeError:
            pass
        ids = []
        for i, (id, t) in enumerate(zip(given, self.times(Place("timestamp")).tolist(), strict=True)):
            try:
                ids.append(new_id(max(t, 0)) if id is None else id_of(id))
            except BadInput:
                ids.append(str(id))
                self.plain[i] = False
        return ids

    def texts(self, place: Place, said: Callable[[Any], str | None]) -> Texts | None:
        given = self.columns.get(place)
        if given is None:
            return None
        keys: Column = given
        distinct: Mapping[Any, Any] = dict.fromkeys(given)
        if all(value is None or type(value) is str for value in distinct):
            codes, values = told(distinct, said)
        else:  # 1, 1.0 and True would be one key, and so would 0.0 and -0.0
            keys = [(type(value), repr(value)) for value in given]
            distinct = dict(zip(keys, given, strict=True))
            codes, values = told(distinct.values(), said)
        code_of = dict(zip(distinct, codes, strict=True))
        return self._texts(np.fromiter(map(code_of.__getitem__, keys), np.int32, self.count), values)

    def floats(self, place: Place) -> Floats | None:
        given = self.columns.get(place)
        if given is None:
            return None
        try:
            return np.array(given, np.float64)  # None is NaN
        except OverflowError:  # an integer of hundreds of digits
            raise NotPlain from None

    def numeric(self, place: Place) -> bool:
        kinds = {type(value) for value in self.columns[place]} - {type(None)}
        if kinds <= {int, float}:
            return True
        if kinds & {int, float}:
            raise NotPlain
        return False

    def exact(self, place: Place) -> Floats | None:
        numbers = self.floats(place)
        if numbers is not None and int in set(map(type, self.columns[place])):
            with np.errstate(invalid="ignore"):
                self.plain &= np.isnan(numbers) | (np.abs(numbers) < EXACT_INTEGER)
        return numbers

    def feature(self, place: Place, num: dict[str, Floats], cat: dict[str, Texts]) -> None:
        if place.key in self._numeric:
            num[place.key] = self.known(place)
        else:
            cat[place.key] = self.need(self.texts(place, category))

    def entropies(self, probabilities: Mapping[str, Floats]) -> Floats | None:
        if len(probabilities) <= 2:
            return super().entropies(probabilities)
        # Of more than two, the order in which they are summed tells in the last bit.
        given = ([p for p in each.values() if p is not None] for each in self._probabilities)
        return np.array([entropy(row) for row in given], np.float64)


_WRONG = -2


def _any(cells: Column) -> bool:
    """Whether any is given: mostly the first tells."""
    return cells[0] is not None or cells.count(None) < len(cells)


def _utc(given: Column) -> Times | None:
    """Times as windows.parse_time reads them, where all are texts of a time in UTC."""
    try:
        read = list(map(datetime.fromisoformat, given))
    except (TypeError, ValueError):
        return None
    seconds = np.array([t.timestamp() for t in read if t.tzinfo is UTC], np.float64)
    if len(seconds) < len(read):
        return None
    return np.rint(seconds * SECOND).astype(np.int64)
