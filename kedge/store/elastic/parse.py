"""Parts of Summaries from the answers to `aggregations`."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from kedge.errors import KedgeError, TooManyGroups
from kedge.sketch import (
    DELAY,
    LATENCY,
    SCORE_CELLS,
    SCORE_WIDTH,
    AnyPart,
    Cells,
    Core,
    Counts,
    EdgeSet,
    Labels,
    Moments,
    PartName,
    definitions_key,
)
from kedge.store.base import (
    EPOCH_SHIFT,
    MOST_GROUPS,
    OTHER,
    Group,
    Grouping,
    Json,
    PartRow,
    SummaryKey,
    SummaryRequest,
)
from kedge.store.elastic import custom
from kedge.store.elastic.aggregations import BEYOND, LABEL_MOMENTS, MOMENTS, MOST_CLASSES
from kedge.windows import Millis

_EXACT = 2**53
"""Where doubles, which the servers answer in, stop telling integers apart."""


def part_rows(
    request: SummaryRequest, parts: frozenset[PartName], groupings: Sequence[Grouping], aggregations: Json
) -> Iterator[PartRow]:
    """The rows of all buckets and groups in the answer to `time_buckets`."""
    for bucket in _buckets(aggregations.get("time", {})):
        start = int(bucket["key"])
        if () in groupings:
            yield from _node_rows(request, parts, (), start, bucket)
        for j, grouping in enumerate(groupings):
            if grouping:
                for group, node in _group_nodes(request, grouping, bucket, f"group{j}"):
                    yield from _node_rows(request, parts, group, start, node)


def nodes_per_bucket(
    request: SummaryRequest, groupings: Sequence[Grouping], aggregations: Json
) -> list[tuple[Millis, int]]:
    """The buckets of time in an answer, and how many nodes each holds."""
    return [
        (
            int(bucket["key"]),
            sum(
                sum(1 for _ in _group_nodes(request, grouping, bucket, f"group{j}")) if grouping else 1
                for j, grouping in enumerate(groupings)
            ),
        )
        for bucket in _buckets(aggregations.get("time", {}))
    ]


def _group_nodes(
    request: SummaryRequest, grouping: Grouping, bucket: Json, name: str
) -> Iterator[tuple[Group, Json]]:
    """The groups under a bucket's aggregation of that name, and the nodes that hold their parts."""
    first, *rest = grouping
    terms = bucket.get(name, {})
    values = [(found["key"], found) for found in _buckets(terms)]
    if first in request.known:
        beyond = bucket.get(name + BEYOND, {})
        values += [(OTHER, beyond)] if beyond.get("doc_count") else []
    elif terms.get("sum_other_doc_count"):
        raise TooManyGroups(
            f"model {request.model}: a bucket has more than {MOST_GROUPS} values of {first}: "
            "group by a coarser dimension",
            first,
            tuple(value for value, _ in values),
        )
    for value, node in values:
        here: Group = ((first, value),)
        if not rest:
            yield here, node
            continue
        for inner, innermost in _group_nodes(request, tuple(rest), node, "group"):
            yield tuple(sorted(here + inner)), innermost


def _node_rows(
    request: SummaryRequest, parts: frozenset[PartName], group: Group, start: int, node: Json
) -> Iterator[PartRow]:
    def row(name: PartName, fingerprint: int, part: AnyPart, edges: str = "") -> PartRow:
        key = SummaryKey(request.model, group, request.bucket, start, name, edges)
        return PartRow(key, (request.epoch << EPOCH_SHIFT) + fingerprint, part)

    version = int(node["doc_count"])
    if writes := node.get("writes"):
        # Rows that others may write again, and features that may have been learned after the rows.
        version += _exact(writes) + len(request.numeric) + len(request.categorical)
    if PartName.CORE in parts:
        yield row(PartName.CORE, version, _core(request, node))
    if PartName.CUSTOM in parts and request.custom:
        found = custom.part(request.custom, node, _moments)
        yield row(PartName.CUSTOM, version, found, definitions_key(request.custom))
    if PartName.CELLS in parts and request.edges is not None:
        yield row(PartName.CELLS, version, _cells(request.edges, node), request.edges.hash)
    labels = node.get("labels", {})
    if PartName.LABELS in parts and labels.get("doc_count"):
        yield row(PartName.LABELS, _exact(labels["fingerprint"]), _labels(request, labels))


def errors_of(aggregations: Json, size: int) -> list[Moments]:
    """The answer to `errors_by_value`, and none for rows without a value."""
    cells = _buckets(aggregations.get("cells", {}))
    return [_moments(cell.get("errors", {})) for cell in cells] + [Moments.ZERO] * (size - len(cells))


# --- parts ----------------------------------------------------------------------------------------


def _core(request: SummaryRequest, node: Json) -> Core:
    numeric = {f: _moments(node.get(f"num{i}", {})) for i, f in enumerate(request.numeric)}
    present = {f: _value(node.get(f"cat{i}", {})) for i, f in enumerate(request.categorical)}
    measured = {f: _moments(node.get(f"mea{i}", {})) for i, f in enumerate(request.measured)}
    attributions = {f: _absolute(node.get(f"att{i}", {})) for i, f in enumerate(request.attributions)}
    return Core(
        rows=int(node["doc_count"]),
        errors=int(node.get("errors", {}).get("doc_count", 0)),
        latency=_counts(node.get("cells_latency", {}), LATENCY.size),
        scores=_scores_by_class(node.get("classes", {})),
        numeric={f: m for f, m in numeric.items() if m.n},
        present={f: n for f, n in present.items() if n},
        invalid={b["key"]: int(b["doc_count"]) for b in _buckets(node.get("invalid", {}))},
        attributions={f: m for f, m in attributions.items() if m.n},
        measured={f: m for f, m in measured.items() if m.n},
        **{name: _moments(node.get(name, {})) for name in MOMENTS},
    )


def _cells(edges: EdgeSet, node: Json) -> Cells:
    rows = int(node["doc_count"])
    features: dict[str, tuple[str, Counts]] = {}
    for i, (feature, numeric) in enumerate(edges.counted_numeric.items()):
        counts = np.zeros(numeric.size, np.int64)
        counts[:-1] = _counts(node.get(f"cells{i}", {}), numeric.size - 1)
        counts[-1] = max(rows - counts.sum(), 0)  # a row of others may have several values
        features[feature] = (numeric.hash, counts)
    for i, (feature, known) in enumerate(edges.categorical.items()):
        found = {b["key"]: int(b["doc_count"]) for b in _buckets(node.get(f"values{i}", {}))}
        present = _value(node.get(f"values{i}_present", {}))
        top = [found.get(value, 0) for value in known.values]
        other = sum(found.get(value, 0) for value in known.others)
        unseen = max(present - sum(top) - other, 0)
        features[feature] = (known.hash, np.array([*top, other, unseen, rows - present], np.int64))
    return Cells({feature: features[feature] for feature in edges.counted})


def _labels(request: SummaryRequest, node: Json) -> Labels:
    classes = node.get("classes", {})
    _whole(classes, f"the model predicts more than {MOST_CLASSES} classes")
    scores: dict[tuple[str, str], Counts] = {}
    for predicted in _buckets(classes):
        for actual, cells in _scores_by_class(predicted.get("actual", {})).items():
            scores[predicted["key"], actual] = cells
    return Labels(
        rows=int(node["doc_count"]),
        scores=scores,
        delay=_counts(node.get("cells_delay", {}), DELAY.size),
        ranks=_ranks(request.probabilities, node.get("ranks", {})),
        **{name: _moments(node.get(name, {})) for name in LABEL_MOMENTS},
    )


def _ranks(classes: Sequence[str], node: Json) -> dict[tuple[str, bool], Counts]:
    ranks: dict[tuple[str, bool], Counts] = {}
    for i, cls in enumerate(classes):
        whole = _counts(node.get(f"cells_all{i}", {}), SCORE_CELLS)
        own = _counts(node.get(f"own{i}", {}).get("cells", {}), SCORE_CELLS)
        ranks |= {(cls, True): own, (cls, False): whole - own}
    return {side: cells for side, cells in ranks.items() if cells.any()}


# --- pieces ---------------------------------------------------------------------------------------


def _buckets(aggregation: Json) -> list[Json]:
    """`filter_path` drops objects that it has emptied, so every step may be absent."""
    buckets: list[Json] = aggregation.get("buckets", [])
    return buckets


def _value(count: Json) -> int:
    return int(count.get("value") or 0)


def _exact(total: Json) -> int:
    value = int(total["value"])
    if value >= _EXACT:
        raise KedgeError("a bucket has too many rows to tell its changes apart: use a finer bucket")
    return value


def _counts(cells: Json, size: int) -> Counts:
    buckets = _buckets(cells)
    if not buckets:
        return np.zeros(size, np.int64)
    if len(buckets) != size:
        raise KedgeError(f"the server answered {len(buckets)} cells of {size}")
    return np.array([bucket["doc_count"] for bucket in buckets], np.int64)


def _scores_by_class(classes: Json) -> dict[str, Counts]:
    _whole(classes, f"the model predicts more than {MOST_CLASSES} classes")
    scores: dict[str, Counts] = {}
    for bucket in _buckets(classes):
        cells = np.zeros(SCORE_CELLS + 1, np.int64)
        for cell in _buckets(bucket.get("scores", {})):
            # The key is floor(p / width) * width in doubles; 1.0 shares the last cell.
            cells[min(round(cell["key"] / SCORE_WIDTH), SCORE_CELLS - 1)] += cell["doc_count"]
        cells[SCORE_CELLS] = bucket["doc_count"] - cells.sum()
        scores[bucket["key"]] = cells
    return scores


def _moments(stats: Json) -> Moments:
    """From `extended_stats`, whose sums are compensated (Kahan), but whose variance is a difference of
    squares.

    So m2 is within about n * mean^2 * 2^-51 of the truth: nine digits of the variance while the mean is
    under a hundred standard deviations, none beyond ten million. Neither server has a stable variance
    without scripts (`matrix_stats` is a module that many builds lack). A constant column, where it shows,
    is given its true zero.
    """
    n = int(stats.get("count") or 0)
    if not n:
        return Moments.ZERO
    low, high = float(stats["min"]), float(stats["max"])
    if low == high:
        return Moments(n, low, 0.0, low, high)
    mean = float(stats["sum"]) / n
    variance = stats.get("variance_population", stats.get("variance"))
    m2 = float(variance) * n if isinstance(variance, int | float) and math.isfinite(variance) else 0.0
    return Moments(n, mean, max(m2, 0.0), low, high)


def _absolute(signs: Json) -> Moments:
    """Of absolute values, from the stats of those under 0 and of the others."""
    sides = [_moments(side.get("of", {})) for side in _buckets(signs)]
    if not sides:
        return Moments.ZERO
    negative, other = sides
    return -negative + other


def _whole(terms: Json, complaint: str) -> None:
    """Terms beyond the size asked for are an error, never left out in silence."""
    if terms.get("sum_other_doc_count"):
        raise KedgeError(complaint)
