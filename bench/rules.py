"""Loading thousands of rule files' rules, and judging thousands of rules on summaries that are in hand."""

import cProfile
import pstats
import time
from collections.abc import Iterator

from bench.history import History
from bench.targets import at_most
from kedge.alerting.inputs import Inputs
from kedge.alerting.loading import RuleBook, parse_files
from kedge.sketch import Summary
from kedge.windows import HOUR, Window

LOADED, LOADING = 2_000, 2.0
JUDGED, GROUPS, JUDGING = 10_000, 10, 2.0
NOW = 1_790_000 * HOUR
A_FILE = 50
_THRESHOLDS = (
    ("latency.p95", "above: {{medium: {0}ms, high: 2s}}"),
    ("latency.p99", "above: {0}ms"),
    ("errors.rate", "above: {0}%"),
    ("volume.count", "below: {0}"),
    ("confidence.mean", "compare: {{to: baseline}}\n  fall: {0}%"),
    ("class.share", "class: fraud\n  compare: {{to: baseline}}\n  change: {0}pp"),
    ("performance.recall", "class: fraud\n  compare: {{to: baseline}}\n  fall: {0}%\n  min_count: 50"),
    ("performance.accuracy", "below: {1}%"),
)
"""In the form that people write them: a field a line. Bounds differ from rule to rule."""


def files(count: int) -> dict[str, str]:
    """Rule files of 50 rules each, by name."""
    rules = [
        f"- name: rule-{i}\n  metric: {metric}\n  window: 1h\n  by: [segment.region]\n  for: 10m\n  "
        + bounds.format(10 + i // 8 % 50, 90 - i // 8 % 50)
        + f"\n  runbook: https://wiki.example/rule-{i}\n  description: What it means when this fires.\n"
        for i, (metric, bounds) in ((i, _THRESHOLDS[i % len(_THRESHOLDS)]) for i in range(count))
    ]
    head = "version: 1\ndefaults: {model: fraud, notify: ml-oncall}\nrules:\n"
    return {f"r{i // A_FILE}.yml": head + "".join(rules[i : i + A_FILE]) for i in range(0, count, A_FILE)}


def measure(*, profile: bool = False) -> dict[str, object]:
    """One process, one thread. All rules are judged at one step, of which the summary and the reference of
    each group are there: metrics, intervals, findings and their texts, for the fold to take. Reading
    summaries and storing alerts are left out; `backtest` has both. Seconds are those of the processor."""
    texts = files(LOADED)
    profiler = cProfile.Profile() if profile else None
    if profiler:
        profiler.enable()
    began = time.process_time()
    book = parse_files(texts)
    loading = time.process_time() - began
    book.raise_for_problems()
    many = parse_files(files(JUDGED)) if not profiler else book
    sides = list(_sides())
    began = time.process_time()
    found = sum(_judge(many, sides))
    judging = time.process_time() - began
    if profiler:
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(40)
    return {
        "loading": {
            "rules": len(book.rules),
            "files": len(texts),
            "seconds": at_most(loading, LOADING),
        },
        "judging": {
            "rules": len(many.rules),
            "groups": len(sides),
            "findings": found,
            "seconds": at_most(judging, JUDGING),
            "us_of_a_finding": round(judging / found * 1e6, 1),
        },
        "elastalert2_as_stated": "20 ms and one query a rule and run: 200 s for 10,000 rules",
    }


def _sides() -> Iterator[tuple[Summary, Summary]]:
    """A window and its reference, for each group."""
    history = History(NOW, 1)
    reference = history.baseline().summaries[()]
    for i in range(GROUPS):
        window = History(NOW, 1, seed=100 + i).baseline().summaries[()]
        yield window, reference


def _judge(book: RuleBook, sides: list[tuple[Summary, Summary]]) -> Iterator[int]:
    window = Window(NOW - HOUR, NOW)
    inputs = [
        Inputs(window, summary, reference, reference_name="baseline", groups=GROUPS)
        for summary, reference in sides
    ]
    for rule in book.rules:
        for one in inputs:
            yield len(rule.judge_all(one, NOW))
