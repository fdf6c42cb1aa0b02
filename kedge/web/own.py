"""`GET /metrics`: how kedge itself does, in the text format of Prometheus.

Nothing is counted here: each scrape asks what answers people and `kedge doctor` too. OWN lists all that there
can be, and is what docs/reference is written from.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kedge import __version__
from kedge.clock import Clock
from kedge.errors import KedgeError
from kedge.pipeline.context import Pipeline
from kedge.pipeline.own import MOST_MODELS, Own, own
from kedge.store.base import OTHER, Json

_log = logging.getLogger(__name__)


class OwnMetric(NamedTuple):
    name: str
    """A counter's ends in `_total`."""
    labels: tuple[str, ...]
    told: str

    @property
    def counts(self) -> bool:
        return self.name.endswith("_total")


BUILD = OwnMetric("kedge_build_info", ("version",), "1: the version that runs.")
_SINCE = "since this process started"
SERVER = (
    OwnMetric(
        "kedge_store_up",
        (),
        "1 if the store answered this scrape; else 0, and what is asked of it is left out.",
    ),
    OwnMetric("kedge_rules", (), "Rules in force, as this process reads the files."),
    OwnMetric("kedge_rule_problems", (), "Things wrong in the rule files (kedge rules check lists them)."),
    OwnMetric(
        "kedge_rule_file_broken",
        ("file",),
        "1 while a rule file has a problem and its edits take no effect; absent after.",
    ),
    OwnMetric(
        "kedge_notify_problems",
        (),
        "Things wrong in notify.yml (kedge notify check lists them); its last good version is in force.",
    ),
    OwnMetric(
        "kedge_notify_file_broken",
        ("file",),
        "1 while notify.yml has a problem and its edits take no effect; absent after.",
    ),
    OwnMetric("kedge_models", (), "Models that have logged."),
    OwnMetric(
        "kedge_models_folded",
        (),
        f"Models beyond the first {MOST_MODELS} by name: as model {OTHER} they show the worst of them.",
    ),
    OwnMetric(
        "kedge_model_summaries_behind_seconds",
        ("model",),
        "Since when rows may be there that are in no summary: the end and lag of the oldest bucket due, "
        "or else the last reading of the logs. About the interval of ticks where all is well.",
    ),
    OwnMetric(
        "kedge_model_judging_behind_seconds",
        ("model",),
        "For how long a step of a rule has been due. Without rules on labels and composites, which wait.",
    ),
    OwnMetric("kedge_model_buckets_due", ("model",), "Base buckets to be summarised, those of history too."),
    OwnMetric("kedge_logs_read_timestamp_seconds", (), "When ticks last read which logs had come."),
    OwnMetric(
        "kedge_alerts",
        ("state", "severity"),
        "Alerts by state, and by severity where they fire (else none).",
    ),
    OwnMetric(
        "kedge_outbox_messages",
        ("receiver", "state"),
        "Messages that are to be sent still (waiting), and those that were given up (failed).",
    ),
    OwnMetric("kedge_labels_waiting", (), "Labels whose prediction had not come by the last tick."),
    OwnMetric(
        "kedge_labels_expired_total",
        ("model",),
        "Labels that were given up since the beginning, by the model that they name (none: empty).",
    ),
    OwnMetric("kedge_tick_duration_seconds", (), "How long the last tick that ended took."),
    OwnMetric(
        "kedge_tick_end_timestamp_seconds",
        (),
        "When a tick last ran to its end: on a cluster any worker's, on DuckDB this process's.",
    ),
    OwnMetric("kedge_tick_failing", (), "1 while the last tick failed. Only where this process ticks."),
    OwnMetric(
        "kedge_gateways_silent", (), "Gateways that have said nothing for 15 minutes, and no farewell."
    ),
    OwnMetric("kedge_gateways_spooled_rows", (), "Rows that all gateways said last to hold in their spools."),
)
"""Of a process that answers questions."""
GATEWAY = (
    OwnMetric(
        "kedge_gateway_rows_total",
        (),
        f"Valid predictions taken {_SINCE}; without duplicates and the refused: accepted or spooled.",
    ),
    OwnMetric("kedge_gateway_duplicate_rows_total", (), "Those of them that were stored before."),
    OwnMetric("kedge_gateway_ahead_rows_total", (), "Those of them over a minute later than their arrival."),
    OwnMetric(
        "kedge_gateway_rejected_rows_total",
        ("reason",),
        f"Predictions and labels that were refused {_SINCE}, by what was wrong (see below).",
    ),
    OwnMetric("kedge_gateway_spool_rows", (), "Rows that wait in the spool. Only where there is one."),
    OwnMetric("kedge_gateway_spool_bytes", (), "Their size."),
    OwnMetric("kedge_gateway_spool_limit_bytes", (), "The size at which the spool is full."),
    OwnMetric(
        "kedge_gateway_spool_oldest_age_seconds", (), "How long the first of them has waited; 0: none does."
    ),
    OwnMetric(
        "kedge_gateway_drained_rows_total",
        ("outcome",),
        f"Rows that left the spool {_SINCE}, by what became of them.",
    ),
)
"""Of a process that takes logs in."""
OWN: Mapping[str, OwnMetric] = {metric.name: metric for metric in (BUILD, *SERVER, *GATEWAY)}

Value = tuple[str, tuple[str, ...], float]
"""The name, what its labels are, and the value."""


@dataclass(frozen=True)
class Sources:
    """Where the values of a process come from."""

    pipe: Pipeline | None
    """None: it only takes logs in, and asks the store nothing."""
    clock: Clock
    status: Callable[[], Json] | None = None
    """How ingestion does; None: it takes no logs in."""
    failure: Callable[[], str] | None = None
    """Why the last tick failed; None: it does not tick."""


class OwnCollector(Collector):
    """Asks at each scrape."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def describe(self) -> Iterable[Metric]:
        """None: registering must not ask the store."""
        return ()

    def collect(self) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, labels, value in self._values():
            if name not in families:
                metric = OWN[name]
                kind = CounterMetricFamily if metric.counts else GaugeMetricFamily
                families[name] = kind(name, metric.told, labels=metric.labels)
            families[name].add_metric(labels, value)
        yield from families.values()

    def _values(self) -> Iterator[Value]:
        sources = self._sources
        yield "kedge_build_info", (__version__,), 1
        if sources.pipe is not None:
            yield from _server(sources.pipe, sources.clock)
        if sources.failure is not None:
            yield "kedge_tick_failing", (), bool(sources.failure())
        if sources.status is not None:
            yield from _gateway(sources.status())


def own_router(sources: Sources, guard: Callable[..., Any]) -> APIRouter:
    """The route, with a registry of its own. `guard` lets a client in, as for what else is read."""
    registry = CollectorRegistry()
    registry.register(OwnCollector(sources))
    router = APIRouter(dependencies=[Depends(guard)])

    @router.get("/metrics", summary="How kedge itself does, for Prometheus")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _server(pipe: Pipeline, clock: Clock) -> Iterator[Value]:
    try:
        book = pipe.rules()
        yield "kedge_rules", (), len(book.rules)
        yield "kedge_rule_problems", (), len(book.problems)
        for file in sorted(book.broken):
            yield "kedge_rule_file_broken", (file,), 1
        problems = pipe.current_receivers().problems
        yield "kedge_notify_problems", (), len(problems)
        for file in sorted({problem.file for problem in problems}):
            yield "kedge_notify_file_broken", (file,), 1
        held = own(pipe, book, clock())
    except KedgeError as error:
        # Prometheus is to see that the store is gone, and what this process knows without it.
        _log.warning("/metrics without the store: %s", error)
        yield "kedge_store_up", (), 0
        return
    yield "kedge_store_up", (), 1
    yield from _stored(held)


def _stored(held: Own) -> Iterator[Value]:
    yield "kedge_models", (), held.models
    yield "kedge_models_folded", (), max(held.models - MOST_MODELS, 0)
    for model, behind in held.behind.items():
        yield "kedge_model_summaries_behind_seconds", (model,), behind.summaries_s
        if behind.judging_s is not None:
            yield "kedge_model_judging_behind_seconds", (model,), behind.judging_s
        yield "kedge_model_buckets_due", (model,), behind.buckets
    if held.read_at:
        yield "kedge_logs_read_timestamp_seconds", (), held.read_at / 1000
    for (status, severity), count in sorted(held.alerts.items()):
        yield "kedge_alerts", (status.value, severity or "none"), count
    for state, messages in (("waiting", held.waiting), ("failed", held.failed)):
        for receiver, count in sorted(messages.items()):
            yield "kedge_outbox_messages", (receiver, state), count
    for model, count in held.expired.items():
        yield "kedge_labels_expired_total", (model,), count
    if held.tick is not None:
        yield "kedge_labels_waiting", (), held.tick.labels_waiting
        yield "kedge_tick_duration_seconds", (), held.tick.seconds
        yield "kedge_tick_end_timestamp_seconds", (), held.tick.ended / 1000
    yield "kedge_gateways_silent", (), held.silent
    yield "kedge_gateways_spooled_rows", (), held.spooled


def _gateway(status: Json) -> Iterator[Value]:
    arrived, spool = status["arrived"], status["spool"]
    yield "kedge_gateway_rows_total", (), arrived["rows"]
    yield "kedge_gateway_duplicate_rows_total", (), arrived["duplicate"]
    yield "kedge_gateway_ahead_rows_total", (), arrived["ahead"]
    for reason, count in status["rejected"]["reasons"].items():
        yield "kedge_gateway_rejected_rows_total", (reason,), count
    if spool is None:
        return
    yield "kedge_gateway_spool_rows", (), spool["rows"]
    yield "kedge_gateway_spool_bytes", (), spool["bytes"]
    yield "kedge_gateway_spool_limit_bytes", (), spool["limit"]
    yield "kedge_gateway_spool_oldest_age_seconds", (), spool["age_s"]
    for outcome, count in sorted(spool["drained"].items()):
        yield "kedge_gateway_drained_rows_total", (outcome,), count
