"""Random predictions and labels, seeded, that go where stores differ: values exactly on edges, extremes of
float32, names with dots and in other scripts, features of two kinds, times on the border of a bucket.
"""

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from kedge.record_table import Floats, PredictionTable, Texts
from kedge.records import Label, Prediction
from kedge.sketch import LATENCY, CategoricalEdges, EdgeSet, NumericEdges
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window, parse_time

Kind = Literal["classification", "regression"]

START: Millis = parse_time("2026-11-23T21:00:00Z")
SPAN = Window(START, START + 6 * HOUR)
"""Where the rows lie: six hours over a UTC midnight."""

NUMERIC = ("age", "amount", "größe.über.null", "tiny", "huge", "zero", "mixed")
CATEGORICAL = ("merchant_type", "země", "a.b", "rare", "mixed")
INVALID = ("age", "merchant_type")
REGIONS = ("eu", "us", "Ωκεανία")


def _edge(value: float) -> float:
    return float(np.float32(value))


_AMOUNTS = tuple(_edge(v) for v in (0.1, 0.25, 1 / 3, 1.0, 2.5, 100.1))

EDGES = EdgeSet(
    {
        "age": NumericEdges(tuple(_edge(v) for v in range(18, 90, 4))),
        "amount": NumericEdges(_AMOUNTS),
        "größe.über.null": NumericEdges((-1.0, 0.0, 1.0)),
        "tiny": NumericEdges((_edge(1e-44), _edge(1e-42), _edge(1e-40))),
        "huge": NumericEdges((_edge(-3e38), 0.0, _edge(3e38))),
        "zero": NumericEdges((0.0, _edge(1e-45))),
        "mixed": NumericEdges((0.0, 5.0, 10.0)),
        "never": NumericEdges((0.0, 1.0)),
        "merchant_type": CategoricalEdges(("shop", "pub", "gas"), ("casino", "bank")),
        "země": CategoricalEdges(("česko", "日本"), ("",)),
        "a.b": CategoricalEdges(("x.y", " ", "0"), ("x",)),
        "rare": CategoricalEdges(("seldom",), ("very seldom",)),
        "nowhere": CategoricalEdges(("x",)),
    },
    value=NumericEdges((0.0, 15.0, 20.0, 25.0, 1e6)),
)
"""Edges that many of the values lie on; two of the features occur in no row."""

_NUMBERS = {
    "age": lambda r: float(r.randrange(10, 95)),
    "amount": lambda r: r.choice(
        (*_AMOUNTS, *map(_above, _AMOUNTS), *map(_below, _AMOUNTS), r.lognormvariate(0, 2))
    ),
    "größe.über.null": lambda r: r.choice((-1.0, -0.0, 0.0, 1.0, r.gauss(0, 1))),
    "tiny": lambda r: r.choice((1e-44, 1e-42, 1.3e-42, 1e-40, 1e-45, 2e-45)),
    "huge": lambda r: r.choice((3.4028234663852886e38, -3.4028234663852886e38, 3e38, -3e38, 1e20)),
    "zero": lambda r: r.choice((0.0, -0.0, 1e-45, -1e-45)),
    "mixed": lambda r: float(r.randrange(-1, 12)),
}
_TEXTS = {
    "merchant_type": ("shop", "pub", "gas", "casino", "bank", "circus", "Shop"),
    "země": ("česko", "日本", "日", ""),
    "a.b": ("x.y", "x", " ", "0", "0.0"),
    "rare": ("seldom", "very seldom", "never before"),
    "mixed": ("0", "5", "text"),
}
_LATENCIES = (0.0, 0.05, 1e7, *(float(edge) for edge in LATENCY.edges[[0, 1, 57, 200, 320]]))
_PROBABILITIES = (0.0, 0.01, 0.07, 0.28, 0.29, 0.57, 0.58, 0.99, 1.0)


def _above(value: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))


def _below(value: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(-np.inf)))


def random_rows(
    seed: int,
    count: int,
    *,
    model: str,
    kind: Kind = "classification",
    classes: int = 3,
    labelled: float = 0.4,
    window: Window = SPAN,
) -> list[Prediction]:
    """`count` rows of one model in time order, a share of them `labelled` when they come. Ids name model
    and seed.
    """
    r = random.Random(f"{seed} {kind} {classes}")
    names = ("no", "yes", "peut-être", "是")[:classes]
    rows = []
    for i, time in enumerate(sorted(_time(r, window) for _ in range(count))):
        row = _row(r, f"{model}-{seed}-{i:05d}", time, model)
        row = _classified(r, row, names) if kind == "classification" else _valued(r, row)
        if r.random() < labelled:
            row = msgspec.structs.replace(
                row, label=random_label(r, row, names if kind == "classification" else ())
            )
        rows.append(row)
    return rows


def _time(r: random.Random, window: Window) -> Millis:
    """Anywhere, or where a minute or an hour begins or ends."""
    time = r.randrange(window.start, window.end)
    if r.random() < 0.2:
        width = r.choice((MINUTE, HOUR))
        time = max(window.start, time // width * width - r.choice((0, 0, 1)))
    return time


def _row(r: random.Random, id: str, time: Millis, model: str) -> Prediction:
    failed = r.random() < 0.1
    numeric = {f: make(r) for f, make in _NUMBERS.items() if r.random() < 0.8}
    texts = {f: r.choice(v) for f, v in _TEXTS.items() if r.random() < 0.8 and f not in numeric}
    if r.random() < 0.8:
        texts.pop("rare", None)
    segment = {"region": r.choice(REGIONS), "plan.tier": r.choice(("free", "pro"))}
    return Prediction(
        id=id,
        timestamp=time,
        ingested=time + r.randrange(5000),
        model=model,
        version=r.choice(("v1", "v2", "")),
        num=numeric,
        cat=texts,
        invalid=tuple(f for f in INVALID if f not in numeric and f not in texts and r.random() < 0.5),
        segment={name: value for name, value in segment.items() if r.random() < 0.9},
        service=r.choice(("api", None)),
        host=r.choice(("a", "b")),
        trace=r.choice((None, f"trace {id}")),
        latency_ms=r.choice((None, *_LATENCIES, *(r.lognormvariate(3, 2) for _ in range(6)))),
        error_type="Timeout" if failed and r.random() < 0.7 else None,
        error_message="it took too long" if failed else None,
        attributions={f: r.gauss(0, 1) for f in list(numeric)[:2]},
        resource={"gpu.share": r.random()},
        business={"cost": r.random()},
    )


def _classified(r: random.Random, row: Prediction, names: Sequence[str]) -> Prediction:
    if r.random() < 0.05:
        return row  # it failed before it had a class
    cls = r.choice(names)
    if r.random() < 0.1:
        return msgspec.structs.replace(row, cls=cls)
    probability = r.choice((*_PROBABILITIES, r.random()))
    others = [name for name in names if name != cls]
    shared = {name: (1 - probability) / len(others) for name in others}
    probabilities = {cls: probability, **shared} if r.random() < 0.9 else {}
    return msgspec.structs.replace(
        row,
        cls=cls,
        probability=probability,
        probabilities=probabilities,
        entropy=-sum(p * float(np.log(p)) for p in probabilities.values() if p > 0)
        if probabilities
        else None,
    )


def _valued(r: random.Random, row: Prediction) -> Prediction:
    return msgspec.structs.replace(row, value=r.choice((None, 0.0, r.gauss(20, 5), r.gauss(20, 5), 1e6)))


def random_label(r: random.Random, row: Prediction, names: Sequence[str]) -> Label:
    """Of a class, or of a value where there are no names; from an hour before its prediction to months
    after.
    """
    delay = r.choice((-HOUR, 0, 1, 1000, r.randrange(HOUR), r.randrange(DAY), r.randrange(100 * DAY)))
    return Label(
        id=row.id,
        timestamp=row.timestamp + delay,
        ingested=row.timestamp + max(delay, 0) + r.randrange(1000),
        cls=r.choice((*names, "unheard of")) if names else None,
        value=None if names else r.gauss(20, 5),
    )


def labels_for(rows: Sequence[Prediction], seed: int, *, share: float = 0.6, most: int = 3) -> list[Label]:
    """One to `most` labels for a share of the rows, corrections and ties in time among them, in any order."""
    r = random.Random(seed)
    labels = []
    for row in rows:
        if r.random() >= share:
            continue
        names = tuple(row.probabilities) or (("no", "yes") if row.value is None else ())
        first = random_label(r, row, names)
        labels.append(first)
        for _ in range(r.randrange(most)):
            later = random_label(r, row, names)
            tied = r.random() < 0.3
            labels.append(msgspec.structs.replace(later, timestamp=first.timestamp) if tied else later)
    r.shuffle(labels)
    return labels


def with_labels(rows: Iterable[Prediction], labels: Iterable[Label]) -> list[Prediction]:
    """The rows as they must end: each with the highest-ranking label, its own among them."""
    best: dict[str, Label] = {}
    for label in labels:
        if label.id not in best or best[label.id].rank < label.rank:
            best[label.id] = label
    ended = []
    for row in rows:
        found = [label for label in (row.label, best.get(row.id)) if label is not None]
        ended.append(
            msgspec.structs.replace(row, label=max(found, key=lambda label: label.rank)) if found else row
        )
    return ended


def table_of(rows: Sequence[Prediction]) -> PredictionTable:
    """Rows of one model, all ingested at one time and none with an invalid feature, as columns."""

    def floats(values: Iterable[float | None]) -> Floats:
        return np.array([math.nan if value is None else value for value in values], np.float64)

    def texts(values: Iterable[str | None]) -> Texts:
        listed = list(values)
        distinct = sorted({value for value in listed if value is not None})
        codes = [-1 if value is None else distinct.index(value) for value in listed]
        return Texts(np.array(codes, np.int32), distinct)

    def members(field: str) -> dict[str, list[Any]]:
        names = dict.fromkeys(name for row in rows for name in getattr(row, field))
        return {name: [getattr(row, field).get(name) for row in rows] for name in names}

    labels = [row.label for row in rows]
    return PredictionTable(
        model=rows[0].model,
        ingested=rows[0].ingested,
        ids=[row.id for row in rows],
        timestamps=np.array([row.timestamp for row in rows], np.int64),
        version=texts(row.version or None for row in rows),
        **{
            name: floats(getattr(row, name) for row in rows)
            for name in ("probability", "entropy", "value", "latency_ms")
        },
        **{
            name: texts(getattr(row, name) for row in rows)
            for name in ("cls", "service", "host", "trace", "error_type", "error_message")
        },
        **{
            field: {name: floats(values) for name, values in members(field).items()}
            for field in ("probabilities", "num", "attributions", "resource", "business")
        },
        **{
            field: {name: texts(values) for name, values in members(field).items()}
            for field in ("cat", "segment")
        },
        label_cls=texts(label.cls if label else None for label in labels),
        label_value=floats(label.value if label else None for label in labels),
        label_timestamps=np.array([label.timestamp if label else -1 for label in labels], np.int64),
    )
