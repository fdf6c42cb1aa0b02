"""The columnar way from columns, of a file or of a request, to predictions: whole columns are validated at
once.

It takes the rows that are plainly fine and gives the same values as `enrich.prediction_of`; all others are
left to that, which says what is wrong with them. What is said once a distinct value (classes, segments,
categories) is said by the same functions.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from ingest.column_values import ArrowReading, array_of
from ingest.content import ContentIds
from ingest.enrich import MAX_FEATURES, MAX_LABELS, MAX_MESSAGE, SUM_SLACK
from ingest.reading import NotPlain, Reading, string_of
from ingest.tables import Chunk
from ingest.values import (
    MAX_TEXT,
    check_names,
    class_text,
    model_name,
    scalar_text,
    text,
)
from ingest.wire import Place
from kedge.errors import BadInput
from kedge.record_table import Floats, Mask, PredictionTable, Texts, Times
from kedge.windows import Millis

_MAPS = ("features", "probabilities", "segment", "attributions", "resource", "business")
_PLAIN = frozenset(
    {"model", "id", "timestamp", "version", "class", "probability", "value", "entropy", "latency_ms"}
    | {"trace_id", "service", "host", "label", "error"}
)
_MEMBERS = frozenset(
    {Place("label", name) for name in ("class", "value", "timestamp")}
    | {Place("error", name) for name in ("type", "message")}
)
_MAX_CLASSES = 100
"""Other classes that the one class with a probability column may stand against."""


class Lane:
    """How the columns of one file or request become predictions of one model."""

    def __init__(
        self,
        places: Collection[Place],
        *,
        model: str,
        version: str | None,
        now: Millis,
        default_time: Millis | None = None,
        counted: bool = False,
    ) -> None:
        """Raises NotPlain for columns that the row path must read.

        Args:
            default_time: of rows without a time; None leaves them to the row path.
            counted: the rows are counted and not kept: those without an id get an empty one, and what is
                derived of probabilities is good to the last bit but one.
        """
        self._model, self._version, self._now = model, version, now
        self._default_time, self._counted = default_time, counted
        self._places = frozenset(places)
        try:
            model_name(model)
            self._classes = self._checked()
        except BadInput:
            raise NotPlain from None
        self._content = ContentIds(model=model, version=version)

    def _checked(self) -> dict[Place, str]:
        """By place of a class's probability, the class. Raises BadInput or NotPlain."""
        members: dict[str, list[str]] = {}
        for place in self._places:
            if place.key and place.field in _MAPS:
                members.setdefault(place.field, []).append(place.key)
            elif place in _MEMBERS:
                if Place(place.field) in self._places:
                    raise NotPlain
            elif place.key or place.field not in _PLAIN:
                raise NotPlain
        for field, names in members.items():
            check_names(field, tuple(names))
            many = field in ("features", "probabilities", "attributions")
            if len(names) > (MAX_FEATURES if many else MAX_LABELS):
                raise NotPlain
        classes = {p: class_text(p.key, p.field) or "" for p in self._places if p.field == "probabilities"}
        check_names("probabilities", tuple(classes.values()))
        if len(set(classes.values())) < len(classes):
            raise NotPlain
        return classes

    def table(self, chunk: Chunk) -> tuple[PredictionTable, Mask]:
        """The plain rows, and which they are among those of the chunk. Raises NotPlain for none of them."""
        columns = {place: array_of(cells) for place, cells in chunk.columns.items()}
        table, plain = self.read(ArrowReading(columns, len(chunk.indices), self._now))
        if not self._counted and Place("id") not in columns and len(table):
            chosen = columns if plain.all() else {p: c.filter(pa.array(plain)) for p, c in columns.items()}
            ids = self._content.of(chosen, chunk.indices[plain], table.timestamps)
            table = replace(table, ids=ids)
        return table, plain

    def read(self, reading: Reading) -> tuple[PredictionTable, Mask]:
        """The same of a reading; without a column of ids they are empty."""
        whole = self._whole(reading)
        plain = reading.plain
        if Place("id") in reading.columns:
            plain &= self._apart(whole.ids, plain)
        return whole if plain.all() else whole[plain], plain

    def _apart(self, ids: list[str], plain: Mask) -> Mask:
        """False for rows that have the id of a row that is not plain: the first of them must win."""
        if plain.all():
            return plain
        others = {id for id, fine in zip(ids, plain.tolist(), strict=True) if not fine}
        return np.array([id not in others for id in ids], np.bool_)

    def _whole(self, reading: Reading) -> PredictionTable:
        """All rows; those that `reading.plain` denies hold anything."""
        columns, count = reading.columns, reading.count
        timestamps = self._times(reading)
        cls = reading.texts(Place("class"), lambda value: class_text(value, "class"))
        cls, probabilities = self._probabilities(reading, cls)
        value = reading.exact(Place("value"))
        errors = self._errors(reading)
        entropies = reading.near_entropies if self._counted else reading.entropies
        label_cls, label_value, label_times = self._labels(reading, cls, value, timestamps)
        num: dict[str, Floats] = {}
        cat: dict[str, Texts] = {}
        for place in columns:
            if place.field == "features":
                reading.feature(place, num, cat)

        def floats(field: str) -> dict[str, Floats]:
            return {p.key: reading.measurements(p) for p in columns if p.field == field}

        def plain_texts(field: str) -> Texts | None:
            return reading.texts(Place(field), lambda value: text(scalar_text(value, field), field))

        return PredictionTable(
            model=self._model,
            ingested=self._now,
            ids=reading.ids() if Place("id") in columns else [""] * count,
            timestamps=timestamps,
            version=self._versions(reading),
            cls=cls,
            probability=self._confidence(reading, cls, probabilities),
            probabilities=probabilities,
            entropy=reading.not_negative(Place("entropy"), entropies(probabilities)),
            value=value,
            num=num,
            cat=cat,
            segment={
                p.key: reading.need(reading.texts(p, lambda value: scalar_text(value, "segment") or None))
                for p in columns
                if p.field == "segment"
            },
            attributions=floats("attributions"),
            resource=floats("resource"),
            business=floats("business"),
            latency_ms=reading.not_negative(Place("latency_ms"), None),
            service=plain_texts("service"),
            host=plain_texts("host"),
            trace=plain_texts("trace_id"),
            error_type=errors[0],
            error_message=errors[1],
            label_cls=label_cls,
            label_value=label_value,
            label_timestamps=label_times,
        )

    def _times(self, reading: Reading) -> Times:
        place = Place("timestamp")
        if self._default_time is None:
            return reading.times(place)
        if place not in reading.columns:
            return np.full(reading.count, self._default_time, np.int64)
        held = reading.times(place, needed=False)
        return np.where(held < 0, self._default_time, held)

    def _versions(self, reading: Reading) -> Texts | None:
        default = scalar_text(self._version, "version")
        given = reading.texts(Place("version"), lambda value: scalar_text(value, "version") or "")
        if given is None:
            return Texts(np.zeros(reading.count, np.int32), (default,)) if default else None
        values = [*given.values, default or ""]
        codes = np.where(given.codes < 0, len(values) - 1, given.codes)
        # An empty version is none.
        known = np.array([code if value else -1 for code, value in enumerate(values)], np.int32)
        return Texts(known[codes], values)

    def _probabilities(self, reading: Reading, cls: Texts | None) -> tuple[Texts | None, dict[str, Floats]]:
        """The class of each row, and its probabilities by class (enrich._probabilities, _likeliest)."""
        given = {
            name: reading.probabilities(place)
            for place, name in self._classes.items()
            if place in reading.columns
        }
        if not given:
            return cls, {}
        known = [~np.isnan(column) for column in given.values()]
        some: Mask = np.logical_or.reduce(known)
        every: Mask = np.logical_and.reduce(known)
        reading.plain &= every | ~some
        if len(given) == 1:
            return cls, self._against(reading, cls, given, some)
        total = sum(given.values())
        with np.errstate(invalid="ignore"):
            reading.plain &= ~some | (np.abs(total - 1) < SUM_SLACK[0] - 1e-6)
        names = sorted(given)
        with np.errstate(invalid="ignore"):
            stacked = np.column_stack([given[name] for name in names])
            likeliest = np.where(some, np.argmax(stacked, axis=1), -1).astype(np.int32)
        if cls is None:
            return Texts(likeliest, names), given
        values = [*cls.values, *(name for name in names if name not in cls.values)]
        place = {name: code for code, name in enumerate(values)}
        of_names = np.array([*(place[name] for name in names), -1], np.int32)
        codes = np.where(cls.codes < 0, of_names[likeliest], cls.codes)
        reading.plain &= ~some | np.isin(codes, of_names[:-1])
        return Texts(codes, values), given

    def _against(
        self, reading: Reading, cls: Texts | None, given: dict[str, Floats], some: Mask
    ) -> dict[str, Floats]:
        """One class's probability alone: the other class, if the row names it, has the rest."""
        ((only, p),) = given.items()
        if cls is None:
            reading.plain &= ~some
            return given
        reading.plain &= ~some | (cls.codes >= 0)
        if len(cls.values) > _MAX_CLASSES:
            raise NotPlain
        rest = {
            name: np.where(some & (cls.codes == code), 1.0 - p, np.nan)
            for code, name in enumerate(cls.values)
            if name != only
        }
        return given | {name: column for name, column in rest.items() if not np.isnan(column).all()}

    def _confidence(
        self, reading: Reading, cls: Texts | None, probabilities: Mapping[str, Floats]
    ) -> Floats | None:
        place = Place("probability")
        given = reading.probabilities(place) if place in reading.columns else None
        own = None
        if cls is not None and probabilities:
            own = np.full(reading.count, np.nan)
            for code, name in enumerate(cls.values):
                if name in probabilities:
                    own = np.where(cls.codes == code, probabilities[name], own)
        if given is None:
            return own
        absent = np.isnan(given)
        reading.plain &= absent | (cls.present if cls is not None else False)
        if own is None:
            return given
        with np.errstate(invalid="ignore"):
            reading.plain &= absent | np.isnan(own) | (np.abs(own - given) <= SUM_SLACK[0])
        return np.where(absent, own, given)

    def _errors(self, reading: Reading) -> tuple[Texts | None, Texts | None]:
        def said(place: Place, field: str, limit: int) -> Texts | None:
            return reading.texts(place, lambda value: text(string_of(value), field, limit))

        message = said(Place("error"), "error", MAX_MESSAGE)
        if message is not None:
            return None, message
        kinds = said(Place("error", "type"), "error.type", MAX_TEXT)
        return kinds, said(Place("error", "message"), "error.message", MAX_MESSAGE)

    def _labels(
        self, reading: Reading, cls: Texts | None, value: Floats | None, timestamps: Times
    ) -> tuple[Texts | None, Floats | None, Times | None]:
        """Class, value and time of each row's own label (enrich._own_label)."""
        either = Place("label")
        if either not in reading.columns:
            times = None
            if Place("label", "timestamp") in reading.columns:
                held = reading.times(Place("label", "timestamp"), needed=False)
                times = np.where(held < 0, timestamps, held)
            said = reading.texts(Place("label", "class"), lambda value: class_text(value, "label.class"))
            return said, reading.exact(Place("label", "value")), times
        said = reading.need(reading.texts(either, lambda value: class_text(value, "label")))
        if value is None or not reading.numeric(either):
            return said, None, None
        number = reading.exact(either)
        assert number is not None  # noqa: S101 - the column is there
        regression = ~np.isnan(value) & (~cls.present if cls is not None else True)
        return (
            Texts(np.where(regression, np.int32(-1), said.codes), said.values),
            np.where(regression, number, np.nan),
            None,
        )
