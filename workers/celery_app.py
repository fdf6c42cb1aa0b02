"""The Celery application of the distributed mode: one task, the tick, sent by beat at the configured
interval.

The task is a shell over the pipeline: no arguments that could go stale, no result, nothing scheduled for
later (later work lives in the store, and a tick finds it). A message that waited longer than one interval is
dropped, since the next tick does its work. Two workers and two beats at once are harmless: ticks are
idempotent.
"""

import logging
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

from kedge.clock import Clock
from kedge.config import Settings
from kedge.errors import KedgeError, StoreUnavailable
from kedge.pipeline.compose import open_pipeline
from kedge.pipeline.context import Pipeline
from kedge.pipeline.tick import tick

log = logging.getLogger("kedge.worker")

TICK = "kedge.tick"
SOFT_LIMIT_S = 600
HARD_LIMIT_S = 660
VISIBILITY_S = 900
"""Redis gives an unacknowledged message to another worker after this: it must exceed the hard limit."""

_opened: dict[int, tuple[Pipeline, Clock]] = {}


def make_app(settings: Settings) -> Celery:
    """The application for these settings; raises KedgeError where they cannot be distributed."""
    if settings.embedded:
        raise KedgeError(
            "the store is a DuckDB file, which one process alone can open: run kedge serve, "
            "or set KEDGE_STORE to an Elasticsearch or OpenSearch URL for workers"
        )
    app = Celery("kedge", broker=settings.redis)
    every = settings.every / 1000
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_soft_time_limit=SOFT_LIMIT_S,
        task_time_limit=HARD_LIMIT_S,
        broker_transport_options={"visibility_timeout": VISIBILITY_S, "socket_timeout": 30},
        broker_connection_retry_on_startup=True,
        task_default_queue=f"{settings.prefix}-ticks",
        worker_hijack_root_logger=False,
        # After each tick that is sent, so that the file's age tells whether beat is alive (`kedge beat
        # --ping`).
        beat_sync_every=1,
        beat_schedule={"tick": {"task": TICK, "schedule": every, "options": {"expires": max(every, 1.0)}}},
        timezone="UTC",
    )

    @app.task(name=TICK, shared=False)
    def run() -> None:
        run_tick(settings)

    return app


def run_tick(settings: Settings) -> None:
    """One tick. An unavailable store is told in one line, and is the next tick's business."""
    try:
        pipe, clock = _pipeline(settings)
        report = tick(pipe, clock())
    except StoreUnavailable as e:
        log.warning("tick put off: %s", e)
        return
    if report.skipped:
        log.info("tick skipped: another worker holds the lease")
        return
    log.info(
        "tick: %d buckets, %d parts written, %d steps judged, %d transitions, %.2f s",
        report.summaries.buckets,
        report.summaries.written,
        report.alerts.steps,
        report.alerts.transitions,
        report.seconds,
    )
    for problem in report.problems:
        log.error("broken file: %s", problem)


def _pipeline(settings: Settings) -> tuple[Pipeline, Clock]:
    """Opened once a process: a client must not be shared across a fork."""
    if 0 not in _opened:
        clock = settings.make_clock()
        _opened[0] = (open_pipeline(settings, clock), clock)
    return _opened[0]


@worker_process_init.connect
def _forget_parent(**_: Any) -> None:
    _opened.clear()
