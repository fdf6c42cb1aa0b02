"""The web application: the gateway's routes, the API, or both, over one pipeline."""

from typing import TYPE_CHECKING

from fastapi import FastAPI

from ingest.auth import Keys
from ingest.drain import Drainer
from ingest.gateway import gateway_router, guard_for
from ingest.service import IngestService
from kedge import __version__
from kedge.clock import Clock
from kedge.pipeline.context import Pipeline
from kedge.web.api import api, health, install_errors
from kedge.web.own import Sources, own_router

if TYPE_CHECKING:
    from workers.embedded import Scheduler


def build_app(
    pipe: Pipeline,
    clock: Clock,
    *,
    ingest: bool = True,
    read: bool = True,
    local: bool = False,
    scheduler: "Scheduler | None" = None,
    service: IngestService | None = None,
    drainer: Drainer | None = None,
) -> FastAPI:
    """`local`: the caller is this process itself (the command line), which needs no key. `service` is what
    takes logs in, where not the pipeline's store directly; `drainer` its spool. `app.state.finish` writes
    what the gateway still holds, before the store is closed."""
    app = FastAPI(title="kedge", version=__version__, redoc_url=None)
    install_errors(app)
    app.state.finish = lambda: None
    keys = Keys(() if local else pipe.settings.keys)
    if ingest:
        service = service or IngestService(pipe.store, pipe.store.state, clock, drainer)
        app.include_router(gateway_router(service, keys))
        app.state.finish = service.finish
    if read:
        app.include_router(api(pipe, clock, guard_for(keys)))
    told = Sources(
        pipe if read else None,
        clock,
        service.status if ingest and service else None,
        (lambda: scheduler.failure) if scheduler else None,
    )
    app.include_router(own_router(told, guard_for(keys)))
    if (
        ingest and drainer
    ):  # while it can keep rows, the gateway does its work whether the store answers or not
        health(app, pipe, lambda: drainer.problem, store=False)
    else:
        health(app, pipe, lambda: scheduler.failure if scheduler else "")
    return app
