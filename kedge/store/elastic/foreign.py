"""A source as a `Place`: their fields, as far as the server can count by them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from kedge.sketch import SCORE_WIDTH
from kedge.store.base import Json
from kedge.store.elastic.client import Client, Refused
from kedge.store.elastic.place import Field, score_ranges, thresholds
from kedge.store.sources import PER_MS, TIMED, Source
from kedge.windows import Window

_INTEGERS = frozenset(("byte", "short", "integer", "long", "unsigned_long"))
_NUMBERS = _INTEGERS | {"half_float", "float", "double", "scaled_float"}
_TEXTS = frozenset(("keyword", "constant_keyword", "wildcard", "ip", "version", "boolean"))
_TIMES = frozenset(("date", "date_nanos", "long"))
_HOLDERS = frozenset(("object", "nested", "passthrough", "flattened"))
_LONGEST_PATH = 3_000
"""Of the names asked for: servers limit a request line to 4,096 bytes."""
_OWN_NAMES: Mapping[str, str] = {"latency_ms": "latency", "label.delay_ms": "label.delay"}
"""Where the stored name of a thing is another than what a source maps to."""
_SHOWN = ("event.id", "trace.id")
"""Shown with examples; nothing is counted by them."""
_KEYED = ("classes", "actual", "group", "values", "invalid")
"""How the names begin of the aggregations whose keys are text to kedge."""

Types = Mapping[str, frozenset[str]]
"""By path: the types that it has in the indices; several where they disagree."""


@dataclass(frozen=True, slots=True)
class ForeignField(Field):
    """A field of any numeric type, in units of its own."""

    per: float = 1.0
    """How many of its units make one of kedge's."""

    def edges(self, edges: Sequence[float]) -> tuple[float, ...]:
        """Where their doubles pass what would be rounded to each edge as float32: cells are those of every
        other store, to the last row (to the last bit of a double where units differ)."""
        return thresholds(tuple(edges), self.per)

    def scores(self) -> Json:
        return score_ranges(self)

    def present(self) -> Json:
        """Rows, not values: theirs may have several in one row."""
        return {"filter": {"exists": {"field": self.path}}}


class ForeignPlace:
    """The indices of one source and the fields that can be used; `problems` says of which not, and why.

    Their rows may be written again at any time: versions count that (`rewritten`).
    """

    rewritten = True
    wildcards = "open"  # they close indices for reasons of their own

    def __init__(self, source: Source, types: Types, path: str) -> None:
        self.source = source
        self.everywhere = path
        self.problems: list[str] = []
        self.absent: list[str] = []
        """What is mapped to fields that no index has (yet)."""
        self._types = types
        self._fields: dict[str, ForeignField] = {}
        for name in source.fields:
            self._resolve(name)
        self._learn()
        time = self._fields.get("timestamp")
        self.timestamp = time.path if time else ""
        self.usable = time is not None and bool(source.model or "model.name" in self._fields)
        """Without a time, or a model, no row can be counted."""
        self.failed = self._failed()

    # --- fields -----------------------------------------------------------------------------------

    def field(self, name: str) -> Field | None:
        return self._fields.get(_OWN_NAMES.get(name, name))

    def numeric(self, feature: str) -> Field | None:
        return self._fields.get(f"features.num.{feature}")

    def categorical(self, feature: str) -> Field | None:
        return self._fields.get(f"features.cat.{feature}")

    def attribution(self, feature: str) -> Field | None:
        return None  # a mapping has no place for them yet

    def probability(self, cls: str) -> Field | None:
        return None

    def measurement(self, name: str) -> Field | None:
        return None  # nor for what else was measured

    def dimension(self, name: str) -> Field | None:
        known = {"version": "model.version", "service": "service.name", "host": "host.name"}
        return self._fields.get(known.get(name, name))

    @property
    def fields(self) -> Mapping[str, ForeignField]:
        """By name in the mapping: those that can be used."""
        return self._fields

    @cached_property
    def features(self) -> dict[str, ForeignField]:
        """`features.num.…` and `features.cat.…` that the indices have."""
        return {name: f for name, f in self._fields.items() if name.startswith("features.")}

    @property
    def model_field(self) -> str | None:
        """None where all rows are of one model."""
        return None if self.source.model else self._fields["model.name"].path

    @cached_property
    def labelled(self) -> Json | None:
        fields = [f for name in ("label.class", "label.value") if (f := self.field(name))]
        if not fields:
            return None
        return {
            "bool": {"should": [{"exists": {"field": f.path}} for f in fields], "minimum_should_match": 1}
        }

    def _failed(self) -> Json | None:
        said, found = self.source.fields.get("error"), self._fields.get("error")
        if not said or not found:
            return None
        if said.least is not None:
            return {"range": {found.path: {"gte": said.least}}}
        if said.values:
            return {"terms": {found.path: list(said.values)}}
        return {"exists": {"field": found.path}}

    # --- rows -------------------------------------------------------------------------------------

    def over(self, window: Window) -> str:
        return self.everywhere

    def series(self, index: str) -> str:
        return index

    def rows(self, model: str, window: Window, *more: Json) -> Json:
        of_model = [{"term": {self.model_field: model}}] if self.model_field else []
        return self.in_window(window, *of_model, *more)

    def in_window(self, window: Window, *more: Json) -> Json:
        """The query for all its rows with event time in a window."""
        times: Json = {"gte": window.start, "lt": window.end}
        if self.dated:
            times["format"] = "epoch_millis"
        return {"bool": {"filter": [{"range": {self.timestamp: times}}, *self.clauses, *more]}}

    @property
    def dated(self) -> bool:
        """Time is a date, not a number."""
        return "long" not in self._types[self.timestamp]

    @property
    def clauses(self) -> list[Json]:
        """What holds of all its rows."""
        return [{"query_string": {"query": self.source.filter}}] if self.source.filter else []

    def read(self, aggregations: Json) -> Json:
        """The answer as kedge's own indices would give it: keys as text, latency in milliseconds."""
        return {name: self._read(name, answer) for name, answer in aggregations.items()}

    def _read(self, name: str, answer: Any) -> Any:
        if not isinstance(answer, dict):
            return answer
        if isinstance(buckets := answer.get("buckets"), list):
            if name == "scores":
                cells = [{"key": i * SCORE_WIDTH, "doc_count": b["doc_count"]} for i, b in enumerate(buckets)]
                return {"buckets": [cell for cell in cells if cell["doc_count"]]}
            keyed = name.startswith(_KEYED)
            return answer | {"buckets": [self._bucket(bucket, keyed) for bucket in buckets]}
        if name.startswith("cat") or name.endswith("_present"):
            return {"value": answer.get("doc_count", 0)}
        if name == "latency_ms" and answer.get("count") and (per := self._fields["latency"].per) != 1.0:
            return _in_ms(answer, per)
        return {inner: self._read(inner, value) for inner, value in answer.items()}

    def _bucket(self, bucket: Json, keyed: bool) -> Json:
        read: Json = {inner: self._read(inner, value) for inner, value in bucket.items()}
        if keyed:
            read["key"] = text_of(bucket)
        return read

    # --- which fields can be used -----------------------------------------------------------------

    def _resolve(self, name: str) -> None:
        mapped = self.source.fields[name]
        per = PER_MS[mapped.unit] if name in TIMED else 1.0
        types = self._types.get(mapped.field, frozenset()) - _HOLDERS
        path = mapped.field
        if not types:
            self.absent.append(name)
            return
        wanted, word = _wanted(name, mapped.least is not None)
        only_presence = name == "error" and not mapped.values and mapped.least is None
        if only_presence or name in _SHOWN or types <= wanted:
            pass
        elif types <= _TEXTS | {"text", "match_only_text"} and wanted >= _TEXTS:
            path = self._subfield(path)
        elif not types <= wanted:
            self._problem(
                name, path, f"is {' and '.join(sorted(types))}, not {word}", "map it to another field"
            )
            return
        if not path:
            remedy = f"add a keyword sub-field ({mapped.field}.keyword) to its mapping and index again"
            self._problem(name, mapped.field, "is text, which cannot be counted by", remedy)
            return
        self._fields[name] = ForeignField(path, per)

    def _problem(self, name: str, path: str, what: str, remedy: str) -> None:
        self.problems.append(f"{name} (their {path}): {what}; {remedy}")

    def _subfield(self, path: str) -> str:
        """The keyword beside a text field, which default dynamic mapping makes; empty without one."""
        inner = [p for p, types in self._types.items() if p.startswith(f"{path}.") and types <= _TEXTS]
        return min(inner, key=lambda p: (p != f"{path}.keyword", p), default="")

    def _learn(self) -> None:
        taken = {mapped.field for mapped in self.source.fields.values()}
        for pattern in self.source.features:
            stem = pattern.partition("*")[0] if "*" in pattern else ""
            for path in sorted(self._matching(pattern) - taken):
                types, name = self._types[path], path.removeprefix(stem)
                if types <= _NUMBERS:
                    self._fields.setdefault(f"features.num.{name}", ForeignField(path))
                elif types <= _TEXTS:
                    self._fields.setdefault(f"features.cat.{name}", ForeignField(path))
                elif types <= _TEXTS | {"text"} and (sub := self._subfield(path)):
                    self._fields.setdefault(f"features.cat.{name}", ForeignField(sub))
                elif len(types) > 1:
                    several = " and ".join(sorted(types))
                    self._problem(f"feature {name}", path, f"is {several}", "give it one type in all indices")
                elif "text" in types:
                    self._problem(f"feature {name}", path, "is text alone", "add a keyword sub-field")

    def _matching(self, pattern: str) -> set[str]:
        """The fields that a pattern names: not objects, nor sub-fields of fields."""
        found = {p for p, types in self._types.items() if fnmatchcase(p, pattern) and not types & _HOLDERS}
        return {p for p in found if not any(self._leaf(parent) for parent in _parents(p))}

    def _leaf(self, path: str) -> bool:
        """A field that is no object; what is below a nested object cannot be counted with its row."""
        types = self._types.get(path)
        return types is not None and (not types <= {"object", "passthrough"})


def _wanted(name: str, numeric: bool) -> tuple[frozenset[str], str]:
    """The types that can be used for a name, and what to call them."""
    if name == "timestamp":
        return _TIMES, "a date"
    stems = ("prediction.probability", "prediction.value", "prediction.entropy", "label.value", "outcome.")
    if numeric or name in TIMED or name.startswith((*stems, "features.num.")):
        return _NUMBERS, "a number"
    return _TEXTS | _NUMBERS, "a keyword"


def _parents(path: str) -> Iterator[str]:
    steps = path.split(".")
    return (".".join(steps[:i]) for i in range(1, len(steps)))


def _in_ms(stats: Json, per: float) -> Json:
    """`extended_stats` of a time, `per` of whose units make a millisecond."""

    def scaled(value: float) -> float:
        return value / per if per >= 1 else value * round(1 / per)  # 0.001 is no double, 1000 is

    variance = stats.get("variance_population", stats.get("variance")) or 0.0
    return {
        "count": stats["count"],
        **{name: scaled(stats[name]) for name in ("min", "max", "avg", "sum")},
        "variance": scaled(scaled(variance)),
    }


def text_of(bucket: Json) -> str:
    """The key of a bucket as kedge writes it: `1`, never `1.0`; `true`, never `1`."""
    key = bucket["key"]
    if isinstance(key, str):
        return key
    if bucket.get("key_as_string") in ("true", "false"):
        return str(bucket["key_as_string"])
    return str(int(key)) if float(key).is_integer() else str(key)


def resolve(client: Client, source: Source, prefix: str) -> ForeignPlace | None:
    """The source as it is now; None while no index is there."""
    path = search_path(source.index, prefix)
    types = _types(client, source, path)
    return ForeignPlace(source, types, path) if types is not None else None


def search_path(index: str, prefix: str) -> str:
    """Their indices without kedge's own, which a wide pattern would reach."""
    wide = any("*" in part and fnmatchcase(f"{prefix}-predictions-", part) for part in index.split(","))
    return f"{index},-{prefix}-*" if wide else index


def _types(client: Client, source: Source, path: str) -> dict[str, frozenset[str]] | None:
    names = {mapped.field for mapped in source.fields.values()}
    asked = sorted(
        {*names, *(f"{n}.*" for n in names), *source.features, *(f"{p}.*" for p in source.features)}
    )
    line = ",".join(asked)
    params = {
        "fields": line if len(line) < _LONGEST_PATH else "*",
        "expand_wildcards": "open",
        "filter_path": "indices,fields.*.*.type",
    }
    try:
        answer = client.request("GET", f"/{path}/_field_caps", params=params, verb="field_caps")
    except Refused as refused:
        if refused.status == 404:
            return None
        raise
    if not answer.get("indices"):
        return None
    return {name: frozenset(kinds) - {"unmapped"} for name, kinds in answer.get("fields", {}).items()}
