"""Baselines: frozen references with the edges that features are counted on. Immutable, known by their
content.
"""

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import add
from typing import Any, Protocol, runtime_checkable

from kedge.analysis.drift import TOLERANCE
from kedge.analysis.variation import PREDICTED, AtLength, Variation
from kedge.errors import BadInput
from kedge.pipeline.reference_rows import Rows, count_reference
from kedge.pipeline.schema import Features
from kedge.pipeline.summaries import bucket_summary
from kedge.sketch import AnyPart, EdgeSet, Moments, PartName, Summary, pack, unpack
from kedge.store.base import (
    DocumentStore,
    Group,
    Grouping,
    Stored,
    SummaryRequest,
    digest,
    group_key,
    parse_group,
)
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, ceil, floor, format_duration, iso


@runtime_checkable
class OfVersion(Protocol):
    """Rows of one version alone."""

    version: str


@dataclass(frozen=True)
class Baseline:
    """A reference of one model."""

    id: str
    model: str
    created: Millis
    source: str
    """`file train.parquet`, or the window of the store."""
    window: Window
    edges: EdgeSet
    summaries: dict[Group, Summary]
    """Of the total, and of each group that was known when it was made."""
    value_errors: tuple[Moments, ...] | None = None
    """Of a regression: the absolute errors of its labelled rows, by cell of `edges.value`."""
    variation: Variation = field(default_factory=Variation)
    """How its own windows vary; older baselines, and those of rows without times, do not know."""
    generation: int = 0
    """Which `use` of a baseline this is, from 1: later ones win in versioned writes."""
    provisional: bool = False
    """It was made by itself, and nobody has accepted it yet: what compares with it reaches `info`."""
    _lengths: dict[tuple[Millis, bool], AtLength] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def rows(self) -> int:
        return self.summaries[()].rows

    @cached_property
    def label(self) -> str:
        """For people: `3f2a91c0 (2013-01-01 to 2013-02-28, n=50,510)`."""
        last = max(self.window.end - 1, self.window.start)
        return f"{self.id[:8]} ({iso(self.window.start)[:10]} to {iso(last)[:10]}, n={self.rows:,})"

    @cached_property
    def title(self) -> str:
        """For people, in a sentence."""
        return f"{'provisional ' if self.provisional else ''}baseline {self.label}"

    def at_length(self, length: Millis, group: Group = ()) -> AtLength:
        """What windows of a length are judged by. Rows are not counted by hour for each group: a group goes
        by what is known of all rows, marked as borrowed; a version is in time all of the traffic."""
        own = all(name == "version" for name, _ in group)
        if (length, own) not in self._lengths:
            self._lengths[length, own] = self.variation.at(length, (*self.edges.features, PREDICTED), own=own)
        return self._lengths[length, own]


def build_baseline(
    log: Rows,
    model: str,
    window: Window,
    features: Features,
    groupings: Sequence[Grouping],
    *,
    source: str,
    now: Millis,
    days: Sequence[Window] = (),
) -> Baseline:
    """Freeze edges from the rows of a window, then summarise those rows on them. Raises BadInput without
    rows.

    `days`: only the rows of these parts of the window count. The edges are drawn from all of it: where a cell
    ends matters little, what it holds is what is compared with.
    """
    edges = log.edges(model, window, features.numeric, features.categorical)
    spans = days or [window]
    bounds = [bound for span in (window, *spans) for bound in span]
    bucket = next((w for w in (DAY, HOUR, MINUTE) if not any(bound % w for bound in bounds)), None)
    if bucket is None:
        window = Window(floor(window.start, MINUTE), ceil(window.end, MINUTE))
        spans = [window]
        bucket = MINUTE
    request = SummaryRequest(
        model=model,
        window=window,
        bucket=bucket,
        parts=frozenset(PartName),
        groupings=tuple(groupings),
        edges=edges,
        numeric=features.numeric,
        categorical=features.categorical,
        invalid=features.invalid,
        attributions=features.attributions,
        measured=features.measured,
        probabilities=features.ranked,
    )
    counted = count_reference(log, request, edges, spans)
    if () not in counted.summaries:
        of = f" of version {log.version}" if isinstance(log, OfVersion) else ""
        span = f"{iso(window.start)} to {iso(window.end)}"
        raise BadInput(f"model {model} has no rows{of} from {span}: nothing to refer to")
    summaries, variation = counted
    errors = None
    if edges.value is not None:
        held = [log.errors_by_value(model, span, edges.value) for span in spans]
        errors = tuple(reduce(add, cell) for cell in zip(*held, strict=True))
    packed = [base64.b64encode(pack(part)).decode() for part in _parts(summaries[()]).values()]
    # What is known of the variation follows from the rows and their hours, but its last digits are the
    # machine's: that it is known makes it another baseline, and not its figures.
    known = [",".join(map(str, sorted(variation.lengths)))] if variation.lengths else []
    identity = digest(model, edges.hash, *packed, *known)[:16]
    return Baseline(identity, model, now, source, window, edges, summaries, errors, variation)


def _parts(summary: Summary) -> dict[PartName, AnyPart]:
    parts = {PartName.CORE: summary.core, PartName.CELLS: summary.cells, PartName.LABELS: summary.labels}
    return {name: part for name, part in parts.items() if part is not None}


def import_baseline(state: DocumentStore, baseline: Baseline, *, use: bool) -> dict[str, Any]:
    """Store a baseline and, with `use`, make it the model's reference; returns its line of `baseline
    list`.
    """
    state.swap(f"baseline:{baseline.model}:{baseline.id}", encode_baseline(baseline), None)
    if use:
        use_baseline(state, baseline.model, baseline.id)
    return next(row for row in list_baselines(state, baseline.model) if row["id"] == baseline.id)


def encode_baseline(baseline: Baseline) -> dict[str, Any]:
    """As JSON; the same content is the same document."""
    varies = {"dispersion": baseline.variation.to_json()} if baseline.variation.lengths else {}
    return varies | {
        "id": baseline.id,
        "model": baseline.model,
        "created": baseline.created,
        "source": baseline.source,
        "window": list(baseline.window),
        "rows": baseline.rows,
        "edges": baseline.edges.to_json(),
        "value": _encode_value(baseline),
        "parts": {
            group_key(group): {
                name.value: base64.b64encode(pack(part)).decode() for name, part in _parts(summary).items()
            }
            for group, summary in baseline.summaries.items()
        },
    }


def decode_baseline(value: dict[str, Any], generation: int = 0, provisional: bool = False) -> Baseline:
    """From its JSON."""
    summaries = {}
    of_value = value.get("value")  # older ones have none, nor have those of classifiers
    for key, parts in value["parts"].items():
        decoded = {PartName(n): unpack(PartName(n), base64.b64decode(data)) for n, data in parts.items()}
        summaries[parse_group(key)] = bucket_summary(decoded, frozenset(PartName))
    return Baseline(
        value["id"],
        value["model"],
        value["created"],
        value["source"],
        Window(*value["window"]),
        EdgeSet.from_json(value["edges"], of_value),
        summaries,
        None if of_value is None else tuple(map(_decode_moments, of_value["errors"])),
        Variation.from_json(value.get("dispersion", {})),
        generation,
        provisional,
    )


def _encode_value(baseline: Baseline) -> dict[str, Any] | None:
    if baseline.edges.value is None or baseline.value_errors is None:
        return None
    errors = [[m.n, m.mean, m.m2, m.low, m.high] if m.n else [] for m in baseline.value_errors]
    return baseline.edges.value.to_json() | {"errors": errors}


def _decode_moments(values: list[float]) -> Moments:
    """Some JSON writers make 1.0 a 1."""
    return Moments(int(values[0]), *map(float, values[1:])) if values else Moments.ZERO


def propose_baseline(state: DocumentStore, baseline: Baseline) -> bool:
    """Store a baseline and make it the provisional reference of a model that has none; False where it has."""
    state.swap(f"baseline:{baseline.model}:{baseline.id}", encode_baseline(baseline), None)
    use = {"id": baseline.id, "generation": 1, "provisional": True}
    return state.swap(f"baseline-use:{baseline.model}", use, None)


def accept_baseline(state: DocumentStore, model: str, id_prefix: str = "") -> str:
    """Pin the reference that is in use, or the one that is named; returns its whole id. Raises BadInput where
    there is none."""
    if id_prefix:
        return use_baseline(state, model, id_prefix)
    used = state.get(f"baseline-use:{model}")
    if used is None:
        raise BadInput(f"model {model} has no baseline to accept (see kedge baseline create)")
    return use_baseline(state, model, used.value["id"])


def use_baseline(state: DocumentStore, model: str, id_prefix: str) -> str:
    """Make a stored baseline the model's reference, and no longer a provisional one; returns its whole id.
    Raises BadInput where it is not one.
    """
    matching = [
        name for name in state.find(f"baseline:{model}:") if name.split(":")[-1].startswith(id_prefix)
    ]
    if len(matching) != 1:
        known = "none" if not matching else f"{len(matching)}"
        raise BadInput(
            f'{known} of the baselines of {model} begin with "{id_prefix}" (see kedge baseline list {model})'
        )
    identity = matching[0].split(":")[-1]
    while True:
        stored = state.get(f"baseline-use:{model}")
        same = stored is not None and stored.value["id"] == identity
        if stored and same and not stored.value.get("provisional"):
            return identity
        # Accepted, it is the same reference: nothing that was computed with it needs to be written again.
        generation = stored.value["generation"] if stored else 0
        value = {"id": identity, "generation": generation if same else generation + 1}
        if state.swap(f"baseline-use:{model}", value, stored.token if stored else None):
            return identity


_Use = tuple[str, str, int, bool]
_decoded: dict[_Use, Baseline] = {}
"""Baselines are immutable: each is decoded once a process. Few and small (tens of kB)."""


def baseline_in_use(state: DocumentStore, model: str) -> Baseline | None:
    """The model's reference, or None where it has none yet."""
    used = state.get(f"baseline-use:{model}")
    if used is None:
        return None
    key = _use_of(model, used)
    if key not in _decoded:
        stored = state.get(f"baseline:{model}:{used.value['id']}")
        if stored is None:
            return None
        _decoded[key] = decode_baseline(stored.value, *key[2:])
    return _decoded[key]


def _use_of(model: str, used: Stored) -> _Use:
    value = used.value
    return model, value["id"], value["generation"], bool(value.get("provisional"))


def baselines_in_use(state: DocumentStore, models: Collection[str]) -> dict[str, Baseline]:
    """The references of those of the models that have one."""
    used = state.get_many([f"baseline-use:{model}" for model in models])
    keys = {
        model: _use_of(model, stored) for model in models if (stored := used.get(f"baseline-use:{model}"))
    }
    unread = {f"baseline:{key[0]}:{key[1]}": key for key in keys.values() if key not in _decoded}
    for name, stored in (state.get_many(list(unread)) if unread else {}).items():
        _decoded[unread[name]] = decode_baseline(stored.value, *unread[name][2:])
    return {model: _decoded[key] for model, key in keys.items() if key in _decoded}


def show_baseline(state: DocumentStore, model: str, id_prefix: str) -> dict[str, Any]:
    """One baseline with its edges: what `kedge baseline show` prints."""
    for row in list_baselines(state, model):
        if row["id"].startswith(id_prefix):
            stored = state.get(f"baseline:{model}:{row['id']}")
            return row | {"edges": stored.value["edges"] if stored else {}}
    raise BadInput(f'no baseline of {model} begins with "{id_prefix}" (see kedge baseline list {model})')


def list_baselines(state: DocumentStore, model: str) -> list[dict[str, Any]]:
    """What `kedge baseline list` prints: one map each, newest first."""
    used = state.get(f"baseline-use:{model}")
    current = used.value["id"] if used else ""
    provisional = bool(used and used.value.get("provisional"))
    rows = [
        {
            "id": v.value["id"],
            "model": model,
            "in_use": v.value["id"] == current,
            "provisional": provisional and v.value["id"] == current,
            "created": iso(v.value["created"]),
            "source": v.value["source"],
            "from": iso(v.value["window"][0]),
            "to": iso(v.value["window"][1]),
            "rows": v.value["rows"],
            "features": len(v.value["edges"]),
            "phi": _lengths(v.value),
            "restless": _restless(v.value),
        }
        for v in state.find(f"baseline:{model}:").values()
    ]
    return sorted(rows, key=lambda r: r["created"], reverse=True)


def _lengths(value: dict[str, Any]) -> list[str]:
    """The lengths of windows for which a baseline knows phi, shortest first: `["1h", "6h", "1d"]`."""
    return [format_duration(length) for length in sorted(map(int, value.get("dispersion", {})))]


def _restless(value: dict[str, Any]) -> dict[str, list[str]]:
    """By length of the windows: the features that normally exceed the default tolerance."""
    known = Variation.from_json(value.get("dispersion", {}))
    return {
        format_duration(length): sorted(known.at(length, ()).restless(TOLERANCE))
        for length in sorted(known.lengths)
    }
