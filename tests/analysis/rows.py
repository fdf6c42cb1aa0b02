"""Rows of made-up models, in the shapes that the metrics are for, and the Summary that they boil down to."""

import numpy as np

from kedge.records import Label, Prediction
from kedge.sketch import EdgeSet, Summary, categorical_edges, numeric_edges
from tests.support.oracle import summary_of

GRID = np.linspace(0, 1, 21)


def classified(predicted, actual, confidence=None, **fields) -> list[Prediction]:
    """One row per (predicted, actual) pair; an actual of None has no label."""
    confidence = [None] * len(predicted) if confidence is None else confidence
    return [
        Prediction(
            id=str(i),
            timestamp=1_000 * i,
            ingested=0,
            model="m",
            cls=cls,
            probability=p,
            label=None if truth is None else Label(id=str(i), timestamp=0, ingested=0, cls=truth),
            **fields,
        )
        for i, (cls, truth, p) in enumerate(zip(predicted, actual, confidence, strict=True))
    ]


def scored(probabilities, actual) -> list[Prediction]:
    """Rows with the probability of each class, predicting the likeliest."""
    return [
        Prediction(
            id=str(i),
            timestamp=0,
            ingested=0,
            model="m",
            cls=max(shares, key=shares.get),
            probability=max(shares.values()),
            probabilities=shares,
            label=Label(id=str(i), timestamp=0, ingested=0, cls=truth),
        )
        for i, (shares, truth) in enumerate(zip(probabilities, actual, strict=True))
    ]


def regressed(predicted, actual) -> list[Prediction]:
    return [
        Prediction(
            id=str(i),
            timestamp=0,
            ingested=0,
            model="m",
            value=float(value),
            label=Label(id=str(i), timestamp=0, ingested=0, value=float(truth)),
        )
        for i, (value, truth) in enumerate(zip(predicted, actual, strict=True))
    ]


def featured(num=None, cat=None) -> list[Prediction]:
    """Rows from columns by name; None is missing."""
    num, cat = num or {}, cat or {}
    n = len(next(iter([*num.values(), *cat.values()])))
    return [
        Prediction(
            id=str(i),
            timestamp=0,
            ingested=0,
            model="m",
            num={f: float(c[i]) for f, c in num.items() if c[i] is not None},
            cat={f: str(c[i]) for f, c in cat.items() if c[i] is not None},
        )
        for i in range(n)
    ]


def edges_of(rows: list[Prediction]) -> EdgeSet:
    """Edges from all that the rows hold."""
    numeric: dict[str, list[float]] = {}
    categorical: dict[str, dict[str, int]] = {}
    for row in rows:
        for name, value in row.num.items():
            numeric.setdefault(name, []).append(value)
        for name, text in row.cat.items():
            counts = categorical.setdefault(name, {})
            counts[text] = counts.get(text, 0) + 1
    held = {name: numeric_edges(np.quantile(np.float32(column), GRID)) for name, column in numeric.items()}
    held |= {name: categorical_edges(counts.items()) for name, counts in categorical.items()}
    return EdgeSet({name: edges for name, edges in sorted(held.items()) if edges is not None})


def summarised(rows: list[Prediction], edges: EdgeSet | None = None) -> Summary:
    return summary_of(rows, edges)
