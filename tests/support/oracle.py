"""What the parts of a Summary are, said as plainly as possible: one loop over the rows for each number.

Deliberately naive. Every store, and every faster way to count, is compared with this.
"""

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from kedge.records import Outcome, Prediction, outcome_of
from kedge.sketch import (
    DELAY,
    LATENCY,
    SCORE_CELLS,
    VALUE,
    AnyPart,
    Cells,
    Core,
    Counts,
    Edges,
    EdgeSet,
    Labels,
    LogScale,
    Moments,
    NumericEdges,
    PartName,
    Summary,
    Tally,
    ranked,
    score_cell,
)
from kedge.store.base import OTHER, Group, Grouping, SummaryKey, SummaryRequest
from kedge.windows import Millis, Window, floor


def summarise_rows(
    rows: Iterable[Prediction],
    window: Window,
    bucket: Millis,
    parts: Iterable[PartName],
    groupings: Iterable[Grouping] = ((),),
    edges: EdgeSet | None = None,
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    invalid: Sequence[str] = (),
    known: Mapping[str, Collection[str]] = MappingProxyType({}),
    attributions: Sequence[str] = (),
    probabilities: Sequence[str] = (),
) -> dict[SummaryKey, AnyPart]:
    """The parts of every bucket in the window and every group that has rows; Labels where one is labelled.

    The label of a row is `row.label`: join them before. Without edges there is no Cells part.
    """
    parts = frozenset(parts)
    held: dict[tuple[str, Group, Millis], list[Prediction]] = defaultdict(list)
    for row in rows:
        if row.timestamp not in window:
            continue
        for grouping in groupings:
            group = _group(row, grouping, known)
            if group is not None:
                held[row.model, group, floor(row.timestamp, bucket)].append(row)

    answer: dict[SummaryKey, AnyPart] = {}
    for (model, group, start), members in held.items():
        if PartName.CORE in parts:
            key = SummaryKey(model, group, bucket, start, PartName.CORE)
            answer[key] = core_of(members, numeric, categorical, invalid, attributions)
        if PartName.CELLS in parts and edges is not None:
            key = SummaryKey(model, group, bucket, start, PartName.CELLS, edges.hash)
            answer[key] = cells_of(members, edges)
        if PartName.LABELS in parts and any(_labelled(row) for row in members):
            key = SummaryKey(model, group, bucket, start, PartName.LABELS)
            answer[key] = labels_of(members, probabilities)
    return answer


def answer_to(request: SummaryRequest, rows: Iterable[Prediction]) -> dict[SummaryKey, AnyPart]:
    """What `LogStore.summarise(request)` must give of these rows."""
    return summarise_rows(
        [row for row in rows if row.model == request.model],
        request.window,
        request.bucket,
        request.parts,
        request.groupings,
        request.edges,
        request.numeric,
        request.categorical,
        request.invalid,
        request.known,
        request.attributions,
        request.probabilities,
    )


def summary_of(rows: Iterable[Prediction], edges: EdgeSet | None = None) -> Summary:
    """All parts of all these rows, with every feature that occurs in them."""
    rows = list(rows)
    return Summary(
        core_of(
            rows,
            sorted({name for row in rows for name in row.num}),
            sorted({name for row in rows for name in row.cat}),
            sorted({name for row in rows for name in row.invalid}),
            sorted({name for row in rows for name in row.attributions}),
        ),
        None if edges is None else cells_of(rows, edges),
        labels_of(rows, ranked({cls for row in rows for cls in row.probabilities})),
    )


def core_of(
    rows: Sequence[Prediction],
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    invalid: Sequence[str] = (),
    attributions: Sequence[str] = (),
) -> Core:
    return Core(
        rows=len(rows),
        errors=sum(row.failed for row in rows),
        latency=_on_scale(LATENCY, _floats(row.latency_ms for row in rows)),
        latency_ms=_moments(row.latency_ms for row in rows),
        scores=_scores((row.cls, row.probability) for row in rows if row.cls is not None),
        confidence=_moments(row.probability for row in rows),
        entropy=_moments(row.entropy for row in rows),
        value=_moments(row.value for row in rows),
        numeric=_held({f: _moments(row.num.get(f) for row in rows) for f in numeric}, lambda m: m.n),
        present=_held({f: sum(f in row.cat for row in rows) for f in categorical}),
        invalid=_held({f: sum(f in row.invalid for row in rows) for f in invalid}),
        attributions=_held(
            {f: _sizes(row.attributions.get(f) for row in rows) for f in attributions}, lambda m: m.n
        ),
    )


def cells_of(rows: Sequence[Prediction], edges: EdgeSet) -> Cells:
    counted = {}
    for feature, frozen in edges.counted.items():
        counts = np.zeros(frozen.size, np.int64)
        for row in rows:
            counts[_cell(frozen, row, feature)] += 1
        counted[feature] = (frozen.hash, counts)
    return Cells(counted)


def errors_by_value(rows: Iterable[Prediction], edges: NumericEdges) -> list[Moments]:
    """The absolute errors of labelled rows by the cell of the predicted value, *missing* last."""
    held: list[list[float]] = [[] for _ in range(edges.size)]
    for row in rows:
        error = _float32(outcome(row).abs_error) if row.label is not None else None
        if error is not None:
            held[_cell(edges, row, VALUE)].append(error)
    return [Moments.of(errors) for errors in held]


def labels_of(rows: Sequence[Prediction], probabilities: Sequence[str] = ()) -> Labels:
    labelled = [(row, row.label) for row in rows if row.label is not None and _labelled(row)]
    outcomes = [outcome(row) for row, _ in labelled]
    return Labels(
        rows=len(labelled),
        scores=_scores(
            ((row.cls, label.cls), row.probability)
            for row, label in labelled
            if row.cls is not None and label.cls is not None
        ),
        log_loss=_moments(o.log_loss for o in outcomes),
        brier=_moments(o.brier for o in outcomes),
        error=_moments(o.error for o in outcomes),
        abs_error=_moments(o.abs_error for o in outcomes),
        squared_error=_moments(o.squared_error for o in outcomes),
        value=_moments(label.value for _, label in labelled),
        delay=_on_scale(DELAY, _floats(label.timestamp - row.timestamp for row, label in labelled)),
        ranks={
            side: cells[:SCORE_CELLS]
            for side, cells in _scores(
                ((cls, label.cls == cls), row.probabilities[cls])
                for row, label in labelled
                for cls in probabilities
                if label.cls is not None and cls in row.probabilities
            ).items()
        },
    )


def outcome(row: Prediction) -> Outcome:
    """How a labelled row did."""
    assert row.label is not None
    return outcome_of(
        cls=row.cls,
        probabilities=row.probabilities,
        value=row.value,
        label_cls=row.label.cls,
        label_value=row.label.value,
    )


def _labelled(row: Prediction) -> bool:
    return row.label is not None and (row.label.cls is not None or row.label.value is not None)


def _group(row: Prediction, grouping: Grouping, known: Mapping[str, Collection[str]]) -> Group | None:
    """The group of `grouping` that the row is in; None where it lacks one of the dimensions.

    Of a dimension with a full list of values, those that are not in it share a group.
    """
    group = []
    for name in sorted(grouping):
        value = row.dimension(name)
        if value is None:
            return None
        if name in known and value not in known[name]:
            value = OTHER
        group.append((name, value))
    return tuple(group)


def _float32(value: float | None) -> float | None:
    """As stored; None where it is missing or not finite (then, or once rounded)."""
    if value is None:
        return None
    with np.errstate(over="ignore"):
        rounded = float(np.float32(value))
    return rounded if math.isfinite(rounded) else None


def _floats(values: Iterable[float | None]) -> list[float]:
    rounded = (_float32(value) for value in values)
    return [value for value in rounded if value is not None]


def _moments(values: Iterable[float | None]) -> Moments:
    return Moments.of(_floats(values))


def _sizes(values: Iterable[float | None]) -> Moments:
    return Moments.of(abs(value) for value in _floats(values))


def _on_scale(scale: LogScale, values: Iterable[float]) -> Counts:
    edges = scale.edges.tolist()
    counts = scale.zero()
    for value in values:
        counts[bisect_right(edges, value)] += 1
    return counts


def _scores(pairs: Iterable[tuple[Any, float | None]]) -> dict[Any, Counts]:
    """By key: rows by score cell, the missing ones in the last."""
    tally: dict[Any, Counter[int]] = defaultdict(Counter)
    for key, score in pairs:
        tally[key][SCORE_CELLS if score is None else score_cell(score)] += 1
    return {
        key: np.array([cells[i] for i in range(SCORE_CELLS + 1)], np.int64) for key, cells in tally.items()
    }


def _cell(edges: Edges, row: Prediction, feature: str) -> int:
    """Which of the feature's cells the row falls in."""
    missing = edges.size - 1
    if isinstance(edges, NumericEdges):
        number = _float32(row.value if feature == VALUE else row.num.get(feature))
        return missing if number is None else bisect_right(edges.edges, number)
    text = row.cat.get(feature)
    if text is None:
        return missing
    if text in edges.values:
        return edges.values.index(text)
    return edges.size - (3 if text in edges.others else 2)


def _held(counts: dict[str, Any], size: Any = int) -> dict[str, Any]:
    """Parts name only what was counted at least once."""
    return {name: count for name, count in counts.items() if size(count) > 0}


def differences(expected: AnyPart, found: AnyPart) -> list[str]:
    """What differs, in words. Counts, minima and maxima must be equal, sums and sums of squares to 1e-9."""
    if type(expected) is not type(found):
        return [f"expected a {type(expected).__name__}, found a {type(found).__name__}"]
    found_fields = vars(found)
    return [
        line
        for name, value in vars(expected).items()
        for line in _differences(name, value, found_fields[name])
    ]


def _differences(place: str, a: Any, b: Any) -> list[str]:
    if isinstance(a, Moments) and isinstance(b, Moments):
        return [] if same_moments(a, b) else [f"{place}: expected {a}, found {b}"]
    if isinstance(a, Tally) and isinstance(b, Tally):
        fields = ((f"{place}.{name}", value, vars(b)[name]) for name, value in vars(a).items())
        return [line for of_field in fields for line in _differences(*of_field)]
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if a.keys() != b.keys():
            return [f"{place}: expected {sorted(map(str, a))}, found {sorted(map(str, b))}"]
        return [line for key in a for line in _differences(f"{place}[{key!r}]", a[key], b[key])]
    if isinstance(a, tuple) and isinstance(b, tuple):
        pairs = enumerate(zip(a, b, strict=True))
        return [line for i, pair in pairs for line in _differences(f"{place}.{i}", *pair)]
    if isinstance(a, np.ndarray):
        if np.array_equal(a, b):
            return []
        if a.shape != np.shape(b):
            return [f"{place}: expected {a.size} cells, found {np.size(b)}"]
        unequal = np.flatnonzero(a != b).tolist()
        return [f"{place}: cells {unequal}: expected {a[unequal].tolist()}, found {b[unequal].tolist()}"]
    return [] if a == b else [f"{place}: expected {a!r}, found {b!r}"]


def same_moments(a: Moments, b: Moments, relative: float = 1e-9) -> bool:
    """Equal n, minimum and maximum; sum and sum of squares within `relative` of what they are made of."""
    if (a.n, a.low, a.high) != (b.n, b.low, b.high):
        return False
    if not a.n:
        return True
    size = max(abs(a.low), abs(a.high))
    return (
        abs(a.total - b.total) <= relative * a.n * size and abs(a.m2 - b.m2) <= relative * a.n * size * size
    )
