"""The web application: the gateway's routes, the API, or both, over one pipeline."""

from typing import TYPE_CHECKING

from fastapi import FastAPI, HTTPException, Request

from ingest.auth import ApiKeys
from ingest.gateway import gateway
from ingest.schema import SchemaRegistry
from ingest.service import IngestService
from kedge import __version__
from kedge.clock import Clock
from kedge.pipeline.context import Pipeline
from kedge.web.api import api, health, install_errors

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
) -> FastAPI:
    """`local`: the caller is this process itself (the command line), which needs no key."""
    app = FastAPI(title="kedge", version=__version__, redoc_url=None)
    install_errors(app)
    keys = ApiKeys(() if local else pipe.settings.keys)

    def guard(request: Request) -> None:
        denied = keys.check(request.headers, request.client.host if request.client else None)
        if denied:
            raise HTTPException(denied.status, denied.reason)

    if ingest:
        service = IngestService(pipe.store, SchemaRegistry(pipe.store.state), clock)
        app.include_router(gateway(service, keys))
    if read:
        app.include_router(api(pipe, clock, guard))
    health(app, pipe, lambda: scheduler.failure if scheduler else "")
    return app
