"""Rows to look at behind a finding of data quality or drift: those in which a feature is as it was found
to be, and its values there; and rows that arrived badly."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from kedge.alerting.rule import DIMENSIONS
from kedge.analysis.quality import Kind, counts_of, feature_names
from kedge.errors import BadInput
from kedge.pipeline.arrived import ids_in
from kedge.pipeline.baselines import baseline_in_use
from kedge.pipeline.context import Pipeline
from kedge.pipeline.feed import load_feed
from kedge.pipeline.query import model_feed
from kedge.sketch import CategoricalEdges, Core, Edges, NumericEdges, PartName
from kedge.store.base import OTHER, Group, Json
from kedge.store.flaws import OF_ARRIVAL, Flaw, Problem
from kedge.windows import Millis, Window, ceil, floor

MOST_ROWS = 1_000
"""Rows that are read, of which the values are counted."""
MOST_VALUES = 10


def examples_of(
    pipe: Pipeline,
    model: str,
    feature: str | None,
    problem: str,
    start: Millis,
    end: Millis,
    limit: int,
    *,
    cell: str | None = None,
    group: Sequence[str] = (),
) -> Json:
    """{"examples": the newest `limit` rows, "values": [{"value", "rows"}] the commonest bad values among the
    newest MOST_ROWS, "of": rows that were read}. A missing value is none, and is not listed.

    `cell` names the cell of the problem `cell`; `group` are `DIMENSION=VALUE` that rows must have. Of the
    problems of arrival, which are of no feature, there are rows as far as gateways kept their ids.
    """
    if problem not in list(Problem):
        raise BadInput(f'unknown problem "{problem}" (known: {", ".join(Problem)})')
    window, wanted = Window(start, end), Problem(problem)
    if (wanted in OF_ARRIVAL) is (feature is not None):
        raise BadInput(f"{problem} is of no feature" if feature else "name the feature that is meant")
    if feature is None:
        if cell is not None:
            raise BadInput(f"{problem} is of no cell")
        flaw = Flaw("", wanted, ids=tuple(ids_in(pipe.store.state, model, window, wanted)))
    else:
        flaw = _flaw(pipe, model, feature, wanted, window, cell)
    flaw = replace(flaw, group=_group_of(group))
    rows = pipe.store.examples(model, window, MOST_ROWS, flaw)
    values = Counter(value for row in rows if feature and (value := _value(row, feature)) is not None)
    ranked = sorted(values.items(), key=lambda item: (-item[1], str(item[0])))[:MOST_VALUES]
    return {
        "examples": rows[: max(0, min(limit, MOST_ROWS))],
        "values": [{"value": value, "rows": n} for value, n in ranked],
        "of": len(rows),
    }


def _group_of(given: Sequence[str]) -> Group:
    """Rows counted as `(other)` have values that are not known apart: there the dimension is left open."""
    pairs = []
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not (name in DIMENSIONS or name.startswith("segment.")):
            allowed = ", ".join((*DIMENSIONS, "segment.NAME"))
            raise BadInput(f'"{text}" is not a group (write DIMENSION=VALUE, of {allowed})')
        if value != OTHER:
            pairs.append((name, value))
    return tuple(pairs)


def _flaw(
    pipe: Pipeline, model: str, feature: str, wanted: Problem, window: Window, cell: str | None = None
) -> Flaw:
    known = model_feed(pipe, model)
    baseline = baseline_in_use(pipe.store.state, model)
    edges = baseline.edges if baseline else None
    reader = pipe.reading(load_feed(pipe.store.state))
    span = Window(floor(window.start, known.base), ceil(window.end, known.base))
    summary = reader.window(model, known.base, span, frozenset({PartName.CORE}), ()).get(())
    core = summary.core if summary is not None and summary.core is not None else Core()
    if feature not in feature_names(core, edges, {}):
        raise BadInput(f'model {model} has no feature "{feature}" there')
    numeric = counts_of(core, feature, edges, {}).kind is Kind.NUMERIC
    frozen = edges.features.get(feature) if edges else None
    if wanted in (Problem.UNSEEN, Problem.OUT_OF_RANGE):
        if frozen is None:
            raise BadInput(f"{wanted} is told against a baseline, and {model} has none with {feature}")
        if numeric is (wanted is Problem.UNSEEN):
            raise BadInput(f"{feature} is {'numeric' if numeric else 'categorical'}: {wanted} is not for it")
    if (wanted is Problem.CELL) is (cell is None):
        raise BadInput("name the cell that is meant" if cell is None else f"{wanted} is of no cell")
    if cell is not None:
        if frozen is None:
            raise BadInput(f"cells are those of a baseline, and {model} has none with {feature}")
        return Flaw(feature, wanted, isinstance(frozen, NumericEdges), _cell_of(feature, frozen, cell))
    return Flaw(feature, wanted, numeric, frozen)


def _cell_of(feature: str, edges: Edges, cell: str) -> Edges:
    """The cell of a name alone: numbers that are alike to six digits share one, and are taken together."""
    held = [i for i, name in enumerate(edges.names) if name == cell]
    if isinstance(edges, NumericEdges):
        inner = [i for i in held if 0 < i < len(edges.edges)]
        if inner:
            return NumericEdges((edges.edges[inner[0] - 1], edges.edges[inner[-1]]))
    elif held and held[0] < len(edges.values):
        return CategoricalEdges((cell,))
    elif held and held[0] == len(edges.values):
        return CategoricalEdges((), edges.others)
    raise BadInput(f'the baseline has no cell "{cell}" of {feature} (it may be another one by now)')


def _value(row: Json, feature: str) -> str | float | None:
    features: Json = row.get("features", {})
    for kind in ("cat", "num"):
        value: str | float | None = features.get(kind, {}).get(feature)
        if value is not None:
            return value
    return None
