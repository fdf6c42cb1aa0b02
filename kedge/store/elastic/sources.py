"""The sources beside kedge's own indices: found, followed, and added to what those say.

A source's fields are looked up anew for each call, so an index that was rolled over or a field that is new
counts from the next one on. Which models it has, and which features they have, is kept in `kedge-state`
before the rows are reported as changed: whoever summarises them asks for all.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from operator import add

import orjson

from kedge.sketch import EdgeSet, Moments, NumericEdges
from kedge.store.base import (
    Changes,
    Check,
    DocumentStore,
    Json,
    PartRow,
    SummaryKey,
    SummaryRequest,
    digest,
    schema_document,
    sum_versions,
)
from kedge.store.elastic.client import Client
from kedge.store.elastic.feed import Feed
from kedge.store.elastic.foreign import ForeignPlace, resolve
from kedge.store.elastic.foreign_feed import ForeignFeed, features_in
from kedge.store.elastic.foreign_rows import count_rows, foreign_examples
from kedge.store.elastic.quantiles import Quantiles, of_version
from kedge.store.elastic.summarise import Summariser
from kedge.store.elastic.values import values_of
from kedge.store.flaws import Flaw
from kedge.store.sources import Source
from kedge.store.values import ValueCount, ValueQuery
from kedge.windows import MINUTE, Millis, Window

MOST_FEATURES = 2_000
"""Feature names of one model, as the gateway has it; more of a source are left out."""
_FIELDS_AT_ONCE = 100
_MODELS_AT_ONCE = 500
_PAGE = 10_000

_log = logging.getLogger(__name__)


class Sources:
    """What `LogStore` says of the rows in sources."""

    def __init__(self, client: Client, sources: Sequence[Source], prefix: str, state: DocumentStore) -> None:
        self._client = client
        self._sources = sources
        self._prefix = prefix
        self._state = state
        self._complained: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._sources)

    # --- the change feed --------------------------------------------------------------------------

    def changed(self, since: Json) -> Changes:
        """Of all sources. A source whose mapping was edited is read anew from its beginning, as rebuilt."""
        watermark: Json = {}
        dirty: dict[str, set[Millis]] = defaultdict(set)
        labelled: dict[str, set[Millis]] = defaultdict(set)
        replaced = False
        for source in self._sources:
            before = since.get(source.key, {})
            mapping = _fingerprint(source)
            edited = bool(before) and before["mapping"] != mapping
            feed = ForeignFeed(self._client, source, self._prefix)
            found = feed.changed({} if edited else before.get("seen", {}))
            if feed.place is not None and not feed.place.usable:
                self._complain(feed.place)
                watermark[source.key] = before  # nothing is passed over: it is read once it can be
                continue
            watermark[source.key] = {"mapping": mapping, "seen": found.watermark}
            replaced |= found.replaced or edited
            if feed.place is not None and found.dirty:
                self._register(feed.place, found.dirty)
            for minutes_of, told in ((dirty, found.dirty), (labelled, found.labelled)):
                for model, minutes in told.items():
                    minutes_of[model] |= minutes
        return Changes(watermark, dict(dirty), replaced, dict(labelled))

    def _complain(self, place: ForeignPlace) -> None:
        """Once in a process: `kedge doctor` says it as often as it is asked."""
        text = _why_not(place)
        if text not in self._complained:
            self._complained.add(text)
            _log.warning("source %s cannot be read: %s", place.source.name, text)

    def _register(self, place: ForeignPlace, dirty: Mapping[str, set[Millis]]) -> None:
        if not place.source.model:
            self._extend(_models_document(place.source), {"models": set(dirty)})
        features: dict[str, set[str]] = {}
        schemas = self._state.get_many([schema_document(model) for model in dirty])
        for model in dirty:
            stored = schemas.get(schema_document(model))
            known = stored.value if stored else {}
            features[model] = {
                f"features.{short}.{name}"
                for kind, short in (("numeric", "num"), ("categorical", "cat"))
                for name in known.get(kind, ())
            }
        wanted = [name for name in place.features if any(name not in held for held in features.values())]
        if not wanted:
            return
        minutes = [minute for found in dirty.values() for minute in found]
        window = Window(min(minutes), max(minutes) + MINUTE)
        found = features_in(self._client, place, window, wanted, list(dirty))
        for model in dirty:
            new = sorted(found.get(model, set()) - features[model])
            room = max(MOST_FEATURES - len(features[model]), 0)
            if new[room:]:
                _log.warning("%s has more than %d features: %s …", model, MOST_FEATURES, new[room])
            if new[:room]:
                self._extend(
                    schema_document(model),
                    {
                        "numeric": {n[13:] for n in new[:room] if n.startswith("features.num.")},
                        "categorical": {n[13:] for n in new[:room] if n.startswith("features.cat.")},
                        "invalid": set(),
                    },
                )

    def _extend(self, document: str, more: Mapping[str, set[str]]) -> None:
        """Add to the sets that a state document holds."""
        while True:
            stored = self._state.get(document)
            value: Json = dict(stored.value) if stored else {}
            wider = {name: sorted({*value.get(name, ()), *values}) for name, values in more.items()}
            if stored and all(value.get(name, []) == values for name, values in wider.items()):
                return
            if self._state.swap(document, value | wider, stored.token if stored else None):
                return

    # --- reading ----------------------------------------------------------------------------------

    def add_to(self, requests: Sequence[SummaryRequest], rows: list[list[PartRow]]) -> None:
        """Add what the sources have to the answers of kedge's own indices."""
        for source, models in self._holding({request.model for request in requests}):
            place = self._place(source)
            if place is None:
                continue
            asked = [i for i, request in enumerate(requests) if request.model in models]
            found = Summariser(self._client, place).summarise_many([requests[i] for i in asked])
            for i, more in zip(asked, found, strict=True):
                rows[i] = _added(rows[i], more)

    def places(self, model: str) -> Iterator[ForeignPlace]:
        """Those that have rows of a model."""
        for source, _ in self._holding({model}):
            if (place := self._place(source)) is not None:
                yield place

    def edges(
        self,
        model: str,
        window: Window,
        numeric: Sequence[str],
        categorical: Sequence[str],
        version: str | None = None,
    ) -> list[tuple[int, EdgeSet]]:
        """From each source that has the model, with how many rows it has there."""
        return [
            (
                count_rows(
                    self._client,
                    place.over(window),
                    place.rows(model, window, *of_version(place, version)),
                    place.wildcards,
                ),
                Quantiles(self._client, place).edges(model, window, numeric, categorical, version),
            )
            for place in self.places(model)
        ]

    def errors_by_value(
        self, model: str, window: Window, edges: NumericEdges, version: str | None = None
    ) -> list[list[Moments]]:
        """From each source that has the model."""
        return [
            Quantiles(self._client, place).errors_by_value(model, window, edges, version)
            for place in self.places(model)
        ]

    def examples(self, model: str, window: Window, limit: int, flaw: Flaw | None) -> list[Json]:
        return [
            row
            for place in self.places(model)
            for row in foreign_examples(self._client, place, model, window, limit, flaw)
        ]

    def values(self, query: ValueQuery) -> list[ValueCount]:
        return [
            count for place in self.places(query.model) for count in values_of(self._client, place, query)
        ]

    def _holding(self, models: set[str]) -> list[tuple[Source, set[str]]]:
        """The sources that have rows of some of the models, and of which."""
        named = [_models_document(source) for source in self._sources if not source.model]
        stored = self._state.get_many(named) if named else {}
        held = []
        for source in self._sources:
            document = stored.get(_models_document(source))
            has = {source.model} if source.model else set(document.value["models"]) if document else set()
            if has & models:
                held.append((source, has & models))
        return held

    def _place(self, source: Source) -> ForeignPlace | None:
        place = resolve(self._client, source, self._prefix)
        return place if place is not None and place.usable else None

    # --- what people are told ---------------------------------------------------------------------

    def checks(self) -> list[Check]:
        """A line for each source: what it has, what it lacks, and what comes of it."""
        return [self._check(source) for source in self._sources]

    def _check(self, source: Source) -> Check:
        name = f"source {source.name}"
        place = resolve(self._client, source, self._prefix)
        if place is None:
            return Check(name, False, "no index of that name", f"mend the index in kedge.yml: {source.index}")
        count = len({shard.name for shard in Feed(self._client, place).shards()})
        text = f"{count} {'index' if count == 1 else 'indices'}"
        if not place.usable:
            return Check(name, False, f"{text}; {_why_not(place)}", "mend its map in kedge.yml")
        text += f"; gives {', '.join(_gives(place))}"
        if place.absent:
            text += f"; no index has the field of {', '.join(sorted(place.absent))}"
        remedy = "; ".join(place.problems)
        return Check(name, not place.problems, text, remedy)


def _fingerprint(source: Source) -> str:
    return digest(orjson.dumps(asdict(source), option=orjson.OPT_SORT_KEYS))


def _models_document(source: Source) -> str:
    """The state document that names the models of a source."""
    return f"source:{digest(source.key)}"


def _why_not(place: ForeignPlace) -> str:
    lacking = [name for name in ("timestamp", "model.name") if name in place.absent]
    said = [f"no index has the field of {name}" for name in lacking]
    unmapped = "timestamp" if "timestamp" not in place.source.fields else "model.name"
    return "; ".join([*said, *place.problems]) or f"nothing is mapped to {unmapped}"


def _gives(place: ForeignPlace) -> Iterator[str]:
    """The families of metrics that the fields of a source are enough for."""
    yield "volume"
    if place.failed:
        yield "errors"
    if place.field("latency_ms"):
        yield "latency"
    if place.field("prediction.class"):
        yield "classes"
    if place.field("prediction.probability"):
        yield "confidence"
    if place.field("prediction.class") and place.field("label.class"):
        yield "performance from the confusion"
        if place.field("prediction.probability"):
            yield "AUC and calibration"
    for name in ("log_loss", "brier", "abs_error", "squared_error"):
        if place.labelled and place.field(f"outcome.{name}"):
            yield name
    if place.features:
        yield f"drift and quality of {len(place.features)} features"


def _added(own: list[PartRow], more: Iterable[PartRow]) -> list[PartRow]:
    by_key: dict[SummaryKey, list[PartRow]] = defaultdict(list)
    for row in [*own, *more]:
        by_key[row.key].append(row)
    return [
        rows[0]
        if len(rows) == 1
        else PartRow(key, sum_versions(r.version for r in rows), reduce(add, [r.part for r in rows]))
        for key, rows in by_key.items()
    ]
