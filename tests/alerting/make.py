"""Summaries and rules for the tests, in few words."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from kedge.alerting.finding import Finding
from kedge.alerting.inputs import Inputs
from kedge.alerting.loading import RuleBook, parse_rules
from kedge.alerting.rule import Rule
from kedge.sketch import (
    LATENCY,
    SCORE_CELLS,
    Cells,
    Core,
    Counts,
    EdgeSet,
    Labels,
    Moments,
    Summary,
    numeric_edges,
)
from kedge.windows import HOUR, Window

EXAMPLES = Path(__file__).parent / "examples"
NOW = 1_790_000 * HOUR


def rules(text: str) -> RuleBook:
    """A file of these rules, each on a line of flow YAML, with a model and a window of its own."""
    lines = "\n".join(f"- {line}" for line in text.strip().splitlines())
    return parse_rules(
        f"version: 1\ndefaults: {{model: fraud, window: 1h}}\nrules:\n{lines}\n", "rules/a.yml"
    )


def rule(text: str) -> Rule:
    book = rules("{name: it, " + text + "}")
    assert not book.problems, "\n".join(map(str, book.problems))
    return book.rules[0]


def find(text: str, summary: Summary | None, reference: Summary | None = None, **more: object) -> Finding:
    """What a rule with one alert finds on a summary."""
    inputs = Inputs(Window(NOW - HOUR, NOW), summary, reference, reference_name="baseline b1")
    ((labels, finding),) = rule(text).judge_all(replace(inputs, **more), NOW)  # type: ignore[arg-type]
    assert labels == {}
    return finding


def score_cells(n: int) -> Counts:
    counts = np.zeros(SCORE_CELLS + 1, np.int64)
    counts[90] = n
    return counts


def predicted(**classes: int) -> Summary:
    """Rows by predicted class."""
    scores = {name: score_cells(n) for name, n in classes.items()}
    return Summary(Core(rows=sum(classes.values()), scores=scores), Cells(), Labels())


def labelled(right: int, of: int) -> Summary:
    """`of` labelled rows, `right` of them predicted right."""
    scores = {("yes", "yes"): score_cells(right), ("yes", "no"): score_cells(of - right)}
    held = {pair: cells for pair, cells in scores.items() if cells.sum()}
    core = Core(rows=of, scores={"yes": score_cells(of)})
    return Summary(core, None, Labels(rows=of, scores=held))


def served(latencies: list[float]) -> Summary:
    return Summary(
        Core(rows=len(latencies), latency=LATENCY.count(latencies), latency_ms=Moments.of(latencies)),
        None,
        Labels(),
    )


def edges_of(*features: str) -> EdgeSet:
    """Five cells between 0 and 1 for each feature."""
    found = numeric_edges([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert found is not None
    return EdgeSet(dict.fromkeys(features, found))


def counted(edges: EdgeSet, **features: tuple[int, int, int, int, int]) -> Summary:
    """Rows by the five cells of each feature."""
    cells = {
        name: (edges.features[name].hash, np.array([0, *counts, 0, 0], np.int64))
        for name, counts in features.items()
    }
    rows = max(sum(counts) for counts in features.values())
    return Summary(Core(rows=rows), Cells(cells), Labels())
