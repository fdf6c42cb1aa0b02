"""`kedge serve`, `kedge worker`, `kedge beat`: the processes that stay."""

import gc
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kedge.cli.common import settings_from
from kedge.config import Settings
from kedge.errors import KedgeError, StoreUnavailable

if TYPE_CHECKING:
    from ingest.drain import Drainer
    from ingest.service import IngestService
    from kedge.clock import Clock
    from kedge.pipeline.context import Pipeline

log = logging.getLogger("kedge")


def configure_logging() -> None:
    """One JSON object a line in ECS names where no terminal reads it, plain lines where one does."""
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    else:
        import ecs_logging

        handler.setFormatter(ecs_logging.StdlibFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("elastic_transport", "httpx", "httpcore", "celery.app.trace", "kombu"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def spooling(
    pipe: "Pipeline", clock: "Clock", set_up: Callable[[], None]
) -> "tuple[IngestService, Drainer] | tuple[None, None]":
    """Ingestion that spools what a cluster does not take in time. None on DuckDB: its file lies on the same
    disk as the spool would.

    Set-up is tried here; where the cluster is down, rows are spooled until it has been done.
    """
    from ingest.drain import Drainer
    from ingest.service import IngestService
    from ingest.spool import Spool
    from kedge.pipeline.compose import open_store

    settings = pipe.settings
    if settings.embedded or not settings.spool_limit:
        return None, None
    spool = Spool(settings.spool, limit=settings.spool_limit, sync=settings.spool_sync)
    quick = open_store(settings, clock, timeout_s=settings.spool_after / 1000)
    answer = quick.ping()
    down = not answer.ok
    if down:
        log.warning("rows are spooled for now: %s", answer.detail)
    else:
        try:
            set_up()
        except StoreUnavailable as error:
            down = True
            log.warning("set-up is put off: %s", error)
    drainer = Drainer(spool, pipe.store, clock, prepare=set_up if down else None)
    return IngestService(quick, quick.state, clock, drainer), drainer


@click.command()
@click.option("--gateway", is_flag=True, help="Only take logs in: no API for people, no scheduler.")
@click.option("--web", is_flag=True, help="Only the API for people: no scheduler.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.pass_context
def serve(ctx: click.Context, gateway: bool, web: bool, host: str | None, port: int | None) -> None:
    """Run the gateway and the API; on DuckDB also the scheduler, in one process.

    \b
    Example: kedge serve
             curl -s localhost:8321/v1/predictions -H 'content-type: application/json' \\
               -d '{"model": "fraud", "class": "ok", "probability": 0.9, "features": {"amount": 12}}'
    """
    import uvicorn

    from ingest.auth import Keys
    from kedge.cli.app import build_app
    from kedge.cli.client import server_file
    from kedge.pipeline.compose import open_pipeline
    from workers.embedded import Scheduler

    if gateway and web:
        raise click.UsageError("--gateway and --web exclude each other; without either, kedge serves both")
    configure_logging()
    settings = settings_from(ctx)
    settings = settings.model_copy(
        update={k: v for k, v in (("host", host), ("port", port)) if v is not None}
    )
    clock = settings.make_clock()
    pipe = open_pipeline(settings, clock)

    def set_up() -> None:
        for check in pipe.store.setup():
            if check.changed:
                log.info("%s: %s", check.name, check.detail)

    service, drainer = (None, None) if web else spooling(pipe, clock, set_up)
    if drainer is None:
        set_up()
    scheduler = (
        Scheduler(pipe, clock, settings.every / 1000) if settings.embedded and not (gateway or web) else None
    )
    app = build_app(
        pipe, clock, ingest=not web, read=not gateway, scheduler=scheduler, service=service, drainer=drainer
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app, settings.host, settings.port, log_level="warning", lifespan="off", access_log=False
        )
    )
    file = server_file(settings)
    server.config.load()
    socket = server.config.bind_socket()
    socket.listen(server.config.backlog)  # who reads that it listens may connect at once
    address = f"http://{settings.host}:{socket.getsockname()[1]}"
    if file:
        file.write_text(json.dumps({"url": address, "pid": os.getpid()}))
    click.echo(f"kedge listens on {address}, store {settings.store_name}")
    click.echo(Keys(settings.keys).describe() + ("" if settings.keys else " kedge key makes one."))
    if scheduler:
        scheduler.start()
    if drainer:
        drainer.start()
    sys.stdout.flush()
    # What is loaded now stays: the collector need not walk it again while rows stream through. A request of a
    # thousand rows makes some 50,000 objects that die with it: looked at every 700, they were 6 % of the
    # gateway's processor time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    # uvicorn ends on SIGTERM, then raises the signal again: without a handler the process would die there,
    # with a tick half done and the file open.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.run(sockets=[socket])
    finally:
        if scheduler:
            scheduler.stop()
        if drainer:
            drainer.stop()
        app.state.finish()
        pipe.store.close()
        if file:
            file.unlink(missing_ok=True)


def _beat_file(settings: Settings) -> Path:
    return Path(tempfile.gettempdir()) / f"kedge-beat-{settings.prefix}-{os.getuid()}"


@click.command()
@click.option(
    "--concurrency", type=click.IntRange(1), default=1, show_default=True, help="Ticks run side by side."
)
@click.option(
    "--pool",
    type=click.Choice(["prefork", "solo"]),
    default="prefork",
    show_default=True,
    help="How ticks run: in child processes with time limits, or in the worker itself.",
)
@click.option(
    "--ping", is_flag=True, help="Ask whether a worker of this machine answers; exits with 2 if none does."
)
@click.pass_context
def worker(ctx: click.Context, concurrency: int, pool: str, ping: bool) -> None:
    """Run a Celery worker: it summarises, judges and delivers when beat says so.

    \b
    Example: KEDGE_STORE=http://localhost:9200 KEDGE_REDIS=redis://localhost:6379/0 kedge worker
    """
    import socket

    from workers.celery_app import make_app

    app = make_app(settings_from(ctx))
    if ping:
        name = f"kedge@{socket.gethostname()}"
        answers = app.control.inspect(timeout=5.0).ping() or {}
        if not any(n.startswith(name) for n in answers):
            raise KedgeError(
                f"no worker answers as {name} over {settings_from(ctx).redis.rpartition('@')[2]}"
            )
        click.echo("pong")
        return
    configure_logging()
    # Not through Celery's command line: it imports a shell for people, a quarter of a second at each start.
    running = app.Worker(
        hostname=f"kedge@{socket.gethostname()}-{os.getpid()}",
        pool_cls=pool,
        concurrency=concurrency,
        loglevel="INFO",
        without_gossip=True,
        without_mingle=True,
    )
    running.start()
    ctx.exit(running.exitcode or 0)


@click.command()
@click.option(
    "--ping", is_flag=True, help="Check that beat of this machine sent a tick lately; exits with 2 if not."
)
@click.pass_context
def beat(ctx: click.Context, ping: bool) -> None:
    """Run Celery beat: it sends a tick at every interval. Two of them do no harm.

    \b
    Example: KEDGE_STORE=http://localhost:9200 KEDGE_REDIS=redis://localhost:6379/0 kedge beat
    """
    from workers.celery_app import make_app

    settings = settings_from(ctx)
    app = make_app(settings)
    file = _beat_file(settings)
    if ping:
        files = list(file.parent.glob(file.name + "*"))
        newest = max((f.stat().st_mtime for f in files), default=0.0)
        late = time.time() - newest - 3 * settings.every / 1000
        if late > 0:
            raise KedgeError("beat has not sent a tick for more than three intervals: is kedge beat running?")
        click.echo("pong")
        return
    configure_logging()
    schedule = f"{file}-{os.getpid()}"
    try:
        app.Beat(schedule=schedule, loglevel="INFO", quiet=True).run()
    finally:  # what it says of the last tick is not true of the next beat
        for left in file.parent.glob(f"{file.name}-{os.getpid()}*"):
            left.unlink(missing_ok=True)
