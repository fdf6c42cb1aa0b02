"""Months of summaries that were never logged: hours of a model with groups, features and labels."""

from collections.abc import Iterator

import numpy as np

from kedge.pipeline.baselines import Baseline
from kedge.pipeline.summaries import roll_up
from kedge.sketch import (
    DELAY,
    LATENCY,
    SCORE_CELLS,
    AnyPart,
    Cells,
    Core,
    EdgeSet,
    Labels,
    Moments,
    PartName,
    Summary,
    numeric_edges,
)
from kedge.store.base import Group, PartRow, SummaryKey
from kedge.windows import DAY, HOUR, Millis, Window

MODEL = "fraud"
REGIONS = ("eu", "us", "asia")
FEATURES = 25
GROUPINGS = ((), ("segment.region",))
_LATENCIES = LATENCY.count(np.random.default_rng(1).lognormal(3.4, 0.5, 100_000)) / 100_000
_DELAYS = DELAY.count(np.random.default_rng(2).exponential(2 * HOUR, 100_000)) / 100_000


def edges() -> EdgeSet:
    found = numeric_edges(np.linspace(0, 1, 21))
    assert found is not None
    return EdgeSet({f"f{i:02}": found for i in range(FEATURES)})


class History:
    """`days` of hours before `end`, about `rows` rows an hour and region; nothing happens but noise."""

    def __init__(self, end: Millis, days: int, rows: int = 1_000, seed: int = 7) -> None:
        self.window = Window(end - days * DAY, end)
        self._rows = rows
        self._rng = np.random.default_rng(seed)
        self._edges = edges()

    def rows(self) -> list[PartRow]:
        """The parts of every hour and day, of all rows and by region."""
        hours = [row for bucket in range(*self.window, HOUR) for row in self._hour(bucket)]
        return [*hours, *roll_up(hours, DAY)]

    def baseline(self) -> Baseline:
        """Of a week like any other."""
        parts = [dict(self._parts(self._rows * 168)) for _ in REGIONS]
        summaries: dict[Group, Summary] = {}
        for region, held in zip(REGIONS, parts, strict=True):
            summaries[(("segment.region", region),)] = _summary(held)
        total = parts[0]
        for held in parts[1:]:
            total = {name: total[name] + held[name] for name in total}  # type: ignore[operator]
        summaries[()] = _summary(total)
        window = Window(self.window.start - 14 * DAY, self.window.start - 7 * DAY)
        return Baseline("b" * 16, MODEL, window.end, "bench", window, self._edges, summaries)

    def _hour(self, bucket: Millis) -> Iterator[PartRow]:
        daily = 1 + 0.5 * np.sin(2 * np.pi * (bucket % DAY) / DAY)
        total: dict[PartName, AnyPart] = {}
        for region in REGIONS:
            parts = dict(self._parts(int(self._rng.poisson(self._rows * daily))))
            for name, part in parts.items():
                total[name] = total[name] + part if name in total else part  # type: ignore[operator]
                yield self._row((("segment.region", region),), bucket, name, part)
        for name, part in total.items():
            yield self._row((), bucket, name, part)

    def _row(self, group: Group, bucket: Millis, name: PartName, part: AnyPart) -> PartRow:
        edges = self._edges.hash if name is PartName.CELLS else ""
        return PartRow(SummaryKey(MODEL, group, HOUR, bucket, name, edges), 1, part)

    def _parts(self, n: int) -> Iterator[tuple[PartName, AnyPart]]:
        rng = self._rng
        fraud = int(rng.binomial(n, 0.1))
        scores = {
            name: rng.multinomial(k, [0.0] * 50 + [0.02] * 50 + [0.0])
            for name, k in (("fraud", fraud), ("ok", n - fraud))
        }
        mean = 0.75 + float(rng.normal(0, 0.002))
        spread = Moments(n, mean, 0.02 * n, 0.5, 1.0)
        yield (
            PartName.CORE,
            Core(
                rows=n,
                errors=int(rng.binomial(n, 0.005)),
                latency=rng.multinomial(n, _LATENCIES),
                latency_ms=Moments(n, 34.0 + float(rng.normal(0, 0.5)), 400.0 * n, 2.0, 900.0),
                scores=scores,
                confidence=spread,
                entropy=spread,
                numeric={
                    name: Moments(n - n // 100, 0.5, 0.08 * n, 0.0, 1.0) for name in self._edges.features
                },
            ),
        )
        yield (
            PartName.CELLS,
            Cells(
                {
                    name: (e.hash, np.array([0, *rng.multinomial(n, [0.05] * 20), 0, 0], np.int64))
                    for name, e in self._edges.features.items()
                }
            ),
        )
        pairs = dict(
            zip(
                (("fraud", "fraud"), ("fraud", "ok"), ("ok", "fraud"), ("ok", "ok")),
                rng.multinomial(n, [0.08, 0.02, 0.02, 0.88]).tolist(),
                strict=True,
            )
        )
        yield (
            PartName.LABELS,
            Labels(
                rows=n,
                scores={
                    pair: rng.multinomial(k, [1 / SCORE_CELLS] * SCORE_CELLS + [0])
                    for pair, k in pairs.items()
                },
                log_loss=Moments(n, 0.2, 0.1 * n, 0.0, 4.0),
                brier=Moments(n, 0.1, 0.05 * n, 0.0, 1.0),
                delay=rng.multinomial(n, _DELAYS),
            ),
        )


def _summary(parts: dict[PartName, AnyPart]) -> Summary:
    core, cells, labels = (parts[name] for name in (PartName.CORE, PartName.CELLS, PartName.LABELS))
    assert isinstance(core, Core)
    assert isinstance(cells, Cells)
    assert isinstance(labels, Labels)
    return Summary(core, cells, labels)
