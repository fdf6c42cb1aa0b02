"""One turn of the crank: join waiting labels, detect, summarise, judge, deliver."""

import time
from dataclasses import dataclass, field, replace

from kedge.pipeline.broken import watch_files
from kedge.pipeline.context import Pipeline
from kedge.pipeline.deliver import DeliveryCounts, deliver, project
from kedge.pipeline.evaluate import EvaluateCounts, evaluate_due
from kedge.pipeline.faults import reach
from kedge.pipeline.feed import detect
from kedge.pipeline.lease import acquire, release
from kedge.pipeline.provisional import propose_baselines
from kedge.pipeline.retention import retire
from kedge.pipeline.route import Router
from kedge.pipeline.summarise import SummariseCounts, anything_due, summarise_due
from kedge.pipeline.ticked import Ticked
from kedge.store.base import Json, PendingCounts
from kedge.windows import MINUTE, Millis

LEASE = 2 * MINUTE
"""Longer than a usual tick. A killed worker's successor waits this long at most; correctness does not depend
on it.
"""


@dataclass(frozen=True)
class TickReport:
    """What one tick did."""

    now: Millis
    skipped: bool = False
    """Another worker was at it."""
    labels: PendingCounts = field(default_factory=lambda: PendingCounts(0, 0, 0, 0))
    summaries: SummariseCounts = field(default_factory=SummariseCounts)
    baselines: tuple[str, ...] = ()
    """Models that were given a provisional baseline."""
    alerts: EvaluateCounts = field(default_factory=EvaluateCounts)
    deliveries: DeliveryCounts | None = None
    projected: int = 0
    problems: tuple[str, ...] = ()
    """What is wrong with rule files and notify.yml, by `file:line:col`; their last good version stays in
    force."""
    seconds: float = 0.0


def tick(pipe: Pipeline, now: Millis, *, lease: Millis = LEASE, patient: bool = True) -> TickReport:
    """Run the pipeline once. Any tick may be doubled, missed or killed: the next one ends in the same state.

    Another worker's unexpired lease skips it. The lease only spares doubled work, so a store that one process
    alone has open needs none. `patient`: under load, what can wait does (summarise_due).
    """
    lease = 0 if pipe.sole_writer else lease
    if lease and not acquire(pipe.store.state, "tick", pipe.holder, now, lease):
        return TickReport(now, skipped=True)
    started = time.perf_counter()
    told: Json | None = None
    try:
        book = pipe.rules()
        receivers = pipe.current_receivers()
        if pipe.receiver_source is not None:
            pipe.receiver_source.keep()
        expiry = min(
            [m.labels.expire for m in pipe.settings.models.values()],
            default=pipe.settings.of_model("").labels.expire,
        )
        labels = pipe.store.join_pending(now, expiry)
        reach("tick:labels-joined")
        retired = retire(pipe, now)
        detect(pipe, now)
        sealed = retired.sealed_before(now)
        summaries = summarise_due(pipe, book, now, patient=patient, sealed=sealed)
        if proposed := propose_baselines(pipe, book):
            more = summarise_due(pipe, book, now, patient=patient, sealed=sealed)
            summaries = replace(summaries.plus(more), left=more.left)
        broken = watch_files(pipe, book, receivers, now)
        alerts = evaluate_due(pipe, book, now, patient=patient)
        alerts.transitions += broken
        router = Router.read(pipe.store, receivers, pipe.wall())
        projected = project(pipe.store, receivers, pipe.wall(), router=router)
        router.flush(book)
        deliveries = deliver(pipe.store, receivers, pipe.wall(), pipe.holder, alone=pipe.sole_writer)
        seconds = time.perf_counter() - started
        told = pipe.ticked = Ticked(pipe.wall(), round(seconds, 3), labels.waiting).told()
    finally:
        if lease:
            release(pipe.store.state, "tick", pipe.holder, told)
    return TickReport(
        now,
        labels=labels,
        summaries=summaries,
        baselines=proposed,
        alerts=alerts,
        deliveries=deliveries,
        projected=projected,
        problems=tuple(str(p) for p in (*book.problems, *receivers.problems)),
        seconds=seconds,
    )


def drain(pipe: Pipeline, now: Millis, *, rounds: int = 10_000) -> list[TickReport]:
    """Tick until nothing is due."""
    reports: list[TickReport] = []
    for _ in range(rounds):
        report = tick(pipe, now, patient=False)
        reports.append(report)
        if report.skipped:
            break
        left = report.labels.left or report.summaries.left or report.alerts.left
        if not (left or anything_due(pipe, pipe.rules(), now)):
            break
    return reports
