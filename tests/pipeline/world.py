"""A small world for the pipeline's tests: rows that can be made again, a pipeline, and the oracle beside it.

What a pipeline has stored is compared with plain Python over the rows that were sent. Nothing here runs a
process: a crash is an exception that no code of the pipeline catches.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from ingest.service import IngestService
from kedge.alerting.finding import AlertState
from kedge.alerting.loading import RuleBook, parse_rules
from kedge.analysis.measure import measure
from kedge.clock import Clock
from kedge.config import Settings
from kedge.notify.base import Message, Receipt
from kedge.notify.receivers import Receivers
from kedge.pipeline import changes, deliver, evaluate, faults, feed, summarise
from kedge.pipeline import tick as tick_module
from kedge.pipeline.baselines import baseline_in_use, build_baseline, import_baseline
from kedge.pipeline.context import Pipeline, groupings_of, settings_of
from kedge.pipeline.feed import load_feed
from kedge.pipeline.groups import document_name, fold, values_in
from kedge.pipeline.measure import FEATURE_ROWS, context_for, metric_docs
from kedge.pipeline.reader import SummaryReader
from kedge.pipeline.schema import features_of
from kedge.pipeline.summaries import bucket_summary
from kedge.pipeline.tick import TickReport, drain, tick
from kedge.records import Label, Prediction
from kedge.sketch import AnyPart, PartName
from kedge.store.base import EPOCH_SHIFT, Group, MetricDoc, PartRow, Store, SummaryKey, SummaryRequest
from kedge.store.duckdb import open_duckdb
from kedge.store.elastic import open_elastic
from kedge.windows import DAY, HOUR, Millis, Window, tiers_from
from tests.support.oracle import answer_to
from tests.support.servers import remove_all
from tests.support.stored import stored_parts

T0: Millis = 1_790_000_000_000 - 1_790_000_000_000 % DAY
"""Midnight of a day; everything happens from here on."""
MODEL = "fraud"
ALL_TIME = Window(T0 - 400 * DAY, T0 + 400 * DAY)

RULES = """
version: 1
defaults: {model: "*", window: 2m}
rules:
  - {name: busy, metric: volume.count, above: {medium: 12, high: 20}, evidence: point}
  - {name: failing, metric: errors.rate, by: [segment.region], above: 30%, for: 1m, evidence: point}
  - {name: wrong, metric: performance.accuracy, below: 60%, evidence: point}
"""
BY_PLAN = """
version: 1
defaults: {model: "*"}
rules:
  - {name: failing-plan, metric: errors.rate, window: 5m, by: [segment.plan], above: 30%, evidence: point}
"""


def prediction(i: int, at: Millis, *, failed: bool | None = None) -> Prediction:
    """The i-th row: the same number is always the same row, of all kinds of content."""
    probability = (i * 37 % 100) / 100
    failed = i % 7 == 3 if failed is None else failed
    return Prediction(
        id=f"row-{i:05d}",
        timestamp=at,
        ingested=at + 1_000,
        model=MODEL,
        version="v2" if i % 5 == 0 else "v1",
        cls="fraud" if probability > 0.5 else "ok",
        probability=max(probability, 1 - probability),
        probabilities={"fraud": probability, "ok": 1 - probability},
        entropy=0.1 * (i % 6),
        num={"amount": float(i % 50) + 0.1} if i % 11 else {},
        attributions={"amount": float(i % 7) - 3.0} if i % 5 else {},
        cat={"country": ("de", "fr", "it")[i % 3]} | ({"channel": "web"} if i % 13 == 0 else {}),
        segment={"region": "eu" if i % 4 else "us", "plan": ("free", "paid")[i % 2]},
        latency_ms=float(5 + i % 90),
        error_type="Timeout" if failed else None,
    )


def truth(row_id: str, at: Millis, *, right: bool = True) -> Label:
    """A label of a row; what is right is decided by the row's number."""
    i = int(row_id.removeprefix("row-"))
    fraud = ((i * 37 % 100) / 100 > 0.5) == right
    return Label(id=row_id, timestamp=at, ingested=at + 500, cls="fraud" if fraud else "ok")


class Crash(BaseException):
    """The process is gone. No `except Exception` of the code under test may take it for an error."""


class Notebook:
    """A receiver that writes down what it is told."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, message: Message, *, thread: dict[str, str] | None = None, again: bool = False) -> Receipt:
        if not (again and any(m.transition == message.transition for m in self.messages)):
            self.messages.append(message)
        return Receipt("notebook", {"thread": message.incident})


def settings(**models: Any) -> Settings:
    return Settings.model_validate({"store": "duckdb::memory:", "models": models})


@dataclass
class World:
    """One store with everything sent to it; pipelines over it come and go."""

    book: RuleBook = field(default_factory=lambda: parse_rules(RULES))
    settings: Settings = field(default_factory=settings)
    sole_writer: bool = False
    open_store: Callable[[Clock], Store] = lambda clock: open_duckdb(":memory:", clock=clock)
    notebook: Notebook = field(default_factory=Notebook)
    store: Store = field(init=False)
    rows: dict[str, Prediction] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    now: Millis = T0
    pipe: Pipeline = field(init=False)
    _workers: int = 0

    def __post_init__(self) -> None:
        assert not self.book.problems
        store = self.open_store(lambda: self.now)
        store.setup()
        self.store = store
        self.service = IngestService(store, store.state, lambda: self.now)
        self.pipe = self.worker()

    def close(self) -> None:
        self.store.close()

    def worker(self) -> Pipeline:
        """A worker that knows nothing but the store."""
        self._workers += 1
        receivers = Receivers({"notebook": self.notebook}, "notebook")
        return Pipeline(
            self.store,
            self.settings,
            lambda: self.book,
            receivers,
            f"worker-{self._workers}",
            sole_writer=self.sole_writer,
            wall=lambda: self.now,
        )

    def restart(self) -> None:
        self.pipe = self.worker()

    # --- what happens to it

    def send(self, rows: Sequence[Prediction]) -> None:
        answer = self.service.store_predictions(rows)
        assert answer.rejected == 0, answer.rejections
        for row in rows:
            self.rows.setdefault(row.id, row)

    def label(self, labels: Sequence[Label]) -> None:
        self.service.store_labels(labels)
        for label in labels:
            known = self.labels.get(label.id)
            if known is None or known.rank < label.rank:
                self.labels[label.id] = label

    def tick(self, now: Millis | None = None, *, lease: Millis = 0) -> TickReport:
        self.now = max(self.now, now or self.now)
        return tick(self.pipe, self.now if now is None else now, lease=lease)

    def drain(self, now: Millis | None = None) -> list[TickReport]:
        self.now = max(self.now, now or self.now)
        return drain(self.pipe, self.now)

    def settle(self, now: Millis, *more: Millis) -> None:
        """Run on past every back-off until nothing is left to do."""
        for at in (now, *more):
            self.drain(at)

    def reading(self, longest: Millis | None = None) -> SummaryReader:
        """A reader that knows nothing but the store."""
        reader = self.worker().reading(load_feed(self.store.state))
        reader.longest = longest
        return reader

    # --- what is stored, and what should be

    def labelled_rows(self) -> list[Prediction]:
        return [msgspec.structs.replace(row, label=self.labels.get(row.id)) for row in self.rows.values()]

    def stored_parts(self, tier: Millis) -> dict[SummaryKey, AnyPart]:
        baseline = baseline_in_use(self.store.state, MODEL)
        edges = baseline.edges.hash if baseline else ""
        rows = stored_parts(self.store, MODEL, tier, ALL_TIME, tuple(PartName), edges=edges)
        wanted = set(groupings_of(self.pipe, self.book, MODEL))
        return {row.key: row.part for row in rows if row.key.grouping in wanted}

    def expected_parts(self, tier: Millis) -> dict[SummaryKey, AnyPart]:
        baseline = baseline_in_use(self.store.state, MODEL)
        features = features_of(self.store.state, MODEL)
        request = SummaryRequest(
            model=MODEL,
            window=ALL_TIME,
            bucket=tier,
            parts=frozenset(PartName),
            groupings=groupings_of(self.pipe, self.book, MODEL),
            edges=baseline.edges if baseline else None,
            numeric=features.numeric,
            categorical=features.categorical,
            invalid=features.invalid,
            attributions=features.attributions,
            probabilities=features.ranked,
        )
        counted = answer_to(request, self.labelled_rows())
        values = values_in(self.store.state.get(document_name(MODEL)))
        folded = fold([PartRow(key, 1 << EPOCH_SHIFT, part) for key, part in counted.items()], values)
        return {row.key: row.part for row in folded}

    def expected_metrics(self, tier: Millis) -> dict[tuple[Group, Millis, str], Mapping[str, Any]]:
        baseline = baseline_in_use(self.store.state, MODEL)
        wanted = frozenset(PartName) if baseline else frozenset({PartName.CORE, PartName.LABELS})
        held: dict[tuple[Group, Millis], dict[PartName, AnyPart]] = {}
        for key, part in self.expected_parts(tier).items():
            held.setdefault((key.group, key.bucket), {})[key.part] = part
        docs: list[MetricDoc] = []
        for (group, bucket), parts in held.items():
            summary = bucket_summary(parts, wanted)
            context = context_for(settings_of(self.pipe, MODEL), baseline, group, tier)
            features = tier >= HOUR and summary.rows >= FEATURE_ROWS
            reads_labels = None if tier >= HOUR else False
            found = measure(summary, context, features=features, reads_labels=reads_labels)
            docs += metric_docs(MODEL, group, Window(bucket, bucket + tier), 0, found)
        return by_key(docs)

    def stored_metrics(self, tier: Millis) -> dict[tuple[Group, Millis, str], Mapping[str, Any]]:
        wanted = set(groupings_of(self.pipe, self.book, MODEL))
        docs = self.store.read_metrics(MODEL, tier, ALL_TIME)
        return by_key(d for d in docs if tuple(name for name, _ in d.group) in wanted)

    def use_baseline(self, window: Window, source: str) -> None:
        """A baseline of the rows of a window, for all groups of the rules."""
        known = features_of(self.store.state, MODEL)
        groupings = groupings_of(self.pipe, self.book, MODEL)
        made = build_baseline(self.store, MODEL, window, known, groupings, source=source, now=self.now)
        import_baseline(self.store.state, made, use=True)

    def assert_exact(self) -> None:
        """The law of DESIGN §6: what is stored is what the rows say, at every tier. Labels are stored from
        the hour on."""
        known = load_feed(self.store.state).models[MODEL]
        lag = settings_of(self.pipe, MODEL).lag
        assert not known.dirty
        assert not known.history
        for tier in tiers_from(known.base):

            def over(start: Millis, tier: Millis = tier) -> bool:
                return start + tier + lag <= self.now

            for due in (known.pending.get(tier, {}), known.labels.get(tier, {})):
                assert not any(over(start) for start in due), f"{tier} ms: due, and not done"
            expected = {
                key: part
                for key, part in self.expected_parts(tier).items()
                if over(key.bucket) and (tier >= HOUR or key.part is not PartName.LABELS)
            }
            assert_same(self.stored_parts(tier), expected, f"parts of {tier} ms")
            metrics = {key: doc for key, doc in self.expected_metrics(tier).items() if over(key[1])}
            assert_same(self.stored_metrics(tier), metrics, f"metrics of {tier} ms")

    def alerts(self) -> dict[str, AlertState]:
        return {n: msgspec.convert(s.value, AlertState) for n, s in self.store.alerts.find().items()}

    def alert(self, rule: str, **group: str) -> AlertState:
        (found,) = [s for s in self.alerts().values() if s.rule == rule and s.group == group]
        return found

    def events(self) -> list[dict[str, Any]]:
        """Transitions in order, without the wall clock of who decided them."""
        events = [
            {k: v for k, v in s.value.items() if k != "decided"} for s in self.store.events.find().values()
        ]
        return sorted(events, key=lambda e: (e["step"], e["alert"], e["id"]))


def by_key(docs: Iterable[MetricDoc]) -> dict[tuple[Group, Millis, str], Mapping[str, Any]]:
    return {(d.group, d.window.start, d.feature): d.values for d in docs}


@contextmanager
def world(**given: Any) -> Iterator[World]:
    one = World(**given)
    try:
        yield one
    finally:
        one.close()


@contextmanager
def world_on(request: pytest.FixtureRequest, where: str, **given: Any) -> Iterator[World]:
    """A world in `duckdb`, or on a server: `elasticsearch`, `opensearch`."""
    if where == "duckdb":
        with world(**given) as one:
            yield one
        return
    url, prefix = request.getfixturevalue(f"{where}_url"), f"kedge-world-{uuid4().hex[:10]}"
    try:
        opened = partial(open_elastic, url, prefix=prefix)
        with world(open_store=lambda clock: opened(clock=clock), **given) as one:
            yield one
    finally:
        remove_all(url, prefix)


@contextmanager
def crash_at(point: str | None = None, *, after: int = 0) -> Iterator[list[str]]:
    """Die at the fault point `point` (any, where None) once `after` of them were passed; gives those passed.

    `after` of -1 lets it live.
    """
    passed: list[str] = []

    def reach(name: str) -> None:
        assert name in faults.POINTS
        if point in (None, name):
            if len(passed) == after:
                raise Crash(name)
            passed.append(name)

    with pytest.MonkeyPatch.context() as patch:
        for module in (tick_module, feed, summarise, evaluate, changes, deliver):
            patch.setattr(module, "reach", reach)
        yield passed


def assert_same(stored: Any, expected: Any, where: str) -> None:
    """Equal: counts, least and greatest exactly, other floats to 1e-9 (relative)."""
    if isinstance(expected, Mapping):
        missing, extra = expected.keys() - stored.keys(), stored.keys() - expected.keys()
        assert not missing, f"{where}: not stored: {sorted(map(str, missing))[:5]}"
        assert not extra, f"{where}: stored, and should not be: {sorted(map(str, extra))[:5]}"
        for key, value in expected.items():
            assert_same(stored[key], value, f"{where}: {key}")
    elif isinstance(expected, np.ndarray):
        assert np.array_equal(stored, expected), f"{where}: {stored} is not {expected}"
    elif isinstance(expected, float):
        close = stored is not None and math.isclose(stored, expected, rel_tol=1e-9, abs_tol=1e-9)
        assert close or (math.isnan(expected) and math.isnan(stored)), f"{where}: {stored} is not {expected}"
    elif isinstance(expected, tuple | list):
        assert len(stored) == len(expected), where
        for i, (a, b) in enumerate(zip(stored, expected, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    elif hasattr(expected, "low") and hasattr(expected, "m2"):
        assert (stored.n, stored.low, stored.high) == (expected.n, expected.low, expected.high), where
        assert_same(stored.mean, expected.mean, f"{where}.mean")
        assert_same(stored.m2, expected.m2, f"{where}.m2")
    elif hasattr(expected, "__dataclass_fields__"):
        assert type(stored) is type(expected), where
        for name in expected.__dataclass_fields__:
            assert_same(getattr(stored, name), getattr(expected, name), f"{where}.{name}")
    else:
        assert stored == expected, f"{where}: {stored!r} is not {expected!r}"


def rule_folder(path: Path, text: str = RULES) -> Path:
    folder = path / "rules"
    folder.mkdir(exist_ok=True)
    (folder / "rules.yml").write_text(text)
    return folder
